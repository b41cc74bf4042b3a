"""Accidents of the Go provisioner around capacity, each with what becomes of it here."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import msgspec
import pytest

from csisidecar.config import NodeSettings
from csisidecar.csi import NodeInfo
from csisidecar.kube import CSI_NODES, NODES, CSINode, Node
from csisidecar.plugins.provisioner.capacity.segments import ClusterSegments
from csisidecar.runtime import Change, Store, StoreWriter
from tests.plugins.provisioner.capacity.rooms import (
    LATE,
    add_node,
    asked,
    asked_about,
    gauges,
    load_room,
    names,
    nudge,
    pod,
    quiet_world,
    relabel,
    room_world,
    room_writes,
    rooms,
)
from tests.plugins.provisioner.world import CAPABILITIES, DRIVER

pytestmark = [pytest.mark.looptime, pytest.mark.timeout(120)]


@pytest.mark.parity("T-QUIRK-06")
async def test_driver_that_does_not_declare_get_capacity_is_told_once_and_asked_again_and_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = quiet_world(zones="a")
    world.controller = CAPABILITIES
    world.driver.settings = replace(world.driver.settings, controller_capabilities=CAPABILITIES)
    async with world.running():
        await asyncio.sleep(40)
        times = [round(call.started_s) for call in world.driver.calls("GetCapacity")]
        assert times == [0, 1, 3, 7, 15, 23, 31, 39]
        assert rooms(world) == {}
        more = CAPABILITIES | {"GET_CAPACITY"}
        world.driver.settings = replace(world.driver.settings, controller_capabilities=more)
        await asyncio.sleep(10)
        assert len(rooms(world)) == 1
    told = [record for record in caplog.records if "does not declare GET_CAPACITY" in record.getMessage()]
    assert [record.levelno for record in told] == [logging.WARNING]


@pytest.mark.parity("T-QUIRK-07")
@pytest.mark.parametrize("keys", [None, ()])
async def test_driver_without_keys_is_asked_without_a_topology(keys: tuple[str, ...] | None) -> None:
    world = room_world()
    world.driver.settings = replace(world.driver.settings, topology={}, places=())
    add_node(world, "n1", keys, zone="a")
    world.add_class(**LATE)
    await world.run()
    (call,) = world.calls("GetCapacity")
    assert call.accessible_topology is None


@pytest.mark.parity("T-QUIRK-08")
async def test_nodes_of_one_segment_are_one_segment_however_often_they_are_looked_at() -> None:
    world = quiet_world(zones="a")
    for number in range(2, 6):
        add_node(world, f"n{number}", zone="a")
    async with world.running():
        for number in range(5):
            await asyncio.sleep(1)
            world.api.edit("nodes", f"n{number + 1}", relabel("a"))
            add_node(world, f"more{number}", zone="a")
        await asyncio.sleep(1)
        assert gauges(world) == (1, 1, 0)
        nudge(world)
        await asyncio.sleep(1)
    assert asked_about(world) == ["fast@a", "fast@a"]


@pytest.mark.parity("T-QUIRK-09")
async def test_segment_of_one_node_is_found_again_by_its_volumes_whatever_the_order_of_its_keys() -> None:
    world = quiet_world(zones="")
    place = {"zone": "a", "rack": "r"}
    world.settings = replace(world.settings, node=NodeSettings(name="n1"))
    world.plugin = type(world.plugin)(world.settings)
    world.node = NodeInfo(node_id="n1", segments=place)
    world.driver.settings = replace(world.driver.settings, places=(place,))
    async with world.running():
        await asyncio.sleep(1)
        uid = world.add_claim(annotations={"volume.kubernetes.io/selected-node": "n1"})
        await asyncio.sleep(1)
        assert world.volume(uid)
        assert rooms(world) == {("fast", "rack=r,zone=a"): "99Gi"}
    assert asked_about(world)[-1] == "fast@r,a"


@pytest.mark.parity("T-ROOM-07", "T-QUIRK-10")
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


@pytest.mark.parity("T-QUIRK-11")
async def test_work_that_is_asked_for_ten_times_is_done_once_more() -> None:
    world = quiet_world(zones="a", threads=4)
    world.driver.trouble.add("GetCapacity:delay=3")
    async with world.running():
        await asyncio.sleep(1)
        for _ in range(10):
            nudge(world)
            await asyncio.sleep(0.1)
        await asyncio.sleep(60)
    assert asked(world) == 2
    assert room_writes(world) == ["create"]


@pytest.mark.parity("T-QUIRK-11")
async def test_polls_of_an_object_that_keeps_failing_do_not_pile_up() -> None:
    world = quiet_world(zones="a", poll_interval_s=0.2)
    world.driver.trouble.add("GetCapacity:Internal=no idea")
    await world.run(seconds=4)
    early = asked(world)
    await world.run(seconds=20)
    assert early <= 25
    assert asked(world) - early <= 6 * early


@pytest.mark.parity("T-QUIRK-12")
async def test_object_with_another_controller_keeps_it_and_is_refreshed_all_the_same() -> None:
    world = quiet_world(zones="a", ownerref_level=0, pod_name="me")
    theirs = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "old", "uid": "u-1", "controller": True}
    world.api.create(pod("me", None))
    load_room(world, "found", capacity="1Gi")
    world.api.edit(
        "csistoragecapacities", "found", lambda obj: obj["metadata"].update(ownerReferences=[theirs]), "team"
    )
    async with world.running():
        await asyncio.sleep(1)
        nudge(world)
        await asyncio.sleep(60)
    (obj,) = world.api.list("csistoragecapacities")
    assert obj["metadata"]["ownerReferences"] == [theirs]
    assert obj["capacity"] == "100Gi"
    assert room_writes(world) == ["update"]


@pytest.mark.parity("T-QUIRK-13")
async def test_object_without_an_amount_is_given_one() -> None:
    world = quiet_world(zones="a")
    load_room(world, "found")
    await world.run()
    assert names(world) == {"found"}
    assert rooms(world) == {("fast", "zone=a"): "100Gi"}
    assert room_writes(world) == ["update"]


@pytest.mark.parity("T-ROOM-12", "T-QUIRK-17")
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


@pytest.mark.parity("T-QUIRK-18")
async def test_stored_csi_node_is_not_changed_so_that_equal_keys_are_no_change() -> None:
    csi_nodes, nodes = Store[CSINode](CSI_NODES), Store[Node](NODES)
    entry = {"name": DRIVER, "nodeID": "n1", "topologyKeys": ["zone", "rack"]}

    def registered(version: str) -> CSINode:
        meta = {"name": "n1", "uid": "u", "resourceVersion": version}
        return msgspec.convert({"metadata": meta, "spec": {"drivers": [entry]}}, CSINode)

    before, after = registered("1"), registered("2")
    StoreWriter(csi_nodes).apply(before)
    meta = {"name": "n1", "uid": "n", "resourceVersion": "1", "labels": {"zone": "a", "rack": "r"}}
    StoreWriter(nodes).apply(msgspec.convert({"metadata": meta}, Node))
    segments = ClusterSegments(DRIVER, csi_nodes, nodes)
    assert segments.current == {(("rack", "r"), ("zone", "a"))}
    (stored,) = csi_nodes.values()
    found = stored.find_driver(DRIVER)
    assert found is not None
    assert list(found.topology_keys or ()) == ["zone", "rack"]
    assert not segments.may_change_with_csi_node(Change(before, after))
