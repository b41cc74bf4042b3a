"""The plays of storage capacity: the objects that both provisioners publish for the same nodes and classes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.parity import refresh_plays
from tests.parity.capacity_cast import (
    DRIVER_LABEL,
    LABELS,
    MANAGER_LABEL,
    items,
    node,
    registration,
    room,
    settings,
    shows,
    storage_class,
)
from tests.parity.capacity_stage import NAMESPACE, Object, Play, Stage, Step, play_each
from tests.parity.refresh_plays import COMMON, FOUR, NEVER, OFTEN, WORLD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from csisidecar.kube import KubeClient

    Words = Sequence[str]

# ---- changes


async def add_new_segment(stage: Stage) -> None:
    await stage.create(*node("n4", zone="c"))
    await stage.shows(*items("fast slow", "abc"))


async def add_known_segment(stage: Stage) -> None:
    await stage.create(*node("n5", zone="a"))


async def delete_one_of_several(stage: Stage) -> None:
    await stage.delete("Node", "n5")


async def register_other_driver(stage: Stage) -> None:
    other = {"name": "other.csi", "nodeID": "n2", "topologyKeys": ["rack"]}
    await stage.edit("CSINode", "n2", {"spec": {"drivers": [registration("n2", ["zone"]), other]}})


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
        found = await stage.found("CSIStorageCapacity")
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


async def give_labels_back(stage: Stage) -> None:
    rooms = [each["metadata"] for each in await stage.found("CSIStorageCapacity")]
    names = [meta["name"] for meta in rooms if meta.get("labels", {}).get(MANAGER_LABEL) == "person"]
    await stage.edit("CSIStorageCapacity", names[0], {"metadata": {"labels": LABELS}})
    await stage.shows(*FOUR, "fast@zone=a")


async def edit_value(stage: Stage) -> None:
    victim = (await stage.room("fast@zone=b"))["metadata"]["name"]
    await stage.edit("CSIStorageCapacity", victim, {"capacity": "7Gi"})


async def add_strange_room(stage: Stage) -> None:
    picky = room("picky", "fast", "a", "1Gi")
    picky["nodeTopology"] = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
    nowhere = room("nowhere", "fast", "a", "1Gi")
    del nowhere["nodeTopology"]
    await stage.create(room("strange", "fast", "zz", "1Gi"), room("classless", "none", "a", "1Gi"), picky, nowhere)
    await stage.shows(*FOUR, "fast@zone=a")


async def add_foreign_room(stage: Stage) -> None:
    await stage.create(room("foreign", "fast", "zz", "1Gi", labels={**LABELS, DRIVER_LABEL: "other.csi"}))


CHANGES = Play(
    name="changes",
    objects=WORLD,
    driver=settings(),
    flags=NEVER,
    steps=(
        Step(
            name="start", rows=("T-ROOM-01", "T-ROOM-02", "T-SEGMENT-01", "T-GAUGE-01", "T-GAUGE-02"), act=shows(*FOUR)
        ),
        Step(name="node in a new segment", rows=("T-EVENT-07", "T-GAUGE-01"), act=add_new_segment),
        Step(name="node in a known segment", rows=("T-ROOM-01",), act=add_known_segment),
        Step(name="one of several nodes deleted", rows=("T-SEGMENT-09",), act=delete_one_of_several),
        Step(name="label that is no key", rows=("T-ROOM-05",), act=change_other_label),
        Step(name="keys of another driver", rows=("T-SEGMENT-03",), act=register_other_driver),
        Step(name="node relabeled", rows=("T-SEGMENT-11",), act=relabel),
        Step(name="Node deleted", rows=("T-EVENT-08",), act=delete_node),
        Step(name="Node made again", rows=("T-SEGMENT-02",), act=add_node_again),
        Step(name="driver unregistered", rows=("T-SEGMENT-01", "T-EVENT-08"), act=unregister),
        Step(name="key without label", rows=("T-SEGMENT-04",), act=register_with_a_key_without_label),
        Step(name="label of the key added", rows=("T-SEGMENT-04", "T-EVENT-07"), act=label_the_missing_key),
        Step(name="other keys", rows=("T-SEGMENT-10",), act=change_keys),
        Step(name="CSINode deleted", rows=("T-EVENT-08",), act=delete_csi_node),
        Step(name="class added", rows=("T-EVENT-01",), act=add_class),
        Step(name="irrelevant classes added", rows=("T-EVENT-04", "T-EVENT-05"), act=add_irrelevant_classes),
        Step(name="class changed", rows=("T-EVENT-02",), act=annotate_class),
        Step(name="irrelevant class changed", rows=("T-EVENT-05",), act=annotate_irrelevant_class),
        Step(name="class deleted", rows=("T-EVENT-06",), act=delete_class),
        Step(name="irrelevant class deleted", rows=("T-EVENT-05",), act=delete_irrelevant_class),
        Step(name="class made anew as Immediate", rows=("T-EVENT-06",), act=make_class_anew),
        Step(name="class made anew", rows=("T-EVENT-01",), act=make_class_late_again),
        Step(name="object deleted", rows=("T-EVENT-18",), act=delete_room),
        Step(name="object copied", rows=("T-EVENT-10",), act=copy_room),
        Step(name="labels stripped", rows=("T-ROOM-11",), act=strip_labels),
        Step(name="manager changed", rows=("T-ROOM-11",), act=change_manager),
        Step(name="labels given back", rows=("T-EVENT-10", "T-EVENT-17"), act=give_labels_back),
        Step(name="value edited", rows=("T-EVENT-15",), act=edit_value),
        Step(
            name="objects of no item",
            rows=("T-EVENT-11", "T-EVENT-12", "T-EVENT-13", "T-EVENT-14"),
            act=add_strange_room,
        ),
        Step(name="object of another driver", rows=("T-EVENT-16",), act=add_foreign_room),
    ),
)


# ---- starts


def owner(kind: str, name: str, uid: str, **more: Any) -> Object:
    return {"apiVersion": "apps/v1" if kind != "Pod" else "v1", "kind": kind, "name": name, "uid": uid, **more}


def pod(*owners: Object) -> Object:
    spec = {"containers": [{"name": "c", "image": "i"}]}
    return {"kind": "Pod", "metadata": {"name": "pod", "ownerReferences": list(owners)}, "spec": spec}


def workload(kind: str, name: str, *owners: Object) -> Object:
    """A ReplicaSet or Deployment."""
    labels = {"app": "csi"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    meta = {"name": name, "ownerReferences": list(owners)}
    return {"kind": kind, "metadata": meta, "spec": {"selector": {"matchLabels": labels}, "template": template}}


SET = owner("ReplicaSet", "csi-rs", "uid-of-set", controller=True)
DEPLOYMENT = owner("Deployment", "csi-deploy", "uid-of-deployment", controller=True)
ABOVE = {**owner("Rollout", "csi-rollout", "uid-above", controller=True), "apiVersion": "rollouts.test/v1"}
PERSON = owner("ConfigMap", "person", "uid-of-person")
OTHER = owner("ReplicaSet", "other", "uid-of-other", controller=True)
STATIC = (
    pod({**owner("Node", "n9", "uid-of-node", controller=True), "apiVersion": "v1"}),
    {"kind": "Node", "metadata": {"name": "n9", "ownerReferences": [ABOVE]}},
)
FAST = (*node("n1", zone="a"), storage_class("fast"))
"""A world with one object."""


async def ends_or_waits(stage: Stage) -> None:
    """Long enough to publish, to end, or to try again."""
    for _ in range(25):
        if all(each.returncode is not None for each in stage.processes.values()):
            return
        await asyncio.sleep(0.1)


def owned(name: str, level: int, rows: tuple[str, ...], *objects: Object, goes_well: bool = True) -> Play:
    """One object, and whose it is."""
    act = shows("fast@zone=a") if goes_well else ends_or_waits
    flags = (*COMMON, f"--capacity-ownerref-level={level}", "--capacity-poll-interval=1h")
    return Play(
        name=f"owner, {name}",
        objects=(*FAST, *objects),
        driver=settings(),
        flags=flags,
        subjects=("rooms", "ended"),
        steps=(Step(name="start", rows=rows, act=act),),
    )


OWNERS = (
    owned("its controller, which need not exist", 1, ("T-OWNER-04", "T-OWNER-08"), pod(PERSON, SET)),
    owned("the controller's controller", 2, ("T-OWNER-05",), pod(SET), workload("ReplicaSet", "csi-rs", DEPLOYMENT)),
    owned(
        "three levels up",
        3,
        ("T-OWNER-06",),
        pod(SET),
        workload("ReplicaSet", "csi-rs", DEPLOYMENT),
        workload("Deployment", "csi-deploy", ABOVE),
    ),
    owned("a node, which has no namespace", 2, ("T-OWNER-21",), *STATIC),
    owned("no pod", 0, ("T-OWNER-09",), goes_well=False),
    owned("pod without a controller", 1, ("T-OWNER-11",), pod(PERSON), goes_well=False),
    owned("controller is gone", 2, ("T-OWNER-10",), pod(SET), goes_well=False),
    owned("kind of the controller is not served", 2, ("T-OWNER-23",), pod(ABOVE), goes_well=False),
)


async def make_pod_anew(stage: Stage) -> None:
    await stage.delete("Pod", "pod")
    await stage.create(pod(SET))
    victim = (await stage.room("fast@zone=a"))["metadata"]["name"]
    await stage.delete("CSIStorageCapacity", victim)
    await asyncio.sleep(0.5)
    await stage.shows("fast@zone=a")


OWN_POD = Play(
    name="owner, the pod",
    objects=(*FAST, pod(SET)),
    driver=settings(),
    flags=(*COMMON, "--capacity-ownerref-level=0", "--capacity-poll-interval=1h"),
    subjects=("rooms", "asked", "ended"),
    steps=(
        Step(name="start", rows=("T-OWNER-03", "T-ROOM-14"), act=shows("fast@zone=a")),
        Step(name="pod made anew", rows=("T-OWNER-16",), act=make_pod_anew),
    ),
)

IMMEDIATE = Play(
    name="classes that bind at once",
    objects=WORLD,
    driver=settings(),
    flags=(*NEVER, "--capacity-for-immediate-binding"),
    steps=(Step(name="start", rows=("T-ROOM-09",), act=shows(*items("fast slow now", "ab"))),),
)


async def settle_left_overs(stage: Stage) -> None:
    # The foreign ones stay.
    await stage.shows(*FOUR, "fast@zone=a", "fast@zone=a")


LEFT_OVERS = Play(
    name="left-overs",
    objects=(
        *WORLD,
        pod(SET),
        room("mine", "fast", "a", "5Gi", maximumVolumeSize="1Gi"),
        room("dup-1", "fast", "b", "5Gi"),
        room("dup-2", "fast", "b", "5Gi"),
        room("owned", "slow", "a", "100Gi", owners=[PERSON], maximumVolumeSize="10Gi"),
        room("stale-segment", "fast", "z", "5Gi"),
        room("stale-class", "old", "a", "5Gi"),
        room("immediate", "now", "a", "5Gi"),
        room("foreign-manager", "fast", "a", "5Gi", labels={**LABELS, MANAGER_LABEL: "person"}),
        room("foreign-driver", "fast", "a", "5Gi", labels={**LABELS, DRIVER_LABEL: "other.csi"}),
    ),
    driver=settings(),
    flags=(*COMMON, "--capacity-ownerref-level=0", "--capacity-poll-interval=1h"),
    steps=(Step(name="start", rows=("T-EVENT-11", "T-EVENT-12", "T-EVENT-16"), act=settle_left_overs),),
)

KEPT_OWNERS = Play(
    name="owners switched off",
    objects=(
        *FAST,
        storage_class("slow"),
        room("owned", "fast", "a", "5Gi", owners=[OTHER]),
        room("equal", "slow", "a", "100Gi", maximumVolumeSize="10Gi"),
    ),
    driver=settings(),
    flags=NEVER,
    steps=(
        Step(
            name="start", rows=("T-OWNER-01", "T-POLL-02", "T-WORK-07"), act=shows("fast@zone=a 100Gi", "slow@zone=a")
        ),
    ),
)

CONTROLLED = Play(
    name="object of another controller",
    objects=(*FAST, pod(SET), room("owned", "fast", "a", "5Gi", owners=[OTHER])),
    driver=settings(),
    flags=(*COMMON, "--capacity-ownerref-level=0", "--capacity-poll-interval=1h"),
    subjects=("rooms", "asked", "ended"),
    steps=(Step(name="start", rows=("T-OWNER-19", "T-QUIRK-12"), act=ends_or_waits),),
)

NO_AMOUNT = Play(
    name="object without an amount",
    objects=(*FAST, room("empty", "fast", "a", None)),
    driver=settings(),
    flags=NEVER,
    steps=(Step(name="start", rows=("T-ROOM-10", "T-QUIRK-13"), act=shows("fast@zone=a 100Gi")),),
)

NO_KEYS = Play(
    name="driver without places",
    objects=(*node("n1", (), zone="a"), *node("n2", None, zone="b"), storage_class("fast")),
    driver=settings(plugin_capabilities=frozenset({"CONTROLLER_SERVICE"}), topology={}, places=()),
    flags=OFTEN,
    subjects=("rooms", "asked", "ended"),
    polls=True,
    steps=(Step(name="start", rows=("T-ROOM-07", "T-QUIRK-07", "T-QUIRK-10"), act=ends_or_waits),),
)

SEVERAL_KEYS = Play(
    name="several keys",
    objects=(
        *node("n1", ("zone", "rack"), zone="a", rack="r", other="x"),
        *node("n2", ("rack", "zone"), zone="a", rack="r"),
        *node("n3", ("zone", "rack"), zone="b"),
        *node("n4", ("zone",), zone="c", rack="r"),
        node("n6", zone="e")[0],
        node("n7", zone="f")[1],
        storage_class("fast"),
    ),
    driver=settings(),
    flags=NEVER,
    steps=(
        Step(
            name="start",
            rows=("T-ROOM-08", "T-SEGMENT-02", "T-SEGMENT-04", "T-SEGMENT-08"),
            act=shows("fast@rack=r,zone=a", "fast@zone=c"),
        ),
    ),
)

UNSET = Play(
    name="no namespace",
    objects=FAST,
    driver=settings(),
    flags=NEVER,
    variables={},
    subjects=("rooms", "asked", "ended"),
    steps=(Step(name="start", rows=("T-ROOM-16",), act=ends_or_waits),),
)

NO_NAME = Play(
    name="no name of the pod",
    objects=FAST,
    driver=settings(),
    flags=(*COMMON, "--capacity-ownerref-level=0"),
    variables={"NAMESPACE": NAMESPACE},
    subjects=("rooms", "asked", "ended"),
    steps=(Step(name="start", rows=("T-ROOM-16",), act=ends_or_waits),),
)

PLAYS: tuple[Play, ...] = (
    CHANGES,
    IMMEDIATE,
    LEFT_OVERS,
    OWN_POD,
    *OWNERS,
    KEPT_OWNERS,
    CONTROLLED,
    NO_AMOUNT,
    NO_KEYS,
    SEVERAL_KEYS,
    UNSET,
    NO_NAME,
    *refresh_plays.PLAYS,
)


async def play_all(
    kube: KubeClient, commands: tuple[Words, Words], kubeconfig: Path, folder: Path, only: str
) -> AsyncIterator[tuple[str, Sequence[str], list[str]]]:
    """The name of each step, its rows, and what differed; `commands` start ours and Go's."""
    async for said in play_each(PLAYS, kube, commands, kubeconfig, folder, only):
        yield said
