"""Source claim and its volume → the driver's volume to clone; pure.

The order of the checks is the Go provisioner's, and so are the texts; where it hides the reason in its log, the
reason follows in brackets.

Source: external-provisioner `pkg/controller/controller.go`, getPVCSource.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from csisidecar.errors import UnusableObjectError
from csisidecar.plugins.provisioner import names
from csisidecar.plugins.provisioner.create_request import requested_bytes

if TYPE_CHECKING:
    from csisidecar.kube import Claim, StorageClass, Volume

_INVALID = "claim in dataSource not bound or invalid"


def check_source_claim(claim: Claim, source: Claim) -> None:
    """Raises UnusableObjectError when `source` is no claim that `claim` could be a clone of.

    A source on its way out is still cloned when it carries our finalizer: then an attempt before this one may have
    left a volume, and only going on finds it again. The Go provisioner does so for snapshots alone.
    """
    if source.phase != "Bound":
        raise UnusableObjectError(
            f"the PVC DataSource {source.name} must have a status of Bound.  Got {source.phase or 'none'}"
        )
    if source.is_deleting and names.CLONING_FINALIZER not in source.finalizers:
        raise UnusableObjectError(f"the PVC DataSource {source.name} is currently being deleted")
    if source.spec.storage_class_name is None:
        raise UnusableObjectError(f"the source PVC ({source.name}) storageclass cannot be empty")
    if claim.spec.storage_class_name is None:
        raise UnusableObjectError(f"the requested PVC ({claim.name}) storageclass cannot be empty")
    wanted, needed = requested_bytes(claim), requested_bytes(source)
    if wanted < needed:
        raise UnusableObjectError(
            "error, new PVC request must be greater than or equal in size to the specified PVC data source,"
            f" requested {wanted} but source is {needed}"
        )
    if not source.spec.volume_name:
        raise UnusableObjectError(f"volume name is empty in source PVC {source.name}")


def invalid(why: str) -> UnusableObjectError:
    """The one text for everything that may be wrong with the source's volume, and what it is."""
    return UnusableObjectError(f"{_INVALID} ({why})")


def find_volume_handle(claim: Claim, storage_class: StorageClass, source: Claim, volume: Volume) -> str:
    """The driver's id of the volume to clone.

    Args:
        claim: who wants a clone.
        storage_class: the claim's.
        source: the claim to clone.
        volume: the source's PV, as read now.

    Raises:
        UnusableObjectError: it cannot be cloned for this claim.
    """
    csi, owner = volume.spec.csi, volume.spec.claim_ref
    if csi is None:
        raise invalid(f"PersistentVolume {volume.name} has no CSI source")
    if csi.driver != storage_class.provisioner:
        raise invalid(
            f"PersistentVolume {volume.name} is of driver {csi.driver},"
            f" StorageClass {storage_class.name} of {storage_class.provisioner}"
        )
    if owner is None:
        raise invalid(f"PersistentVolume {volume.name} has no claim")
    if (owner.uid, owner.namespace, owner.name) != (source.uid, source.namespace, source.name):
        raise invalid(f"PersistentVolume {volume.name} belongs to {owner.namespace}/{owner.name}")
    if volume.phase != "Bound":
        raise invalid(f"PersistentVolume {volume.name} is {volume.phase or 'without phase'}, not Bound")
    wanted, found = claim.spec.volume_mode or "Filesystem", volume.spec.volume_mode or "Filesystem"
    if wanted != found:
        raise UnusableObjectError(
            "the source PVC and destination PVCs must have the same volume mode for cloning. "
            f" Source is {found}, but new PVC requested {wanted}"
        )
    return csi.volume_handle
