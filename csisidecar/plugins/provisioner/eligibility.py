"""Is this claim, or this volume, ours, and is it time to do something about it? Pure; looks at nothing else.

A claim is judged in the Go provisioner's order, so that the same claim gets the same silence or the same error.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from csisidecar.plugins.provisioner import names

if TYPE_CHECKING:
    from collections.abc import Collection

    from csisidecar.kube import Claim, StorageClass, Volume


class Verdict(Enum):
    """What to do about a claim."""

    PROVISION = "provision"
    """It is ours and wants a volume now."""
    BOUND = "bound"
    """It has a volume."""
    NOT_OURS = "not ours"
    """It is addressed to another provisioner or to none."""
    DELETING = "deleting"
    """It is on its way out; a new volume would only have to be deleted again."""
    CLASS_MISSING = "class missing"
    """It is ours, but its class does not exist."""
    WAITING_FOR_CONSUMER = "waiting for consumer"
    """Its class wants a node chosen first, and none is."""


def judge_claim(claim: Claim, storage_class: StorageClass | None, driver_name: str, *, is_unfinished: bool) -> Verdict:
    """What to do about `claim`.

    Args:
        claim: as stored.
        storage_class: the claim's class, None when there is no such class.
        driver_name: who we are.
        is_unfinished: whether a CreateVolume for it may still be running; then its deletion changes nothing.

    Source: sig-storage-lib-external-provisioner `controller/controller.go`, shouldProvision;
    external-provisioner `pkg/controller/controller.go`, ShouldProvision. That a claim being deleted gets no new
    volume is ours.
    """
    if claim.spec.volume_name:
        return Verdict.BOUND
    if not is_claim_ours(claim, driver_name):
        return Verdict.NOT_OURS
    if claim.is_deleting and not is_unfinished:
        return Verdict.DELETING
    if storage_class is None:
        return Verdict.CLASS_MISSING
    waits = storage_class.volume_binding_mode == "WaitForFirstConsumer"
    if waits and not claim.annotations.get(names.SELECTED_NODE):
        return Verdict.WAITING_FOR_CONSUMER
    return Verdict.PROVISION


def is_claim_ours(claim: Claim, driver_name: str) -> bool:
    """Whether the claim is addressed to the driver, by its own name or as migrated from the in-tree one."""
    provisioner = names.find_provisioner(claim)
    if provisioner != driver_name and claim.annotations.get(names.MIGRATED_TO) != driver_name:
        return False
    return provisioner in names.own_names(driver_name)


def is_volume_ours(volume: Volume, own_names: Collection[str]) -> bool:
    """Whether the volume is ours to protect and to delete, made by a provisioner or by hand.

    Source: sig-storage-lib-external-provisioner `controller/controller.go`, isProvisionerForVolume.
    """
    migrated_to = volume.annotations.get(names.MIGRATED_TO, "")
    provisioned_by = volume.annotations.get(names.PROVISIONED_BY)
    if provisioned_by is not None:
        return provisioned_by in own_names or migrated_to in own_names
    if volume.spec.csi is not None:
        return volume.spec.csi.driver in own_names
    return migrated_to in own_names


def should_delete(volume: Volume) -> bool:
    """Whether the volume behind a PV of ours is to be deleted: released, with policy Delete, and not done already.

    Source: sig-storage-lib-external-provisioner `controller/controller.go`, shouldDelete.
    """
    if volume.is_deleting and names.FINALIZER not in volume.finalizers:
        return False
    return volume.phase == "Released" and volume.spec.persistent_volume_reclaim_policy == "Delete"


def needs_finalizer(volume: Volume) -> bool:
    """Whether a PV of ours lacks our finalizer: bound, to be deleted some day, and not on its way out."""
    return (
        volume.spec.persistent_volume_reclaim_policy == "Delete"
        and not volume.is_deleting
        and volume.phase == "Bound"
        and names.FINALIZER not in volume.finalizers
    )


def has_needless_finalizer(volume: Volume) -> bool:
    """Whether a PV of ours carries our finalizer although nobody will delete the volume behind it."""
    policy = volume.spec.persistent_volume_reclaim_policy
    return policy in ("Retain", "Recycle") and names.FINALIZER in volume.finalizers


def needs_attention(volume: Volume, own_names: Collection[str]) -> bool:
    """Whether anything at all is to be done about the volume now."""
    return is_volume_ours(volume, own_names) and (
        should_delete(volume) or needs_finalizer(volume) or has_needless_finalizer(volume)
    )
