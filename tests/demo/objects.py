"""Builders of the objects that the rules of the stand-ins look at."""

from __future__ import annotations

from typing import Any

import msgspec

from csisidecar.demo.controllers.views import BinderClaim, BinderClass, BinderVolume, Pod, WorkerNode

GIB = 1024**3


def claim(
    name: str = "data", *, phase: str = "Pending", meta: dict[str, Any] | None = None, **spec: Any
) -> BinderClaim:
    """A claim for 1Gi, ReadWriteOnce, of class `fast`, with the spec's fields replaced."""
    body = {
        "metadata": {"name": name, "namespace": "ns", "uid": f"uid-{name}", "resourceVersion": "7", **(meta or {})},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "fast",
            "resources": {"requests": {"storage": "1Gi"}},
            **spec,
        },
        "status": {"phase": phase},
    }
    return msgspec.convert(body, BinderClaim)


def volume(
    name: str = "pv", *, phase: str = "Available", meta: dict[str, Any] | None = None, **spec: Any
) -> BinderVolume:
    """A CSI volume of 1Gi, ReadWriteOnce, of class `fast`, with the spec's fields replaced."""
    body = {
        "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": "8", **(meta or {})},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
            "storageClassName": "fast",
            "persistentVolumeReclaimPolicy": "Delete",
            "csi": {"driver": "demo", "volumeHandle": f"handle-{name}"},
            **spec,
        },
        "status": {"phase": phase},
    }
    return msgspec.convert(body, BinderVolume)


def ref(claim_name: str = "data", *, uid: str | None = None) -> dict[str, str]:
    """A claimRef to the claim of that name; an empty uid reserves it for any claim called so."""
    return {"namespace": "ns", "name": claim_name, "uid": f"uid-{claim_name}" if uid is None else uid}


def storage_class(name: str = "fast", *, delayed: bool = False, default: bool = False, **fields: Any) -> BinderClass:
    """A class of the provisioner `demo`."""
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    mode = "WaitForFirstConsumer" if delayed else "Immediate"
    body = {
        "metadata": {"name": name, "annotations": annotations},
        "provisioner": "demo",
        "volumeBindingMode": mode,
        **fields,
    }
    return msgspec.convert(body, BinderClass)


def node(name: str = "n1", **labels: str) -> WorkerNode:
    """A node with labels."""
    return msgspec.convert({"metadata": {"name": name, "labels": labels}}, WorkerNode)


def pod(name: str = "app", *claims: str, node_name: str = "", **spec: Any) -> Pod:
    """A Pod that uses the claims."""
    volumes = [{"name": c, "persistentVolumeClaim": {"claimName": c}} for c in claims]
    body = {
        "metadata": {"name": name, "namespace": "ns", "uid": f"uid-{name}"},
        "spec": {"nodeName": node_name, "volumes": volumes, **spec},
    }
    return msgspec.convert(body, Pod)
