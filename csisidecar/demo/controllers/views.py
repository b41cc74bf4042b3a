"""Views of the fields that kube-controller-manager's and the scheduler's storage parts read.

They keep more of claims and volumes than the sidecar needs (capacity, selectors, bound access modes), and add
Pods and CSIDrivers. Only the stand-ins of this folder use them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from csisidecar.kube import quantity
from csisidecar.kube.objects import KubeObject, LabeledMetadata, ObjectRef, Requests, View

if TYPE_CHECKING:
    from collections.abc import Mapping

Quantity = str | int | float

IS_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
FILESYSTEM = "Filesystem"


def to_bytes(value: Quantity | None) -> int:
    """`value` as bytes; absent or malformed reads as 0, as a missing quantity does in Go."""
    try:
        return quantity.parse(value) if value is not None else 0
    except ValueError:
        return 0


def _class_of(annotations: Mapping[str, str], spec_name: str | None) -> str:
    beta = annotations.get(BETA_CLASS)
    return beta if beta is not None else spec_name or ""


class SelectorTerm(View, frozen=True):
    """One `matchExpressions` entry of a label selector or a node selector term."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] | None = None


class LabelSelector(View, frozen=True):
    """`spec.selector` of a claim."""

    match_labels: dict[str, str] | None = None
    match_expressions: tuple[SelectorTerm, ...] | None = None


class BinderClaimSpec(View, frozen=True):
    """`spec` of a claim, as the binder reads it."""

    access_modes: tuple[str, ...] | None = None
    storage_class_name: str | None = None
    volume_name: str = ""
    volume_mode: str | None = None
    selector: LabelSelector | None = None
    resources: Requests | None = None
    volume_attributes_class_name: str | None = None


class BinderClaimStatus(View, frozen=True):
    """`status` of a claim."""

    phase: str = ""
    access_modes: tuple[str, ...] | None = None
    capacity: dict[str, Quantity] | None = None


class BinderClaim(KubeObject, frozen=True):
    """A PersistentVolumeClaim, as the binder reads it."""

    spec: BinderClaimSpec = msgspec.field(default_factory=BinderClaimSpec)
    status: BinderClaimStatus = msgspec.field(default_factory=BinderClaimStatus)

    @property
    def phase(self) -> str:
        """`status.phase`, empty when absent."""
        return self.status.phase

    @property
    def class_name(self) -> str:
        """The storage class: the beta annotation, even an empty one, beats `spec.storageClassName`."""
        return _class_of(self.annotations, self.spec.storage_class_name)

    @property
    def has_class(self) -> bool:
        """Whether a class was named at all; an empty name counts (it means: no class, ever)."""
        return self.spec.storage_class_name is not None or BETA_CLASS in self.annotations

    @property
    def volume_mode(self) -> str:
        """`spec.volumeMode`, Filesystem when absent."""
        return self.spec.volume_mode or FILESYSTEM

    @property
    def requested_bytes(self) -> int:
        """The storage request."""
        requests = self.spec.resources.requests if self.spec.resources else None
        return to_bytes((requests or {}).get("storage"))


class CSIVolumeSource(View, frozen=True):
    """`spec.csi` of a volume."""

    driver: str = ""
    volume_handle: str = ""


class BinderVolumeSpec(View, frozen=True):
    """`spec` of a volume, as the binder reads it."""

    access_modes: tuple[str, ...] | None = None
    capacity: dict[str, Quantity] | None = None
    claim_ref: ObjectRef | None = None
    csi: CSIVolumeSource | None = None
    node_affinity: dict[str, Any] | None = None
    persistent_volume_reclaim_policy: str = ""
    storage_class_name: str = ""
    volume_mode: str | None = None
    volume_attributes_class_name: str | None = None


class PhaseStatus(View, frozen=True):
    """`status` where only the phase matters."""

    phase: str = ""


class BinderVolume(KubeObject, frozen=True):
    """A PersistentVolume, as the binder reads it."""

    metadata: LabeledMetadata
    spec: BinderVolumeSpec = msgspec.field(default_factory=BinderVolumeSpec)
    status: PhaseStatus = msgspec.field(default_factory=PhaseStatus)

    @property
    def phase(self) -> str:
        """`status.phase`, empty when absent."""
        return self.status.phase

    @property
    def labels(self) -> Mapping[str, str]:
        """`metadata.labels`, empty when absent."""
        return self.metadata.labels or {}

    @property
    def class_name(self) -> str:
        """The storage class: the beta annotation, even an empty one, beats `spec.storageClassName`."""
        return _class_of(self.annotations, self.spec.storage_class_name)

    @property
    def volume_mode(self) -> str:
        """`spec.volumeMode`, Filesystem when absent."""
        return self.spec.volume_mode or FILESYSTEM

    @property
    def capacity_bytes(self) -> int:
        """The volume's size."""
        return to_bytes((self.spec.capacity or {}).get("storage"))

    @property
    def reclaim_policy(self) -> str:
        """`spec.persistentVolumeReclaimPolicy`, Retain when absent."""
        return self.spec.persistent_volume_reclaim_policy or "Retain"


class BinderClass(KubeObject, frozen=True):
    """A StorageClass, as the binder reads it."""

    provisioner: str = ""
    volume_binding_mode: str | None = None
    allowed_topologies: list[dict[str, Any]] | None = None

    @property
    def waits_for_consumer(self) -> bool:
        """Whether binding waits for the first Pod."""
        return self.volume_binding_mode == "WaitForFirstConsumer"

    @property
    def is_default(self) -> bool:
        """Whether claims that name no class get this one."""
        return self.annotations.get(IS_DEFAULT_CLASS) == "true"


class ClaimSource(View, frozen=True):
    """`persistentVolumeClaim` of a Pod's volume."""

    claim_name: str = ""


class PodVolume(View, frozen=True):
    """One entry of a Pod's `spec.volumes`."""

    name: str = ""
    persistent_volume_claim: ClaimSource | None = None


class Container(View, frozen=True):
    """One entry of a Pod's `spec.containers`."""

    name: str = ""
    image: str = ""


class PodSpec(View, frozen=True):
    """`spec` of a Pod."""

    node_name: str = ""
    containers: tuple[Container, ...] | None = None
    volumes: tuple[PodVolume, ...] | None = None
    node_selector: dict[str, str] | None = None
    scheduler_name: str = ""


class Pod(KubeObject, frozen=True):
    """A Pod: where it runs and which claims it uses."""

    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PhaseStatus = msgspec.field(default_factory=PhaseStatus)

    @property
    def node_name(self) -> str:
        """`spec.nodeName`, empty before scheduling."""
        return self.spec.node_name

    @property
    def is_over(self) -> bool:
        """Whether all its containers ended for good."""
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def claim_names(self) -> tuple[str, ...]:
        """Names of the claims it uses, in order, each once."""
        claims = (volume.persistent_volume_claim for volume in self.spec.volumes or ())
        return tuple(dict.fromkeys(claim.claim_name for claim in claims if claim is not None))


class WorkerNodeSpec(View, frozen=True):
    """`spec` of a Node."""

    unschedulable: bool = False


class WorkerNode(KubeObject, frozen=True):
    """A Node, as the scheduler reads it."""

    metadata: LabeledMetadata
    spec: WorkerNodeSpec = msgspec.field(default_factory=WorkerNodeSpec)

    @property
    def labels(self) -> Mapping[str, str]:
        """`metadata.labels`, empty when absent."""
        return self.metadata.labels or {}


class CSIDriverSpec(View, frozen=True):
    """`spec` of a CSIDriver."""

    attach_required: bool | None = None


class CSIDriver(KubeObject, frozen=True):
    """A CSIDriver object."""

    spec: CSIDriverSpec = msgspec.field(default_factory=CSIDriverSpec)
