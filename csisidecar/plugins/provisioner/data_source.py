"""Where a new volume's content comes from: nowhere, a snapshot, another claim, or somebody else's populator; pure.

Only which object it is and whether the claim may use it; what that object says is `snapshot_source`'s and
`clone_source`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from csisidecar.errors import UnusableObjectError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from csisidecar.kube import Claim, Grant, GrantTo, ObjectRef

SNAPSHOT_GROUP = "snapshot.storage.k8s.io"
SNAPSHOT = "VolumeSnapshot"
CLAIM = "PersistentVolumeClaim"


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSource:
    """The object that a new volume is to be filled from."""

    kind: str
    group: str
    namespace: str
    name: str

    @property
    def is_snapshot(self) -> bool:
        """Whether it is a VolumeSnapshot."""
        return self.kind == SNAPSHOT

    @property
    def is_claim(self) -> bool:
        """Whether it is another claim, to be cloned."""
        return self.kind == CLAIM


def find_data_source(claim: Claim, grants_in: Callable[[str], Iterable[Grant]] | None) -> DataSource | None:
    """What the claim wants its volume filled from, None for an empty volume; `dataSource` beats `dataSourceRef`.

    Args:
        claim: a claim of ours.
        grants_in: namespace → its ReferenceGrants; None: sources in other namespaces are off.

    Raises:
        UnusableObjectError: another namespace without leave.

    Source: external-provisioner `pkg/controller/controller.go`, dataSource. An empty namespace in `dataSourceRef`,
    which ends the Go provisioner, counts as the claim's own.
    """
    if claim.spec.data_source is not None:
        return _in_namespace(claim.spec.data_source, claim.namespace)
    reference = claim.spec.data_source_ref
    if reference is None:
        return None
    namespace = reference.namespace or claim.namespace
    if reference.namespace and grants_in is None:
        raise UnusableObjectError(
            "dataSourceRef namespace specified but the CrossNamespaceVolumeDataSource feature is disabled"
        )
    if (
        namespace != claim.namespace
        and grants_in is not None
        and not is_granted(claim, reference, grants_in(namespace))
    ):
        raise UnusableObjectError(
            f"accessing {namespace}/{reference.name} of {reference.kind} dataSource"
            f" from {claim.namespace}/{claim.name} isn't allowed"
        )
    return _in_namespace(reference, namespace)


def is_granted(claim: Claim, reference: ObjectRef, grants: Iterable[Grant]) -> bool:
    """Whether one of the grants of the source's namespace lets the claim use what `reference` names.

    Source: external-provisioner `pkg/controller/util.go`, IsGranted; Gateway API, "ReferenceGrant".
    """
    return any(
        any(not f.group and f.kind == CLAIM and f.namespace == claim.namespace for f in grant.spec.from_ or ())
        and any(_covers(to, reference) for to in grant.spec.to or ())
        for grant in grants
    )


def check_data_source(source: DataSource, claim_name: str) -> None:
    """Raises UnusableObjectError for a source without a name, or a snapshot of a foreign API group.

    Source: external-provisioner `pkg/controller/controller.go`, prepareProvision.
    """
    if not source.name:
        raise UnusableObjectError(f"the PVC source not found for PVC {claim_name}")
    if source.is_snapshot and source.group != SNAPSHOT_GROUP:
        raise UnusableObjectError(
            f"the PVC source does not belong to the right APIGroup. Expected {SNAPSHOT_GROUP}, Got {source.group}"
        )


def is_for_populator(source: DataSource) -> bool:
    """Whether somebody else fills volumes from this kind, so that the claim is left to them."""
    return not source.is_snapshot and not source.is_claim


def _in_namespace(reference: ObjectRef, namespace: str) -> DataSource:
    return DataSource(kind=reference.kind, group=reference.api_group or "", namespace=namespace, name=reference.name)


def _covers(to: GrantTo, reference: ObjectRef) -> bool:
    return (
        to.group == (reference.api_group or "") and to.kind == reference.kind and to.name in (None, "", reference.name)
    )
