"""One provisioner a node: who takes a claim, who lets it go, and whose volumes are whose."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from csisidecar.config import CapacitySettings, NodeSettings, ProvisionerSettings, RateConfig
from csisidecar.csi import NodeInfo
from csisidecar.errors import ConfigError
from csisidecar.plugins.provisioner.node_local import competing_delay_s, manager_name
from tests.plugins.provisioner.world import CAPABILITIES, DRIVER, GIB, World

SELECTED = "volume.kubernetes.io/selected-node"
PLACES = frozenset({"CONTROLLER_SERVICE", "VOLUME_ACCESSIBILITY_CONSTRAINTS"})
NOW = {"volumeBindingMode": "Immediate"}
LATE = {"volumeBindingMode": "WaitForFirstConsumer"}
KEY = "topology.test/node"


def node_world(
    name: str,
    of: World | None = None,
    *,
    places: bool = True,
    capacity: CapacitySettings | None = None,
    can_tell_room: bool = True,
    **node: Any,
) -> World:
    """The provisioner of one node; `of` is another whose API server it shares."""
    settings = ProvisionerSettings(
        node=NodeSettings(name=name, **{"base_delay_s": 0.2, "max_delay_s": 2.0, **node}),
        capacity=capacity,
        retry_interval_max_s=4,
    )
    segments = {KEY: name} if places else {}
    world = World(
        settings=settings,
        plugin_capabilities=PLACES if places else frozenset({"CONTROLLER_SERVICE"}),
        controller=CAPABILITIES | ({"GET_CAPACITY"} if can_tell_room else set()),
        topology=segments,
        node=NodeInfo(node_id=f"id-{name}", segments=segments or None),
    )
    if of is not None:
        world.clock, world.wire, world.api = of.clock, of.wire, of.api
    return world


def owner(world: World, name: str = "data") -> str | None:
    claim = world.api.get("persistentvolumeclaims", name, "team")
    assert claim is not None
    found: str | None = claim["metadata"].get("annotations", {}).get(SELECTED)
    return found


@pytest.mark.parity("T-NODE-13")
@pytest.mark.parametrize(
    ("node", "name"),
    [
        ("node01", "external-provisioner-node01"),
        ("node" + 38 * "a", "external-provisioner-node" + 38 * "a"),
        ("node" + 39 * "a", "external-p-53f40b57-node" + 39 * "a"),
        ("node" + 48 * "a", "e-53f40b57-node" + 48 * "a"),
        ("node" + 49 * "a", "external-provisioner-a3607ff1"),
        ("node" + 63 * "a", "external-provisioner-df38e37f"),
    ],
)
def test_manager_of_capacity_objects_is_named_after_its_node(node: str, name: str) -> None:
    assert manager_name(node) == name
    assert len(name) <= 63


@pytest.mark.parity("T-NODE-03")
def test_wait_before_competing_doubles_up_to_its_cap_and_is_spread_by_the_first_wait() -> None:
    def bounds(attempts: int) -> tuple[float, float]:
        return tuple(competing_delay_s(attempts, 20, 60, spread) for spread in (1.0, 0.0))  # type: ignore[return-value]

    assert [bounds(attempts) for attempts in (0, 1, 2, 3, 9999)] == [(0, 20), (20, 40), (40, 60), (40, 60), (40, 60)]


@pytest.mark.parity("T-NODE-01")
@pytest.mark.looptime
@pytest.mark.parametrize(
    ("selected", "storage_class", "node", "wanted"),
    [
        ("n1", LATE, {}, 1),
        ("n2", LATE, {}, 0),
        ("", LATE, {}, 0),
        ("n1", NOW, {}, 1),
        ("n2", NOW, {}, 0),
        ("", NOW, {}, 1),
        ("", NOW, {"immediate_binding": False}, 0),
        ("", {**NOW, "allowedTopologies": "n1"}, {}, 1),
        ("", {**NOW, "allowedTopologies": "n2"}, {}, 0),
    ],
)
async def test_who_provisions(selected: str, storage_class: dict[str, Any], node: dict[str, Any], wanted: int) -> None:
    world = node_world("n1", **node)
    more = dict(storage_class)
    if "allowedTopologies" in more:
        more["allowedTopologies"] = [{"matchLabelExpressions": [{"key": KEY, "values": [more["allowedTopologies"]]}]}]
    world.add_class(**more)
    world.add_claim(annotations={SELECTED: selected} if selected else {})
    await world.run(seconds=10)
    assert len(world.calls()) == wanted
    if wanted:
        assert owner(world) == "n1"
        (asked,) = world.calls()
        assert [place.segments for place in asked.accessibility_requirements.requisite] == [{KEY: "n1"}]
    else:
        assert world.events() == []
        assert world.wire.requests == []
        assert list(world.driver.ledger) == []


@pytest.mark.parity("T-NODE-02")
@pytest.mark.looptime
async def test_every_claim_of_thirty_is_made_by_one_of_three_nodes_and_the_losers_are_silent() -> None:
    first = node_world("n1")
    worlds = [first, node_world("n2", first), node_world("n3", first)]
    first.add_class(**NOW)
    for number in range(30):
        first.add_claim(f"c{number}")
    async with AsyncExitStack() as stack:
        for world in worlds:
            await stack.enter_async_context(world.running())
        await asyncio.sleep(30)
    made = [call.name for world in worlds for call in world.calls()]
    assert len(made) == len(set(made)) == 30
    assert len(first.api.list("persistentvolumes")) == 30
    puts = [line for line in first.writes() if line == "update persistentvolumeclaims"]
    assert len(puts) >= 30
    for world, name in zip(worlds, ("n1", "n2", "n3"), strict=True):
        mine = {number for number in range(30) if owner(world, f"c{number}") == name}
        assert len(world.calls()) == len(mine)


@pytest.mark.parity("T-NODE-05")
@pytest.mark.looptime
async def test_node_that_ran_out_of_room_gives_the_claim_to_one_that_has_some() -> None:
    first = node_world("n1", can_tell_room=False)
    second = node_world("n2", first, base_delay_s=3.0, max_delay_s=6.0)
    first.driver.settings = replace(first.driver.settings, total_bytes=0)
    first.add_class(**NOW)
    uid = first.add_claim()
    async with first.running(), second.running():
        await asyncio.sleep(25)
    assert owner(first) == "n2"
    assert first.volume(uid)
    assert len(first.calls()) >= 1
    assert len(second.calls()) == 1


@pytest.mark.parity("T-NODE-04")
@pytest.mark.looptime
async def test_claim_that_no_node_has_room_for_waits_without_a_call_and_is_taken_when_there_is_room() -> None:
    world = node_world("n1")
    world.driver.settings = replace(world.driver.settings, total_bytes=0)
    world.add_class(**NOW)
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(30)
        assert world.calls() == []
        assert world.events() == []
        assert owner(world) is None
        assert 5 < len(world.calls("GetCapacity")) < 30
        world.driver.settings = replace(world.driver.settings, total_bytes=100 * GIB)
        await asyncio.sleep(5)
    assert world.volume(uid)


@pytest.mark.parity("T-NODE-06")
@pytest.mark.looptime
async def test_room_is_asked_for_with_what_the_volume_would_be() -> None:
    world = node_world("n1")
    world.add_class(parameters={"kind": "ssd", "csi.storage.k8s.io/fstype": "xfs"}, **NOW)
    world.add_claim()
    await world.run(seconds=5)
    (asked,) = world.calls("GetCapacity")
    assert asked.parameters == {"kind": "ssd"}
    assert asked.accessible_topology.segments == {KEY: "n1"}
    assert asked.volume_capabilities[0].mount.fs_type == "xfs"


@pytest.mark.parity("T-NODE-07")
@pytest.mark.looptime
@pytest.mark.parametrize("can_tell", [True, False])
async def test_driver_that_cannot_tell_its_room_is_asked_for_the_volume(can_tell: bool) -> None:
    world = node_world("n1", can_tell_room=can_tell)
    world.driver.trouble.add("GetCapacity:Internal=no idea")
    world.add_class(**NOW)
    uid = world.add_claim()
    await world.run(seconds=5)
    assert world.volume(uid)
    assert len(world.calls("GetCapacity")) == (1 if can_tell else 0)


@pytest.mark.parity("T-NODE-08")
@pytest.mark.looptime
@pytest.mark.parametrize("places", [True, False])
async def test_driver_without_places_takes_claims_too(places: bool) -> None:
    world = node_world("n1", places=places)
    world.add_class(**NOW)
    uid = world.add_claim()
    await world.run(seconds=5)
    assert world.volume(uid)["spec"].get("nodeAffinity") is not None or not places
    assert owner(world) == "n1"


@pytest.mark.parity("T-NODE-09")
@pytest.mark.looptime
@pytest.mark.parametrize("status", [409, 403, 500, 0])
async def test_failed_write_is_tried_again_and_only_a_conflict_is_not_told(status: int) -> None:
    world = node_world("n1")
    world.refuse("update", "persistentvolumeclaims", status)
    world.add_class(**NOW)
    uid = world.add_claim()
    await world.run(seconds=10)
    assert world.volume(uid)
    told = [text for text in world.warnings() if 'selecting node "n1" for PVC failed' in text]
    assert len(told) == (0 if status == 409 else 1)


@pytest.mark.parity("T-NODE-10")
@pytest.mark.looptime
async def test_volume_is_deleted_by_the_node_that_can_reach_it() -> None:
    first = node_world("n1")
    second = node_world("n2", first)

    def here(name: str) -> dict[str, Any]:
        expression = {"key": KEY, "operator": "In", "values": [name]}
        return {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}}

    first.add_class(**LATE)
    first.add_volume("one", spec=here("n1"))
    first.add_volume("two", spec=here("n2"))
    first.add_volume("three", spec=here("n3"))
    async with first.running(), second.running():
        await asyncio.sleep(5)
    assert [call.volume_id for call in first.calls("DeleteVolume")] == ["handle-one"]
    assert [call.volume_id for call in second.calls("DeleteVolume")] == ["handle-two"]
    assert first.events() == []
    three = first.api.get("persistentvolumes", "three")
    assert three is not None
    assert "deletionTimestamp" not in three["metadata"]


@pytest.mark.parity("T-NODE-12")
@pytest.mark.looptime
async def test_each_node_publishes_its_own_room_and_watches_no_nodes() -> None:
    capacity = CapacitySettings(namespace="team", ownerref_level=-1, rate=RateConfig())
    first = node_world("n1", capacity=capacity)
    second = node_world("n2", first, capacity=capacity)
    first.add_class(**LATE)
    async with first.running(), second.running():
        await asyncio.sleep(2)
    found = {
        obj["metadata"]["labels"]["csi.storage.k8s.io/managed-by"]: obj["nodeTopology"]["matchLabels"]
        for obj in first.api.list("csistoragecapacities")
    }
    assert found == {"external-provisioner-n1": {KEY: "n1"}, "external-provisioner-n2": {KEY: "n2"}}


@pytest.mark.looptime
async def test_volumes_say_which_node_made_them() -> None:
    world = node_world("n1")
    world.add_class(**LATE)
    uid = world.add_claim(annotations={SELECTED: "n1"})
    await world.run()
    identity = world.volume(uid)["spec"]["csi"]["volumeAttributes"]["storage.kubernetes.io/csiProvisionerIdentity"]
    assert identity.endswith(f"-{DRIVER}-n1")


@pytest.mark.looptime
async def test_node_service_must_have_been_asked() -> None:
    world = node_world("n1")
    world.node = None
    with pytest.raises(ConfigError, match="node service"):
        await world.run()
