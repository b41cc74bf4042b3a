"""Giving a claim back to the scheduler: what is written, and when nothing is."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from csisidecar.errors import ThrottledError
from csisidecar.kube import Claim, KubeClient, encode
from csisidecar.plugins.provisioner.reschedule import give_up_node
from tests.plugins.provisioner.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.looptime

NODE = "volume.kubernetes.io/selected-node"


def claim_on_node(world: World, **annotations: str) -> Claim:
    world.add_claim(annotations={"keep": "this", **annotations})
    return msgspec.json.decode(encode(world.api.get("persistentvolumeclaims", "data", "team")), type=Claim)


def annotations_of(world: World) -> dict[str, Any]:
    found = world.api.get("persistentvolumeclaims", "data", "team")
    assert found is not None
    annotations: dict[str, Any] = found["metadata"]["annotations"]
    return annotations


async def test_selected_node_is_taken_off_by_a_whole_update() -> None:
    world = World()
    claim = claim_on_node(world, **{NODE: "node1"})
    assert await give_up_node(KubeClient(world.wire), claim, "no room")
    assert NODE not in annotations_of(world)
    assert annotations_of(world)["keep"] == "this"
    assert world.writes() == ["update persistentvolumeclaims"]


async def test_claim_without_a_selected_node_is_left_alone() -> None:
    world = World()
    claim = claim_on_node(world)
    assert not await give_up_node(KubeClient(world.wire), claim, "no room")
    assert world.wire.requests == []


def _another_node(world: World) -> None:
    world.api.edit(
        "persistentvolumeclaims", "data", lambda o: o["metadata"]["annotations"].update({NODE: "n2"}), "team"
    )


def _another_claim(world: World) -> None:
    world.drop_claim()
    world.add_claim(annotations={NODE: "node1"})


def _conflict(world: World) -> None:
    world.refuse("update", "persistentvolumeclaims", 409, "changed")


@pytest.mark.parametrize("happens", [_another_node, _another_claim, _conflict])
async def test_claim_that_changed_meanwhile_is_left_to_its_backoff(happens: Callable[[World], None]) -> None:
    world = World()
    claim = claim_on_node(world, **{NODE: "node1"})
    happens(world)
    before = annotations_of(world)
    assert not await give_up_node(KubeClient(world.wire), claim, "no room")
    assert annotations_of(world) == before


@pytest.mark.parametrize(
    ("status", "message", "is_warned"),
    [
        (422, "denied by a webhook", True),
        (403, "no rule for it", True),
        (0, "no answer", True),
        (409, "changed", False),
    ],
    ids=["webhook", "role", "silence", "conflict"],
)
async def test_refusal_of_the_api_server_is_warned_of_and_a_conflict_is_not(
    status: int, message: str, is_warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Without that, a claim would stay on a full node and nobody could know why."""
    world = World()
    claim = claim_on_node(world, **{NODE: "node1"})
    world.refuse("update", "persistentvolumeclaims", status, message)
    assert not await give_up_node(KubeClient(world.wire), claim, "no room")
    warned = [record for record in caplog.records if record.levelno >= logging.WARNING and "node" in record.message]
    assert len(warned) == is_warned
    assert all(message in vars(record)["error"] for record in warned)


def _nothing(world: World) -> None:
    del world


def _throttled(world: World) -> None:
    world.refuse("update", "persistentvolumeclaims", 429, "busy", retry_after_s=3)


@pytest.mark.parity("T-LIFE-48")
@pytest.mark.parametrize(
    ("happens", "line"),
    [
        (_nothing, "claim given back to the scheduler"),
        (_another_node, "claim changed meanwhile and is not given back to the scheduler"),
        (_conflict, "claim changed meanwhile and is not given back to the scheduler"),
        (_throttled, "claim is given back to the scheduler when the API server allows"),
    ],
    ids=["done", "other node", "conflict", "throttled"],
)
async def test_each_end_of_giving_a_claim_back_is_one_line_that_names_claim_node_and_reason(
    happens: Callable[[World], None], line: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world = World()
    claim = claim_on_node(world, **{NODE: "node1"})
    happens(world)
    with suppress(ThrottledError):
        await give_up_node(KubeClient(world.wire), claim, "no room")
    (told,) = [record for record in caplog.records if "scheduler" in record.message]
    assert (told.levelno, told.message) == (logging.INFO, line)
    assert [vars(told)[name] for name in ("claim", "node", "why")] == [str(claim.key), "node1", "no room"]
