"""Storing the PV: refused, lost, taken by others; and copies of the world that are older than the volume."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from csisidecar.plugins.provisioner.memory import CreatedVolume
from csisidecar.plugins.provisioner.saving import find_difference
from csisidecar.testing.driver.world import make_id
from tests.plugins.provisioner.world import DRIVER, World, claim_ref

pytestmark = pytest.mark.looptime


def take_name(world: World, uid: str, *, handle: str = "foreign", owner: str = "another") -> None:
    """Somebody else's PV under the name that our volume is going to have."""
    world.add_volume(
        f"pvc-{uid}",
        phase="Bound",
        finalizers=[],
        spec={
            "claimRef": {"kind": "PersistentVolumeClaim", "namespace": "else", "name": "theirs", "uid": owner},
            "csi": {"driver": DRIVER, "volumeHandle": handle},
        },
    )


@pytest.mark.parity("P-SAVE-05")
@pytest.mark.parametrize("status", [0, 403, 409, 422, 500])
async def test_pv_that_could_not_be_saved_is_saved_again_without_another_create(status: int) -> None:
    world = World()
    world.refuse("create", "persistentvolumes", status, "not today", times=3)
    world.add_class()
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(0.5)
        assert world.api.count("persistentvolumes") == 0
        assert world.warnings() == [f"error saving PersistentVolume pvc-{uid} of a provisioned volume: not today"]
        world.api.edit("persistentvolumeclaims", "data", lambda obj: obj["metadata"].update(labels={"a": "b"}), "team")
        await asyncio.sleep(10)
    assert world.volume(uid)["spec"]["csi"]["volumeHandle"] in world.driver.volumes
    assert len(world.calls()) == 1
    assert world.events()[-1][1:] == ("ProvisioningSucceeded", f"Successfully provisioned volume pvc-{uid}")
    assert world.plugin._memory.unsaved == {}


async def test_throttled_save_waits_as_long_as_it_was_asked_to_and_is_no_failure() -> None:
    world = World()
    world.refuse("create", "persistentvolumes", 429, "slow down", retry_after_s=7)
    world.add_class()
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(6.5)
        assert world.writes().count("create persistentvolumes") == 1
        await asyncio.sleep(1)
    assert world.volume(uid)
    assert world.warnings() == []
    assert len(world.calls()) == 1


@pytest.mark.parity("P-SAVE-03")
async def test_save_whose_answer_was_lost_is_recognized_as_done() -> None:
    world = World()
    world.refuse("create", "persistentvolumes", 0, "connection reset", applied=True)
    world.add_class()
    uid = world.add_claim()
    await world.run(5)
    assert len(world.calls()) == 1
    assert world.calls("DeleteVolume") == []
    assert world.events()[-1][1:] == ("ProvisioningSucceeded", f"Successfully provisioned volume pvc-{uid}")


@pytest.mark.parity("P-SAVE-06")
async def test_unsaved_volume_survives_a_lost_lease() -> None:
    world = World()
    world.refuse("create", "persistentvolumes", 500, times=2)
    world.add_class()
    uid = world.add_claim()
    await world.run(0.2)
    assert world.api.count("persistentvolumes") == 0
    world.drop_claim()
    await world.run(0.2)
    assert world.volume(uid)["spec"]["claimRef"]["uid"] == uid
    assert len(world.calls()) == 1


async def test_pv_of_that_name_that_is_not_ours_is_not_adopted_and_no_volume_is_made() -> None:
    world = World()
    world.add_class()
    uid = world.add_claim()
    take_name(world, uid)
    await world.run()
    assert world.warnings() == [
        f"PersistentVolume pvc-{uid} exists already and belongs to else/theirs with UID another; it is not adopted"
    ]
    assert world.calls() == []


@pytest.mark.parity("P-SAVE-04")
@pytest.mark.parametrize(("handle", "deleted"), [("foreign", 1), ("ours", 0)])
async def test_foreign_pv_that_appears_meanwhile_is_not_adopted_and_our_volume_goes_unless_it_names_it(
    handle: str, deleted: int
) -> None:
    world = World()
    world.add_class()
    world.driver.order("CreateVolume:delay=2 x1")
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(1.9)
        world.wire.blind.add("persistentvolumes")
        await asyncio.sleep(0.05)
        (call,) = world.driver.calls("CreateVolume")
        assert call.request.name == f"pvc-{uid}"
        world.driver.order("DeleteVolume:Internal=stuck x2")
        take_name(world, uid)
        if handle == "ours":
            stored = world.api.get("persistentvolumes", f"pvc-{uid}")
            assert stored is not None
            stored["spec"]["csi"]["volumeHandle"] = make_id("vol", f"pvc-{uid}")
            world.api.load([stored])
        await asyncio.sleep(0.5)
        world.wire.blind.clear()
        await asyncio.sleep(3)
    assert len(world.driver.volumes) == 1 - deleted
    assert len(world.calls()) == 1
    assert all("belongs to else/theirs with UID another; it is not adopted" in text for text in world.warnings())
    assert ("Normal", "ProvisioningSucceeded") not in {(kind, reason) for kind, reason, _ in world.events()}


@pytest.mark.parity("P-SAVE-07")
async def test_claim_that_looks_unbound_for_long_gets_no_second_volume() -> None:
    """A copy of the claim that is older than the volume's whole life must not bring a second volume."""
    world = World()
    world.add_class()
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(1)
        world.wire.blind.add("persistentvolumeclaims")
        world.bind(uid)
        world.drop_claim()
        world.set_phase("persistentvolumes", f"pvc-{uid}", "Released")
        await asyncio.sleep(0.5)
        world.unprotect(f"pvc-{uid}")
        await asyncio.sleep(0.5)
        assert world.api.count("persistentvolumes") == 0
        # The class changes, which wakes the claim that our copy still shows as waiting.
        world.api.edit("storageclasses", "fast", lambda obj: obj["metadata"].update(labels={"a": "b"}))
        world.api.edit("storageclasses", "fast", lambda obj: obj.update(mountOptions=["ro"]))
        await asyncio.sleep(1)
        assert len(world.calls()) == 1
        world.wire.blind.clear()
        await asyncio.sleep(1)
    assert len(world.calls()) == 1
    assert world.driver.volumes == {}
    assert world.plugin._memory.stored == {}


async def test_volume_of_an_earlier_process_that_is_deleted_brings_no_other_for_the_same_claim() -> None:
    world = World()
    world.add_class()
    uid = world.add_claim()
    world.add_volume(f"pvc-{uid}", phase="Released", spec={"claimRef": claim_ref(uid)})
    async with world.running():
        await asyncio.sleep(1)
        assert world.api.count("persistentvolumes") == 0
        world.api.edit("storageclasses", "fast", lambda obj: obj["metadata"].update(labels={"a": "b"}))
        await asyncio.sleep(1)
    assert len(world.calls("DeleteVolume")) == 1
    assert world.calls() == []


async def test_claim_whose_volume_somebody_removed_is_told_that_it_gets_no_other() -> None:
    world = World()
    world.add_class()
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(1)

        def release(obj: dict[str, Any]) -> None:
            obj["metadata"]["finalizers"] = []

        world.api.edit("persistentvolumes", f"pvc-{uid}", release)
        world.api.delete("persistentvolumes", f"pvc-{uid}")
        world.api.edit("persistentvolumeclaims", "data", lambda obj: obj["metadata"].update(labels={"a": "b"}), "team")
        await asyncio.sleep(1)
    assert len(world.calls()) == 1
    assert len(world.warnings()) == 1
    assert f"PersistentVolume pvc-{uid} was provisioned for this claim before and is gone" in world.warnings()[0]


def existing(uid: str = "u1", driver: str = DRIVER, handle: str = "h1") -> dict[str, Any]:
    claim = {"namespace": "team", "name": "data", "uid": uid}
    return {"spec": {"claimRef": claim, "csi": {"driver": driver, "volumeHandle": handle}}}


async def test_what_makes_two_volumes_of_one_name_differ() -> None:
    world = World()
    world.add_class()
    world.refuse("create", "persistentvolumes", 500, times=100)
    uid = world.add_claim()
    await world.run(0.2)
    (created,) = world.plugin._memory.unsaved.values()
    assert isinstance(created, CreatedVolume)
    handle = created.handle
    assert find_difference(existing(uid, handle=handle), created) == ""
    assert find_difference(existing("u2", handle=handle), created) == "belongs to team/data with UID u2"
    assert find_difference({"spec": {}}, created) == "belongs to no claim with UID unknown"
    assert find_difference(existing(uid, handle="h2"), created) == f"names volume h2, but CreateVolume gave {handle}"
    assert "names volume" in find_difference(existing(uid, driver="other", handle=handle), created)


@pytest.mark.parity("P-SAVE-11")
async def test_volume_that_waits_to_be_saved_is_saved_before_a_stop() -> None:
    world = World()
    world.add_class()
    world.refuse("create", "persistentvolumes", 500, times=5)
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(4)
        assert world.api.get("persistentvolumes", f"pvc-{uid}") is None
        assert await world.drain(20)
    assert world.volume(uid)
    assert len(world.calls()) == 1


async def test_stop_waits_for_a_volume_in_the_making_and_saves_it() -> None:
    world = World()
    world.add_class()
    world.driver.order("CreateVolume:delay=3 x1")
    world.refuse("create", "persistentvolumes", 500, times=2)
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(1)
        assert await world.drain(20)
    assert world.volume(uid)


@pytest.mark.parametrize("status", [403, 422, 500])
async def test_stop_does_not_wait_for_ever_and_names_what_it_leaves(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    world.add_class()
    world.refuse("create", "persistentvolumes", status, "never", times=1000)
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(1)
        tries = len(world.wire.requests)
        caplog.clear()
        assert not await world.drain(20)
        assert 8 < len(world.wire.requests) - tries < 20
        told = [record for record in caplog.records if "not saved yet" in record.message]
        assert [getattr(record, "volume", "") for record in told] == [f"pvc-{uid}"]
        assert not [record for record in caplog.records if record.message == "last attempt failed"]
    (created,) = world.plugin._memory.unsaved.values()
    (left,) = (record for record in caplog.records if record.levelname == "ERROR")
    assert "the volume stays in the driver" in left.message
    said = [getattr(left, name) for name in ("handle", "volume", "claim")]
    assert said == [created.handle, f"pvc-{uid}", "team/data"]
    assert "never" in getattr(left, "error", "")
    assert created.handle in world.driver.volumes


async def test_last_tries_say_each_reason_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.add_class()
    world.refuse("create", "persistentvolumes", 500, "one", times=4)
    world.refuse("create", "persistentvolumes", 403, "two", times=3)
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(0.5)
        caplog.clear()
        assert await world.drain(20)
    told = [getattr(record, "error", "") for record in caplog.records if "not saved yet" in record.message]
    assert [word for text in told for word in ("one", "two") if word in text] == ["one", "two"]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert world.volume(uid)


async def test_lost_lease_is_no_stop_and_names_nothing(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.add_class()
    world.refuse("create", "persistentvolumes", 500, times=1000)
    world.add_claim()
    await world.run(0.2)
    assert world.plugin._memory.unsaved
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_idle_plugin_stops_at_once() -> None:
    world = World()
    world.add_class()
    world.add_claim()
    async with world.running():
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        assert await world.drain(20)
        assert asyncio.get_running_loop().time() - began < 0.1
