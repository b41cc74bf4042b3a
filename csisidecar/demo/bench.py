"""`python -m csisidecar.demo.bench`: figures of both modes in a process of their own, against the embedded server.

API server, controllers, driver and sidecar are four processes. Nothing is taken from anywhere but what is measured
here: wall time on the monotonic clock, memory and CPU time from /proc, requests from the API server's audit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csisidecar.clock import SystemClock
from csisidecar.config import KubeConfig
from csisidecar.demo.bulk import clone_many, live_many, remove_clones, strip_and_delete
from csisidecar.demo.observer import Observer
from csisidecar.demo.processes import ProcessEnded, Program, program
from csisidecar.demo.props import NAMESPACE, NODE, build_claim, build_pod, ensure_cluster
from csisidecar.demo.stage import SIDECAR_AGENT, STORY_AGENT
from csisidecar.demo.story import count_requests
from csisidecar.demo.teller import Teller
from csisidecar.errors import CsiSidecarError
from csisidecar.kube import (
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    VOLUME_ATTACHMENTS,
    KubeClient,
    connect,
)
from csisidecar.testing.apiserver import AuditRecord
from csisidecar.testing.driver import DriverSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from csisidecar.clock import Clock

MIB = 2**20
START_S = 60.0
SETTLE_S = 30.0
CALM_BYTES = MIB // 4
STARTS = 3
HANDED_OVER = "volume.kubernetes.io/storage-provisioner"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the bench can be told."""

    kubeconfig: str = ""
    """Another API server than the embedded one."""
    controllers: bool = True
    """Whether to run the stand-ins for the cluster's controllers."""
    volumes: int = 200
    objects: int = 10_000
    as_json: bool = False
    timeout_s: float = 300.0


@dataclass(kw_only=True)
class Figures:
    """What was measured; None: not measured in this run."""

    machine: dict[str, str] = field(default_factory=dict)
    start_to_first_pv_s: list[float] = field(default_factory=list)
    start_to_first_pv_cpu_s: list[float] = field(default_factory=list)
    """CPU time of the sidecar in the same runs: what a busy machine does not change."""
    rss_idle_mib: float | None = None
    requests_of_one_volume: dict[str, int] | None = None
    requests_a_volume: float | None = None
    volumes: int = 0
    volumes_per_s: dict[str, float] = field(default_factory=dict)
    sidecar_cpu_ms_a_volume: float | None = None
    rss_after_volumes_mib: float | None = None
    objects: int = 0
    rss_with_objects_mib: float | None = None
    rss_peak_with_objects_mib: float | None = None
    rss_per_10000_mib: float | None = None
    start_with_objects_s: float | None = None


class Bench:
    """One run of all measurements; `measure` is the order of things."""

    def __init__(self, options: Options, root: Path, clock: Clock, teller: Teller) -> None:
        self._options = options
        self._root = root
        self._clock = clock
        self._teller = teller
        self._kubeconfig = options.kubeconfig or str(root / "kubeconfig")
        self._audit = None if options.kubeconfig else root / "audit"
        self.figures = Figures(machine=machine(), volumes=options.volumes, objects=options.objects)

    async def measure(self) -> Figures:
        """Everything, one after the other."""
        async with AsyncExitStack() as stack:
            await self._start_server(stack)
            driver = ["demo-driver", f"--endpoint=unix://{self._root}/csi.sock", f"--root={self._root}/driver"]
            await stack.enter_async_context(self._program("driver", *driver))
            session = await stack.enter_async_context(
                connect(KubeConfig(kubeconfig=self._kubeconfig, user_agent=STORY_AGENT))
            )
            client = KubeClient(session)
            await ensure_cluster(client, driver=DriverSettings().name, nodes={NODE: DriverSettings().node_id})
            async with Observer.opened(client, self._clock) as observer:
                async with self._controllers():
                    template = await self._measure_work(client, observer)
                if self._options.objects and template is not None:
                    await self._measure_objects(client, observer, template)
        return self.figures

    async def _measure_work(self, client: KubeClient, observer: Observer) -> dict[str, Any] | None:
        """Starts, idle memory, one life, many lives; then one volume is left attached, as a template."""
        for number in range(STARTS - 1):
            async with self._started(client, observer, f"start-{number}"):
                pass
        async with self._started(client, observer, f"start-{STARTS - 1}") as sidecar:
            for number in range(STARTS):
                await client.delete(PERSISTENT_VOLUME_CLAIMS, f"start-{number}", namespace=NAMESPACE)
            await observer.until(lambda: len(observer.volumes) == 0, START_S)
            self.figures.rss_idle_mib = await settled_mib(sidecar)
            self._said("memory idle", f"{self.figures.rss_idle_mib:.1f} MiB")
            await self._measure_one(client, observer)
            await self._measure_many(client, observer, sidecar)
            return await self._make_template(client, observer) if self._options.objects else None

    async def _measure_one(self, client: KubeClient, observer: Observer) -> None:
        seen = len(self._records())
        await live_many(client, observer, count=1, timeout_s=START_S, prefix="one")
        if self._audit is not None:
            await asyncio.sleep(0.5)  # the last Event is on a lane of its own
            requests = count_requests(self._records()[seen:], SIDECAR_AGENT)
            named = {f"{verb} {resource}": count for (verb, resource), count in sorted(requests.items())}
            self.figures.requests_of_one_volume = named
            self._said("requests of one volume", str(sum(named.values())))

    async def _measure_many(self, client: KubeClient, observer: Observer, sidecar: Program) -> None:
        count, seen, cpu_s = self._options.volumes, len(self._records()), sidecar.cpu_s()
        phases = await live_many(client, observer, count=count, timeout_s=self._options.timeout_s)
        sidecar.check()
        self.figures.volumes_per_s = phases.rates()
        self.figures.sidecar_cpu_ms_a_volume = (sidecar.cpu_s() - cpu_s) * 1000 / count
        for phase, rate in phases.rates().items():
            self._said(phase, f"{rate:.1f} volumes/s")
        self.figures.rss_after_volumes_mib = await settled_mib(sidecar)
        if self._audit is not None:
            requests = count_requests(self._records()[seen:], SIDECAR_AGENT)
            self.figures.requests_a_volume = sum(requests.values()) / count

    async def _make_template(self, client: KubeClient, observer: Observer) -> dict[str, Any]:
        """A volume that is bound and attached for real, to be copied."""
        name = "template"
        await client.create(PERSISTENT_VOLUME_CLAIMS, build_claim(name), namespace=NAMESPACE)
        await client.create(PODS, build_pod(name, name), namespace=NAMESPACE)

        def attached() -> str | None:
            return next((a.name for a in observer.attachments.values() if a.is_attached), None)

        attachment = await client.get(VOLUME_ATTACHMENTS, await observer.until(attached, START_S))
        volume = await client.get(PERSISTENT_VOLUMES, attachment["spec"]["source"]["persistentVolumeName"])
        claim = await client.get(PERSISTENT_VOLUME_CLAIMS, name, namespace=NAMESPACE)
        return {"claim": claim, "volume": volume, "attachment": attachment}

    async def _measure_objects(self, client: KubeClient, observer: Observer, template: dict[str, Any]) -> None:
        """Memory with many objects that are bound and attached; no controller is at work meanwhile."""
        count = self._options.objects
        async with self._started_for(client, observer, "empty") as sidecar:
            empty_mib = await settled_mib(sidecar)
        began = time.monotonic()
        await clone_many(client, template, count=count)
        self._said("objects", f"{count} of each kind loaded in {time.monotonic() - began:.0f} s")
        async with self._started_for(client, observer, "full") as sidecar:
            full_mib = await settled_mib(sidecar)
            self.figures.start_with_objects_s = self._last_start_s
            self.figures.rss_with_objects_mib = full_mib
            self.figures.rss_peak_with_objects_mib = sidecar.memory_bytes("VmHWM") / MIB
            self.figures.rss_per_10000_mib = (full_mib - empty_mib) * 10_000 / count
        if self._options.kubeconfig:
            await remove_clones(client, count=count)
            for resource, source, namespace in (
                (PODS, "template", NAMESPACE),
                (VOLUME_ATTACHMENTS, template["attachment"]["metadata"]["name"], ""),
                (PERSISTENT_VOLUMES, template["volume"]["metadata"]["name"], ""),
                (PERSISTENT_VOLUME_CLAIMS, "template", NAMESPACE),
            ):
                await strip_and_delete(client, resource, source, namespace)

    async def _start_server(self, stack: AsyncExitStack) -> None:
        if self._options.kubeconfig:
            return
        words = ["demo-apiserver", f"--kubeconfig-out={self._kubeconfig}", f"--audit={self._audit}"]
        server = await stack.enter_async_context(self._program("API server", *words))
        async with asyncio.timeout(START_S):
            while not await asyncio.to_thread(Path(self._kubeconfig).exists):
                server.check()
                await asyncio.sleep(0.05)

    @asynccontextmanager
    async def _controllers(self) -> AsyncIterator[None]:
        if not self._options.controllers:
            yield
            return
        async with self._program("controllers", "demo-controllers", f"--kubeconfig={self._kubeconfig}"):
            yield

    @asynccontextmanager
    async def _started(self, client: KubeClient, observer: Observer, claim: str) -> AsyncIterator[Program]:
        """The sidecar, started while a claim waits; the time to that claim's volume goes into the figures."""
        await client.create(PERSISTENT_VOLUME_CLAIMS, build_claim(claim), namespace=NAMESPACE)
        await observer.until(
            lambda: any(c.name == claim and HANDED_OVER in c.annotations for c in observer.claims.values()), START_S
        )
        async with self._sidecar(observer, claim) as sidecar:
            self.figures.start_to_first_pv_s.append(self._last_start_s)
            self.figures.start_to_first_pv_cpu_s.append(self._last_start_cpu_s)
            self._said("start to first PV", f"{self._last_start_s:.3f} s")
            yield sidecar

    @asynccontextmanager
    async def _started_for(self, client: KubeClient, observer: Observer, claim: str) -> AsyncIterator[Program]:
        """The sidecar without the controllers: the claim is handed over by hand."""
        body = build_claim(claim)
        names = (HANDED_OVER, "volume.beta.kubernetes.io/storage-provisioner")
        body["metadata"]["annotations"] = dict.fromkeys(names, DriverSettings().name)
        await client.create(PERSISTENT_VOLUME_CLAIMS, body, namespace=NAMESPACE)
        async with self._sidecar(observer, claim) as sidecar:
            yield sidecar

    @asynccontextmanager
    async def _sidecar(self, observer: Observer, claim: str) -> AsyncIterator[Program]:
        """A fresh `csisidecar run` with both modes, from when `claim` has its volume."""
        words = (
            "run",
            "--mode=all",
            f"--kubeconfig={self._kubeconfig}",
            f"--csi-address={self._root}/csi.sock",
            "--http-endpoint=127.0.0.1:0",
        )

        def has_volume() -> bool:
            return any(
                v.spec.claim_ref is not None and v.spec.claim_ref.name == claim for v in observer.volumes.values()
            )

        began = time.monotonic()
        async with self._program("sidecar", *words) as sidecar:
            await observer.until(has_volume, START_S)
            self._last_start_s = time.monotonic() - began
            self._last_start_cpu_s = sidecar.cpu_s()
            sidecar.check()
            yield sidecar

    _last_start_s = 0.0
    _last_start_cpu_s = 0.0

    @asynccontextmanager
    async def _program(self, name: str, *words: str) -> AsyncIterator[Program]:
        async with program(name, *words, log=self._root / f"{name}.log") as started:
            yield started

    def _records(self) -> list[AuditRecord]:
        if self._audit is None or not self._audit.exists():
            return []
        return [AuditRecord(**json.loads(line)) for line in self._audit.read_text(encoding="utf-8").splitlines()]

    def _said(self, what: str, figure: str) -> None:
        self._teller.happened("measured", f"{what}: {figure}")


async def settled_mib(sidecar: Program) -> float:
    """Resident memory of a process once it has stood still for three seconds."""
    last, calm = 0, 0
    for _ in range(int(SETTLE_S)):
        await asyncio.sleep(1.0)
        sidecar.check()
        now = sidecar.memory_bytes()
        calm = calm + 1 if abs(now - last) <= CALM_BYTES else 0
        last = now
        if calm == 3:
            break
    return last / MIB


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "cpu": f"{cpu}, {os.cpu_count()} cores",
        "memory": f"{memory / 2**20:.1f} GiB",
        "load at start": f"{os.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def _lines(path: str) -> Sequence[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()


def rows(figures: Figures) -> list[tuple[str, str]]:
    """The figures for people."""
    starts = figures.start_to_first_pv_s
    found = [
        ("start to first PV", f"{statistics.median(starts):.2f} s (of {', '.join(f'{s:.2f}' for s in starts)})"),
        ("CPU until then", f"{statistics.median(figures.start_to_first_pv_cpu_s):.2f} s"),
        ("RSS idle, both modes", _mib(figures.rss_idle_mib)),
    ]
    one = figures.requests_of_one_volume
    found.append(("requests of one volume's life", "not measured" if one is None else str(sum(one.values()))))
    many = figures.requests_a_volume
    found.append((f"requests a volume, {figures.volumes} at once", "not measured" if many is None else f"{many:.2f}"))
    found += [
        (f"{phase}, {figures.volumes} at once", f"{rate:.1f} volumes/s")
        for phase, rate in figures.volumes_per_s.items()
    ]
    if figures.sidecar_cpu_ms_a_volume is not None:
        found.append(("CPU of the sidecar a volume's life", f"{figures.sidecar_cpu_ms_a_volume:.1f} ms"))
    found.append((f"RSS after {figures.volumes} volumes", _mib(figures.rss_after_volumes_mib)))
    if figures.rss_with_objects_mib is not None:
        found += [
            (f"RSS with {figures.objects} PV+PVC+VA", _mib(figures.rss_with_objects_mib)),
            ("peak while they are listed", _mib(figures.rss_peak_with_objects_mib)),
            ("RSS per 10,000 PV+PVC+VA", _mib(figures.rss_per_10000_mib)),
            (f"start to first PV with {figures.objects} there", f"{figures.start_with_objects_s or 0:.2f} s"),
        ]
    return found


def _mib(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f} MiB"


async def run(options: Options) -> Figures:
    """All figures.

    Raises:
        ProcessEnded: a part ended by itself.
        TimeoutError: something took too long.
    """
    clock = SystemClock()
    began = clock.monotonic()
    teller = Teller(lambda: clock.monotonic() - began, sys.stderr)
    root = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="csisidecar-bench-"))
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    if task is not None:
        # Four processes and a directory must not outlive an impatient `timeout`.
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await Bench(options, root, clock, teller).measure()
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        await asyncio.to_thread(shutil.rmtree, root, True)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 0 when everything was measured."""
    parser = argparse.ArgumentParser(prog="python -m csisidecar.demo.bench", allow_abbrev=False, description=__doc__)
    parser.add_argument("--kubeconfig", default="", help="measure against this API server instead of the embedded one")
    parser.add_argument("--no-controllers", action="store_true", help="the cluster has controllers of its own")
    parser.add_argument("--volumes", type=int, default=200, help="volumes at once (default 200)")
    parser.add_argument("--objects", type=int, help="objects of each kind for the memory figure; 0: leave it out")
    parser.add_argument("--json", action="store_true", help="figures as JSON on stdout")
    given = parser.parse_args(argv)
    objects = given.objects if given.objects is not None else (0 if given.kubeconfig else 10_000)
    options = Options(
        kubeconfig=given.kubeconfig,
        controllers=not given.no_controllers,
        volumes=given.volumes,
        objects=objects,
        as_json=given.json,
    )
    try:
        figures = asyncio.run(run(options))
    except (asyncio.CancelledError, KeyboardInterrupt):
        print("bench: stopped", file=sys.stderr)
        return 1
    except (CsiSidecarError, ProcessEnded, TimeoutError) as error:
        print(f"bench: {error or type(error).__name__}", file=sys.stderr)
        return 1
    if options.as_json:
        print(json.dumps(asdict(figures), indent=2))
        return 0
    teller = Teller(lambda: 0.0)
    teller.title("Measured on")
    teller.table(list(figures.machine.items()))
    teller.title("Figures")
    teller.table(rows(figures))
    if figures.requests_of_one_volume:
        teller.title("Requests of one volume's life")
        teller.table([(str(count), what) for what, count in figures.requests_of_one_volume.items()])
    return 0


if __name__ == "__main__":
    sys.exit(main())
