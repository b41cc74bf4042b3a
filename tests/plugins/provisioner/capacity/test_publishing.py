"""CSIStorageCapacity objects: which there are after anything has happened, what they say, and what that costs."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.plugins.provisioner.capacity.rooms import (
    LABELS,
    LATE,
    add_node,
    asked,
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


async def test_namespace_that_is_not_there_names_its_variable(caplog: pytest.LogCaptureFixture) -> None:
    world = room_world(zones="a")
    add_node(world, "n1", zone="a")
    world.add_class(**LATE)
    world.refuse("create", "csistoragecapacities", 404, 'namespaces "team" not found')
    await world.run(seconds=15)
    (told,) = (record for record in caplog.records if record.message == "attempt failed")
    text = getattr(told, "error", "")
    assert all(each in text for each in ('namespaces "team" not found', "variable NAMESPACE", "metadata.namespace"))
    assert rooms(world) == {("fast", "zone=a"): "100Gi"}


@pytest.mark.parity("T-ROOM-09")
@pytest.mark.parametrize("wanted", [False, True])
async def test_classes_that_bind_at_once_count_only_if_asked_for(wanted: bool) -> None:
    world = room_world(zones="a", for_immediate_binding=wanted)
    add_node(world, "n1", zone="a")
    world.add_class("now", volumeBindingMode="Immediate")
    world.add_class("foreign", provisioner="other.io", **LATE)
    await world.run()
    assert set(rooms(world)) == ({("now", "zone=a")} if wanted else set())


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
