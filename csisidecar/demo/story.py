"""`csisidecar demo`: the life of one volume, told as it happens and verified step by step, in one terminal."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from csisidecar.clock import Clock, SystemClock
from csisidecar.demo.life import StepFailed, VolumeLife
from csisidecar.demo.observer import Observer
from csisidecar.demo.props import WAITING_CLASS
from csisidecar.demo.stage import SIDECAR_AGENT, Stage, set_up
from csisidecar.demo.teller import Teller
from csisidecar.errors import ConfigError, CsiSidecarError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from csisidecar.testing.apiserver import AuditRecord

STEP_TIMEOUT_S = 15.0
TROUBLED_STEP_TIMEOUT_S = 5.0
HANDSHAKE_CALLS = frozenset(
    {"Probe", "GetPluginInfo", "GetPluginCapabilities", "ControllerGetCapabilities", "ListVolumes"}
)
"""Calls that belong to no one volume."""


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What `csisidecar demo` can be told."""

    trouble: tuple[str, ...] = ()
    """Something that goes wrong, for example ``ControllerPublishVolume:Internal``: the driver's orders begin with
    the name of a CSI call, the API server's with a verb. May be given several times. ``--trouble``."""
    keep: bool = False
    """Whether everything is left running after the story, until Ctrl-C. ``--keep``."""
    step_timeout_s: float = 0.0
    """How long one step may take; 0: 15s, with trouble 5s. ``--step-timeout``."""
    audit: Path | None = None
    """A file that gets each API request as a line of JSON. ``--audit``."""

    def __post_init__(self) -> None:
        if self.step_timeout_s < 0:
            raise ConfigError(f"--step-timeout={self.step_timeout_s:g}s must not be negative")

    @property
    def effective_step_timeout_s(self) -> float:
        """`step_timeout_s`, or its default."""
        return self.step_timeout_s or (TROUBLED_STEP_TIMEOUT_S if self.trouble else STEP_TIMEOUT_S)


async def run(options: DemoOptions) -> int:
    """Tell the story.

    Returns:
        0 if every step was verified, else 1.

    Raises:
        ConfigError: an order for trouble cannot be understood.
    """
    clock = SystemClock()
    began = clock.monotonic()
    teller = Teller(lambda: clock.monotonic() - began)
    teller.title("csisidecar demo: the life of one volume")
    async with set_up(clock, trouble=options.trouble, audit=options.audit) as stage:
        told = await _tell(stage, options, teller, clock)
        if told and options.keep:
            await _keep(stage, teller)
        return 0 if told else 1


async def _tell(stage: Stage, options: DemoOptions, teller: Teller, clock: Clock) -> bool:
    """Whether every step happened and was verified."""
    timeout_s = options.effective_step_timeout_s
    step = "start"
    async with Observer.opened(stage.client, clock) as observer:
        try:
            await _wait_until_ready(stage, observer, teller, timeout_s)
            began, first_record = clock.monotonic(), len(stage.server.audit)
            life = VolumeLife(
                client=stage.client,
                observer=observer,
                driver=stage.driver,
                volumes_directory=stage.volumes_directory,
                teller=teller,
                step_timeout_s=timeout_s,
            )
            try:
                await life.live_through()
            finally:
                step = life.step
        except StepFailed as failure:
            teller.failed(failure.step, [failure.why, *observer.complaints()])
            return False
        except CsiSidecarError as error:
            teller.failed(step, [str(error), *observer.complaints()])
            return False
        total_s = clock.monotonic() - began
    _summarize(stage, teller, list(stage.server.audit)[first_record:], total_s)
    return True


async def _wait_until_ready(stage: Stage, observer: Observer, teller: Teller, timeout_s: float) -> None:
    """Until both modes lead and every check of the sidecar is well.

    Raises:
        StepFailed: it took too long; names the checks.
    """
    teller.happened("apiserver", f"embedded API server at {stage.server.url}")
    teller.happened("driver", f"{stage.driver.settings.name} at {stage.endpoint}")
    health = stage.sidecar.health
    try:
        await observer.until(lambda: health.is_ready, timeout_s)
    except TimeoutError:
        raise StepFailed("start", f"the sidecar is not ready after {timeout_s:g} s:\n{health.report()}") from None
    addresses = ", ".join(stage.sidecar.http.addresses)
    teller.happened("sidecar", f"attacher and provisioner ready; http://{addresses}/readyz")


def _summarize(stage: Stage, teller: Teller, records: Sequence[AuditRecord], total_s: float) -> None:
    """What the volume's life has cost."""
    requests = count_requests(records)
    teller.title(f"API requests of both modes for this volume: {sum(requests.values())}")
    teller.table([(str(count), verb, resource) for (verb, resource), count in sorted(requests.items())])
    calls = Counter(call.method for call in stage.driver.ledger if call.method not in HANDSHAKE_CALLS)
    teller.title(f"CSI calls for this volume: {sum(calls.values())}")
    teller.table([(str(count), method) for method, count in calls.items()])
    teller.line()
    teller.line(f"Every step was verified. {total_s:.2f} s from claim to nothing left.")


def count_requests(records: Iterable[AuditRecord], agent: str = SIDECAR_AGENT) -> Counter[tuple[str, str]]:
    """(verb, resource) → requests of the sidecar; reading, watching and Leases belong to no one volume."""
    return Counter(
        (record.verb, record.resource)
        for record in records
        if record.user_agent == agent
        and record.verb not in ("list", "watch")
        and not record.resource.startswith("leases")
    )


async def _keep(stage: Stage, teller: Teller) -> None:
    """Say how to go on by hand, and wait for Ctrl-C."""
    teller.title("Everything keeps running until Ctrl-C. In another terminal:")
    for line in (
        f"export KUBECONFIG={stage.kubeconfig}",
        "kubectl get storageclasses,nodes,csinodes,pvc,pv,volumeattachments",
        "kubectl get events --watch",
        f"kubectl create -f - <<'END'\n{_EXAMPLE.format(storage_class=WAITING_CLASS)}END",
        f"ls {stage.volumes_directory}",
    ):
        teller.line(line)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        # Ctrl-C is the way this ends; the story was told and verified.
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        teller.line("\nstopped")


_EXAMPLE = """\
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: mine}}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: {storage_class}
  resources: {{requests: {{storage: 1Gi}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: mine}}
spec:
  containers: [{{name: app, image: demo.invalid/app}}]
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: mine}}}}]
"""
