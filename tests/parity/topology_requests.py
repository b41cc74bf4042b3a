"""Scenes of what a driver is asked for: each worked example, each error, each answer; nothing changes meanwhile."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.parity.topology_stage import (
    PLUGIN,
    Case,
    Scene,
    has_failed,
    has_tried,
    is_given_up,
    is_idle,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OLD_SELECTED = "volume.alpha.kubernetes.io/selected-node"
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
Z1 = ({"zone": "z1"},)
BOTH = ({"zone": "z2,z1"},)
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
    labels={**A_LABELS, "n5": {}, "n6": {}, "n7": {"rack": "r"}, "n9": {}},
    keys={**A_KEYS, "n5": None, "n6": (), "n7": ("zone",), "n8": ("zone",)},
    cases=(
        Case(name="A1", rows=("T-CASE-01", "T-TABLE-08", "T-REQ-01"), claim="data-web-0", asks=("a b c | a b c",)),
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
                rows=("T-CASE-11", "T-TABLE-06", "T-ERROR-10", "T-REQ-04"),
                allowed=CA,
                asks=(),
                says=f'{PREFIX}topology [{{zone b}}] from selected node "n1" is not in requisite',
                ends=has_failed,
            ),
        ),
        Case(
            name="places that do not exist",
            rows=("T-REQ-06", "T-TABLE-07"),
            claim="data-web-3",
            allowed=({"zone": "x"}, {"room": "y"}),
            asks=("y x | y x",),
        ),
        Case(name="no consumer", rows=("T-REQ-01",), waits=True, asks=(), ends=is_idle),
        Case(
            name="old annotation, immediate",
            rows=("T-REQ-01",),
            node="n1",
            annotation=OLD_SELECTED,
        ),
        Case(
            name="old annotation",
            rows=("T-REQ-01",),
            waits=True,
            node="n1",
            annotation=OLD_SELECTED,
            ends=is_idle,
        ),
        Case(
            name="CSINode missing",
            rows=("T-ERROR-01", "T-LIFE-16", "T-REQ-05"),
            waits=True,
            node="n9",
            asks=(),
            says=NODE_GONE,
            ends=is_given_up,
        ),
        Case(
            name="CSINode missing, immediate",
            rows=("T-ERROR-01", "T-LIFE-16"),
            claim="gone-web-0",
            node="n9",
            asks=("a b c | a b c",),
            says=NODE_GONE,
        ),
        Case(
            name="node gone",
            rows=("T-ERROR-11",),
            waits=True,
            node="n0",
            asks=(),
            says=NODE_GONE.replace("n9", "n0"),
            ends=is_given_up,
        ),
        *(
            case
            for name, node, rows, says in (
                ("driver missing", "n5", ("T-ERROR-03", "T-REQ-05"), "no topology key found for node n5"),
                ("no keys", "n6", ("T-ERROR-04", "T-REQ-05"), "no topology key found for node n6"),
                (
                    "label missing",
                    "n7",
                    ("T-ERROR-06", "T-REQ-05"),
                    "topology labels from selected node map[rack:r] does not match topology keys from CSINode [zone]",
                ),
                (
                    "Node missing",
                    "n8",
                    ("T-ERROR-05", "T-REQ-05"),
                    "topology labels from selected node map[] does not match topology keys from CSINode [zone]",
                ),
            )
            for case in on(node, Case(name=name, rows=rows, asks=(), says=PREFIX + says, ends=has_failed))
        ),
        Case(
            name="no room",
            rows=("T-LIFE-28", "T-LIFE-03"),
            waits=True,
            node="n1",
            first="RESOURCE_EXHAUSTED",
            asks=("a b c | b c a",),
            ends=is_given_up,
        ),
        Case(
            name="no room, immediate",
            rows=("T-LIFE-28", "T-LIFE-03"),
            claim="full-web-0",
            node="n1",
            first="RESOURCE_EXHAUSTED",
            asks=("a b c | b c a", "a b c | a b c"),
        ),
        Case(
            name="no room, old annotation",
            rows=("T-LIFE-29",),
            node="n1",
            annotation=OLD_SELECTED,
            first="RESOURCE_EXHAUSTED",
            asks=("a b c | b c a",),
        ),
        Case(
            name="no room without a node",
            rows=("T-LIFE-29", "T-LIFE-03"),
            claim="lone-web-0",
            first="RESOURCE_EXHAUSTED",
            asks=("a b c | a b c",),
        ),
        *(
            case
            for name, rows, places in (
                (
                    "answer from elsewhere",
                    ("T-AFFINITY-02", "T-AFFINITY-07", "T-REQ-14"),
                    ({"zone": "q", "row": "unasked"},),
                ),
                ("answer without places", ("T-AFFINITY-04",), ()),
                (
                    "answer of several places",
                    ("T-AFFINITY-01", "T-AFFINITY-02"),
                    ({"zone": "c"}, {"zone": "a", "rack": "r"}, {"zone": "b"}),
                ),
                ("answer with an empty place", ("T-AFFINITY-03",), ({"zone": "c"}, {}, {"zone": "a"})),
            )
            for case in on("n1", Case(name=name, rows=rows, places=places))
        ),
        Case(name="answer of an empty place", rows=("T-QUIRK-04",), places=({},), ends=has_tried),
    ),
)

STARTS = {
    # No API server takes the capital letter and the dash at the end that two of the rows have.
    "T-START-01": ("testpvca-testset-1", 0, 0),
    "T-START-02": ("testset-2", 1, 1),
    "T-START-03": ("testpvc", 2, 2),
    "T-START-04": ("data-web-0", 0, 1),
    "T-START-05": ("data-web-1", 1, 2),
    "T-START-06": ("data-web-2", 2, 3),
    "T-START-07": ("my-claim", 0, 0),
    "T-START-08": ("a-007", 0, 1),
    "T-START-10": ("pvc-4294967295", 0, 1),
    "T-START-11": ("data-web-4294967295", 2, 0),
    "T-START-12": ("pvc-4294967296", 1, 1),
    "T-START-15": ("logs-web-1", 1, 2),
}
"""Row → name of a claim, and where it starts among three and four places."""


def _starts(zones: str) -> Scene:
    cases = []
    for row, (claim, of_three, of_four) in STARTS.items():
        first = of_three if len(zones) == 3 else of_four
        asks = f"{' '.join(zones)} | {' '.join(zones[first:] + zones[:first])}"
        cases.append(Case(name=claim, rows=(row,), claim=claim, asks=(asks,)))
    nodes = [f"n{zone}" for zone in zones]
    return Scene(
        name=f"{len(zones)} places",
        labels={node: {"zone": node[1:]} for node in nodes},
        keys=dict.fromkeys(nodes, ("zone",)),
        cases=tuple(cases),
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
                rows=("T-CASE-12", "T-TABLE-03", "T-ERROR-07", "T-REQ-04"),
                allowed=CA,
                asks=(),
                says=f"{PREFIX}selected node '\"n1\"' topology '[{{zone b}}]' is not in allowed topologies: [",
                ends=has_failed,
            ),
        ),
        Case(name="no node", rows=("T-REQ-01", "T-TABLE-10"), claim="data-web-1", asks=("a b c | b c a",)),
        Case(
            name="allowed, no node",
            rows=("T-TABLE-07", "T-TABLE-10"),
            claim="data-web-0",
            allowed=CA,
            asks=("a c | c a",),
        ),
        Case(name="CSINode missing", rows=("T-ERROR-01",), waits=True, node="n9", says=NODE_GONE, ends=is_given_up),
    ),
)

SILENT_A = Scene(
    name="cluster A, nothing said by default",
    labels=A_LABELS,
    keys=A_KEYS,
    flags=(SILENT,),
    cases=(
        Case(name="A5", rows=("T-CASE-05", "T-TABLE-09"), asks=("nothing",)),
        Case(name="A8", rows=("T-CASE-08", "T-TABLE-07"), claim="data-web-1", allowed=CA, asks=("a c | a c",)),
        *on("n1", Case(name="with a node", rows=("T-TABLE-04", "T-TABLE-10"), asks=("a b c | b c a",))),
    ),
)

CLUSTER_B = Scene(
    name="cluster B",
    labels=B_LABELS,
    keys=B_KEYS,
    cases=(
        *on(
            "n1",
            Case(
                name="B1", rows=("T-CASE-15", "T-TABLE-04", "T-REQ-02"), asks=("r1,z1 r1,z2 r2,z1 | r1,z2 r2,z1 r1,z1",)
            ),
        ),
        *on(
            "n1",
            Case(
                name="B2",
                rows=("T-CASE-16", "T-REQ-09"),
                allowed=FOUR,
                asks=("r1,z1 r1,z2 r2,z1 r2,z2 | r1,z2 r2,z1 r2,z2 r1,z1",),
            ),
        ),
        *on("n1", Case(name="two allowed", rows=("T-TABLE-05",), allowed=BOTH, asks=("z1 z2 | z2 z1",))),
        *on(
            "n1",
            Case(
                name="outside",
                rows=("T-TABLE-06",),
                allowed=Z1,
                asks=(),
                says=f'{PREFIX}topology [{{rack r1}} {{zone z2}}] from selected node "n1" is not in requisite: [',
                ends=has_failed,
            ),
        ),
        Case(name="no node", rows=("T-TABLE-07",), claim="data-web-0", allowed=BOTH, asks=("z1 z2 | z2 z1",)),
        Case(
            name="nothing given",
            rows=("T-TABLE-08",),
            claim="logs-web-1",
            asks=("r1,z1 r1,z2 r2,z1 | r1,z2 r2,z1 r1,z1",),
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
        *on("n2", Case(name="within", rows=("T-TABLE-02",), allowed=Z1, asks=("r1,z1 | r1,z1",))),
        *on(
            "n1",
            Case(
                name="outside",
                rows=("T-TABLE-03",),
                allowed=Z1,
                asks=(),
                says="topology '[{rack r1} {zone z2}]' is not in allowed topologies: [[{zone z1}]]",
                ends=has_failed,
            ),
        ),
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


def _inactive(*rows: str) -> tuple[Case, ...]:
    return (
        *on("n1", Case(name="selected node", rows=rows, places=({"zone": "b"},), asks=("nothing",))),
        *on("n9", Case(name="CSINode missing", rows=rows, asks=("nothing",))),
        Case(name="allowed places", rows=rows, allowed=CA, asks=("nothing",)),
        *on("n1", Case(name="no room", rows=(*rows, "T-LIFE-29"), first="RESOURCE_EXHAUSTED", asks=("nothing",))),
    )


GATE_OFF = Scene(
    name="gate off",
    labels=A_LABELS,
    keys=A_KEYS,
    flags=("--feature-gates=Topology=false",),
    cases=_inactive("T-REQ-13", "T-AFFINITY-05"),
)
NO_PLACES = Scene(
    name="driver without places",
    labels=A_LABELS,
    keys=A_KEYS,
    plugin_capabilities=PLUGIN - {"VOLUME_ACCESSIBILITY_CONSTRAINTS"},
    cases=_inactive("T-REQ-13", "T-AFFINITY-06"),
)

EBS = "ebs.csi.aws.com"
EBS_KEY = "topology.ebs.csi.aws.com/zone"
MIGRATED = Scene(
    name="in-tree class",
    driver=EBS,
    provisioner="kubernetes.io/aws-ebs",
    labels={node: {EBS_KEY: f"us-east-1{zone['zone']}"} for node, zone in A_LABELS.items()},
    keys=dict.fromkeys(A_LABELS, (EBS_KEY,)),
    cases=(
        *on(
            "n3",
            Case(
                name="allowed places",
                rows=("T-AFFINITY-08",),
                allowed=({"topology.kubernetes.io/zone": "us-east-1c,us-east-1a"},),
                asks=("us-east-1a us-east-1c | us-east-1c us-east-1a",),
            ),
        ),
        Case(
            name="no node",
            rows=("T-AFFINITY-08",),
            claim="data-web-1",
            asks=("us-east-1a us-east-1b us-east-1c | us-east-1b us-east-1c us-east-1a",),
        ),
    ),
)


SCENES = (
    _starts("abc"),
    _starts("abcd"),
    CLUSTER_A,
    STRICT_A,
    SILENT_A,
    CLUSTER_B,
    STRICT_B,
    CLUSTER_C,
    GATE_OFF,
    NO_PLACES,
    MIGRATED,
)
