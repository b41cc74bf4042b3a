"""Claims, classes and volumes of the in-tree plugins that a driver took over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.plugins.provisioner.world import FINALIZER, World

pytestmark = pytest.mark.looptime

EBS, EBS_IN_TREE = "ebs.csi.aws.com", "kubernetes.io/aws-ebs"
MIGRATED = {"pv.kubernetes.io/migrated-to": EBS}


@pytest.mark.parity("P-MIGRATE-01")
async def test_class_is_translated_for_the_driver_and_the_volume_back() -> None:
    world = World(driver_name=EBS)
    world.add_class(provisioner=EBS_IN_TREE, parameters={"type": "gp2", "fsType": "xfs"})
    uid = world.add_claim(provisioner=EBS)
    await world.run()
    (request,) = world.calls()
    assert request.parameters == {"type": "gp2"}
    assert request.volume_capabilities[0].mount.fs_type == "xfs"
    volume = world.volume(uid)
    assert "csi" not in volume["spec"]
    source = volume["spec"]["awsElasticBlockStore"]
    record = world.driver.volume_named(f"pvc-{uid}")
    assert record is not None
    assert (source["volumeID"], source["fsType"]) == (record.id, "xfs")
    assert volume["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"] == EBS_IN_TREE
    assert volume["metadata"]["annotations"]["volume.kubernetes.io/provisioner-deletion-secret-name"] == ""
    assert FINALIZER in volume["metadata"]["finalizers"]
    assert world.warnings() == []


@pytest.mark.parametrize("provisioner", [EBS, EBS_IN_TREE])
async def test_claims_of_either_name_are_ours(provisioner: str) -> None:
    world = World(driver_name=EBS)
    world.add_class(provisioner=EBS_IN_TREE)
    uid = world.add_claim(provisioner=provisioner, annotations=MIGRATED)
    await world.run()
    assert world.volume(uid)


async def test_class_that_cannot_be_translated_is_told() -> None:
    world = World(driver_name=EBS)
    topologies = [{"matchLabelExpressions": [{"key": "topology.kubernetes.io/zone", "values": ["a"]}]}]
    world.add_class(provisioner=EBS_IN_TREE, parameters={"zone": "a"}, allowedTopologies=topologies)
    world.add_claim(provisioner=EBS)
    await world.run()
    assert len(world.warnings()) == 1
    assert world.warnings()[0].startswith("failed to translate storage class: ")
    assert world.calls() == []


@pytest.mark.parity("P-MIGRATE-02")
async def test_volume_that_cannot_be_told_in_tree_is_deleted_again() -> None:
    """A handle of the test driver is no disk of Google's."""
    world = World(driver_name="pd.csi.storage.gke.io")
    world.driver.order("DeleteVolume:Internal=stuck x6")
    world.add_class(provisioner="kubernetes.io/gce-pd")
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(0.5)
        assert world.plugin._memory.in_progress
        assert "Cleanup of volume" in world.warnings()[0]
        assert "rpc error: code = Internal desc = stuck" in world.warnings()[0]
        assert len(world.calls("DeleteVolume")) == 5
        await asyncio.sleep(1)
        assert world.driver.volumes == {}
        assert world.plugin._memory.in_progress == {}
    assert world.api.get("persistentvolumes", f"pvc-{uid}") is None


@pytest.mark.parity("P-MIGRATE-03")
async def test_released_in_tree_volume_is_deleted_by_its_drivers_handle() -> None:
    world = World(driver_name=EBS)
    for name in ("creds",):
        meta = {"name": name, "namespace": "team"}
        world.api.create({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": {"k": "dg=="}})
    world.add_class(
        provisioner=EBS_IN_TREE,
        parameters={
            "csi.storage.k8s.io/provisioner-secret-name": "creds",
            "csi.storage.k8s.io/provisioner-secret-namespace": "${pvc.namespace}",
        },
    )
    spec: dict[str, Any] = {
        "csi": None,
        "awsElasticBlockStore": {"volumeID": "aws://us-east-1a/vol-1"},
        "storageClassName": "fast",
        "claimRef": {"kind": "PersistentVolumeClaim", "namespace": "team", "name": "data", "uid": "u"},
    }
    world.add_volume("pv1", spec=spec, annotations={"pv.kubernetes.io/provisioned-by": EBS_IN_TREE, **MIGRATED})
    async with world.running():
        await asyncio.sleep(0.5)
        world.unprotect("pv1")
        await asyncio.sleep(0.5)
    (request,) = world.calls("DeleteVolume")
    assert request.volume_id == "vol-1"
    assert request.secrets == {"k": "v"}
    assert world.api.get("persistentvolumes", "pv1") is None


async def test_existing_volume_of_the_claim_is_recognized_in_tree() -> None:
    world = World(driver_name=EBS)
    world.add_class(provisioner=EBS_IN_TREE)
    world.refuse("create", "persistentvolumes", 0, "connection reset", applied=True)
    uid = world.add_claim(provisioner=EBS)
    await world.run(5)
    assert world.volume(uid)
    assert len(world.driver.volumes) == 1
    assert world.calls("DeleteVolume") == []
