"""Every name the provisioner reads or writes: annotations, finalizers, and the names made from a claim's UID."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from csisidecar.errors import UnusableObjectError
from csisidecar.mapping import migration

if TYPE_CHECKING:
    from csisidecar.config import ProvisionerSettings
    from csisidecar.kube import Claim

FINALIZER = "external-provisioner.volume.kubernetes.io/finalizer"
"""On every PV we make; it goes last, when the volume behind the PV is gone."""

CLONING_FINALIZER = "provisioner.storage.kubernetes.io/cloning-protection"
"""On the claim that a volume is being cloned from."""

SNAPSHOT_FINALIZER = "provisioner.storage.kubernetes.io/volumesnapshot-as-source-protection"
"""On the VolumeSnapshot that a volume is being restored from."""

PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
MIGRATED_TO = "pv.kubernetes.io/migrated-to"
STORAGE_PROVISIONER = "volume.kubernetes.io/storage-provisioner"
BETA_STORAGE_PROVISIONER = "volume.beta.kubernetes.io/storage-provisioner"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
ALPHA_SELECTED_NODE = "volume.alpha.kubernetes.io/selected-node"
DELETION_SECRET_NAME = "volume.kubernetes.io/provisioner-deletion-secret-name"  # noqa: S105 - an annotation's key
DELETION_SECRET_NAMESPACE = "volume.kubernetes.io/provisioner-deletion-secret-namespace"  # noqa: S105
MODIFY_SECRET_NAME = "volume.kubernetes.io/controller-modify-secret-name"  # noqa: S105
MODIFY_SECRET_NAMESPACE = "volume.kubernetes.io/controller-modify-secret-namespace"  # noqa: S105
IDENTITY_ATTRIBUTE = "storage.kubernetes.io/csiProvisionerIdentity"
"""Key in a PV's volumeAttributes: which run of a provisioner made it."""


IN_TREE_NAMES = {each.driver: each.in_tree_name for each in migration.MIGRATIONS}
"""CSI driver → the in-tree plugin it took over."""


def own_names(driver_name: str) -> frozenset[str]:
    """The names under which claims, classes and volumes address the driver: its own and the in-tree one, if any."""
    in_tree = IN_TREE_NAMES.get(driver_name)
    return frozenset({driver_name, in_tree} if in_tree else {driver_name})


def find_provisioner(claim: Claim) -> str | None:
    """Whom the claim is addressed to; the current key, if present at all, wins over the old one even when empty."""
    if STORAGE_PROVISIONER in claim.annotations:
        return claim.annotations[STORAGE_PROVISIONER]
    return claim.annotations.get(BETA_STORAGE_PROVISIONER)


def find_selected_node(claim: Claim) -> str:
    """The node that the scheduler chose, empty when none; the alpha key counts only without the current one."""
    if SELECTED_NODE in claim.annotations:
        return claim.annotations[SELECTED_NODE]
    return claim.annotations.get(ALPHA_SELECTED_NODE, "")


def volume_name(claim_uid: str, settings: ProvisionerSettings) -> str:
    """The one name of a claim's volume: in CreateVolume, as the PV, and as ``${pv.name}``.

    Raises:
        UnusableObjectError: the claim has no UID.

    Source: external-provisioner `pkg/controller/controller.go`, makeVolumeName.
    """
    if not claim_uid:
        raise UnusableObjectError("corrupted PVC object, it is missing UID")
    length = settings.volume_name_uuid_length
    suffix = claim_uid if length == -1 else claim_uid.replace("-", "")[:length]
    return f"{settings.volume_name_prefix}-{suffix}"


def lease_name(driver_name: str) -> str:
    """Name of the Lease, equal to the Go provisioner's: foreign characters become dashes, a final dash gets an X.

    Source: csi-lib-utils `leaderelection/leader_election.go`, sanitizeName.
    """
    name = re.sub(r"[^A-Za-z0-9-]", "-", driver_name)
    return f"{name}X" if name.endswith("-") else name
