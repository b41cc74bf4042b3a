"""What the server serves: one declaration a kind, the built-in ones, and how URLs find them.

A kind says only what differs between kinds (names, scope, status subresource, columns). Rules about the content
of objects live in `admission` and `validation`.

Source: Kubernetes API reference; strategies under pkg/registry of kubernetes/kubernetes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a Table answer: heading, JSON type, and a dotted path into the object."""

    name: str
    path: str
    type: str = "string"
    format: str = ""
    description: str = ""
    priority: int = 0


@dataclass(frozen=True, kw_only=True)
class KindSpec:
    """One kind by a small declaration; enough for get, list, watch, writes, discovery and kubectl.

    Kinds declared by users behave like custom resources: no strategic merge patch, generation counted.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    status: bool = False
    """Has a status subresource: status and spec are then written apart."""
    short_names: Sequence[str] = ()
    columns: Sequence[Column] = ()
    """Printer columns between Name and Age; the built-in kinds have code for theirs."""
    categories: Sequence[str] = ()
    singular: str = ""
    custom: bool = True
    """Behaves like a custom resource; False for the kinds compiled into the real server."""
    fields: Sequence[str] = ()
    """Field selector paths besides metadata.name and metadata.namespace."""
    unconditional_update: bool = False
    """A PUT without resourceVersion overwrites."""
    create_on_update: bool = False
    """A PUT of a missing object creates it."""
    returns_deleted: bool = False
    """DELETE answers with the last state of the object, not with a Status."""
    status_keeps_metadata: bool = True
    """A write to /status cannot change metadata."""
    status_on_create: bool = False
    """Status sent with a POST is kept."""
    name_rule: str = "subdomain"
    """Which names are legal: subdomain, label or path."""
    open_content: bool = False
    """Fields without a schema are stored as sent."""
    stored_as: str = ""
    """Another version or group of the same objects: the storage name of the kind that holds them."""
    verbs: Sequence[str] = field(
        default=("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
    )

    @property
    def api_version(self) -> str:
        """``v1`` or ``group/version``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """Plural with group, as error texts use it: ``volumeattachments.storage.k8s.io``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def list_kind(self) -> str:
        """Kind of a list answer."""
        return f"{self.kind}List"

    @property
    def storage_name(self) -> str:
        """Which table holds the objects."""
        return self.stored_as or self.resource


def _core(plural: str, kind: str, *, namespaced: bool = True, **more: object) -> KindSpec:
    options: dict[str, object] = {"custom": False, "unconditional_update": True, "status_keeps_metadata": False}
    return KindSpec(group="", version="v1", plural=plural, kind=kind, namespaced=namespaced, **(options | more))  # type: ignore[arg-type]


def _storage(plural: str, kind: str, *, namespaced: bool = False, **more: object) -> KindSpec:
    options: dict[str, object] = {"group": "storage.k8s.io", "version": "v1", "custom": False}
    return KindSpec(plural=plural, kind=kind, namespaced=namespaced, **(options | more))  # type: ignore[arg-type]


def _rbac(plural: str, kind: str, *, namespaced: bool) -> KindSpec:
    return KindSpec(
        group="rbac.authorization.k8s.io",
        version="v1",
        plural=plural,
        kind=kind,
        namespaced=namespaced,
        custom=False,
        unconditional_update=True,
        name_rule="path",
    )


def _apps(plural: str, kind: str, short: str) -> KindSpec:
    return KindSpec(
        group="apps",
        version="v1",
        plural=plural,
        kind=kind,
        namespaced=True,
        status=True,
        short_names=(short,),
        categories=("all",),
        custom=False,
        unconditional_update=True,
        status_keeps_metadata=False,
        open_content=True,
    )


def _snapshot(plural: str, kind: str, *, namespaced: bool, short: Sequence[str], status: bool = False) -> KindSpec:
    return KindSpec(
        group="snapshot.storage.k8s.io",
        version="v1",
        plural=plural,
        kind=kind,
        namespaced=namespaced,
        status=status,
        short_names=short,
    )


_EVENT_FIELDS = (
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
)

BUILT_IN: tuple[KindSpec, ...] = (
    _core(
        "namespaces",
        "Namespace",
        namespaced=False,
        returns_deleted=True,
        status=True,
        short_names=("ns",),
        fields=("status.phase",),
        name_rule="label",
        verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
    ),
    _core(
        "nodes",
        "Node",
        namespaced=False,
        status=True,
        short_names=("no",),
        fields=("spec.unschedulable",),
        status_on_create=True,
    ),
    _core(
        "pods",
        "Pod",
        returns_deleted=True,
        status=True,
        short_names=("po",),
        categories=("all",),
        fields=(
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ),
    ),
    _core(
        "persistentvolumes",
        "PersistentVolume",
        namespaced=False,
        status=True,
        short_names=("pv",),
        returns_deleted=True,
    ),
    _core("persistentvolumeclaims", "PersistentVolumeClaim", status=True, short_names=("pvc",), returns_deleted=True),
    _core("secrets", "Secret", fields=("type",)),
    _core("configmaps", "ConfigMap", short_names=("cm",)),
    _core("serviceaccounts", "ServiceAccount", short_names=("sa",), returns_deleted=True),
    _core(
        "events",
        "Event",
        short_names=("ev",),
        fields=_EVENT_FIELDS,
        create_on_update=True,
    ),
    KindSpec(
        group="events.k8s.io",
        version="v1",
        plural="events",
        kind="Event",
        short_names=("ev",),
        custom=False,
        unconditional_update=True,
        create_on_update=True,
        stored_as="events",
    ),
    _storage("storageclasses", "StorageClass", short_names=("sc",), unconditional_update=True, returns_deleted=True),
    _storage("volumeattachments", "VolumeAttachment", status=True, returns_deleted=True),
    _storage("csinodes", "CSINode", returns_deleted=True),
    _storage("csidrivers", "CSIDriver", returns_deleted=True),
    _storage("csistoragecapacities", "CSIStorageCapacity", namespaced=True),
    _storage("volumeattributesclasses", "VolumeAttributesClass", short_names=("vac",), returns_deleted=True),
    KindSpec(
        group="coordination.k8s.io",
        version="v1",
        plural="leases",
        kind="Lease",
        custom=False,
        create_on_update=True,
    ),
    _snapshot("volumesnapshots", "VolumeSnapshot", namespaced=True, short=("vs",), status=True),
    _snapshot("volumesnapshotcontents", "VolumeSnapshotContent", namespaced=False, short=("vsc", "vscs"), status=True),
    _snapshot("volumesnapshotclasses", "VolumeSnapshotClass", namespaced=False, short=("vsclass", "vsclasses")),
    KindSpec(
        group="gateway.networking.k8s.io",
        version="v1beta1",
        plural="referencegrants",
        kind="ReferenceGrant",
        short_names=("refgrant",),
        categories=("gateway-api",),
    ),
    _rbac("clusterroles", "ClusterRole", namespaced=False),
    _rbac("clusterrolebindings", "ClusterRoleBinding", namespaced=False),
    _rbac("roles", "Role", namespaced=True),
    _rbac("rolebindings", "RoleBinding", namespaced=True),
    _apps("deployments", "Deployment", "deploy"),
    _apps("daemonsets", "DaemonSet", "ds"),
    _apps("statefulsets", "StatefulSet", "sts"),
    _apps("replicasets", "ReplicaSet", "rs"),
)

VIRTUAL: tuple[KindSpec, ...] = tuple(
    KindSpec(
        group=group,
        version="v1",
        plural=plural,
        kind=kind,
        namespaced=namespaced,
        custom=False,
        verbs=("create",),
    )
    for group, plural, kind, namespaced in (
        ("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview", False),
        ("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview", False),
        ("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview", False),
        ("authorization.k8s.io", "localsubjectaccessreviews", "LocalSubjectAccessReview", True),
        ("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview", False),
    )
)
"""Kinds that are answered and never stored."""


class Kinds:
    """Every kind of one server, found by URL parts, by plural, or by apiVersion and kind."""

    def __init__(self, more: Iterable[KindSpec] = ()) -> None:
        self._served: dict[tuple[str, str, str], KindSpec] = {}
        self._by_kind: dict[tuple[str, str], KindSpec] = {}
        self._by_plural: dict[str, KindSpec] = {}
        for spec in (*BUILT_IN, *VIRTUAL, *more):
            self.add(spec)

    def add(self, spec: KindSpec) -> None:
        """Serve one more kind; an equal group, version and plural is replaced."""
        self._served[spec.group, spec.version, spec.plural] = spec
        self._by_kind[spec.api_version, spec.kind] = spec
        if not spec.stored_as:
            self._by_plural[spec.resource] = spec
            self._by_plural.setdefault(spec.plural, spec)

    def find(self, group: str, version: str, plural: str) -> KindSpec | None:
        """The kind behind a URL, or None."""
        return self._served.get((group, version, plural))

    def find_kind(self, api_version: str, kind: str) -> KindSpec | None:
        """The kind an object says it is, or None."""
        return self._by_kind.get((api_version, kind))

    def by_plural(self, plural: str) -> KindSpec:
        """The kind called `plural`, or `plural.group` where the bare plural names another.

        Raises:
            KeyError: no such kind.
        """
        return self._by_plural[plural]

    def resource_names(self) -> frozenset[str]:
        """Every name that `by_plural` knows, and the plurals with their groups."""
        full = {f"{spec.plural}.{spec.group}" for spec in self if spec.group}
        return frozenset(full.union(self._by_plural))

    def __iter__(self) -> Iterator[KindSpec]:
        return iter(self._served.values())

    def groups(self) -> dict[str, list[str]]:
        """Group → its versions, preferred one first, in the order of declaration."""
        found: dict[str, list[str]] = {}
        for group, version, _ in self._served:
            versions = found.setdefault(group, [])
            if version not in versions:
                versions.append(version)
        return found
