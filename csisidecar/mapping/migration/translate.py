"""Volumes, classes and handles, in-tree ↔ CSI: what the plugins of this package call.

Objects come as the JSON that the API server sends, or as the views that the stores keep; the answer is a new object
of the same sort, and what a translation does not name is carried over. Errors are what users read.

Source: csi-translation-lib `translate.go`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from csisidecar.errors import UnusableObjectError
from csisidecar.kube import IN_TREE_SOURCES, CSISource, StorageClass, Volume, VolumeSpec
from csisidecar.mapping.migration import parameters
from csisidecar.mapping.migration.aws_ebs import AWS_EBS
from csisidecar.mapping.migration.azure_disk import AZURE_DISK
from csisidecar.mapping.migration.azure_file import AZURE_FILE
from csisidecar.mapping.migration.cinder import CINDER
from csisidecar.mapping.migration.contract import InTreeVolume, Migration
from csisidecar.mapping.migration.gce_pd import GCE_PD
from csisidecar.mapping.migration.portworx import PORTWORX
from csisidecar.mapping.migration.vsphere import VSPHERE

if TYPE_CHECKING:
    from collections.abc import Mapping

MIGRATIONS: tuple[Migration, ...] = (AWS_EBS, GCE_PD, CINDER, AZURE_DISK, AZURE_FILE, VSPHERE, PORTWORX)
"""Every in-tree plugin that has a successor."""

_BY_DRIVER = {each.driver: each for each in MIGRATIONS}
_BY_IN_TREE_NAME = {each.in_tree_name: each for each in MIGRATIONS}
_BY_SOURCE_FIELD = {each.source_field: each for each in MIGRATIONS}
_ATTRIBUTES = {api: attribute for attribute, api in IN_TREE_SOURCES.items()}


def find_by_driver(driver: str) -> Migration | None:
    """The migration that ends at the CSI driver of this name."""
    return _BY_DRIVER.get(driver)


def find_by_in_tree_name(in_tree_name: str) -> Migration | None:
    """The migration that begins at the in-tree plugin of this name."""
    return _BY_IN_TREE_NAME.get(in_tree_name)


def find_by_volume(volume: Volume | Mapping[str, Any]) -> Migration | None:
    """Who can translate the volume; None for a volume that is CSI's own or that nobody translates.

    Its driver is not the volume's: a volume of any of the seven plugins is found, whichever driver asks.
    """
    if isinstance(volume, Volume):
        return _BY_SOURCE_FIELD.get(volume.in_tree_source)
    spec = volume.get("spec") or {}
    return next((each for each in MIGRATIONS if spec.get(each.source_field) is not None), None)


def volume_to_csi(volume: Mapping[str, Any]) -> dict[str, Any]:
    """A PersistentVolume with an in-tree source → the same one with a CSI source.

    Raises:
        UnusableObjectError: the source is not one of the seven, or cannot be said in CSI.
    """
    metadata, spec = volume.get("metadata") or {}, dict(volume.get("spec") or {})
    migration = find_by_volume(volume)
    if migration is None:
        raise _no_plugin(metadata.get("name") or "")
    source = InTreeVolume(
        name=metadata.get("name") or "",
        source=spec.pop(migration.source_field),
        labels=metadata.get("labels") or {},
        annotations=metadata.get("annotations") or {},
        claim_namespace=(spec.get("claimRef") or {}).get("namespace") or "",
    )
    spec["csi"] = migration.to_csi(source)
    _put(spec, "nodeAffinity", migration.topology.to_csi(spec.get("nodeAffinity"), source.labels))
    modes = spec.get("accessModes")
    modes = migration.access_modes_to_csi(tuple(modes) if modes is not None else None)
    _put(spec, "accessModes", list(modes) if modes is not None else None)
    return {**volume, "spec": spec}


def view_to_csi(volume: Volume) -> VolumeSpec:
    """The `spec` of a volume with an in-tree source as CSI knows it: source, access modes, node affinity.

    Mount options, volume mode and claim stay. The view's annotations and labels are needed, and both are kept by
    the stores; of the CSI source only what the view has is told.

    Raises:
        UnusableObjectError: the source is not one of the seven, or cannot be said in CSI.
    """
    migration = find_by_volume(volume)
    if migration is None:
        raise _no_plugin(volume.name)
    spec = volume.spec
    attribute = _ATTRIBUTES[migration.source_field]
    labels = volume.metadata.labels or {}
    csi = migration.to_csi(
        InTreeVolume(
            name=volume.name,
            source=getattr(spec, attribute),
            labels=labels,
            annotations=volume.annotations,
            claim_namespace=spec.claim_ref.namespace if spec.claim_ref is not None else "",
        )
    )
    affinity = migration.topology.to_csi(spec.node_affinity, labels)
    changes: dict[str, Any] = {
        attribute: None,
        "csi": msgspec.convert(csi, CSISource),
        "access_modes": migration.access_modes_to_csi(spec.access_modes),
        "node_affinity": dict(affinity) if affinity is not None else None,
    }
    return msgspec.structs.replace(spec, **changes)


def volume_to_in_tree(volume: Mapping[str, Any]) -> dict[str, Any]:
    """A PersistentVolume with the CSI source of a successor → the same one with the in-tree source.

    What the in-tree source has no field for is lost: volume attributes and secret references.

    Raises:
        UnusableObjectError: no CSI source, a driver that is nobody's successor, or a source that cannot be said
            in-tree. Upstream prints the whole volume where a region cannot be found; here its name stands.
    """
    metadata, spec = dict(volume.get("metadata") or {}), dict(volume.get("spec") or {})
    csi = spec.pop("csi", None)
    if csi is None:
        raise UnusableObjectError("CSI persistent volume was nil")
    driver = csi.get("driver") or ""
    migration = find_by_driver(driver)
    if migration is None:
        raise UnusableObjectError(f"could not find in-tree plugin translation logic for {driver}")
    source = migration.to_in_tree(csi)
    try:
        affinity, labels = migration.topology.to_in_tree(spec.get("nodeAffinity"), metadata.get("labels") or {})
    except UnusableObjectError as error:
        raise UnusableObjectError(
            f"failed to translate topology. PV:{metadata.get('name') or ''}. Error:{error}"
        ) from error
    spec[migration.source_field] = source.fields
    _put(spec, "nodeAffinity", affinity)
    _put(metadata, "labels", dict(labels) or None)
    if source.annotations:
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **source.annotations}
    return {**volume, "metadata": metadata, "spec": spec}


def class_to_csi(in_tree_name: str, storage_class: Mapping[str, Any]) -> dict[str, Any]:
    """A StorageClass of the in-tree plugin `in_tree_name` → the same one as the driver knows it.

    Raises:
        UnusableObjectError: no such plugin, or zones said twice.
    """
    rules = _rules_of(in_tree_name)
    parts = parameters.apply(rules, storage_class.get("parameters") or {}, storage_class.get("allowedTopologies") or ())
    translated = dict(storage_class)
    _put(translated, "parameters", parts.parameters or None)
    _put(translated, "allowedTopologies", parts.allowed_topologies or None)
    if rules.provisioner:
        translated["provisioner"] = rules.provisioner
    return translated


def class_view_to_csi(in_tree_name: str, storage_class: StorageClass) -> StorageClass:
    """As `class_to_csi`, for the view that the stores keep.

    Raises:
        UnusableObjectError: no such plugin, or zones said twice.
    """
    rules = _rules_of(in_tree_name)
    parts = parameters.apply(rules, storage_class.parameters or {}, storage_class.allowed_topologies or ())
    return msgspec.structs.replace(
        storage_class,
        parameters=parts.parameters or None,
        allowed_topologies=parts.allowed_topologies or None,
        provisioner=rules.provisioner or storage_class.provisioner,
    )


def complete_handle(driver: str, handle: str, node_id: str) -> str:
    """The handle as the driver itself lists it, for a handle that `volume_to_csi` made.

    Only GCE PD's handles lack anything: project, and zone or region, come from the node id.

    Raises:
        UnusableObjectError: a driver that is nobody's successor, or a handle or node id without the parts.
    """
    migration = find_by_driver(driver)
    if migration is None:
        raise UnusableObjectError(f"could not find In-Tree driver name for CSI plugin {driver}")
    return migration.complete_handle(handle, node_id)


def _rules_of(in_tree_name: str) -> parameters.ClassRules:
    migration = find_by_in_tree_name(in_tree_name)
    if migration is None:
        raise UnusableObjectError(
            f'could not find in-tree storage class parameter translation logic for "{in_tree_name}"'
        )
    return migration.class_rules


def _no_plugin(name: str) -> UnusableObjectError:
    return UnusableObjectError(f'could not find in-tree plugin translation logic for "{name}"')


def _put(target: dict[str, Any], field: str, value: Any) -> None:
    """Sets a field, or leaves it out when there is no value."""
    if value is None:
        target.pop(field, None)
    else:
        target[field] = value
