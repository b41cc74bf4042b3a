"""Which segments nodes and their registrations form, and when they are looked at again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.config import NodeSettings
from csisidecar.csi import NodeInfo
from csisidecar.plugins.provisioner.capacity.segments import ClusterSegments
from tests.plugins.provisioner.capacity.rooms import (
    LATE,
    add_kind,
    add_node,
    asked,
    asked_about,
    names,
    quiet_world,
    relabel,
    room_world,
    room_writes,
    rooms,
)
from tests.plugins.provisioner.world import DRIVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.plugins.provisioner.world import World

pytestmark = [pytest.mark.looptime, pytest.mark.timeout(120)]


def places(world: World) -> set[str]:
    """The segments that have an object."""
    return {place for _, place in rooms(world)}


def add_bare_node(world: World, name: str, **labels: str) -> None:
    world.api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})


def register(world: World, name: str, *drivers: dict[str, Any]) -> None:
    body = {"metadata": {"name": name}, "spec": {"drivers": list(drivers)}}
    world.api.create({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", **body})


def drivers(*entries: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    return lambda obj: obj["spec"].update(drivers=list(entries))


def entry(node: str, *keys: str, driver: str = DRIVER) -> dict[str, Any]:
    return {"name": driver, "nodeID": node, "topologyKeys": list(keys)}


@pytest.mark.parity("T-ROOM-08")
async def test_nodes_that_lack_a_label_a_registration_or_agreement_form_the_segments_they_can() -> None:
    world = room_world()
    add_node(world, "n1", ("zone",), zone="a")
    add_node(world, "n2", ("zone", "rack"), zone="b", rack="r")
    add_node(world, "n3", ("zone", "rack"), zone="c")
    world.api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n4", "labels": {"zone": "d"}}})
    world.api.create(
        {"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": "n4"}, "spec": {"drivers": []}}
    )
    world.add_class(**LATE)
    async with world.running():
        await asyncio.sleep(1)
        assert set(rooms(world)) == {("fast", "zone=a"), ("fast", "rack=r,zone=b")}
        world.api.edit("nodes", "n3", lambda obj: obj["metadata"]["labels"].update(rack="r3"))
        await asyncio.sleep(1)
        assert ("fast", "rack=r3,zone=c") in rooms(world)


@pytest.mark.parity("T-SEGMENT-01")
async def test_node_counts_from_its_registration_on_and_no_longer() -> None:
    world = quiet_world(zones="a")
    async with world.running():
        add_bare_node(world, "n2", zone="b")
        await asyncio.sleep(1)
        assert places(world) == {"zone=a"}
        register(world, "n2", entry("n2", "zone"))
        await asyncio.sleep(1)
        assert places(world) == {"zone=a", "zone=b"}
        world.api.delete("csinodes", "n2")
        await asyncio.sleep(1)
        assert places(world) == {"zone=a"}


@pytest.mark.parity("T-SEGMENT-02")
async def test_registration_without_a_node_waits_for_it() -> None:
    world = quiet_world(zones="a")
    register(world, "n2", entry("n2", "zone"))
    async with world.running():
        await asyncio.sleep(1)
        assert places(world) == {"zone=a"}
        add_bare_node(world, "n2", zone="b")
        await asyncio.sleep(1)
        assert places(world) == {"zone=a", "zone=b"}


@pytest.mark.parity("T-SEGMENT-03")
async def test_registration_of_another_driver_does_not_count() -> None:
    world = quiet_world(zones="a")
    add_bare_node(world, "n2", zone="b", disk="d")
    register(world, "n2", entry("n2", "zone", driver="other.io"))
    async with world.running():
        await asyncio.sleep(1)
        assert places(world) == {"zone=a"}
        before = len(world.wire.requests)
        world.api.edit("csinodes", "n2", drivers())
        await asyncio.sleep(1)
        assert len(world.wire.requests) == before
    assert asked(world) == 1


@pytest.mark.parity("T-SEGMENT-04")
async def test_node_that_lacks_a_label_forms_no_segment_until_it_has_it() -> None:
    world = quiet_world(zones="a")
    add_node(world, "n2", ("zone", "rack"), zone="b")
    async with world.running():
        await asyncio.sleep(1)
        assert places(world) == {"zone=a"}
        world.api.edit("nodes", "n2", lambda obj: obj["metadata"]["labels"].update(rack="r"))
        await asyncio.sleep(1)
        assert places(world) == {"zone=a", "rack=r,zone=b"}


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(None, id="absent", marks=pytest.mark.parity("T-SEGMENT-05")),
        pytest.param((), id="empty", marks=pytest.mark.parity("T-SEGMENT-06")),
    ],
)
async def test_registration_without_keys_is_the_one_segment_that_is_everywhere(keys: tuple[str, ...] | None) -> None:
    world = room_world(poll_interval_s=7200.0)
    for name in ("n1", "n2"):
        add_node(world, name, keys, zone=name)
    add_kind(world, "fast")
    await world.run(seconds=1)
    assert rooms(world) == {("fast", ""): "100Gi"}
    assert asked_about(world) == ["fast@"]


def keyless_told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The nodes that each warning names."""
    return [vars(record)["nodes"] for record in caplog.records if "without topology keys on some" in record.message]


@pytest.mark.parity("T-SEGMENT-15")
async def test_nodes_without_keys_among_nodes_with_keys_are_warned_of_once_a_change(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = quiet_world(zones="a")
    add_node(world, "n2", (), zone="b")
    async with world.running():
        await asyncio.sleep(1)
        assert places(world) == {"zone=a", ""}
        assert keyless_told(caplog) == ["n2"]
        world.api.edit("nodes", "n1", relabel("c"))
        await asyncio.sleep(1)
        assert keyless_told(caplog) == ["n2"]
        for number in range(3, 15):
            add_node(world, f"n{number:02}", ())
        await asyncio.sleep(1)
        assert keyless_told(caplog)[-1] == "n03, n04, n05, n06, n07, n08, n09, n10, n11, n12 and 3 more"
        told = len(keyless_told(caplog))
        world.api.edit("csinodes", "n1", drivers())
        await asyncio.sleep(1)
        assert len(keyless_told(caplog)) == told, "nobody has keys any more"
        assert places(world) == {""}


@pytest.mark.parity("T-SEGMENT-07")
async def test_no_registration_is_not_the_same_as_one_without_keys() -> None:
    world = room_world(poll_interval_s=7200.0)
    add_node(world, "n1", ())
    add_kind(world, "fast")
    async with world.running():
        await asyncio.sleep(1)
        assert places(world) == {""}
        world.api.edit("csinodes", "n1", drivers())
        await asyncio.sleep(1)
        assert places(world) == set()
        world.api.edit("csinodes", "n1", drivers({"name": DRIVER, "nodeID": "n1"}))
        await asyncio.sleep(1)
        assert places(world) == {""}


@pytest.mark.parity("T-SEGMENT-08")
async def test_the_order_of_keys_makes_no_other_segment_and_asks_nothing() -> None:
    world = room_world(poll_interval_s=7200.0)
    add_node(world, "n1", ("zone", "rack"), zone="a", rack="r")
    add_node(world, "n2", ("rack", "zone"), zone="a", rack="r")
    add_kind(world, "fast")
    async with world.running():
        await asyncio.sleep(1)
        add_node(world, "n3", ("rack", "zone"), zone="a", rack="r")
        await asyncio.sleep(1)
    assert places(world) == {"rack=r,zone=a"}
    assert asked_about(world) == ["fast@r,a"]


@pytest.mark.parity("T-SEGMENT-09")
async def test_segment_of_several_nodes_stays_until_the_last_of_them_goes() -> None:
    world = quiet_world(zones="a")
    add_node(world, "n2", zone="a")
    async with world.running():
        await asyncio.sleep(1)
        (name,) = names(world)
        world.api.delete("nodes", "n1")
        await asyncio.sleep(1)
        assert names(world) == {name}
        world.api.delete("nodes", "n2")
        await asyncio.sleep(1)
        assert names(world) == set()
    assert asked(world) == 1


@pytest.mark.parity("T-SEGMENT-10")
async def test_driver_that_registers_with_other_keys_has_other_segments() -> None:
    world = room_world(poll_interval_s=7200.0)
    add_node(world, "n1", zone="a", rack="r")
    add_kind(world, "fast")
    async with world.running():
        await asyncio.sleep(1)
        # An entry cannot be changed, only taken out and put in again.
        world.api.edit("csinodes", "n1", drivers())
        world.api.edit("csinodes", "n1", drivers(entry("n1", "rack", "zone")))
        await asyncio.sleep(1)
    assert places(world) == {"rack=r,zone=a"}
    assert asked_about(world) == ["fast@a", "fast@r,a"]


@pytest.mark.parity("T-SEGMENT-11")
async def test_node_that_is_given_another_value_moves() -> None:
    world = quiet_world(zones="a")
    async with world.running():
        await asyncio.sleep(1)
        world.api.edit("nodes", "n1", relabel("b"))
        await asyncio.sleep(1)
    assert places(world) == {"zone=b"}
    assert room_writes(world) in (["create", "create", "delete"], ["create", "delete", "create"])


@pytest.mark.parity("T-SEGMENT-12")
async def test_burst_of_changes_is_looked_at_once_or_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    real = ClusterSegments.refresh

    def refresh(self: ClusterSegments) -> frozenset[Any]:
        looks.append(1)
        return real(self)

    monkeypatch.setattr(ClusterSegments, "refresh", refresh)
    world = quiet_world(zones="a")
    async with world.running():
        await asyncio.sleep(1)
        looks.clear()
        world.wire.blind |= {"nodes", "csinodes"}
        for number in range(50):
            add_node(world, f"more{number}", zone=f"z{number}")
        await asyncio.sleep(1)
        world.wire.blind.clear()
        await asyncio.sleep(1)
        assert len(rooms(world)) == 51
    assert 1 <= len(looks) <= 5


@pytest.mark.parity("T-SEGMENT-13")
async def test_segments_form_where_volumes_are_made_without_topology_too() -> None:
    world = quiet_world(plugin=frozenset({"CONTROLLER_SERVICE"}))
    world.settings = replace(world.settings, topology=False)
    world.plugin = type(world.plugin)(world.settings)
    await world.run(seconds=1)
    assert places(world) == {"zone=a", "zone=b"}
    assert asked_about(world) == ["fast@a", "fast@b"]


@pytest.mark.parity("T-SEGMENT-14")
async def test_one_node_of_a_driver_without_topology_is_the_segment_that_is_everywhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = quiet_world(zones="", plugin=frozenset({"CONTROLLER_SERVICE"}))
    world.settings = replace(world.settings, node=NodeSettings(name="n1"))
    world.plugin = type(world.plugin)(world.settings)
    world.node = NodeInfo(node_id="n1")
    await world.run(seconds=1)
    assert rooms(world) == {("fast", ""): "100Gi"}
    assert asked_about(world) == ["fast@"]
    (told,) = [record for record in caplog.records if "published as the room of every node" in record.message]
    assert told.levelname == "WARNING"
