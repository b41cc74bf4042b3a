"""Where a new volume's content comes from: nowhere, a snapshot, another claim, or somebody else's populator; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from csisidecar.errors import UnusableObjectError

if TYPE_CHECKING:
    from csisidecar.kube import Claim, ObjectRef

SNAPSHOT_GROUP = "snapshot.storage.k8s.io"
SNAPSHOT = "VolumeSnapshot"
CLAIM = "PersistentVolumeClaim"


def find_data_source(claim: Claim) -> ObjectRef | None:
    """What the claim wants its volume filled from, None for an empty volume; `dataSource` beats `dataSourceRef`.

    Raises:
        UnusableObjectError: a source without a name, a snapshot of a foreign API group, or another namespace.

    Source: external-provisioner `pkg/controller/controller.go`, dataSource and prepareProvision.
    """
    source = claim.spec.data_source
    if source is None:
        source = claim.spec.data_source_ref
        if source is not None and source.namespace:
            raise UnusableObjectError(
                "dataSourceRef namespace specified but the CrossNamespaceVolumeDataSource feature is disabled"
            )
    if source is None:
        return None
    if not source.name:
        raise UnusableObjectError(f"the PVC source not found for PVC {claim.name}")
    if source.kind == SNAPSHOT and source.api_group != SNAPSHOT_GROUP:
        raise UnusableObjectError(
            f"the PVC source does not belong to the right APIGroup. Expected {SNAPSHOT_GROUP},"
            f" Got {source.api_group or ''}"
        )
    return source


def is_for_populator(source: ObjectRef) -> bool:
    """Whether somebody else fills volumes from this kind, so that the claim is left to them."""
    return source.kind not in (SNAPSHOT, CLAIM)
