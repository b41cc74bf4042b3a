"""Accessibility requirements: worked clusters, the hash table, the errors, and what holds for any cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csisidecar.csi import Topology, TopologyRequirement
from csisidecar.errors import UnusableObjectError
from csisidecar.plugins.provisioner.topology import (
    OneNode,
    Requirements,
    Term,
    TopologyError,
    find_requirements,
    flatten,
    fnv1_32,
    is_subset,
    is_volume_here,
    normalize,
    sort_terms,
    split_claim_name,
    start_offset,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True)
class Drawn:
    """A cluster written down: node → keys, node → labels."""

    keys: Mapping[str, Sequence[str]]
    labels: Mapping[str, Mapping[str, str]]

    def find_keys(self, node: str) -> Sequence[str] | None:
        return self.keys.get(node)

    def all_keys(self) -> Iterable[Sequence[str]]:
        return list(self.keys.values())

    def find_labels(self, node: str) -> Mapping[str, str] | None:
        return self.labels.get(node)

    def all_labels(self) -> Iterable[Mapping[str, str]]:
        return list(self.labels.values())


A = Drawn(
    keys=dict.fromkeys(("n1", "n2", "n3", "n4"), ("zone",)),
    labels={"n1": {"zone": "b"}, "n2": {"zone": "a"}, "n3": {"zone": "c"}, "n4": {"zone": "a"}},
)
B = Drawn(
    keys=dict.fromkeys(("n1", "n2", "n3"), ("zone", "rack")),
    labels={
        "n1": {"zone": "z2", "rack": "r1"},
        "n2": {"zone": "z1", "rack": "r1"},
        "n3": {"zone": "z1", "rack": "r2"},
    },
)
C = Drawn(
    keys={"n1": ("zone",), "n2": ("zone", "rack")},
    labels={"n1": {"zone": "z1"}, "n2": {"zone": "z1", "rack": "r1"}, "n5": {"zone": "z9", "rack": "r9"}},
)


def selector(**values: str) -> dict[str, Any]:
    """``zone="a,b"``: one selector, every keyword must match one of its values."""
    return {"matchLabelExpressions": [{"key": key, "values": text.split(",")} for key, text in values.items()]}


def find(
    cluster: Drawn,
    name: str = "claim",
    *,
    node: str = "",
    allowed: Sequence[Mapping[str, Any]] | None = None,
    strict: bool = False,
    immediate: bool = True,
) -> Requirements | None:
    return find_requirements(
        cluster,
        claim_name=name,
        allowed_topologies=allowed,
        selected_node=node,
        strict=strict,
        immediate=immediate,
    )


def shown(requirements: Requirements | None) -> tuple[str, str] | None:
    """Requisite and preferred as ``r1,z1 r1,z2``: values only, in the order of their keys."""

    def text(terms: Sequence[Term]) -> str:
        return " ".join(",".join(value for _, value in term) for term in terms)

    return None if requirements is None else (text(requirements.requisite), text(requirements.preferred))


CA = [selector(zone="c,a")]
EMPTY: list[dict[str, Any]] = [{"matchLabelExpressions": []}]

CLUSTER_A: list[tuple[str, dict[str, Any], tuple[str, str] | None]] = [
    ("A1", {"name": "data-web-0"}, ("a b c", "a b c")),
    ("A2", {"name": "data-web-1"}, ("a b c", "b c a")),
    ("A3", {"name": "data-web-2"}, ("a b c", "c a b")),
    ("A3 other template", {"name": "logs-web-2"}, ("a b c", "c a b")),
    ("A4", {"name": "pvc-4294967296"}, ("a b c", "b c a")),
    ("A5", {"immediate": False}, None),
    ("A6", {"node": "n1"}, ("a b c", "b c a")),
    ("A7", {"node": "n1", "strict": True}, ("b", "b")),
    ("A8", {"name": "data-web-1", "allowed": CA, "immediate": False}, ("a c", "a c")),
    ("A9", {"node": "n3", "allowed": CA}, ("a c", "c a")),
    ("A10", {"node": "n3", "allowed": CA, "strict": True}, ("c", "c")),
    ("A13 no node", {"allowed": EMPTY}, None),
    ("A13 node", {"node": "n1", "allowed": EMPTY}, None),
]


@pytest.mark.parity("P-PLACE-01", "T-REQ-01")
@pytest.mark.parametrize(("given_", "wanted"), [row[1:] for row in CLUSTER_A], ids=[row[0] for row in CLUSTER_A])
def test_cluster_a(given_: dict[str, Any], wanted: tuple[str, str] | None) -> None:
    assert shown(find(A, **given_)) == wanted


E7 = 'topology [{zone b}] from selected node "n1" is not in requisite: [[{zone a}] [{zone c}]]'
E4 = "selected node '\"n1\"' topology '[{zone b}]' is not in allowed topologies: [[{zone c}] [{zone a}]]"


@pytest.mark.parity("T-REQ-04")
@pytest.mark.parametrize(
    ("given_", "text"),
    [
        pytest.param({"allowed": CA}, E7, id="A11"),
        pytest.param({"allowed": CA, "strict": True}, E4, id="A12"),
        pytest.param(
            {"allowed": EMPTY, "strict": True},
            "selected node '\"n1\"' topology '[{zone b}]' is not in allowed topologies: []",
            id="A14",
        ),
    ],
)
def test_cluster_a_refusals(given_: dict[str, Any], text: str) -> None:
    with pytest.raises(TopologyError) as caught:
        find(A, node="n1", **given_)
    assert str(caught.value) == text
    assert not caught.value.is_node_gone


FOUR = [selector(zone="z1,z2", rack="r1,r2")]
FIVE = [selector(zone="z1"), *FOUR]

CLUSTER_B: list[tuple[str, dict[str, Any], tuple[str, str]]] = [
    ("B1", {"node": "n1"}, ("r1,z1 r1,z2 r2,z1", "r1,z2 r2,z1 r1,z1")),
    ("B2", {"node": "n1", "allowed": FOUR}, ("r1,z1 r1,z2 r2,z1 r2,z2", "r1,z2 r2,z1 r2,z2 r1,z1")),
    ("B3", {"name": "data-web-1", "allowed": FOUR}, ("r1,z1 r1,z2 r2,z1 r2,z2", "r2,z1 r2,z2 r1,z1 r1,z2")),
    ("B4", {"node": "n2", "allowed": FIVE}, ("z1 r1,z1 r1,z2 r2,z1 r2,z2", "z1 r1,z1 r1,z2 r2,z1 r2,z2")),
    ("B5", {"node": "n1", "allowed": FIVE}, ("z1 r1,z1 r1,z2 r2,z1 r2,z2", "r1,z2 r2,z1 r2,z2 z1 r1,z1")),
    ("B6", {"node": "n2", "allowed": FIVE, "strict": True}, ("r1,z1", "r1,z1")),
]


@pytest.mark.parity("T-REQ-02")
@pytest.mark.parametrize(("given_", "wanted"), [row[1:] for row in CLUSTER_B], ids=[row[0] for row in CLUSTER_B])
@pytest.mark.parametrize("keys", [("zone", "rack"), ("rack", "zone")])
def test_cluster_b_whatever_the_order_of_keys(
    given_: dict[str, Any], wanted: tuple[str, str], keys: Sequence[str]
) -> None:
    assert shown(find(Drawn(dict.fromkeys(B.keys, keys), B.labels), **given_)) == wanted


@pytest.mark.parity("T-REQ-03")
def test_cluster_c_nodes_with_other_keys() -> None:
    one, two = find(C, node="n1"), find(C, node="n2")
    assert shown(one) == ("z1 z9", "z1 z9")
    assert shown(two) == ("r1,z1 r9,z9", "r1,z1 r9,z9")
    assert one is not None
    assert two is not None
    picked = {find(C).requisite for _ in range(64)}  # type: ignore[union-attr]
    assert picked == {one.requisite, two.requisite}


@pytest.mark.parity("T-REQ-05")
@pytest.mark.parametrize(
    ("cluster", "given_", "text", "is_node_gone"),
    [
        pytest.param(
            A,
            {"node": "n9"},
            'failed to get selected CSINode n9: csinode.storage.k8s.io "n9" not found',
            True,
            id="E1",
        ),
        pytest.param(Drawn({"n1": ()}, A.labels), {"node": "n1"}, "no topology key found for node n1", False, id="E2"),
        pytest.param(
            Drawn(A.keys, {}),
            {"node": "n1"},
            "topology labels from selected node map[] does not match topology keys from CSINode [zone]",
            False,
            id="E3 no Node",
        ),
        pytest.param(
            Drawn({"n1": ("zone", "rack")}, {"n1": {"zone": "b", "a": "1"}}),
            {"node": "n1"},
            "topology labels from selected node map[a:1 zone:b] does not match topology keys from CSINode [zone rack]",
            False,
            id="E3 label missing",
        ),
        pytest.param(Drawn({"n1": ()}, A.labels), {}, "no available topology found", False, id="E5"),
        pytest.param(Drawn({}, {}), {}, "no available topology found", False, id="E5 no nodes"),
        pytest.param(
            Drawn(A.keys, {"n1": {"other": "b"}}),
            {},
            "topologyKeys [zone] were not found on any nodes",
            False,
            id="E6",
        ),
    ],
)
def test_errors(cluster: Drawn, given_: dict[str, Any], text: str, is_node_gone: bool) -> None:
    with pytest.raises(TopologyError) as caught:
        find(cluster, **given_)
    assert str(caught.value) == text
    assert caught.value.is_node_gone is is_node_gone


@pytest.mark.parity("T-REQ-06")
def test_allowed_topologies_without_a_node_ask_no_node() -> None:
    assert shown(find(Drawn({}, {}), "data-web-0", allowed=[selector(zone="nowhere")])) == ("nowhere", "nowhere")


HASHES = [
    ("testpvcA-testset-1", "testset", 1633848515, 1, 0, 0),
    ("testset-2", "testset", 1633848515, 2, 1, 1),
    ("testpvc", "testpvc", 1684622678, 0, 2, 2),
    ("data-web-0", "web", 1181096325, 0, 0, 1),
    ("data-web-1", "web", 1181096325, 1, 1, 2),
    ("logs-web-1", "web", 1181096325, 1, 1, 2),
    ("web-1", "web", 1181096325, 1, 1, 2),
    ("data-web-2", "web", 1181096325, 2, 2, 3),
    ("my-claim", "my-claim", 2574695748, 0, 0, 0),
    ("a-007", "a", 84696446, 7, 0, 1),
    ("x-", "x-", 1500973320, 0, 0, 0),
    ("pvc-4294967295", "pvc", 964120306, 4294967295, 0, 1),
    ("data-web-4294967295", "web", 1181096325, 4294967295, 2, 0),
    ("pvc-4294967296", "pvc-4294967296", 135142369, 0, 1, 1),
]


@pytest.mark.parity("T-REQ-07")
@pytest.mark.parametrize(("name", "text", "value", "index", "of_three", "of_four"), HASHES)
def test_start_is_read_from_the_claims_name(
    name: str, text: str, value: int, index: int, of_three: int, of_four: int
) -> None:
    assert split_claim_name(name) == (text, index)
    assert fnv1_32(text) == value
    assert (start_offset(name, 3), start_offset(name, 4)) == (of_three, of_four)


def test_hash_of_nothing() -> None:
    assert fnv1_32("") == 2166136261
    assert start_offset("", 3) in range(3)


@pytest.mark.parity("T-REQ-08")
@pytest.mark.parametrize("name", ["web-+1", "web-1_0", "web- 1", "web-\u0661", "web-\u00b2", "web--"])
def test_what_python_reads_as_a_number_and_go_does_not_counts_as_text(name: str) -> None:
    assert split_claim_name(name) == (name, 0)


@pytest.mark.parity("T-REQ-09")
def test_flattening_multiplies_out() -> None:
    assert flatten([selector(zone="z1,z2", rack="rA,rB")]) == [
        (("rack", "rA"), ("zone", "z1")),
        (("rack", "rA"), ("zone", "z2")),
        (("rack", "rB"), ("zone", "z1")),
        (("rack", "rB"), ("zone", "z2")),
    ]
    assert flatten([*EMPTY, selector(zone="z1")]) == [(("zone", "z1"),)]


@pytest.mark.parity("T-REQ-10")
def test_expression_without_values_takes_back_what_came_before() -> None:
    none = {"key": "rack", "values": []}
    both = [{"key": "zone", "values": ["z1"]}, none]
    assert flatten([{"matchLabelExpressions": both}]) == []
    assert flatten([{"matchLabelExpressions": [*both, {"key": "row", "values": ["1"]}]}]) == [(("row", "1"),)]


def test_terms_are_ordered_by_length_first() -> None:
    short, low, high = (("zone", "z1"),), (("rack", "r1"), ("zone", "z1")), (("rack", "r1"), ("zone", "z2"))
    assert sort_terms([high, low, short, low]) == [short, low, high]
    assert is_subset((), short)
    assert is_subset(short, low)
    assert not is_subset(short, high)


def test_message_drops_terms_without_pairs() -> None:
    wanted = TopologyRequirement(requisite=[Topology(segments={"zone": "a"})], preferred=[])
    assert Requirements(requisite=((("zone", "a"),), ()), preferred=((),)).to_message() == wanted


def test_a_node_of_its_own_is_a_cluster() -> None:
    here = OneNode(name="n1", segments={"zone": "b", "rack": "r"})
    requirements = find_requirements(
        here, claim_name="c", allowed_topologies=None, selected_node="n1", strict=False, immediate=False
    )
    assert shown(requirements) == ("r,b", "r,b")
    with pytest.raises(TopologyError, match="no topology key found for node n1"):
        find_requirements(
            OneNode(name="n1", segments={}),
            claim_name="c",
            allowed_topologies=None,
            selected_node="n1",
            strict=True,
            immediate=True,
        )
    assert here.find_keys("n2") is None
    assert here.find_labels("n2") is None


VALUES = st.sampled_from(["a", "b", "c", "d"])
LABELS = st.dictionaries(st.sampled_from(["zone", "rack", "row"]), VALUES, max_size=3)
CLUSTERS = st.lists(LABELS, min_size=1, max_size=6)


@pytest.mark.parity("T-REQ-11")
@given(CLUSTERS, st.randoms(use_true_random=False), st.text("ab-01", min_size=1, max_size=8))
def test_requirements_do_not_depend_on_the_order_of_nodes(
    labels: list[dict[str, str]], shuffle: random.Random, name: str
) -> None:
    def seen(nodes: list[dict[str, str]]) -> Requirements | str | None:
        drawn = {f"n{number}": node for number, node in enumerate(nodes)}
        try:
            return find(Drawn({"n0": ("zone", "rack")}, drawn), name)
        except TopologyError as error:
            return str(error)

    other = list(labels)
    shuffle.shuffle(other)
    assert seen(labels) == seen(other)


@pytest.mark.parity("T-REQ-12")
@given(CLUSTERS, st.booleans(), st.booleans(), st.lists(st.sets(VALUES, min_size=1), max_size=2))
def test_preferred_is_a_rotation_and_strict_never_widens(
    labels: list[dict[str, str]], has_node: bool, immediate: bool, zones: list[set[str]]
) -> None:
    nodes = {f"n{number}": node for number, node in enumerate(labels)}
    cluster = Drawn(dict.fromkeys(nodes, ("zone",)), nodes)
    allowed = [selector(zone=",".join(sorted(values))) for values in zones]

    def ask(*, strict: bool) -> Requirements | None:
        return find(cluster, node="n0" if has_node else "", allowed=allowed, immediate=immediate, strict=strict)

    try:
        loose = ask(strict=False)
    except TopologyError:
        return
    strict = ask(strict=True)
    if loose is None:
        assert strict is None
        return
    assert strict is not None
    for found in (loose, strict):
        assert sorted(found.preferred) == sorted(found.requisite)
        start = found.requisite.index(found.preferred[0])
        assert found.preferred == found.requisite[start:] + found.requisite[:start]
    assert all(any(is_subset(wide, term) for wide in loose.requisite) for term in strict.requisite)
    if has_node:
        assert is_subset(loose.preferred[0], normalize(labels[0].items()))


HERE = {"zone": "a", "size": "5", "name": "x"}


def affinity(*terms: Any) -> dict[str, Any]:
    return {"required": {"nodeSelectorTerms": list(terms)}}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


def term(*expressions: dict[str, Any]) -> dict[str, Any]:
    return {"matchExpressions": list(expressions)}


@pytest.mark.parity("T-NODE-11")
@pytest.mark.parametrize(
    ("given_", "wanted"),
    [
        (None, True),
        ({}, True),
        (affinity(), False),
        (affinity({}), False),
        (affinity({}, term(expression("zone", "In", "a"))), True),
        (affinity(term(expression("zone", "In", "b", "a"))), True),
        (affinity(term(expression("zone", "In", "b"))), False),
        (affinity(term(expression("zone", "In", "a"), expression("rack", "In", "r"))), False),
        (affinity(term(expression("zone", "NotIn", "b"), expression("rack", "NotIn", "r"))), True),
        (affinity(term(expression("zone", "NotIn", "a"))), False),
        (affinity(term(expression("zone", "Exists"), expression("rack", "DoesNotExist"))), True),
        (affinity(term(expression("rack", "Exists"))), False),
        (affinity(term(expression("size", "Gt", "4"), expression("size", "Lt", "6"))), True),
        (affinity(term(expression("size", "Gt", "5"))), False),
        (affinity(term(expression("name", "Gt", "5"))), False),
        (affinity({"matchFields": [expression("metadata.name", "In", "other")]}), True),
        (affinity(term(expression("zone", "Near", "a")), term(expression("zone", "In", "a"))), True),
    ],
)
def test_a_volume_is_here_if_its_affinity_fits(given_: dict[str, Any] | None, wanted: bool) -> None:
    assert is_volume_here(given_, HERE) is wanted


@pytest.mark.parametrize(
    "bad", [expression("zone", "Near", "a"), expression("zone", "In"), expression("size", "Gt", "many")]
)
def test_affinity_that_cannot_be_read_is_an_error_unless_another_term_fits(bad: dict[str, Any]) -> None:
    with pytest.raises(UnusableObjectError, match="node affinity cannot be read"):
        is_volume_here(affinity(term(bad)), HERE)
    assert is_volume_here(affinity(term(bad), term(expression("zone", "In", "a"))), HERE)


def test_without_topology_of_its_own_a_node_has_every_volume() -> None:
    assert is_volume_here(affinity(term(expression("zone", "In", "b"))), None)
