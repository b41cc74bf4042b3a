"""One provisioner a node, and what shows that there are two."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.plugins.provisioner.nodes import LATE, NOW, SELECTED, node_world
from tests.plugins.provisioner.world import DRIVER

pytestmark = pytest.mark.looptime

IDENTITY = "storage.kubernetes.io/csiProvisionerIdentity"
NOW_MS = 1795262400000
"""When the world begins, as identities write it."""
TEXT = "Another provisioner works for this node"


def spec_by(identity: str, driver: str = DRIVER) -> dict[str, Any]:
    """The part of a PV's spec that says who made it."""
    return {"csi": {"driver": driver, "volumeHandle": "h", "volumeAttributes": {IDENTITY: identity}}}


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Identities of those who were told of."""
    return [record.other for record in caplog.records if record.message.startswith(TEXT)]  # type: ignore[attr-defined]


@pytest.mark.parity("T-NODE-96")
@pytest.mark.parametrize(
    ("identity", "is_told"),
    [
        (f"{NOW_MS + 60_000}-7-{DRIVER}-n1", True),
        (f"{NOW_MS - 60_000}-7-{DRIVER}-n1", False),
        (f"{NOW_MS + 60_000}-7-{DRIVER}-n2", False),
        (f"{NOW_MS + 60_000}-7-{DRIVER}-x-n1", False),
        (f"{NOW_MS + 60_000}-7-{DRIVER}", False),
        (f"{NOW_MS + 60_000}-7-other.csi.test-n1", False),
        ("who-knows", False),
        ("", False),
    ],
)
async def test_pv_tells_of_another_instance(identity: str, is_told: bool, caplog: pytest.LogCaptureFixture) -> None:
    world = node_world("n1")
    world.add_class(**LATE)
    async with world.running():
        await asyncio.sleep(1)
        for name in ("one", "two"):
            world.add_volume(name, phase="Bound", spec=spec_by(identity))
        await asyncio.sleep(1)
    assert told(caplog) == ([identity] if is_told else [])


async def test_own_volumes_are_nobody_elses_also_after_the_driver_came_back(caplog: pytest.LogCaptureFixture) -> None:
    world = node_world("n1")
    world.add_class(**NOW)
    uid = world.add_claim()
    await world.run(seconds=3)
    assert world.volume(uid)
    other = world.add_claim("other", annotations={SELECTED: "n1"})
    await world.run(seconds=3)
    assert world.volume(other)
    assert told(caplog) == []


@pytest.mark.parametrize("first_is_faster", [True, False])
async def test_one_of_two_that_make_the_same_volume_tells_of_the_other(
    first_is_faster: bool, caplog: pytest.LogCaptureFixture
) -> None:
    old = node_world("n1")
    old.add_class(**LATE)
    async with old.running():
        await asyncio.sleep(2)
        new = node_world("n1", old)
        slow = new if first_is_faster else old
        slow.driver.trouble.add("CreateVolume:delay=1s")
        async with new.running():
            uid = old.add_claim(annotations={SELECTED: "n1"})
            await asyncio.sleep(5)
    made_by = old.volume(uid)["spec"]["csi"]["volumeAttributes"][IDENTITY]
    assert told(caplog) == [made_by]
    assert {call.name for world in (old, new) for call in world.calls()} == {f"pvc-{uid}"}
    assert old.warnings() == []


async def test_clock_that_was_ahead_before_a_restart_makes_no_twin_of_ourselves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A node may boot with the wrong time; what is there when we start was made by nobody who came later."""
    world = node_world("n1")
    world.add_class(**LATE)
    world.add_volume("old", phase="Bound", spec=spec_by(f"{NOW_MS + 3_600_000}-7-{DRIVER}-n1"))
    async with world.running():
        await asyncio.sleep(1)
        world.set_phase("persistentvolumes", "old", "Released")
        await asyncio.sleep(1)
    assert told(caplog) == []
