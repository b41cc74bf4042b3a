"""Which objects of storage.k8s.io are refused, new ones and changed ones.

Source: kubernetes/kubernetes, pkg/apis/storage/validation/validation.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from csisidecar.testing.apiserver.rules_names import (
    check_driver_name,
    check_qualified,
    check_selector,
    check_subdomain,
    immutable,
)
from csisidecar.testing.apiserver.rules_volumes import check_volume_spec
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
    from collections.abc import Iterable

Content = dict[str, Any]

_MAX_ERROR_BYTES = 1024


_MAX_ATTACHMENT_METADATA_BYTES = 256 * 1024


_MAX_PARAMETERS, _MAX_PARAMETERS_BYTES = 512, 256 * 1024


_FS_GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")


_MAX_NODE_ID = 256


_MIN_TOKEN_S = 600


_MIN_ALLOCATABLE_PERIOD_S = 10


def check_class(content: Content) -> list[Cause]:
    """What is wrong with a StorageClass."""
    causes = []
    if not content.get("provisioner"):
        causes.append(required("provisioner"))
    else:
        causes += check_qualified(content["provisioner"].lower(), "provisioner")
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
            causes += check_qualified(key, f"{at}[{number}].key")
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


def check_class_change(content: Content, old: Content) -> list[Cause]:
    """What may not change of a StorageClass."""
    return [
        immutable(field, content.get(field))
        for field in ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode")
        if content.get(field) != old.get(field)
    ]


def check_attachment(content: Content) -> list[Cause]:
    """What is wrong with a VolumeAttachment."""
    spec = content["spec"]
    causes = []
    if not spec.get("attacher"):
        causes.append(required("spec.attacher"))
    else:
        causes += check_driver_name(spec["attacher"], "spec.attacher")
    source = spec.get("source") or {}
    name, inline = source.get("persistentVolumeName"), source.get("inlineVolumeSpec")
    if name is None and inline is None:
        causes.append(required("spec.source", "must specify exactly one of inlineVolumeSpec and persistentVolumeName"))
    elif name is not None and inline is not None:
        causes.append(
            forbidden_field("spec.source", "must specify exactly one of inlineVolumeSpec and persistentVolumeName")
        )
    elif inline is not None:
        causes += check_volume_spec(inline, "spec.source.inlineVolumeSpec", inline=True)
    else:
        if not name:
            causes.append(required("spec.source.persistentVolumeName", "must specify non empty persistentVolumeName"))
        causes += check_subdomain(name or "", "spec.source.persistentVolumeName")
    causes += check_subdomain(spec.get("nodeName", ""), "spec.nodeName")
    return causes + check_attachment_status(content)


def check_attachment_status(content: Content) -> list[Cause]:
    """What is wrong with the status of a VolumeAttachment."""
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


def check_attachment_change(content: Content, old: Content) -> list[Cause]:
    """What may not change of a VolumeAttachment."""
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


def check_driver(content: Content) -> list[Cause]:
    """What is wrong with a CSIDriver."""
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


def check_driver_change(content: Content, old: Content) -> list[Cause]:
    """What may not change of a CSIDriver."""
    return [
        immutable(f"spec.{shown}", content["spec"].get(name))
        for name, shown in (("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes"))
        if content["spec"].get(name) != old["spec"].get(name)
    ]


def check_csi_node(content: Content) -> list[Cause]:
    """What is wrong with a CSINode."""
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, driver in enumerate(content["spec"].get("drivers") or ()):
        at = f"spec.drivers[{index}]"
        causes += check_driver_name(driver.get("name", ""), f"{at}.name")
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
            causes += check_qualified(key, at)
    return causes


def check_csi_node_change(content: Content, old: Content) -> list[Cause]:
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
            causes.append(immutable("spec.drivers", shown))
    return causes


def check_capacity(content: Content) -> list[Cause]:
    """What is wrong with a CSIStorageCapacity."""
    causes = check_selector(content.get("nodeTopology"), "nodeTopology")
    causes += check_subdomain(content.get("storageClassName", ""), "storageClassName")
    if str(content.get("capacity") or "0").startswith("-"):
        causes.append(invalid("capacity", content["capacity"], "must be greater than or equal to 0"))
    return causes


def check_capacity_change(content: Content, old: Content) -> list[Cause]:
    """What may not change of a CSIStorageCapacity."""
    return [
        immutable(field, content.get(field))
        for field in ("nodeTopology", "storageClassName")
        if content.get(field) != old.get(field)
    ]


def check_attributes_class(content: Content) -> list[Cause]:
    """What is wrong with a VolumeAttributesClass."""
    driver = content.get("driverName", "")
    causes = check_qualified(driver.lower(), "driverName") if driver else [required("driverName")]
    parameters = content.get("parameters", {})
    if not parameters:
        causes.append(required("parameters", "must contain at least one key/value pair"))
    return causes + _parameters(parameters)


def check_attributes_class_change(content: Content, old: Content) -> list[Cause]:
    """What may not change of a VolumeAttributesClass."""
    causes = []
    if content.get("driverName") != old.get("driverName"):
        causes.append(forbidden_field("driverName", "updates to driverName are forbidden."))
    if content.get("parameters") != old.get("parameters"):
        causes.append(forbidden_field("parameters", "updates to parameters are forbidden."))
    return causes
