"""What a claim or a volume may ask for that this version does not do; pure.

Doing half of it would be worse than nothing: an empty clone, or a volume where the pod cannot reach it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from csisidecar.plugins.provisioner.data_source import SNAPSHOT

if TYPE_CHECKING:
    from csisidecar.kube import Claim, ObjectRef, StorageClass, Volume


def find_claim_refusal(claim: Claim, storage_class: StorageClass, source: ObjectRef | None, driver_name: str) -> str:
    """Names the feature that the claim needs and this version lacks; empty when there is none.

    Args:
        claim: a claim of ours.
        storage_class: its class.
        source: what its volume is to be filled from; populators are not asked about here.
        driver_name: who we are.
    """
    if source is not None:
        what = "restoring a VolumeSnapshot" if source.kind == SNAPSHOT else "cloning a PersistentVolumeClaim"
        return f"data source {source.kind} {source.name}: {what} is not supported by this version of csisidecar"
    if storage_class.provisioner != driver_name:
        return (
            f"storage class {storage_class.name} of in-tree provisioner {storage_class.provisioner}:"
            " in-tree migration is not supported by this version of csisidecar"
        )
    if claim.spec.volume_attributes_class_name:
        return (
            f"VolumeAttributesClass {claim.spec.volume_attributes_class_name}:"
            " volume attributes classes are not supported by this version of csisidecar"
        )
    return ""


def find_volume_refusal(volume: Volume) -> str:
    """Names the feature that deleting the volume needs and this version lacks; empty when there is none."""
    if volume.in_tree_source:
        return (
            f"in-tree volume source {volume.in_tree_source}:"
            " in-tree migration is not supported by this version of csisidecar"
        )
    return ""
