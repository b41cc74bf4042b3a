"""Claims with places: what CreateVolume is told, what it keeps being told, and who is sent back to the scheduler."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from csisidecar.config import ProvisionerSettings
from tests.plugins.provisioner.world import CAPABILITIES, DRIVER, World

pytestmark = pytest.mark.looptime

PLACES = frozenset({"CONTROLLER_SERVICE", "VOLUME_ACCESSIBILITY_CONSTRAINTS"})
SELECTED = "volume.kubernetes.io/selected-node"
LATE = {"volumeBindingMode": "WaitForFirstConsumer"}


def place_world(*, controller: frozenset[str] = CAPABILITIES, **settings: Any) -> World:
    """Nodes n1 in zone b, n2 in zone a, n3 in zone c; a driver that is in zone b."""
    world = World(
        controller=controller,
        settings=ProvisionerSettings(**{"retry_interval_max_s": 4, **settings}),
        plugin_capabilities=PLACES,
        topology={"zone": "b"},
    )
    everywhere = tuple({"zone": zone} for zone in "abc")
    world.driver.settings = replace(world.driver.settings, places=everywhere)
    for name, zone in (("n1", "b"), ("n2", "a"), ("n3", "c")):
        add_node(world, name, zone=zone)
    return world


def add_node(world: World, name: str, keys: tuple[str, ...] = ("zone",), **labels: str) -> None:
    world.api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
    driver = {"name": DRIVER, "nodeID": name, "topologyKeys": list(keys)}
    body = {"metadata": {"name": name}, "spec": {"drivers": [driver]}}
    world.api.create({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", **body})


def places_of(call: Any) -> tuple[str, str] | None:
    """Requisite and preferred zones of one CreateVolume request."""
    asked = call.accessibility_requirements
    if asked is None:
        return None
    return (
        " ".join(place.segments["zone"] for place in asked.requisite),
        " ".join(place.segments["zone"] for place in asked.preferred),
    )


def selected_node(world: World) -> str | None:
    claim = world.api.get("persistentvolumeclaims", "data", "team")
    assert claim is not None
    node: str | None = claim["metadata"].get("annotations", {}).get(SELECTED)
    return node


def select(world: World, node: str) -> None:
    """What the scheduler does."""
    world.api.edit(
        "persistentvolumeclaims", "data", lambda obj: obj["metadata"]["annotations"].update({SELECTED: node}), "team"
    )


@pytest.mark.parity("T-REQ-13")
@pytest.mark.parametrize(
    ("settings", "wanted"),
    [({}, ("a b c", "b c a")), ({"strict_topology": True}, ("b", "b")), ({"topology": False}, None)],
)
async def test_selected_node_comes_first(settings: dict[str, Any], wanted: tuple[str, str] | None) -> None:
    world = place_world(**settings)
    world.add_class(**LATE)
    uid = world.add_claim(annotations={SELECTED: "n1"})
    await world.run()
    assert [places_of(call) for call in world.calls()] == [wanted]
    assert world.warnings() == []
    affinity = world.volume(uid)["spec"].get("nodeAffinity")
    expression = {"key": "zone", "operator": "In", "values": ["b"]}
    terms = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
    assert affinity == (terms if wanted else None)


@pytest.mark.parity("P-PLACE-02")
async def test_claim_without_a_node_is_spread_by_its_name() -> None:
    world = place_world()
    world.add_class()
    for number in range(3):
        world.add_claim(f"data-web-{number}")
    await world.run()
    asked = sorted(str(places_of(call)) for call in world.calls())
    assert asked == sorted(str(("a b c", preferred)) for preferred in ("a b c", "b c a", "c a b"))


@pytest.mark.parity("P-PLACE-06")
async def test_driver_without_places_is_told_none_and_no_node_is_watched() -> None:
    world = World()
    world.add_class(**LATE)
    world.add_claim(annotations={SELECTED: "nowhere"})
    await world.run()
    assert [places_of(call) for call in world.calls()] == [None]


@pytest.mark.parity("P-PLACE-04", "T-LIFE-04")
async def test_node_that_lost_its_csinode_is_given_up_and_another_one_works() -> None:
    world = place_world()
    world.add_class(**LATE)
    world.api.delete("csinodes", "n1")
    world.add_claim(annotations={SELECTED: "n1"})
    async with world.running():
        await asyncio.sleep(1)
        assert world.calls() == []
        assert selected_node(world) is None
        assert world.warnings() == ['failed to get selected CSINode n1: csinode.storage.k8s.io "n1" not found']
        select(world, "n2")
        await asyncio.sleep(1)
    assert [places_of(call) for call in world.calls()] == [("a b c", "a b c")]


@pytest.mark.parity("T-LIFE-05")
@pytest.mark.parametrize("what", ["labels", "registration"])
async def test_node_that_does_not_tell_its_place_yet_is_waited_for(what: str) -> None:
    world = place_world()
    world.add_class(**LATE)
    if what == "labels":
        world.api.edit("nodes", "n1", lambda obj: obj["metadata"].update(labels={"other": "x"}))
        text = "topology labels from selected node map[other:x] does not match topology keys from CSINode [zone];"
        text += " Node n1 lacks zone"
    else:
        world.api.edit("csinodes", "n1", lambda obj: obj["spec"].update(drivers=[]))
        text = "no topology key found for node n1; see that the driver's node plugin is registered there and names"
        text += " topology keys: kubectl get csinode n1 -o yaml"
    world.add_claim(annotations={SELECTED: "n1"})
    async with world.running():
        await asyncio.sleep(0.5)
        assert world.warnings() == [f"error generating accessibility requirements: {text}"]
        assert selected_node(world) == "n1"
        world.api.edit("nodes", "n1", lambda obj: obj["metadata"].update(labels={"zone": "b"}))
        driver = {"name": DRIVER, "nodeID": "n1", "topologyKeys": ["zone"]}
        world.api.edit("csinodes", "n1", lambda obj: obj["spec"].update(drivers=[driver]))
        await asyncio.sleep(10)
    assert [places_of(call) for call in world.calls()] == [("a b c", "b c a")]


@pytest.mark.parity("P-PLACE-03", "T-LIFE-03")
@pytest.mark.parametrize("selected", [True, False])
async def test_exhausted_node_goes_back_to_the_scheduler_only_if_one_was_selected(selected: bool) -> None:
    world = place_world()
    world.add_class()
    world.driver.trouble.add("CreateVolume:ResourceExhausted=full x1")
    world.add_claim(annotations={SELECTED: "n1"} if selected else {})
    await world.run(seconds=5)
    assert selected_node(world) is None
    assert len(world.calls()) == 2


@pytest.mark.parity("P-PLACE-05", "T-LIFE-01")
async def test_every_call_until_the_final_answer_names_the_same_places() -> None:
    world = place_world()
    world.add_class(**LATE)
    world.driver.trouble.add("CreateVolume:DeadlineExceeded=slow x4")
    world.add_claim(annotations={SELECTED: "n1"})
    async with world.running():
        await asyncio.sleep(0.5)
        for happens in (
            lambda: world.api.edit("nodes", "n1", lambda obj: obj["metadata"].update(labels={"zone": "moved"})),
            lambda: (world.api.delete("nodes", "n1"), world.api.delete("csinodes", "n1")),
            lambda: select(world, "n3"),
            lambda: world.api.delete("storageclasses", "fast"),
        ):
            happens()
            await asyncio.sleep(4.2)
        await asyncio.sleep(20)
    calls = world.calls()
    assert len(calls) >= 5
    assert len({bytes(call) for call in calls}) == 1
    assert places_of(calls[0]) == ("a b c", "b c a")


@pytest.mark.parity("T-LIFE-02")
@pytest.mark.parametrize("status", ["Internal", "ResourceExhausted"])
async def test_after_a_final_answer_the_places_are_looked_up_again(status: str) -> None:
    world = place_world()
    world.add_class()
    world.driver.trouble.add("CreateVolume:DeadlineExceeded=slow x1")
    world.add_claim("data-web-0")
    async with world.running():
        await asyncio.sleep(0.1)
        world.driver.trouble.add(f"CreateVolume:{status}=no x1")
        world.api.delete("nodes", "n3")
        await asyncio.sleep(20)
    asked = [places_of(call) for call in world.calls()]
    assert asked[:2] == [("a b c", "a b c")] * 2
    assert asked[2] == ("a b", "b a")


@pytest.mark.parity("T-REQ-14")
async def test_answer_from_elsewhere_is_written_as_it_came() -> None:
    """Only the driver knows where a volume is; an affinity made of what was asked for would hide it."""
    world = place_world()
    world.driver.trouble.add("CreateVolume:ResourceExhausted=none of the asked places x1")
    world.add_class()
    uid = world.add_claim()
    await world.run(seconds=0.1)
    settings = world.driver.settings
    world.driver.settings = replace(settings, places=({"zone": "a", "row": "unasked"},))
    await world.run(seconds=3)
    terms = world.volume(uid)["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert terms == [
        {
            "matchExpressions": [
                {"key": "row", "operator": "In", "values": ["unasked"]},
                {"key": "zone", "operator": "In", "values": ["a"]},
            ]
        }
    ]
