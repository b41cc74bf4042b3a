"""The plays of topology: the same claims on the same nodes; what both ask the driver for, and what they say."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from grpclib.const import Status

from csisidecar.kube import CSI_NODES, NODES, STORAGE_CLASSES
from tests.parity import provisioner_stage
from tests.parity.topology_stage import (
    PLUGIN,
    Case,
    PlaceStage,
    Scene,
    has_failed,
    has_volume,
    is_given_up,
    is_idle,
    perform,
    surprises,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from csisidecar.kube import KubeClient

    Words = Sequence[str]

STRICT = "--strict-topology"
SILENT = "--immediate-topology=false"

A_LABELS: Mapping[str, Mapping[str, str]] = {
    "n1": {"zone": "b"},
    "n2": {"zone": "a"},
    "n3": {"zone": "c"},
    "n4": {"zone": "a"},
}
A_KEYS: Mapping[str, Sequence[str]] = dict.fromkeys(A_LABELS, ("zone",))
B_LABELS = {
    "n1": {"zone": "z2", "rack": "r1"},
    "n2": {"zone": "z1", "rack": "r1"},
    "n3": {"zone": "z1", "rack": "r2"},
}
B_KEYS = {"n1": ("zone", "rack"), "n2": ("rack", "zone"), "n3": ("zone", "rack")}
C_LABELS = {"n1": {"zone": "z1"}, "n2": {"zone": "z1", "rack": "r1"}, "n5": {"zone": "z9", "rack": "r9"}}
C_KEYS = {"n1": ("zone",), "n2": ("zone", "rack")}

CA = ({"zone": "c,a"},)
FOUR = ({"zone": "z1,z2", "rack": "r1,r2"},)
FIVE = ({"zone": "z1"}, *FOUR)
NODE_GONE = 'failed to get selected CSINode n9: csinode.storage.k8s.io "n9" not found'
PREFIX = "error generating accessibility requirements: "


def on(node: str, case: Case) -> tuple[Case, Case]:
    """The case with a selected node: chosen by the scheduler, and put there by somebody else."""
    return (
        replace(case, node=node, waits=True),
        replace(case, name=f"{case.name}, immediate", claim=f"{case.claim_name}-now", node=node),
    )


CLUSTER_A = Scene(
    name="cluster A",
    # Of the worked example are the first four; the others contribute nothing to it, and are for its errors.
    labels={**A_LABELS, "n5": {}, "n6": {}, "n7": {"rack": "r"}},
    keys={**A_KEYS, "n5": None, "n6": (), "n7": ("zone",), "n8": ("zone",)},
    cases=(
        Case(name="A1", rows=("T-CASE-01", "T-TABLE-07", "T-REQ-01"), claim="data-web-0", asks=("a b c | a b c",)),
        Case(name="A2", rows=("T-CASE-02", "T-REQ-07"), claim="data-web-1", asks=("a b c | b c a",)),
        Case(name="A3", rows=("T-CASE-03", "T-REQ-07"), claim="data-web-2", asks=("a b c | c a b",)),
        Case(name="A3, other template", rows=("T-CASE-03",), claim="logs-web-2", asks=("a b c | c a b",)),
        Case(name="A4", rows=("T-CASE-04", "T-REQ-08"), claim="pvc-4294967296", asks=("a b c | b c a",)),
        Case(name="sum wraps", rows=("T-REQ-08",), claim="data-web-4294967295", asks=("a b c | c a b",)),
        *on("n1", Case(name="A6", rows=("T-CASE-06", "T-TABLE-04", "T-REQ-01"), asks=("a b c | b c a",))),
        *on("n3", Case(name="A9", rows=("T-CASE-09", "T-TABLE-05"), allowed=CA, asks=("a c | c a",))),
        *on(
            "n1",
            Case(
                name="A11",
                rows=("T-CASE-11", "T-ERROR-08", "T-REQ-04"),
                allowed=CA,
                asks=(),
                says=f'{PREFIX}topology [{{zone b}}] from selected node "n1" is not in requisite',
                ends=has_failed,
            ),
        ),
        Case(
            name="places that do not exist",
            rows=("T-REQ-06", "T-TABLE-06"),
            claim="data-web-3",
            allowed=({"zone": "x"}, {"room": "y"}),
            asks=("y x | y x",),
        ),
        Case(name="no consumer", rows=("T-REQ-01",), waits=True, asks=(), ends=is_idle),
        Case(
            name="old annotation, immediate",
            rows=("T-REQ-01",),
            node="n1",
            annotation="volume.alpha.kubernetes.io/selected-node",
        ),
        Case(
            name="old annotation",
            rows=("T-REQ-01",),
            waits=True,
            node="n1",
            annotation="volume.alpha.kubernetes.io/selected-node",
            ends=is_idle,
        ),
        Case(
            name="CSINode missing",
            rows=("T-ERROR-01", "T-LIFE-04", "T-REQ-05"),
            waits=True,
            node="n9",
            asks=(),
            says=NODE_GONE,
            ends=is_given_up,
        ),
        Case(
            name="CSINode missing, immediate",
            rows=("T-ERROR-01", "T-LIFE-04"),
            claim="gone-web-0",
            node="n9",
            asks=("a b c | a b c",),
            says=NODE_GONE,
        ),
        *(
            case
            for name, node, rows, says in (
                ("driver missing", "n5", ("T-ERROR-03", "T-REQ-05"), "no topology key found for node n5"),
                ("no keys", "n6", ("T-ERROR-03", "T-REQ-05"), "no topology key found for node n6"),
                (
                    "label missing",
                    "n7",
                    ("T-ERROR-04", "T-REQ-05"),
                    "topology labels from selected node map[rack:r] does not match topology keys from CSINode [zone]",
                ),
                (
                    "Node missing",
                    "n8",
                    ("T-ERROR-04", "T-REQ-05"),
                    "topology labels from selected node map[] does not match topology keys from CSINode [zone]",
                ),
            )
            for case in on(node, Case(name=name, rows=rows, asks=(), says=PREFIX + says, ends=has_failed))
        ),
        Case(
            name="no room",
            rows=("T-LIFE-03",),
            waits=True,
            node="n1",
            first="RESOURCE_EXHAUSTED",
            asks=("a b c | b c a",),
            ends=is_given_up,
        ),
        Case(
            name="no room, immediate",
            rows=("T-LIFE-03",),
            claim="full-web-0",
            node="n1",
            first="RESOURCE_EXHAUSTED",
            asks=("a b c | b c a", "a b c | a b c"),
        ),
        Case(
            name="no room without a node",
            rows=("T-LIFE-03",),
            claim="lone-web-0",
            first="RESOURCE_EXHAUSTED",
            asks=("a b c | a b c",),
        ),
        *(
            case
            for name, places in (
                ("answer from elsewhere", ({"zone": "q", "row": "unasked"},)),
                ("answer without places", ()),
                ("answer of several places", ({"zone": "c"}, {"zone": "a", "rack": "r"}, {"zone": "b"})),
                ("answer with an empty place", ({"zone": "c"}, {}, {"zone": "a"})),
            )
            for case in on("n1", Case(name=name, rows=("T-REQ-14",), places=places))
        ),
        Case(name="answer of an empty place", rows=("T-QUIRK-04",), places=({},), ends=lambda _: True),
    ),
)

STRICT_A = Scene(
    name="cluster A, strict",
    labels=A_LABELS,
    keys=A_KEYS,
    flags=(STRICT,),
    cases=(
        *on("n1", Case(name="A7", rows=("T-CASE-07", "T-TABLE-01"), asks=("b | b",))),
        *on("n3", Case(name="A10", rows=("T-CASE-10", "T-TABLE-02"), allowed=CA, asks=("c | c",))),
        *on(
            "n1",
            Case(
                name="A12",
                rows=("T-CASE-12", "T-TABLE-03", "T-ERROR-05", "T-REQ-04"),
                allowed=CA,
                asks=(),
                says=f"{PREFIX}selected node '\"n1\"' topology '[{{zone b}}]' is not in allowed topologies: [",
                ends=has_failed,
            ),
        ),
        Case(name="no node", rows=("T-REQ-01", "T-TABLE-07"), claim="data-web-1", asks=("a b c | b c a",)),
        Case(name="allowed, no node", rows=("T-TABLE-06",), claim="data-web-0", allowed=CA, asks=("a c | c a",)),
        Case(name="CSINode missing", rows=("T-ERROR-01",), waits=True, node="n9", says=NODE_GONE, ends=is_given_up),
    ),
)

SILENT_A = Scene(
    name="cluster A, nothing said by default",
    labels=A_LABELS,
    keys=A_KEYS,
    flags=(SILENT,),
    cases=(
        Case(name="A5", rows=("T-CASE-05", "T-TABLE-08"), asks=("nothing",)),
        Case(name="A8", rows=("T-CASE-08", "T-TABLE-06"), claim="data-web-1", allowed=CA, asks=("a c | a c",)),
        *on("n1", Case(name="with a node", rows=("T-TABLE-04",), asks=("a b c | b c a",))),
    ),
)

CLUSTER_B = Scene(
    name="cluster B",
    labels=B_LABELS,
    keys=B_KEYS,
    cases=(
        *on("n1", Case(name="B1", rows=("T-CASE-15", "T-REQ-02"), asks=("r1,z1 r1,z2 r2,z1 | r1,z2 r2,z1 r1,z1",))),
        *on(
            "n1",
            Case(
                name="B2",
                rows=("T-CASE-16", "T-REQ-09"),
                allowed=FOUR,
                asks=("r1,z1 r1,z2 r2,z1 r2,z2 | r1,z2 r2,z1 r2,z2 r1,z1",),
            ),
        ),
        Case(
            name="B3",
            rows=("T-CASE-17", "T-REQ-07"),
            claim="data-web-1",
            allowed=FOUR,
            asks=("r1,z1 r1,z2 r2,z1 r2,z2 | r2,z1 r2,z2 r1,z1 r1,z2",),
        ),
        *on(
            "n2",
            Case(
                name="B4",
                rows=("T-CASE-18",),
                allowed=FIVE,
                asks=("z1 r1,z1 r1,z2 r2,z1 r2,z2 | z1 r1,z1 r1,z2 r2,z1 r2,z2",),
            ),
        ),
        *on(
            "n1",
            Case(
                name="B5",
                rows=("T-CASE-19",),
                allowed=FIVE,
                asks=("z1 r1,z1 r1,z2 r2,z1 r2,z2 | r1,z2 r2,z1 r2,z2 z1 r1,z1",),
            ),
        ),
    ),
)

STRICT_B = Scene(
    name="cluster B, strict",
    labels=B_LABELS,
    keys=B_KEYS,
    flags=(STRICT,),
    cases=(
        *on("n2", Case(name="B6", rows=("T-CASE-20",), allowed=FIVE, asks=("r1,z1 | r1,z1",))),
        *on("n1", Case(name="none allowed", rows=("T-TABLE-01",), asks=("r1,z2 | r1,z2",))),
    ),
)

CLUSTER_C = Scene(
    name="cluster C",
    labels=C_LABELS,
    keys=C_KEYS,
    cases=(
        *on("n1", Case(name="C1", rows=("T-CASE-21", "T-REQ-03"), asks=("z1 z9 | z1 z9",))),
        *on("n2", Case(name="C2", rows=("T-CASE-22", "T-REQ-03"), asks=("r1,z1 r9,z9 | r1,z1 r9,z9",))),
        *(
            Case(
                name=f"C3, {claim}",
                rows=("T-CASE-23", "T-REQ-03"),
                claim=claim,
                # What it asked for first is what it asks for again.
                first="UNAVAILABLE",
                asks=("z1 z9 | z9 z1", "r1,z1 r9,z9 | r9,z9 r1,z1"),
                either=True,
            )
            # h is odd: of two places the second one is first.
            for claim in ("one-web-0", "two-web-0", "three-web-0", "four-web-0")
        ),
    ),
)


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
            rows=("T-ERROR-06", "T-REQ-05"),
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
            rows=("T-ERROR-07", "T-REQ-05"),
            asks=("a | a",),
            says=f"{PREFIX}topologyKeys [zone] were not found on any nodes",
        ),
    ),
)

_INACTIVE = (
    *on("n1", Case(name="selected node", rows=("T-REQ-13",), places=({"zone": "b"},), asks=("nothing",))),
    *on("n9", Case(name="CSINode missing", rows=("T-REQ-13",), asks=("nothing",))),
    Case(name="allowed places", rows=("T-REQ-13",), allowed=CA, asks=("nothing",)),
    *on("n1", Case(name="no room", rows=("T-REQ-13",), first="RESOURCE_EXHAUSTED", asks=("nothing",))),
)
GATE_OFF = Scene(
    name="gate off", labels=A_LABELS, keys=A_KEYS, flags=("--feature-gates=Topology=false",), cases=_INACTIVE
)
NO_PLACES = Scene(
    name="driver without places",
    labels=A_LABELS,
    keys=A_KEYS,
    plugin_capabilities=PLUGIN - {"VOLUME_ACCESSIBILITY_CONSTRAINTS"},
    cases=_INACTIVE,
)

_RUNNING = ("CANCELLED", "DEADLINE_EXCEEDED", "UNAVAILABLE", "ABORTED")
"""Statuses after which a volume may be in the making."""


def _with_status(status: str) -> tuple[Case, ...]:
    word = status.lower().replace("_", "-")
    is_kept, is_slow = status in _RUNNING, status == "INVALID_ARGUMENT"
    case = Case(
        name=word,
        rows=("T-LIFE-01",) if is_kept else ("T-LIFE-02",),
        first=status,
        says="as told",
        ends=has_failed if is_slow else has_volume,
    )
    # A wrong request is not repeated for minutes.
    count = 1 if is_kept or is_slow else 2
    return (
        replace(case, claim=f"{word}-web-0", asks=("a b c | a b c", "a b c d | b c d a")[:count]),
        replace(
            case,
            name=f"{word} with a node",
            claim=f"{word}-n1",
            node="n1",
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
    cases=tuple(case for status in Status if status is not Status.OK for case in _with_status(status.name)),
)

_CHANGES: Mapping[str, tuple[str, ...]] = {
    "rebooted": ("T-LIFE-07",),
    "both gone": ("T-LIFE-22",),
    "CSINode gone": ("T-LIFE-24",),
    "Node gone": ("T-LIFE-25",),
    "relabeled": ("T-LIFE-01",),
    "more keys": ("T-LIFE-01",),
    "other node": ("T-LIFE-01",),
    "other class": ("T-LIFE-01",),
}
"""What happens between two calls → rows of its being without consequence while a volume may be in the making."""


def _with_change(change: str, first: str) -> Case:
    word = f"{change.replace(' ', '-')}-{first}".lower()
    case = Case(name=f"{change} after {first}", rows=(), node=word, waits=True, first=first, says="as told")
    if first == "UNAVAILABLE":
        # Go asks anew about another class: nobody can say that this is as it should be.
        return replace(case, rows=_CHANGES[change], requests=0 if change == "other class" else 1)
    ends = {"both gone": is_given_up, "CSINode gone": is_given_up, "Node gone": has_failed}
    return replace(case, rows=("T-LIFE-02",), ends=ends.get(change, has_volume))


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
    await stage.notice()


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
    await stage.register("m1", ["zone"])
    await stage.label("m2", {"zone": "c"})
    await stage.add_node("m3", {"zone": "d"})
    await stage.select("csinode-missing", "n1")


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
    keys={"n1": ("zone",), "m1": None, "m2": ("zone",), "m3": ("zone",)},
    act=_nodes_come,
    cases=(
        Case(name="driver restarts", rows=("T-LIFE-05", "T-LIFE-10"), node="m1", waits=True, says="no topology key"),
        Case(name="not labeled yet", rows=("T-LIFE-05", "T-LIFE-13"), node="m2", waits=True, says="does not match"),
        Case(name="Node missing", rows=("T-LIFE-05", "T-LIFE-19"), node="m3", waits=True, says="does not match"),
        Case(name="CSINode missing", rows=("T-LIFE-04", "T-LIFE-16"), node="m9", waits=True, says="not found"),
    ),
)

SCENES = (
    CLUSTER_A,
    STRICT_A,
    SILENT_A,
    CLUSTER_B,
    STRICT_B,
    CLUSTER_C,
    NOBODY_REGISTERED,
    NOBODY_LABELED,
    GATE_OFF,
    NO_PLACES,
    STATUSES,
    _changing("changes between calls"),
    _changing("changes between calls, strict", STRICT),
    FEW_PLACES,
    LATE,
)


async def play_all(
    kube: KubeClient, commands: tuple[Words, Words], kubeconfig: Path, folder: Path, only: str = ""
) -> AsyncIterator[tuple[str, Sequence[str], list[str]]]:
    """Each play's name, its rows, and what differed; `commands` start ours and Go's."""
    await provisioner_stage.install_kinds(kube)
    for scene in SCENES:
        cases = tuple(case for case in scene.cases if only in f"{scene.name}: {case.name}")
        if not cases:
            continue
        ours, go = [await perform(replace(scene, cases=cases), kube, words, kubeconfig, folder) for words in commands]
        for case in cases:
            mine, theirs = ours[case.claim_name], go[case.claim_name]
            lines = [
                f"{who}: {line}" for who, did in (("ours", mine), ("Go  ", theirs)) for line in surprises(case, did)
            ]
            if case.either:
                mine, theirs = (replace(did, calls=[], objects={}) for did in (mine, theirs))
            yield f"{scene.name}: {case.name}", case.rows, [*lines, *provisioner_stage.differences(mine, theirs)]
