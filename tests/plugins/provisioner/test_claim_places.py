"""What each end of a CreateVolume does to a claim's places and to its selected node."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.plugins.provisioner.test_places import LATE, SELECTED, place_world, places_of, select, selected_node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.plugins.provisioner.world import World

pytestmark = pytest.mark.looptime

ALPHA_SELECTED = "volume.alpha.kubernetes.io/selected-node"
KEPT = ("a b c", "b c a")
"""Zones for a claim on n1 while there are n1 to n3."""
ANEW = ("a b", "b a")
"""The same when n3 is gone."""


def selected_world(order: str, annotations: Mapping[str, str] | None = None, **settings: Any) -> tuple[World, str]:
    """A claim on n1, and a driver that has an order for its first CreateVolume."""
    world = place_world(**settings)
    world.add_class(**LATE)
    world.driver.order(f"CreateVolume:{order} x1")
    return world, world.add_claim(annotations={SELECTED: "n1"} if annotations is None else annotations)


def claim_writes(world: World) -> int:
    return world.writes().count("update persistentvolumeclaims")


@pytest.mark.parity("T-LIFE-26")
@pytest.mark.parametrize(
    "order", ["Canceled=busy", "DeadlineExceeded=busy", "Unavailable=busy", "Aborted=busy", "hang", "late"]
)
async def test_end_that_leaves_it_open_keeps_places_and_node(order: str) -> None:
    """Four codes, and an answer that never comes, without and with the work done."""
    world, uid = selected_world(order, timeout_s=2.0, retry_interval_start_s=8.0, retry_interval_max_s=8.0)
    async with world.running():
        await asyncio.sleep(2.5)
        assert uid in world.plugin._memory.in_progress
        world.api.delete("nodes", "n3")
        await asyncio.sleep(10)
    assert selected_node(world) == "n1"
    assert claim_writes(world) == 0
    assert {places_of(call) for call in world.calls()} == {KEPT}
    assert len({bytes(call) for call in world.calls()}) == 1
    assert len(world.calls()) >= 2
    assert world.volume(uid)["spec"]["claimRef"]["uid"] == uid


FINAL = [
    "Unknown",
    "InvalidArgument",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "FailedPrecondition",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "DataLoss",
    "Unauthenticated",
]


@pytest.mark.parity("T-LIFE-27")
@pytest.mark.parametrize("code", FINAL)
async def test_final_code_keeps_the_node_and_looks_the_places_up_again(code: str) -> None:
    world, uid = selected_world(f"{code}=no")
    async with world.running():
        await asyncio.sleep(0.5)
        assert world.plugin._memory.in_progress == {}
        world.api.delete("nodes", "n3")
        await asyncio.sleep(400)
    assert selected_node(world) == "n1"
    assert claim_writes(world) == 0
    assert [places_of(call) for call in world.calls()] == [KEPT, ANEW]
    first, second = world.driver.calls("CreateVolume")
    assert (second.started_s - first.started_s > 300) == (code == "InvalidArgument")
    assert world.volume(uid)["spec"]["claimRef"]["uid"] == uid


@pytest.mark.parity("T-LIFE-28")
@pytest.mark.parametrize("settings", [{}, {"strict_topology": True}], ids=["", "strict"])
async def test_exhausted_place_costs_node_and_places_and_nothing_is_asked_until_a_node_is_chosen(
    settings: dict[str, Any],
) -> None:
    world, uid = selected_world("ResourceExhausted=full", **settings)
    async with world.running():
        await asyncio.sleep(0.5)
        assert selected_node(world) is None
        assert world.plugin._memory.in_progress == {}
        assert world.warnings() == ["rpc error: code = ResourceExhausted desc = full"]
        world.api.delete("nodes", "n3")
        await asyncio.sleep(400)
        assert len(world.calls()) == 1
        assert claim_writes(world) == 1
        select(world, "n1")
        await asyncio.sleep(0.5)
    assert places_of(world.calls()[1]) == (("b", "b") if settings else ANEW)
    assert world.volume(uid)["spec"]["claimRef"]["uid"] == uid


@pytest.mark.parity("T-LIFE-29")
@pytest.mark.parametrize(
    ("annotations", "settings", "wanted"),
    [
        pytest.param({SELECTED: "n1"}, {"topology": False}, [None, None], id="topology is off"),
        pytest.param({}, {}, [("a b c", "a b c"), ("a b", "b a")], id="no node"),
        pytest.param({ALPHA_SELECTED: "n1"}, {}, [KEPT, ANEW], id="node in the old annotation"),
    ],
)
async def test_exhaustion_is_a_final_code_like_others_where_there_is_no_node_to_give_up(
    annotations: dict[str, str], settings: dict[str, Any], wanted: list[tuple[str, str] | None]
) -> None:
    """No write, and the claim's own back-off; the old annotation is read, but nobody would choose anew by it."""
    world = place_world(**settings)
    world.add_class()
    world.driver.order("CreateVolume:ResourceExhausted=full x1")
    world.add_claim(annotations=annotations)
    async with world.running():
        await asyncio.sleep(0.5)
        assert world.plugin._memory.in_progress == {}
        world.api.delete("nodes", "n3")
        await asyncio.sleep(0.4)
        assert len(world.calls()) == 1
        await asyncio.sleep(0.3)
    assert [places_of(call) for call in world.calls()] == wanted
    assert selected_node(world) == annotations.get(SELECTED)
    assert claim_writes(world) == 0


@pytest.mark.parity("T-LIFE-30")
async def test_annotation_is_taken_off_by_one_update_of_the_whole_claim() -> None:
    world, _ = selected_world("ResourceExhausted=full", {SELECTED: "n1", "keep": "this"})
    before = world.api.get("persistentvolumeclaims", "data", "team")
    assert before is not None
    await world.run(seconds=20)
    ((verb, _, body),) = [one for one in world.wire.requests if one[1] == "persistentvolumeclaims/data" and one[2]]
    del before["metadata"]["annotations"][SELECTED]
    assert (verb, body) == ("update", before)


@pytest.mark.parity("T-LIFE-31")
async def test_claim_that_was_given_back_is_not_tried_again_by_an_older_copy() -> None:
    """The watch is late: our copy of the claim still names the node, and something else wakes the claim."""
    world, _ = selected_world("ResourceExhausted=full")
    async with world.running():
        world.wire.blind.add("persistentvolumeclaims")
        await asyncio.sleep(0.5)
        assert selected_node(world) is None
        for _ in range(3):
            world.api.delete("storageclasses", "fast")
            await asyncio.sleep(0.1)
            world.add_class(**LATE)
            await asyncio.sleep(0.9)
        assert len(world.calls()) == 1
        world.wire.blind.clear()
        await asyncio.sleep(60)
    assert len(world.calls()) == 1


@pytest.mark.parity("T-LIFE-32")
@pytest.mark.parametrize("status", [0, 403, 409, 500])
async def test_failed_update_is_tried_again_with_the_claims_backoff(status: int) -> None:
    world, _ = selected_world("ResourceExhausted=full")
    world.driver.order("CreateVolume:ResourceExhausted=full x1")
    world.refuse("update", "persistentvolumeclaims", status)
    async with world.running():
        await asyncio.sleep(0.9)
        assert selected_node(world) == "n1"
        assert len(world.calls()) == 1
        await asyncio.sleep(0.3)
        assert len(world.calls()) == 2
        assert selected_node(world) is None
        await asyncio.sleep(60)
    assert len(world.calls()) == 2
    assert claim_writes(world) == 2


@pytest.mark.parity("T-LIFE-33")
async def test_update_that_is_throttled_is_tried_again_when_told() -> None:
    world, _ = selected_world("ResourceExhausted=full")
    world.driver.order("CreateVolume:ResourceExhausted=full x1")
    world.refuse("update", "persistentvolumeclaims", 429, retry_after_s=30)
    async with world.running():
        await asyncio.sleep(29)
        assert len(world.calls()) == 1
        await asyncio.sleep(2)
    assert len(world.calls()) == 2
    assert selected_node(world) is None
