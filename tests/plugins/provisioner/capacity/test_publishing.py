"""CSIStorageCapacity objects: which there are after anything has happened, what they say, and what that costs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csisidecar.config import RateConfig
from csisidecar.errors import ConfigError
from tests.plugins.provisioner.capacity.rooms import (
    LABELS,
    LATE,
    LATE_MODE,
    add_node,
    asked,
    pod,
    relabel,
    room_world,
    room_writes,
    rooms,
)
from tests.plugins.provisioner.world import GIB

pytestmark = [pytest.mark.looptime, pytest.mark.timeout(120)]


@pytest.mark.parity("T-ROOM-01")
async def test_the_worked_example() -> None:
    world = room_world()
    for node, zone in (("n1", "a"), ("n2", "a"), ("n3", "b")):
        add_node(world, node, zone=zone)
    world.add_class("fast", **LATE)
    world.add_class("slow", **LATE)
    world.add_class("now", volumeBindingMode="Immediate")
    async with world.running():
        await asyncio.sleep(1)
        four = {(name, f"zone={zone}") for name in ("fast", "slow") for zone in "ab"}
        assert set(rooms(world)) == four
        assert asked(world) == 4
        gauges = {name[0].removeprefix("csistoragecapacities_"): read() for name, read in world.numbers.gauges.items()}
        assert (gauges["desired_goal"], gauges["desired_current"], gauges["obsolete"]) == (4, 4, 0)
        assert rooms(world)["fast", "zone=a"] == "100Gi"
        world.api.delete("nodes", "n3")
        await asyncio.sleep(1)
        assert set(rooms(world)) == {("fast", "zone=a"), ("slow", "zone=a")}
        world.api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n3", "labels": {"zone": "b"}}})
        await asyncio.sleep(1)
        assert set(rooms(world)) == four
        world.api.delete("storageclasses", "slow")
        await asyncio.sleep(1)
        assert set(rooms(world)) == {("fast", "zone=a"), ("fast", "zone=b")}
        before = asked(world)
        world.add_claim(annotations={"volume.kubernetes.io/selected-node": "n1"}, size="40Gi")
        await asyncio.sleep(1)
        assert asked(world) == before + 1
        assert rooms(world) == {("fast", "zone=a"): "60Gi", ("fast", "zone=b"): "100Gi"}
        victim = world.api.list("csistoragecapacities")[0]
        world.api.delete("csistoragecapacities", victim["metadata"]["name"], "team")
        await asyncio.sleep(1)
        assert set(rooms(world)) == {("fast", "zone=a"), ("fast", "zone=b")}
        copy = world.api.list("csistoragecapacities")[0]
        copy["metadata"] = {"name": "copy", "namespace": "team", "labels": LABELS}
        world.api.create(copy)
        await asyncio.sleep(1)
        assert set(rooms(world)) == {("fast", "zone=a"), ("fast", "zone=b")}


@pytest.mark.parity("T-ROOM-02")
async def test_one_object_letter_by_letter() -> None:
    world = room_world(zones="a")
    world.driver.settings = replace(world.driver.settings, total_bytes=10 * GIB, max_volume_bytes=GIB)
    add_node(world, "n1", zone="a")
    world.add_class(parameters={"kind": "ssd", "csi.storage.k8s.io/fstype": "xfs"}, **LATE)
    await world.run()
    (obj,) = world.api.list("csistoragecapacities")
    meta = obj.pop("metadata")
    assert meta["name"].startswith("csisc-")
    assert meta["generateName"] == "csisc-"
    assert meta["labels"] == LABELS
    assert "ownerReferences" not in meta
    assert obj == {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSIStorageCapacity",
        "nodeTopology": {"matchLabels": {"zone": "a"}},
        "storageClassName": "fast",
        "capacity": "10Gi",
        "maximumVolumeSize": "1Gi",
    }
    (call,) = world.calls("GetCapacity")
    assert call.parameters == {"kind": "ssd", "csi.storage.k8s.io/fstype": "xfs"}
    assert call.volume_capabilities == []
    assert call.accessible_topology.segments == {"zone": "a"}


@pytest.mark.parity("T-ROOM-03")
async def test_no_room_is_published_too() -> None:
    world = room_world(zones="b")
    add_node(world, "n1", zone="a")
    world.add_class(**LATE)
    await world.run()
    assert rooms(world) == {("fast", "zone=a"): "0"}


@pytest.mark.parity("T-ROOM-04")
async def test_equal_answers_write_nothing_and_other_ones_are_written_at_the_next_poll() -> None:
    world = room_world(zones="ab")
    add_node(world, "n1", zone="a")
    add_node(world, "n2", zone="b")
    world.add_class(**LATE)
    async with world.running():
        await asyncio.sleep(59)
        assert room_writes(world) == ["create", "create"]
        await asyncio.sleep(60)
        assert asked(world) == 4
        assert room_writes(world) == ["create", "create"]
        world.driver.settings = replace(world.driver.settings, total_bytes=GIB)
        await asyncio.sleep(60)
        assert set(rooms(world).values()) == {"1Gi"}
        assert room_writes(world) == ["create", "create", "update", "update"]
        name = world.api.list("csistoragecapacities")[0]["metadata"]["name"]
        world.api.edit("csistoragecapacities", name, lambda obj: obj.update(capacity="7Ti"), "team")
        await asyncio.sleep(0.5)
        assert "7Ti" in rooms(world).values()
        await asyncio.sleep(60)
        assert set(rooms(world).values()) == {"1Gi"}


@pytest.mark.parity("T-ROOM-05")
async def test_change_of_a_label_that_is_no_key_asks_nothing() -> None:
    world = room_world()
    add_node(world, "n1", zone="a")
    world.add_class(**LATE)
    async with world.running():
        await asyncio.sleep(1)
        before = asked(world), len(world.wire.requests)
        world.api.edit("nodes", "n1", lambda obj: obj["metadata"]["labels"].update(other="x"))
        await asyncio.sleep(5)
        assert (asked(world), len(world.wire.requests)) == before


@pytest.mark.parity("T-ROOM-06")
@pytest.mark.parametrize("answer", ["error", "negative", "negative maximum"])
async def test_answer_that_is_none_changes_no_object_and_is_asked_for_again(
    answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = room_world(zones="a")
    add_node(world, "n1", zone="a")
    world.add_class(**LATE)
    async with world.running():
        await asyncio.sleep(1)
        if answer == "error":
            world.driver.trouble.add("GetCapacity:Internal=no idea")
        elif answer == "negative":
            monkeypatch.setattr(type(world.driver._world), "free_bytes", lambda _: -1)
        else:
            world.driver.settings = replace(world.driver.settings, max_volume_bytes=-5)
        await asyncio.sleep(75)
        assert rooms(world) == {("fast", "zone=a"): "100Gi"}
        assert room_writes(world) == ["create"]
        assert asked(world) >= 4
        world.driver.trouble.clear()
        monkeypatch.undo()
        world.driver.settings = replace(world.driver.settings, max_volume_bytes=GIB)
        await asyncio.sleep(10)
    assert room_writes(world) == ["create", "update"]


@pytest.mark.parity("T-ROOM-20")
@pytest.mark.parametrize("status", [409, 403, 500, 0])
@pytest.mark.parametrize("verb", ["create", "update", "delete"])
async def test_refused_write_is_tried_again(verb: str, status: int) -> None:
    world = room_world(zones="a")
    add_node(world, "n1", zone="a")
    world.add_class(**LATE)
    if verb == "create":
        world.refuse(verb, "csistoragecapacities", status)
    async with world.running():
        await asyncio.sleep(15)
        assert rooms(world) == {("fast", "zone=a"): "100Gi"}
        if verb != "create":
            world.refuse(verb, "csistoragecapacities", status)
        if verb == "delete":
            world.api.delete("storageclasses", "fast")
        world.driver.settings = replace(world.driver.settings, total_bytes=GIB)
        await asyncio.sleep(75)
    assert rooms(world) == ({} if verb == "delete" else {("fast", "zone=a"): "1Gi"})


@pytest.mark.parity("T-ROOM-07")
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


@pytest.mark.parity("T-ROOM-09")
@pytest.mark.parametrize("wanted", [False, True])
async def test_classes_that_bind_at_once_count_only_if_asked_for(wanted: bool) -> None:
    world = room_world(zones="a", for_immediate_binding=wanted)
    add_node(world, "n1", zone="a")
    world.add_class("now", volumeBindingMode="Immediate")
    world.add_class("foreign", provisioner="other.io", **LATE)
    await world.run()
    assert set(rooms(world)) == ({("now", "zone=a")} if wanted else set())


@pytest.mark.parity("T-ROOM-10")
async def test_left_over_duplicate_and_unreadable_objects_go_at_start_and_foreign_ones_stay() -> None:
    world = room_world(zones="a")
    add_node(world, "n1", zone="a")
    world.add_class(**LATE)

    def load(name: str, class_name: str, topology: Any, labels: dict[str, str] = LABELS) -> None:
        world.api.load(
            [
                {
                    "apiVersion": "storage.k8s.io/v1",
                    "kind": "CSIStorageCapacity",
                    "metadata": {"name": name, "namespace": "team", "labels": labels},
                    "storageClassName": class_name,
                    **({"nodeTopology": topology} if topology is not None else {}),
                }
            ]
        )

    here = {"matchLabels": {"zone": "a"}}
    load("first", "fast", here)
    load("second", "fast", here)
    load("gone-class", "slow", here)
    load("gone-segment", "fast", {"matchLabels": {"zone": "z"}})
    load("expressions", "fast", {"matchExpressions": [{"key": "zone", "operator": "Exists"}]})
    load("nowhere", "fast", None)
    load("foreign", "fast", here, {**LABELS, "csi.storage.k8s.io/managed-by": "somebody"})
    await world.run()
    left = {obj["metadata"]["name"] for obj in world.api.list("csistoragecapacities")}
    assert left == {"first", "foreign"}
    first = world.api.get("csistoragecapacities", "first", "team")
    assert first is not None
    assert first["capacity"] == "100Gi"


@pytest.mark.parity("T-ROOM-11")
async def test_object_whose_labels_were_taken_is_left_alone_and_made_anew() -> None:
    world = room_world(zones="a")
    add_node(world, "n1", zone="a")
    world.add_class(**LATE)
    async with world.running():
        await asyncio.sleep(1)
        (obj,) = world.api.list("csistoragecapacities")
        world.api.edit("csistoragecapacities", obj["metadata"]["name"], lambda o: o["metadata"].pop("labels"), "team")
        await asyncio.sleep(1)
    names = [each["metadata"]["name"] for each in world.api.list("csistoragecapacities")]
    assert len(names) == 2
    assert obj["metadata"]["name"] in names


@pytest.mark.parity("T-ROOM-12")
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


@pytest.mark.parity("T-ROOM-13")
async def test_room_is_asked_for_again_after_volumes_were_made_refused_or_deleted() -> None:
    world = room_world(zones="ab")
    add_node(world, "n1", zone="a")
    add_node(world, "n2", zone="b")
    world.add_class(**LATE)
    async with world.running():
        await asyncio.sleep(1)
        uid = world.add_claim(annotations={"volume.kubernetes.io/selected-node": "n1"}, size="40Gi")
        await asyncio.sleep(1)
        assert asked(world) == 3
        assert rooms(world)["fast", "zone=a"] == "60Gi"
        world.bind(uid)
        world.drop_claim()
        world.set_phase("persistentvolumes", f"pvc-{uid}", "Released")
        await asyncio.sleep(1)
        assert asked(world) == 4
        assert rooms(world)["fast", "zone=a"] == "100Gi"
        world.driver.trouble.add("CreateVolume:Internal=no x1")
        world.add_claim("two", annotations={"volume.kubernetes.io/selected-node": "n1"})
        await asyncio.sleep(0.5)
        assert asked(world) == 6
        await asyncio.sleep(2)
        assert asked(world) == 7


@pytest.mark.parity("T-ROOM-14")
@pytest.mark.parametrize("level", [0, 1])
async def test_owner_is_the_pod_or_its_controller_which_is_not_read(level: int) -> None:
    world = room_world(zones="a", ownerref_level=level, pod_name="me")
    add_node(world, "n1", zone="a")
    world.add_class(**LATE)
    above = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "csi-plugin", "uid": "u-1", "controller": True}
    made = world.api.create(pod("me", above))
    await world.run()
    (obj,) = world.api.list("csistoragecapacities")
    itself = {"apiVersion": "v1", "kind": "Pod", "name": "me", "uid": made["metadata"]["uid"], "controller": True}
    assert obj["metadata"]["ownerReferences"] == [above if level else itself]


@pytest.mark.parity("T-ROOM-15")
@pytest.mark.parametrize(("level", "has_pod"), [(0, False), (1, True), (1, False)])
async def test_owner_that_cannot_be_found_is_looked_for_again_and_nothing_is_published_without(
    level: int, has_pod: bool
) -> None:
    world = room_world(zones="a", ownerref_level=level, pod_name="me")
    add_node(world, "n1", zone="a")
    world.add_class(**LATE)
    if has_pod:
        world.api.create(pod("me", None))
    async with world.running():
        await asyncio.sleep(3)
        assert rooms(world) == {}
        assert asked(world) == 0
        if not has_pod:
            owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "u", "controller": True}
            world.api.create(pod("me", owner))
            await asyncio.sleep(10)
            assert len(rooms(world)) == 1


async def test_object_of_another_owner_gets_ours_as_well() -> None:
    world = room_world(zones="a")
    add_node(world, "n1", zone="a")
    world.add_class(**LATE)
    await world.run()
    again = room_world(zones="a", ownerref_level=0, pod_name="me")
    again.wire, again.api = world.wire, world.api
    again.clock = world.clock
    world.api.create(pod("me", None))
    await again.run()
    (obj,) = world.api.list("csistoragecapacities")
    assert [each["kind"] for each in obj["metadata"]["ownerReferences"]] == ["Pod"]


@pytest.mark.parametrize(
    ("settings_", "text"), [({"namespace": ""}, "NAMESPACE"), ({"ownerref_level": 0, "pod_name": ""}, "POD_NAME")]
)
async def test_pod_that_does_not_know_itself_is_told_what_to_set(settings_: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        await room_world(**settings_).run()


@pytest.mark.parity("T-ROOM-17")
async def test_lane_of_its_own_takes_42_minutes_for_500_segments_and_5_classes_and_slows_nobody_else() -> None:
    world = room_world(rate=RateConfig(qps=1.0, burst=5), poll_interval_s=7200.0)
    world.driver.settings = replace(world.driver.settings, places=tuple({"zone": f"z{n}"} for n in range(500)))
    for number in range(500):
        add_node(world, f"n{number}", zone=f"z{number}")
    for number in range(5):
        world.add_class(f"c{number}", **LATE)
    async with world.running():
        await asyncio.sleep(2490)
        assert len(rooms(world)) < 2500
        uid = world.add_claim(storageClassName="c0", annotations={"volume.kubernetes.io/selected-node": "n1"})
        await asyncio.sleep(1)
        assert world.volume(uid)
        await asyncio.sleep(29)
        assert len(rooms(world)) == 2500
    assert room_writes(world).count("create") == 2500
    # The volume that was made in the middle took room from its segment, in every class.
    assert len(room_writes(world)) <= 2505


@pytest.mark.parity("T-ROOM-18")
async def test_500_segments_and_5_classes_cost_one_call_and_one_write_each_and_a_second_poll_none() -> None:
    world = room_world(threads=4)
    world.driver.settings = replace(world.driver.settings, places=tuple({"zone": f"z{n}"} for n in range(500)))
    for number in range(500):
        add_node(world, f"n{number}", zone=f"z{number}")
    for number in range(5):
        world.add_class(f"c{number}", **LATE)
    async with world.running():
        await asyncio.sleep(50)
        assert asked(world) == 2500
        assert len(rooms(world)) == 2500
        assert len(world.wire.requests) <= 2520
        assert room_writes(world) == ["create"] * 2500
        await asyncio.sleep(60)
        assert asked(world) == 5000
        assert len(world.wire.requests) <= 2520


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["node", "label", "unregister", "class", "immediate", "delete", "copy", "wait"]),
        st.integers(0, 2),
        st.sampled_from("ab"),
    ),
    max_size=8,
)


@pytest.mark.parity("T-ROOM-19")
@settings(max_examples=25, deadline=None)
@given(CHANGES)
async def test_after_any_changes_there_are_exactly_the_objects_that_should_be(
    changes: list[tuple[str, int, str]],
) -> None:
    world = room_world(zones="ab")
    classes: dict[str, bool] = {}
    nodes: dict[str, str] = {}
    unregistered: set[str] = set()
    async with world.running():
        for what, number, zone in changes:
            name = f"x{number}"
            if what == "node" and name in nodes:
                world.api.delete("nodes", name)
                world.api.delete("csinodes", name)
                del nodes[name]
                unregistered.discard(name)
            elif what == "node":
                add_node(world, name, zone=zone)
                nodes[name] = zone
            elif what == "label" and name in nodes:
                world.api.edit("nodes", name, relabel(zone))
                nodes[name] = zone
            elif what == "unregister" and name in nodes:
                world.api.edit("csinodes", name, lambda obj: obj["spec"].update(drivers=[]))
                unregistered.add(name)
            elif what in ("class", "immediate") and name in classes:
                world.api.delete("storageclasses", name)
                del classes[name]
            elif what in ("class", "immediate"):
                world.add_class(name, volumeBindingMode="Immediate" if what == "immediate" else LATE_MODE)
                classes[name] = what == "class"
            elif what in ("delete", "copy") and (found := world.api.list("csistoragecapacities")):
                obj = found[number % len(found)]
                if what == "delete":
                    world.api.delete("csistoragecapacities", obj["metadata"]["name"], "team")
                else:
                    obj["metadata"] = {"generateName": "copy-", "namespace": "team", "labels": LABELS}
                    world.api.create(obj)
            elif what == "wait":
                await asyncio.sleep(0.05 * number)
        await asyncio.sleep(15)
        here = {zone for name, zone in nodes.items() if name not in unregistered}
        relevant = {name for name, is_relevant in classes.items() if is_relevant}
        assert set(rooms(world)) == {(name, f"zone={zone}") for name in relevant for zone in here}
