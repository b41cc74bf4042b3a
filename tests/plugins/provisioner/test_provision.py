"""From a claim to its volume: what is asked of the driver, what is stored, what is told."""

from __future__ import annotations

import asyncio
import base64
import logging

import pytest

from tests.plugins.provisioner.world import DRIVER, FINALIZER, GIB, World

pytestmark = pytest.mark.looptime


@pytest.mark.parity("P-SAVE-01")
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


async def test_secret_reaches_the_driver_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)
    logging.getLogger("csisidecar").setLevel(1)
    world = World()
    world.driver.order("CreateVolume:Internal=no x1", "CreateVolume:small x1")
    pair = {"name": "${pvc.name}-creds", "namespace": "${pvc.namespace}"}
    world.add_class(parameters={f"csi.storage.k8s.io/provisioner-secret-{half}": text for half, text in pair.items()})
    data = {"token": base64.b64encode(b"tainted").decode()}
    meta = {"name": "data-creds", "namespace": "team"}
    world.api.create({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data})
    uid = world.add_claim()
    try:
        await world.run(10)
    finally:
        logging.getLogger("csisidecar").setLevel(logging.NOTSET)
    assert [request.secrets for request in world.calls()] == [{"token": "tainted"}] * 3
    assert [request.secrets for request in world.calls("DeleteVolume")] == [{"token": "tainted"}]
    annotations = world.volume(uid)["metadata"]["annotations"]
    assert annotations["volume.kubernetes.io/provisioner-deletion-secret-name"] == "data-creds"
    assert annotations["volume.kubernetes.io/provisioner-deletion-secret-namespace"] == "team"
    seen = [str(vars(record)) for record in caplog.records] + [str(world.api.list("events")), str(world.volume(uid))]
    assert len(seen) > 10
    assert not [text for text in seen if "tainted" in text or data["token"] in text]


async def test_secret_that_is_no_text_fails_as_in_go() -> None:
    world = World()
    pair = {"name": "creds", "namespace": "team"}
    world.add_class(parameters={f"csi.storage.k8s.io/secret-{half}": text for half, text in pair.items()})
    data = {"token": base64.b64encode(b"\xff\xfe").decode()}
    meta = {"name": "creds", "namespace": "team"}
    world.api.create({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data})
    world.add_claim()
    await world.run()
    assert world.warnings() == [
        "rpc error: code = Internal desc = grpc: error while marshaling: string field contains invalid UTF-8"
    ]
    assert world.plugin._memory.in_progress == {}
