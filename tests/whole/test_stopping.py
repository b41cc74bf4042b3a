"""Stop signals in every phase of a run: the documented code, soon, with the leases released and nothing half done."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar import Sidecar, SidecarConfig
from csisidecar.config import KubeConfig
from csisidecar.demo.props import build_claim, build_class
from csisidecar.testing.apiserver import FakeAPIServer
from csisidecar.testing.driver import FakeDriver
from tests.whole.processes import eventually, free_port, program, readiness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from tests.whole.processes import Program

pytestmark = [pytest.mark.whole, pytest.mark.timeout(60)]

TERM, INT = signal.SIGTERM, signal.SIGINT
LEADING = "[+]mode-provisioner ok (leading)"


@asynccontextmanager
async def world(tmp_path: Path) -> AsyncIterator[tuple[FakeAPIServer, FakeDriver]]:
    driver = FakeDriver()
    async with FakeAPIServer() as server, driver.serving(tmp_path / "csi.sock"):
        server.write_kubeconfig(tmp_path / "kubeconfig")
        server.objects.create(build_class("demo", driver.settings.name))
        yield server, driver


@asynccontextmanager
async def sidecar(tmp_path: Path, *words: str, name: str = "sidecar") -> AsyncIterator[tuple[Program, int]]:
    port = free_port()
    common = (
        "run",
        "--mode=provisioner",
        f"--kubeconfig={tmp_path}/kubeconfig",
        f"--csi-address={tmp_path}/csi.sock",
        f"--http-endpoint=127.0.0.1:{port}",
    )
    async with program(*common, *words, log=tmp_path / f"{name}.log") as running:
        yield running, port


async def says(port: int, part: str) -> None:
    """Wait until /readyz says `part`."""
    async with asyncio.timeout(20):
        while part not in (await readiness(port))[1]:
            await asyncio.sleep(0.02)


async def stopped(running: Program, signals: Sequence[signal.Signals], *, gap_s: float = 0.0) -> int:
    for number in signals:
        running.process.send_signal(number)
        await asyncio.sleep(gap_s)
    return await running.exit_code(8)


def claim(server: FakeAPIServer, name: str, driver: FakeDriver) -> None:
    body = build_claim(name)
    body["metadata"]["annotations"] = {"volume.kubernetes.io/storage-provisioner": driver.settings.name}
    server.objects.create(body)


async def test_signal_while_it_waits_ends_with_0(tmp_path: Path) -> None:
    async with world(tmp_path) as (server, driver):
        driver.trouble.add("Probe:notready")
        async with sidecar(tmp_path, name="probing") as (running, port):
            await says(port, "Probe not ready")
            assert await stopped(running, [TERM]) == 0
        driver.trouble.clear()
        order = server.trouble.add("watch:storageclasses:error=500")
        async with sidecar(tmp_path, name="listing") as (running, port):
            await says(port, "[-]stores storageclasses")
            assert await stopped(running, [INT]) == 0
        server.trouble.remove(order)
        async with sidecar(tmp_path, name="leader") as (leader, first_port):
            await says(first_port, LEADING)
            async with sidecar(tmp_path, name="standby") as (running, port):
                await says(port, "(standing by)")
                assert await stopped(running, [TERM]) == 0
            assert await stopped(leader, [INT]) == 0
        assert {lease["spec"]["holderIdentity"] for lease in server.objects.list("leases")} == {""}
        async with sidecar(tmp_path, f"--csi-address={tmp_path}/none.sock", name="connecting") as (running, port):
            await says(port, "waiting for")
            assert await stopped(running, [TERM]) == 0


async def test_second_signal_never_kills_whatever_the_first_has_come_to(tmp_path: Path) -> None:
    """It aborts with 1 while something runs; it changes nothing once the run has ended and only the process is left."""
    async with world(tmp_path):
        for gap_s in (0.0, 0.01, 0.03, 0.06):
            async with sidecar(tmp_path) as (running, port):
                await says(port, LEADING)
                assert await stopped(running, [TERM, INT], gap_s=gap_s) in (0, 1)


async def test_abort_leaves_what_a_new_process_completes(tmp_path: Path) -> None:
    async with world(tmp_path) as (server, driver):
        # The work is done and never answered, so calls are in flight whenever the signals come.
        driver.trouble.add("CreateVolume:late")
        async with sidecar(tmp_path, name="first") as (running, port):
            await says(port, LEADING)
            for number in range(5):
                claim(server, f"c{number}", driver)
            await eventually(lambda: len(driver.volumes) >= 1, 5)
            assert await stopped(running, [TERM, TERM], gap_s=0.05) == 1
        driver.trouble.clear()
        async with sidecar(tmp_path, name="second"):
            await eventually(lambda: server.objects.count("persistentvolumes") == 5, 15)
        handles = {volume["spec"]["csi"]["volumeHandle"] for volume in server.objects.list("persistentvolumes")}
        assert handles == set(driver.volumes)


class Failing:
    """A controller that fails as soon as it runs."""

    name = "failing"
    in_flight: frozenset[str] = frozenset()

    async def run(self, host: object) -> None:
        raise RuntimeError("broken on purpose")

    def pause(self) -> None: ...
    def resume(self, *, forget_failures: bool = False) -> None: ...
    def drain(self) -> None: ...


class Broken:
    """A plugin that needs no lease and never works."""

    name = "broken"

    def lease_name(self, driver_name: str) -> None:
        return None

    def build(self, ctx: object) -> Sequence[Any]:
        return [Failing()]


async def test_plugin_that_waits_to_be_restarted_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, driver):
        config = SidecarConfig(kube=KubeConfig(kubeconfig=str(tmp_path / "kubeconfig")), shutdown_grace_s=30)
        sidecar = Sidecar(config, plugins=[Broken()], csi=driver.services)
        task = asyncio.create_task(sidecar.run())
        await eventually(lambda: "restarts in 2 s" in sidecar.health.report().text, 10)
        sidecar.stop()
        async with asyncio.timeout(1):
            await task
