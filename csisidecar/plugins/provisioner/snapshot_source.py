"""VolumeSnapshot and its content → the driver's snapshot to restore; pure.

The order of the checks is the Go provisioner's, and so are the texts.

Source: external-provisioner `pkg/controller/controller.go`, getSnapshotSource.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from csisidecar.errors import UnusableObjectError
from csisidecar.kube import quantity
from csisidecar.plugins.provisioner import names
from csisidecar.plugins.provisioner.create_request import requested_bytes

if TYPE_CHECKING:
    from csisidecar.kube import Claim, Snapshot, SnapshotContent, StorageClass

ALLOW_MODE_CHANGE = "snapshot.storage.kubernetes.io/allow-volume-mode-change"
"""Annotation of a content: whether its snapshot may be restored in another volume mode."""

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def find_content_name(snapshot: Snapshot) -> str:
    """Name of the content that the snapshot is bound to.

    A snapshot on its way out is still restored when it carries our finalizer: then an attempt before this one may
    have left a volume, and only going on finds it again.

    Raises:
        UnusableObjectError: the snapshot is being deleted, or not bound.
    """
    if snapshot.is_deleting and names.SNAPSHOT_FINALIZER not in snapshot.finalizers:
        raise UnusableObjectError(f"snapshot {snapshot.name} is being deleted")
    if snapshot.status is None or snapshot.status.bound_volume_snapshot_content_name is None:
        raise UnusableObjectError(f"snapshot {snapshot.name} not bound")
    return snapshot.status.bound_volume_snapshot_content_name


def find_snapshot_handle(
    claim: Claim,
    storage_class: StorageClass,
    snapshot: Snapshot,
    content: SnapshotContent,
    *,
    prevent_mode_conversion: bool,
) -> str:
    """The driver's id of the snapshot.

    Args:
        claim: who wants its content.
        storage_class: the claim's.
        snapshot: bound to `content`.
        content: as read now.
        prevent_mode_conversion: whether another volume mode needs the content's leave.

    Raises:
        UnusableObjectError: it cannot be restored for this claim, now or ever.
    """
    owner = content.spec.volume_snapshot_ref
    if (owner.uid, owner.namespace, owner.name) != (snapshot.uid, snapshot.namespace, snapshot.name):
        raise UnusableObjectError(
            f"snapshotcontent {content.name} for snapshot {snapshot.name} is bound to a different snapshot"
        )
    if content.spec.driver != storage_class.provisioner:
        raise UnusableObjectError(
            f"snapshotcontent {content.name} for snapshot {snapshot.name} is not handled by CSI driver of"
            f" StorageClass {storage_class.name}"
        )
    if snapshot.status is None or not snapshot.status.ready_to_use:
        raise UnusableObjectError(f"snapshot {snapshot.name} is not Ready")
    if content.status is None or content.status.snapshot_handle is None:
        raise UnusableObjectError(f"snapshot handle {snapshot.name} is not available")
    _check_size(claim, snapshot)
    if prevent_mode_conversion:
        _check_mode(claim, content)
    return content.status.snapshot_handle


def _check_size(claim: Claim, snapshot: Snapshot) -> None:
    restore_size = snapshot.status.restore_size if snapshot.status else None
    if restore_size is None:
        return
    if "storage" not in ((claim.spec.resources.requests if claim.spec.resources else None) or {}):
        raise UnusableObjectError(f"error getting capacity for PVC {claim.name} when creating snapshot {snapshot.name}")
    wanted = requested_bytes(claim)
    try:
        needed = quantity.parse(restore_size)
    except ValueError as error:
        raise UnusableObjectError(f"restoreSize of snapshot {snapshot.name} is no quantity: {error}") from error
    if wanted < needed:
        raise UnusableObjectError(
            f"requested volume size {wanted} is less than the size {needed} for the source snapshot {snapshot.name}"
        )


def _check_mode(claim: Claim, content: SnapshotContent) -> None:
    source_mode, mode = content.spec.source_volume_mode, claim.spec.volume_mode
    if source_mode is None or mode is None or source_mode == mode:
        return
    allowed = content.annotations.get(ALLOW_MODE_CHANGE)
    if allowed in _TRUE:
        return
    if allowed is None:
        why = f"{ALLOW_MODE_CHANGE} annotation is not present on snapshotcontent {content.name}"
    elif allowed in _FALSE:
        why = f"{ALLOW_MODE_CHANGE} is set to false on snapshotcontent {content.name}"
    else:
        why = (
            f"failed to convert {ALLOW_MODE_CHANGE} annotation value to boolean with error:"
            f' strconv.ParseBool: parsing "{allowed}": invalid syntax'
        )
    raise UnusableObjectError(
        f"requested volume {claim.namespace}/{claim.name} modifies the mode of the source volume but does not have"
        f" permission to do so. {why}"
    )
