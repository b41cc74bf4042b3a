"""Which objects are refused with 422, and with which words.

Names and metadata of every kind are checked here, the rest by the rules of the kind (`rules_volumes`, `rules_storage`,
`rules_objects`): what users of this server can meet, the storage kinds whole.

Source: kubernetes/kubernetes, pkg/apis/core/validation/validation.go and pkg/apis/storage/validation/validation.go;
kubernetes/apimachinery, pkg/api/validation and pkg/util/validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from csisidecar.testing.apiserver.rules_names import check_labels, check_name, check_qualified, immutable
from csisidecar.testing.apiserver.rules_objects import (
    check_config_map_change,
    check_event,
    check_lease,
    check_pod,
    check_pod_change,
    check_secret,
    check_secret_change,
)
from csisidecar.testing.apiserver.rules_storage import (
    check_attachment,
    check_attachment_change,
    check_attachment_status,
    check_attributes_class,
    check_attributes_class_change,
    check_capacity,
    check_capacity_change,
    check_class,
    check_class_change,
    check_csi_node,
    check_csi_node_change,
    check_driver,
    check_driver_change,
)
from csisidecar.testing.apiserver.rules_volumes import (
    check_claim,
    check_claim_change,
    check_claim_status,
    check_volume,
    check_volume_change,
)
from csisidecar.testing.apiserver.status import Cause, forbidden_field, invalid, required, too_long
from csisidecar.testing.apiserver.store import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from csisidecar.testing.apiserver.kinds import KindSpec

Content = dict[str, Any]

_MAX_ANNOTATIONS_BYTES = 256 * 1024


def validate_create(spec: KindSpec, content: Content) -> list[Cause]:
    """What is wrong with a new object; empty when it is legal."""
    causes = _metadata(spec, content["metadata"])
    rule = _RULES.get(spec.storage_name)
    if rule is not None:
        causes += rule(content)
    if spec.group == "events.k8s.io" and not content.get("eventTime"):
        causes.append(required("eventTime"))
    return causes


def validate_metadata_update(meta: Content, old: Content) -> list[Cause]:
    """What may not change in metadata."""
    causes = [
        immutable(f"metadata.{key}", meta[key])
        for key in ("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
        if key in meta and meta[key] != old.get(key) and (key == "creationTimestamp" or key in old)
    ]
    if "deletionTimestamp" in old:
        new = [item for item in meta.get("finalizers", ()) if item not in old.get("finalizers", ())]
        if new:
            shown = ", ".join(f'"{item}"' for item in new)
            detail = (
                "no new finalizers can be added if the object is being deleted, found new finalizers "
                f"[]string{{{shown}}}"
            )
            causes.append(forbidden_field("metadata.finalizers", detail))
    return causes


def validate_update(spec: KindSpec, content: Content, old: Content, subresource: str) -> list[Cause]:
    """What is wrong with the new state of an object; empty when it is legal."""
    causes = _metadata(spec, content["metadata"])
    if subresource == "status":
        rule = _STATUS_RULES.get(spec.storage_name)
        return causes + (rule(content) if rule is not None else [])
    rule = _RULES.get(spec.storage_name)
    if rule is not None:
        causes += rule(content)
    change = _CHANGE_RULES.get(spec.storage_name)
    if change is not None:
        causes += change(content, old)
    return causes


def _metadata(spec: KindSpec, meta: Content) -> list[Cause]:
    causes = []
    if meta.get("generateName"):
        causes += check_name(spec, str(meta["generateName"]).rstrip("-") or "-", "metadata.generateName")
    causes += check_name(spec, str(meta.get("name", "")), "metadata.name")
    causes += check_labels(meta.get("labels", {}), "metadata.labels")
    size = 0
    for key, value in meta.get("annotations", {}).items():
        size += len(key) + len(value.encode())
        causes += check_qualified(key.lower(), "metadata.annotations")
    if size > _MAX_ANNOTATIONS_BYTES:
        causes.append(too_long("metadata.annotations", _MAX_ANNOTATIONS_BYTES))
    for item in meta.get("finalizers", ()):
        causes += check_qualified(item, "metadata.finalizers")
        if "/" not in item and item not in {"orphan", "foregroundDeletion"} and not spec.custom:
            detail = "name is neither a standard finalizer name nor is it fully qualified"
            causes.append(invalid("metadata.finalizers[0]", item, detail))
    if {"orphan", "foregroundDeletion"} <= set(meta.get("finalizers", ())):
        causes.append(
            invalid(
                "metadata.finalizers", meta["finalizers"], "finalizer orphan and foregroundDeletion cannot be both set"
            )
        )
    causes += _owners(meta.get("ownerReferences", ()))
    return causes


def _owners(references: Sequence[Content]) -> list[Cause]:
    causes: list[Cause] = []
    controllers: list[str] = []
    for reference in references:
        for key in ("apiVersion", "kind", "name", "uid"):
            if not reference.get(key):
                detail = "must not be empty" if key != "apiVersion" else "version must not be empty"
                causes.append(invalid(f"metadata.ownerReferences.{key}", reference.get(key, ""), detail))
        if (reference.get("apiVersion"), reference.get("kind")) == ("v1", "Event"):
            causes.append(
                invalid(
                    "metadata.ownerReferences", _owner(reference), "/v1, Kind=Event is disallowed from being an owner"
                )
            )
        if reference.get("controller"):
            controllers.append(f"{reference.get('kind')}/{reference.get('name')}")
    if len(controllers) > 1:
        detail = (
            'Only one reference can have Controller set to true. Found "true" in references for '
            f"{controllers[0]} and {controllers[1]}"
        )
        shown = encode([_owner(item) for item in references]).decode()
        causes.append(Cause("FieldValueInvalid", f"Invalid value: {shown}: {detail}", "metadata.ownerReferences"))
    return causes


def _owner(reference: Content) -> Content:
    """A reference with its fields in the order Go writes them."""
    order = ("apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion")
    return {key: reference[key] for key in order if key in reference}


_RULES: dict[str, Callable[[Content], list[Cause]]] = {
    "persistentvolumes": check_volume,
    "persistentvolumeclaims": check_claim,
    "storageclasses.storage.k8s.io": check_class,
    "volumeattachments.storage.k8s.io": check_attachment,
    "csidrivers.storage.k8s.io": check_driver,
    "csinodes.storage.k8s.io": check_csi_node,
    "csistoragecapacities.storage.k8s.io": check_capacity,
    "volumeattributesclasses.storage.k8s.io": check_attributes_class,
    "leases.coordination.k8s.io": check_lease,
    "secrets": check_secret,
    "events": check_event,
    "pods": check_pod,
}


_STATUS_RULES: dict[str, Callable[[Content], list[Cause]]] = {
    "persistentvolumeclaims": check_claim_status,
    "volumeattachments.storage.k8s.io": check_attachment_status,
}


_CHANGE_RULES: dict[str, Callable[[Content, Content], list[Cause]]] = {
    "persistentvolumes": check_volume_change,
    "persistentvolumeclaims": check_claim_change,
    "storageclasses.storage.k8s.io": check_class_change,
    "volumeattachments.storage.k8s.io": check_attachment_change,
    "csidrivers.storage.k8s.io": check_driver_change,
    "csinodes.storage.k8s.io": check_csi_node_change,
    "csistoragecapacities.storage.k8s.io": check_capacity_change,
    "volumeattributesclasses.storage.k8s.io": check_attributes_class_change,
    "secrets": check_secret_change,
    "configmaps": check_config_map_change,
    "pods": check_pod_change,
}
