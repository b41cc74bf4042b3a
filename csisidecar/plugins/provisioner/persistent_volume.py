"""Claim, plan and the driver's volume → the PersistentVolume to create; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from csisidecar.kube import quantity
from csisidecar.mapping import migration, secrets
from csisidecar.plugins.provisioner import names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from csisidecar.csi import Topology
    from csisidecar.csi import Volume as DriverVolume
    from csisidecar.kube import Claim, SecretRef
    from csisidecar.plugins.provisioner.create_request import VolumePlan

_SECRET_FIELDS = {
    secrets.CONTROLLER_PUBLISH: "controllerPublishSecretRef",
    secrets.NODE_STAGE: "nodeStageSecretRef",
    secrets.NODE_PUBLISH: "nodePublishSecretRef",
    secrets.CONTROLLER_EXPAND: "controllerExpandSecretRef",
    secrets.NODE_EXPAND: "nodeExpandSecretRef",
}
"""Pair → field of `spec.csi`; the other two pairs go to annotations."""


def build_persistent_volume(
    plan: VolumePlan,
    claim: Claim,
    volume: DriverVolume,
    *,
    driver_name: str,
    identity: str,
    read_only_from_access_mode: bool,
    has_topology: bool,
) -> dict[str, Any]:
    """The PV for a volume that the driver made.

    Args:
        plan: what was asked for.
        claim: the claim as last seen; the PV points at it even if it is gone.
        volume: what the driver answered.
        driver_name: who we are.
        identity: this run of the provisioner; the driver's own `volume_context` may overwrite it.
        read_only_from_access_mode: whether a claim with only ReadOnlyMany gives a read-only volume.
        has_topology: whether the volume's places count.

    Raises:
        UnusableObjectError: the class is an in-tree plugin's, and the volume cannot be said in that plugin's terms.

    Source: external-provisioner `pkg/controller/controller.go`, Provision;
    sig-storage-lib-external-provisioner `controller/controller.go`, provisionClaimOperation.
    """
    storage_class = plan.draft.storage_class
    spec: dict[str, Any] = {
        "capacity": {"storage": quantity.to_text(volume.capacity_bytes or plan.draft.size_bytes)},
        "accessModes": list(claim.spec.access_modes or ()),
        "claimRef": {
            "kind": "PersistentVolumeClaim",
            "apiVersion": "v1",
            "namespace": claim.namespace,
            "name": claim.name,
            "uid": claim.uid,
            "resourceVersion": claim.resource_version,
        },
        "storageClassName": claim.class_name,
        "csi": _build_source(plan, volume, driver_name, identity, read_only_from_access_mode),
    }
    if storage_class.mount_options:
        spec["mountOptions"] = list(storage_class.mount_options)
    if storage_class.reclaim_policy:
        spec["persistentVolumeReclaimPolicy"] = storage_class.reclaim_policy
    if claim.spec.volume_mode is not None:
        spec["volumeMode"] = claim.spec.volume_mode
    if plan.draft.attributes_class:
        spec["volumeAttributesClassName"] = plan.draft.attributes_class
    affinity = build_node_affinity(volume.accessible_topology) if has_topology else None
    if affinity is not None:
        spec["nodeAffinity"] = affinity
    body = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": plan.draft.name,
            "annotations": _build_annotations(plan),
            "finalizers": [names.FINALIZER],
        },
        "spec": spec,
    }
    return migration.volume_to_in_tree(body) if plan.draft.is_migrated else body


def build_node_affinity(places: Sequence[Topology]) -> dict[str, Any] | None:
    """The nodes from which a volume with these places can be used; None when the driver named none.

    Source: external-provisioner `pkg/controller/topology.go`, GenerateVolumeNodeAffinity. Places without segments
    alone give None here; upstream writes an affinity that the API server refuses.
    """
    terms = [
        {
            "matchExpressions": [
                {"key": key, "operator": "In", "values": [value]} for key, value in sorted(place.segments.items())
            ]
        }
        for place in places
        if place.segments
    ]
    return {"required": {"nodeSelectorTerms": terms}} if terms else None


def _build_source(
    plan: VolumePlan, volume: DriverVolume, driver_name: str, identity: str, read_only_from_access_mode: bool
) -> dict[str, Any]:
    source: dict[str, Any] = {
        "driver": driver_name,
        "volumeHandle": volume.volume_id,
        "volumeAttributes": {names.IDENTITY_ATTRIBUTE: identity} | volume.volume_context,
    }
    if plan.draft.fs_type and plan.draft.claim.spec.volume_mode != "Block":
        source["fsType"] = plan.draft.fs_type
    if read_only_from_access_mode and plan.is_only_read:
        source["readOnly"] = True
    for pair, field in _SECRET_FIELDS.items():
        ref = plan.secret_refs.get(pair)
        if ref is not None:
            source[field] = {"name": ref.name, "namespace": ref.namespace}
    return source


def _build_annotations(plan: VolumePlan) -> dict[str, str]:
    def of(ref: SecretRef | None, name_key: str, namespace_key: str) -> dict[str, str]:
        return {name_key: ref.name if ref else "", namespace_key: ref.namespace if ref else ""}

    # The deletion pair is always there: both empty tell whoever deletes that no class need be asked for a secret.
    found = of(plan.provisioner_secret, names.DELETION_SECRET_NAME, names.DELETION_SECRET_NAMESPACE)
    modify = plan.secret_refs.get(secrets.CONTROLLER_MODIFY)
    if modify is not None:
        found |= of(modify, names.MODIFY_SECRET_NAME, names.MODIFY_SECRET_NAMESPACE)
    return found | {names.PROVISIONED_BY: plan.draft.provisioner}
