"""One provisioner a node: how a node takes a claim, how long it waits, and everything that may come between."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.plugins.provisioner.node_local import competing_delay_s
from tests.plugins.provisioner.nodes import LATE, NOW, SELECTED, give, is_bidding, node_world, owner, puts
from tests.plugins.provisioner.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

SLOW: dict[str, Any] = {"base_delay_s": 20.0, "max_delay_s": 60.0}


@pytest.mark.parity("T-NODE-03")
@pytest.mark.parametrize(
    ("attempts", "base_s", "max_s", "least_s", "most_s"),
    [
        pytest.param(0, 20, 60, 0, 20, id="first", marks=pytest.mark.parity("T-NODE-45")),
        pytest.param(1, 20, 60, 20, 40, id="second", marks=pytest.mark.parity("T-NODE-46")),
        pytest.param(2, 20, 60, 40, 60, id="third", marks=pytest.mark.parity("T-NODE-47")),
        pytest.param(9999, 20, 60, 40, 60, id="all-later", marks=pytest.mark.parity("T-NODE-48")),
        pytest.param(3, 20, 5, 0, 5, id="base-above-cap", marks=pytest.mark.parity("T-NODE-49")),
        pytest.param(4, 0, 60, 0, 0, id="no-delay"),
    ],
)
def test_wait_doubles_up_to_its_cap_and_is_spread_by_the_first_wait(
    attempts: int, base_s: float, max_s: float, least_s: float, most_s: float
) -> None:
    assert competing_delay_s(attempts, base_s, max_s, 1.0) == least_s
    assert competing_delay_s(attempts, base_s, max_s, 0.0) == most_s


@pytest.mark.parametrize(
    ("conflicts", "calls"),
    [
        pytest.param(0, 1, id="no-conflict", marks=pytest.mark.parity("T-NODE-50")),
        pytest.param(2, 3, id="two-conflicts", marks=pytest.mark.parity("T-NODE-51")),
    ],
)
@pytest.mark.looptime
async def test_each_try_asks_for_room_again_and_a_conflict_is_told_nobody(conflicts: int, calls: int) -> None:
    world = node_world("n1")
    if conflicts:
        world.refuse("update", "persistentvolumeclaims", 409, times=conflicts)
    world.add_class(**NOW)
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(10)
        world.bind(uid)
        await asyncio.sleep(1)
        assert not is_bidding(world, uid)
    assert owner(world) == "n1"
    assert puts(world) == conflicts + 1
    assert len(world.calls("GetCapacity")) == calls
    assert world.warnings() == []


@pytest.mark.parity("T-NODE-09")
@pytest.mark.looptime
@pytest.mark.parametrize(
    "status",
    [
        pytest.param(403, id="forbidden", marks=pytest.mark.parity("T-NODE-52")),
        pytest.param(500, id="server-error", marks=pytest.mark.parity("T-NODE-53")),
        pytest.param(0, id="no-answer", marks=pytest.mark.parity("T-NODE-54")),
    ],
)
async def test_failed_write_is_told_with_the_node_and_tried_again(status: int) -> None:
    world = node_world("n1")
    world.refuse("update", "persistentvolumeclaims", status)
    world.add_class(**NOW)
    uid = world.add_claim()
    await world.run(seconds=10)
    assert world.volume(uid)
    (told,) = world.warnings()
    assert told.startswith('node check failed: PVC team/data: selecting node "n1" for PVC failed: ')


@pytest.mark.parity("T-NODE-55")
@pytest.mark.looptime
async def test_write_whose_answer_was_lost_is_not_repeated() -> None:
    world = node_world("n1")
    world.refuse("update", "persistentvolumeclaims", 0, applied=True)
    world.add_class(**NOW)
    uid = world.add_claim()
    await world.run(seconds=10)
    assert world.volume(uid)
    assert puts(world) == 1


def _another_owner(world: World) -> None:
    give(world, "n2")


def _owner_and_volume(world: World) -> None:
    def bind(claim: dict[str, dict[str, object]]) -> None:
        claim["spec"]["volumeName"] = "somebody-elses"

    world.api.edit("persistentvolumeclaims", "data", bind, "team")


@pytest.mark.looptime
@pytest.mark.parametrize(
    "happens",
    [
        pytest.param(World.drop_claim, id="claim-gone", marks=pytest.mark.parity("T-NODE-56")),
        pytest.param(_another_owner, id="another-owner", marks=pytest.mark.parity("T-NODE-57")),
        pytest.param(_owner_and_volume, id="bound", marks=pytest.mark.parity("T-NODE-58")),
    ],
)
async def test_node_stops_competing_without_a_call_or_a_word(happens: Callable[[World], None]) -> None:
    world = node_world("n1", **SLOW)
    world.add_class(**NOW)
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(0.01)
        assert is_bidding(world, uid)
        happens(world)
        await asyncio.sleep(70)
        assert not is_bidding(world, uid)
    assert list(world.driver.ledger) == []
    assert world.events() == []
    assert puts(world) == 0


@pytest.mark.parity("T-NODE-59")
@pytest.mark.looptime
async def test_claim_replaced_under_its_name_competes_as_a_new_one() -> None:
    world = node_world("n1", **SLOW)
    world.add_class(**NOW)
    old = world.add_claim()
    async with world.running():
        await asyncio.sleep(0.01)
        world.drop_claim()
        new = world.add_claim()
        await asyncio.sleep(0.01)
        assert not is_bidding(world, old)
        assert is_bidding(world, new)
        await asyncio.sleep(25)
    assert [call.name for call in world.calls()] == [f"pvc-{new}"]
    assert puts(world) == 1
    assert world.warnings() == []


@pytest.mark.parity("T-NODE-60")
@pytest.mark.looptime
async def test_claim_given_to_us_while_we_wait_is_done_without_a_write() -> None:
    world = node_world("n1", **SLOW)
    world.add_class(**NOW)
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(0.01)
        give(world, "n1")
        await asyncio.sleep(30)
    assert world.volume(uid)
    assert puts(world) == 0
    assert world.calls("GetCapacity") == []


@pytest.mark.looptime
@pytest.mark.parametrize(
    "node",
    [
        pytest.param("n1", id="ours", marks=pytest.mark.parity("T-NODE-61")),
        pytest.param("n2", id="anothers", marks=pytest.mark.parity("T-NODE-62")),
    ],
)
async def test_claim_that_has_an_owner_we_have_not_heard_of_is_not_written(node: str) -> None:
    world = node_world("n1", **SLOW)
    world.add_class(**NOW)
    world.add_claim()
    async with world.running():
        await asyncio.sleep(0.01)
        world.wire.blind.add("persistentvolumeclaims")
        give(world, node)
        await asyncio.sleep(25)
        assert len(world.calls("GetCapacity")) == 1
        assert puts(world) == 0
        world.wire.blind.clear()
        await asyncio.sleep(10)
    assert len(world.calls()) == (1 if node == "n1" else 0)


@pytest.mark.parity("T-NODE-63")
@pytest.mark.looptime
async def test_stopped_process_takes_nothing_more() -> None:
    world = node_world("n1", **SLOW)
    world.add_class(**NOW)
    world.add_claim()
    async with world.running():
        await asyncio.sleep(0.01)
        assert await world.drain(5)
        await asyncio.sleep(70)
    assert list(world.driver.ledger) == []
    assert puts(world) == 0


@pytest.mark.parity("T-NODE-64")
@pytest.mark.looptime
async def test_node_that_gave_a_claim_back_lets_those_go_first_that_never_had_it() -> None:
    """However often others had it in between: places are kept, and the one with room gets its turn."""
    first = node_world("n1", can_tell_room=False)
    worlds = [first, *(node_world(f"n{number}", first, can_tell_room=False) for number in range(2, 6))]
    for world in worlds[:-1]:
        # Full, and slow to say so: the others look meanwhile, and find an owner.
        world.driver.settings = replace(world.driver.settings, total_bytes=0)
        world.driver.trouble.add("CreateVolume:delay=1")
    first.add_class(**NOW)
    for number in range(10):
        first.add_claim(f"c{number}")
    async with worlds[0].running(), worlds[1].running(), worlds[2].running(), worlds[3].running(), worlds[4].running():
        await asyncio.sleep(30)
    assert {owner(first, f"c{number}") for number in range(10)} == {"n5"}
    assert len(first.api.list("persistentvolumes")) == 10
    for world in worlds[:-1]:
        names = [call.name for call in world.calls()]
        assert len(names) == len(set(names))


@pytest.mark.parity("T-NODE-97")
@pytest.mark.looptime
async def test_nodes_that_are_all_full_without_knowing_try_ever_more_slowly() -> None:
    first = node_world("n1", can_tell_room=False, base_delay_s=2.0, max_delay_s=6.0)
    second = node_world("n2", first, can_tell_room=False, base_delay_s=2.0, max_delay_s=6.0)
    for world in (first, second):
        world.driver.trouble.add("CreateVolume:ResourceExhausted=full")
    first.add_class(**NOW)
    first.add_claim()
    async with first.running(), second.running():
        await asyncio.sleep(120)
    for world in (first, second):
        tries_s = [call.started_s for call in world.driver.calls("CreateVolume")]
        waits_s = [late - early for early, late in pairwise(tries_s)]
        assert len(tries_s) > 10
        assert all(wait_s >= 4.0 for wait_s in waits_s[2:])
    assert len(first.warnings()) <= len(first.calls()) + len(second.calls())
    assert len(first.api.list("events")) < 12


@pytest.mark.parity("T-NODE-65")
@pytest.mark.looptime
async def test_two_hundred_claims_wait_without_holding_up_one_that_is_ours() -> None:
    world = node_world("n1", **SLOW)
    world.add_class(**NOW)
    world.add_class("late", **LATE)
    for number in range(200):
        world.add_claim(f"c{number}")
    async with world.running():
        await asyncio.sleep(0.01)
        uid = world.add_claim(storageClassName="late", annotations={SELECTED: "n1"})
        await asyncio.sleep(0.5)
        assert world.volume(uid)


@pytest.mark.parity("T-NODE-98")
@pytest.mark.looptime
async def test_clone_is_taken_by_a_node_that_can_use_its_source() -> None:
    first = node_world("n1")
    second = node_world("n2", first, base_delay_s=3.0, max_delay_s=6.0)
    for world in (first, second):
        world.controller |= {"CLONE_VOLUME"}
        declared = world.driver.settings.controller_capabilities | {"CLONE_VOLUME"}
        world.driver.settings = replace(world.driver.settings, controller_capabilities=declared)
    first.add_class(**NOW)
    uid = first.add_claim("src", annotations={SELECTED: "n2"})
    async with second.running():
        await asyncio.sleep(1)
        first.bind(uid, "src")
        async with first.running():
            for number in range(5):
                first.add_claim(f"c{number}", dataSource={"kind": "PersistentVolumeClaim", "name": "src"})
            await asyncio.sleep(10)
    assert {owner(first, f"c{number}") for number in range(5)} == {"n2"}
    assert first.calls("GetCapacity") == first.calls() == []
    assert len(second.calls()) == 6
    assert first.warnings() == []
