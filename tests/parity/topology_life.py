"""Scenes of topology in which something changes: nodes come, go and are changed before and between calls."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from grpclib.const import Status

from csisidecar.kube import CSI_NODES, NODES, STORAGE_CLASSES
from tests.parity.topology_requests import A_KEYS, A_LABELS, PREFIX, STRICT, on
from tests.parity.topology_stage import SILENCE, Case, PlaceStage, Scene, has_failed, has_volume, is_given_up

if TYPE_CHECKING:
    from collections.abc import Mapping


async def _all_come(stage: PlaceStage) -> None:
    await stage.until(lambda _, protocol: has_failed(protocol))
    await stage.label("n1", {"zone": "a"})
    # Whoever hears of the registration has heard of the label: before it, no label would be missed.
    await stage.notice()
    await stage.register("n1", ["zone"])


async def _label_comes(stage: PlaceStage) -> None:
    await stage.until(lambda _, protocol: has_failed(protocol))
    await stage.label("n1", {"zone": "a"})


NOBODY_REGISTERED = Scene(
    name="nobody is registered",
    labels={"n1": {}},
    keys={"n1": None},
    act=_all_come,
    cases=(
        Case(
            name="immediate",
            rows=("T-ERROR-08", "T-REQ-05"),
            asks=("a | a",),
            says=f"{PREFIX}no available topology found",
        ),
    ),
)
NOBODY_LABELED = Scene(
    name="nobody is labeled",
    labels={"n1": {}},
    keys={"n1": ("zone",)},
    act=_label_comes,
    cases=(
        Case(
            name="immediate",
            rows=("T-ERROR-09", "T-REQ-05"),
            asks=("a | a",),
            says=f"{PREFIX}topologyKeys [zone] were not found on any nodes",
        ),
    ),
)


_RUNNING = ("CANCELLED", "DEADLINE_EXCEEDED", "UNAVAILABLE", "ABORTED")
"""Statuses after which a volume may be in the making."""


def _with_status(status: str) -> tuple[Case, ...]:
    word = status.lower().replace("_", "-")
    is_kept, is_slow = status in _RUNNING, status == "INVALID_ARGUMENT"
    case = Case(
        name=word,
        rows=("T-LIFE-26",) if is_kept else ("T-LIFE-27",),
        first=status,
        says="as told",
        ends=has_failed if is_slow else has_volume,
    )
    # A wrong request is not repeated for minutes.
    count = 1 if is_kept or is_slow else 2
    is_full = status == "RESOURCE_EXHAUSTED"
    return (
        replace(
            case,
            claim=f"{word}-web-0",
            asks=("a b c | a b c", "a b c d | b c d a")[:count],
            rows=("T-LIFE-29",) if is_full else case.rows,
        ),
        replace(
            case,
            name=f"{word} with a node",
            claim=f"{word}-n1",
            node="n1",
            rows=("T-LIFE-28", "T-LIFE-03") if is_full else case.rows,
            waits=True,
            asks=("a b c | b c a", "a b c d | b c d a")[:count],
        ),
    )


async def _one_more_node(stage: PlaceStage) -> None:
    await stage.until_called()
    await stage.add_node("n5", {"zone": "d"})
    await stage.register("n5", ["zone"])
    await stage.notice()
    stage.driver.go_on.set()
    full = "resource-exhausted-n1"
    await stage.until(lambda case, protocol: case.claim != full or is_given_up(protocol))
    await stage.select(full, "n1")


STATUSES = Scene(
    name="statuses",
    labels=A_LABELS,
    keys=A_KEYS,
    act=_one_more_node,
    cases=(
        *(case for status in Status if status is not Status.OK for case in _with_status(status.name)),
        Case(
            name="open, then final",
            rows=("T-LIFE-02",),
            claim="both-web-0",
            first="DEADLINE_EXCEEDED,INTERNAL",
            asks=("a b c | a b c", "a b c d | b c d a"),
        ),
        Case(
            name="open, then no room",
            rows=("T-LIFE-02", "T-LIFE-28"),
            node="n1",
            waits=True,
            first="UNAVAILABLE,RESOURCE_EXHAUSTED",
            asks=("a b c | b c a",),
            ends=is_given_up,
        ),
    ),
)

_CHANGES: Mapping[str, tuple[str, ...]] = {
    "rebooted": ("T-LIFE-07",),
    "both gone": ("T-LIFE-22",),
    "CSINode gone": ("T-LIFE-24",),
    "Node gone": ("T-LIFE-25",),
    "relabeled": ("T-LIFE-26",),
    "more keys": ("T-LIFE-26",),
    "other node": ("T-LIFE-26", "T-QUIRK-03"),
    "node taken off": ("T-LIFE-36",),
    "other class": ("T-LIFE-01", "T-LIFE-35"),
}
"""What happens between two calls → rows of its being without consequence while a volume may be in the making."""


def _with_change(change: str, first: str) -> Case:
    word = f"{change.replace(' ', '-')}-{first}".lower()
    case = Case(name=f"{change} after {first}", rows=(), node=word, waits=True, first=first, says="as told")
    if first == "UNAVAILABLE":
        # Go asks anew about another class: nobody can say that this is as it should be.
        return replace(case, rows=_CHANGES[change], requests=0 if change == "other class" else 1)
    ends = {"both gone": is_given_up, "CSINode gone": is_given_up, "Node gone": has_failed}
    rows = ("T-LIFE-27", "T-QUIRK-03") if change == "other node" else ("T-LIFE-27",)
    return replace(case, rows=rows, ends=ends.get(change, has_volume))


async def _much_changes(stage: PlaceStage) -> None:
    await stage.until_called()
    for case in stage.cases:
        change, node = case.name.partition(" after ")[0], case.node
        if change in ("both gone", "CSINode gone"):
            await stage.kube.delete(CSI_NODES, node)
        if change in ("both gone", "Node gone"):
            await stage.kube.delete(NODES, node)
        if change == "rebooted":
            await stage.touch(node)
        if change == "relabeled":
            await stage.label(node, {"zone": "new"})
        if change == "more keys":
            await stage.label(node, {"rack": "r1"})
            await stage.register(node, ["zone", "rack"])
        if change == "other node":
            await stage.select(case.claim_name, "n1")
        if change == "other class":
            await stage.kube.delete(STORAGE_CLASSES, case.claim_name)
            await stage.stage.create(replace(case, allowed=({"zone": f"{node},b"},)).to_objects()[0])
        if change == "node taken off":
            await stage.select(case.claim_name, None)
    await stage.notice()
    stage.driver.go_on.set()
    await stage.until(lambda _, protocol: has_failed(protocol))
    await stage.notice()
    for case in stage.cases:
        if case.name.startswith("node taken off"):
            await stage.select(case.claim_name, "n1")


def _changing(name: str, *flags: str) -> Scene:
    cases = tuple(_with_change(change, first) for first in ("UNAVAILABLE", "INTERNAL") for change in _CHANGES)
    nodeless = Case(name="no node", rows=("T-LIFE-06", "T-LIFE-21"), first="UNAVAILABLE", says="as told", requests=1)
    return Scene(
        name=name,
        labels={**A_LABELS, **{case.node: {"zone": case.node} for case in cases}},
        keys={**A_KEYS, **{case.node: ("zone",) for case in cases}},
        flags=flags,
        act=_much_changes,
        cases=(nodeless, *cases),
    )


async def _nodes_come(stage: PlaceStage) -> None:
    await stage.until(lambda case, protocol: case.ends(protocol) or has_failed(protocol))
    await stage.kube.delete(CSI_NODES, "m4")
    await stage.register("m1", ["zone"])
    await stage.label("m2", {"zone": "c"})
    await stage.add_node("m3", {"zone": "d"})
    await stage.select("csinode-missing", "n1")


async def _one_more_node_only(stage: PlaceStage) -> None:
    await stage.until_called()
    await stage.add_node("n5", {"zone": "d"})
    await stage.register("n5", ["zone"])


NO_ANSWER = Scene(
    name="no answer in time",
    labels=A_LABELS,
    keys=A_KEYS,
    flags=("--timeout=4s",),
    act=_one_more_node_only,
    cases=(
        Case(name="no node", rows=("T-LIFE-26",), claim="data-web-0", first=SILENCE, asks=("a b c | a b c",)),
        *on("n1", Case(name="with a node", rows=("T-LIFE-26",), first=SILENCE, asks=("a b c | b c a",))),
    ),
)

FEW_PLACES = Scene(
    name="nodes in trouble",
    # Everywhere the driver restarts, is not labeled, lost its CSINode or its Node, but on the first.
    labels={"n1": {"zone": "a"}, "x1": {"zone": "b"}, "x2": {}, "x3": {"zone": "c"}},
    keys={"n1": ("zone",), "x1": None, "x2": ("zone",), "x4": ("zone",)},
    cases=(
        Case(
            name="no node",
            rows=("T-LIFE-09", "T-LIFE-12", "T-LIFE-15", "T-LIFE-18"),
            claim="data-web-0",
            asks=("a b c | a b c",),
        ),
        *on("n1", Case(name="a sound one", rows=("T-LIFE-12", "T-LIFE-15"), asks=("a b c | a b c",))),
    ),
)


LATE = Scene(
    name="nodes that come late",
    labels={"n1": {"zone": "a"}, "m1": {"zone": "b"}, "m2": {}},
    keys={"n1": ("zone",), "m1": None, "m2": ("zone",), "m3": ("zone",), "m4": ("zone",)},
    act=_nodes_come,
    cases=(
        Case(name="driver restarts", rows=("T-LIFE-05", "T-LIFE-10"), node="m1", waits=True, says="no topology key"),
        Case(name="not labeled yet", rows=("T-LIFE-05", "T-LIFE-13"), node="m2", waits=True, says="does not match"),
        Case(name="Node missing", rows=("T-LIFE-05", "T-LIFE-19"), node="m3", waits=True, says="does not match"),
        # Go has kept the keys, and waits for ever.
        Case(
            name="CSINode goes",
            rows=("T-LIFE-04", "T-LIFE-40"),
            node="m4",
            waits=True,
            says="does not match",
            ends=has_failed,
        ),
        Case(name="CSINode missing", rows=("T-LIFE-16",), node="m9", waits=True, says="not found"),
    ),
)


SCENES = (
    NOBODY_REGISTERED,
    NOBODY_LABELED,
    STATUSES,
    NO_ANSWER,
    _changing("changes between calls"),
    _changing("changes between calls, strict", STRICT),
    FEW_PLACES,
    LATE,
)
