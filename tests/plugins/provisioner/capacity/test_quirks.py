"""Accidents of the Go provisioner around capacity, each with what becomes of it here."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.plugins.provisioner.capacity.rooms import (
    LATE,
    add_node,
    room_world,
    room_writes,
    rooms,
)

pytestmark = [pytest.mark.looptime, pytest.mark.timeout(120)]


@pytest.mark.parity("T-ROOM-07")
async def test_driver_without_places_has_one_object_a_class_and_it_stays() -> None:
    """Upstream takes an empty and an absent map of labels for different, and deletes and creates it at each poll."""
    world = room_world(plugin=frozenset({"CONTROLLER_SERVICE"}))
    world.driver.settings = replace(world.driver.settings, topology={}, places=())
    add_node(world, "n1", None, zone="a")
    add_node(world, "n2", (), zone="b")
    world.add_class(**LATE)
    await world.run(seconds=200)
    assert rooms(world) == {("fast", ""): "100Gi"}
    assert room_writes(world) == ["create"]
    assert all(call.accessible_topology is None for call in world.calls("GetCapacity"))


@pytest.mark.parity("T-ROOM-12")
async def test_class_made_anew_as_immediate_loses_its_objects() -> None:
    world = room_world(zones="a")
    add_node(world, "n1", zone="a")
    world.add_class(**LATE)
    async with world.running():
        await asyncio.sleep(1)
        world.wire.blind.add("storageclasses")
        world.api.delete("storageclasses", "fast")
        world.add_class(volumeBindingMode="Immediate")
        world.wire.blind.clear()
        await asyncio.sleep(2)
    assert rooms(world) == {}
