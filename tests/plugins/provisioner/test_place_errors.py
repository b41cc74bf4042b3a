"""Claims whose places cannot be told: the text on the claim, whether it keeps its node, and that it is tried again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.plugins.provisioner.clusters import (
    SELECTED,
    A,
    add_node,
    asked,
    build_world,
    label,
    register,
    select,
    selected_node,
    selector,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.plugins.provisioner.world import World

pytestmark = pytest.mark.looptime

PREFIX = "error generating accessibility requirements: "
REGISTERED = "see that the driver's node plugin is registered"
LOOK_AT_N1 = f"{REGISTERED} there and names topology keys: kubectl get csinode n1 -o yaml"
LOOK_AT_ALL = f"{REGISTERED} on a node and names topology keys: kubectl get csinodes -o yaml"
OUTCOMES = "csi_sidecar_outcomes_total"
CA = [selector(zone="c,a")]


def _unregister_all(world: World) -> None:
    for node in A.keys:
        register(world, node, None)


def _unlabel_all(world: World) -> None:
    for node in A.labels:
        label(world, node, {"other": "x"})


@pytest.mark.parametrize(
    ("given_", "happens", "text", "mend", "wanted"),
    [
        pytest.param(
            {"node": "n1"},
            lambda world: register(world, "n1", None),
            f"no topology key found for node n1; {LOOK_AT_N1}",
            lambda world: register(world, "n1", ("zone",)),
            ("a b c", "b c a"),
            id="E2 not registered",
            marks=pytest.mark.parity("T-ERROR-03"),
        ),
        pytest.param(
            {"node": "n1"},
            lambda world: register(world, "n1", ()),
            f"no topology key found for node n1; {LOOK_AT_N1}",
            lambda world: register(world, "n1", ("zone",)),
            ("a b c", "b c a"),
            id="E2 no keys",
            marks=pytest.mark.parity("T-ERROR-04"),
        ),
        pytest.param(
            {"node": "n1"},
            lambda world: world.api.delete("nodes", "n1"),
            "topology labels from selected node map[] does not match topology keys from CSINode [zone];"
            " Node n1 does not exist",
            lambda world: add_node(world, "n1", {"zone": "b"}),
            ("a b c", "b c a"),
            id="E3 no Node",
            marks=pytest.mark.parity("T-ERROR-05"),
        ),
        pytest.param(
            {"node": "n1"},
            lambda world: label(world, "n1", {"other": "x"}),
            "topology labels from selected node map[other:x] does not match topology keys from CSINode [zone];"
            " Node n1 lacks zone",
            lambda world: label(world, "n1", {"zone": "b"}),
            ("a b c", "b c a"),
            id="E3 no label",
            marks=pytest.mark.parity("T-ERROR-06"),
        ),
        pytest.param(
            {"node": "n1", "allowed": CA, "strict": True},
            lambda _world: None,
            "selected node '\"n1\"' topology '[{zone b}]' is not in allowed topologies: [[{zone c}] [{zone a}]];"
            " allowedTopologies of StorageClass fast leave that node out",
            lambda world: label(world, "n1", {"zone": "c"}),
            ("c", "c"),
            id="E4",
            marks=pytest.mark.parity("T-ERROR-07"),
        ),
        pytest.param(
            {},
            _unregister_all,
            f"no available topology found; {LOOK_AT_ALL}",
            lambda world: register(world, "n4", ("zone",)),
            ("a b c", "b c a"),
            id="E5",
            marks=pytest.mark.parity("T-ERROR-08"),
        ),
        pytest.param(
            {},
            _unlabel_all,
            "topologyKeys [zone] were not found on any nodes",
            lambda world: label(world, "n2", {"zone": "a"}),
            ("a", "a"),
            id="E6",
            marks=pytest.mark.parity("T-ERROR-09"),
        ),
        pytest.param(
            {"node": "n1", "allowed": CA},
            lambda _world: None,
            'topology [{zone b}] from selected node "n1" is not in requisite: [[{zone a}] [{zone c}]];'
            " allowedTopologies of StorageClass fast leave that node out",
            lambda world: label(world, "n1", {"zone": "c"}),
            ("a c", "c a"),
            id="E7",
            marks=pytest.mark.parity("T-ERROR-10"),
        ),
    ],
)
async def test_claim_keeps_its_node_and_is_tried_again(
    given_: dict[str, Any],
    happens: Callable[[World], None],
    text: str,
    mend: Callable[[World], None],
    wanted: tuple[str, str],
) -> None:
    world = build_world(A, strict_topology=given_.get("strict", False))
    node = given_.get("node")
    world.add_class(**({"allowedTopologies": given_["allowed"]} if "allowed" in given_ else {}))
    happens(world)
    uid = world.add_claim("data", annotations={SELECTED: node} if node else {})
    async with world.running():
        await asyncio.sleep(0.5)
        assert world.warnings() == [PREFIX + text]
        await asyncio.sleep(8)
        assert world.warnings()[-1].startswith(f"{PREFIX}{text} (4 attempts since ")
        assert world.numbers.total(OUTCOMES, "provision", "no_change") >= 3
        assert (selected_node(world), world.calls()) == (node, [])
        mend(world)
        await asyncio.sleep(8)
    assert [call.name for call in world.calls()] == [f"pvc-{uid}"]
    requisite, preferred = asked(world.calls()[0]) or ("", "")
    assert requisite == wanted[0]
    if node:
        assert preferred == wanted[1]


@pytest.mark.parity("T-ERROR-12")
async def test_advice_is_told_also_behind_a_text_that_is_too_long_for_an_event() -> None:
    """A Node as cloud providers label it, all of whose labels Go's text has."""
    world = build_world(A)
    world.add_class()
    label(world, "n1", {f"cloud.example.com/label-{number:02}": "value" * 5 for number in range(40)})
    world.add_claim(annotations={SELECTED: "n1"})
    async with world.running():
        for wait_s in (0.5, 8):
            await asyncio.sleep(wait_s)
            (told,) = world.warnings()
            assert told.startswith(
                f"{PREFIX}topology labels from selected node map[cloud.example.com/label-00:valueval"
            )
            assert "; Node n1 lacks zone" in told
            assert len(told.encode()) <= 1024
    assert " attempts since " in told


GONE = 'failed to get selected CSINode n1: csinode.storage.k8s.io "n1" not found'


@pytest.mark.parity("T-ERROR-01")
async def test_claim_of_a_node_without_csinode_goes_back_to_the_scheduler() -> None:
    """The text has no prefix, and without a node the claim is left alone until the scheduler names another one."""
    world = build_world(A)
    world.add_class(volumeBindingMode="WaitForFirstConsumer")
    world.api.delete("csinodes", "n1")
    world.add_claim(annotations={SELECTED: "n1"})
    async with world.running():
        await asyncio.sleep(600)
        assert world.warnings() == [GONE]
        assert (selected_node(world), world.calls()) == (None, [])
        assert world.numbers.total(OUTCOMES, "provision", "reschedule") == 1
        select(world, "n3")
        await asyncio.sleep(0.5)
    assert [asked(call) for call in world.calls()] == [("a b c", "c a b")]


@pytest.mark.parity("T-ERROR-11")
async def test_node_and_csinode_gone_together_count_as_a_csinode_that_is_gone() -> None:
    world = build_world(A)
    world.add_class(volumeBindingMode="WaitForFirstConsumer")
    world.api.delete("nodes", "n1")
    world.api.delete("csinodes", "n1")
    world.add_claim(annotations={SELECTED: "n1"})
    await world.run(60)
    assert world.warnings() == [GONE]
    assert (selected_node(world), world.calls()) == (None, [])


@pytest.mark.parity("T-ERROR-02")
async def test_csinode_that_cannot_be_read_is_taken_as_last_seen_and_gives_no_claim_back() -> None:
    world = build_world(A)
    world.add_class(volumeBindingMode="WaitForFirstConsumer")
    async with world.running():
        world.wire.blind.add("csinodes")
        world.api.delete("csinodes", "n1")
        world.add_claim(annotations={SELECTED: "n1"})
        await asyncio.sleep(5)
        assert (selected_node(world), world.warnings()) == ("n1", [])
        assert [asked(call) for call in world.calls()] == [("a b c", "b c a")]
        world.wire.blind.clear()
        await asyncio.sleep(1)
        world.add_claim("late", annotations={SELECTED: "n1"})
        await asyncio.sleep(1)
    assert world.warnings() == [GONE]
    assert len(world.calls()) == 1
