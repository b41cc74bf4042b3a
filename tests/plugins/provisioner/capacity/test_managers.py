"""Two processes that manage storage capacity under one name, and a driver whose answers make no sense."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.config import CapacitySettings
from csisidecar.csi import NodeInfo
from csisidecar.plugins.provisioner.capacity.rivals import REASON
from tests.plugins.provisioner.capacity.rooms import (
    LABELS,
    LATE,
    NO_CEILING,
    add_node,
    pod,
    room_world,
    room_writes,
    rooms,
)
from tests.plugins.provisioner.nodes import KEY, node_world
from tests.plugins.provisioner.world import GIB, World

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [pytest.mark.looptime, pytest.mark.timeout(120)]

TEN_MINUTES = 600.0
KIND = "csistoragecapacities"
SAME_NODE_NAME = "as external-provisioner-n1 in namespace team: give each its own NODE_NAME"
NONSENSE = "the driver's answer to GetCapacity makes no sense"


def joined(world: World, of: World) -> World:
    """`world` with the API server of `of`."""
    world.clock, world.wire, world.api = of.clock, of.wire, of.api
    return world


def twins(count: int = 2) -> list[World]:
    """Provisioners of as many nodes that were all given the NODE_NAME n1."""
    settings = CapacitySettings(namespace="team", ownerref_level=-1, rate=NO_CEILING)
    worlds: list[World] = []
    for number in range(count):
        world = node_world("n1", worlds[0] if worlds else None, capacity=settings)
        segments = {KEY: f"n{number + 1}"}
        world.node = NodeInfo(node_id=f"id-{number}", segments=segments)
        world.driver.settings = replace(world.driver.settings, places=(segments,), total_bytes=100 * GIB)
        worlds.append(world)
    return worlds


async def together(worlds: Sequence[World], seconds: float) -> None:
    async with AsyncExitStack() as stack:
        for world in worlds:
            await stack.enter_async_context(world.running())
        await asyncio.sleep(seconds)


def warned(caplog: pytest.LogCaptureFixture, text: str) -> list[Any]:
    return [each for each in caplog.records if each.levelno >= logging.WARNING and text in each.getMessage()]


# ---- the same segments


@pytest.mark.parity("T-RIVAL-01")
async def test_two_for_the_same_segments_agree_on_one_object_each(caplog: pytest.LogCaptureFixture) -> None:
    first = room_world()
    second = joined(room_world(), first)
    for node, zone in (("n1", "a"), ("n2", "b"), ("n3", "c")):
        add_node(first, node, zone=zone)
    first.add_class("fast", **LATE)
    first.add_class("slow", **LATE)
    await together([first, second], TEN_MINUTES)
    assert set(rooms(first)) == {(name, f"zone={zone}") for name in ("fast", "slow") for zone in "abc"}
    counted = Counter(room_writes(first))
    # Each may make one before it sees the other's, and each may delete what is too many.
    assert counted["create"] <= 12
    assert counted["delete"] <= 12
    assert counted["update"] == 0
    assert not warned(caplog, "")


@pytest.mark.parity("T-RIVAL-02")
async def test_two_for_the_same_segments_whose_drivers_differ_write_once_a_poll_at_most() -> None:
    first = room_world(zones="a")
    second = joined(room_world(zones="a"), first)
    second.driver.settings = replace(second.driver.settings, total_bytes=GIB)
    add_node(first, "n1", zone="a")
    first.add_class(**LATE)
    await together([first, second], TEN_MINUTES)
    assert len(rooms(first)) == 1
    assert Counter(room_writes(first))["update"] <= 2 * TEN_MINUTES / 60


@pytest.mark.parity("T-RIVAL-03")
async def test_object_that_belongs_to_another_pod_keeps_its_owner_and_gets_our_amounts() -> None:
    first = room_world(zones="a", ownerref_level=0, pod_name="one")
    second = joined(room_world(zones="a", ownerref_level=0, pod_name="two"), first)
    add_node(first, "n1", zone="a")
    first.add_class(**LATE)
    uid = first.api.create(pod("one", None))["metadata"]["uid"]
    first.api.create(pod("two", None))
    await first.run()
    second.driver.settings = replace(second.driver.settings, total_bytes=GIB)
    await second.run(TEN_MINUTES)
    (obj,) = first.api.list(KIND)
    assert obj["capacity"] == "1Gi"
    assert [each["uid"] for each in obj["metadata"]["ownerReferences"]] == [uid]
    assert room_writes(first) == ["create", "update"]


# ---- other segments


@pytest.mark.parity("T-RIVAL-04")
async def test_two_with_one_node_name_leave_each_other_alone_and_say_what_to_change(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, _ = worlds = twins()
    first.add_class(**LATE)
    await together(worlds, TEN_MINUTES)
    assert set(rooms(first)) == {("fast", f"{KEY}=n1"), ("fast", f"{KEY}=n2")}
    assert len(room_writes(first)) <= 8
    told = warned(caplog, SAME_NODE_NAME)
    assert 1 <= len(told) <= 2
    assert (told[0].driver, vars(told[0])["class"]) == (first.driver_name, "fast")
    assert told[0].segment in (f"{KEY}=n1", f"{KEY}=n2")
    events = [each for each in first.api.list("events") if each["reason"] == REASON]
    assert {each["involvedObject"]["kind"] for each in events} == {"CSIStorageCapacity"}
    assert all(SAME_NODE_NAME in each["message"] for each in events)
    assert not [name for name, read in first.numbers.gauges.items() if "desired" in name[0] and read() != 1]


@pytest.mark.parity("T-RIVAL-05")
async def test_six_with_one_node_name_come_to_rest_within_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    worlds = twins(6)
    worlds[0].add_class(**LATE)
    async with AsyncExitStack() as stack:
        for world in worlds:
            await stack.enter_async_context(world.running())
        await asyncio.sleep(60)
        assert len(rooms(worlds[0])) == 6
        before = len(room_writes(worlds[0]))
        assert Counter(room_writes(worlds[0]))["create"] <= 24
        await asyncio.sleep(300)
        assert len(room_writes(worlds[0])) == before
    assert len(warned(caplog, SAME_NODE_NAME)) <= 6


@pytest.mark.parity("T-RIVAL-06")
async def test_rival_is_tested_at_growing_pauses_and_what_it_left_goes_within_an_hour_or_two(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = twins()
    first.add_class(**LATE)
    both = {("fast", f"{KEY}=n1"), ("fast", f"{KEY}=n2")}
    async with first.running():
        async with second.running():
            for _ in range(6):
                await asyncio.sleep(600)
                assert set(rooms(first)) == both
            counted = Counter(room_writes(first))
            # Both try after 15 minutes and 30 more, then after an hour; what they delete is made at once.
            assert 4 <= counted["delete"] <= 8
            assert counted["create"] <= 8
            assert len(warned(caplog, SAME_NODE_NAME)) <= 4
        await asyncio.sleep(3000)
        assert set(rooms(first)) == {("fast", f"{KEY}=n1")}


@pytest.mark.parity("T-RIVAL-07")
async def test_object_that_somebody_deletes_whenever_it_is_there_is_made_again_at_growing_pauses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a Go provisioner with the same name and another segment does."""
    world = room_world(zones="a")
    add_node(world, "n1", zone="a")
    world.add_class(**LATE)
    async with world.running():
        for _ in range(6000):
            await asyncio.sleep(0.1)
            for obj in world.api.list(KIND):
                world.api.delete(KIND, obj["metadata"]["name"], "team")
    assert 5 <= len(room_writes(world)) <= 11
    (told,) = warned(
        caplog, "another process manages CSIStorageCapacity objects as external-provisioner in namespace team"
    )
    assert "--leader-election" in told.getMessage()
    assert told.seen == "our object about it is deleted again and again"


@pytest.mark.parity("T-RIVAL-08")
async def test_left_overs_and_copies_still_go_at_once(caplog: pytest.LogCaptureFixture) -> None:
    world = room_world(zones="a")
    add_node(world, "n1", zone="a")
    world.add_class(**LATE)

    def copy(zone: str) -> None:
        topology = {"matchLabels": {"zone": zone}}
        meta = {"generateName": "copy-", "namespace": "team", "labels": LABELS}
        body = {"metadata": meta, "storageClassName": "fast", "nodeTopology": topology, "capacity": "1Gi"}
        world.api.create({"apiVersion": "storage.k8s.io/v1", "kind": "CSIStorageCapacity", **body})

    copy("b")
    copy("b")
    async with world.running():
        for zone in "aab":
            await asyncio.sleep(121)
            assert set(rooms(world)) == {("fast", "zone=a")}
            copy(zone)
        await asyncio.sleep(1)
        assert set(rooms(world)) == {("fast", "zone=a")}
        copy("c")
        await asyncio.sleep(1)
        assert set(rooms(world)) == {("fast", "zone=a")}
    assert not warned(caplog, "")


@pytest.mark.parity("T-RIVAL-09")
async def test_whoever_led_between_two_terms_of_ours_is_no_rival(caplog: pytest.LogCaptureFixture) -> None:
    first, second = twins()
    for world in (first, second, first, second):
        if world is first and not first.api.list("storageclasses"):
            first.add_class(**LATE)
        await world.run(5)
        assert len(rooms(first)) == 1
    assert not warned(caplog, "")


# ---- answers that make no sense


@pytest.mark.parity("T-RIVAL-10")
@pytest.mark.parametrize(
    ("free", "largest", "says", "written"),
    [
        pytest.param(-1, None, "available_capacity is negative (-1)", None, id="negative"),
        pytest.param(GIB, -5, "maximum_volume_size is negative (-5)", None, id="negative-maximum"),
        pytest.param(GIB, 0, f"maximum_volume_size is 0 while {GIB} bytes are free", ("1Gi", "0"), id="no-maximum"),
    ],
)
async def test_answer_that_makes_no_sense_is_told_once_with_driver_class_and_segment(
    free: int,
    largest: int | None,
    says: str,
    written: tuple[str, str] | None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = room_world(zones="a")
    add_node(world, "n1", zone="a")
    world.add_class(**LATE)
    monkeypatch.setattr(type(world.driver._world), "free_bytes", lambda *_: free)
    world.driver.settings = replace(world.driver.settings, max_volume_bytes=largest)
    async with world.running():
        await asyncio.sleep(TEN_MINUTES)
        (told,) = warned(caplog, NONSENSE)
        assert (told.driver, vars(told)["class"], told.segment) == (world.driver_name, "fast", "zone=a")
        assert says in told.answer
        found = [(obj["capacity"], obj["maximumVolumeSize"]) for obj in world.api.list(KIND)]
        assert found == ([written] if written else [])
        assert not warned(caplog, "attempt failed")
        monkeypatch.undo()
        world.driver.settings = replace(world.driver.settings, max_volume_bytes=GIB)
        await asyncio.sleep(70)
        (obj,) = world.api.list(KIND)
        assert (obj["capacity"], obj["maximumVolumeSize"]) == ("100Gi", "1Gi")
        world.driver.settings = replace(world.driver.settings, max_volume_bytes=-7)
        await asyncio.sleep(70)
    assert len(warned(caplog, NONSENSE)) == 2


async def test_largest_volume_of_nothing_is_told_once_although_the_free_room_changes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = room_world(zones="a")
    add_node(world, "n1", zone="a")
    world.add_class(**LATE)
    world.driver.settings = replace(world.driver.settings, max_volume_bytes=0)
    async with world.running():
        for free in range(10, 20):
            world.driver.settings = replace(world.driver.settings, total_bytes=free * GIB)
            await asyncio.sleep(60)
    assert len(warned(caplog, NONSENSE)) == 1


@pytest.mark.parity("T-RIVAL-11")
async def test_largest_amount_is_written_exactly_and_a_larger_one_in_the_object_is_corrected() -> None:
    world = room_world(zones="a")
    world.driver.settings = replace(world.driver.settings, total_bytes=2**63 - 1, max_volume_bytes=2**63 - 1)
    add_node(world, "n1", zone="a")
    world.add_class(**LATE)
    async with world.running():
        await asyncio.sleep(1)
        (obj,) = world.api.list(KIND)
        assert (obj["capacity"], obj["maximumVolumeSize"]) == (str(2**63 - 1), str(2**63 - 1))
        world.driver.settings = replace(world.driver.settings, total_bytes=GIB, max_volume_bytes=None)
        world.api.edit(KIND, obj["metadata"]["name"], lambda each: each.update(capacity="100E"), "team")
        await asyncio.sleep(60)
        (obj,) = world.api.list(KIND)
        assert (obj["capacity"], "maximumVolumeSize" in obj) == ("1Gi", False)


@pytest.mark.parity("T-RIVAL-12")
async def test_driver_that_makes_no_sense_anywhere_is_told_for_ten_segments_and_that_there_are_more(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    zones = "abcdefghijklmnop"
    world = room_world(zones=zones)
    for zone in zones:
        add_node(world, f"n-{zone}", zone=zone)
    world.add_class(**LATE)
    monkeypatch.setattr(type(world.driver._world), "free_bytes", lambda *_: -1)
    async with world.running():
        await asyncio.sleep(TEN_MINUTES)
    assert len({told.segment for told in warned(caplog, NONSENSE)}) == len(warned(caplog, NONSENSE)) == 10
    (more,) = warned(caplog, "the driver's answers to GetCapacity make no sense for more")
    assert more.answer == "available_capacity is negative"
