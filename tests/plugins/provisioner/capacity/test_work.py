"""How objects are worked on: how many at a time, after which pause, and with which requests."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.plugins.provisioner.capacity.rooms import (
    LABELS,
    add_kind,
    asked,
    asked_about,
    load_room,
    names,
    nudge,
    quiet_world,
    room_writes,
    rooms,
)
from tests.plugins.provisioner.world import GIB

if TYPE_CHECKING:
    from tests.plugins.provisioner.world import World

pytestmark = [pytest.mark.looptime, pytest.mark.timeout(120)]


def begun_s(world: World) -> list[int]:
    """When the driver was asked, in whole seconds since the first time."""
    times = [call.started_s for call in world.driver.calls("GetCapacity")]
    return [round(time - times[0]) for time in times]


@pytest.mark.parametrize(
    ("threads", "begun"),
    [
        pytest.param(1, [0, 1, 2, 3, 4, 5], id="one", marks=pytest.mark.parity("T-WORK-01")),
        pytest.param(3, [0, 0, 0, 1, 1, 1], id="three", marks=pytest.mark.parity("T-WORK-02")),
    ],
)
async def test_so_many_objects_are_worked_on_at_a_time(threads: int, begun: list[int]) -> None:
    world = quiet_world(zones="abc", classes=("fast", "slow"), threads=threads)
    world.driver.trouble.add("GetCapacity:delay=1")
    await world.run(seconds=10)
    assert begun_s(world) == begun
    assert len(rooms(world)) == 6


@pytest.mark.parity("T-WORK-03")
async def test_failed_object_waits_twice_as_long_each_time_up_to_the_cap_and_for_ever() -> None:
    world = quiet_world(zones="a")
    world.driver.trouble.add("GetCapacity:Internal=no idea")
    await world.run(seconds=45)
    assert begun_s(world) == [0, 1, 3, 7, 15, 23, 31, 39]
    assert world.settings.retry_interval_max_s == 8


@pytest.mark.parity("T-WORK-04")
async def test_success_forgets_the_failures_before_it() -> None:
    world = quiet_world(zones="a")
    world.driver.trouble.add("GetCapacity:Internal=no idea x3")
    async with world.running():
        await asyncio.sleep(20)
        world.driver.trouble.add("GetCapacity:Internal=no idea x2")
        nudge(world)
        await asyncio.sleep(20)
    assert begun_s(world) == [0, 1, 3, 7, 20, 21, 23]


@pytest.mark.parity("T-WORK-05")
async def test_object_that_fails_holds_up_no_other() -> None:
    world = quiet_world(zones="ab")
    world.driver.trouble.add("GetCapacity:Internal=no idea x1")
    async with world.running():
        await asyncio.sleep(0.5)
        assert len(rooms(world)) == 1
        await asyncio.sleep(1)
        assert len(rooms(world)) == 2
    assert asked(world) == 3


@pytest.mark.parity("T-WORK-06")
async def test_driver_that_does_not_answer_is_given_up_after_the_timeout_and_asked_again() -> None:
    world = quiet_world(zones="a")
    world.driver.trouble.add("GetCapacity:hang x1")
    await world.run(seconds=12)
    assert world.settings.timeout_s == 10
    assert begun_s(world) == [0, 11]
    assert rooms(world) == {("fast", "zone=a"): "100Gi"}


@pytest.mark.parity("T-WORK-07")
async def test_update_keeps_all_that_is_not_ours() -> None:
    world = quiet_world(zones="a")
    load_room(world, "found", capacity="1Gi")
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "theirs", "uid": "u-1"}

    def decorate(obj: dict[str, Any]) -> None:
        obj["metadata"].update(
            ownerReferences=[owner],
            annotations={"note": "theirs"},
            finalizers=["example.com/f"],
            labels={**LABELS, "more": "x"},
        )

    world.api.edit("csistoragecapacities", "found", decorate, "team")
    await world.run()
    assert room_writes(world) == ["update"]
    after = world.api.get("csistoragecapacities", "found", "team")
    assert after is not None
    assert after["capacity"] == "100Gi"
    assert after["metadata"]["ownerReferences"] == [owner]
    assert after["metadata"]["annotations"] == {"note": "theirs"}
    assert after["metadata"]["finalizers"] == ["example.com/f"]
    assert after["metadata"]["labels"] == {**LABELS, "more": "x"}
    assert (after["storageClassName"], after["nodeTopology"]) == ("fast", {"matchLabels": {"zone": "a"}})


@pytest.mark.parity("T-WORK-08")
async def test_update_is_made_to_the_object_as_it_is_now_not_as_it_was_seen() -> None:
    world = quiet_world(zones="a")
    async with world.running():
        await asyncio.sleep(1)
        (name,) = names(world)
        world.wire.blind.add("csistoragecapacities")
        world.api.edit(
            "csistoragecapacities", name, lambda obj: obj["metadata"].update(annotations={"note": "theirs"}), "team"
        )
        world.driver.settings = replace(world.driver.settings, total_bytes=GIB)
        nudge(world)
        await asyncio.sleep(1)
        world.wire.blind.clear()
    assert [verb for verb, what, _ in world.wire.requests if what.startswith("csis")] == ["create", "get", "update"]
    (obj,) = world.api.list("csistoragecapacities")
    assert (obj["capacity"], obj["metadata"]["annotations"]) == ("1Gi", {"note": "theirs"})


@pytest.mark.parity("T-WORK-09")
async def test_delete_names_the_very_object() -> None:
    world = quiet_world(zones="a")
    async with world.running():
        await asyncio.sleep(1)
        (obj,) = world.api.list("csistoragecapacities")
        world.api.delete("storageclasses", "fast")
        await asyncio.sleep(1)
    (body,) = [body for verb, _, body in world.wire.requests if verb == "delete"]
    assert body["preconditions"] == {"uid": obj["metadata"]["uid"]}
    assert rooms(world) == {}


@pytest.mark.parity("T-WORK-10")
async def test_object_that_is_gone_already_is_deleted_well_enough() -> None:
    world = quiet_world(zones="a")
    async with world.running():
        await asyncio.sleep(1)
        (name,) = names(world)
        world.wire.blind.add("csistoragecapacities")
        world.api.delete("csistoragecapacities", name, "team")
        world.api.delete("storageclasses", "fast")
        await asyncio.sleep(20)
        world.wire.blind.clear()
        await asyncio.sleep(20)
    assert room_writes(world) == ["create", "delete"]


@pytest.mark.parity("T-WORK-11")
async def test_class_that_is_gone_before_its_turn_is_not_asked_about() -> None:
    world = quiet_world(zones="a", classes=("fast", "slow"))
    world.driver.trouble.add("GetCapacity:delay=2")
    async with world.running():
        await asyncio.sleep(1)
        world.api.delete("storageclasses", "slow")
        await asyncio.sleep(10)
    assert asked_about(world) == ["fast@a"]


@pytest.mark.parity("T-WORK-12")
async def test_class_that_comes_back_under_its_name_is_asked_about_with_its_new_parameters() -> None:
    world = quiet_world(zones="a")
    async with world.running():
        await asyncio.sleep(1)
        world.api.delete("storageclasses", "fast")
        add_kind(world, "fast", parameters={"kind": "faster"})
        await asyncio.sleep(1)
    assert asked_about(world)[-1] == "faster@a"
    assert len(rooms(world)) == 1


@pytest.mark.parity("T-WORK-13")
async def test_second_object_that_cannot_be_deleted_does_not_keep_the_first_from_being_refreshed() -> None:
    world = quiet_world(zones="a")
    world.refuse("delete", "csistoragecapacities", 403, times=1000)
    async with world.running():
        await asyncio.sleep(1)
        (elder,) = names(world)
        load_room(world, "twin", capacity="100Gi")
        await asyncio.sleep(1)
        world.driver.settings = replace(world.driver.settings, total_bytes=GIB)
        nudge(world)
        await asyncio.sleep(20)
    kept = world.api.get("csistoragecapacities", elder, "team")
    assert kept is not None
    assert kept["capacity"] == "1Gi"


@pytest.mark.parity("T-WORK-14")
async def test_object_that_somebodys_finalizer_holds_is_deleted_once() -> None:
    world = quiet_world(zones="a")
    async with world.running():
        await asyncio.sleep(1)
        load_room(world, "twin", capacity="100Gi")

        def hold(obj: dict[str, Any]) -> None:
            obj["metadata"]["finalizers"] = ["example.com/mine"]

        world.api.edit("csistoragecapacities", "twin", hold, "team")
        await asyncio.sleep(1)
        for _ in range(5):
            nudge(world)
            await asyncio.sleep(20)
    assert room_writes(world).count("delete") == 1
