"""Who acts in the plays of capacity and of node deployment: nodes, classes, capacity objects, claims, volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from csisidecar.testing.driver import ALL_CONTROLLER, DriverSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tests.parity.capacity_stage import Object, Stage

    Act = Callable[[Stage], Awaitable[None]]

DRIVER = "csi.test.io"
GIB = 1024**3
DRIVER_LABEL, MANAGER_LABEL = "csi.storage.k8s.io/drivername", "csi.storage.k8s.io/managed-by"
LABELS = {DRIVER_LABEL: DRIVER, MANAGER_LABEL: "external-provisioner"}
PLACES = frozenset({"CONTROLLER_SERVICE", "VOLUME_ACCESSIBILITY_CONSTRAINTS"})
SELECTED = "volume.kubernetes.io/selected-node"


def settings(**more: Any) -> DriverSettings:
    given = {
        "name": DRIVER,
        "plugin_capabilities": PLACES,
        "controller_capabilities": ALL_CONTROLLER,
        "topology": {"zone": "a"},
        "places": tuple({"zone": zone} for zone in "abcd"),
        "total_bytes": 100 * GIB,
        "max_volume_bytes": 10 * GIB,
        **more,
    }
    return DriverSettings(**given)


def node(name: str, keys: Sequence[str] | None = ("zone",), **labels: str) -> tuple[Object, Object]:
    """A Node and its CSINode."""
    return (
        {"kind": "Node", "metadata": {"name": name, "labels": labels}},
        {"kind": "CSINode", "metadata": {"name": name}, "spec": {"drivers": [registration(name, keys)]}},
    )


def registration(name: str, keys: Sequence[str] | None) -> Object:
    return {"name": DRIVER, "nodeID": name, **({} if keys is None else {"topologyKeys": list(keys)})}


def storage_class(name: str, mode: str = "WaitForFirstConsumer", provisioner: str = DRIVER, **more: Any) -> Object:
    """A class whose calls can be told by its parameters."""
    return {
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": provisioner,
        "volumeBindingMode": mode,
        "parameters": {"kind": name, "csi.storage.k8s.io/fstype": "xfs"},
        **more,
    }


def room(name: str, class_name: str, zone: str, capacity: str | None, **more: Any) -> Object:
    """A CSIStorageCapacity object that somebody else made; `more`: labels, ownerReferences, maximumVolumeSize."""
    meta = {"name": name, "labels": more.pop("labels", LABELS), "ownerReferences": more.pop("owners", [])}
    said = {**more, **({} if capacity is None else {"capacity": capacity})}
    topology = {"matchLabels": {"zone": zone}}
    return {
        "kind": "CSIStorageCapacity",
        "metadata": meta,
        "storageClassName": class_name,
        "nodeTopology": topology,
        **said,
    }


def claim(name: str, selected: str = "", *, size: str = "1Gi", class_name: str = "fast", **more: Any) -> Object:
    annotations = {"volume.kubernetes.io/storage-provisioner": DRIVER} | ({SELECTED: selected} if selected else {})
    annotations |= more.pop("annotations", {})
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": class_name,
        "resources": {"requests": {"storage": size}},
        **more,
    }
    return {"kind": "PersistentVolumeClaim", "metadata": {"name": name, "annotations": annotations}, "spec": spec}


def volume(name: str, affinity: Object | None, *, phase: str = "Released", **more: Any) -> Object:
    spec = {
        "capacity": {"storage": "1Mi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Delete",
        "csi": {"driver": DRIVER, "volumeHandle": f"handle-{name}"},
        **({} if affinity is None else {"nodeAffinity": affinity}),
        **more,
    }
    meta = {
        "name": name,
        "annotations": {"pv.kubernetes.io/provisioned-by": DRIVER},
        "finalizers": ["external-provisioner.volume.kubernetes.io/finalizer"],
    }
    return {"kind": "PersistentVolume", "metadata": meta, "spec": spec, "status": {"phase": phase}}


def affinity(*terms: Sequence[tuple[str, str, Sequence[str]]]) -> Object:
    return {
        "required": {
            "nodeSelectorTerms": [
                {
                    "matchExpressions": [
                        {"key": key, "operator": how, "values": list(values)} for key, how, values in term
                    ]
                }
                for term in terms
            ]
        }
    }


def items(classes: str, zones: str) -> list[str]:
    """Each of the classes in each of the zones."""
    return [f"{name}@zone={zone}" for name in classes.split() for zone in zones]


def shows(*wanted: str) -> Act:
    return lambda stage: stage.shows(*wanted)
