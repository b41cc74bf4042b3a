"""Accessibility requirements: terms, a class's allowedTopologies as terms, and what holds for any cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csisidecar.csi import Topology, TopologyRequirement
from csisidecar.plugins.provisioner.topology import (
    OneNode,
    Requirements,
    TopologyError,
    find_requirements,
    flatten,
    is_subset,
    normalize,
    sort_terms,
)
from tests.plugins.provisioner.clusters import Drawn, find, selector, shown

if TYPE_CHECKING:
    import random

NOTHING: list[dict[str, Any]] = [{"matchLabelExpressions": []}]
SHORT, LOW, HIGH = (("zone", "z1"),), (("rack", "r1"), ("zone", "z1")), (("rack", "r1"), ("zone", "z2"))


@pytest.mark.parity("T-TERM-01")
def test_pairs_of_a_term_are_sorted_by_key_and_then_by_value() -> None:
    assert normalize([("zone", "z2"), ("rack", "r9"), ("Zone", "z3"), ("zone", "z1")]) == (
        ("Zone", "z3"),
        ("rack", "r9"),
        ("zone", "z1"),
        ("zone", "z2"),
    )


@pytest.mark.parity("T-TERM-02")
def test_terms_are_sorted_by_length_and_then_pair_by_pair() -> None:
    other_key = (("row", "a"), ("zone", "z1"))
    assert sort_terms([other_key, HIGH, LOW, SHORT, ()]) == [(), SHORT, LOW, HIGH, other_key]


@pytest.mark.parity("T-TERM-03")
def test_only_exact_duplicates_fall_together() -> None:
    assert sort_terms([LOW, SHORT, LOW, SHORT]) == [SHORT, LOW]


@pytest.mark.parity("T-TERM-04")
def test_subset_needs_every_pair_with_its_value() -> None:
    assert is_subset((), SHORT)
    assert is_subset((), ())
    assert is_subset(SHORT, LOW)
    assert is_subset(LOW, LOW)
    assert not is_subset(LOW, SHORT)
    assert not is_subset(SHORT, HIGH)


@pytest.mark.parity("T-TERM-05")
def test_message_drops_terms_without_pairs() -> None:
    wanted = TopologyRequirement(requisite=[Topology(segments={"rack": "r1", "zone": "z1"})], preferred=[])
    assert Requirements(requisite=(LOW, ()), preferred=((),)).to_message() == wanted


@pytest.mark.parity("T-REQ-09")
def test_flattening_multiplies_out() -> None:
    assert flatten([selector(zone="z1,z2", rack="rA,rB")]) == [
        (("rack", "rA"), ("zone", "z1")),
        (("rack", "rA"), ("zone", "z2")),
        (("rack", "rB"), ("zone", "z1")),
        (("rack", "rB"), ("zone", "z2")),
    ]


@pytest.mark.parity("T-FLAT-01")
def test_entries_of_allowed_topologies_are_alternatives() -> None:
    assert flatten([selector(zone="z2"), selector(rack="r1", zone="z1"), selector(zone="z1")]) == [
        (("zone", "z2"),),
        LOW,
        SHORT,
    ]


@pytest.mark.parity("T-FLAT-02")
def test_entry_without_expressions_gives_no_term() -> None:
    assert flatten([*NOTHING, selector(zone="z1"), {}]) == [SHORT]
    assert flatten(NOTHING) == []


@pytest.mark.parity("T-FLAT-03")
def test_entries_that_overlap_are_sorted_and_made_distinct_in_requisite() -> None:
    overlapping = [selector(zone="z2,z1"), selector(zone="z1", rack="r1"), selector(zone="z1")]
    found = find(Drawn({}, {}), allowed=overlapping)
    assert found is not None
    assert found.requisite == (SHORT, (("zone", "z2"),), LOW)


@pytest.mark.parity("T-REQ-10", "T-QUIRK-01")
def test_expression_without_values_takes_back_what_came_before() -> None:
    none = {"key": "rack", "values": []}
    both = [{"key": "zone", "values": ["z1"]}, none]
    assert flatten([{"matchLabelExpressions": both}]) == []
    assert flatten([{"matchLabelExpressions": [*both, {"key": "row", "values": ["1"]}]}]) == [(("row", "1"),)]


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


KEYS = ("zone", "rack", "row")
VALUES = st.sampled_from("abcd")
LABELS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3)
NODES = st.dictionaries(st.sampled_from(["n0", "n1", "n2", "n3", "n4", "n5"]), LABELS, min_size=1)
SOME_KEYS = st.lists(st.sampled_from(KEYS), unique=True, max_size=3)
SELECTORS = st.dictionaries(st.sampled_from(KEYS), st.lists(VALUES, min_size=1, unique=True), max_size=3)
ALLOWED = st.lists(SELECTORS, max_size=3)
ASKINGS = st.fixed_dictionaries(
    {
        "name": st.text("ab-01", max_size=8).map(lambda text: f"c{text}"),
        "node": st.sampled_from(["", "n0", "n1"]),
        "strict": st.booleans(),
        "immediate": st.booleans(),
    }
)


def written(allowed: list[dict[str, list[str]]]) -> list[dict[str, Any]]:
    """As the class has them."""
    return [selector(**{key: ",".join(values) for key, values in entry.items()}) for entry in allowed]


def outcome(cluster: Drawn, allowed: list[dict[str, list[str]]], **asking: Any) -> Requirements | TopologyError | None:
    try:
        return find(cluster, allowed=written(allowed), **asking)
    except TopologyError as error:
        return error


def told(found: Requirements | TopologyError | None) -> Any:
    """What can be compared."""
    return type(found) if isinstance(found, TopologyError) else found


@pytest.mark.parity("T-REQ-11")
@given(NODES, SOME_KEYS, ALLOWED, ASKINGS, st.randoms(use_true_random=False))
def test_requirements_do_not_depend_on_any_order(
    nodes: dict[str, dict[str, str]],
    keys: list[str],
    allowed: list[dict[str, list[str]]],
    asking: dict[str, Any],
    shuffle: random.Random,
) -> None:
    """Neither of nodes, nor of keys in a CSINode, nor of entries, expressions and values in the class."""

    def mix(values: Any) -> list[Any]:
        return shuffle.sample(list(values), len(values))

    cluster = Drawn(dict.fromkeys(nodes, keys), nodes)
    mixed = Drawn(dict.fromkeys(mix(nodes), mix(keys)), {name: nodes[name] for name in mix(nodes)})
    mixed_allowed = mix([{key: mix(entry[key]) for key in mix(entry)} for entry in allowed])
    assert told(outcome(mixed, mixed_allowed, **asking)) == told(outcome(cluster, allowed, **asking))


@pytest.mark.parity("T-REQ-15")
@given(NODES, st.dictionaries(st.sampled_from(["n0", "n1", "n2"]), SOME_KEYS), ALLOWED, ASKINGS)
def test_preferred_is_requisite_in_the_same_round_and_each_place_is_there_once(
    nodes: dict[str, dict[str, str]],
    keys: dict[str, list[str]],
    allowed: list[dict[str, list[str]]],
    asking: dict[str, Any],
) -> None:
    """Nodes may disagree about their keys here, lack labels, or lack a CSINode."""
    found = outcome(Drawn(keys, nodes), allowed, **asking)
    if not isinstance(found, Requirements):
        return
    assert set(found.preferred) <= set(found.requisite)
    start = found.requisite.index(found.preferred[0])
    assert found.preferred == found.requisite[start:] + found.requisite[:start]
    assert list(found.requisite) == sort_terms(found.requisite)
    if asking["node"]:
        assert is_subset(found.preferred[0], normalize(nodes[asking["node"]].items()))


@pytest.mark.parity("T-REQ-12")
@given(NODES, SOME_KEYS, ALLOWED, ASKINGS)
def test_strict_never_widens(
    nodes: dict[str, dict[str, str]], keys: list[str], allowed: list[dict[str, list[str]]], asking: dict[str, Any]
) -> None:
    """What strictness allows was allowed without it, and what failed without it does not succeed with it."""
    cluster = Drawn(dict.fromkeys(nodes, keys), nodes)
    loose = outcome(cluster, allowed, **{**asking, "strict": False})
    strict = outcome(cluster, allowed, **{**asking, "strict": True})
    if not isinstance(loose, Requirements):
        assert strict is None or isinstance(strict, TopologyError)
        return
    if not asking["node"]:
        assert strict == loose
        return
    assert isinstance(strict, Requirements)
    assert len(strict.requisite) == 1
    assert all(any(is_subset(wide, narrow) for wide in loose.requisite) for narrow in strict.requisite)


@pytest.mark.parity("T-REQ-16")
@given(NODES, SOME_KEYS, ASKINGS)
def test_without_allowed_topologies_requisite_is_every_place_that_a_node_has(
    nodes: dict[str, dict[str, str]], keys: list[str], asking: dict[str, Any]
) -> None:
    found = outcome(Drawn(dict.fromkeys(nodes, keys), nodes), [], **{**asking, "strict": False})
    if not isinstance(found, Requirements):
        return
    places = [{key: labels[key] for key in keys} for labels in nodes.values() if set(keys) <= set(labels)]
    assert all(dict(term) in places for term in found.requisite)
    assert all(place in [dict(term) for term in found.requisite] for place in places)


@pytest.mark.parity("T-TABLE-10")
@given(NODES, SOME_KEYS, ALLOWED, ASKINGS)
def test_strict_needs_a_node_and_immediate_needs_none(
    nodes: dict[str, dict[str, str]], keys: list[str], allowed: list[dict[str, list[str]]], asking: dict[str, Any]
) -> None:
    cluster = Drawn(dict.fromkeys(nodes, keys), nodes)
    without_effect = "immediate" if asking["node"] else "strict"
    one, other = (outcome(cluster, allowed, **{**asking, without_effect: flag}) for flag in (True, False))
    assert told(one) == told(other)
