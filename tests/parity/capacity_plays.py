"""The plays of storage capacity: the objects that both provisioners publish for the same nodes and classes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from csisidecar.csi import GetCapacityResponse
from csisidecar.testing.driver import ALL_CONTROLLER, DriverSettings
from tests.parity.capacity_stage import NAMESPACE, Object, Play, Stage, Step, play_each

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from csisidecar.kube import KubeClient

    Words = Sequence[str]
    Act = Callable[[Stage], Awaitable[None]]

DRIVER = "csi.test.io"
GIB = 1024**3
DRIVER_LABEL, MANAGER_LABEL = "csi.storage.k8s.io/drivername", "csi.storage.k8s.io/managed-by"
LABELS = {DRIVER_LABEL: DRIVER, MANAGER_LABEL: "external-provisioner"}
PLACES = frozenset({"CONTROLLER_SERVICE", "VOLUME_ACCESSIBILITY_CONSTRAINTS"})
SELECTED = "volume.kubernetes.io/selected-node"
COMMON = ("--enable-capacity", "--kube-api-capacity-qps=100", "--kube-api-capacity-burst=200")
NEVER = (*COMMON, "--capacity-ownerref-level=-1", "--capacity-poll-interval=1h")
OFTEN = (*COMMON, "--capacity-ownerref-level=-1", "--capacity-poll-interval=1s")


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
                {"matchExpressions": [{"key": key, "operator": how, "values": list(values)} for key, how, values in term]}
                for term in terms
            ]
        }
    }


def items(classes: str, zones: str) -> list[str]:
    """Each of the classes in each of the zones."""
    return [f"{name}@zone={zone}" for name in classes.split() for zone in zones]


def shows(*wanted: str) -> Act:
    return lambda stage: stage.shows(*wanted)


WORLD = (
    *node("n1", zone="a"),
    *node("n2", zone="a"),
    *node("n3", zone="b"),
    storage_class("fast"),
    storage_class("slow"),
    storage_class("now", "Immediate"),
)
FOUR = items("fast slow", "ab")


# ---- changes


async def add_new_segment(stage: Stage) -> None:
    await stage.create(*node("n4", zone="c"))
    await stage.shows(*items("fast slow", "abc"))


async def add_known_segment(stage: Stage) -> None:
    await stage.create(*node("n5", zone="a"))


async def change_other_label(stage: Stage) -> None:
    await stage.edit("Node", "n1", {"metadata": {"labels": {"rack": "r1"}}})


async def relabel(stage: Stage) -> None:
    await stage.edit("Node", "n4", {"metadata": {"labels": {"zone": "d"}}})
    await stage.shows(*items("fast slow", "abd"))


async def delete_node(stage: Stage) -> None:
    await stage.delete("Node", "n4")
    await stage.shows(*FOUR)


async def add_node_again(stage: Stage) -> None:
    await stage.create(node("n4", zone="c")[0])
    await stage.shows(*items("fast slow", "abc"))


async def unregister(stage: Stage) -> None:
    await stage.edit("CSINode", "n4", {"spec": {"drivers": []}})
    await stage.shows(*FOUR)


async def register_with_a_key_without_label(stage: Stage) -> None:
    await stage.edit("CSINode", "n4", {"spec": {"drivers": [registration("n4", ["zone", "rack"])]}})


async def label_the_missing_key(stage: Stage) -> None:
    await stage.edit("Node", "n4", {"metadata": {"labels": {"rack": "r"}}})
    await stage.shows(*FOUR, "fast@rack=r,zone=c", "slow@rack=r,zone=c")


async def change_keys(stage: Stage) -> None:
    # The keys of a driver that stays registered cannot be changed.
    await stage.edit("CSINode", "n4", {"spec": {"drivers": []}})
    await stage.edit("CSINode", "n4", {"spec": {"drivers": [registration("n4", ["rack"])]}})
    await stage.shows(*FOUR, "fast@rack=r", "slow@rack=r")


async def delete_csi_node(stage: Stage) -> None:
    await stage.delete("CSINode", "n4")
    await stage.shows(*FOUR)


async def add_class(stage: Stage) -> None:
    await stage.create(storage_class("more"))
    await stage.shows(*items("fast slow more", "ab"))


async def add_irrelevant_classes(stage: Stage) -> None:
    await stage.create(storage_class("now2", "Immediate"), storage_class("other", provisioner="other.csi"))


async def annotate_class(stage: Stage) -> None:
    await stage.edit("StorageClass", "more", {"metadata": {"annotations": {"looked": "at"}}})
    await stage.hears("GetCapacity", 2)


async def annotate_irrelevant_class(stage: Stage) -> None:
    await stage.edit("StorageClass", "now", {"metadata": {"annotations": {"looked": "at"}}})


async def delete_class(stage: Stage) -> None:
    await stage.delete("StorageClass", "more")
    await stage.shows(*FOUR)


async def delete_irrelevant_class(stage: Stage) -> None:
    await stage.delete("StorageClass", "now2")


async def make_class_anew(stage: Stage) -> None:
    await stage.delete("StorageClass", "slow")
    await stage.create(storage_class("slow", "Immediate"))
    await stage.shows(*items("fast", "ab"))


async def make_class_late_again(stage: Stage) -> None:
    await stage.delete("StorageClass", "slow")
    await stage.create(storage_class("slow"))
    await stage.shows(*FOUR)


async def delete_room(stage: Stage) -> None:
    victim = (await stage.room("fast@zone=a"))["metadata"]
    await stage.delete("CSIStorageCapacity", victim["name"])

    async def done() -> bool:
        found = await stage.list("CSIStorageCapacity")
        return len(found) == 4 and victim["uid"] not in {each["metadata"]["uid"] for each in found}

    await stage.until(done)


async def copy_room(stage: Stage) -> None:
    await asyncio.sleep(1.0)  # so that the copy is younger also by the clock of the API server
    await stage.create(room("copy", "fast", "a", "1Gi"))
    await stage.shows(*FOUR)


async def strip_labels(stage: Stage) -> None:
    victim = (await stage.room("fast@zone=a"))["metadata"]["name"]
    labels = {DRIVER_LABEL: None, MANAGER_LABEL: None}
    await stage.edit("CSIStorageCapacity", victim, {"metadata": {"labels": labels}})
    await stage.shows(*FOUR, "fast@zone=a")


async def change_manager(stage: Stage) -> None:
    victim = (await stage.room("slow@zone=a"))["metadata"]["name"]
    await stage.edit("CSIStorageCapacity", victim, {"metadata": {"labels": {MANAGER_LABEL: "person"}}})
    await stage.shows(*FOUR, "fast@zone=a", "slow@zone=a")


async def edit_value(stage: Stage) -> None:
    victim = (await stage.room("fast@zone=b"))["metadata"]["name"]
    await stage.edit("CSIStorageCapacity", victim, {"capacity": "7Gi"})


async def add_strange_room(stage: Stage) -> None:
    await stage.create(room("strange", "fast", "zz", "1Gi"), room("classless", "none", "a", "1Gi"))
    await stage.shows(*FOUR, "fast@zone=a", "slow@zone=a")


async def add_foreign_room(stage: Stage) -> None:
    await stage.create(room("foreign", "fast", "zz", "1Gi", labels={**LABELS, DRIVER_LABEL: "other.csi"}))


CHANGES = Play(
    name="changes",
    objects=WORLD,
    driver=settings(),
    flags=NEVER,
    steps=(
        Step(name="start", rows=("T-ROOM-01", "T-ROOM-02"), act=shows(*FOUR)),
        Step(name="node in a new segment", rows=("T-ROOM-01",), act=add_new_segment),
        Step(name="node in a known segment", rows=("T-ROOM-01",), act=add_known_segment),
        Step(name="label that is no key", rows=("T-ROOM-05",), act=change_other_label),
        Step(name="node relabeled", rows=("T-ROOM-01",), act=relabel),
        Step(name="Node deleted", rows=("T-ROOM-01",), act=delete_node),
        Step(name="Node made again", rows=("T-ROOM-01",), act=add_node_again),
        Step(name="driver unregistered", rows=("T-ROOM-01",), act=unregister),
        Step(name="key without label", rows=("T-ROOM-08",), act=register_with_a_key_without_label),
        Step(name="label of the key added", rows=("T-ROOM-08",), act=label_the_missing_key),
        Step(name="other keys", rows=("T-ROOM-08",), act=change_keys),
        Step(name="CSINode deleted", rows=("T-ROOM-01",), act=delete_csi_node),
        Step(name="class added", rows=("T-ROOM-01",), act=add_class),
        Step(name="irrelevant classes added", rows=("T-ROOM-09",), act=add_irrelevant_classes),
        Step(name="class changed", rows=("T-ROOM-01",), act=annotate_class),
        Step(name="irrelevant class changed", rows=("T-ROOM-09",), act=annotate_irrelevant_class),
        Step(name="class deleted", rows=("T-ROOM-01",), act=delete_class),
        Step(name="irrelevant class deleted", rows=("T-ROOM-09",), act=delete_irrelevant_class),
        Step(name="class made anew as Immediate", rows=("T-ROOM-01",), act=make_class_anew),
        Step(name="class made anew", rows=("T-ROOM-01",), act=make_class_late_again),
        Step(name="object deleted", rows=("T-ROOM-01",), act=delete_room),
        Step(name="object copied", rows=("T-ROOM-01",), act=copy_room),
        Step(name="labels stripped", rows=("T-ROOM-11",), act=strip_labels),
        Step(name="manager changed", rows=("T-ROOM-11",), act=change_manager),
        Step(name="value edited", rows=("T-ROOM-04",), act=edit_value),
        Step(name="object of no item", rows=("T-ROOM-01",), act=add_strange_room),
        Step(name="object of another driver", rows=("T-ROOM-01",), act=add_foreign_room),
    ),
)

PLAYS: tuple[Play, ...] = (CHANGES,)


async def play_all(
    kube: KubeClient, commands: tuple[Words, Words], kubeconfig: Path, folder: Path, only: str
) -> AsyncIterator[tuple[str, Sequence[str], list[str]]]:
    """The name of each step, its rows, and what differed; `commands` start ours and Go's."""
    async for said in play_each(PLAYS, kube, commands, kubeconfig, folder, only):
        yield said
