"""The plays of the attacher: what is there, what happens, and which rows of the catalogue it is about."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from csisidecar.testing.driver import ALL_CONTROLLER, DriverSettings
from tests.parity.stage import Object, Play, Stage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

DRIVER = "csi.test.io"
FINALIZER = "external-attacher/csi-test-io"
NODE_ID = "csi.alpha.kubernetes.io/node-id"
OTHER = "example.com/other"


def volume(name: str = "pv1", *, modes: tuple[str, ...] = ("ReadWriteOnce",), **more: Any) -> Object:
    """`more`: csi (fields of the source), spec (fields beside it, None takes the CSI source away), metadata."""
    csi = {"driver": DRIVER, "volumeHandle": f"handle-{name}", **more.get("csi", {})}
    spec: Object = {"accessModes": list(modes), "capacity": {"storage": "1Mi"}, "csi": csi}
    spec.update(more.get("spec", {}))
    spec = {key: value for key, value in spec.items() if value is not None}
    return {"kind": "PersistentVolume", "metadata": {"name": name, **more.get("metadata", {})}, "spec": spec}


def attachment(name: str = "va1", *, pv: str = "pv1", node_name: str = "node1", **more: Any) -> Object:
    """`more`: attacher, metadata, status, source."""
    obj: Object = {
        "kind": "VolumeAttachment",
        "metadata": {"name": name, **more.get("metadata", {})},
        "spec": {
            "attacher": more.get("attacher", DRIVER),
            "nodeName": node_name,
            "source": more.get("source", {"persistentVolumeName": pv}),
        },
    }
    return {**obj, "status": more["status"]} if "status" in more else obj


def node(name: str = "node1", *, driver: str = DRIVER, node_id: str = "nodeID1") -> Object:
    drivers = [{"name": driver, "nodeID": node_id, "topologyKeys": None}] if driver else []
    return {"kind": "CSINode", "metadata": {"name": name}, "spec": {"drivers": drivers}}


def attached(**more: Any) -> Object:
    """An attachment as an attacher left it."""
    metadata = {"finalizers": [FINALIZER], "annotations": {NODE_ID: "nodeID1"}, **more.pop("metadata", {})}
    return attachment(metadata=metadata, status={"attached": True}, **more)


def settings(*, name: str = DRIVER, without: tuple[str, ...] = (), **more: Any) -> DriverSettings:
    return DriverSettings(name=name, controller_capabilities=ALL_CONTROLLER - set(without), **more)


NO_LISTS = settings(without=("LIST_VOLUMES", "LIST_VOLUMES_PUBLISHED_NODES"))
BASICS = (volume(), node(), attachment())


def attaches(*names: str) -> Callable[[Stage], Awaitable[None]]:
    async def act(stage: Stage) -> None:
        await stage.until(lambda s: all(s.is_attached(name) for name in names or ("va1",)))

    return act


def fails(*names: str, field: str = "attachError") -> Callable[[Stage], Awaitable[None]]:
    async def act(stage: Stage) -> None:
        await stage.until(lambda s: all(s.has_error(field, name) for name in names or ("va1",)))

    return act


async def attach_and_detach(stage: Stage) -> None:
    await stage.until(Stage.is_attached)
    await stage.delete("VolumeAttachment", "va1")
    await stage.until(lambda s: s.is_gone("VolumeAttachment", "va1"))


async def whole_life(stage: Stage) -> None:
    await attach_and_detach(stage)
    await stage.edit("PersistentVolume", "pv1", {"metadata": {"finalizers": [FINALIZER]}})
    await stage.delete("PersistentVolume", "pv1")
    await stage.until(lambda s: s.is_gone("PersistentVolume", "pv1"))


async def delete_then_fail(stage: Stage) -> None:
    await stage.delete("VolumeAttachment", "va1")
    await stage.until(lambda s: s.has_error("detachError"))


async def delete_until_gone(stage: Stage) -> None:
    await stage.delete("VolumeAttachment", "va1")
    await stage.until(lambda s: s.is_gone("VolumeAttachment", "va1"))


async def delete_until_not_attached(stage: Stage) -> None:
    await stage.delete("VolumeAttachment", "va1")
    await stage.until(lambda s: not s.is_attached())


async def delete_while_publishing(stage: Stage) -> None:
    await stage.until(lambda s: bool(s.driver.calls("ControllerPublishVolume")))
    await stage.delete("VolumeAttachment", "va1")
    await stage.until(lambda s: s.is_gone("VolumeAttachment", "va1"))


async def detach_after_the_volume_went(stage: Stage) -> None:
    await stage.edit("PersistentVolume", "pv1", {"metadata": {"finalizers": None}})
    await stage.delete("PersistentVolume", "pv1")
    await stage.until(lambda s: s.is_gone("PersistentVolume", "pv1"))
    await delete_then_fail(stage)


async def node_comes(stage: Stage) -> None:
    await stage.until(Stage.has_error)
    await stage.create(node())
    await stage.until(Stage.is_attached)


async def republished(stage: Stage) -> None:
    await stage.until(lambda s: bool(s.driver.published))


async def unpublished_again(stage: Stage) -> None:
    await stage.delete("VolumeAttachment", "va1")
    await stage.until(lambda s: bool(s.driver.calls("ControllerUnpublishVolume")))


async def only_wait(stage: Stage) -> None:
    await stage.until(lambda s: len(s.driver.calls("ListVolumes")) >= 2)


def inline(**more: Any) -> Object:
    csi = {"driver": DRIVER, "volumeHandle": "handle-pv1"}
    spec = {"accessModes": ["ReadWriteOnce"], "csi": csi}
    return {"source": {"inlineVolumeSpec": spec}, **more}


SECRET = {"kind": "Secret", "metadata": {"name": "s"}, "data": {"k": base64.b64encode(b"v").decode()}}
SECRET_REF = {"controllerPublishSecretRef": {"name": "s", "namespace": "default"}}

PD: Object = {"gcePersistentDisk": {"pdName": "d", "fsType": "ext4", "partition": 3}}
AZURE_DISK = "/subscriptions/s/resourcegroups/g/providers/microsoft.compute/disks/d"
AZURE_BLOB = "https://account.blob.core.windows.net/vhds/d.vhd"
PD_OPEN = "projects/UNSPECIFIED/zones/us-east1-b/disks/d"
PD_FINALIZER = "external-attacher/pd-csi-storage-gke-io"
ZONED: Object = {"labels": {"topology.kubernetes.io/zone": "us-east1-b"}}
IN_TREE: tuple[Object, ...] = (
    {"awsElasticBlockStore": {"volumeID": "aws://us-east-1a/vol-1", "fsType": "xfs", "readOnly": True}},
    {**PD, "accessModes": ["ReadWriteMany", "ReadOnlyMany"]},
    {"cinder": {"volumeID": "c-1", "fsType": "ext4"}},
    {"azureDisk": {"diskName": "d", "diskURI": AZURE_DISK, "kind": "Managed", "fsType": "ext4"}},
    {"azureFile": {"secretName": "azure-storage-account-acc-secret", "shareName": "s", "secretNamespace": "ns"}},
    {"vsphereVolume": {"volumePath": "[ds] a.vmdk", "fsType": "ext4", "storagePolicyName": "gold"}},
    {"portworxVolume": {"volumeID": "px-1", "fsType": "ext4", "readOnly": True}},
)
IN_TREE_HANDLES = ("vol-1", PD_OPEN, "c-1", AZURE_DISK, "#acc#s#pv5#ns", "[ds] a.vmdk", "px-1")
DELETE_PV1: Object = {"delete": "PersistentVolume/pv1"}
"""Not an object: what is to be deleted before the attacher starts."""

LISTED_CALLS = 4

PLAYS = (
    Play(
        name="attach in order",
        rows=("A-ATTACH-01", "A-ATTACH-02", "A-ATTACH-12"),
        objects=BASICS,
        act=attaches(),
        driver=NO_LISTS,
        sees_order=True,
    ),
    Play(
        name="calls of one attach",
        rows=("A-OWN-04",),
        objects=BASICS,
        act=attaches(),
        counts=True,
        trouble=("ControllerPublishVolume:delay=0.3",),
        driver=NO_LISTS,
    ),
    Play(
        name="foreign attachment",
        rows=("A-OWN-01",),
        driver=NO_LISTS,
        objects=(volume(), node(), attachment("va0", attacher="another.io"), attachment()),
        act=attaches(),
    ),
    Play(
        name="what a volume says",
        rows=("A-ATTACH-08", "A-ATTACH-09"),
        driver=NO_LISTS,
        objects=(
            volume(
                modes=("ReadOnlyMany",),
                csi={"readOnly": True, "volumeAttributes": {"a": "b"}},
                spec={"mountOptions": ["ro", "noatime"]},
            ),
            node(),
            attachment(),
        ),
        flags=("--default-fstype=xfs",),
        act=attaches(),
    ),
    Play(
        name="block volume",
        rows=("A-ATTACH-08",),
        block=True,
        driver=NO_LISTS,
        objects=(volume(csi={"fsType": "ext4"}, spec={"volumeMode": "Block"}), node(), attachment()),
        act=attaches(),
    ),
    Play(
        name="read-only without the capability",
        rows=("A-ATTACH-09",),
        driver=settings(without=("PUBLISH_READONLY", "LIST_VOLUMES")),
        objects=(volume(csi={"readOnly": True}), node(), attachment()),
        act=attaches(),
    ),
    Play(
        name="access modes",
        rows=("A-ATTACH-07",),
        handles=("handle-pv1", "handle-pv2", "handle-pv3", "handle-pv4"),
        objects=(
            volume(modes=("ReadWriteMany", "ReadWriteOnce")),
            volume("pv2", modes=("ReadOnlyMany",)),
            volume("pv3", modes=("ReadWriteOncePod",)),
            volume("pv4", modes=("ReadOnlyMany", "ReadWriteOnce")),
            node(),
            attachment(),
            attachment("va2", pv="pv2"),
            attachment("va3", pv="pv3"),
            attachment("va4", pv="pv4"),
        ),
        act=lambda s: s.until(lambda t: all(map(t.is_attached, ("va1", "va2", "va3"))) and t.has_error(name="va4")),
        flags=("--worker-threads=1",),
        driver=NO_LISTS,
    ),
    Play(
        name="access modes of a driver that tells single nodes apart no further",
        rows=("A-ATTACH-07",),
        driver=settings(without=("SINGLE_NODE_MULTI_WRITER", "LIST_VOLUMES")),
        handles=("handle-pv1", "handle-pv3"),
        objects=(
            volume(),
            volume("pv3", modes=("ReadWriteOncePod",)),
            node(),
            attachment(),
            attachment("va3", pv="pv3"),
        ),
        act=attaches("va1", "va3"),
        flags=("--worker-threads=1",),
    ),
    Play(
        name="volume of another driver",
        rows=("A-OWN-09",),
        driver=NO_LISTS,
        objects=(volume(csi={"driver": "another.csi.driver"}), node(), attachment()),
        act=attaches(),
    ),
    Play(
        name="kept node id that is wrong",
        rows=("A-ATTACH-17",),
        driver=NO_LISTS,
        objects=(volume(), node(), attachment(metadata={"annotations": {NODE_ID: "wrong", "other": "stays"}})),
        act=attaches(),
    ),
    Play(name="no volume", rows=("A-ATTACH-05",), objects=(node(), attachment()), act=fails(), driver=NO_LISTS),
    Play(
        name="no CSINode",
        rows=("A-ATTACH-05",),
        objects=(volume(metadata={"finalizers": [FINALIZER]}), attachment()),
        act=fails(),
        driver=NO_LISTS,
    ),
    Play(
        name="no driver in the CSINode",
        rows=("A-ATTACH-05",),
        driver=NO_LISTS,
        objects=(volume(metadata={"finalizers": [FINALIZER]}), node(driver=""), attachment()),
        act=fails(),
    ),
    Play(
        name="volume of no CSI driver",
        rows=("A-ATTACH-04",),
        driver=NO_LISTS,
        objects=(volume(spec={"csi": None, "hostPath": {"path": "/x"}}), node(), attachment()),
        act=fails(),
    ),
    Play(
        name="CSINode comes later",
        rows=("A-OWN-06",),
        objects=(volume(), attachment()),
        act=node_comes,
        driver=NO_LISTS,
    ),
    Play(
        name="secret",
        rows=("A-ATTACH-10",),
        objects=(SECRET, volume(csi=SECRET_REF), node(), attachment()),
        act=attaches(),
        driver=NO_LISTS,
    ),
    Play(
        name="secret missing",
        rows=("A-ATTACH-10",),
        objects=(volume(csi=SECRET_REF), node(), attachment()),
        act=fails(),
        driver=NO_LISTS,
    ),
    Play(
        name="inline volume",
        rows=("A-ATTACH-11",),
        objects=(node(), attachment(**inline())),
        act=attach_and_detach,
        driver=NO_LISTS,
    ),
    Play(
        name="deleted while publish runs",
        rows=("A-ATTACH-14",),
        objects=BASICS,
        act=delete_while_publishing,
        trouble=("ControllerPublishVolume:delay=1",),
        driver=NO_LISTS,
    ),
    Play(
        name="errors with their codes",
        rows=("A-ERROR-02", "A-ERROR-03"),
        objects=BASICS,
        act=attaches(),
        trouble=("ControllerPublishVolume:ResourceExhausted=no slots x3",),
        driver=NO_LISTS,
    ),
    Play(
        name="errors without codes",
        rows=("A-ERROR-02",),
        objects=BASICS,
        act=fails(),
        driver=NO_LISTS,
        trouble=("ControllerPublishVolume:Internal=no",),
        flags=("--feature-gates=MutableCSINodeAllocatableCount=false",),
    ),
    Play(
        name="error that is too long",
        rows=("A-ERROR-04",),
        objects=BASICS,
        act=fails(),
        driver=NO_LISTS,
        trouble=("ControllerPublishVolume:Internal=" + "long " * 250,),
    ),
    Play(
        name="detach",
        rows=("A-DETACH-01", "A-DETACH-02", "A-VOLUME-05"),
        driver=NO_LISTS,
        objects=(volume(metadata={"finalizers": [FINALIZER]}), node(), attached()),
        act=delete_until_gone,
        sees_order=True,
    ),
    Play(
        name="detach of one that another holds",
        rows=("A-DETACH-03",),
        driver=NO_LISTS,
        objects=(volume(), node(), attached(metadata={"finalizers": [OTHER, FINALIZER]})),
        act=delete_until_not_attached,
    ),
    Play(
        name="detach that the driver refuses",
        rows=("A-ERROR-01",),
        driver=NO_LISTS,
        objects=(volume(), node(), attached()),
        act=delete_then_fail,
        trouble=("ControllerUnpublishVolume:NotFound=no",),
    ),
    Play(
        name="detach without CSINode",
        rows=("A-DETACH-05",),
        driver=NO_LISTS,
        objects=(volume(), attached(metadata={"annotations": {NODE_ID: "kept"}})),
        act=delete_until_gone,
    ),
    Play(
        name="CSINode wins over the kept node id",
        rows=("A-DETACH-05",),
        driver=NO_LISTS,
        objects=(volume(), node(), attached(metadata={"annotations": {NODE_ID: "kept"}})),
        act=delete_until_gone,
    ),
    Play(
        name="detach after the volume went",
        rows=("A-DETACH-06",),
        driver=NO_LISTS,
        objects=(volume(), node(), attached()),
        act=detach_after_the_volume_went,
    ),
    Play(
        name="failed publish is undone",
        rows=("A-DETACH-07",),
        objects=BASICS,
        driver=NO_LISTS,
        trouble=("ControllerPublishVolume:Internal=no",),
        act=lambda s: _after(s, Stage.has_error, delete_until_gone),
    ),
    Play(name="whole life", rows=("A-VOLUME-01",), objects=BASICS, act=whole_life, driver=NO_LISTS),
    Play(
        name="driver without attach",
        rows=("A-TRIVIAL-01",),
        objects=(attachment(),),
        act=attaches(),
        driver=settings(without=("PUBLISH_UNPUBLISH_VOLUME",)),
    ),
    Play(
        name="driver without attach, attachment being deleted",
        rows=("A-TRIVIAL-01",),
        driver=settings(without=("PUBLISH_UNPUBLISH_VOLUME",)),
        objects=(attachment(metadata={"finalizers": [OTHER]}), {"delete": "VolumeAttachment/va1"}),
        act=attaches(),
    ),
    Play(
        name="pages of the list",
        rows=("A-DRIFT-11", "A-DRIFT-01"),
        flags=("--reconcile-sync=1s", "--max-entries=2"),
        handles=("a", "b", "c", "d", "handle-pv1"),
        objects=(volume(), node(), attachment()),
        act=lambda s: s.until(lambda t: len(t.driver.calls("ListVolumes")) >= LISTED_CALLS),
        listed=LISTED_CALLS,
    ),
    Play(
        name="list that never ends",
        rows=("A-DRIFT-03",),
        flags=("--reconcile-sync=1s", "--timeout=1s"),
        trouble=("ListVolumes:loop",),
        objects=(volume(metadata={"finalizers": [FINALIZER]}), node(), attached()),
        act=lambda s: s.until(lambda t: len(t.driver.calls("ListVolumes")) >= LISTED_CALLS),
    ),
    Play(
        name="attached but not published",
        rows=("A-DRIFT-01",),
        act=republished,
        flags=("--reconcile-sync=1s",),
        objects=(volume(metadata={"finalizers": [FINALIZER]}), node(), attached()),
    ),
    Play(
        name="inline, attached but not published",
        rows=("A-DRIFT-04",),
        flags=("--reconcile-sync=1s",),
        act=only_wait,
        objects=(node(), attached(**inline())),
    ),
    Play(
        name="attached but not published, CSINode gone",
        rows=("A-DRIFT-05",),
        flags=("--reconcile-sync=1s",),
        act=only_wait,
        objects=(volume(metadata={"finalizers": [FINALIZER]}), attached()),
    ),
    Play(
        name="deleted and detached but attached says the status",
        rows=("A-DRIFT-02",),
        act=unpublished_again,
        flags=("--reconcile-sync=1s",),
        objects=(volume(), node(), attached(metadata={"finalizers": [OTHER]})),
    ),
    Play(
        name="in-tree volume",
        rows=("A-MIGRATE-01",),
        handles=("c-1",),
        driver=settings(name="cinder.csi.openstack.org", without=("LIST_VOLUMES",)),
        objects=(
            volume(
                spec={"csi": None, "cinder": {"volumeID": "c-1", "fsType": "ext4"}},
                metadata={"annotations": {"pv.kubernetes.io/migrated-to": "cinder.csi.openstack.org"}},
            ),
            node(driver="cinder.csi.openstack.org"),
            attachment(attacher="cinder.csi.openstack.org"),
        ),
        act=attach_and_detach,
    ),
    Play(
        name="every in-tree plugin",
        rows=("A-MIGRATE-01", "A-MIGRATE-02"),
        driver=settings(name="pd.csi.storage.gke.io", without=("LIST_VOLUMES",)),
        handles=IN_TREE_HANDLES,
        objects=(
            *(volume(f"pv{at}", spec={"csi": None, **source}, metadata=ZONED) for at, source in enumerate(IN_TREE, 1)),
            node(driver="pd.csi.storage.gke.io"),
            *(
                attachment(f"va{at}", pv=f"pv{at}", attacher="pd.csi.storage.gke.io")
                for at in range(1, len(IN_TREE) + 1)
            ),
        ),
        flags=("--worker-threads=1",),
        act=attaches(*(f"va{at}" for at in range(1, len(IN_TREE) + 1))),
    ),
    Play(
        name="in-tree volume that cannot be said in CSI",
        rows=("A-ATTACH-15", "A-ATTACH-04"),
        driver=settings(name="disk.csi.azure.com", without=("LIST_VOLUMES",)),
        objects=(
            volume(spec={"csi": None, "azureDisk": {"diskName": "d", "diskURI": AZURE_BLOB, "kind": "Shared"}}),
            node(driver="disk.csi.azure.com"),
            attachment(attacher="disk.csi.azure.com"),
        ),
        act=fails(),
    ),
    Play(
        name="handle completed from the node",
        rows=("A-MIGRATE-03",),
        driver=settings(name="pd.csi.storage.gke.io"),
        flags=("--reconcile-sync=1s",),
        handles=(PD_OPEN,),
        objects=(
            volume(spec={"csi": None, **PD}, metadata={"finalizers": [PD_FINALIZER], **ZONED}),
            node(driver="pd.csi.storage.gke.io", node_id="projects/shop/zones/us-east1-b/instances/n1"),
            attached(attacher="pd.csi.storage.gke.io", metadata={"finalizers": [PD_FINALIZER]}),
        ),
        act=republished,
    ),
    Play(
        name="volume that is being deleted",
        rows=("A-ATTACH-05",),
        driver=NO_LISTS,
        objects=(volume(), node(), DELETE_PV1, attachment()),
        act=fails(),
    ),
    Play(
        name="in-tree volume given back",
        rows=("A-VOLUME-04",),
        driver=settings(name="cinder.csi.openstack.org", without=("LIST_VOLUMES",)),
        objects=(
            volume(
                spec={"csi": None, "cinder": {"volumeID": "c-1"}},
                metadata={"finalizers": [OTHER, "external-attacher/cinder-csi-openstack-org"]},
            ),
        ),
        act=lambda s: s.until(lambda t: len(t.protocol.states.get("PersistentVolume/pv1", ())) > 1),
    ),
)


async def _after(stage: Stage, check: Callable[[Stage], bool], then: Callable[[Stage], Awaitable[None]]) -> None:
    await stage.until(check)
    await then(stage)
