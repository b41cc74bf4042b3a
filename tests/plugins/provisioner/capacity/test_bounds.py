"""What capacity costs in a large cluster, and that its objects are right after anything has happened."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csisidecar.config import RateConfig
from tests.plugins.provisioner.capacity.rooms import (
    LABELS,
    LATE,
    LATE_MODE,
    add_node,
    asked,
    relabel,
    room_world,
    room_writes,
    rooms,
)

pytestmark = [pytest.mark.looptime, pytest.mark.timeout(120)]


@pytest.mark.parity("T-ROOM-17")
async def test_lane_of_its_own_takes_42_minutes_for_500_segments_and_5_classes_and_slows_nobody_else() -> None:
    world = room_world(rate=RateConfig(qps=1.0, burst=5), poll_interval_s=7200.0)
    world.driver.settings = replace(world.driver.settings, places=tuple({"zone": f"z{n}"} for n in range(500)))
    for number in range(500):
        add_node(world, f"n{number}", zone=f"z{number}")
    for number in range(5):
        world.add_class(f"c{number}", **LATE)
    async with world.running():
        await asyncio.sleep(2490)
        assert len(rooms(world)) < 2500
        uid = world.add_claim(storageClassName="c0", annotations={"volume.kubernetes.io/selected-node": "n1"})
        await asyncio.sleep(1)
        assert world.volume(uid)
        await asyncio.sleep(29)
        assert len(rooms(world)) == 2500
    assert room_writes(world).count("create") == 2500
    # The volume that was made in the middle took room from its segment, in every class.
    assert len(room_writes(world)) <= 2505


@pytest.mark.parity("T-ROOM-18")
async def test_500_segments_and_5_classes_cost_one_call_and_one_write_each_and_a_second_poll_none() -> None:
    world = room_world(threads=4)
    world.driver.settings = replace(world.driver.settings, places=tuple({"zone": f"z{n}"} for n in range(500)))
    for number in range(500):
        add_node(world, f"n{number}", zone=f"z{number}")
    for number in range(5):
        world.add_class(f"c{number}", **LATE)
    async with world.running():
        await asyncio.sleep(50)
        assert asked(world) == 2500
        assert len(rooms(world)) == 2500
        assert len(world.wire.requests) <= 2520
        assert room_writes(world) == ["create"] * 2500
        await asyncio.sleep(60)
        assert asked(world) == 5000
        assert len(world.wire.requests) <= 2520


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["node", "label", "unregister", "class", "immediate", "delete", "copy", "wait"]),
        st.integers(0, 2),
        st.sampled_from("ab"),
    ),
    max_size=8,
)


@pytest.mark.parity("T-ROOM-19")
@settings(max_examples=25, deadline=None)
@given(CHANGES)
async def test_after_any_changes_there_are_exactly_the_objects_that_should_be(
    changes: list[tuple[str, int, str]],
) -> None:
    world = room_world(zones="ab")
    classes: dict[str, bool] = {}
    nodes: dict[str, str] = {}
    unregistered: set[str] = set()
    async with world.running():
        for what, number, zone in changes:
            name = f"x{number}"
            if what == "node" and name in nodes:
                world.api.delete("nodes", name)
                world.api.delete("csinodes", name)
                del nodes[name]
                unregistered.discard(name)
            elif what == "node":
                add_node(world, name, zone=zone)
                nodes[name] = zone
            elif what == "label" and name in nodes:
                world.api.edit("nodes", name, relabel(zone))
                nodes[name] = zone
            elif what == "unregister" and name in nodes:
                world.api.edit("csinodes", name, lambda obj: obj["spec"].update(drivers=[]))
                unregistered.add(name)
            elif what in ("class", "immediate") and name in classes:
                world.api.delete("storageclasses", name)
                del classes[name]
            elif what in ("class", "immediate"):
                world.add_class(name, volumeBindingMode="Immediate" if what == "immediate" else LATE_MODE)
                classes[name] = what == "class"
            elif what in ("delete", "copy") and (found := world.api.list("csistoragecapacities")):
                obj = found[number % len(found)]
                if what == "delete":
                    world.api.delete("csistoragecapacities", obj["metadata"]["name"], "team")
                else:
                    obj["metadata"] = {"generateName": "copy-", "namespace": "team", "labels": LABELS}
                    world.api.create(obj)
            elif what == "wait":
                await asyncio.sleep(0.05 * number)
        await asyncio.sleep(15)
        here = {zone for name, zone in nodes.items() if name not in unregistered}
        relevant = {name for name, is_relevant in classes.items() if is_relevant}
        assert set(rooms(world)) == {(name, f"zone={zone}") for name in relevant for zone in here}
