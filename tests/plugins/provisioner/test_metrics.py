"""What is counted, under which names, labels and buckets."""

from __future__ import annotations

import asyncio

import pytest

from tests.plugins.provisioner.world import World

pytestmark = pytest.mark.looptime

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CLAIM = "controller_persistentvolumeclaim_provision"
VOLUME = "controller_persistentvolume_delete"


@pytest.mark.parity("P-METRIC-01")
async def test_names_labels_and_buckets_are_the_go_provisioners() -> None:
    world = World()
    await world.run(0.1)
    shapes = {name: shape for name, shape in world.numbers.shapes.items() if name.startswith("controller_")}
    assert shapes == {
        f"{CLAIM}_total": (("class", "source"), ()),
        f"{CLAIM}_failed_total": (("class", "source"), ()),
        f"{CLAIM}_duration_seconds": (("class", "source"), BUCKETS),
        f"{VOLUME}_total": (("class",), ()),
        f"{VOLUME}_failed_total": (("class",), ()),
        f"{VOLUME}_duration_seconds": (("class",), BUCKETS),
    }
    assert {key for key in world.numbers.gauges if key[0] == "csi_sidecar_oldest_pending_seconds"} == {
        ("csi_sidecar_oldest_pending_seconds", "provision"),
        ("csi_sidecar_oldest_pending_seconds", "delete"),
    }


@pytest.mark.parity("P-METRIC-02")
async def test_a_life_with_failures_is_counted_and_timed() -> None:
    world = World()
    world.driver.order("CreateVolume:Internal=no x2", "CreateVolume:delay=3 x1", "DeleteVolume:Internal=no x1")
    world.add_class()
    uid = world.add_claim()

    def oldest(op: str) -> float:
        return world.numbers.gauges["csi_sidecar_oldest_pending_seconds", op]()

    async with world.running():
        await asyncio.sleep(2.5)
        assert oldest("provision") == pytest.approx(2.5, abs=0.1)
        await asyncio.sleep(7)
        assert oldest("provision") == 0
        assert world.numbers.seen[f"{CLAIM}_failed_total", "fast", ""] == [1, 1]
        assert world.numbers.seen[f"{CLAIM}_total", "fast", ""] == [1]
        assert world.numbers.seen[f"{CLAIM}_duration_seconds", "fast", ""] == [pytest.approx(3, abs=0.1)]
        assert world.numbers.seen["csi_sidecar_end_to_end_seconds", "provision"] == [pytest.approx(6, abs=0.1)]
        world.bind(uid)
        world.drop_claim()
        world.set_phase("persistentvolumes", f"pvc-{uid}", "Released")
        await asyncio.sleep(0.5)
        assert oldest("delete") == pytest.approx(0.5, abs=0.1)
        await asyncio.sleep(1)
        assert oldest("delete") == 0
    assert world.numbers.seen[f"{VOLUME}_failed_total", "fast"] == [1]
    assert world.numbers.seen[f"{VOLUME}_total", "fast"] == [1]
    assert world.numbers.total("csi_sidecar_outcomes_total", "provision", "final") == 2
    assert world.numbers.total("csi_sidecar_outcomes_total", "provision", "success") == 1
    assert world.numbers.total("csi_sidecar_outcomes_total", "delete", "failure") == 1


async def test_class_label_ignores_the_old_annotation() -> None:
    world = World()
    world.add_class("old")
    world.add_claim(storageClassName="fast", annotations={"volume.beta.kubernetes.io/storage-class": "old"})
    await world.run()
    assert world.numbers.total(f"{CLAIM}_total", "fast", "") == 1


async def test_nothing_is_remembered_once_all_is_done() -> None:
    world = World()
    world.driver.order("CreateVolume:Aborted=busy x1", "CreateVolume:InvalidArgument=odd x1")
    world.add_class()
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(600)
        world.bind(uid)
        world.drop_claim()
        world.set_phase("persistentvolumes", f"pvc-{uid}", "Released")
        await asyncio.sleep(1)
        world.unprotect(f"pvc-{uid}")
        world.driver.order("CreateVolume:late x1")
        world.add_claim("short")
        await asyncio.sleep(1)
        world.drop_claim("short")
        await asyncio.sleep(20)
    memory = world.plugin._memory
    tables = [value for value in vars(memory).values() if isinstance(value, dict | set)]
    assert len(tables) == 12
    assert not any(tables)
    assert not memory.waits._seen
    assert not memory.waits._by_claim
