"""What the publisher of storage capacity remembers of items does not grow while nodes, classes and leaders change."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.runtime import background
from tests.plugins.provisioner.capacity.rooms import LATE, add_node, load_room, room_world, rooms

if TYPE_CHECKING:
    from tests.plugins.provisioner.world import World

pytestmark = pytest.mark.looptime

KIND = "csistoragecapacities"


def publisher_of(world: World) -> Any:
    (publisher,) = (each for each in world.controllers if each.name == "csistoragecapacity")
    return publisher._reconciler


async def test_nothing_is_remembered_of_what_went_long_ago() -> None:
    """Nodes come and go, each with a place of its own; so do objects that others leave behind."""
    world = room_world(zones="a", poll_interval_s=7200.0)
    world.add_class(**LATE)
    add_node(world, "n0", zone="a")
    async with world.running():
        for number in range(1, 6):
            add_node(world, f"n{number}", zone=f"z{number}")
            load_room(world, f"left-over-{number}", zone=f"gone-{number}")
            await asyncio.sleep(600)
            world.api.delete("nodes", f"n{number}")
            await asyncio.sleep(600)
        reconciler = publisher_of(world)
        assert list(rooms(world)) == [("fast", "zone=a")]
        assert [str(item) for item in (*reconciler._given, *reconciler._rivals._kept)] == ["fast@zone=a"] * 2
        assert len(reconciler._rivals._cleared) <= 1


async def test_what_went_while_another_process_led_is_forgotten() -> None:
    world = room_world(zones="a")
    world.add_class(**LATE)
    world.add_class("slow", **LATE)
    add_node(world, "n1", zone="a")
    world.driver.settings = replace(world.driver.settings, max_volume_bytes=0)
    async with world.running():
        await asyncio.sleep(5)
        for task in world.tasks:
            task.cancel()
        await asyncio.sleep(1)
        world.api.delete("storageclasses", "slow")
        for obj in world.api.list(KIND):
            world.api.delete(KIND, obj["metadata"]["name"], "team")
        await asyncio.sleep(1)
        async with AsyncExitStack() as stack:
            for controller in world.controllers:
                await stack.enter_async_context(background(controller.run(world.host), name="again"))
            await asyncio.sleep(5)
            reconciler = publisher_of(world)
            for table in (reconciler._given, reconciler._nonsense, reconciler._rivals._kept):
                assert [str(item) for item in table] == ["fast@zone=a"]
