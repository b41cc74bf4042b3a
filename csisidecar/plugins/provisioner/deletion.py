"""PV → the handle and the Secret that DeleteVolume gets; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from csisidecar.errors import UnusableObjectError
from csisidecar.kube import SecretRef
from csisidecar.mapping import migration, secrets
from csisidecar.plugins.provisioner import names

if TYPE_CHECKING:
    from csisidecar.kube import StorageClass, Volume


def find_handle(volume: Volume, driver_name: str) -> str:
    """The driver's id of the volume; an in-tree source is translated.

    Raises:
        UnusableObjectError: the volume is none of the driver's, whatever its annotations say. The Go provisioner
            does not ask, and hands the driver a foreign handle.

    Source: external-provisioner `pkg/controller/controller.go`, Delete.
    """
    source = volume.spec.csi
    found = migration.find_by_volume(volume)
    if found is not None:
        if found.driver != driver_name:
            raise UnusableObjectError(
                f"invalid CSI PV: {found.source_field} is handled by driver {found.driver}, not by {driver_name}"
            )
        source = migration.view_to_csi(volume).csi
    if source is None:
        raise UnusableObjectError("invalid CSI PV")
    if source.driver != driver_name:
        raise UnusableObjectError(f"invalid CSI PV: its driver is {source.driver}, not {driver_name}")
    return source.volume_handle


def find_deletion_secret(volume: Volume, storage_class: StorageClass | None) -> SecretRef | None:
    """The Secret for deleting the volume, None for none.

    The two annotations decide if both are there, also when both are empty; else the class as it is now, and then
    without the claim's annotations, which nobody kept.

    Args:
        volume: the PV.
        storage_class: its class, None when it names none or it is gone.

    Raises:
        UnusableObjectError: the class's pair is broken, or needs an annotation of the claim.

    Source: external-provisioner `pkg/controller/controller.go`, handleSecretsForDeletion and getSecretsFromSC.
    """
    name = volume.annotations.get(names.DELETION_SECRET_NAME)
    namespace = volume.annotations.get(names.DELETION_SECRET_NAMESPACE)
    if name is not None and namespace is not None:
        return SecretRef(name=name, namespace=namespace) if name and namespace else None
    claim = volume.spec.claim_ref
    if storage_class is None or claim is None:
        return None
    tokens = secrets.SecretTokens(
        pv_name=volume.name, claim_name=claim.name, claim_namespace=claim.namespace, annotations={}
    )
    try:
        return secrets.find_secret(secrets.PROVISIONER, storage_class.parameters or {}, tokens)
    except UnusableObjectError as error:
        raise UnusableObjectError(f"failed to get secretreference for volume {volume.name}: {error}") from error
