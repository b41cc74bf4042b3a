"""From a claim to its volume: what is asked of the driver, what is stored, what is told."""

from __future__ import annotations

import asyncio

import pytest

from tests.plugins.provisioner.world import DRIVER, FINALIZER, GIB, World

pytestmark = pytest.mark.looptime


async def test_claim_gets_a_volume_and_the_pv_says_everything() -> None:
    world = World()
    world.add_class(parameters={"tier": "gold", "csi.storage.k8s.io/fstype": "xfs"}, mountOptions=["noatime"])
    uid = world.add_claim(volumeMode="Filesystem")
    await world.run()
    (request,) = world.calls()
    assert request.name == f"pvc-{uid}"
    assert request.capacity_range.required_bytes == GIB
    assert request.capacity_range.limit_bytes == 0
    assert request.parameters == {"tier": "gold"}
    assert request.secrets == {}
    assert len(request.volume_capabilities) == 1
    assert request.volume_capabilities[0].mount.fs_type == "xfs"
    assert request.volume_capabilities[0].mount.mount_flags == ["noatime"]
    assert request.volume_capabilities[0].access_mode.mode == 1
    assert request.accessibility_requirements is None
    volume = world.volume(uid)
    record = world.driver.volume_named(f"pvc-{uid}")
    claim = world.api.get("persistentvolumeclaims", "data", "team")
    assert record is not None
    assert claim is not None
    assert volume["metadata"]["annotations"] == {
        "pv.kubernetes.io/provisioned-by": DRIVER,
        "volume.kubernetes.io/provisioner-deletion-secret-name": "",
        "volume.kubernetes.io/provisioner-deletion-secret-namespace": "",
    }
    assert FINALIZER in volume["metadata"]["finalizers"]
    spec = volume["spec"]
    assert spec["capacity"] == {"storage": "1Gi"}
    assert spec["accessModes"] == ["ReadWriteOnce"]
    assert spec["mountOptions"] == ["noatime"]
    assert spec["persistentVolumeReclaimPolicy"] == "Delete"
    assert spec["storageClassName"] == "fast"
    assert spec["volumeMode"] == "Filesystem"
    assert "nodeAffinity" not in spec
    assert spec["claimRef"] == {
        "kind": "PersistentVolumeClaim",
        "apiVersion": "v1",
        "namespace": "team",
        "name": "data",
        "uid": uid,
        "resourceVersion": claim["metadata"]["resourceVersion"],
    }
    source = spec["csi"]
    identity = source["volumeAttributes"]["storage.kubernetes.io/csiProvisionerIdentity"]
    stamp, number, name = identity.split("-", 2)
    assert stamp.isdigit()
    assert 0 <= int(number) <= 9999
    assert name == DRIVER
    assert (source["driver"], source["volumeHandle"], source["fsType"]) == (DRIVER, record.id, "xfs")
    assert "readOnly" not in source
    assert world.events() == [
        ("Normal", "Provisioning", 'External provisioner is provisioning volume for claim "team/data"'),
        ("Normal", "ProvisioningSucceeded", f"Successfully provisioned volume pvc-{uid}"),
    ]


async def test_a_whole_life_takes_five_requests() -> None:
    world = World()
    world.add_class()
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(1)
        world.bind(uid)
        await asyncio.sleep(1)
        world.drop_claim()
        world.set_phase("persistentvolumes", f"pvc-{uid}", "Released")
        await asyncio.sleep(1)
        world.unprotect(f"pvc-{uid}")
        await asyncio.sleep(30)
    assert world.api.count("persistentvolumes") == 0
    assert world.driver.volumes == {}
    assert sorted(f"{verb} {what.split('/')[0]}" for verb, what, _ in world.wire.requests) == [
        "create events",
        "create events",
        "create persistentvolumes",
        "delete persistentvolumes",
        "patch persistentvolumes",
    ]
    assert len(world.calls("CreateVolume")) == 1
    assert len(world.calls("DeleteVolume")) == 1
