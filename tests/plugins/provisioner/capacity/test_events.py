"""What each change of a class, of a segment or of an object has done, and what it leaves alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.plugins.provisioner.capacity.rooms import (
    LABELS,
    add_kind,
    add_node,
    asked,
    asked_about,
    gauges,
    load_room,
    names,
    nudge,
    quiet_world,
    room_writes,
    rooms,
)

pytestmark = [pytest.mark.looptime, pytest.mark.timeout(120)]


@pytest.mark.parity("T-EVENT-01")
async def test_new_class_has_an_object_in_every_segment_and_the_others_are_not_asked_about() -> None:
    world = quiet_world()
    async with world.running():
        await asyncio.sleep(1)
        add_kind(world, "slow")
        await asyncio.sleep(1)
    assert asked_about(world, since=2) == ["slow@a", "slow@b"]
    assert set(rooms(world)) == {(name, f"zone={zone}") for name in ("fast", "slow") for zone in "ab"}


@pytest.mark.parity("T-EVENT-02")
async def test_changed_class_is_asked_about_in_every_segment() -> None:
    world = quiet_world(classes=("fast", "slow"))
    async with world.running():
        await asyncio.sleep(1)
        nudge(world)
        await asyncio.sleep(1)
    assert asked_about(world, since=4) == ["fast@a", "fast@b"]
    assert room_writes(world) == ["create"] * 4


@pytest.mark.parity("T-EVENT-03")
async def test_class_that_nobody_changed_is_asked_about_at_polls_only() -> None:
    world = quiet_world()
    await world.run(seconds=7199)
    assert asked(world) == 2


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"provisioner": "other.io"}, id="foreign", marks=pytest.mark.parity("T-EVENT-04")),
        pytest.param({"volumeBindingMode": "Immediate"}, id="immediate", marks=pytest.mark.parity("T-EVENT-05")),
    ],
)
async def test_class_that_does_not_count_comes_changes_and_goes_unnoticed(fields: dict[str, Any]) -> None:
    world = quiet_world()
    async with world.running():
        await asyncio.sleep(1)
        add_kind(world, "other", **fields)
        await asyncio.sleep(1)
        world.api.edit("storageclasses", "other", lambda obj: obj.update(allowVolumeExpansion=True))
        await asyncio.sleep(1)
        world.api.delete("storageclasses", "other")
        await asyncio.sleep(1)
    assert asked(world) == 2
    assert room_writes(world) == ["create", "create"]


@pytest.mark.parity("T-EVENT-06")
async def test_objects_of_a_deleted_class_go_and_nothing_is_asked() -> None:
    world = quiet_world(classes=("fast", "slow"))
    async with world.running():
        await asyncio.sleep(1)
        world.api.delete("storageclasses", "slow")
        await asyncio.sleep(1)
    assert set(rooms(world)) == {("fast", "zone=a"), ("fast", "zone=b")}
    assert room_writes(world) == ["create"] * 4 + ["delete"] * 2
    assert asked(world) == 4


@pytest.mark.parity("T-EVENT-07")
async def test_new_segment_has_an_object_of_every_class_and_the_others_are_not_asked_about() -> None:
    world = quiet_world(classes=("fast", "slow"))
    async with world.running():
        await asyncio.sleep(1)
        add_node(world, "n3", zone="c")
        await asyncio.sleep(1)
    assert asked_about(world, since=4) == ["fast@c", "slow@c"]
    assert set(rooms(world)) == {(name, f"zone={zone}") for name in ("fast", "slow") for zone in "abc"}


@pytest.mark.parity("T-EVENT-08")
async def test_objects_of_a_segment_that_is_gone_go_and_nothing_is_asked() -> None:
    world = quiet_world(classes=("fast", "slow"))
    async with world.running():
        await asyncio.sleep(1)
        world.api.delete("nodes", "n2")
        await asyncio.sleep(1)
    assert set(rooms(world)) == {("fast", "zone=a"), ("slow", "zone=a")}
    assert room_writes(world) == ["create"] * 4 + ["delete"] * 2
    assert asked(world) == 4


@pytest.mark.parity("T-EVENT-09")
async def test_object_that_turns_up_where_one_is_missing_is_taken_over() -> None:
    world = quiet_world(zones="a")
    world.driver.trouble.add("GetCapacity:Internal=no idea")
    async with world.running():
        await asyncio.sleep(1.5)
        before = asked(world)
        load_room(world, "found", capacity="1Gi")
        await asyncio.sleep(0.5)
        assert gauges(world) == (1, 1, 0)
        assert asked(world) == before
        world.driver.trouble.clear()
        await asyncio.sleep(10)
    assert names(world) == {"found"}
    assert room_writes(world) == ["update"]


@pytest.mark.parity("T-EVENT-10")
async def test_of_two_objects_about_the_same_the_elder_stays() -> None:
    world = quiet_world(zones="a")
    async with world.running():
        await asyncio.sleep(2)
        (elder,) = names(world)
        load_room(world, "a-copy")
        await asyncio.sleep(1)
    assert names(world) == {elder}
    assert room_writes(world) == ["create", "delete"]
    assert asked(world) == 2


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"class_name": "gone"}, id="class", marks=pytest.mark.parity("T-EVENT-11")),
        pytest.param({"zone": "z"}, id="segment", marks=pytest.mark.parity("T-EVENT-12")),
        pytest.param(
            {"nodeTopology": {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}},
            id="expression",
            marks=pytest.mark.parity("T-EVENT-13"),
        ),
        pytest.param({"nodeTopology": None}, id="nowhere", marks=pytest.mark.parity("T-EVENT-14")),
    ],
)
async def test_object_about_nothing_that_should_be_is_deleted(fields: dict[str, Any]) -> None:
    world = quiet_world(zones="a")
    async with world.running():
        await asyncio.sleep(1)
        (ours,) = names(world)
        load_room(world, "stray", **fields)
        await asyncio.sleep(1)
    assert names(world) == {ours}
    assert asked(world) == 1


@pytest.mark.parity("T-EVENT-15")
async def test_object_that_somebody_changed_keeps_the_change_until_it_is_refreshed() -> None:
    world = quiet_world(zones="a")
    async with world.running():
        await asyncio.sleep(1)
        (name,) = names(world)
        before = len(world.wire.requests), asked(world)
        world.api.edit("csistoragecapacities", name, lambda obj: obj.update(capacity="7Ti"), "team")
        await asyncio.sleep(1)
        assert (len(world.wire.requests), asked(world)) == before
        nudge(world)
        await asyncio.sleep(1)
    assert set(rooms(world).values()) == {"100Gi"}
    assert room_writes(world) == ["create", "update"]


@pytest.mark.parity("T-EVENT-16")
async def test_objects_of_another_manager_are_nobodys_business() -> None:
    world = quiet_world(zones="a")
    async with world.running():
        await asyncio.sleep(1)
        for number, label in enumerate(LABELS):
            load_room(world, f"theirs{number}", labels={**LABELS, label: "somebody"})
        load_room(world, "bare", labels={})
        await asyncio.sleep(1)
        world.api.edit("csistoragecapacities", "bare", lambda obj: obj.update(capacity="1Gi"), "team")
        world.api.delete("csistoragecapacities", "theirs0", "team")
        await asyncio.sleep(1)
        assert gauges(world) == (1, 1, 0)
    assert {"theirs1", "bare"} < names(world)
    assert room_writes(world) == ["create"]
    assert asked(world) == 1


@pytest.mark.parity("T-EVENT-17")
async def test_object_that_is_given_our_labels_is_judged_like_a_new_one() -> None:
    world = quiet_world(zones="a")
    async with world.running():
        await asyncio.sleep(1)
        (ours,) = names(world)
        load_room(world, "bare", zone="z", labels={})
        await asyncio.sleep(1)
        world.api.edit("csistoragecapacities", "bare", lambda obj: obj["metadata"].update(labels=LABELS), "team")
        await asyncio.sleep(1)
    assert names(world) == {ours}


@pytest.mark.parity("T-EVENT-18")
async def test_deleted_object_is_made_anew() -> None:
    world = quiet_world()
    async with world.running():
        await asyncio.sleep(1)
        before = names(world)
        victim = next(
            obj for obj in world.api.list("csistoragecapacities") if "a" in str(obj["nodeTopology"]["matchLabels"])
        )
        world.api.delete("csistoragecapacities", victim["metadata"]["name"], "team")
        await asyncio.sleep(1)
    assert len(names(world) - before) == 1
    assert len(rooms(world)) == 2
    assert len(asked_about(world, since=2)) == 1


@pytest.mark.parity("T-EVENT-19")
async def test_object_that_was_not_wanted_is_not_missed() -> None:
    world = quiet_world(zones="a")
    world.refuse("delete", "csistoragecapacities", 403, times=100)
    async with world.running():
        await asyncio.sleep(1)
        load_room(world, "stray", zone="z")
        await asyncio.sleep(1)
        world.api.delete("csistoragecapacities", "stray", "team")
        await asyncio.sleep(60)
    assert asked(world) == 1
    assert room_writes(world).count("create") == 1
    assert room_writes(world).count("delete") <= 2


@pytest.mark.parity("T-EVENT-20")
async def test_class_deleted_while_the_driver_is_asked_leaves_no_object() -> None:
    world = quiet_world(zones="a")
    world.driver.trouble.add("GetCapacity:delay=3")
    async with world.running():
        await asyncio.sleep(1)
        world.api.delete("storageclasses", "fast")
        await asyncio.sleep(10)
    assert rooms(world) == {}
    assert room_writes(world) == []


@pytest.mark.parity("T-EVENT-21")
async def test_object_whose_making_has_not_been_seen_yet_is_not_made_twice() -> None:
    world = quiet_world(zones="a")
    async with world.running():
        world.wire.blind.add("csistoragecapacities")
        await asyncio.sleep(1)
        for _ in range(3):
            nudge(world)
            await asyncio.sleep(1)
        world.wire.blind.clear()
        await asyncio.sleep(1)
    assert room_writes(world) == ["create"]
