"""From the first CreateVolume of a claim to the final answer, every call names the same places, byte for byte."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csisidecar.errors import StatusCode
from csisidecar.testing.driver import Trouble
from csisidecar.testing.driver.trouble import parse
from tests.plugins.provisioner.test_places import (
    LATE,
    PLACES,
    SELECTED,
    add_node,
    place_world,
    places_of,
    select,
)
from tests.plugins.provisioner.world import DRIVER, World

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [pytest.mark.looptime, pytest.mark.timeout(120)]

KEPT = ("a b c", "b c a")
"""Zones for a claim on n1 while there are n1 to n3."""
OPEN = ("DeadlineExceeded", "Unavailable", "Aborted", "Canceled")
"""After these the driver may still be at work."""


def said(world: World) -> list[bytes]:
    """The places of each CreateVolume as they went over the wire."""
    return [bytes(call.accessibility_requirements) for call in world.calls()]


def deselect(world: World) -> None:
    """Somebody takes the node off the claim: an administrator, or a provisioner that led meanwhile."""

    def change(obj: dict[str, Any]) -> None:
        obj["metadata"]["annotations"].pop(SELECTED, None)

    world.api.edit("persistentvolumeclaims", "data", change, "team")


def waiting_world(*orders: str, **more: Any) -> tuple[World, str]:
    """A claim on n1 whose calls end as ordered."""
    world = place_world(**more)
    world.add_class(**LATE)
    world.driver.order(*orders)
    return world, world.add_claim(annotations={SELECTED: "n1"})


@pytest.mark.parity("T-LIFE-34")
@pytest.mark.parametrize("code", OPEN)
async def test_external_provisioner_1465_topology_cache_corruption_causes_wrong_zone_on_retry(code: str) -> None:
    """Twenty nodes in two zones, three keys a node, the selected one in the second zone; the first answer is no end.

    In the issue the terms kept for the claim were sorted in place and cut, so that the second call put another zone
    first, and the volume was made where the pod was not.
    """
    zones = ("us-east-1d", "us-east-1f")
    keys = ("kubernetes.io/os", "topology.ebs.csi.aws.com/zone", "topology.kubernetes.io/zone")
    terms = [dict(zip(keys, ("linux", zone, zone), strict=True)) for zone in zones]
    world = World(plugin_capabilities=PLACES, topology=terms[0])
    world.driver.settings = replace(world.driver.settings, places=tuple(terms))
    for number in range(20):
        add_node(
            world, f"ip-192-168-3-{number}", keys, **terms[number % 3 % 2], **{"kubernetes.io/hostname": str(number)}
        )
    world.add_class(**LATE)
    world.driver.order(f"CreateVolume:{code}=still at it x3")
    uids = [world.add_claim(f"claim-{number}", annotations={SELECTED: "ip-192-168-3-4"}) for number in range(2)]
    await world.run(seconds=30)
    assert set(said(world)) == {said(world)[0]}
    assert len(said(world)) == 5
    for call in world.calls():
        assert [term.segments for term in call.accessibility_requirements.requisite] == terms
        assert [term.segments for term in call.accessibility_requirements.preferred] == terms[::-1]
    for uid in uids:
        affinity = world.volume(uid)["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
        values = [expression["values"] for term in affinity for expression in term["matchExpressions"]]
        assert values == [["linux"], ["us-east-1f"], ["us-east-1f"]]


# ---- any order of events

_NODE = st.sampled_from(["n1", "n2", "n3", "n4"])
_EVENT = st.one_of(
    st.tuples(st.just("node"), _NODE, st.sampled_from("abcd")),
    st.tuples(st.just("csinode"), _NODE, st.sampled_from(["zone", "rack", "zone rack", ""])),
    st.tuples(st.just("label"), _NODE, st.sampled_from("abcd")),
    st.tuples(st.just("keys"), _NODE, st.sampled_from(["zone", "rack", "zone rack", ""])),
    st.tuples(st.just("class"), st.sampled_from(["", "ab", "cd"]), st.sampled_from(["gold", "lead"])),
    st.tuples(st.just("select"), _NODE, st.just("")),
    st.tuples(st.just("deselect"), st.just(""), st.just("")),
    st.tuples(st.just("answer"), st.sampled_from([*OPEN, "Internal", "ResourceExhausted", "hang"]), st.just("")),
    st.tuples(st.just("wait"), st.sampled_from(["0.3", "1", "5", "12"]), st.just("")),
)


def class_body(zones: str, tier: str) -> dict[str, Any]:
    body: dict[str, Any] = {**LATE, "parameters": {"tier": tier}}
    if zones:
        body["allowedTopologies"] = [{"matchLabelExpressions": [{"key": "zone", "values": list(zones)}]}]
    return body


def happen(world: World, what: str, name: str, value: str) -> None:
    """One event; deleting what is there and making what is not, under the same name."""
    labels = {"zone": value, "rack": f"r{value}"}
    drivers = [{"name": DRIVER, "nodeID": name, "topologyKeys": value.split()}]
    if what == "node" and world.api.get("nodes", name):
        world.api.delete("nodes", name)
    elif what == "node":
        world.api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
    elif what == "label" and world.api.get("nodes", name):
        world.api.edit("nodes", name, lambda obj: obj["metadata"].update(labels=labels))
    elif what == "csinode" and world.api.get("csinodes", name):
        world.api.delete("csinodes", name)
    elif what == "csinode":
        body = {"metadata": {"name": name}, "spec": {"drivers": drivers}}
        world.api.create({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", **body})
    elif what == "keys" and world.api.get("csinodes", name):
        # What a CSINode says about a driver cannot be changed, only taken off and written anew.
        world.api.edit("csinodes", name, lambda obj: obj["spec"].update(drivers=[]))
        world.api.edit("csinodes", name, lambda obj: obj["spec"].update(drivers=drivers))
    elif what == "class":
        world.api.delete("storageclasses", "fast")
        world.add_class(**class_body(name, value))
    elif what == "select":
        select(world, name)
    elif what == "deselect":
        deselect(world)
    elif what == "answer":
        # Before the order for every call, which is the last.
        order = f"CreateVolume:{name} x1" if name == "hang" else f"CreateVolume:{name}=as ordered x1"
        world.driver.trouble.orders.insert(-1, parse(order))


@pytest.mark.parity("T-LIFE-35")
@settings(max_examples=60, deadline=None)
@given(
    reigns=st.lists(st.lists(_EVENT, max_size=10), min_size=1, max_size=3),
    strict=st.booleans(),
)
async def test_calls_say_the_same_until_a_final_code_whatever_happens(
    reigns: Sequence[Sequence[tuple[str, str, str]]], strict: bool
) -> None:
    """Nodes, CSINodes, labels, keys, class and selected node change; the Lease is lost and won again."""
    world, _ = waiting_world(strict_topology=strict)
    world.driver.trouble.add(Trouble(method="CreateVolume", kind="error", code=StatusCode.ABORTED))
    for events in reigns:
        async with world.running():
            await asyncio.sleep(0.1)
            for what, name, value in events:
                if what == "wait":
                    await asyncio.sleep(float(name))
                else:
                    happen(world, what, name, value)
                    await asyncio.sleep(0.01)
            select(world, "n1")
            await asyncio.sleep(5)
    calls = world.driver.calls("CreateVolume")
    assert len({call.request.name for call in calls}) == 1
    assert len(calls) > 1 or calls[0].code is not StatusCode.ABORTED
    for earlier, later in itertools.pairwise(calls):
        if earlier.code is None or earlier.code.label in OPEN:
            assert bytes(later.request) == bytes(earlier.request)


# ---- what keeps them, and for how long


@pytest.mark.parity("T-QUIRK-03")
async def test_another_selected_node_counts_after_a_final_answer_and_not_before() -> None:
    world, _ = waiting_world("CreateVolume:Unavailable=busy x1", "CreateVolume:Internal=no x1")
    async with world.running():
        await asyncio.sleep(0.5)
        select(world, "n2")
        await asyncio.sleep(10)
    assert [places_of(call) for call in world.calls()] == [KEPT, KEPT, ("a b c", "a b c")]


@pytest.mark.parity("T-LIFE-36")
async def test_node_that_is_taken_off_and_chosen_again_does_not_change_what_is_being_made() -> None:
    """Nobody is asked meanwhile, as the class wants a node first; the places are those of the first call."""
    world, uid = waiting_world("CreateVolume:Unavailable=busy x1")
    async with world.running():
        await asyncio.sleep(0.5)
        deselect(world)
        await asyncio.sleep(60)
        assert len(world.calls()) == 1
        select(world, "n2")
        await asyncio.sleep(0.5)
    assert len(set(said(world))) == 1
    assert len(world.calls()) == 2
    assert world.volume(uid)["spec"]["claimRef"]["uid"] == uid


@pytest.mark.parity("T-LIFE-37")
@pytest.mark.parametrize("change", ["node taken off", "another provisioner"])
async def test_claim_that_is_deleted_while_it_does_not_want_its_volume_is_carried_to_its_end(change: str) -> None:
    """The volume may be in the making; without a PV nobody would ever delete it."""
    world, uid = waiting_world("CreateVolume:late=DeadlineExceeded x1")
    async with world.running():
        await asyncio.sleep(0.5)
        if change == "node taken off":
            deselect(world)
        else:
            world.api.edit(
                "persistentvolumeclaims",
                "data",
                lambda obj: obj["metadata"]["annotations"].update(
                    {"volume.kubernetes.io/storage-provisioner": "other.io"}
                ),
                "team",
            )
        await asyncio.sleep(20)
        assert len(world.calls()) == 1
        world.drop_claim()
        await asyncio.sleep(5)
    assert len(set(said(world))) == 1
    assert world.volume(uid)["spec"]["csi"]["volumeHandle"] == next(iter(world.driver.volumes))
