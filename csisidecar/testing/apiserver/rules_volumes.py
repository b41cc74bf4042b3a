"""Which PersistentVolumes and PersistentVolumeClaims are refused, new ones and changed ones.

Source: kubernetes/kubernetes, pkg/apis/core/validation/validation.go.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from csisidecar.testing.apiserver.rules_names import (
    check_driver_name,
    check_not_negative,
    check_qualified,
    check_selector,
    check_subdomain,
    immutable,
    quantity_bytes,
)
from csisidecar.testing.apiserver.schema import STRUCTS
from csisidecar.testing.apiserver.status import Cause, forbidden_field, invalid, required, unsupported

if TYPE_CHECKING:
    from collections.abc import Iterable

Content = dict[str, Any]

_ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")


_RECLAIM_POLICIES = ("Delete", "Recycle", "Retain")


_VOLUME_MODES = ("Block", "Filesystem")


_VOLUME_SOURCES = tuple(
    name for name, field in STRUCTS["PersistentVolumeSpec"].fields.items() if field.item.endswith("VolumeSource")
)


def _access_modes(modes: Iterable[str], field: str) -> list[Cause]:
    found = list(modes)
    causes = [unsupported(field, mode, _ACCESS_MODES) for mode in found if mode not in _ACCESS_MODES]
    if "ReadWriteOncePod" in found and len(found) > 1:
        causes.append(forbidden_field(field, "may not use ReadWriteOncePod with other access modes"))
    return causes


def _storage(resources: Content, field: str) -> list[Cause]:
    size = resources.get("storage")
    if size is None:
        return [required(field)]
    return [] if _is_positive(str(size)) else [invalid(field, size, "must be greater than zero")]


def _is_positive(quantity: str) -> bool:
    return not quantity.startswith("-") and re.search(r"[1-9]", re.split(r"[a-zA-Z]", quantity)[0]) is not None


def check_volume_spec(volume: Content, at: str, *, inline: bool = False) -> list[Cause]:
    """What is wrong with a volume's spec, of a PersistentVolume or inside of a VolumeAttachment."""
    causes: list[Cause] = []
    modes = volume.get("accessModes") or ()
    if not modes:
        causes.append(required(f"{at}.accessModes"))
    causes += _access_modes(modes, f"{at}.accessModes")
    if not inline:
        capacity = volume.get("capacity") or {}
        if not capacity:
            causes.append(required(f"{at}.capacity"))
            causes.append(unsupported(f"{at}.capacity", volume.get("capacity"), ["storage"]))
        elif set(capacity) != {"storage"}:
            causes.append(unsupported(f"{at}.capacity", capacity, ["storage"]))
        else:
            causes += check_not_negative(capacity, f"{at}.capacity")
            causes += _storage(capacity, f"{at}.capacity[storage]")
    policy = volume.get("persistentVolumeReclaimPolicy")
    if policy and policy not in _RECLAIM_POLICIES:
        causes.append(unsupported(f"{at}.persistentVolumeReclaimPolicy", policy, _RECLAIM_POLICIES))
    mode = volume.get("volumeMode")
    if mode and mode not in _VOLUME_MODES:
        causes.append(unsupported(f"{at}.volumeMode", mode, _VOLUME_MODES))
    causes += _node_affinity(volume.get("nodeAffinity"), f"{at}.nodeAffinity")
    if inline:
        causes += _inline_only(volume, at)
    sources = [name for name in _VOLUME_SOURCES if volume.get(name) is not None]
    causes += [forbidden_field(f"{at}.{name}", "may not specify more than 1 volume type") for name in sources[1:]]
    if not sources:
        causes.append(required(at, "must specify a volume type"))
    if volume.get("csi") is not None:
        causes += _csi_source(volume["csi"], f"{at}.csi")
    causes += _host_path(volume.get("hostPath"), f"{at}.hostPath")
    if volume.get("local") is not None and volume.get("nodeAffinity") is None:
        causes.append(required(f"{at}.nodeAffinity", "Local volume requires node affinity"))
    if volume.get("storageClassName") and not inline:
        causes += check_subdomain(volume["storageClassName"], f"{at}.storageClassName")
    if "volumeAttributesClassName" in volume:
        name = volume["volumeAttributesClassName"]
        field = f"{at}.volumeAttributesClassName"
        causes += check_subdomain(name, field) if name else [required(field, "an empty string is disallowed")]
    return causes


def _inline_only(volume: Content, at: str) -> list[Cause]:
    """What a volume inside of a VolumeAttachment may not say."""
    unwanted = "may not be specified in the context of inline volumes"
    causes = [forbidden_field(f"{at}.{name}", unwanted) for name in ("claimRef", "capacity") if volume.get(name)]
    if volume.get("csi") is None:
        causes.append(required(f"{at}.csi", "has to be specified in the context of inline volumes"))
    if volume.get("persistentVolumeReclaimPolicy", "Retain") != "Retain":
        detail = "may only be Retain in the context of inline volumes"
        causes.append(forbidden_field(f"{at}.persistentVolumeReclaimPolicy", detail))
    if volume.get("storageClassName"):
        causes.append(forbidden_field(f"{at}.storageClassName", unwanted))
    if volume.get("volumeMode", "Filesystem") != "Filesystem":
        detail = "may not specify volumeMode other than Filesystem in the context of inline volumes"
        causes.append(forbidden_field(f"{at}.volumeMode", detail))
    return causes


def _host_path(source: Content | None, at: str) -> list[Cause]:
    if source is None:
        return []
    path = source.get("path", "")
    if not path:
        return [required(f"{at}.path")]
    return [invalid(f"{at}.path", path, "must not contain '..'")] if ".." in path.split("/") else []


def _csi_source(source: Content, at: str) -> list[Cause]:
    causes = check_driver_name(source.get("driver", ""), f"{at}.driver")
    if not source.get("volumeHandle"):
        causes.append(required(f"{at}.volumeHandle"))
    for name in (
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ):
        reference = source.get(name)
        if reference is not None:
            causes += [required(f"{at}.{name}.{key}") for key in ("name", "namespace") if not reference.get(key)]
    return causes


def _node_affinity(affinity: Content | None, at: str) -> list[Cause]:
    if affinity is None:
        return []
    needed = affinity.get("required")
    if needed is None:
        return [required(f"{at}.required", "must specify required node constraints")]
    terms = needed.get("nodeSelectorTerms") or ()
    if not terms:
        return [required(f"{at}.required.nodeSelectorTerms", "must have at least one node selector term")]
    causes: list[Cause] = []
    for index, term in enumerate(terms):
        base = f"{at}.required.nodeSelectorTerms[{index}].matchExpressions"
        for number, expression in enumerate(term.get("matchExpressions") or ()):
            causes += _node_requirement(expression, f"{base}[{number}]")
        base = f"{at}.required.nodeSelectorTerms[{index}].matchFields"
        causes += [
            invalid(f"{base}[{number}].key", item.get("key", ""), "not a valid field selector key")
            for number, item in enumerate(term.get("matchFields") or ())
            if item.get("key") != "metadata.name"
        ]
    return causes


def _node_requirement(expression: Content, at: str) -> list[Cause]:
    operator, values = expression.get("operator"), expression.get("values") or ()
    causes: list[Cause] = []
    if operator in {"In", "NotIn"}:
        if not values:
            causes.append(required(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in {"Exists", "DoesNotExist"}:
        if values:
            causes.append(
                forbidden_field(f"{at}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
            )
    elif operator in {"Gt", "Lt"}:
        if len(values) != 1:
            causes.append(required(f"{at}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'"))
    else:
        causes.append(invalid(f"{at}.operator", operator or "", "not a valid selector operator"))
    return causes + check_qualified(expression.get("key", ""), f"{at}.key")


def check_volume(content: Content) -> list[Cause]:
    """What is wrong with a PersistentVolume."""
    return check_volume_spec(content["spec"], "spec")


def check_volume_change(content: Content, old: Content) -> list[Cause]:
    """What may not change of a PersistentVolume."""
    causes = []
    new_source = {name: content["spec"][name] for name in _VOLUME_SOURCES if name in content["spec"]}
    old_source = {name: old["spec"][name] for name in _VOLUME_SOURCES if name in old["spec"]}
    if not (old_source.get("csi") or {}).get("controllerExpandSecretRef"):
        new_source = _but_expand_secret(new_source)
    if new_source != old_source:
        causes.append(
            forbidden_field("spec.persistentvolumesource", "spec.persistentvolumesource is immutable after creation")
        )
    if content["spec"].get("volumeMode") != old["spec"].get("volumeMode"):
        causes.append(immutable("volumeMode", content["spec"].get("volumeMode")))
    before = old["spec"].get("nodeAffinity")
    if before is not None and content["spec"].get("nodeAffinity") != before:
        detail = "field is immutable, except for updating from beta label to GA"
        causes.append(invalid("nodeAffinity", content["spec"].get("nodeAffinity"), detail))
    if "volumeAttributesClassName" in old["spec"] and "volumeAttributesClassName" not in content["spec"]:
        detail = "update from non-nil value to nil is forbidden"
        causes.append(forbidden_field("spec.volumeAttributesClassName", detail))
    return causes


def _but_expand_secret(source: Content) -> Content:
    csi = source.get("csi")
    if not csi:
        return source
    return {**source, "csi": {key: value for key, value in csi.items() if key != "controllerExpandSecretRef"}}


def check_claim(content: Content) -> list[Cause]:
    """What is wrong with a PersistentVolumeClaim."""
    claim = content["spec"]
    causes: list[Cause] = []
    modes = claim.get("accessModes") or ()
    if not modes:
        causes.append(required("spec.accessModes", "at least 1 access mode is required"))
    causes += _access_modes(modes, "spec.accessModes")
    causes += _storage(claim.get("resources", {}).get("requests") or {}, "spec.resources[storage]")
    mode = claim.get("volumeMode")
    if mode and mode not in _VOLUME_MODES:
        causes.append(unsupported("spec.volumeMode", mode, _VOLUME_MODES))
    if claim.get("storageClassName"):
        causes += check_subdomain(claim["storageClassName"], "spec.storageClassName")
    causes += check_selector(claim.get("selector"), "spec.selector")
    if claim.get("volumeAttributesClassName"):
        causes += check_subdomain(claim["volumeAttributesClassName"], "spec.volumeAttributesClassName")
    for field in ("dataSource", "dataSourceRef"):
        causes += _data_source(claim.get(field), f"spec.{field}")
    source, reference = claim.get("dataSource"), claim.get("dataSourceRef")
    if source and reference and reference.get("namespace"):
        causes.append(invalid("spec", {}, "may not be specified when dataSourceRef.namespace is specified"))
    elif source and reference and source != {k: v for k, v in reference.items() if k != "namespace"}:
        causes.append(invalid("spec", {}, "must match dataSourceRef"))
    return causes


def check_claim_status(content: Content) -> list[Cause]:
    """What is wrong with the status of a PersistentVolumeClaim."""
    status = content.get("status") or {}
    return [
        cause
        for field in ("capacity", "allocatedResources")
        for cause in check_not_negative(status.get(field) or {}, f"status.{field}")
    ]


def _data_source(source: Content | None, at: str) -> list[Cause]:
    if source is None:
        return []
    causes = [required(f"{at}.{key}") for key in ("name", "kind") if not source.get(key)]
    if source.get("apiGroup"):
        causes += check_subdomain(source["apiGroup"], f"{at}.apiGroup")
    elif source.get("kind") != "PersistentVolumeClaim":
        causes.append(
            invalid(at, source.get("kind", ""), "must be 'PersistentVolumeClaim' when referencing the default apiGroup")
        )
    return causes


_CLAIM_CHANGE_RULE = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
)


def check_claim_change(content: Content, old: Content) -> list[Cause]:
    """What may not change of a PersistentVolumeClaim."""
    bound = old.get("status", {}).get("phase") == "Bound"
    new_spec, old_spec = dict(content["spec"]), dict(old["spec"])
    if not old_spec.get("volumeName"):
        for spec in (new_spec, old_spec):
            spec.pop("volumeName", None)
    if old_spec.get("storageClassName") is None:
        for spec in (new_spec, old_spec):
            spec.pop("storageClassName", None)
    new_size = new_spec.get("resources", {}).get("requests", {}).get("storage")
    old_size = old_spec.get("resources", {}).get("requests", {}).get("storage")
    if bound:
        for spec in (new_spec, old_spec):
            spec["resources"] = {key: value for key, value in spec.get("resources", {}).items() if key != "requests"}
            spec.pop("volumeAttributesClassName", None)
    causes = []
    if new_spec != old_spec:
        causes.append(forbidden_field("spec", _CLAIM_CHANGE_RULE))
    elif (
        bound and new_size is not None and old_size is not None and quantity_bytes(new_size) < quantity_bytes(old_size)
    ):
        capacity = old.get("status", {}).get("capacity", {}).get("storage", "0")
        if quantity_bytes(new_size) <= quantity_bytes(capacity):
            causes.append(
                forbidden_field("spec.resources.requests.storage", "field can not be less than status.capacity")
            )
    return causes
