"""Which objects are refused with 422, and with which words.

Only rules that the users of this server can meet: names, metadata, and the storage kinds whole.

Source: kubernetes/kubernetes, pkg/apis/core/validation/validation.go and pkg/apis/storage/validation/validation.go;
kubernetes/apimachinery, pkg/api/validation and pkg/util/validation.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from csisidecar.testing.apiserver.schema import STRUCTS
from csisidecar.testing.apiserver.status import (
    Cause,
    duplicate,
    forbidden_field,
    invalid,
    required,
    too_long,
    unsupported,
)
from csisidecar.testing.apiserver.store import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from csisidecar.testing.apiserver.kinds import KindSpec

Content = dict[str, Any]

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED_PART = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_CONFIG_KEY_RULE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    "'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
_SECRET_KEYS = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
}
_MAX_LABEL, _MAX_SUBDOMAIN = 63, 253
_MAX_ANNOTATIONS_BYTES = 256 * 1024
_MAX_ERROR_BYTES = 1024
_MAX_ATTACHMENT_METADATA_BYTES = 256 * 1024
_MAX_PARAMETERS, _MAX_PARAMETERS_BYTES = 512, 256 * 1024
_MAX_SECRET_BYTES = 1024 * 1024
_ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_RECLAIM_POLICIES = ("Delete", "Recycle", "Retain")
_FS_GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")
_MAX_NODE_ID = 256
_MIN_TOKEN_S = 600
_MIN_ALLOCATABLE_PERIOD_S = 10
_VOLUME_MODES = ("Block", "Filesystem")
_VOLUME_SOURCES = tuple(
    name for name, field in STRUCTS["PersistentVolumeSpec"].fields.items() if field.item.endswith("VolumeSource")
)
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_NAME_PART_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_LABEL_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


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
        _immutable(f"metadata.{key}", meta[key])
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


def _immutable(field: str, value: object) -> Cause:
    return invalid(field, value, "field is immutable")


def _metadata(spec: KindSpec, meta: Content) -> list[Cause]:
    causes = []
    if meta.get("generateName"):
        causes += _name(spec, str(meta["generateName"]).rstrip("-") or "-", "metadata.generateName")
    causes += _name(spec, str(meta.get("name", "")), "metadata.name")
    causes += _labels(meta.get("labels", {}), "metadata.labels")
    size = 0
    for key, value in meta.get("annotations", {}).items():
        size += len(key) + len(value.encode())
        causes += _qualified(key.lower(), "metadata.annotations")
    if size > _MAX_ANNOTATIONS_BYTES:
        causes.append(too_long("metadata.annotations", _MAX_ANNOTATIONS_BYTES))
    for item in meta.get("finalizers", ()):
        causes += _qualified(item, "metadata.finalizers")
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


def _name(spec: KindSpec, name: str, field: str) -> list[Cause]:
    if spec.name_rule == "path":
        bad = [item for item in ("/", "%") if item in name]
        if name in {".", ".."}:
            return [invalid(field, name, f"may not be '{name}'")]
        return [invalid(field, name, f"may not contain '{item}'") for item in bad]
    if spec.name_rule == "label":
        causes = (
            [invalid(field, name, f"must be no more than {_MAX_LABEL} characters")] if len(name) > _MAX_LABEL else []
        )
        if "." in name:
            return [*causes, invalid(field, name, "must not contain dots")]
        return causes if _LABEL.fullmatch(name) else [*causes, invalid(field, name, _LABEL_RULE)]
    return _subdomain(name, field)


def _subdomain(name: str, field: str) -> list[Cause]:
    causes = []
    if len(name) > _MAX_SUBDOMAIN:
        causes.append(invalid(field, name, f"must be no more than {_MAX_SUBDOMAIN} characters"))
    if not _SUBDOMAIN.fullmatch(name):
        causes.append(invalid(field, name, _SUBDOMAIN_RULE))
    return causes


def _qualified(name: str, field: str) -> list[Cause]:
    prefix, slash, last = name.rpartition("/")
    if slash and "/" in prefix:
        return [
            invalid(
                field,
                name,
                f"a valid label key {_NAME_PART_RULE.removeprefix('name part ')} with an optional "
                "DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
            )
        ]
    causes = []
    if slash:
        if not prefix:
            causes.append(invalid(field, name, "prefix part must be non-empty"))
        elif not _SUBDOMAIN.fullmatch(prefix):
            causes.append(invalid(field, name, f"prefix part {_SUBDOMAIN_RULE}"))
    if not last:
        causes.append(invalid(field, name, "name part must be non-empty"))
    elif len(last) > _MAX_LABEL:
        causes.append(invalid(field, name, f"name part must be no more than {_MAX_LABEL} bytes"))
    if not _QUALIFIED_PART.fullmatch(last):
        causes.append(invalid(field, name, _NAME_PART_RULE))
    return causes


def _labels(labels: Content, field: str) -> list[Cause]:
    causes: list[Cause] = []
    for key, value in labels.items():
        causes += _qualified(key, field)
        if len(value) > _MAX_LABEL:
            causes.append(invalid(field, value, f"must be no more than {_MAX_LABEL} bytes"))
        if not _LABEL_VALUE.fullmatch(value):
            causes.append(invalid(field, value, _LABEL_VALUE_RULE))
    return causes


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


def _not_negative(resources: Content, field: str) -> list[Cause]:
    return [
        invalid(f"{field}[{name}]", int(quantity_bytes(size)), "must be a valid resource quantity")
        for name, size in resources.items()
        if str(size).startswith("-")
    ]


def _is_positive(quantity: str) -> bool:
    return not quantity.startswith("-") and re.search(r"[1-9]", re.split(r"[a-zA-Z]", quantity)[0]) is not None


def _volume_spec(volume: Content, at: str, *, inline: bool = False) -> list[Cause]:
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
            causes += _not_negative(capacity, f"{at}.capacity")
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
        causes += _subdomain(volume["storageClassName"], f"{at}.storageClassName")
    if "volumeAttributesClassName" in volume:
        name = volume["volumeAttributesClassName"]
        field = f"{at}.volumeAttributesClassName"
        causes += _subdomain(name, field) if name else [required(field, "an empty string is disallowed")]
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
    causes = _driver_name(source.get("driver", ""), f"{at}.driver")
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


def _driver_name(name: str, field: str) -> list[Cause]:
    if not name:
        return [required(field)]
    causes = []
    if len(name) > _MAX_LABEL:
        causes.append(too_long(field, _MAX_LABEL))
    if not _SUBDOMAIN.fullmatch(name.lower()):
        causes.append(invalid(field, name, _SUBDOMAIN_RULE))
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
    return causes + _qualified(expression.get("key", ""), f"{at}.key")


def _volume(content: Content) -> list[Cause]:
    return _volume_spec(content["spec"], "spec")


def _volume_change(content: Content, old: Content) -> list[Cause]:
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
        causes.append(_immutable("volumeMode", content["spec"].get("volumeMode")))
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


def _claim(content: Content) -> list[Cause]:
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
        causes += _subdomain(claim["storageClassName"], "spec.storageClassName")
    causes += _selector(claim.get("selector"), "spec.selector")
    if claim.get("volumeAttributesClassName"):
        causes += _subdomain(claim["volumeAttributesClassName"], "spec.volumeAttributesClassName")
    for field in ("dataSource", "dataSourceRef"):
        causes += _data_source(claim.get(field), f"spec.{field}")
    source, reference = claim.get("dataSource"), claim.get("dataSourceRef")
    if source and reference and reference.get("namespace"):
        causes.append(invalid("spec", {}, "may not be specified when dataSourceRef.namespace is specified"))
    elif source and reference and source != {k: v for k, v in reference.items() if k != "namespace"}:
        causes.append(invalid("spec", {}, "must match dataSourceRef"))
    return causes


def _claim_status(content: Content) -> list[Cause]:
    status = content.get("status") or {}
    return [
        cause
        for field in ("capacity", "allocatedResources")
        for cause in _not_negative(status.get(field) or {}, f"status.{field}")
    ]


def _selector(selector: Content | None, at: str) -> list[Cause]:
    """A label selector inside of an object."""
    if not selector:
        return []
    causes = _labels(selector.get("matchLabels", {}), f"{at}.matchLabels")
    for index, item in enumerate(selector.get("matchExpressions", ())):
        base, operator, values = f"{at}.matchExpressions[{index}]", item.get("operator", ""), item.get("values")
        if operator in {"In", "NotIn"} and not values:
            causes.append(required(f"{base}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in {"Exists", "DoesNotExist"} and values:
            detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            causes.append(forbidden_field(f"{base}.values", detail))
        elif operator not in {"In", "NotIn", "Exists", "DoesNotExist"}:
            causes.append(invalid(f"{base}.operator", operator, "not a valid selector operator"))
        causes += _qualified(item.get("key", ""), f"{base}.key")
    return causes


def _data_source(source: Content | None, at: str) -> list[Cause]:
    if source is None:
        return []
    causes = [required(f"{at}.{key}") for key in ("name", "kind") if not source.get(key)]
    if source.get("apiGroup"):
        causes += _subdomain(source["apiGroup"], f"{at}.apiGroup")
    elif source.get("kind") != "PersistentVolumeClaim":
        causes.append(
            invalid(at, source.get("kind", ""), "must be 'PersistentVolumeClaim' when referencing the default apiGroup")
        )
    return causes


_CLAIM_CHANGE_RULE = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
)


def _claim_change(content: Content, old: Content) -> list[Cause]:
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


_FACTORS = {"": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3} | {
    letter + suffix: float(base) ** power
    for suffix, base in (("", 1000), ("i", 1024))
    for power, letter in enumerate("KMGTPE", 1)
}
_FACTORS["k"] = _FACTORS.pop("K")


def quantity_bytes(quantity: str) -> float:
    """A quantity as a number, close enough to compare sizes."""
    found = re.fullmatch(r"([+-]?[\d.]+(?:[eE][+-]?\d+)?)([A-Za-z]*)", str(quantity))
    return float(found[1]) * _FACTORS.get(found[2], 1.0) if found else 0.0


def _class(content: Content) -> list[Cause]:
    causes = []
    if not content.get("provisioner"):
        causes.append(required("provisioner"))
    else:
        causes += _qualified(content["provisioner"].lower(), "provisioner")
    parameters = content.get("parameters", {})
    causes += _parameters(parameters)
    policy = content.get("reclaimPolicy")
    if policy and policy not in {"Delete", "Retain"}:
        causes.append(unsupported("reclaimPolicy", policy, ("Delete", "Retain")))
    mode = content.get("volumeBindingMode")
    if mode not in {"Immediate", "WaitForFirstConsumer"}:
        causes.append(unsupported("volumeBindingMode", mode, ("Immediate", "WaitForFirstConsumer")))
    return causes + _topologies(content.get("allowedTopologies", ()))


def _topologies(terms: Iterable[Content]) -> list[Cause]:
    causes: list[Cause] = []
    earlier: list[Content] = []
    for index, term in enumerate(terms):
        at = f"allowedTopologies[{index}].matchLabelExpressions"
        wanted: Content = {}
        for number, expression in enumerate(term.get("matchLabelExpressions") or ()):
            key, values = expression.get("key", ""), list(expression.get("values") or ())
            if not values:
                causes.append(required(f"{at}[{number}].values"))
            causes += [
                duplicate(f"{at}[{number}].values[{place}]", value)
                for place, value in enumerate(values)
                if value in values[:place]
            ]
            if key in wanted:
                causes.append(duplicate(f"{at}[{number}].key", key))
            wanted[key] = frozenset(values)
            causes += _qualified(key, f"{at}[{number}].key")
        # A term that says nothing counts as one that was there before.
        if not wanted or wanted in earlier:
            causes.append(duplicate(at, ""))
        earlier.append(wanted)
    return causes


def _parameters(parameters: Content) -> list[Cause]:
    if len(parameters) > _MAX_PARAMETERS:
        return [too_long("parameters", _MAX_PARAMETERS)]
    causes = [invalid("parameters", key, "field can not be empty.") for key in parameters if not key]
    if sum(len(key) + len(value.encode()) for key, value in parameters.items()) > _MAX_PARAMETERS_BYTES:
        causes.append(too_long("parameters", _MAX_PARAMETERS_BYTES))
    return causes


def _class_change(content: Content, old: Content) -> list[Cause]:
    return [
        _immutable(field, content.get(field))
        for field in ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode")
        if content.get(field) != old.get(field)
    ]


def _attachment(content: Content) -> list[Cause]:
    spec = content["spec"]
    causes = []
    if not spec.get("attacher"):
        causes.append(required("spec.attacher"))
    else:
        causes += _driver_name(spec["attacher"], "spec.attacher")
    source = spec.get("source") or {}
    name, inline = source.get("persistentVolumeName"), source.get("inlineVolumeSpec")
    if name is None and inline is None:
        causes.append(required("spec.source", "must specify exactly one of inlineVolumeSpec and persistentVolumeName"))
    elif name is not None and inline is not None:
        causes.append(
            forbidden_field("spec.source", "must specify exactly one of inlineVolumeSpec and persistentVolumeName")
        )
    elif inline is not None:
        causes += _volume_spec(inline, "spec.source.inlineVolumeSpec", inline=True)
    else:
        if not name:
            causes.append(required("spec.source.persistentVolumeName", "must specify non empty persistentVolumeName"))
        causes += _subdomain(name or "", "spec.source.persistentVolumeName")
    causes += _subdomain(spec.get("nodeName", ""), "spec.nodeName")
    return causes + _attachment_status(content)


def _attachment_status(content: Content) -> list[Cause]:
    status = content.get("status") or {}
    causes = []
    metadata = status.get("attachmentMetadata") or {}
    if sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items()) > _MAX_ATTACHMENT_METADATA_BYTES:
        causes.append(too_long("status.attachmentMetadata", _MAX_ATTACHMENT_METADATA_BYTES))
    for name in ("attachError", "detachError"):
        error = status.get(name) or {}
        if len(error.get("message", "").encode()) > _MAX_ERROR_BYTES:
            # The limit is 1024 bytes; a real server names the other one, and texts are kept to the letter.
            causes.append(too_long(f"status.{name}.message", _MAX_ATTACHMENT_METADATA_BYTES))
        code = error.get("errorCode")
        if code is not None and code < 0:
            causes.append(invalid(f"status.{name}.errorCode", code, "must be between 0 and 2147483647, inclusive"))
    return causes


def _attachment_change(content: Content, old: Content) -> list[Cause]:
    if content["spec"] == old["spec"]:
        return []
    spec = content["spec"]
    source = spec["source"]
    names = {
        "Attacher": spec["attacher"],
        "Source": {
            "PersistentVolumeName": source.get("persistentVolumeName"),
            "InlineVolumeSpec": source.get("inlineVolumeSpec"),
        },
        "NodeName": spec["nodeName"],
    }
    return [Cause("FieldValueInvalid", f"Invalid value: {encode(names).decode()}: field is immutable", "spec")]


def _driver(content: Content) -> list[Cause]:
    spec = content["spec"]
    causes = [
        unsupported("spec.volumeLifecycleModes", mode, ("Persistent", "Ephemeral"))
        for mode in spec.get("volumeLifecycleModes", ())
        if mode not in {"Persistent", "Ephemeral"}
    ]
    policy = spec.get("fsGroupPolicy")
    if policy not in _FS_GROUP_POLICIES:
        causes.append(unsupported("spec.fsGroupPolicy", policy, _FS_GROUP_POLICIES))
    audiences: list[str] = []
    for index, request in enumerate(spec.get("tokenRequests", ())):
        at, seconds = f"spec.tokenRequests[{index}]", request.get("expirationSeconds")
        if request.get("audience", "") in audiences:
            causes.append(duplicate(f"{at}.audience", request.get("audience", "")))
        audiences.append(request.get("audience", ""))
        if seconds is not None and seconds < _MIN_TOKEN_S:
            detail = "may not specify a duration less than 10 minutes"
            causes.append(invalid(f"{at}.expirationSeconds", seconds, detail))
    period = spec.get("nodeAllocatableUpdatePeriodSeconds")
    if period is not None and period < _MIN_ALLOCATABLE_PERIOD_S:
        detail = "must be greater than or equal to 10 seconds"
        causes.append(invalid("spec.nodeAllocatableUpdatePeriodSeconds", period, detail))
    return causes


def _driver_change(content: Content, old: Content) -> list[Cause]:
    return [
        _immutable(f"spec.{shown}", content["spec"].get(name))
        for name, shown in (("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes"))
        if content["spec"].get(name) != old["spec"].get(name)
    ]


def _csi_node(content: Content) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, driver in enumerate(content["spec"].get("drivers") or ()):
        at = f"spec.drivers[{index}]"
        causes += _driver_name(driver.get("name", ""), f"{at}.name")
        node_id = driver.get("nodeID", "")
        if not node_id:
            causes.append(required(f"{at}.nodeID"))
        if len(node_id) > _MAX_NODE_ID:
            causes.append(invalid(f"{at}.nodeID", node_id, f"must be {_MAX_NODE_ID} characters or less"))
        if driver.get("name") in seen:
            causes.append(duplicate(f"{at}.name", driver.get("name")))
        seen.add(str(driver.get("name")))
        count = (driver.get("allocatable") or {}).get("count")
        if count is not None and count < 0:
            causes.append(invalid(f"{at}.allocatable.count", count, "must be greater than or equal to 0"))
        keys = driver.get("topologyKeys") or ()
        for place, key in enumerate(keys):
            if key in keys[:place]:
                causes.append(duplicate(at, key))
            causes += [required(at)] if not key else []
            causes += _qualified(key, at)
    return causes


def _csi_node_change(content: Content, old: Content) -> list[Cause]:
    """A driver on a node may come, go and change its limit; what identifies it stays."""
    before = {driver["name"]: driver for driver in old["spec"].get("drivers") or ()}
    causes = []
    for driver in content["spec"].get("drivers") or ():
        was = before.get(driver["name"])
        keys = ("nodeID", "topologyKeys")
        if was is not None and any(driver.get(key) != was.get(key) for key in keys):
            shown = {
                "Name": driver["name"],
                "NodeID": driver["nodeID"],
                "TopologyKeys": driver.get("topologyKeys"),
                "Allocatable": driver.get("allocatable"),
            }
            causes.append(_immutable("spec.drivers", shown))
    return causes


def _capacity(content: Content) -> list[Cause]:
    causes = _selector(content.get("nodeTopology"), "nodeTopology")
    causes += _subdomain(content.get("storageClassName", ""), "storageClassName")
    if str(content.get("capacity") or "0").startswith("-"):
        causes.append(invalid("capacity", content["capacity"], "must be greater than or equal to 0"))
    return causes


def _capacity_change(content: Content, old: Content) -> list[Cause]:
    return [
        _immutable(field, content.get(field))
        for field in ("nodeTopology", "storageClassName")
        if content.get(field) != old.get(field)
    ]


def _attributes_class(content: Content) -> list[Cause]:
    driver = content.get("driverName", "")
    causes = _qualified(driver.lower(), "driverName") if driver else [required("driverName")]
    parameters = content.get("parameters", {})
    if not parameters:
        causes.append(required("parameters", "must contain at least one key/value pair"))
    return causes + _parameters(parameters)


def _attributes_class_change(content: Content, old: Content) -> list[Cause]:
    causes = []
    if content.get("driverName") != old.get("driverName"):
        causes.append(forbidden_field("driverName", "updates to driverName are forbidden."))
    if content.get("parameters") != old.get("parameters"):
        causes.append(forbidden_field("parameters", "updates to parameters are forbidden."))
    return causes


def _lease(content: Content) -> list[Cause]:
    spec = content["spec"]
    causes = []
    duration = spec.get("leaseDurationSeconds")
    if duration is not None and duration <= 0:
        causes.append(invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"))
    transitions = spec.get("leaseTransitions")
    if transitions is not None and transitions < 0:
        causes.append(invalid("spec.leaseTransitions", transitions, "must be greater than or equal to 0"))
    return causes


def _secret(content: Content) -> list[Cause]:
    data = content.get("data", {})
    causes = [invalid(f"data[{key}]", key, _CONFIG_KEY_RULE) for key in data if not _CONFIG_KEY.fullmatch(key)]
    if sum(len(value) * 3 // 4 for value in data.values()) > _MAX_SECRET_BYTES:
        causes.append(too_long("data", _MAX_SECRET_BYTES))
    needed = _SECRET_KEYS.get(content.get("type", ""), ())
    return causes + [required(f"data[{key}]") for key in needed if key not in data]


def _secret_change(content: Content, old: Content) -> list[Cause]:
    causes = []
    if content.get("type") != old.get("type"):
        causes.append(_immutable("type", content.get("type")))
    return causes + _config_map_change(content, old)


def _config_map_change(content: Content, old: Content) -> list[Cause]:
    if not old.get("immutable"):
        return []
    detail = "field is immutable when `immutable` is set"
    causes = [] if content.get("immutable") else [forbidden_field("immutable", detail)]
    return causes + [
        forbidden_field(field, detail)
        for field in ("data", "binaryData")
        if content.get(field, {}) != old.get(field, {})
    ]


def _event(content: Content) -> list[Cause]:
    involved = content.get("involvedObject", {}).get("namespace", "")
    namespace = content["metadata"].get("namespace", "")
    if involved != namespace and not (involved == "" and namespace == "default"):
        return [invalid("involvedObject.namespace", involved, "does not match event.namespace")]
    return []


def _pod(content: Content) -> list[Cause]:
    spec = content["spec"]
    causes = []
    if not spec.get("containers"):
        causes.append(required("spec.containers"))
    for index, container in enumerate(spec.get("containers") or ()):
        if not container.get("name"):
            causes.append(required(f"spec.containers[{index}].name"))
    volumes = [volume.get("name", "") for volume in spec.get("volumes", ())]
    for index, name in enumerate(volumes):
        if name in volumes[:index]:
            causes.append(duplicate(f"spec.volumes[{index}].name", name))
    return causes


def _pod_change(content: Content, old: Content) -> list[Cause]:
    mutable = {"activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates"}

    def fixed(spec: Content) -> Content:
        kept = {key: value for key, value in spec.items() if key not in mutable}
        for group in ("containers", "initContainers"):
            if group in kept:
                kept[group] = [{k: v for k, v in item.items() if k != "image"} for item in kept[group]]
        return kept

    if fixed(content["spec"]) != fixed(old["spec"]):
        return [
            forbidden_field(
                "spec",
                "pod updates may not change fields other than `spec.containers[*].image`,"
                "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to "
                "existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
                "previously negative)",
            )
        ]
    return []


_RULES: dict[str, Callable[[Content], list[Cause]]] = {
    "persistentvolumes": _volume,
    "persistentvolumeclaims": _claim,
    "storageclasses.storage.k8s.io": _class,
    "volumeattachments.storage.k8s.io": _attachment,
    "csidrivers.storage.k8s.io": _driver,
    "csinodes.storage.k8s.io": _csi_node,
    "csistoragecapacities.storage.k8s.io": _capacity,
    "volumeattributesclasses.storage.k8s.io": _attributes_class,
    "leases.coordination.k8s.io": _lease,
    "secrets": _secret,
    "events": _event,
    "pods": _pod,
}

_STATUS_RULES: dict[str, Callable[[Content], list[Cause]]] = {
    "persistentvolumeclaims": _claim_status,
    "volumeattachments.storage.k8s.io": _attachment_status,
}

_CHANGE_RULES: dict[str, Callable[[Content, Content], list[Cause]]] = {
    "persistentvolumes": _volume_change,
    "persistentvolumeclaims": _claim_change,
    "storageclasses.storage.k8s.io": _class_change,
    "volumeattachments.storage.k8s.io": _attachment_change,
    "csidrivers.storage.k8s.io": _driver_change,
    "csinodes.storage.k8s.io": _csi_node_change,
    "csistoragecapacities.storage.k8s.io": _capacity_change,
    "volumeattributesclasses.storage.k8s.io": _attributes_class_change,
    "secrets": _secret_change,
    "configmaps": _config_map_change,
    "pods": _pod_change,
}
