"""Finalizers that come off again: of claims that were cloned, and of snapshots that nobody restores any more."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from csisidecar.config import ProvisionerSettings
from csisidecar.kube import Claim, ClaimSpec, Metadata, ObjectRef
from csisidecar.plugins.provisioner.unprotect import find_clone_source
from tests.plugins.provisioner.test_data_sources import add_source_claim
from tests.plugins.provisioner.world import CAPABILITIES, World

pytestmark = pytest.mark.looptime

CLONING = "provisioner.storage.kubernetes.io/cloning-protection"
RESTORING = "provisioner.storage.kubernetes.io/volumesnapshot-as-source-protection"
OTHER = "example.com/keep"
SOURCE = {"kind": "PersistentVolumeClaim", "name": "source"}


def clone_world(**more: Any) -> World:
    return World(
        settings=ProvisionerSettings(retry_interval_max_s=4, **more),
        controller=CAPABILITIES | {"CLONE_VOLUME", "CREATE_DELETE_SNAPSHOT"},
    )


def add_source(world: World, *finalizers: str) -> None:
    world.add_claim("source", provisioner="other.io")
    world.api.edit(
        "persistentvolumeclaims", "source", lambda obj: obj["metadata"].update(finalizers=list(finalizers)), "team"
    )
    world.api.delete("persistentvolumeclaims", "source", "team")


def source_finalizers(world: World) -> list[str] | None:
    found = world.api.get("persistentvolumeclaims", "source", "team")
    return None if found is None else found["metadata"].get("finalizers", [])


def add_clone(world: World, **more: Any) -> None:
    world.add_claim("clone", provisioner="other.io", **{"dataSource": SOURCE, **more})


async def test_deleted_source_without_clones_goes_and_others_finalizers_stay() -> None:
    world = clone_world()
    add_source(world, OTHER, CLONING, "example.com/too")
    await world.run()
    assert source_finalizers(world) == [OTHER, "example.com/too"]
    assert world.writes() == ["update persistentvolumeclaims"]


async def test_source_that_is_not_deleted_keeps_its_finalizer() -> None:
    world = clone_world()
    world.add_claim("source", provisioner="other.io")
    world.api.edit("persistentvolumeclaims", "source", lambda obj: obj["metadata"].update(finalizers=[CLONING]), "team")
    await world.run()
    assert source_finalizers(world) == [CLONING]
    assert world.wire.requests == []


@pytest.mark.parity("T-SOURCE-01")
@pytest.mark.parametrize("end", ["bound", "gone"])
async def test_source_waits_for_its_pending_clone_and_goes_as_soon_as_that_ends(end: str) -> None:
    world = clone_world(retry_interval_start_s=4)
    add_clone(world)
    add_source(world, CLONING)
    async with world.running():
        await asyncio.sleep(1)
        assert source_finalizers(world) == [CLONING]
        if end == "bound":
            world.set_phase("persistentvolumeclaims", "clone", "Bound", "team")
        else:
            world.drop_claim("clone")
        await asyncio.sleep(0.5)
        assert source_finalizers(world) is None


@pytest.mark.parametrize(
    "spec",
    [
        {"dataSource": {"kind": "PersistentVolumeClaim", "name": "another"}},
        {"dataSource": {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "source"}},
        {"dataSource": None},
    ],
)
async def test_other_claims_hold_nothing(spec: dict[str, Any]) -> None:
    world = clone_world()
    add_clone(world, **spec)
    add_source(world, CLONING)
    await world.run()
    assert source_finalizers(world) is None


@pytest.mark.parametrize("status", [409, 500, 0])
async def test_failed_write_is_tried_again(status: int) -> None:
    world = clone_world()
    world.refuse("update", "persistentvolumeclaims", status)
    add_source(world, CLONING)
    await world.run(seconds=5)
    assert source_finalizers(world) is None


async def test_driver_that_cannot_clone_has_no_such_controller() -> None:
    world = World()
    add_source(world, CLONING)
    await world.run()
    assert source_finalizers(world) == [CLONING]


def add_snapshot(world: World, name: str, *finalizers: str, namespace: str = "team") -> None:
    world.api.load(
        [
            {
                "apiVersion": "snapshot.storage.k8s.io/v1",
                "kind": "VolumeSnapshot",
                "metadata": {"name": name, "namespace": namespace, "finalizers": list(finalizers)},
                "spec": {"source": {"persistentVolumeClaimName": "data"}},
            }
        ]
    )


def snapshot_finalizers(world: World, name: str = "snap", namespace: str = "team") -> list[str]:
    found = world.api.get("volumesnapshots", name, namespace)
    assert found is not None
    finalizers: list[str] = found["metadata"].get("finalizers", [])
    return finalizers


SNAPSHOT = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "snap"}


@pytest.mark.parity("T-SOURCE-03")
async def test_left_over_finalizer_goes_at_the_first_sweep_and_others_stay() -> None:
    world = clone_world()
    add_snapshot(world, "snap", OTHER, RESTORING)
    await world.run()
    assert snapshot_finalizers(world) == [OTHER]


@pytest.mark.parity("T-SOURCE-04")
async def test_snapshot_that_a_claim_waits_for_keeps_its_finalizer_until_a_later_sweep() -> None:
    world = clone_world(snapshot_orphan_sweep_interval_s=60.0)
    add_snapshot(world, "snap", RESTORING)
    world.add_claim("restored", provisioner="other.io", dataSource=SNAPSHOT)
    async with world.running():
        await asyncio.sleep(70)
        assert snapshot_finalizers(world) == [RESTORING]
        world.set_phase("persistentvolumeclaims", "restored", "Bound", "team")
        await asyncio.sleep(60)
    assert snapshot_finalizers(world) == []


@pytest.mark.parity("T-SOURCE-05")
@pytest.mark.parametrize(("status", "wanted"), [(403, [RESTORING]), (404, [RESTORING]), (500, []), (0, [])], ids=str)
async def test_list_that_is_refused_ends_a_sweep_quietly_and_one_that_failed_is_tried_again(
    status: int, wanted: list[str]
) -> None:
    world = clone_world()
    add_snapshot(world, "snap", RESTORING)
    world.refuse("list", "volumesnapshots", status)
    await world.run(seconds=30)
    assert snapshot_finalizers(world) == wanted
    assert world.events() == []


@pytest.mark.parametrize("status", [403, 404, 409, 500])
async def test_write_that_is_refused_is_left_to_the_next_sweep(status: int) -> None:
    world = clone_world(snapshot_orphan_sweep_interval_s=60.0)
    add_snapshot(world, "one", RESTORING)
    add_snapshot(world, "two", RESTORING)
    world.refuse("update", "volumesnapshots", status)
    async with world.running():
        await asyncio.sleep(30)
        left = [name for name in ("one", "two") if snapshot_finalizers(world, name)]
        assert len(left) == 1
        await asyncio.sleep(40)
        assert snapshot_finalizers(world, left[0]) == []


@pytest.mark.parametrize("settings", [{"snapshot_orphan_sweep_interval_s": 0.0}, {}])
async def test_sweep_needs_an_interval_and_a_driver_with_snapshots(settings: dict[str, Any]) -> None:
    world = clone_world(**settings) if settings else World()
    add_snapshot(world, "snap", RESTORING)
    await world.run()
    assert snapshot_finalizers(world) == [RESTORING]


@pytest.mark.parity("T-SOURCE-06")
async def test_clone_whose_source_is_deleted_while_its_outcome_is_unknown_finishes_and_the_source_goes() -> None:
    """Go reads the source again, finds it being deleted, and neither the clone nor the source ever ends."""
    world = World(
        settings=ProvisionerSettings(retry_interval_max_s=4),
        controller=CAPABILITIES | {"CLONE_VOLUME", "CREATE_DELETE_SNAPSHOT"},
    )
    world.add_class()
    await add_source_claim(world)
    world.driver.trouble.add("CreateVolume:late=DeadlineExceeded")
    uid = world.add_claim("clone", dataSource={"kind": "PersistentVolumeClaim", "name": "old"})
    async with world.running():
        await asyncio.sleep(0.2)
        assert world.calls()
        world.api.edit(
            "persistentvolumeclaims", "old", lambda obj: obj["metadata"].update(finalizers=[CLONING]), "team"
        )
        world.api.delete("persistentvolumeclaims", "old", "team")
        await asyncio.sleep(0.2)
        assert world.api.get("persistentvolumeclaims", "old", "team") is not None
        world.driver.trouble.clear()
        await asyncio.sleep(10)
        assert world.volume(uid)["spec"]["claimRef"]["name"] == "clone"
        world.set_phase("persistentvolumeclaims", "clone", "Bound", "team")
        await asyncio.sleep(1)
        assert world.api.get("persistentvolumeclaims", "old", "team") is None


@pytest.mark.parity("T-SOURCE-02")
async def test_source_of_a_clone_may_be_in_another_namespace() -> None:
    def claim(**spec: Any) -> Claim:
        return Claim(metadata=Metadata(name="clone", namespace="team"), spec=ClaimSpec(**spec))

    reference = ObjectRef(kind="PersistentVolumeClaim", name="source", namespace="lib")
    assert find_clone_source(claim(data_source_ref=reference)) == ("lib", "source")
    assert find_clone_source(claim(data_source=ObjectRef(kind="PersistentVolumeClaim", name="s"))) == ("team", "s")
    assert find_clone_source(claim()) is None


@pytest.mark.parity("T-QUIRK-16")
async def test_source_in_another_namespace_waits_for_its_pending_clone() -> None:
    """The claim says whom it is to be cloned from, whether the provisioner would be granted that or not."""
    world = clone_world()
    world.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "lib"}})
    meta = {"name": "source", "namespace": "lib", "finalizers": [CLONING]}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    world.api.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec})
    # Creation adds what protects a claim in use.
    world.api.edit("persistentvolumeclaims", "source", lambda obj: obj["metadata"].update(finalizers=[CLONING]), "lib")
    world.api.delete("persistentvolumeclaims", "source", "lib")
    world.add_claim("clone", provisioner="other.io", dataSourceRef={**SOURCE, "namespace": "lib"})
    async with world.running():
        await asyncio.sleep(60)
        assert world.api.get("persistentvolumeclaims", "source", "lib") is not None
        world.set_phase("persistentvolumeclaims", "clone", "Bound", "team")
        await asyncio.sleep(0.5)
        assert world.api.get("persistentvolumeclaims", "source", "lib") is None
