"""Accessibility requirements: terms, a class's allowedTopologies as terms, and what holds for any cluster."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
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
        here,
        claim_name="c",
        class_name="fast",
        allowed_topologies=None,
        selected_node="n1",
        strict=False,
        immediate=False,
    )
    assert shown(requirements) == ("r,b", "r,b")
    with pytest.raises(TopologyError, match="no topology key found for node n1"):
        find_requirements(
            OneNode(name="n1", segments={}),
            claim_name="c",
            class_name="fast",
            allowed_topologies=None,
            selected_node="n1",
            strict=True,
            immediate=True,
        )
    assert here.find_keys("n2") is None
    assert here.find_labels("n2") is None


KEYS = ("zone", "rack")
VALUES = st.sampled_from("abc")
EVERY_LABEL = st.fixed_dictionaries(dict.fromkeys(KEYS, VALUES))
LABELS = st.one_of(EVERY_LABEL, EVERY_LABEL, EVERY_LABEL, st.dictionaries(st.sampled_from(KEYS), VALUES))
SOME_KEYS = st.sampled_from([("zone",), ("rack",), ("zone", "rack"), ("zone", "rack"), ()])
ENTRIES = st.dictionaries(st.sampled_from(KEYS), st.lists(VALUES, min_size=1, max_size=2, unique=True), max_size=2)

Allowed = list[dict[str, list[str]]]
OFTEN = settings(max_examples=300, deadline=None)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A cluster, and what is asked of it."""

    nodes: dict[str, dict[str, str]]
    keys: dict[str, tuple[str, ...]]
    allowed: Allowed
    name: str
    node: str
    strict: bool
    immediate: bool

    def answer(self) -> Requirements | type[TopologyError] | None:
        """The requirements, or that there is an error."""
        try:
            return find(
                Drawn(self.keys, self.nodes),
                self.name,
                node=self.node,
                allowed=[selector(**{key: ",".join(found) for key, found in entry.items()}) for entry in self.allowed],
                strict=self.strict,
                immediate=self.immediate,
            )
        except TopologyError:
            return TopologyError


@st.composite
def askings(draw: st.DrawFn, *, nodes_agree: bool = True) -> Asked:
    """Nodes that agree have the same keys; those that do not may lack a CSINode too. Most have all labels."""
    names = [f"n{number}" for number in range(draw(st.integers(1, 6)))]
    nodes = {name: draw(LABELS) for name in names}
    if nodes_agree:
        keys = dict.fromkeys(names, draw(SOME_KEYS))
    else:
        keys = {name: draw(SOME_KEYS) for name in names if draw(st.booleans())}
    return Asked(
        nodes=nodes,
        keys=keys,
        allowed=draw(st.lists(ENTRIES, max_size=3)),
        name=f"c{draw(st.text('ab-01', max_size=8))}",
        node=draw(st.sampled_from(["", *names])),
        strict=draw(st.booleans()),
        immediate=draw(st.booleans()),
    )


@pytest.mark.parity("T-REQ-11")
@OFTEN
@given(askings(), st.integers(0, 10**9))
def test_requirements_do_not_depend_on_any_order(asked: Asked, seed: int) -> None:
    """Neither of nodes, nor of keys in a CSINode, nor of entries, expressions and values in the class."""
    shuffle = random.Random(seed)

    def mix(values: Any) -> list[Any]:
        return shuffle.sample(list(values), len(values))

    mixed = replace(
        asked,
        nodes={name: asked.nodes[name] for name in mix(asked.nodes)},
        keys={name: tuple(mix(asked.keys[name])) for name in mix(asked.keys)},
        allowed=mix([{key: mix(entry[key]) for key in mix(entry)} for entry in asked.allowed]),
    )
    assert mixed.answer() == asked.answer()


@pytest.mark.parity("T-REQ-15")
@OFTEN
@given(askings(nodes_agree=False))
def test_preferred_is_requisite_in_the_same_round_and_each_place_is_there_once(asked: Asked) -> None:
    found = asked.answer()
    if not isinstance(found, Requirements):
        return
    assert set(found.preferred) <= set(found.requisite)
    start = found.requisite.index(found.preferred[0])
    assert found.preferred == found.requisite[start:] + found.requisite[:start]
    assert list(found.requisite) == sort_terms(found.requisite)
    if asked.node:
        assert is_subset(found.preferred[0], normalize(asked.nodes[asked.node].items()))


@pytest.mark.parity("T-REQ-12")
@OFTEN
@given(askings())
def test_strict_never_widens(asked: Asked) -> None:
    """What strictness allows was allowed without it, and what failed without it does not succeed with it."""
    loose, strict = (replace(asked, strict=flag).answer() for flag in (False, True))
    if not isinstance(loose, Requirements):
        assert strict in (None, TopologyError)
    elif not asked.node:
        assert strict == loose
    else:
        assert isinstance(strict, Requirements)
        (place,) = strict.requisite
        assert any(is_subset(wide, place) for wide in loose.requisite)
        assert place == normalize((key, asked.nodes[asked.node][key]) for key in asked.keys[asked.node])


@pytest.mark.parity("T-REQ-16")
@OFTEN
@given(askings())
def test_without_allowed_topologies_requisite_is_every_place_that_a_node_has(asked: Asked) -> None:
    found = replace(asked, allowed=[], strict=False).answer()
    if not isinstance(found, Requirements):
        return
    keys = next(iter(asked.keys.values()))
    places = [{key: labels[key] for key in keys} for labels in asked.nodes.values() if set(keys) <= set(labels)]
    assert all(dict(term) in places for term in found.requisite)
    assert all(place in [dict(term) for term in found.requisite] for place in places)


@pytest.mark.parity("T-TABLE-10")
@OFTEN
@given(askings())
def test_strict_needs_a_node_and_immediate_needs_none(asked: Asked) -> None:
    if asked.node:
        assert replace(asked, immediate=True).answer() == replace(asked, immediate=False).answer()
    else:
        assert replace(asked, strict=True).answer() == replace(asked, strict=False).answer()
