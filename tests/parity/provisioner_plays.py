"""The plays of the provisioner: what is there, what happens, and which rows of the catalogue it is about."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from csisidecar.testing.driver import ALL_CONTROLLER, DriverSettings
from tests.parity.provisioner_stage import NAMESPACE, Object, Play, Stage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

DRIVER = "csi.test.io"
SNAPSHOT_GROUP = "snapshot.storage.k8s.io"
P = "csi.storage.k8s.io/"
RESTORE: Object = {"dataSource": {"apiGroup": SNAPSHOT_GROUP, "kind": "VolumeSnapshot", "name": "snap"}}
CLONE: Object = {"dataSource": {"kind": "PersistentVolumeClaim", "name": "old"}}
ALLOW = "snapshot.storage.kubernetes.io/allow-volume-mode-change"
GATE = "--feature-gates=CrossNamespaceVolumeDataSource=true"


def storage_class(name: str = "fast", *, provisioner: str = DRIVER, **more: Any) -> Object:
    return {"kind": "StorageClass", "metadata": {"name": name}, "provisioner": provisioner, **more}


def claim(name: str = "data", *, size: str = "1Mi", provisioner: str = DRIVER, **more: Any) -> Object:
    """`more`: annotations (added), and fields of the spec."""
    annotations = {"volume.kubernetes.io/storage-provisioner": provisioner, **more.pop("annotations", {})}
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "fast",
        "resources": {"requests": {"storage": size}},
        **more,
    }
    return {"kind": "PersistentVolumeClaim", "metadata": {"name": name, "annotations": annotations}, "spec": spec}


def secret(name: str) -> Object:
    return {"kind": "Secret", "metadata": {"name": name}, "data": {"k": base64.b64encode(b"v").decode()}}


def settings(*, name: str = DRIVER, without: tuple[str, ...] = (), **more: Any) -> DriverSettings:
    return DriverSettings(name=name, controller_capabilities=ALL_CONTROLLER - set(without), **more)


def pair(slug: str, name: str, namespace: str = NAMESPACE) -> Object:
    return {f"{P}{slug}secret-name": name, f"{P}{slug}secret-namespace": namespace}


def snapshot(*, status: Object | None = None, finalizers: tuple[str, ...] = ()) -> Object:
    said = {"boundVolumeSnapshotContentName": "content", "readyToUse": True, "restoreSize": "1Mi", **(status or {})}
    meta: Object = {"name": "snap", **({"finalizers": list(finalizers)} if finalizers else {})}
    source = {"persistentVolumeClaimName": "old"}
    return {"kind": "VolumeSnapshot", "metadata": meta, "spec": {"source": source}, "status": said}


def content(*, annotations: Object | None = None, status: Object | None = None, **spec: Any) -> Object:
    said = {
        "driver": DRIVER,
        "deletionPolicy": "Retain",
        "source": {"snapshotHandle": "snap-1"},
        "volumeSnapshotRef": {"name": "snap", "namespace": NAMESPACE},
        **spec,
    }
    meta = {"name": "content", "annotations": annotations or {}}
    status = {"snapshotHandle": "snap-1"} if status is None else status
    return {"kind": "VolumeSnapshotContent", "metadata": meta, "spec": said, "status": status}


def volume(name: str, *, phase: str = "Released", **more: Any) -> Object:
    """`more`: spec (None takes a field away), annotations, finalizers."""
    spec = {
        "capacity": {"storage": "1Mi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Delete",
        "csi": {"driver": DRIVER, "volumeHandle": "vol-old"},
        **more.get("spec", {}),
    }
    meta: Object = {
        "name": name,
        "annotations": more.get("annotations", {"pv.kubernetes.io/provisioned-by": DRIVER}),
        "finalizers": more.get("finalizers", ["external-provisioner.volume.kubernetes.io/finalizer"]),
    }
    spec = {field: value for field, value in spec.items() if value is not None}
    return {"kind": "PersistentVolume", "metadata": meta, "spec": spec, "status": {"phase": phase}}


async def provisions(stage: Stage) -> None:
    async def saved() -> bool:
        return bool(await stage.find_volume()) and await stage.has_event("ProvisioningSucceeded")

    await stage.until(saved)


def fails(count: int = 1, reason: str = "ProvisioningFailed") -> Callable[[Stage], Awaitable[None]]:
    return lambda stage: stage.until(lambda: stage.has_event(reason, count))


async def whole_life(stage: Stage) -> None:
    await provisions(stage)
    if not await stage.find_volume():
        return
    await stage.bind()
    await stage.release()

    async def deleted() -> bool:
        volume = await stage.find_volume()
        finalizers = volume.get("metadata", {}).get("finalizers", [])
        return not any("external-provisioner" in each for each in finalizers)

    await stage.until(deleted)


async def clones(stage: Stage) -> None:
    """The source is provisioned and bound, then cloned; the driver refuses, so that the source stays protected."""

    async def made() -> bool:
        return bool(await stage.find_volume("old"))

    await stage.until(made)
    await stage.bind("old")
    stage.driver.order("CreateVolume:Internal=no more")
    await stage.create(claim(**CLONE))
    await fails()(stage)


async def clones_smaller(stage: Stage) -> None:
    await stage.until(lambda: stage.has_event("ProvisioningSucceeded"))
    await stage.bind("old")
    await stage.create(claim(size="1Ki", **CLONE))
    await fails()(stage)


def _is_gone(name: str) -> Callable[[Stage], Awaitable[None]]:
    async def act(stage: Stage) -> None:
        async def gone() -> bool:
            found = [v for v in await stage.list("PersistentVolume") if v["metadata"]["name"] == name]
            return not found or not any("external" in each for each in found[0]["metadata"].get("finalizers", []))

        await stage.until(gone)

    return act


GRANT: Object = {
    "kind": "ReferenceGrant",
    "metadata": {"name": "grant", "namespace": "kube-public"},
    "spec": {
        "from": [{"group": "", "kind": "PersistentVolumeClaim", "namespace": NAMESPACE}],
        "to": [{"group": SNAPSHOT_GROUP, "kind": "VolumeSnapshot"}],
    },
}
FOREIGN: Object = {
    "dataSourceRef": {"apiGroup": SNAPSHOT_GROUP, "kind": "VolumeSnapshot", "name": "snap", "namespace": "kube-public"}
}
EVERY_PAIR: Object = {
    key: value
    for slug in ("node-stage", "node-publish", "controller-publish", "controller-expand", "node-expand")
    for key, value in pair(f"{slug}-", slug).items()
}


def refused(name: str, rows: tuple[str, ...], text_of: Object | None = None, **more: Any) -> Play:
    """A claim that fails before the driver is called."""
    objects = more.pop("objects", None) or (storage_class(**(text_of or {})), claim(**more.pop("claim", {})))
    return Play(name=name, rows=rows, objects=objects, act=fails(), **more)


PLAYS = (
    Play(
        name="a whole life",
        rows=("P-SAVE-01", "P-CREATE-02", "P-CREATE-03", "P-DELETE-01"),
        objects=(
            storage_class(
                parameters={"tier": "gold", f"{P}fstype": "xfs", "csiNodeStageSecretName": "kept", **EVERY_PAIR},
                mountOptions=["noatime"],
            ),
            claim(size="1500", accessModes=["ReadWriteMany", "ReadOnlyMany", "ReadWriteOnce"]),
        ),
        act=whole_life,
    ),
    Play(
        name="what a volume says",
        rows=("P-SAVE-01", "P-CREATE-01", "P-CREATE-14", "P-SAVE-08"),
        objects=(
            secret("creds"),
            storage_class(
                parameters={**pair("provisioner-", "creds"), **pair("controller-modify-", "${pvc.name}-m")},
                reclaimPolicy="Retain",
            ),
            claim(accessModes=["ReadOnlyMany"]),
        ),
        flags=(
            "--extra-create-metadata",
            "--controller-publish-readonly",
            "--volume-name-prefix=disk",
            "--volume-name-uuid-length=10",
            "--default-fstype=ext4",
        ),
        act=provisions,
    ),
    Play(
        name="block volume",
        rows=("P-CREATE-12",),
        objects=(storage_class(parameters={"FSType": "xfs"}), claim(volumeMode="Block")),
        act=provisions,
    ),
    Play(
        name="default secret",
        rows=("P-CREATE-15", "P-CREATE-16"),
        objects=(secret("data-x"), storage_class(parameters=pair("", "${pvc.name}-x", "${pvc.namespace}")), claim()),
        act=provisions,
    ),
    Play(
        name="single-writer modes of an able driver",
        rows=("P-CREATE-02",),
        objects=(storage_class(), claim(accessModes=["ReadWriteOncePod"])),
        driver=settings(without=("SINGLE_NODE_MULTI_WRITER",)),
        act=provisions,
    ),
    Play(
        name="failures with their codes",
        # Repeated failures are one Event, which tells the last and quotes the first.
        rows=("P-CREATE-05", "P-CREATE-10"),
        objects=(storage_class(), claim()),
        trouble=("CreateVolume:ResourceExhausted=full x1", "CreateVolume:Aborted=busy x1"),
        act=provisions,
    ),
    Play(
        name="infeasible",
        rows=("P-CREATE-07",),
        objects=(storage_class(), claim()),
        trouble=("CreateVolume:InvalidArgument=odd",),
        act=fails(),
    ),
    Play(
        name="time-out and late completion",
        rows=("P-CREATE-05",),
        objects=(storage_class(), claim()),
        trouble=("CreateVolume:late x1",),
        act=provisions,
    ),
    Play(
        name="too small",
        rows=("P-CREATE-08",),
        objects=(storage_class(), claim()),
        trouble=("CreateVolume:small x1",),
        act=provisions,
    ),
    Play(
        name="too small and stuck",
        rows=("P-CREATE-08",),
        objects=(storage_class(), claim()),
        trouble=("CreateVolume:small", "DeleteVolume:Internal=stuck"),
        act=fails(),
    ),
    refused("selector", ("P-CLAIM-07",), claim={"selector": {"matchLabels": {"a": "b"}}}),
    refused("two file systems", ("P-CREATE-12",), {"parameters": {"fstype": "a", "FsType": "b"}}),
    refused("unknown key", ("P-CREATE-13",), {"parameters": {f"{P}pvc/name": "x"}}),
    refused("half a pair", ("P-CREATE-15",), {"parameters": {f"{P}node-stage-secret-name": "s"}}),
    refused("empty pair", ("P-CREATE-15",), {"parameters": pair("node-stage-", "")}),
    refused(
        "both spellings",
        ("P-CREATE-15",),
        {"parameters": {**pair("provisioner-", "a"), "csiProvisionerSecretName": "b"}},
    ),
    refused("unknown token", ("P-CREATE-16",), {"parameters": pair("provisioner-", "${pvc.uid}")}),
    refused("bad name", ("P-CREATE-16",), {"parameters": pair("provisioner-", "A_B")}),
    refused("missing secret", ("P-CREATE-15",), {"parameters": pair("provisioner-", "gone")}),
    refused(
        "driver without the service",
        ("P-CLAIM-08",),
        driver=settings(without=("CREATE_DELETE_VOLUME",)),
    ),
    Play(
        name="populator",
        rows=("P-CLAIM-06",),
        objects=(
            storage_class(),
            claim(dataSourceRef={"apiGroup": "example.com", "kind": "Book", "name": "b"}),
        ),
        act=fails(2, "Provisioning"),
    ),
    Play(
        name="restore",
        rows=("P-SOURCE-01", "P-SOURCE-02"),
        objects=(snapshot(), content(), storage_class(), claim(**RESTORE)),
        act=provisions,
    ),
    Play(
        name="restore that the driver refuses",
        rows=("P-SOURCE-02",),
        objects=(snapshot(), content(), storage_class(), claim(**RESTORE)),
        trouble=("CreateVolume:Internal=no",),
        act=fails(),
    ),
    Play(
        name="restore without the content in the answer",
        rows=("P-CREATE-08",),
        objects=(snapshot(), content(), storage_class(), claim(**RESTORE)),
        trouble=("CreateVolume:nosource x1",),
        act=provisions,
    ),
    *(
        refused(
            f"snapshot: {name}",
            ("P-SOURCE-04",),
            objects=(*objects, storage_class(), claim(**RESTORE, **more)),
        )
        for name, objects, more in (
            ("missing", (), {}),
            ("not bound", (snapshot(status={"boundVolumeSnapshotContentName": None}),), {}),
            ("content missing", (snapshot(),), {}),
            (
                "of another snapshot",
                (snapshot(), content(volumeSnapshotRef={"name": "snap", "namespace": NAMESPACE, "uid": "o"})),
                {},
            ),
            ("of another driver", (snapshot(), content(driver="other.io")), {}),
            ("not ready", (snapshot(status={"readyToUse": False}), content()), {}),
            ("without handle", (snapshot(), content(status={})), {}),
            ("too large", (snapshot(status={"restoreSize": "2Mi"}), content()), {}),
            ("other mode", (snapshot(), content(sourceVolumeMode="Block")), {"volumeMode": "Filesystem"}),
            (
                "other mode, odd leave",
                (snapshot(), content(sourceVolumeMode="Block", annotations={ALLOW: "yes"})),
                {"volumeMode": "Filesystem"},
            ),
            (
                "other mode, no leave",
                (snapshot(), content(sourceVolumeMode="Block", annotations={ALLOW: "f"})),
                {"volumeMode": "Filesystem"},
            ),
        )
    ),
    Play(
        name="other mode with leave",
        rows=("P-SOURCE-04",),
        objects=(
            snapshot(),
            content(sourceVolumeMode="Block", annotations={ALLOW: "T"}),
            storage_class(),
            claim(volumeMode="Filesystem", **RESTORE),
        ),
        act=provisions,
    ),
    refused(
        "driver without snapshots",
        ("P-CLAIM-08",),
        driver=settings(without=("CREATE_DELETE_SNAPSHOT",)),
        objects=(snapshot(), content(), storage_class(), claim(**RESTORE)),
    ),
    refused(
        "driver without clones",
        ("P-CLAIM-08",),
        driver=settings(without=("CLONE_VOLUME",)),
        claim=CLONE,
    ),
    Play(name="clone", rows=("P-SOURCE-07",), objects=(storage_class(), claim("old")), act=clones),
    Play(name="smaller clone", rows=("P-SOURCE-08",), objects=(storage_class(), claim("old")), act=clones_smaller),
    refused("clone of nothing", ("P-SOURCE-08",), claim=CLONE),
    Play(
        name="another namespace with a grant",
        rows=("P-SOURCE-09",),
        objects=(
            {**snapshot(), "metadata": {"name": "snap", "namespace": "kube-public"}},
            content(volumeSnapshotRef={"name": "snap", "namespace": "kube-public"}),
            GRANT,
            storage_class(),
            claim(**FOREIGN),
        ),
        flags=(GATE,),
        finalizers=False,
        act=provisions,
    ),
    refused("another namespace without a grant", ("P-SOURCE-09",), claim=FOREIGN, flags=(GATE,)),
    refused("another namespace without the gate", ("P-SOURCE-09",), claim=FOREIGN),
    Play(
        name="attributes",
        rows=("P-SOURCE-13",),
        objects=(
            {
                "kind": "VolumeAttributesClass",
                "metadata": {"name": "silver"},
                "driverName": DRIVER,
                "parameters": {"iops": "9"},
            },
            storage_class(),
            claim(volumeAttributesClassName="silver"),
        ),
        act=provisions,
    ),
    refused("attributes missing", ("P-SOURCE-13",), claim={"volumeAttributesClassName": "silver"}),
    refused(
        "attributes of another driver",
        ("P-SOURCE-13",),
        objects=(
            {
                "kind": "VolumeAttributesClass",
                "metadata": {"name": "silver"},
                "driverName": "other.io",
                "parameters": {"iops": "9"},
            },
            storage_class(),
            claim(volumeAttributesClassName="silver"),
        ),
    ),
    refused(
        "attributes that the driver cannot apply",
        ("P-CLAIM-08",),
        driver=settings(without=("MODIFY_VOLUME",)),
        claim={"volumeAttributesClassName": "silver"},
    ),
    *(
        Play(
            name=f"in-tree class of {driver}",
            # Of vSphere's volumes Go and we make what no API server takes, as this driver has no such volumes.
            rows=("P-MIGRATE-01", "P-SAVE-05"),
            driver=settings(name=driver),
            objects=(storage_class(provisioner=in_tree, parameters=parameters), claim(provisioner=driver)),
            act=provisions,
        )
        for driver, in_tree, parameters in (
            ("ebs.csi.aws.com", "kubernetes.io/aws-ebs", {"type": "gp2", "fsType": "xfs", "iopsPerGB": "5"}),
            ("cinder.csi.openstack.org", "kubernetes.io/cinder", {"availability": "nova", "fstype": "ext4"}),
            ("csi.vsphere.vmware.com", "kubernetes.io/vsphere-volume", {"diskformat": "thin", "odd": "x"}),
            ("pxd.portworx.com", "kubernetes.io/portworx-volume", {"repl": "1"}),
        )
    ),
    Play(
        name="in-tree disk that cannot be told in-tree",
        rows=("P-MIGRATE-02",),
        driver=settings(name="disk.csi.azure.com"),
        objects=(
            storage_class(provisioner="kubernetes.io/azure-disk", parameters={"skuName": "x", "fsType": "ext4"}),
            claim(provisioner="disk.csi.azure.com"),
        ),
        act=fails(),
    ),
    Play(
        name="in-tree share that cannot be told in-tree",
        rows=("P-MIGRATE-02",),
        driver=settings(name="file.csi.azure.com"),
        objects=(
            storage_class(provisioner="kubernetes.io/azure-file", parameters={"skuName": "x", "fsType": "ext4"}),
            claim(provisioner="file.csi.azure.com"),
        ),
        act=fails(),
    ),
    Play(
        name="in-tree class whose volume cannot be told in-tree",
        rows=("P-MIGRATE-02",),
        driver=settings(name="pd.csi.storage.gke.io"),
        objects=(storage_class(provisioner="kubernetes.io/gce-pd"), claim(provisioner="pd.csi.storage.gke.io")),
        act=fails(),
    ),
    Play(
        name="in-tree volume is deleted",
        rows=("P-MIGRATE-03",),
        driver=settings(name="cinder.csi.openstack.org"),
        objects=(
            volume(
                "pv1",
                spec={"csi": None, "cinder": {"volumeID": "vol-old"}},
                annotations={"pv.kubernetes.io/provisioned-by": "kubernetes.io/cinder"},
            ),
        ),
        act=_is_gone("pv1"),
    ),
    Play(
        name="volume made by hand is deleted",
        rows=("P-DELETE-01",),
        objects=(volume("pv1", annotations={}),),
        act=_is_gone("pv1"),
    ),
    Play(
        name="driver refuses the deletion",
        rows=("P-DELETE-04",),
        objects=(volume("pv1"),),
        trouble=("DeleteVolume:NotFound=no",),
        act=fails(1, "VolumeFailedDelete"),
    ),
    Play(
        name="deletion secret from the class",
        rows=("P-DELETE-03",),
        objects=(
            secret("creds"),
            storage_class(parameters=pair("provisioner-", "creds")),
            volume(
                "pv1",
                spec={
                    "storageClassName": "fast",
                    "claimRef": {"kind": "PersistentVolumeClaim", "namespace": NAMESPACE, "name": "data", "uid": "u"},
                },
            ),
        ),
        act=_is_gone("pv1"),
    ),
    Play(
        name="still attached",
        rows=("P-DELETE-02",),
        objects=(
            volume("pv1"),
            {
                "kind": "VolumeAttachment",
                "metadata": {"name": "va1"},
                "spec": {"attacher": "other.io", "nodeName": "node1", "source": {"persistentVolumeName": "pv1"}},
            },
        ),
        act=fails(1, "VolumeFailedDelete"),
    ),
    Play(
        name="finalizers in step with the policy",
        rows=("P-DELETE-05",),
        objects=(
            volume("pv1", phase="Bound", finalizers=["example.com/x"]),
            volume("pv2", phase="Bound", spec={"persistentVolumeReclaimPolicy": "Retain"}),
        ),
        act=lambda stage: stage.until(lambda: _in_step(stage)),
    ),
)


async def _in_step(stage: Stage) -> bool:
    ours = "external-provisioner.volume.kubernetes.io/finalizer"
    found = {
        item["metadata"]["name"]: item["metadata"].get("finalizers", [])
        for item in await stage.list("PersistentVolume")
    }
    return ours in found.get("pv1", []) and ours not in found.get("pv2", [])
