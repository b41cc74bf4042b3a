from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass, field
from typing import Any

import pytest

from csisidecar.csi import ControllerPublishVolumeRequest
from csisidecar.errors import StatusCode
from csisidecar.plugins.attacher.names import finalizer_name
from tests.plugins.attacher.world import (
    LISTING,
    NODE_ID,
    REAL,
    VA,
    Answer,
    Object,
    World,
    attachment,
    node,
    secret,
    volume,
)

pytestmark = pytest.mark.looptime

PD = "pd.csi.storage.gke.io"
ZONE = {"topology.kubernetes.io/zone": "us-east1-b"}
PD_NODE = "projects/shop/zones/us-east1-b/instances/n1"
MIGRATED_TO = "pv.kubernetes.io/migrated-to"


@dataclass(frozen=True, kw_only=True)
class InTree:
    """A volume of an in-tree plugin, and what its successor is asked to publish."""

    driver: str
    source: Object
    handle: str
    context: dict[str, str] = field(default_factory=dict)
    readonly: bool = False
    fs_type: str = "ext4"
    secrets: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)


IN_TREE = [
    InTree(
        driver="ebs.csi.aws.com",
        source={"awsElasticBlockStore": {"volumeID": "aws://us-east-1a/vol-1", "readOnly": True, "fsType": "xfs"}},
        handle="vol-1",
        context={"partition": "0"},
        readonly=True,
        fs_type="xfs",
    ),
    InTree(
        driver=PD,
        source={"gcePersistentDisk": {"pdName": "disk", "fsType": "ext4"}},
        handle="projects/UNSPECIFIED/zones/us-east1-b/disks/disk",
        context={"partition": ""},
        labels=ZONE,
    ),
    InTree(driver="cinder.csi.openstack.org", source={"cinder": {"volumeID": "c-1", "fsType": "ext4"}}, handle="c-1"),
    InTree(
        driver="disk.csi.azure.com",
        source={"azureDisk": {"diskName": "d", "diskURI": "/disks/d", "kind": "Managed", "fsType": "ext4"}},
        handle="/disks/d",
        context={"kind": "Managed", "fstype": "ext4"},
    ),
    InTree(
        driver="file.csi.azure.com",
        source={
            "azureFile": {"secretName": "azure-storage-account-acc-secret", "shareName": "s", "secretNamespace": "ns"}
        },
        handle="#acc#s#pv1#ns",
        context={"sharename": "s"},
        fs_type="",
    ),
    InTree(
        driver="csi.vsphere.vmware.com",
        source={"vsphereVolume": {"volumePath": "[ds] a.vmdk", "fsType": "ext4", "storagePolicyName": "gold"}},
        handle="[ds] a.vmdk",
        context={"storagepolicyname": "gold"},
    ),
    InTree(
        driver="pxd.portworx.com",
        source={"portworxVolume": {"volumeID": "px-1", "fsType": "ext4", "readOnly": True}},
        handle="px-1",
        secrets={"k": "v"},
        annotations={"openstorage.io/auth-secret-name": "s", "openstorage.io/auth-secret-namespace": "ns"},
    ),
]


def in_tree(case: InTree, **more: Any) -> Object:
    spec = {"accessModes": ["ReadWriteOnce"], **copy.deepcopy(case.source)}
    annotations = {MIGRATED_TO: case.driver, **case.annotations}
    return volume(**{"spec": spec, "labels": case.labels, "annotations": annotations, **more})


@pytest.mark.parity("A-MIGRATE-01")
@pytest.mark.parametrize("case", IN_TREE, ids=lambda case: case.driver)
async def test_in_tree_volume_is_published_and_unpublished_as_its_successor_knows_it(case: InTree) -> None:
    world = World(
        in_tree(case),
        node(driver=case.driver),
        attachment(attacher=case.driver),
        secret({"k": "dg=="}),
        capabilities=REAL | {"PUBLISH_READONLY"},
        driver_name=case.driver,
    )
    spec = copy.deepcopy(world.pv["spec"])
    async with world.running():
        await asyncio.sleep(0.5)
        assert world.status["attached"] is True
        world.api.delete(VA)
        await asyncio.sleep(0.5)
    assert VA not in world.api.objects
    publish, unpublish = world.driver.requests
    assert isinstance(publish, ControllerPublishVolumeRequest)
    assert publish.volume_capability is not None
    assert publish.volume_capability.mount is not None
    assert (publish.volume_id, publish.volume_context, publish.readonly) == (case.handle, case.context, case.readonly)
    assert (publish.volume_capability.mount.fs_type, publish.secrets) == (case.fs_type, case.secrets)
    assert (unpublish.volume_id, unpublish.secrets) == (case.handle, case.secrets)
    assert world.pv["spec"] == spec
    assert len(world.numbers.seen["call", "ControllerPublishVolume", "true"]) == 1
    assert len(world.numbers.seen["call", "ControllerUnpublishVolume", "true"]) == 1


@pytest.mark.parity("A-MIGRATE-05")
async def test_calls_for_volumes_that_were_always_csis_count_as_not_migrated() -> None:
    inline = {"csi": {"driver": PD, "volumeHandle": "i"}, "accessModes": ["ReadWriteOnce"]}
    world = World(
        volume(csi={"driver": PD}),
        node(driver=PD),
        attachment(attacher=PD),
        attachment("va2", pv=None, inline=inline, attacher=PD),
        driver_name=PD,
    )
    await world.run()
    assert len(world.numbers.seen["call", "ControllerPublishVolume", "false"]) == 2


@pytest.mark.parity("A-MIGRATE-02")
async def test_access_modes_that_the_successor_cannot_take_are_rewritten() -> None:
    spec = {"accessModes": ["ReadWriteMany", "ReadOnlyMany"], "gcePersistentDisk": {"pdName": "d"}}
    world = World(volume(spec=spec), node(driver=PD), attachment(attacher=PD), driver_name=PD)
    await world.run()
    [request] = world.driver.requests
    assert isinstance(request, ControllerPublishVolumeRequest)
    assert request.volume_capability is not None
    assert request.volume_capability.access_mode is not None
    assert request.volume_capability.access_mode.mode == 1


@pytest.mark.parity("A-ATTACH-15", "A-ATTACH-17")
async def test_volume_that_cannot_be_translated_gets_no_finalizer_and_says_why() -> None:
    driver = "ebs.csi.aws.com"
    pv = volume(spec={"accessModes": ["ReadWriteOnce"], "awsElasticBlockStore": {"volumeID": "aws://us-east-1a/x"}})
    world = World(pv, node(driver=driver), attachment(attacher=driver), driver_name=driver)
    await world.run()
    assert "finalizers" not in world.pv["metadata"]
    message = world.status["attachError"]["message"]
    assert message.startswith(
        "failed to translate in tree pv to CSI: failed to translate Kubernetes ID to EBS Volume ID"
    )


@dataclass(frozen=True, kw_only=True)
class Listed:
    """An attachment on node `PD_NODE`, what the driver lists, and whether it is published again."""

    name: str
    volume: Object
    listed: str
    attachment: Object = field(default_factory=dict)
    again: bool = False
    node_id: str = PD_NODE


_COMPLETE = "projects/shop/zones/us-east1-b/disks/d"
_PLAIN: Object = {"spec": {"accessModes": ["ReadWriteOnce"], "gcePersistentDisk": {"pdName": "d"}}}
_OPEN = "projects/UNSPECIFIED/zones/UNSPECIFIED/disks/d"

LISTED = [
    Listed(name="completed-from-the-node", volume=volume(**_PLAIN), listed=_COMPLETE),
    Listed(name="zone-from-the-label", volume=volume(**_PLAIN, labels=ZONE), listed=_COMPLETE),
    Listed(name="not-listed", volume=volume(**_PLAIN), listed="another", again=True),
    Listed(name="node-id-of-another-form-cannot-be-compared", volume=volume(**_PLAIN), listed="another", node_id="n1"),
    Listed(
        name="csis-own-volume-is-not-completed",
        volume=volume(csi={"driver": PD, "volumeHandle": _OPEN}),
        listed=_COMPLETE,
        again=True,
    ),
    Listed(
        name="inline-is-completed",
        volume=volume("other", **_PLAIN),
        listed=_COMPLETE,
        attachment={
            "pv": None,
            "inline": {"csi": {"driver": PD, "volumeHandle": _OPEN}, "accessModes": ["ReadWriteOnce"]},
        },
    ),
]


@pytest.mark.parity("A-MIGRATE-03")
@pytest.mark.parametrize("case", LISTED, ids=lambda case: case.name)
async def test_comparison_completes_the_handles_of_migrated_volumes(case: Listed) -> None:
    kept = {"finalizers": [finalizer_name(PD)], "annotations": {NODE_ID: case.node_id}, "status": {"attached": True}}
    world = World(
        copy.deepcopy(case.volume),
        node(driver=PD, node_id=case.node_id),
        attachment(attacher=PD, **{**kept, **copy.deepcopy(case.attachment)}),
        capabilities=LISTING,
        driver_name=PD,
    )
    world.driver.published = {(case.listed, case.node_id)}
    await world.run(3.0)
    assert world.driver.calls == (["publish"] if case.again else [])
    assert len(world.numbers.seen["call", "ListVolumes", "None"]) == 1


@pytest.mark.parity("A-MIGRATE-04")
async def test_volume_whose_migration_was_switched_off_is_given_back_once_nothing_attaches_it() -> None:
    finalizer = finalizer_name(PD)
    held = volume(**_PLAIN, finalizers=["x", finalizer], annotations={MIGRATED_TO: PD})
    world = World(held, node(driver=PD, node_id=PD_NODE), attachment(attacher=PD), driver_name=PD)
    async with world.running():
        await asyncio.sleep(0.5)
        assert world.status["attached"] is True
        world.api.edit("/api/v1/persistentvolumes/pv1", lambda pv: pv["metadata"].pop("annotations"))
        await asyncio.sleep(0.5)
        assert world.pv["metadata"]["finalizers"] == ["x", finalizer]
        world.api.delete(VA)
        await asyncio.sleep(0.5)
    assert world.pv["metadata"]["finalizers"] == ["x"]


async def test_failed_call_for_a_migrated_volume_is_counted_as_one() -> None:
    world = World(volume(**_PLAIN), node(driver=PD), attachment(attacher=PD), driver_name=PD)
    world.driver.publish = [Answer(StatusCode.INTERNAL, "no")]
    await world.run()
    assert len(world.numbers.seen["call", "ControllerPublishVolume", "true"]) == 1
