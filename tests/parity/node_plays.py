"""The plays of one provisioner a node: whose a claim is and who deletes its volume, ours and Go's side by side."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from csisidecar.csi import GetCapacityResponse
from csisidecar.testing.driver import ALL_CONTROLLER
from tests.parity.capacity_cast import (
    GIB,
    LABELS,
    MANAGER_LABEL,
    SELECTED,
    affinity,
    claim,
    room,
    settings,
    storage_class,
    volume,
)
from tests.parity.capacity_plays import ends_or_waits
from tests.parity.capacity_stage import NAMESPACE, Object, Play, Stage, Step, play_each
from tests.parity.refresh_plays import COMMON

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from csisidecar.csi import GetCapacityRequest
    from csisidecar.kube import KubeClient
    from tests.parity.capacity_cast import Act

    Words = Sequence[str]

NOW, LATE = "Immediate", "WaitForFirstConsumer"
HOST = "host"
WAITS = ("--node-deployment-base-delay=100ms", "--node-deployment-max-delay=400ms")
ONE = {"n1": {HOST: "n1", "tier": "5"}}
SEEN = ("asked", "made", "claims", "volumes", "events", "ended")


def case(name: str, mode: str, selected: str = "", *, allowed: str = "", **more: Any) -> tuple[Object, Object]:
    """A class and a claim of it, both of that name, so that every call says whose it is."""
    terms = [{"matchLabelExpressions": [{"key": HOST, "values": [allowed]}]}]
    made = storage_class(name, mode) | ({"allowedTopologies": terms} if allowed else {})
    return made, claim(name, selected, class_name=name, **more)


def makes(*claims: str, told: Sequence[str] = ()) -> Act:
    """Wait until these have their volumes, and Events have these texts; then some more for what should not happen."""

    async def act(stage: Stage) -> None:
        for name in claims:
            await stage.volume_of(name)
        for text in told:
            await stage.tells(text)
        await asyncio.sleep(1.0)

    return act


def here(name: str) -> Object:
    return affinity([(HOST, "In", [name])])


# ---- whose a claim is


async def give_to_node(stage: Stage) -> None:
    await stage.edit("PersistentVolumeClaim", "none-late", {"metadata": {"annotations": {SELECTED: "n1"}}})
    await stage.edit("PersistentVolumeClaim", "other-now", {"metadata": {"annotations": {SELECTED: "n1"}}})
    await makes("none-late", "other-now")(stage)


EMPTY = {SELECTED: ""}
WHOSE = Play(
    name="whose a claim is",
    nodes=ONE,
    driver=settings(places=({HOST: "n1", "tier": "5"},)),
    flags=WAITS,
    subjects=SEEN,
    objects=(
        *case("ours-late", LATE, "n1"),
        *case("ours-now", NOW, "n1"),
        *case("ours-elsewhere", LATE, "n1", allowed="n2"),
        *case("other-late", LATE, "n2"),
        *case("other-now", NOW, "n2"),
        *case("none-late", LATE),
        *case("none-now", NOW),
        case("empty-now", NOW)[0],
        claim("empty-now", class_name="empty-now", annotations=EMPTY),
        *case("fits", NOW, allowed="n1"),
        *case("fits-not", NOW, allowed="n2"),
        claim("no-class", class_name="no-class"),
        claim("other-no-class", "n2", class_name="other-no-class"),
        *case("bound", NOW, "n1", volumeName="some"),
        case("foreign", NOW)[0],
        claim("foreign", class_name="foreign", annotations={"volume.kubernetes.io/storage-provisioner": "other.csi"}),
    ),
    steps=(
        Step(
            name="start",
            rows=("T-NODE-01",),
            act=makes("ours-late", "ours-now", "none-now", "empty-now", "fits", told=["is not in requisite"]),
            about={
                "ours-late": ("T-NODE-22", "T-NODE-17", "T-NODE-20"),
                "ours-now": ("T-NODE-23",),
                "ours-elsewhere": ("T-NODE-25",),
                "other-late": ("T-NODE-26",),
                "other-now": ("T-NODE-27",),
                "none-late": ("T-NODE-28",),
                "none-now": ("T-NODE-29", "T-NODE-50"),
                "empty-now": ("T-NODE-30",),
                "fits": ("T-NODE-32",),
                "fits-not": ("T-NODE-33",),
                "no-class": ("T-NODE-36",),
                "other-no-class": ("T-NODE-37",),
                "bound": ("T-NODE-40",),
                "foreign": ("T-NODE-41",),
            },
        ),
        Step(
            name="given to the node",
            rows=("T-NODE-01",),
            act=give_to_node,
            about={"none-late": ("T-NODE-44",), "other-now": ("T-NODE-44",), "no-class": ("T-NODE-36",)},
        ),
    ),
)

NOT_NOW = Play(
    name="claims that bind at once are not for nodes",
    nodes=ONE,
    driver=settings(places=tuple(ONE.values())),
    flags=(*WAITS, "--node-deployment-immediate-binding=false"),
    subjects=SEEN,
    objects=(*case("ours-now", NOW, "n1"), *case("none-now", NOW)),
    steps=(
        Step(
            name="start",
            rows=("T-NODE-01",),
            act=makes("ours-now"),
            about={"ours-now": ("T-NODE-24",), "none-now": ("T-NODE-31",)},
        ),
    ),
)


def nameless(name: str, rows: tuple[str, ...], **annotations: str) -> Play:
    made = claim("nameless", annotations=annotations)
    made["spec"].pop("storageClassName")
    return Play(
        name=name,
        nodes=ONE,
        driver=settings(places=tuple(ONE.values())),
        flags=WAITS,
        subjects=SEEN,
        objects=(storage_class("fast", NOW), made),
        steps=(Step(name="start", rows=rows, act=ends_or_waits),),
    )


# ---- room


async def tell_by_class(request: GetCapacityRequest) -> GetCapacityResponse:
    """How much room there is for a claim of 1Gi."""
    kind = request.parameters["kind"]
    if kind == "fails":
        raise GRPCError(Status.INTERNAL, "no idea")
    if kind == "unimplemented":
        raise GRPCError(Status.UNIMPLEMENTED, "never")
    if kind == "hangs":
        await asyncio.Event().wait()
    amount = {"less": GIB - 1, "clone": 0, "later": 0}.get(kind, GIB)
    return GetCapacityResponse(available_capacity=amount, maximum_volume_size=1 if kind == "maximum" else None)


def telling(act: Act) -> Act:
    """`act`, with a driver that tells its room by class."""

    async def both(stage: Stage) -> None:
        for driver in stage.drivers.values():
            driver.tells = tell_by_class
        await act(stage)

    return both


async def make_room(stage: Stage) -> None:
    stage.driver.tells = None
    await ends_or_waits(stage)


async def touch(stage: Stage) -> None:
    await stage.edit("PersistentVolumeClaim", "less", {"metadata": {"annotations": {"looked": "at"}}})
    await stage.edit("PersistentVolumeClaim", "clone", {"metadata": {"annotations": {"looked": "at"}}})
    await makes("less", "clone")(stage)


SOURCE = (
    storage_class("source", LATE),
    {**claim("source", "n2", class_name="source", volumeName="source-pv"), "status": {"phase": "Bound"}},
    volume(
        "source-pv",
        None,
        phase="Bound",
        claimRef={"kind": "PersistentVolumeClaim", "namespace": NAMESPACE, "name": "source"},
        storageClassName="source",
    ),
)
BAD = {"kind": "bad-class", "csi.storage.k8s.io/unheard-of": "x"}
ROOM = Play(
    name="room",
    nodes=ONE,
    driver=settings(places=tuple(ONE.values())),
    volumes=("handle-source-pv",),
    flags=WAITS,
    subjects=SEEN,
    objects=(
        *SOURCE,
        *case("exact", NOW),
        *case("less", NOW),
        *case("maximum", NOW),
        *case("fails", NOW),
        *case("unimplemented", NOW),
        *case("hangs", NOW),
        *case("selector", NOW, selector={"matchLabels": {"a": "b"}}),
        {**storage_class("bad-class", NOW), "parameters": BAD},
        claim("bad-class", class_name="bad-class"),
        *case("clone", NOW, dataSource={"kind": "PersistentVolumeClaim", "name": "source"}),
    ),
    steps=(
        Step(
            name="start",
            rows=("T-NODE-06",),
            act=telling(makes("exact", "maximum", "fails", "unimplemented", told=["elector", "unheard-of"])),
            about={
                "exact": ("T-NODE-67",),
                "less": ("T-NODE-68",),
                "maximum": ("T-NODE-69",),
                "fails": ("T-NODE-71", "T-NODE-07"),
                "unimplemented": ("T-NODE-72",),
                "hangs": ("T-NODE-73",),
                "selector": ("T-NODE-75",),
                "bad-class": ("T-NODE-76",),
                "clone": ("T-NODE-78",),
                "source": ("T-NODE-78",),
            },
        ),
        Step(
            name="there is room",
            rows=("T-NODE-04",),
            act=make_room,
            about={"hangs": ("T-NODE-73",), "source": ("T-NODE-78",)},
        ),
        Step(
            name="claims changed",
            rows=("T-NODE-01",),
            act=touch,
            about={"hangs": ("T-NODE-73",), "less": ("T-NODE-04",), "clone": ("T-NODE-04",)},
        ),
    ),
)

UNDECLARED = Play(
    name="node's driver does not declare GET_CAPACITY",
    nodes=ONE,
    driver=settings(places=tuple(ONE.values()), controller_capabilities=ALL_CONTROLLER - {"GET_CAPACITY"}),
    flags=WAITS,
    subjects=("made", "claims", "volumes", "events", "ended"),
    objects=case("none-now", NOW),
    steps=(Step(name="start", rows=("T-NODE-74",), act=makes("none-now")),),
)

# ---- failures


async def grow(stage: Stage) -> None:
    """Room for the one that was too big; it is only looked at then, as its node comes and goes before."""
    stage.driver.settings = replace(stage.driver.settings, total_bytes=1000 * GIB)
    # Go may have kept the claim with an old version, and cannot take it before it changes.
    await asyncio.sleep(2.0)
    await stage.edit("PersistentVolumeClaim", "exhausted", {"metadata": {"annotations": {"looked": "at"}}})
    await makes("exhausted")(stage)


async def tell_plenty(request: GetCapacityRequest) -> GetCapacityResponse:
    del request
    return GetCapacityResponse(available_capacity=10_000 * GIB)


async def see_failures(stage: Stage) -> None:
    stage.driver.tells = tell_plenty
    await stage.tells("cannot be made here")
    await stage.hears("CreateVolume", 4)


FAILURES = Play(
    name="failures of a node",
    nodes=ONE,
    driver=settings(places=tuple(ONE.values()), max_volume_bytes=500 * GIB),
    flags=WAITS,
    subjects=("made", "claims", "volumes", "events", "ended"),
    objects=(*case("exhausted", NOW, size="200Gi"), *case("too-big", NOW, size="600Gi")),
    steps=(
        Step(
            name="start",
            rows=("T-NODE-85",),
            act=see_failures,
            about={"exhausted": ("T-NODE-05",)},
        ),
        Step(
            name="room",
            rows=("T-NODE-85",),
            act=grow,
            about={"exhausted": ("T-NODE-05",)},
        ),
    ),
)

# ---- deletion

FIELDS = here("n1")
FIELDS["required"]["nodeSelectorTerms"][0]["matchFields"] = [
    {"key": "metadata.name", "operator": "In", "values": ["n1"]}
]
DELETION = Play(
    name="deletion",
    nodes=ONE,
    driver=settings(places=tuple(ONE.values())),
    volumes=tuple(f"handle-{name}" for name in ("near", "far", "anywhere")),
    subjects=("made", "volumes", "events", "ended"),
    objects=(
        volume("near", here("n1")),
        volume("far", here("n2")),
        volume("anywhere", None),
        volume("unreadable", affinity([("tier", "Gt", ["x"])])),
        volume("either", affinity([(HOST, "In", ["n3"])], [(HOST, "In", ["n2", "n1"])])),
        volume("both-keys", affinity([(HOST, "In", ["n1"]), ("tier", "In", ["6"])])),
        volume("not-in", affinity([(HOST, "NotIn", ["n2"])])),
        volume("not-in-here", affinity([(HOST, "NotIn", ["n1"])])),
        volume("exists", affinity([("tier", "Exists", [])])),
        volume("exists-elsewhere", affinity([("rack", "Exists", [])])),
        volume("absent", affinity([("rack", "DoesNotExist", [])])),
        volume("greater", affinity([("tier", "Gt", ["4"])])),
        volume("greater-not", affinity([("tier", "Gt", ["5"])])),
        volume("fields", FIELDS),
        volume("smaller", affinity([("tier", "Lt", ["6"])])),
    ),
    steps=(
        Step(
            name="start",
            rows=("T-NODE-10",),
            act=lambda stage: stage.hears("DeleteVolume", 8),
            about={
                "near": ("T-NODE-10",),
                "far": ("T-NODE-87",),
                "anywhere": ("T-NODE-88",),
                "unreadable": ("T-NODE-89",),
                "either": ("T-HERE-06", "T-HERE-08"),
                "both-keys": ("T-HERE-07",),
                "not-in": ("T-HERE-09",),
                "not-in-here": ("T-HERE-09",),
                "exists": ("T-HERE-10",),
                "exists-elsewhere": ("T-HERE-10",),
                "absent": ("T-HERE-11",),
                "greater": ("T-HERE-12",),
                "greater-not": ("T-HERE-12",),
                "smaller": ("T-HERE-13",),
                "fields": ("T-HERE-14",),
            },
        ),
    ),
)

# ---- starts, several nodes, capacity


def starts(name: str, rows: tuple[str, ...], *objects: Object, node: str = "n1", **more: Any) -> Play:
    """A start that may end, and how."""
    given: dict[str, Any] = {
        "nodes": {node: ONE["n1"]},
        "driver": settings(places=tuple(ONE.values())),
        "flags": ("--node-deployment", *WAITS),
        **more,
    }
    act = Step(name="start", rows=rows, act=ends_or_waits)
    return Play(name=name, objects=objects, subjects=SEEN, steps=(act,), **given)


BARE = settings(plugin_capabilities=frozenset({"CONTROLLER_SERVICE"}), topology={}, places=())
STARTS = (
    starts("no name of the node", ("T-NODE-15",), *case("none-now", NOW), node=""),
    starts("NodeGetInfo fails", ("T-NODE-18",), *case("none-now", NOW), trouble=("NodeGetInfo:Internal=no",)),
    starts(
        "driver names no place",
        ("T-NODE-77",),
        *case("ours-late", LATE, "n1"),
        nodes={"n1": {}},
        driver=settings(places=()),
    ),
    starts("no places, claim of the node", ("T-NODE-34",), *case("ours-now", NOW, "n1"), nodes={"n1": {}}, driver=BARE),
    starts("no places, free claim", ("T-NODE-08", "T-QUIRK-15"), *case("free", NOW), nodes={"n1": {}}, driver=BARE),
    nameless("claim without a class name", ("T-NODE-38", "T-QUIRK-14")),
    nameless("claim with the beta annotation", ("T-NODE-39",), **{"volume.beta.kubernetes.io/storage-class": "fast"}),
)

TEN = [f"c{number}" for number in range(10)]
COMPETITION = Play(
    name="competition of two nodes",
    nodes={"n1": {HOST: "n1"}, "n2": {HOST: "n2"}},
    driver=settings(places=()),
    flags=WAITS,
    subjects=("made", "claims", "volumes", "events", "ended"),
    objects=tuple(each for name in TEN for each in case(name, NOW)),
    anybody=True,
    steps=(Step(name="start", rows=("T-NODE-02",), act=makes(*TEN)),),
)


async def makes_one(stage: Stage) -> None:
    await stage.create(claim("one", "n1"))
    await makes("one")(stage)


async def makes_another(stage: Stage) -> None:
    await stage.create(claim("another", LONG))
    await makes("another")(stage)


LONG, LONGER = "node" + 39 * "a", "node" + 49 * "a"
PUBLISHING = Play(
    name="capacity of each node",
    nodes={"n1": {HOST: "n1"}, LONG: {HOST: "n2", "disk": "d"}, LONGER: {HOST: "n3"}},
    driver=settings(places=()),
    flags=(*COMMON, "--capacity-ownerref-level=-1", "--capacity-poll-interval=1h", *WAITS),
    subjects=("rooms", "asked", "made", "gauges", "ended"),
    objects=(
        storage_class("fast"),
        storage_class("now", NOW),
        room("gone", "fast", "z", "1Gi", labels={**LABELS, MANAGER_LABEL: "external-provisioner-n9"}),
        room("central", "fast", "z", "1Gi"),
    ),
    steps=(
        Step(
            name="start",
            rows=("T-NODE-12", "T-NODE-79", "T-NODE-81", "T-NODE-83", "T-NODE-90"),
            act=lambda stage: stage.shows(
                "fast@host=n1", "fast@disk=d,host=n2", "fast@host=n3", "fast@zone=z", "fast@zone=z"
            ),
        ),
        Step(name="volume made", rows=("T-NODE-12",), act=makes_one),
        Step(name="volume made in a place of two keys", rows=("T-QUIRK-09",), act=makes_another),
    ),
)


PLAYS: tuple[Play, ...] = (
    WHOSE,
    NOT_NOW,
    ROOM,
    UNDECLARED,
    FAILURES,
    DELETION,
    *STARTS,
    COMPETITION,
    PUBLISHING,
)


async def play_all(
    kube: KubeClient, commands: tuple[Words, Words], kubeconfig: Path, folder: Path, only: str
) -> AsyncIterator[tuple[str, Sequence[str], list[str]]]:
    """The name of each step, claim or volume, its rows, and what differed; `commands` start ours and Go's."""
    async for said in play_each(PLAYS, kube, commands, kubeconfig, folder, only):
        yield said
