"""What a provisioner finds and asks when it starts, and whom its objects belong to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from csisidecar.errors import ConfigError
from tests.plugins.provisioner.capacity.rooms import (
    LABELS,
    LATE,
    add_node,
    asked,
    gauges,
    names,
    pod,
    quiet_world,
    room_world,
    room_writes,
    rooms,
)

pytestmark = [pytest.mark.looptime, pytest.mark.timeout(120)]


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


@pytest.mark.parity("T-POLL-01")
async def test_first_poll_is_the_start_and_the_next_ones_follow_at_the_interval() -> None:
    world = quiet_world(zones="ab", poll_interval_s=60.0)
    await world.run(seconds=185)
    assert [round(call.started_s) for call in world.driver.calls("GetCapacity")] == [0, 0, 60, 60, 120, 120, 180, 180]


@pytest.mark.parity("T-POLL-02")
async def test_objects_of_an_earlier_process_are_taken_over_without_a_write() -> None:
    world = quiet_world()
    await world.run()
    before = names(world)
    await world.run(seconds=130)
    assert names(world) == before
    assert room_writes(world) == ["create", "create"]


@pytest.mark.parity("T-POLL-03")
async def test_nothing_is_posted_to_find_out_what_the_api_server_serves() -> None:
    world = quiet_world()
    world.driver.trouble.add("GetCapacity:Internal=no idea")
    await world.run(seconds=5)
    assert world.writes() == []


@pytest.mark.parity("T-POLL-04")
async def test_objects_in_other_namespaces_are_neither_counted_nor_touched() -> None:
    world = quiet_world(zones="a")
    meta = {"name": "elsewhere", "namespace": "default", "labels": LABELS}
    body = {"storageClassName": "gone", "nodeTopology": {"matchLabels": {"zone": "a"}}, "capacity": "1Gi"}
    world.api.load([{"apiVersion": "storage.k8s.io/v1", "kind": "CSIStorageCapacity", "metadata": meta, **body}])
    async with world.running():
        await asyncio.sleep(1)
        assert gauges(world) == (1, 1, 0)
    assert "elsewhere" in names(world)
    assert room_writes(world) == ["create"]
