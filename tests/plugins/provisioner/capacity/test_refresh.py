"""Which objects are refreshed when a volume was made, refused or deleted, and what the gauges tell."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.config import RateConfig
from tests.plugins.provisioner.capacity.rooms import (
    add_kind,
    add_node,
    asked,
    asked_about,
    gauges,
    load_room,
    quiet_world,
    rooms,
)
from tests.plugins.provisioner.world import GIB, World

if TYPE_CHECKING:
    from csisidecar.kube.session import Response

pytestmark = [pytest.mark.looptime, pytest.mark.timeout(120)]

ON_N1 = {"volume.kubernetes.io/selected-node": "n1"}
EVERYTHING = ["fast@a", "fast@b", "slow@a", "slow@b"]


def both_classes(**more: Any) -> World:
    """Two zones, two classes; of both the driver is asked about once at the start: 4 calls."""
    return quiet_world(classes=("fast", "slow"), **more)


def affinity(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"nodeAffinity": {"required": {"nodeSelectorTerms": list(terms)}}}


def term(*expressions: tuple[str, str, list[str]]) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": how, "values": values} for key, how, values in expressions]}


ZONE_A = term(("zone", "In", ["a"]))
ZONE_B = term(("zone", "In", ["b"]))


async def delete_one(world: World, spec: dict[str, Any]) -> list[str]:
    """What was asked about after the deletion of a volume with such a spec."""
    async with world.running():
        await asyncio.sleep(1)
        before = asked(world)
        world.add_volume("old", spec=spec)
        await asyncio.sleep(0.5)
        return asked_about(world, since=before)


@pytest.mark.parity("T-REFRESH-01")
async def test_volume_made_in_a_segment_refreshes_it_for_every_class() -> None:
    world = both_classes()
    async with world.running():
        await asyncio.sleep(1)
        world.add_claim(annotations=ON_N1, size="40Gi")
        await asyncio.sleep(1)
    assert asked_about(world, since=4) == ["fast@a", "slow@a"]
    assert {place for place, room in rooms(world).items() if room == "60Gi"} == {
        ("fast", "zone=a"),
        ("slow", "zone=a"),
    }


@pytest.mark.parity("T-REFRESH-02")
async def test_volume_made_without_an_affinity_refreshes_its_class_everywhere() -> None:
    world = both_classes(plugin=frozenset({"CONTROLLER_SERVICE"}))
    async with world.running():
        await asyncio.sleep(1)
        world.add_claim(annotations=ON_N1)
        await asyncio.sleep(1)
    assert asked_about(world, since=4) == ["fast@a", "fast@b"]


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("Internal", id="final", marks=pytest.mark.parity("T-REFRESH-03")),
        pytest.param("DeadlineExceeded", id="background", marks=pytest.mark.parity("T-REFRESH-04")),
        pytest.param("ResourceExhausted", id="reschedule", marks=pytest.mark.parity("T-REFRESH-05")),
    ],
)
async def test_volume_that_was_refused_refreshes_its_class_everywhere(code: str) -> None:
    world = both_classes()
    world.driver.trouble.add(f"CreateVolume:{code}=no")
    async with world.running():
        await asyncio.sleep(1)
        world.add_claim(annotations=ON_N1)
        await asyncio.sleep(0.5)
    assert len(world.calls()) == 1
    assert asked_about(world, since=4) == ["fast@a", "fast@b"]


@pytest.mark.parity("T-REFRESH-06")
async def test_claim_that_failed_before_the_driver_was_asked_refreshes_nothing() -> None:
    world = both_classes()
    secret = {"csi.storage.k8s.io/provisioner-secret-name": "x", "csi.storage.k8s.io/provisioner-secret-namespace": "y"}
    world.add_class("secret", parameters={"kind": "secret", **secret}, volumeBindingMode="WaitForFirstConsumer")
    async with world.running():
        await asyncio.sleep(1)
        before = asked(world)
        world.add_claim(annotations=ON_N1, storageClassName="secret")
        await asyncio.sleep(0.5)
        assert world.warnings()
    assert world.calls() == []
    assert asked(world) == before


@pytest.mark.parity("T-REFRESH-07")
async def test_claim_that_can_never_be_served_refreshes_its_class() -> None:
    world = both_classes()
    async with world.running():
        await asyncio.sleep(1)
        world.add_claim(annotations=ON_N1, selector={"matchLabels": {"a": "b"}})
        await asyncio.sleep(0.5)
        assert world.warnings()
    assert world.calls() == []
    assert asked_about(world, since=4) == ["fast@a", "fast@b"]


@pytest.mark.parity("T-REFRESH-08")
async def test_claim_that_a_populator_is_to_serve_refreshes_nothing() -> None:
    world = both_classes()
    async with world.running():
        await asyncio.sleep(1)
        source = {"apiGroup": "example.com", "kind": "Image", "name": "x"}
        world.add_claim(annotations=ON_N1, dataSource=source, dataSourceRef=source)
        await asyncio.sleep(0.5)
        assert world.events()
    assert world.calls() == []
    assert asked(world) == 4


DELETED = [
    pytest.param(affinity(ZONE_A), ["fast@a", "slow@a"], id="one", marks=pytest.mark.parity("T-REFRESH-09")),
    pytest.param(affinity(ZONE_A, ZONE_B), EVERYTHING, id="two", marks=pytest.mark.parity("T-REFRESH-10")),
    pytest.param({}, [], id="none", marks=pytest.mark.parity("T-REFRESH-11")),
    pytest.param(
        affinity({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}], **ZONE_A}, ZONE_B),
        ["fast@b", "slow@b"],
        id="fields",
        marks=pytest.mark.parity("T-REFRESH-12"),
    ),
    pytest.param(
        affinity(term(("zone", "NotIn", ["a"])), ZONE_B),
        ["fast@b", "slow@b"],
        id="operator",
        marks=pytest.mark.parity("T-REFRESH-13"),
    ),
    pytest.param(
        affinity(term(("zone", "In", ["a", "b"])), ZONE_B),
        ["fast@b", "slow@b"],
        id="values",
        marks=pytest.mark.parity("T-REFRESH-14"),
    ),
    pytest.param(affinity(term(("zone", "In", ["z"]))), [], id="unknown", marks=pytest.mark.parity("T-REFRESH-15")),
]


@pytest.mark.parametrize(("spec", "refreshed"), DELETED)
async def test_deleted_volume_refreshes_the_segments_that_its_affinity_names(
    spec: dict[str, Any], refreshed: list[str]
) -> None:
    world = both_classes()
    assert await delete_one(world, spec) == refreshed
    assert len(world.calls("DeleteVolume")) == 1


@pytest.mark.parity("T-REFRESH-16")
async def test_volume_that_was_not_deleted_refreshes_nothing() -> None:
    world = both_classes()
    world.driver.trouble.add("DeleteVolume:Internal=no")
    assert await delete_one(world, affinity(ZONE_A)) == []
    assert len(world.calls("DeleteVolume")) == 1


@pytest.mark.parity("T-REFRESH-17")
async def test_volume_that_is_kept_refreshes_nothing() -> None:
    world = both_classes()
    assert await delete_one(world, {**affinity(ZONE_A), "persistentVolumeReclaimPolicy": "Retain"}) == []
    assert world.calls("DeleteVolume") == []


def regional() -> World:
    """One node, whose segment is region and zone."""
    world = quiet_world(zones="")
    world.driver.settings = replace(world.driver.settings, places=({"region": "r", "zone": "a"},), total_bytes=GIB)
    add_node(world, "n1", ("region", "zone"), region="r", zone="a")
    return world


@pytest.mark.parity("T-REFRESH-18")
async def test_volume_of_a_region_does_not_refresh_the_zones_in_it() -> None:
    assert await delete_one(regional(), affinity(term(("region", "In", ["r"])))) == []


@pytest.mark.parity("T-REFRESH-19")
async def test_order_of_the_keys_of_an_affinity_does_not_matter() -> None:
    spec = affinity(term(("zone", "In", ["a"]), ("region", "In", ["r"])))
    assert await delete_one(regional(), spec) == ["fast@r,a"]


@pytest.mark.parity("T-REFRESH-20")
async def test_refresh_does_not_wait_for_the_pv_to_be_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    world = quiet_world()
    real = world.wire.request

    async def slow(method: str, path: str, **more: Any) -> Response:
        if (method, path) == ("POST", "/api/v1/persistentvolumes"):
            await asyncio.sleep(5)
        return await real(method, path, **more)

    monkeypatch.setattr(world.wire, "request", slow)
    async with world.running():
        await asyncio.sleep(1)
        uid = world.add_claim(annotations=ON_N1, size="40Gi")
        await asyncio.sleep(1)
        assert world.api.get("persistentvolumes", f"pvc-{uid}") is None
        assert rooms(world) == {("fast", "zone=a"): "60Gi", ("fast", "zone=b"): "100Gi"}
        await asyncio.sleep(5)
        assert world.volume(uid)


@pytest.mark.parity("T-GAUGE-01")
async def test_goal_is_the_number_of_segments_times_classes_whether_or_not_there_are_objects() -> None:
    world = both_classes()
    world.driver.trouble.add("GetCapacity:Internal=no idea")
    async with world.running():
        await asyncio.sleep(1)
        assert gauges(world) == (4, 0, 0)
        add_kind(world, "third")
        await asyncio.sleep(1)
        assert gauges(world) == (6, 0, 0)
        world.api.delete("nodes", "n2")
        await asyncio.sleep(1)
        assert gauges(world) == (3, 0, 0)


@pytest.mark.parity("T-GAUGE-02")
async def test_current_rises_as_objects_are_made() -> None:
    world = both_classes(rate=RateConfig(qps=1.0, burst=1))
    seen = []
    async with world.running():
        for _ in range(6):
            seen.append(gauges(world))
            await asyncio.sleep(1)
    assert [goal for goal, _, _ in seen] == [4] * 6
    current = [count for _, count, _ in seen]
    assert current == sorted(current)
    assert {1, 2, 3, 4} <= set(current)


@pytest.mark.parity("T-GAUGE-03")
async def test_obsolete_rises_while_deletes_are_refused_and_falls_when_they_are_not() -> None:
    world = both_classes()
    world.refuse("delete", "csistoragecapacities", 403, times=4)
    async with world.running():
        await asyncio.sleep(1)
        assert gauges(world) == (4, 4, 0)
        world.api.delete("storageclasses", "slow")
        await asyncio.sleep(0.5)
        assert gauges(world) == (2, 2, 2)
        await asyncio.sleep(30)
        assert gauges(world) == (2, 2, 0)


@pytest.mark.parity("T-GAUGE-04")
async def test_obsolete_falls_one_by_one_while_the_lane_is_full() -> None:
    world = both_classes(rate=RateConfig(qps=0.1, burst=4))
    seen = []
    async with world.running():
        await asyncio.sleep(5)
        world.api.delete("storageclasses", "fast")
        world.api.delete("storageclasses", "slow")
        for _ in range(60):
            await asyncio.sleep(1)
            seen.append(gauges(world)[2])
    assert list(dict.fromkeys(seen)) == [4, 3, 2, 1, 0]


@pytest.mark.parity("T-GAUGE-05")
async def test_second_object_about_the_same_is_not_obsolete() -> None:
    world = quiet_world(zones="a")
    world.refuse("delete", "csistoragecapacities", 403, times=100)
    async with world.running():
        await asyncio.sleep(1)
        load_room(world, "twin")
        await asyncio.sleep(0.5)
        assert gauges(world) == (1, 1, 0)


@pytest.mark.parity("T-GAUGE-06")
async def test_numbers_are_right_where_no_controller_runs_too() -> None:
    world = quiet_world(zones="a")
    load_room(world, "stray", zone="b")
    async with world.running():
        for controller in world.controllers:
            controller.drain()
        await asyncio.sleep(1)
        assert gauges(world) == (1, 0, 1)
        add_node(world, "n2", zone="b")
        await asyncio.sleep(1)
        assert gauges(world) == (2, 1, 0)
        world.api.delete("nodes", "n1")
        await asyncio.sleep(1)
        assert gauges(world) == (1, 1, 0)
    assert asked(world) == 0
