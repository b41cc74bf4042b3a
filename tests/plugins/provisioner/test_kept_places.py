"""The places of a claim whose CreateVolume has no final answer yet: what keeps them, and what does not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.plugins.provisioner import Provisioner
from tests.plugins.provisioner.test_data_sources import add_source_claim
from tests.plugins.provisioner.test_places import (
    LATE,
    SELECTED,
    add_node,
    place_world,
    places_of,
    select,
    selected_node,
)
from tests.plugins.provisioner.world import CAPABILITIES, claim_ref

if TYPE_CHECKING:
    from tests.plugins.provisioner.world import World

pytestmark = pytest.mark.looptime

KEPT = ("a b c", "b c a")
"""Zones for a claim on n1 while there are n1 to n3."""
ANEW = ("a b", "b a")
"""The same when n3 is gone."""


def kept_world(*orders: str, **more: Any) -> tuple[World, str]:
    """A claim on n1 whose calls end as ordered; `more`: fields of the class."""
    world = place_world()
    world.add_class(**LATE, **more)
    world.driver.order(*orders)
    return world, world.add_claim(annotations={SELECTED: "n1"})


def lose_nodes(world: World, *names: str) -> None:
    """Nodes and CSINodes are gone, so that whoever looks again is told something else or nothing."""
    for name in names:
        world.api.delete("nodes", name)
        world.api.delete("csinodes", name)


def places(world: World) -> list[tuple[str, str] | None]:
    return [places_of(call) for call in world.calls()]


def start_another_process(world: World) -> None:
    """What comes next on this world knows nothing of what was before."""
    world.plugin = Provisioner(world.settings)


@pytest.mark.parity("T-LIFE-38")
@pytest.mark.parametrize("spoiled", ["small", "empty", "nosource"])
async def test_answer_that_cannot_be_used_is_no_final_one(spoiled: str) -> None:
    """Too small a volume, none at all, one without the wanted content."""
    world = place_world(
        controller=CAPABILITIES | {"CLONE_VOLUME"}, retry_interval_start_s=5.0, retry_interval_max_s=5.0
    )
    world.add_class()
    await add_source_claim(world)
    # Two, as the source is protected during the first, which wakes the claim.
    world.driver.order("CreateVolume:Unavailable=busy x1", f"CreateVolume:{spoiled} x1")
    source = {"kind": "PersistentVolumeClaim", "name": "old"}
    uid = world.add_claim(annotations={SELECTED: "n1"}, dataSource=source)
    async with world.running():
        await asyncio.sleep(0.5)
        assert len(world.calls()) < 3
        lose_nodes(world, "n1", "n3")
        await asyncio.sleep(12)
    assert places(world) == [KEPT] * 3
    assert world.volume(uid)["spec"]["claimRef"]["uid"] == uid


@pytest.mark.parity("T-LIFE-39")
async def test_failure_before_a_later_call_keeps_what_the_first_one_said() -> None:
    """Only the content of the Secret is read again, as an expired login must not hold up what is being made."""
    login = {
        "csi.storage.k8s.io/provisioner-secret-name": "login",
        "csi.storage.k8s.io/provisioner-secret-namespace": "team",
    }
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login", "namespace": "team"}}
    world, uid = kept_world("CreateVolume:Unavailable=busy x1", parameters=login)
    world.api.create({**secret, "data": {"password": "b2xk"}})
    async with world.running():
        await asyncio.sleep(0.5)
        world.api.delete("secrets", "login", "team")
        lose_nodes(world, "n1", "n3")
        await asyncio.sleep(30)
        assert len(world.calls()) == 1
        assert uid in world.plugin._memory.in_progress
        world.api.create({**secret, "data": {"password": "bmV3"}})
        await asyncio.sleep(20)
    first, second = world.calls()
    assert bytes(first.accessibility_requirements) == bytes(second.accessibility_requirements)
    assert [first.secrets, second.secrets] == [{"password": "old"}, {"password": "new"}]


@pytest.mark.parity("T-LIFE-40")
async def test_failure_before_the_first_call_keeps_nothing() -> None:
    """The node was not labeled, and its driver comes back with another key: what was seen before does not count."""
    world = place_world()
    world.add_class(**LATE)
    world.api.edit("nodes", "n1", lambda obj: obj["metadata"].update(labels={"rack": "r1"}))
    world.add_claim(annotations={SELECTED: "n1"})
    async with world.running():
        await asyncio.sleep(0.5)
        assert "does not match topology keys from CSINode [zone]" in world.warnings()[0]
        assert world.plugin._memory.in_progress == {}
        world.api.delete("csinodes", "n1")
        world.api.delete("nodes", "n1")
        add_node(world, "n1", ("rack",), rack="r1")
        await asyncio.sleep(5)
    (call, *_) = world.calls()
    assert [term.segments for term in call.accessibility_requirements.requisite] == [{"rack": "r1"}]


@pytest.mark.parity("T-LIFE-41")
@pytest.mark.parametrize("ending", ["Aborted=busy x1", "hang x1", "cut x1"])
async def test_new_reign_of_the_same_process_repeats_the_call_of_the_last_one(ending: str) -> None:
    """The Lease is lost and won again, the driver goes and comes back: with an answer, in mid-air, by the connection.

    The controllers are built anew each time; what they know about claims is the plugin's.
    """
    world, uid = kept_world(f"CreateVolume:{ending}")
    await world.run(seconds=0.5)
    lose_nodes(world, "n1", "n3")
    select(world, "n2")
    await world.run(seconds=0.5)
    assert places(world) == [KEPT, KEPT]
    assert len({bytes(call) for call in world.calls()}) == 1
    assert world.volume(uid)["spec"]["claimRef"]["uid"] == uid


@pytest.mark.parity("T-LIFE-42")
async def test_new_process_knows_nothing_and_looks_the_places_up() -> None:
    """The name is the same, so that a driver that has made the volume gives that one, and its own place is believed."""
    world, uid = kept_world("CreateVolume:late x1")
    await world.run(seconds=0.5)
    assert len(world.driver.volumes) == 1
    lose_nodes(world, "n3")
    select(world, "n2")
    start_another_process(world)
    await world.run(seconds=0.5)
    assert places(world) == [KEPT, ("a b", "a b")]
    assert len(world.driver.volumes) == 1
    (term,) = world.volume(uid)["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term == {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}


@pytest.mark.parity("T-LIFE-43")
async def test_process_that_leads_again_repeats_its_own_call_not_that_of_the_leader_between() -> None:
    """Neither knows of the other; the older places get their final answer first, and then the newer ones count."""
    world, uid = kept_world("CreateVolume:Unavailable=busy x2", "CreateVolume:ResourceExhausted=full x1")
    first = world.plugin
    await world.run(seconds=0.5)
    lose_nodes(world, "n3")
    start_another_process(world)
    await world.run(seconds=0.5)
    world.plugin = first
    async with world.running():
        await asyncio.sleep(0.5)
        assert places(world) == [KEPT, ANEW, KEPT]
        assert selected_node(world) is None
        select(world, "n1")
        await asyncio.sleep(0.5)
    assert places(world)[3:] == [ANEW]
    assert world.volume(uid)["spec"]["claimRef"]["uid"] == uid


@pytest.mark.parity("T-LIFE-44")
async def test_throttling_told_as_exhaustion_costs_node_and_places_but_not_the_volume_that_was_begun() -> None:
    """The cloud makes the volume and is slow, then throttles the driver, which says ResourceExhausted.

    The scheduler chooses another node. The driver finds the volume by its name and says where it is: the PV is true,
    and the pod, told by its affinity, goes there or waits.
    """
    world, uid = kept_world("CreateVolume:late=DeadlineExceeded x1", "CreateVolume:ResourceExhausted=throttled x1")
    async with world.running():
        await asyncio.sleep(2)
        assert places(world) == [KEPT, KEPT]
        assert selected_node(world) is None
        select(world, "n2")
        await asyncio.sleep(0.5)
    assert places(world)[2:] == [("a b c", "a b c")]
    assert len(world.driver.volumes) == 1
    (term,) = world.volume(uid)["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"][0]["values"] == ["b"]


@pytest.mark.parity("T-LIFE-45")
async def test_claim_that_is_bound_to_another_volume_while_its_own_is_made_leaves_none_behind() -> None:
    """The call is repeated to its end; the binder releases what nobody needs, and it is deleted."""
    world, uid = kept_world("CreateVolume:late=DeadlineExceeded x1")
    async with world.running():
        await asyncio.sleep(0.5)
        assert len(world.driver.volumes) == 1
        world.add_volume("by-hand", phase="Bound", policy="Retain", spec={"claimRef": claim_ref(uid)})
        world.api.edit("persistentvolumeclaims", "data", lambda obj: obj["spec"].update(volumeName="by-hand"), "team")
        await asyncio.sleep(5)
        assert len(world.calls()) == 2
        assert len({bytes(call) for call in world.calls()}) == 1
        world.set_phase("persistentvolumes", f"pvc-{uid}", "Released")
        await asyncio.sleep(1)
    assert world.driver.volumes == {}
    assert len(world.calls()) == 2
