"""The driver dies, comes back, comes back as another: what a person sees and what goes on."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from csisidecar.demo.controllers import ControllersOptions
from csisidecar.demo.controllers import serve as serve_controllers
from csisidecar.demo.props import build_claim, build_class, build_csi_node, build_node
from csisidecar.runtime import background
from csisidecar.testing.apiserver import FakeAPIServer
from tests.whole.processes import eventually, free_port, program, ready_within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.whole.processes import Program

pytestmark = [pytest.mark.whole, pytest.mark.timeout(90)]

DRIVER = "loss.csi.example.com"


@asynccontextmanager
async def cluster(tmp_path: Path) -> AsyncIterator[FakeAPIServer]:
    async with FakeAPIServer() as server:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        node = server.objects.create(build_node("n1"))
        server.objects.create(build_csi_node("n1", {DRIVER: "node-1"}, node["metadata"]["uid"]))
        server.objects.create(build_class("demo", DRIVER))
        options = ControllersOptions(kubeconfig=str(tmp_path / "kubeconfig"))
        async with background(serve_controllers(options), name="controllers"):
            yield server


@asynccontextmanager
async def driver(tmp_path: Path, name: str = DRIVER) -> AsyncIterator[Program]:
    words = ("demo-driver", f"--endpoint=unix://{tmp_path}/csi.sock", f"--name={name}", f"--root={tmp_path}/volumes")
    async with program(*words, log=tmp_path / "driver.log") as running:
        yield running


@asynccontextmanager
async def sidecar(tmp_path: Path, *words: str) -> AsyncIterator[tuple[Program, int]]:
    port = free_port()
    common = (
        "run",
        "--mode=all",
        f"--kubeconfig={tmp_path}/kubeconfig",
        f"--csi-address={tmp_path}/csi.sock",
        f"--http-endpoint=127.0.0.1:{port}",
    )
    async with program(*common, *words, log=tmp_path / "sidecar.log") as running:
        yield running, port


@pytest.mark.parity("R-DRIVER-06")
async def test_killed_driver_is_noticed_within_a_second_and_its_return_within_five(tmp_path: Path) -> None:
    async with cluster(tmp_path) as server, sidecar(tmp_path) as (running, port):
        async with driver(tmp_path) as first:
            await ready_within(port, 200, 15)
            first.process.kill()
            body = await ready_within(port, 503, 1)
            assert f"[-]driver driver {DRIVER}" in body
            server.objects.create(build_claim("made-meanwhile"))
        async with driver(tmp_path):
            await ready_within(port, 200, 5)

            def is_bound() -> bool:
                claim = server.objects.get("persistentvolumeclaims", "made-meanwhile", "default")
                return claim is not None and claim["status"]["phase"] == "Bound"

            await eventually(is_bound, 10)
        assert running.process.returncode is None


@pytest.mark.parity("R-DRIVER-08")
async def test_driver_under_another_name_ends_the_process_and_both_names_are_told(tmp_path: Path) -> None:
    async with cluster(tmp_path), sidecar(tmp_path) as (running, port):
        async with driver(tmp_path) as first:
            await ready_within(port, 200, 15)
            first.process.kill()
            await first.process.wait()
        async with driver(tmp_path, "other.csi.example.com"):
            assert await running.exit_code() == 1
        assert DRIVER in running.log.splitlines()[-1]
        assert "other.csi.example.com" in running.log.splitlines()[-1]


@pytest.mark.parity("R-DRIVER-07")
async def test_exit_on_driver_loss_ends_the_process_as_the_go_sidecars_do(tmp_path: Path) -> None:
    loss_ends_it = "--exit-on-driver-loss"
    async with cluster(tmp_path), driver(tmp_path) as first, sidecar(tmp_path, loss_ends_it) as (running, port):
        await ready_within(port, 200, 15)
        first.process.kill()
        assert await running.exit_code() == 1
        assert "Lost connection to CSI driver, exiting" in running.log


@pytest.mark.parity("R-STOP-01")
async def test_stop_signal_drains_the_call_in_flight_and_releases_the_leases(tmp_path: Path) -> None:
    words = (
        "demo-driver",
        f"--endpoint=unix://{tmp_path}/csi.sock",
        f"--name={DRIVER}",
        f"--root={tmp_path}/volumes",
        "--trouble=CreateVolume:delay=3",
    )
    async with cluster(tmp_path) as server, program(*words, log=tmp_path / "driver.log"):
        async with sidecar(tmp_path) as (running, port):
            await ready_within(port, 200, 15)
            server.objects.create(build_claim("in-flight"))
            await asyncio.sleep(1)
            running.process.terminate()
            assert await running.exit_code() == 0
        assert [volume["spec"]["claimRef"]["name"] for volume in server.objects.list("persistentvolumes")] == [
            "in-flight"
        ]
        holders = {
            lease["metadata"]["name"]: lease["spec"]["holderIdentity"] for lease in server.objects.list("leases")
        }
        assert holders
        assert set(holders.values()) == {""}
