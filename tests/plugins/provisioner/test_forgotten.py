"""Nothing is remembered about a claim that is gone, whatever its end was."""

from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.config import NodeSettings, ProvisionerSettings
from csisidecar.csi import NodeInfo
from csisidecar.runtime import background
from tests.plugins.provisioner.nodes import NOW, is_bidding, node_world
from tests.plugins.provisioner.test_places import LATE, PLACES, SELECTED, add_node, place_world, select
from tests.plugins.provisioner.world import CAPABILITIES, World

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.looptime

CLONE = {"kind": "PersistentVolumeClaim", "name": "missing"}
PENDING = "csi_sidecar_oldest_pending_seconds"


def remembered(world: World) -> dict[str, Any]:
    """The tables of the provisioner's memory that are not empty."""
    memory = world.plugin._memory
    tables = {field.name: getattr(memory, field.name) for field in fields(memory) if field.name != "waits"}
    tables |= {"waits, seen": memory.waits._seen, "waits, by claim": memory.waits._by_claim}
    return {name: table for name, table in tables.items() if table}


async def made_and_bound(world: World) -> None:
    uid = world.add_claim(annotations={SELECTED: "n1"})
    await asyncio.sleep(0.5)
    world.bind(uid)


async def made_after_the_claim_was_deleted(world: World) -> None:
    world.driver.order("CreateVolume:late=DeadlineExceeded x2")
    world.add_claim(annotations={SELECTED: "n1"})
    await asyncio.sleep(0.5)


async def refused(world: World) -> None:
    world.driver.order("CreateVolume:Internal=no")
    world.add_claim(annotations={SELECTED: "n1"})
    await asyncio.sleep(4)


async def refused_after_the_claim_was_deleted(world: World) -> None:
    world.driver.order("CreateVolume:Unavailable=busy x3", "CreateVolume:Internal=no")
    world.add_claim(annotations={SELECTED: "n1"})
    await asyncio.sleep(0.5)


async def exhausted_after_the_claim_was_deleted(world: World) -> None:
    world.driver.order("CreateVolume:Unavailable=busy x3", "CreateVolume:ResourceExhausted=full")
    world.add_claim(annotations={SELECTED: "n1"})
    await asyncio.sleep(0.5)


async def infeasible(world: World) -> None:
    world.driver.order("CreateVolume:InvalidArgument=odd")
    world.add_claim(annotations={SELECTED: "n1"})
    await asyncio.sleep(4)


async def given_back(world: World) -> None:
    world.driver.order("CreateVolume:ResourceExhausted=full")
    world.add_claim(annotations={SELECTED: "n1"})
    await asyncio.sleep(4)


async def on_a_node_that_is_unknown(world: World) -> None:
    world.add_claim(annotations={SELECTED: "nowhere"})
    await asyncio.sleep(4)


async def on_a_node_without_labels(world: World) -> None:
    add_node(world, "n4")
    world.add_claim(annotations={SELECTED: "n4"})
    await asyncio.sleep(4)


async def without_a_source(world: World) -> None:
    world.add_claim(annotations={SELECTED: "n1"}, dataSource=CLONE)
    await asyncio.sleep(4)


async def without_a_class(world: World) -> None:
    world.add_claim(annotations={SELECTED: "n1"}, storageClassName="none")
    await asyncio.sleep(4)


async def of_another_provisioner_by_now(world: World) -> None:
    world.driver.order("CreateVolume:Internal=no")
    world.add_claim(annotations={SELECTED: "n1"})
    await asyncio.sleep(4)
    others = {"volume.kubernetes.io/storage-provisioner": "other.io"}
    world.api.edit("persistentvolumeclaims", "data", lambda obj: obj["metadata"]["annotations"].update(others), "team")


async def bound_to_another_volume(world: World) -> None:
    world.driver.order("CreateVolume:Unavailable=busy x2")
    world.add_claim(annotations={SELECTED: "n1"})
    await asyncio.sleep(0.5)
    world.api.edit("persistentvolumeclaims", "data", lambda obj: obj["spec"].update(volumeName="by-hand"), "team")
    await asyncio.sleep(5)


async def without_its_node_while_a_call_may_run(world: World) -> None:
    world.driver.order("CreateVolume:Unavailable=busy x1", "CreateVolume:Internal=no")
    world.add_claim(annotations={SELECTED: "n1"})
    await asyncio.sleep(0.5)
    world.api.edit("persistentvolumeclaims", "data", lambda obj: obj["metadata"]["annotations"].pop(SELECTED), "team")
    await asyncio.sleep(0.5)


LIVES = [
    made_and_bound,
    made_after_the_claim_was_deleted,
    refused,
    refused_after_the_claim_was_deleted,
    exhausted_after_the_claim_was_deleted,
    infeasible,
    given_back,
    on_a_node_that_is_unknown,
    on_a_node_without_labels,
    without_a_source,
    without_a_class,
    of_another_provisioner_by_now,
    bound_to_another_volume,
    without_its_node_while_a_call_may_run,
]


def life_world() -> World:
    world = place_world(controller=CAPABILITIES | {"CLONE_VOLUME"})
    world.add_class(**LATE)
    return world


@pytest.mark.parity("T-QUIRK-02")
@pytest.mark.parametrize("life", LIVES)
async def test_claim_that_is_gone_leaves_nothing_behind(life: Callable[[World], Awaitable[None]]) -> None:
    world = life_world()
    async with world.running():
        await life(world)
        world.drop_claim()
        await asyncio.sleep(15)
        assert remembered(world) == {}
        calls = len(world.calls())
        await asyncio.sleep(30)
        assert len(world.calls()) == calls


@pytest.mark.parity("T-LIFE-47")
@pytest.mark.parametrize("life", LIVES)
async def test_claim_that_goes_while_another_process_leads_leaves_nothing_behind(
    life: Callable[[World], Awaitable[None]],
) -> None:
    """No watch tells the next reign about a deletion that was before it."""
    world = life_world()
    async with world.running():
        await life(world)
    world.drop_claim()
    async with world.running():
        await asyncio.sleep(15)
        assert remembered(world) == {}


@pytest.mark.parity("T-LIFE-46")
async def test_node_that_does_not_own_a_claim_remembers_nothing_of_it() -> None:
    """One was given to another node from the start, one was competed for, in vain, as there was no room."""
    world = World(
        settings=ProvisionerSettings(node=NodeSettings(name="n1", base_delay_s=0.2, max_delay_s=2.0)),
        controller=CAPABILITIES | {"GET_CAPACITY"},
        plugin_capabilities=PLACES,
        topology={"zone": "b"},
        node=NodeInfo(node_id="id-n1", segments={"zone": "b"}),
    )
    world.driver.settings = replace(world.driver.settings, total_bytes=1)
    world.add_class(**LATE)
    world.add_class("now")
    world.add_claim("another", annotations={SELECTED: "n2"})
    world.add_claim(storageClassName="now")
    async with world.running():
        await asyncio.sleep(60)
        assert len(world.calls("GetCapacity")) > 1
        select(world, "n3")
        await asyncio.sleep(60)
        asked = len(world.calls("GetCapacity"))
        assert remembered(world) == {}
        await asyncio.sleep(60)
        assert len(world.calls("GetCapacity")) == asked
        (taker,) = [controller for controller in world.controllers if controller.name == "nodeowner"]
        assert vars(taker._reconciler)["_bids"] == {}
    assert world.calls() == []


async def test_volume_that_goes_while_another_process_leads_leaves_nothing_behind() -> None:
    """What is remembered of it is the age of the oldest pending deletion, which people are alerted by."""
    world = life_world()
    world.driver.order("DeleteVolume:Internal=no x99")
    world.add_volume("old")
    async with world.running():
        await asyncio.sleep(5)
        assert world.numbers.gauges[PENDING, "delete"]() == pytest.approx(5, abs=1)
        assert await world.drain(5)
        world.api.edit("persistentvolumes", "old", lambda obj: obj["metadata"].update(finalizers=[]))
        world.api.delete("persistentvolumes", "old")
        await asyncio.sleep(1)
        assert world.numbers.gauges[PENDING, "delete"]() == 0
    async with world.running():
        await asyncio.sleep(1)
        assert remembered(world) == {}


async def test_claim_that_another_process_served_is_not_pending_here() -> None:
    world = life_world()
    world.driver.order("CreateVolume:Internal=no x99")
    uid = world.add_claim(annotations={SELECTED: "n1"})
    async with world.running():
        await asyncio.sleep(5)
        assert world.numbers.gauges[PENDING, "provision"]() == pytest.approx(5, abs=1)
        assert await world.drain(5)
        world.add_volume(f"pvc-{uid}", phase="Bound")
        world.bind(uid)
        await asyncio.sleep(1)
        assert world.numbers.gauges[PENDING, "provision"]() == 0


async def test_node_remembers_no_claim_that_went_while_its_provisioner_rested() -> None:
    world = node_world("n1")
    world.driver.settings = replace(world.driver.settings, total_bytes=1)
    world.add_class(**NOW)
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(5)
        assert is_bidding(world, uid)
        (taker,) = [each for each in world.controllers if each.name == "nodeowner"]
        (at,) = [at for at, each in enumerate(world.controllers) if each is taker]
        world.tasks[at].cancel()
        await asyncio.sleep(1)
        world.drop_claim()
        await asyncio.sleep(1)
        async with background(taker.run(world.host), name="again"):
            await asyncio.sleep(1)
            assert not is_bidding(world, uid)
