"""The objects that the story, the bench and the tests play with, as the JSON that is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from csisidecar.errors import AlreadyExistsError
from csisidecar.kube import CSI_DRIVERS, CSI_NODES, NAMESPACES, NODES, STORAGE_CLASSES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from csisidecar.kube import KubeClient

CLASS = "demo"
WAITING_CLASS = "demo-wait"
NODE = "demo-node"
NAMESPACE = "default"


def build_class(name: str, driver: str, *, mode: str = "Immediate", reclaim: str = "Delete") -> dict[str, Any]:
    """A StorageClass of `driver`."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": driver,
        "reclaimPolicy": reclaim,
        "volumeBindingMode": mode,
    }


def build_node(name: str) -> dict[str, Any]:
    """A Node without anything but its name."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
    }


def build_csi_node(node: str, drivers: Mapping[str, str], uid: str) -> dict[str, Any]:
    """The CSINode of `node`, which has `uid`; `drivers` is driver name → the driver's id of that node."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSINode",
        "metadata": {
            "name": node,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}],
        },
        "spec": {"drivers": [{"name": name, "nodeID": node_id} for name, node_id in drivers.items()]},
    }


def build_csi_driver(name: str) -> dict[str, Any]:
    """The CSIDriver object of a driver whose volumes are attached."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSIDriver",
        "metadata": {"name": name},
        "spec": {"attachRequired": True, "podInfoOnMount": False},
    }


def build_claim(name: str, *, size: str = "64Mi", storage_class: str = CLASS) -> dict[str, Any]:
    """A PersistentVolumeClaim."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage_class,
            "resources": {"requests": {"storage": size}},
        },
    }


def build_pod(name: str, claim: str) -> dict[str, Any]:
    """A Pod that mounts `claim` at ``/data``."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "containers": [
                {
                    "name": "app",
                    "image": "demo.invalid/app",
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }
            ],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }


async def ensure_cluster(client: KubeClient, *, driver: str, nodes: Mapping[str, str]) -> None:
    """Create the namespaces, nodes, classes and the CSIDriver object; what exists is left as it is.

    Args:
        client: where to create.
        driver: the driver's name.
        nodes: node name → the driver's id of it.
    """
    for name in (NAMESPACE, "kube-system"):
        await _ensure(client, NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    for node, node_id in nodes.items():
        await _ensure(client, NODES, build_node(node))
        uid = (await client.get(NODES, node))["metadata"]["uid"]
        await _ensure(client, CSI_NODES, build_csi_node(node, {driver: node_id}, uid))
    await _ensure(client, CSI_DRIVERS, build_csi_driver(driver))
    await _ensure(client, STORAGE_CLASSES, build_class(CLASS, driver))
    await _ensure(client, STORAGE_CLASSES, build_class(WAITING_CLASS, driver, mode="WaitForFirstConsumer"))


async def _ensure(client: KubeClient, resource: Any, body: dict[str, Any]) -> None:
    try:
        await client.create(resource, body)
    except AlreadyExistsError:
        return
