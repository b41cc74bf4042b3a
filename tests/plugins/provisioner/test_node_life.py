"""A node reboots, loses its driver, is not labeled yet, is deleted: what that does to claims and to published room.

Six things that happen to a node, by three who might care: a claim that no node was selected for, a claim with that
node selected, and the capacity objects of a central provisioner.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.config import CapacitySettings, ProvisionerSettings, RateConfig
from tests.plugins.provisioner.test_places import LATE, PLACES, SELECTED, add_node, place_world, places_of, select
from tests.plugins.provisioner.test_places import selected_node as selected_node_of
from tests.plugins.provisioner.world import CAPABILITIES, DRIVER, GIB, World

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.looptime

EVERYWHERE = ("a b c", "b c a")
"""Zones of the requisite and preferred terms for a claim on n1, which is in zone b."""
NO_KEYS = "error generating accessibility requirements: no topology key found for node n1"
NO_LABELS = (
    "error generating accessibility requirements: topology labels from selected node map[] does not match topology"
    " keys from CSINode [zone]"
)


# ---- what happens to nodes


def reboot(world: World, name: str = "n1") -> None:
    """Not ready, and ready again: other conditions, a new boot id, and nothing that says where the node is."""
    for ready in ("Unknown", "False", "True"):

        def change(obj: dict[str, Any], ready: str = ready) -> None:
            obj["status"] = {
                "conditions": [{"type": "Ready", "status": ready}],
                "nodeInfo": {"bootID": f"boot-{ready}"},
            }

        world.api.edit("nodes", name, change, subresource="status")


def reboot_all(world: World) -> None:
    """One after the other."""
    for name in ("n1", "n2", "n3"):
        reboot(world, name)


def register(world: World, name: str = "n1", *, is_there: bool = True) -> None:
    """The kubelet writes the driver into the CSINode, or drops it from there."""
    drivers = [{"name": DRIVER, "nodeID": name, "topologyKeys": ["zone"]}] if is_there else []
    world.api.edit("csinodes", name, lambda obj: obj["spec"].update(drivers=drivers))


def label(world: World, name: str, **labels: str) -> None:
    world.api.edit("nodes", name, lambda obj: obj["metadata"].update(labels=labels))


def lose_csinode(world: World, name: str = "n1") -> None:
    world.api.delete("csinodes", name)


def lose_node(world: World, name: str = "n1") -> None:
    world.api.delete("nodes", name)


def lose_both(world: World, name: str = "n1") -> None:
    lose_csinode(world, name)
    lose_node(world, name)


# ---- a claim that no node was selected for


def traffic(world: World) -> tuple[list[str], int]:
    """Calls of the driver, and how many requests went to the API server besides lists and watches."""
    return [call.method for call in world.driver.ledger], len(world.wire.requests)


async def places_after(happens: Callable[[World], None]) -> tuple[str, str] | None:
    """Zones that a claim without a node is told after something happened to n1."""
    world = place_world()
    world.add_class()
    async with world.running():
        happens(world)
        await asyncio.sleep(0.1)
        world.add_claim("data-web-0")
        await asyncio.sleep(0.5)
    assert world.warnings() == []
    (call,) = world.calls()
    return places_of(call)


def come_unlabeled(world: World) -> None:
    add_node(world, "n4")


@pytest.mark.parametrize(
    ("happens", "wanted"),
    [
        pytest.param(reboot, ("a b c", "a b c"), id="reboot", marks=pytest.mark.parity("T-LIFE-06")),
        pytest.param(
            lambda world: register(world, is_there=False),
            ("a b c", "a b c"),
            id="driver restarts",
            marks=pytest.mark.parity("T-LIFE-09"),
        ),
        pytest.param(come_unlabeled, ("a b c", "a b c"), id="not labeled yet", marks=pytest.mark.parity("T-LIFE-12")),
        pytest.param(lose_csinode, ("a b c", "a b c"), id="CSINode deleted", marks=pytest.mark.parity("T-LIFE-15")),
        pytest.param(lose_node, ("a c", "c a"), id="Node deleted", marks=pytest.mark.parity("T-LIFE-18")),
    ],
)
async def test_claim_without_a_node_is_told_the_places_of_every_labeled_node(
    happens: Callable[[World], None], wanted: tuple[str, str]
) -> None:
    """Any CSINode gives the keys, each Node with these labels a place."""
    assert await places_after(happens) == wanted


async def test_node_that_is_labeled_at_last_contributes_its_place() -> None:
    def come_labeled(world: World) -> None:
        come_unlabeled(world)
        label(world, "n4", zone="d")

    assert await places_after(come_labeled) == ("a b c d", "b c d a")


# ---- a claim whose call is out


async def between_two_calls(happens: Callable[[World], None], *, node: str = "") -> World:
    """A claim whose first CreateVolume ended Unavailable; something happens to n1 before the second, 30 s later.

    Whatever it is, it causes no call, no write and no other request, and both calls say the same.
    """
    world = place_world(retry_interval_start_s=30.0, retry_interval_max_s=30.0)
    world.add_class(**(LATE if node else {}))
    world.driver.order("CreateVolume:Unavailable=busy x1")
    uid = world.add_claim("data", annotations={SELECTED: node} if node else {})
    async with world.running():
        await asyncio.sleep(1)
        before = traffic(world)
        assert before[0] == ["CreateVolume"]
        happens(world)
        await asyncio.sleep(20)
        assert traffic(world) == before
        await asyncio.sleep(20)
    first, second = world.calls()
    assert bytes(first.accessibility_requirements) == bytes(second.accessibility_requirements) != b""
    assert bytes(first) == bytes(second)
    assert world.volume(uid)["spec"]["csi"]["volumeHandle"] == next(iter(world.driver.volumes))
    return world


@pytest.mark.parametrize(
    "happens",
    [
        pytest.param(reboot, id="reboot", marks=pytest.mark.parity("T-LIFE-06")),
        pytest.param(lambda world: register(world, is_there=False), id="driver restarts"),
        pytest.param(lose_csinode, id="CSINode deleted"),
        pytest.param(lose_node, id="Node deleted"),
        pytest.param(lose_both, id="both deleted", marks=pytest.mark.parity("T-LIFE-21")),
    ],
)
async def test_claim_without_a_node_repeats_its_call_whatever_happens(happens: Callable[[World], None]) -> None:
    await between_two_calls(happens)


@pytest.mark.parametrize(
    "happens",
    [
        pytest.param(reboot, id="reboot", marks=pytest.mark.parity("T-LIFE-07")),
        pytest.param(lambda world: register(world, is_there=False), id="driver restarts"),
        pytest.param(lambda world: label(world, "n1"), id="labels taken off"),
        pytest.param(lose_csinode, id="CSINode deleted", marks=pytest.mark.parity("T-LIFE-24")),
        pytest.param(lose_node, id="Node deleted", marks=pytest.mark.parity("T-LIFE-25")),
        pytest.param(lose_both, id="both deleted", marks=pytest.mark.parity("T-LIFE-22")),
    ],
)
async def test_claim_on_a_node_repeats_its_call_whatever_happens_to_the_node(happens: Callable[[World], None]) -> None:
    world = await between_two_calls(happens, node="n1")
    assert places_of(world.calls()[1]) == EVERYWHERE
    assert selected_node_of(world) == "n1"


# ---- a claim with the node selected, whose call is not out yet


@pytest.mark.parametrize(
    ("happens", "text", "ends"),
    [
        pytest.param(
            lambda world: register(world, is_there=False),
            NO_KEYS,
            register,
            id="driver restarts",
            marks=pytest.mark.parity("T-LIFE-10"),
        ),
        pytest.param(
            lambda world: label(world, "n1"),
            NO_LABELS,
            lambda world: label(world, "n1", zone="b"),
            id="not labeled yet",
            marks=pytest.mark.parity("T-LIFE-13"),
        ),
        pytest.param(
            lose_node,
            NO_LABELS,
            lambda world: world.api.create(
                {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {"zone": "b"}}}
            ),
            id="Node deleted",
            marks=pytest.mark.parity("T-LIFE-19"),
        ),
    ],
)
async def test_claim_on_a_node_that_does_not_tell_its_place_keeps_it_and_is_tried_again(
    happens: Callable[[World], None], text: str, ends: Callable[[World], None]
) -> None:
    world = place_world()
    world.add_class(**LATE)
    happens(world)
    world.add_claim(annotations={SELECTED: "n1"})
    async with world.running():
        await asyncio.sleep(0.5)
        assert world.warnings() == [text]
        await asyncio.sleep(8)
        (told,) = [obj for obj in world.api.list("events") if obj["reason"] == "ProvisioningFailed"]
        assert told["count"] == 4, "at 0, 1, 3 and 7 s"
        assert told["message"].startswith(text)
        assert world.calls() == []
        assert "update persistentvolumeclaims" not in world.writes()
        assert selected_node_of(world) == "n1"
        ends(world)
        await asyncio.sleep(4.5)
    assert [places_of(call) for call in world.calls()] == [EVERYWHERE]


@pytest.mark.parity("T-LIFE-16")
async def test_claim_on_a_node_without_csinode_goes_back_to_the_scheduler() -> None:
    world = place_world()
    world.add_class(**LATE)
    lose_csinode(world)
    world.add_claim(annotations={SELECTED: "n1"})
    async with world.running():
        await asyncio.sleep(20)
        assert selected_node_of(world) is None
        assert world.warnings() == ['failed to get selected CSINode n1: csinode.storage.k8s.io "n1" not found']
        assert world.calls() == []
        assert [what for what in world.writes() if "events" not in what] == ["update persistentvolumeclaims"]
        select(world, "n3")
        await asyncio.sleep(0.5)
    assert [places_of(call) for call in world.calls()] == [("a b c", "c a b")]


# ---- published room


def room_world() -> World:
    """n1 alone in zone a, n2 and n3 in zone b, and what is published about them."""
    capacity = CapacitySettings(namespace="team", ownerref_level=-1, rate=RateConfig())
    world = World(
        settings=ProvisionerSettings(capacity=capacity, retry_interval_max_s=8),
        controller=CAPABILITIES | {"GET_CAPACITY"},
        plugin_capabilities=PLACES,
        topology={"zone": "a"},
    )
    world.driver.settings = replace(
        world.driver.settings, places=tuple({"zone": zone} for zone in "abd"), total_bytes=100 * GIB
    )
    for name, zone in (("n1", "a"), ("n2", "b"), ("n3", "b")):
        add_node(world, name, zone=zone)
    world.add_class(**LATE)
    return world


def rooms(world: World) -> list[str]:
    """Zones with an object, sorted."""
    return sorted(obj["nodeTopology"]["matchLabels"]["zone"] for obj in world.api.list("csistoragecapacities"))


@pytest.mark.parametrize(
    "happens",
    [
        pytest.param(reboot_all, id="reboot", marks=pytest.mark.parity("T-LIFE-08")),
        pytest.param(come_unlabeled, id="not labeled yet"),
        pytest.param(lambda world: register(world, "n2", is_there=False), id="driver of one of two nodes restarts"),
        pytest.param(lambda world: lose_csinode(world, "n2"), id="CSINode of one of two nodes deleted"),
        pytest.param(lambda world: lose_node(world, "n2"), id="one of two nodes deleted"),
    ],
)
async def test_published_room_does_not_care(happens: Callable[[World], None]) -> None:
    world = room_world()
    async with world.running():
        await asyncio.sleep(1)
        before = traffic(world)
        assert rooms(world) == ["a", "b"]
        happens(world)
        await asyncio.sleep(30)
        assert traffic(world) == before
        assert rooms(world) == ["a", "b"]


@pytest.mark.parametrize(
    ("happens", "ends"),
    [
        pytest.param(
            lambda world: register(world, is_there=False),
            register,
            id="driver restarts",
            marks=pytest.mark.parity("T-LIFE-11"),
        ),
        pytest.param(
            lose_csinode,
            lambda world: world.api.create(
                {
                    "apiVersion": "storage.k8s.io/v1",
                    "kind": "CSINode",
                    "metadata": {"name": "n1"},
                    "spec": {"drivers": [{"name": DRIVER, "nodeID": "n1", "topologyKeys": ["zone"]}]},
                }
            ),
            id="CSINode deleted",
            marks=pytest.mark.parity("T-LIFE-17"),
        ),
        pytest.param(
            lose_node,
            lambda world: world.api.create(
                {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {"zone": "a"}}}
            ),
            id="Node deleted",
            marks=pytest.mark.parity("T-LIFE-20"),
        ),
        pytest.param(
            lose_both,
            lambda world: add_node(world, "n1", zone="a"),
            id="both deleted",
            marks=pytest.mark.parity("T-LIFE-23"),
        ),
    ],
)
async def test_published_room_of_a_place_without_nodes_goes_and_comes_back(
    happens: Callable[[World], None], ends: Callable[[World], None]
) -> None:
    world = room_world()
    async with world.running():
        await asyncio.sleep(1)
        assert rooms(world) == ["a", "b"]
        happens(world)
        await asyncio.sleep(1)
        assert rooms(world) == ["b"]
        ends(world)
        await asyncio.sleep(1)
        assert rooms(world) == ["a", "b"]
    verbs = [line.split()[0] for line in world.writes() if line.endswith("csistoragecapacities")]
    assert verbs == ["create", "create", "delete", "create"]


@pytest.mark.parity("T-LIFE-14")
async def test_room_is_published_for_a_node_once_it_is_labeled() -> None:
    world = room_world()
    async with world.running():
        add_node(world, "n4")
        await asyncio.sleep(1)
        assert rooms(world) == ["a", "b"]
        label(world, "n4", zone="d")
        await asyncio.sleep(1)
        assert rooms(world) == ["a", "b", "d"]
