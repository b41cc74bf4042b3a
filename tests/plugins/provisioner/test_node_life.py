"""A node reboots, loses its driver, is not labeled yet, is deleted: what that does to claims.

Six things that happen to a node, and a claim that no node was selected for, one with that node selected, and one whose
CreateVolume has no final answer yet.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.plugins.provisioner.test_places import LATE, SELECTED, add_node, place_world, places_of, select
from tests.plugins.provisioner.test_places import selected_node as selected_node_of
from tests.plugins.provisioner.world import DRIVER, World

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
        (warning,) = world.warnings()
        assert warning.startswith(text)
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
