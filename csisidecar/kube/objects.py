"""Read-only views of the objects the stores keep: only the fields that are used, decoded straight from JSON.

A view is never written back: it lacks fields that the API server has. Writes are patches, or updates of an
object just read. Unknown fields are dropped while decoding, so `managedFields` never takes memory.
`compact` shortens what repeats across thousands of objects; the informer calls it once per decoded object.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar, cast

import msgspec
from msgspec.structs import force_setattr

from csisidecar.kube.resources import ObjectKey

_EMPTY: Mapping[str, str] = {}


class View(msgspec.Struct, frozen=True, gc=False, rename="camel", eq=True):
    """Base of every view: immutable, not tracked by the garbage collector, JSON names in camelCase."""


class Metadata(View, frozen=True):
    """`metadata` of an object. Absent lists and maps read as None here; use the object's properties."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    finalizers: tuple[str, ...] | None = None
    annotations: dict[str, str] | None = None


class KubeObject(View, frozen=True):
    """What every view has. Two views are equal when all fields that we keep are equal."""

    metadata: Metadata

    @property
    def key(self) -> ObjectKey:
        """Namespace and name."""
        return ObjectKey(self.metadata.namespace, self.metadata.name)

    @property
    def name(self) -> str:
        """`metadata.name`."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """`metadata.namespace`, empty for cluster-wide objects."""
        return self.metadata.namespace

    @property
    def uid(self) -> str:
        """`metadata.uid`."""
        return self.metadata.uid

    @property
    def resource_version(self) -> str:
        """`metadata.resourceVersion`, opaque."""
        return self.metadata.resource_version

    @property
    def finalizers(self) -> tuple[str, ...]:
        """`metadata.finalizers`, empty when absent."""
        return self.metadata.finalizers or ()

    @property
    def annotations(self) -> Mapping[str, str]:
        """`metadata.annotations`, empty when absent."""
        return self.metadata.annotations or _EMPTY

    @property
    def is_deleting(self) -> bool:
        """Whether a deletion was requested and finalizers still hold the object."""
        return self.metadata.deletion_timestamp is not None


class LabeledMetadata(Metadata, frozen=True):
    """Metadata of the few kinds whose labels matter to us."""

    labels: dict[str, str] | None = None


class ObjectRef(View, frozen=True):
    """A reference to another object; absent parts are empty."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_group: str | None = None


class SecretRef(View, frozen=True):
    """Namespace and name of a Secret."""

    name: str = ""
    namespace: str = ""


class Requests(View, frozen=True):
    """`resources` of a claim: quantities as text."""

    requests: dict[str, str | int | float] | None = None


class ClaimSpec(View, frozen=True):
    """`spec` of a PersistentVolumeClaim."""

    access_modes: tuple[str, ...] | None = None
    storage_class_name: str | None = None
    volume_name: str = ""
    volume_mode: str | None = None
    selector: Any = None
    resources: Requests | None = None
    data_source: ObjectRef | None = None
    data_source_ref: ObjectRef | None = None
    volume_attributes_class_name: str | None = None


class Phase(View, frozen=True):
    """`status` where only the phase matters."""

    phase: str = ""


class Claim(KubeObject, frozen=True):
    """A PersistentVolumeClaim."""

    spec: ClaimSpec = msgspec.field(default_factory=ClaimSpec)
    status: Phase | None = None

    @property
    def phase(self) -> str:
        """`status.phase`, empty when absent."""
        return self.status.phase if self.status else ""

    @property
    def class_name(self) -> str:
        """The storage class: the beta annotation beats `spec.storageClassName`."""
        return self.annotations.get("volume.beta.kubernetes.io/storage-class") or self.spec.storage_class_name or ""


class CSISource(View, frozen=True):
    """`spec.csi` of a PersistentVolume."""

    driver: str = ""
    volume_handle: str = ""
    read_only: bool = False
    fs_type: str = ""
    volume_attributes: dict[str, str] | None = None
    controller_publish_secret_ref: SecretRef | None = None


class VolumeSpec(View, frozen=True):
    """`spec` of a PersistentVolume; the in-tree sources are kept whole because migration reads them."""

    csi: CSISource | None = None
    claim_ref: ObjectRef | None = None
    access_modes: tuple[str, ...] | None = None
    mount_options: tuple[str, ...] | None = None
    volume_mode: str | None = None
    storage_class_name: str = ""
    persistent_volume_reclaim_policy: str = ""
    node_affinity: dict[str, Any] | None = None
    aws_elastic_block_store: dict[str, Any] | None = None
    gce_persistent_disk: dict[str, Any] | None = None
    cinder: dict[str, Any] | None = None
    azure_disk: dict[str, Any] | None = None
    azure_file: dict[str, Any] | None = None
    vsphere_volume: dict[str, Any] | None = None
    portworx_volume: dict[str, Any] | None = None


IN_TREE_SOURCES: Mapping[str, str] = {
    "aws_elastic_block_store": "awsElasticBlockStore",
    "gce_persistent_disk": "gcePersistentDisk",
    "cinder": "cinder",
    "azure_disk": "azureDisk",
    "azure_file": "azureFile",
    "vsphere_volume": "vsphereVolume",
    "portworx_volume": "portworxVolume",
}
"""Attribute of VolumeSpec → field name in the API, for the seven in-tree sources that migration knows."""


class Volume(KubeObject, frozen=True):
    """A PersistentVolume."""

    metadata: LabeledMetadata
    spec: VolumeSpec = msgspec.field(default_factory=VolumeSpec)
    status: Phase | None = None

    @property
    def phase(self) -> str:
        """`status.phase`, empty when absent."""
        return self.status.phase if self.status else ""

    @property
    def class_name(self) -> str:
        """The storage class: the beta annotation beats `spec.storageClassName`."""
        return self.annotations.get("volume.beta.kubernetes.io/storage-class") or self.spec.storage_class_name

    @property
    def in_tree_source(self) -> str:
        """API name of the in-tree source, empty for CSI and other sources."""
        return next((api for attr, api in IN_TREE_SOURCES.items() if getattr(self.spec, attr) is not None), "")


class StorageClass(KubeObject, frozen=True):
    """A StorageClass."""

    provisioner: str = ""
    parameters: dict[str, str] | None = None
    mount_options: tuple[str, ...] | None = None
    reclaim_policy: str | None = None
    volume_binding_mode: str | None = None
    allowed_topologies: list[dict[str, Any]] | None = None


class SnapshotStatus(View, frozen=True):
    """`status` of a VolumeSnapshot."""

    bound_volume_snapshot_content_name: str | None = None
    ready_to_use: bool | None = None
    restore_size: str | int | float | None = None
    """A quantity as text."""


class Snapshot(KubeObject, frozen=True):
    """A VolumeSnapshot."""

    status: SnapshotStatus | None = None


class SnapshotContentSpec(View, frozen=True):
    """`spec` of a VolumeSnapshotContent."""

    driver: str = ""
    volume_snapshot_ref: ObjectRef = msgspec.field(default_factory=ObjectRef)
    source_volume_mode: str | None = None


class SnapshotContentStatus(View, frozen=True):
    """`status` of a VolumeSnapshotContent."""

    snapshot_handle: str | None = None


class SnapshotContent(KubeObject, frozen=True):
    """A VolumeSnapshotContent."""

    spec: SnapshotContentSpec = msgspec.field(default_factory=SnapshotContentSpec)
    status: SnapshotContentStatus | None = None


class AttributesClass(KubeObject, frozen=True):
    """A VolumeAttributesClass."""

    driver_name: str = ""
    parameters: dict[str, str] | None = None


class GrantFrom(View, frozen=True):
    """Who is allowed to refer: objects of a kind in a namespace."""

    group: str = ""
    kind: str = ""
    namespace: str = ""


class GrantTo(View, frozen=True):
    """What may be referred to: a kind in the grant's namespace, or one object of it."""

    group: str = ""
    kind: str = ""
    name: str | None = None


class GrantSpec(View, frozen=True):
    """`spec` of a ReferenceGrant."""

    from_: tuple[GrantFrom, ...] | None = msgspec.field(default=None, name="from")
    to: tuple[GrantTo, ...] | None = None


class Grant(KubeObject, frozen=True):
    """A ReferenceGrant of the Gateway API."""

    spec: GrantSpec = msgspec.field(default_factory=GrantSpec)


class AttachmentSource(View, frozen=True):
    """`spec.source` of a VolumeAttachment: a PV name, or a whole inline volume."""

    persistent_volume_name: str | None = None
    inline_volume_spec: VolumeSpec | None = None


class AttachmentSpec(View, frozen=True):
    """`spec` of a VolumeAttachment."""

    attacher: str = ""
    node_name: str = ""
    source: AttachmentSource = msgspec.field(default_factory=AttachmentSource)


class AttachmentError(View, frozen=True):
    """`attachError` or `detachError`; `error_code` is the gRPC status number."""

    message: str = ""
    time: str | None = None
    error_code: int | None = None


class AttachmentStatus(View, frozen=True):
    """`status` of a VolumeAttachment."""

    attached: bool = False
    attachment_metadata: dict[str, str] | None = None
    attach_error: AttachmentError | None = None
    detach_error: AttachmentError | None = None


class Attachment(KubeObject, frozen=True):
    """A VolumeAttachment."""

    spec: AttachmentSpec = msgspec.field(default_factory=AttachmentSpec)
    status: AttachmentStatus | None = None

    @property
    def volume_name(self) -> str:
        """Name of the PersistentVolume, empty for inline volumes."""
        return self.spec.source.persistent_volume_name or ""

    @property
    def is_attached(self) -> bool:
        """`status.attached`."""
        return self.status is not None and self.status.attached


class CSINodeDriver(View, frozen=True):
    """One entry of `spec.drivers` of a CSINode."""

    name: str = ""
    node_id: str = msgspec.field(default="", name="nodeID")
    topology_keys: tuple[str, ...] | None = None


class CSINodeSpec(View, frozen=True):
    """`spec` of a CSINode."""

    drivers: tuple[CSINodeDriver, ...] | None = None


class CSINode(KubeObject, frozen=True):
    """A CSINode."""

    spec: CSINodeSpec = msgspec.field(default_factory=CSINodeSpec)

    def find_driver(self, name: str) -> CSINodeDriver | None:
        """The entry of the driver called `name`, or None."""
        return next((d for d in self.spec.drivers or () if d.name == name), None)


class Node(KubeObject, frozen=True):
    """A Node: only its labels."""

    metadata: LabeledMetadata

    @property
    def labels(self) -> Mapping[str, str]:
        """`metadata.labels`, empty when absent."""
        return self.metadata.labels or _EMPTY


T = TypeVar("T", bound=KubeObject)
S = TypeVar("S")

_NOISE = frozenset({"kubectl.kubernetes.io/last-applied-configuration"})
_shared: dict[Hashable, Any] = {}
_SHARED_LIMIT = 10_000


def _share(text: str) -> str:
    """One copy of a text that recurs in many objects; the interpreter forgets it with the last of them."""
    return sys.intern(text)


def _share_map(values: dict[str, str] | None, *, drop: frozenset[str] = frozenset()) -> dict[str, str] | None:
    """One copy of a map that recurs; bounded, so maps that differ in every object cannot grow it for ever."""
    if not values:
        return None
    if drop & values.keys():
        values = {key: value for key, value in values.items() if key not in drop}
        if not values:
            return None
    return _share_value(tuple(values.items()), values)


def _share_tuple(values: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return _share_value(values, values) if values else None


def _share_value(key: Hashable, value: S) -> S:
    found = _shared.get(key)
    if found is not None:
        return cast("S", found)
    if len(_shared) < _SHARED_LIMIT:
        _shared[key] = value
    return value


def _compact_metadata(meta: Metadata) -> None:
    if meta.namespace:
        force_setattr(meta, "namespace", _share(meta.namespace))
    if meta.creation_timestamp:
        force_setattr(meta, "creation_timestamp", _share(meta.creation_timestamp))
    force_setattr(meta, "finalizers", _share_tuple(meta.finalizers))
    if meta.annotations is not None:
        force_setattr(meta, "annotations", _share_map(meta.annotations, drop=_NOISE))


def compact_volume(volume: Volume) -> Volume:
    """`volume` with one copy of every text that recurs across volumes."""
    _compact_metadata(volume.metadata)
    # The volume's name and its claim's uid also stand in the claim, and the name in every attachment.
    force_setattr(volume.metadata, "name", _share(volume.metadata.name))
    spec = volume.spec
    if spec.claim_ref is not None:
        for field in ("kind", "namespace", "name", "uid"):
            force_setattr(spec.claim_ref, field, _share(getattr(spec.claim_ref, field)))
    for field in ("volume_mode", "storage_class_name", "persistent_volume_reclaim_policy"):
        value = getattr(spec, field)
        if value:
            force_setattr(spec, field, _share(value))
    for field in ("access_modes", "mount_options"):
        force_setattr(spec, field, _share_tuple(getattr(spec, field)))
    if spec.csi is not None:
        force_setattr(spec.csi, "driver", _share(spec.csi.driver))
        force_setattr(spec.csi, "fs_type", _share(spec.csi.fs_type))
        force_setattr(spec.csi, "volume_attributes", _share_map(spec.csi.volume_attributes))
    if volume.status is not None:
        force_setattr(volume, "status", _phase(volume.status.phase))
    return volume


def compact_claim(claim: Claim) -> Claim:
    """`claim` with recurring texts shared; a bound claim keeps no annotations, nothing reads them any more."""
    meta = claim.metadata
    if claim.spec.volume_name and meta.annotations:
        beta = meta.annotations.get("volume.beta.kubernetes.io/storage-class")
        force_setattr(meta, "annotations", {"volume.beta.kubernetes.io/storage-class": beta} if beta else None)
    _compact_metadata(meta)
    for field in ("name", "uid"):
        force_setattr(meta, field, _share(getattr(meta, field)))
    spec = claim.spec
    if spec.volume_name:
        force_setattr(spec, "volume_name", _share(spec.volume_name))
    for field in ("volume_mode", "storage_class_name"):
        value = getattr(spec, field)
        if value:
            force_setattr(spec, field, _share(value))
    force_setattr(spec, "access_modes", _share_tuple(spec.access_modes))
    if spec.resources is not None:
        requests = spec.resources.requests or {}
        force_setattr(spec, "resources", _requests(requests.get("storage")))
    if claim.status is not None:
        force_setattr(claim, "status", _phase(claim.status.phase))
    return claim


def compact_attachment(attachment: Attachment) -> Attachment:
    """`attachment` with recurring texts shared."""
    _compact_metadata(attachment.metadata)
    if attachment.spec.source.persistent_volume_name:
        source = attachment.spec.source
        force_setattr(source, "persistent_volume_name", _share(attachment.volume_name))
    force_setattr(attachment.spec, "attacher", _share(attachment.spec.attacher))
    force_setattr(attachment.spec, "node_name", _share(attachment.spec.node_name))
    if attachment.status is not None and attachment.status == _DETACHED:
        force_setattr(attachment, "status", _DETACHED)
    elif attachment.status is not None and attachment.status == _ATTACHED:
        force_setattr(attachment, "status", _ATTACHED)
    return attachment


_DETACHED = AttachmentStatus()
_ATTACHED = AttachmentStatus(attached=True)


def _phase(phase: str) -> Phase:
    return _share_value(("phase", phase), Phase(phase=phase))


def _requests(storage: str | float | None) -> Requests:
    return _share_value(
        ("storage", type(storage), storage), Requests(requests=None if storage is None else {"storage": storage})
    )


Compactor = Callable[[T], T]
"""Takes a view that nobody else has seen yet and returns it, smaller."""
