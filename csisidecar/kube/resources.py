"""One constant a resource: how the API server calls it and where it lives. No behavior, no objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class ObjectKey(NamedTuple):
    """What names an object of one resource; `namespace` is empty for cluster-wide ones."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Resource:
    """One kind as the API server serves it.

    Source: Kubernetes API conventions, "Resources" and "Verbs on Resources".
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        """What objects carry as apiVersion: ``v1`` or ``storage.k8s.io/v1``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def full_name(self) -> str:
        """Plural with group, as RBAC and error texts use it: ``volumeattachments.storage.k8s.io``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, *, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of the collection, of one object, or of its subresource."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root]
        if self.namespaced and namespace:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


def _core(plural: str, kind: str, *, namespaced: bool) -> Resource:
    return Resource(group="", version="v1", plural=plural, kind=kind, namespaced=namespaced)


def _storage(plural: str, kind: str, *, namespaced: bool = False) -> Resource:
    return Resource(group="storage.k8s.io", version="v1", plural=plural, kind=kind, namespaced=namespaced)


PERSISTENT_VOLUMES = _core("persistentvolumes", "PersistentVolume", namespaced=False)
PERSISTENT_VOLUME_CLAIMS = _core("persistentvolumeclaims", "PersistentVolumeClaim", namespaced=True)
NODES = _core("nodes", "Node", namespaced=False)
PODS = _core("pods", "Pod", namespaced=True)
SECRETS = _core("secrets", "Secret", namespaced=True)
NAMESPACES = _core("namespaces", "Namespace", namespaced=False)
EVENTS = _core("events", "Event", namespaced=True)
STORAGE_CLASSES = _storage("storageclasses", "StorageClass")
VOLUME_ATTACHMENTS = _storage("volumeattachments", "VolumeAttachment")
CSI_NODES = _storage("csinodes", "CSINode")
CSI_DRIVERS = _storage("csidrivers", "CSIDriver")
CSI_STORAGE_CAPACITIES = _storage("csistoragecapacities", "CSIStorageCapacity", namespaced=True)
VOLUME_ATTRIBUTES_CLASSES = _storage("volumeattributesclasses", "VolumeAttributesClass")
VOLUME_SNAPSHOTS = Resource(
    group="snapshot.storage.k8s.io", version="v1", plural="volumesnapshots", kind="VolumeSnapshot", namespaced=True
)
VOLUME_SNAPSHOT_CONTENTS = Resource(
    group="snapshot.storage.k8s.io",
    version="v1",
    plural="volumesnapshotcontents",
    kind="VolumeSnapshotContent",
    namespaced=False,
)
REFERENCE_GRANTS = Resource(
    group="gateway.networking.k8s.io",
    version="v1beta1",
    plural="referencegrants",
    kind="ReferenceGrant",
    namespaced=True,
)
LEASES = Resource(group="coordination.k8s.io", version="v1", plural="leases", kind="Lease", namespaced=True)
