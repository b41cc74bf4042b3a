"""What the server adds to objects: defaults, protection finalizers, and which part a write may touch.

Source: kubernetes/kubernetes, strategies under pkg/registry, pkg/apis/*/v1/defaults.go, and the admission plugins
DefaultStorageClass, StorageObjectInUseProtection and NamespaceLifecycle.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from csisidecar.testing.apiserver.rules_names import quantity_bytes
from csisidecar.testing.apiserver.status import forbidden

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from csisidecar.testing.apiserver.kinds import KindSpec
    from csisidecar.testing.apiserver.store import Store

Content = dict[str, Any]

PVC_PROTECTION = "kubernetes.io/pvc-protection"
PV_PROTECTION = "kubernetes.io/pv-protection"
VAC_PROTECTION = "kubernetes.io/vac-protection"
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_BETA_DEFAULT_CLASS = "storageclass.beta.kubernetes.io/is-default-class"
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
CROSS_NAMESPACE = "CrossNamespaceVolumeDataSource"
"""Gate that lets a claim name a source in another namespace; off by default, as in 1.36."""
_POD_GRACE_S = 30
_DEFAULT_TOLERATION_S = 300


def prepare_create(spec: KindSpec, content: Content, now: str, gates: Collection[str] | None) -> None:
    """Reset what a POST may not set, and fill in defaults.

    `gates` are the feature gates that are on; None keeps every source a claim names, as an older server may have
    stored it.
    """
    if spec.storage_name == "persistentvolumeclaims" and gates is not None:
        _drop_sources(content["spec"], gates)
    if spec.status and not spec.status_on_create:
        content.pop("status", None)
    if counts_generation(spec) and spec.plural != "csidrivers":
        content["metadata"]["generation"] = 1
    default = _DEFAULTS.get(spec.storage_name)
    if default is not None:
        default(content)
    start = _FIRST_STATUS.get(spec.storage_name)
    if start is not None:
        content["status"] = start(now)
    if spec.storage_name == "namespaces":
        labels = content["metadata"].setdefault("labels", {})
        name = content["metadata"].get("name")
        if name:
            labels["kubernetes.io/metadata.name"] = name
        content["spec"] = {"finalizers": ["kubernetes"]}


def admit_create(spec: KindSpec, content: Content, store: Store) -> None:
    """What the admission plugins add to a new object."""
    meta = content["metadata"]
    finalizer = {
        "persistentvolumes": PV_PROTECTION,
        "persistentvolumeclaims": PVC_PROTECTION,
        "volumeattributesclasses.storage.k8s.io": VAC_PROTECTION,
    }.get(spec.storage_name)
    if finalizer and finalizer not in meta.get("finalizers", ()):
        meta["finalizers"] = [*meta.get("finalizers", ()), finalizer]
    if spec.storage_name == "persistentvolumeclaims":
        claim = content["spec"]
        if "storageClassName" not in claim and _BETA_CLASS not in meta.get("annotations", {}):
            name = default_class(store)
            if name:
                claim["storageClassName"] = name


def default_class(store: Store) -> str:
    """Name of the class that claims without one get: the newest marked as default; "" if none is."""
    found: list[tuple[str, int, str]] = []
    for stored in store.table(store.kinds.by_plural("storageclasses.storage.k8s.io")).range():
        if b"is-default-class" not in stored.raw:
            continue
        meta = stored.content()["metadata"]
        annotations = meta.get("annotations", {})
        if "true" in (annotations.get(_DEFAULT_CLASS), annotations.get(_BETA_DEFAULT_CLASS)):
            found.append((meta["creationTimestamp"], 0, stored.name))
    if not found:
        return ""
    newest = max(moment for moment, _, _ in found)
    return min(name for moment, _, name in found if moment == newest)


def counts_generation(spec: KindSpec) -> bool:
    """Whether changes of the wanted state count up metadata.generation."""
    return spec.custom or spec.group == "apps" or spec.storage_name in {"pods", "csidrivers.storage.k8s.io"}


def admit_update(spec: KindSpec, content: Content, old: Content, store: Store) -> None:
    """What the admission plugins say to a change.

    Raises:
        Refusal: 403, a claim may not grow.
    """
    if spec.storage_name != "persistentvolumeclaims":
        return
    sizes = [item["spec"].get("resources", {}).get("requests", {}).get("storage") for item in (content, old)]
    if None in sizes or quantity_bytes(sizes[0]) <= quantity_bytes(sizes[1]):
        return
    name = content["spec"].get("storageClassName") or ""
    found = store.table(store.kinds.by_plural("storageclasses.storage.k8s.io")).get("", name) if name else None
    if old.get("status", {}).get("phase") != "Bound":
        return
    if found is None or not found.content().get("allowVolumeExpansion"):
        why = (
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must "
            "support resize"
        )
        raise forbidden(spec, content["metadata"]["name"], why)


def keep_apart(spec: KindSpec, content: Content, old: Content, subresource: str) -> Content:
    """What a write may change: all but the status, or for /status the status alone."""
    if subresource == "status":
        kept = {key: value for key, value in old.items() if key not in {"status", "metadata"}}
        kept["metadata"] = dict(old["metadata"]) if spec.status_keeps_metadata else content["metadata"]
        kept["metadata"]["resourceVersion"] = content["metadata"]["resourceVersion"]
        if "managedFields" in content["metadata"]:
            kept["metadata"]["managedFields"] = content["metadata"]["managedFields"]
        if "status" in content:
            kept["status"] = content["status"]
        return kept
    if subresource == "finalize":
        kept = dict(old)
        kept["spec"] = content.get("spec", {})
        return kept
    if spec.storage_name == "namespaces":
        content["spec"] = old.get("spec", {})
        content["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = content["metadata"]["name"]
    if spec.status:
        content.pop("status", None)
        if "status" in old:
            content["status"] = old["status"]
    return content


def prepare_update(spec: KindSpec, content: Content, old: Content, now: str) -> None:
    """Defaults on update, and what the server derives from the change."""
    default = _DEFAULTS.get(spec.storage_name)
    if default is not None:
        default(content)
    if spec.storage_name == "persistentvolumes":
        phase = content.get("status", {}).get("phase")
        if phase != old.get("status", {}).get("phase"):
            content["status"].setdefault("lastPhaseTransitionTime", now)
            if content["status"]["lastPhaseTransitionTime"] == old["status"].get("lastPhaseTransitionTime"):
                content["status"]["lastPhaseTransitionTime"] = now


def grace_period_s(spec: KindSpec, content: Content, asked: int | None) -> int:
    """How long an object stays after DELETE by itself; only pods that run somewhere do."""
    if spec.storage_name != "pods":
        return 0
    pod, status = content.get("spec", {}), content.get("status", {})
    if not pod.get("nodeName") or status.get("phase") in {"Succeeded", "Failed"}:
        return 0
    wanted = asked if asked is not None else int(pod.get("terminationGracePeriodSeconds", _POD_GRACE_S))
    return max(0, wanted) if wanted >= 0 else 1


def has_spec_finalizers(spec: KindSpec, content: Content) -> bool:
    """Whether spec.finalizers hold the object; only namespaces have them."""
    return spec.storage_name == "namespaces" and bool(content.get("spec", {}).get("finalizers"))


def mark_deleted(spec: KindSpec, content: Content) -> None:
    """What else changes when an object is marked for removal."""
    if spec.storage_name == "namespaces":
        content["status"] = {**content.get("status", {}), "phase": "Terminating"}


def _default_volume(content: Content) -> None:
    volume = content["spec"]
    volume.setdefault("persistentVolumeReclaimPolicy", "Retain")
    volume.setdefault("volumeMode", "Filesystem")


def _default_claim(content: Content) -> None:
    claim = content["spec"]
    claim.setdefault("volumeMode", "Filesystem")
    source, reference = claim.get("dataSource"), claim.get("dataSourceRef")
    if source is not None and reference is None:
        claim["dataSourceRef"] = dict(source)
    elif reference is not None and source is None and not reference.get("namespace"):
        claim["dataSource"] = dict(reference)
    status = content.get("status")
    if status is not None:
        status.setdefault("phase", "Pending")


def _drop_sources(claim: Content, gates: Collection[str]) -> None:
    """Drop in silence what a gate that is off hides, and kinds that only dataSourceRef takes."""
    if (claim.get("dataSourceRef") or {}).get("namespace") and CROSS_NAMESPACE not in gates:
        del claim["dataSourceRef"]
    if "dataSource" in claim and not _is_known_source(claim["dataSource"]):
        del claim["dataSource"]


def _is_known_source(source: Content) -> bool:
    group, kind = source.get("apiGroup") or "", source.get("kind")
    return (group, kind) in {("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")}


def _default_node(content: Content) -> None:
    status = content.setdefault("status", {})
    if status.get("capacity"):
        status.setdefault("allocatable", {})
        status["allocatable"] = {**status["capacity"], **status["allocatable"]}


def _default_class_object(content: Content) -> None:
    content.setdefault("reclaimPolicy", "Delete")
    content.setdefault("volumeBindingMode", "Immediate")


def _default_driver(content: Content) -> None:
    driver = content["spec"]
    for name, value in (
        ("attachRequired", True),
        ("podInfoOnMount", False),
        ("volumeLifecycleModes", ["Persistent"]),
        ("storageCapacity", False),
        ("fsGroupPolicy", "ReadWriteOnceWithFSType"),
        ("requiresRepublish", False),
        ("seLinuxMount", False),
    ):
        driver.setdefault(name, value)


def _default_secret(content: Content) -> None:
    content.setdefault("type", "Opaque")
    plain = content.pop("stringData", None)
    if plain:
        data = content.setdefault("data", {})
        for key, value in plain.items():
            data[key] = base64.b64encode(value.encode()).decode()


def _default_pod(content: Content) -> None:
    pod = content["spec"]
    for name, value in (
        ("restartPolicy", "Always"),
        ("terminationGracePeriodSeconds", _POD_GRACE_S),
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
        ("enableServiceLinks", True),
        ("securityContext", {}),
        ("priority", 0),
        ("preemptionPolicy", "PreemptLowerPriority"),
    ):
        pod.setdefault(name, value)
    tolerations = pod.setdefault("tolerations", [])
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(
            item.get("key", key) == key and item.get("effect", "NoExecute") == "NoExecute" for item in tolerations
        ):
            tolerations.append(
                {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _DEFAULT_TOLERATION_S}
            )
    for container in (*pod.get("initContainers", ()), *(pod.get("containers") or ())):
        image = container.get("image", "")
        latest = ":" not in image.rsplit("/", 1)[-1] or image.endswith(":latest")
        container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        for port in container.get("ports", ()):
            port.setdefault("protocol", "TCP")


_DEFAULTS: dict[str, Callable[[Content], None]] = {
    "persistentvolumes": _default_volume,
    "persistentvolumeclaims": _default_claim,
    "storageclasses.storage.k8s.io": _default_class_object,
    "csidrivers.storage.k8s.io": _default_driver,
    "secrets": _default_secret,
    "nodes": _default_node,
    "pods": _default_pod,
}

_FIRST_STATUS: dict[str, Callable[[str], Content]] = {
    "namespaces": lambda _: {"phase": "Active"},
    "persistentvolumes": lambda now: {"phase": "Pending", "lastPhaseTransitionTime": now},
    "persistentvolumeclaims": lambda _: {"phase": "Pending"},
    "pods": lambda _: {"phase": "Pending", "qosClass": "BestEffort"},
    "volumeattachments.storage.k8s.io": lambda _: {"attached": False},
}
