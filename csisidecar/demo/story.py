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
from csisidecar.demo.stage import SIDECAR_AGENT, Stage, check_orders, set_up
from csisidecar.demo.teller import Teller
from csisidecar.errors import ConfigError, CsiSidecarError, KubeError
from csisidecar.runtime import unwrap

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
        if self.audit is not None and not self.audit.absolute().parent.is_dir():
            raise ConfigError(f"--audit {self.audit}: the folder {self.audit.absolute().parent} does not exist")
        check_orders(self.trouble)

    @property
    def effective_step_timeout_s(self) -> float:
        """`step_timeout_s`, or its default."""
        return self.step_timeout_s or (TROUBLED_STEP_TIMEOUT_S if self.trouble else STEP_TIMEOUT_S)


async def run(options: DemoOptions) -> int:
    """Tell the story.

    Returns:
        0 if every step was verified, else 1.
    """
    clock = SystemClock()
    began = clock.monotonic()
    teller = Teller(lambda: clock.monotonic() - began)
    teller.title("csisidecar demo: the life of one volume")
    story = Story(options=options, teller=teller, clock=clock)
    try:
        async with set_up(clock, trouble=options.trouble, audit=options.audit) as stage:
            return await story.tell(stage)
    except (CsiSidecarError, ExceptionGroup) as error:
        # A part of the stage gave up, and took the story with it.
        teller.failed(story.step, [str(unwrap(error))])
        return 1


@dataclass(kw_only=True)
class Story:
    """One telling."""

    options: DemoOptions
    teller: Teller
    clock: Clock
    step: str = "start"
    """The step that is being told."""

    async def tell(self, stage: Stage) -> int:
        """Tell the story on `stage`, and stay there if asked to; the exit code."""
        if not await self._is_told(stage):
            return 1
        if self.options.keep:
            await _keep(stage, self.teller)
        return 0

    async def _is_told(self, stage: Stage) -> bool:
        """Whether every step happened and was verified."""
        timeout_s = self.options.effective_step_timeout_s
        async with Observer.opened(stage.client, self.clock) as observer:
            life = VolumeLife(
                client=stage.client,
                observer=observer,
                driver=stage.driver,
                volumes_directory=stage.volumes_directory,
                teller=self.teller,
                step_timeout_s=timeout_s,
                on_step=self._note,
            )
            stage.give_orders()
            try:
                await _wait_until_ready(stage, observer, self.teller, timeout_s)
                began, first_record = self.clock.monotonic(), len(stage.server.audit)
                await life.live_through()
            except (StepFailed, KubeError) as failure:
                self.teller.failed(self.step, [_reason(failure), *observer.complaints()])
                return False
            total_s = self.clock.monotonic() - began
        _summarize(stage, self.teller, list(stage.server.audit)[first_record:], total_s)
        return True

    def _note(self, step: str) -> None:
        self.step = step


def _reason(failure: StepFailed | KubeError) -> str:
    """What to tell: a request's failure with what was asked for."""
    if isinstance(failure, StepFailed):
        return failure.why
    return f"cannot {failure.verb} {failure.resource} {failure.name}:\n{failure}"


async def _wait_until_ready(stage: Stage, observer: Observer, teller: Teller, timeout_s: float) -> None:
    """Until both modes lead and every check of the sidecar is well.

    Raises:
        StepFailed: it took too long; names the checks.
    """
    teller.happened("apiserver", f"embedded API server at {stage.server.url}")
    teller.happened("driver", f"{stage.driver.settings.name} at {stage.endpoint}")
    health = stage.sidecar.health
    try:
        await observer.until(lambda: health.report().is_ok, timeout_s)
    except TimeoutError:
        why = f"the sidecar is not ready after {timeout_s:g} s:\n{health.report().text}"
        raise StepFailed("start", why) from None
    urls = [f"http://{host}:{port}/readyz" for host, port in stage.sidecar.http.addresses.values()]
    teller.happened("sidecar", f"attacher and provisioner ready; {', '.join(urls)}")


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
    """(verb, resource) → requests of the sidecar; reading, watching, Leases and their Events belong to no volume."""
    return Counter(
        (record.verb, record.resource)
        for record in records
        if record.user_agent == agent
        and record.verb not in ("list", "watch")
        and not record.resource.startswith("leases")
        and not _is_about_a_lease(record)
    )


def _is_about_a_lease(record: AuditRecord) -> bool:
    body = record.body if isinstance(record.body, dict) else {}
    return record.resource == "events" and (body.get("involvedObject") or {}).get("kind") == "Lease"


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
