"""Printer columns: what `kubectl get` shows of each kind.

Source: kubernetes/kubernetes, pkg/printers/internalversion/printers.go; the columns of custom resources from their
definitions.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from csisidecar.testing.apiserver.kinds import Column, KindSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Content = dict[str, Any]
_NONE, _UNSET = "<none>", "<unset>"
_SHORT_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}


def columns(spec: KindSpec) -> list[dict[str, Any]]:
    """The columnDefinitions of a Table."""
    return [
        {
            "name": column.name,
            "type": column.type,
            "format": "name" if column.name == "Name" else column.format,
            "description": column.description,
            "priority": column.priority,
        }
        for column in _columns(spec)
    ]


def cells(spec: KindSpec, content: Content, now: str) -> list[Any]:
    """One row's cells, in the order of the columns."""
    made = _CELLS.get(spec.storage_name)
    if made is not None:
        return made[1](content, now)
    meta = content["metadata"]
    row: list[Any] = [meta["name"]]
    for column in spec.columns or _CUSTOM.get(spec.storage_name, ()):
        value = _at(content, column.path)
        row.append(age(value, now) if column.type == "date" else value)
    return [*row, age(meta.get("creationTimestamp"), now)]


def _columns(spec: KindSpec) -> list[Column]:
    made = _CELLS.get(spec.storage_name)
    if made is not None:
        return made[0]
    middle = spec.columns or _CUSTOM.get(spec.storage_name, ())
    return [Column(name="Name", path=""), *middle, Column(name="Age", path="")]


def _at(content: Content, path: str) -> Any:
    value: Any = content
    for part in path.lstrip(".").split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


_UNITS = ((365 * 86400, "y"), (86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def age(moment: Any, now: str) -> str:
    """How long ago, as kubectl shows it: ``5s``, ``3m20s``, ``47h``, ``8d``, ``2y35d``."""
    if not moment:
        return "<unknown>"
    try:
        start, end = datetime.fromisoformat(str(moment)), datetime.fromisoformat(now)
    except ValueError:
        return "<invalid>"
    seconds = int((end - start).total_seconds())
    if seconds < -1:
        return "<invalid>"
    return duration(max(0, seconds))


def duration(seconds: int) -> str:
    """A short human-readable duration."""
    minutes, hours, days, years = seconds // 60, seconds // 3600, seconds // 86400, seconds // (365 * 86400)
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 2 * 365:
        return f"{days}d"
    rest = days % 365
    return f"{years}y{rest}d" if years < 8 and rest else f"{years}y"


def _created(content: Content, now: str) -> str:
    return age(content["metadata"].get("creationTimestamp"), now)


def _modes(modes: Iterable[str] | None) -> str:
    found = list(modes or ())
    return ",".join(short for long, short in _SHORT_MODES.items() if long in found)


def _pairs(labels: Content | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or _NONE


def _volume(content: Content, now: str) -> list[Any]:
    spec, status = content["spec"], content.get("status", {})
    claim = spec.get("claimRef")
    return [
        content["metadata"]["name"],
        (spec.get("capacity") or {}).get("storage", ""),
        _modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""),
        "Terminating" if "deletionTimestamp" in content["metadata"] else status.get("phase", ""),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        spec.get("storageClassName", ""),
        spec.get("volumeAttributesClassName") or _UNSET,
        status.get("reason", ""),
        _created(content, now),
        spec.get("volumeMode") or _UNSET,
    ]


def _claim(content: Content, now: str) -> list[Any]:
    spec, status = content["spec"], content.get("status", {})
    bound = bool(spec.get("volumeName"))
    return [
        content["metadata"]["name"],
        "Terminating" if "deletionTimestamp" in content["metadata"] else status.get("phase", ""),
        spec.get("volumeName", ""),
        (status.get("capacity") or {}).get("storage", "") if bound else "",
        _modes(status.get("accessModes")) if bound else "",
        spec.get("storageClassName", "") or "",
        spec.get("volumeAttributesClassName") or _UNSET,
        _created(content, now),
        spec.get("volumeMode") or _UNSET,
    ]


def _class(content: Content, now: str) -> list[Any]:
    annotations = content["metadata"].get("annotations", {})
    default = "true" in (
        annotations.get("storageclass.kubernetes.io/is-default-class"),
        annotations.get("storageclass.beta.kubernetes.io/is-default-class"),
    )
    name = content["metadata"]["name"]
    return [
        f"{name} (default)" if default else name,
        content.get("provisioner", ""),
        content.get("reclaimPolicy", "Delete"),
        content.get("volumeBindingMode", "Immediate"),
        content.get("allowVolumeExpansion", False),
        _created(content, now),
    ]


def _attachment(content: Content, now: str) -> list[Any]:
    spec, status = content["spec"], content.get("status", {})
    return [
        content["metadata"]["name"],
        spec.get("attacher", ""),
        (spec.get("source") or {}).get("persistentVolumeName") or "",
        spec.get("nodeName", ""),
        status.get("attached", False),
        _created(content, now),
    ]


def _csi_node(content: Content, now: str) -> list[Any]:
    return [content["metadata"]["name"], len(content["spec"].get("drivers") or ()), _created(content, now)]


def _csi_driver(content: Content, now: str) -> list[Any]:
    spec = content["spec"]
    tokens = ",".join(item.get("audience", "") for item in spec.get("tokenRequests", ())) or _UNSET
    modes = ",".join(spec.get("volumeLifecycleModes", ())) or _NONE
    return [
        content["metadata"]["name"],
        spec.get("attachRequired", True),
        spec.get("podInfoOnMount", False),
        spec.get("storageCapacity", False),
        tokens,
        spec.get("requiresRepublish", False),
        modes,
        _created(content, now),
    ]


def _plain(content: Content, _: str) -> list[Any]:
    """What a real server shows of a kind that has no columns of its own."""
    return [content["metadata"]["name"], content["metadata"].get("creationTimestamp", "")]


def _attributes_class(content: Content, now: str) -> list[Any]:
    return [content["metadata"]["name"], content.get("driverName", ""), _created(content, now)]


def _namespace(content: Content, now: str) -> list[Any]:
    return [content["metadata"]["name"], content.get("status", {}).get("phase", ""), _created(content, now)]


def _node(content: Content, now: str) -> list[Any]:
    meta, spec, status = content["metadata"], content.get("spec", {}), content.get("status", {})
    ready = next((item for item in status.get("conditions", ()) if item.get("type") == "Ready"), None)
    shown = "Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"
    if spec.get("unschedulable"):
        shown += ",SchedulingDisabled"
    prefix = "node-role.kubernetes.io/"
    roles = sorted(key.removeprefix(prefix) for key in meta.get("labels", {}) if key.startswith(prefix))
    info = status.get("nodeInfo", {})
    addresses = {item.get("type"): item.get("address", "") for item in status.get("addresses", ())}
    return [
        meta["name"],
        shown,
        ",".join(roles) or _NONE,
        _created(content, now),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP") or _NONE,
        addresses.get("ExternalIP") or _NONE,
        info.get("osImage") or "<unknown>",
        info.get("kernelVersion") or "<unknown>",
        info.get("containerRuntimeVersion") or "<unknown>",
    ]


def _pod(content: Content, now: str) -> list[Any]:
    meta, spec, status = content["metadata"], content["spec"], content.get("status", {})
    states = status.get("containerStatuses", ())
    ready = sum(1 for item in states if item.get("ready"))
    reason = status.get("reason") or status.get("phase", "")
    for item in states:
        waiting = (item.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason") or reason
    if "deletionTimestamp" in meta:
        reason = "Terminating"
    return [
        meta["name"],
        f"{ready}/{len(spec.get('containers') or ())}",
        reason,
        str(sum(item.get("restartCount", 0) for item in states)),
        _created(content, now),
        status.get("podIP") or _NONE,
        spec.get("nodeName") or _NONE,
        status.get("nominatedNodeName") or _NONE,
        _NONE,
    ]


def _secret(content: Content, now: str) -> list[Any]:
    return [content["metadata"]["name"], content.get("type", ""), len(content.get("data", {})), _created(content, now)]


def _config_map(content: Content, now: str) -> list[Any]:
    count = len(content.get("data", {})) + len(content.get("binaryData", {}))
    return [content["metadata"]["name"], count, _created(content, now)]


def _service_account(content: Content, now: str) -> list[Any]:
    return [content["metadata"]["name"], len(content.get("secrets", ())), _created(content, now)]


def _event(content: Content, now: str) -> list[Any]:
    involved, series = content.get("involvedObject", {}), content.get("series") or {}
    first = content.get("firstTimestamp") or content.get("eventTime")
    last = content.get("lastTimestamp") or series.get("lastObservedTime") or first
    source = content.get("source", {})
    component = source.get("component") or content.get("reportingComponent", "")
    host = source.get("host") or content.get("reportingInstance", "")
    kind = involved.get("kind", "").lower()
    return [
        age(last, now),
        content.get("type", ""),
        content.get("reason", ""),
        f"{kind}/{involved.get('name', '')}" if involved.get("name") else kind,
        involved.get("fieldPath", ""),
        f"{component}, {host}" if host else component,
        content.get("message", "").strip(),
        age(first, now),
        content.get("count") or series.get("count") or 1,
        content["metadata"]["name"],
    ]


def _lease(content: Content, now: str) -> list[Any]:
    return [content["metadata"]["name"], content["spec"].get("holderIdentity") or "", _created(content, now)]


def _role(content: Content, _: str) -> list[Any]:
    return [content["metadata"]["name"], content["metadata"].get("creationTimestamp", "")]


def _binding(content: Content, now: str) -> list[Any]:
    reference = content.get("roleRef", {})
    subjects: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for item in content.get("subjects", ()):
        name = item.get("name", "")
        shown = f"{item.get('namespace', '')}/{name}" if item.get("kind") == "ServiceAccount" else name
        subjects.setdefault(item.get("kind", ""), []).append(shown)
    return [
        content["metadata"]["name"],
        f"{reference.get('kind', '')}/{reference.get('name', '')}",
        _created(content, now),
        *(", ".join(subjects[kind]) for kind in ("User", "Group", "ServiceAccount")),
    ]


def _heads(text: str) -> list[Column]:
    """``Name|Ready:integer|IP*``: names, types after a colon, a star for columns of `-o wide`."""
    made = []
    for word in text.split("|"):
        name, _, kind = word.rstrip("*").partition(":")
        made.append(Column(name=name, path="", type=kind or "string", priority=int(word.endswith("*"))))
    return made


_ROLE_BINDING = _heads("Name|Role|Age|Users*|Groups*|ServiceAccounts*")
_CELLS: dict[str, tuple[list[Column], Callable[[Content, str], list[Any]]]] = {
    "persistentvolumes": (
        _heads(
            "Name|Capacity|Access Modes|Reclaim Policy|Status|Claim|StorageClass|VolumeAttributesClass|Reason|Age|"
            "VolumeMode*"
        ),
        _volume,
    ),
    "persistentvolumeclaims": (
        _heads("Name|Status|Volume|Capacity|Access Modes|StorageClass|VolumeAttributesClass|Age|VolumeMode*"),
        _claim,
    ),
    "storageclasses.storage.k8s.io": (
        _heads("Name|Provisioner|ReclaimPolicy|VolumeBindingMode|AllowVolumeExpansion:boolean|Age"),
        _class,
    ),
    "volumeattachments.storage.k8s.io": (_heads("Name|Attacher|PV|Node|Attached:boolean|Age"), _attachment),
    "csinodes.storage.k8s.io": (_heads("Name|Drivers:integer|Age"), _csi_node),
    "csidrivers.storage.k8s.io": (
        _heads(
            "Name|AttachRequired:boolean|PodInfoOnMount:boolean|StorageCapacity:boolean|TokenRequests|"
            "RequiresRepublish:boolean|Modes|Age"
        ),
        _csi_driver,
    ),
    "csistoragecapacities.storage.k8s.io": (_heads("Name|Created At:date"), _plain),
    "volumeattributesclasses.storage.k8s.io": (_heads("Name|DriverName|Age"), _attributes_class),
    "namespaces": (_heads("Name|Status|Age"), _namespace),
    "nodes": (
        _heads("Name|Status|Roles|Age|Version|Internal-IP*|External-IP*|OS-Image*|Kernel-Version*|Container-Runtime*"),
        _node,
    ),
    "pods": (_heads("Name|Ready|Status|Restarts|Age|IP*|Node*|Nominated Node*|Readiness Gates*"), _pod),
    "secrets": (_heads("Name|Type|Data|Age"), _secret),
    "configmaps": (_heads("Name|Data|Age"), _config_map),
    "serviceaccounts": (_heads("Name|Secrets|Age"), _service_account),
    "events": (
        _heads("Last Seen|Type|Reason|Object|Subobject*|Source*|Message|First Seen*|Count:integer*|Name*"),
        _event,
    ),
    "leases.coordination.k8s.io": (_heads("Name|Holder|Age"), _lease),
    "clusterroles.rbac.authorization.k8s.io": (_heads("Name|Created At"), _role),
    "roles.rbac.authorization.k8s.io": (_heads("Name|Created At"), _role),
    "clusterrolebindings.rbac.authorization.k8s.io": (_ROLE_BINDING, _binding),
    "rolebindings.rbac.authorization.k8s.io": (_ROLE_BINDING, _binding),
}


def _custom(*definitions: tuple[str, str, str]) -> tuple[Column, ...]:
    return tuple(Column(name=name, path=path, type=kind) for name, path, kind in definitions)


_CUSTOM: dict[str, tuple[Column, ...]] = {
    "volumesnapshots.snapshot.storage.k8s.io": _custom(
        ("ReadyToUse", "status.readyToUse", "boolean"),
        ("SourcePVC", "spec.source.persistentVolumeClaimName", "string"),
        ("SourceSnapshotContent", "spec.source.volumeSnapshotContentName", "string"),
        ("RestoreSize", "status.restoreSize", "string"),
        ("SnapshotClass", "spec.volumeSnapshotClassName", "string"),
        ("SnapshotContent", "status.boundVolumeSnapshotContentName", "string"),
        ("CreationTime", "status.creationTime", "date"),
    ),
    "volumesnapshotcontents.snapshot.storage.k8s.io": _custom(
        ("ReadyToUse", "status.readyToUse", "boolean"),
        ("RestoreSize", "status.restoreSize", "integer"),
        ("DeletionPolicy", "spec.deletionPolicy", "string"),
        ("Driver", "spec.driver", "string"),
        ("VolumeSnapshotClass", "spec.volumeSnapshotClassName", "string"),
        ("VolumeSnapshot", "spec.volumeSnapshotRef.name", "string"),
        ("VolumeSnapshotNamespace", "spec.volumeSnapshotRef.namespace", "string"),
    ),
    "volumesnapshotclasses.snapshot.storage.k8s.io": _custom(
        ("Driver", "driver", "string"), ("DeletionPolicy", "deletionPolicy", "string")
    ),
}
