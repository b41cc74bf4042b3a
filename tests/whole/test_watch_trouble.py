"""An object made while the API server misbehaves is acted on within a minute, in the same process.

The orders hit every watch and list of claims, those of the stand-in controllers among them, so claims carry what
the binder would put on them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from csisidecar.clock import SystemClock
from csisidecar.demo.props import build_claim, build_class
from csisidecar.demo.stage import build_sidecar
from csisidecar.runtime import background
from csisidecar.testing.apiserver import FakeAPIServer
from csisidecar.testing.driver import FakeDriver

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.whole, pytest.mark.timeout(120)]

PROVISIONER = "volume.kubernetes.io/storage-provisioner"


async def acted_on(server: FakeAPIServer, driver: FakeDriver, name: str, within_s: float) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    claim = build_claim(name)
    claim["metadata"]["annotations"] = {PROVISIONER: driver.settings.name}
    server.objects.create(claim)

    def has_volume() -> bool:
        return any(v["spec"]["claimRef"]["name"] == name for v in server.objects.list("persistentvolumes"))

    while not has_volume():
        if loop.time() - began > within_s:
            raise AssertionError(f"{name} has no volume after {within_s:g} s")
        await asyncio.sleep(0.05)
    return loop.time() - began


CLAIMS = "persistentvolumeclaims"


async def test_claim_made_during_a_silence_is_provisioned_within_a_minute(tmp_path: Path) -> None:
    """Both silences at once, as each takes the better part of a minute of real time."""
    silences = {
        "stalled": [f"watch:{CLAIMS}:stall"],
        "half-open": [f"watch:{CLAIMS}:halfopen", f"watch:{CLAIMS}:close"],
    }
    async with asyncio.TaskGroup() as group:
        for name, orders in silences.items():
            (tmp_path / name).mkdir()
            group.create_task(_play(tmp_path / name, orders, within_s=60))


@pytest.mark.parametrize(
    "orders",
    [
        pytest.param([f"watch:{CLAIMS}:close", f"watch:{CLAIMS}:gonex3"], id="410-on-watch"),
        pytest.param([f"watch:{CLAIMS}:gone-eventx3"], id="410-as-event"),
        pytest.param([f"watch:{CLAIMS}:gone-eventx2", f"list:{CLAIMS}:gonex3"], id="410-on-list"),
        pytest.param([f"watch:{CLAIMS}:closex5"], id="closes"),
        pytest.param([f"watch:{CLAIMS}:cutx3"], id="cut-in-mid-line"),
        pytest.param([f"watch:{CLAIMS}:closex1", f"watch:{CLAIMS}:throttle=2x2"], id="429-with-retry-after"),
        pytest.param([f"watch:{CLAIMS}:closex1", f"watch:{CLAIMS}:error=500x3"], id="500"),
        pytest.param([f"watch:{CLAIMS}:closex1", f"watch:{CLAIMS}:dropx3"], id="connection-dropped"),
    ],
)
async def test_claim_made_during_trouble_is_provisioned_soon(tmp_path: Path, orders: list[str]) -> None:
    await _play(tmp_path, orders, within_s=30)


@pytest.mark.parity("R-API-06")
async def test_throttled_write_is_repeated_when_told_and_shown_on_no_object(tmp_path: Path) -> None:
    took_s = await _play(tmp_path, ["create:persistentvolumes:throttle=2x1"], within_s=10)
    assert took_s >= 2


async def _play(tmp_path: Path, orders: list[str], *, within_s: float) -> float:
    clock = SystemClock()
    driver = FakeDriver()
    async with FakeAPIServer() as server, driver.serving(tmp_path / "csi.sock") as endpoint:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        server.objects.create(build_class("demo", driver.settings.name))
        sidecar = build_sidecar(tmp_path / "kubeconfig", endpoint, clock)
        async with background(sidecar.run(), name="sidecar"):
            await acted_on(server, driver, "before", 20)
            for order in orders:
                server.trouble.add(order)
            await asyncio.sleep(0.2)
            took_s = await acted_on(server, driver, "during", within_s)
        events = [event for event in server.objects.list("events") if event["type"] == "Warning"]
        assert events == []
    return took_s
