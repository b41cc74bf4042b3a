"""Accessibility requirements, worked out by hand for three clusters: one case a row of the page of parity.

The clusters are those of `clusters`; a case is what is asked for (every asking must give the same) and the values of
requisite and preferred, in the order of their keys.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.plugins.provisioner.topology import TopologyError
from tests.plugins.provisioner.clusters import A, B, C, Drawn, asked, build_world, find, selector, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

CA = [selector(zone="c,a")]
NOTHING: list[dict[str, Any]] = [{"matchLabelExpressions": []}]

CLUSTER_A = [
    pytest.param([{"name": "data-web-0"}], ("a b c", "a b c"), id="A1", marks=pytest.mark.parity("T-CASE-01")),
    pytest.param([{"name": "data-web-1"}], ("a b c", "b c a"), id="A2", marks=pytest.mark.parity("T-CASE-02")),
    pytest.param(
        [{"name": "data-web-2"}, {"name": "logs-web-2"}],
        ("a b c", "c a b"),
        id="A3",
        marks=pytest.mark.parity("T-CASE-03"),
    ),
    pytest.param([{"name": "pvc-4294967296"}], ("a b c", "b c a"), id="A4", marks=pytest.mark.parity("T-CASE-04")),
    pytest.param([{"immediate": False}], None, id="A5", marks=pytest.mark.parity("T-CASE-05")),
    pytest.param([{"node": "n1"}], ("a b c", "b c a"), id="A6", marks=pytest.mark.parity("T-CASE-06")),
    pytest.param([{"node": "n1", "strict": True}], ("b", "b"), id="A7", marks=pytest.mark.parity("T-CASE-07")),
    pytest.param(
        [{"name": "data-web-1", "allowed": CA, "immediate": False}],
        ("a c", "a c"),
        id="A8",
        marks=pytest.mark.parity("T-CASE-08"),
    ),
    pytest.param([{"node": "n3", "allowed": CA}], ("a c", "c a"), id="A9", marks=pytest.mark.parity("T-CASE-09")),
    pytest.param(
        [{"node": "n3", "allowed": CA, "strict": True}], ("c", "c"), id="A10", marks=pytest.mark.parity("T-CASE-10")
    ),
    pytest.param(
        [{"allowed": NOTHING}, {"node": "n1", "allowed": NOTHING}],
        None,
        id="A13",
        marks=pytest.mark.parity("T-CASE-13"),
    ),
]


@pytest.mark.parity("P-PLACE-01", "T-REQ-01")
@pytest.mark.parametrize(("askings", "wanted"), CLUSTER_A)
def test_cluster_a(askings: list[dict[str, Any]], wanted: tuple[str, str] | None) -> None:
    assert [shown(find(A, **asking)) for asking in askings] == [wanted] * len(askings)


E7 = 'topology [{zone b}] from selected node "n1" is not in requisite: [[{zone a}] [{zone c}]]'
E4 = "selected node '\"n1\"' topology '[{zone b}]' is not in allowed topologies: [[{zone c}] [{zone a}]]"
E4_NOTHING = "selected node '\"n1\"' topology '[{zone b}]' is not in allowed topologies: []"


@pytest.mark.parity("T-REQ-04")
@pytest.mark.parametrize(
    ("asking", "text"),
    [
        pytest.param({"allowed": CA}, E7, id="A11", marks=pytest.mark.parity("T-CASE-11")),
        pytest.param({"allowed": CA, "strict": True}, E4, id="A12", marks=pytest.mark.parity("T-CASE-12")),
        pytest.param({"allowed": NOTHING, "strict": True}, E4_NOTHING, id="A14", marks=pytest.mark.parity("T-CASE-14")),
    ],
)
def test_cluster_a_refusals(asking: dict[str, Any], text: str) -> None:
    with pytest.raises(TopologyError) as caught:
        find(A, node="n1", **asking)
    assert str(caught.value) == text
    assert not caught.value.is_node_gone


FOUR = [selector(zone="z1,z2", rack="r1,r2")]
FIVE = [selector(zone="z1"), *FOUR]

CLUSTER_B = [
    pytest.param(
        {"node": "n1"},
        ("r1,z1 r1,z2 r2,z1", "r1,z2 r2,z1 r1,z1"),
        id="B1",
        marks=pytest.mark.parity("T-CASE-15"),
    ),
    pytest.param(
        {"node": "n1", "allowed": FOUR},
        ("r1,z1 r1,z2 r2,z1 r2,z2", "r1,z2 r2,z1 r2,z2 r1,z1"),
        id="B2",
        marks=pytest.mark.parity("T-CASE-16"),
    ),
    pytest.param(
        {"name": "data-web-1", "allowed": FOUR},
        ("r1,z1 r1,z2 r2,z1 r2,z2", "r2,z1 r2,z2 r1,z1 r1,z2"),
        id="B3",
        marks=pytest.mark.parity("T-CASE-17"),
    ),
    pytest.param(
        {"node": "n2", "allowed": FIVE},
        ("z1 r1,z1 r1,z2 r2,z1 r2,z2", "z1 r1,z1 r1,z2 r2,z1 r2,z2"),
        id="B4",
        marks=pytest.mark.parity("T-CASE-18"),
    ),
    pytest.param(
        {"node": "n1", "allowed": FIVE},
        ("z1 r1,z1 r1,z2 r2,z1 r2,z2", "r1,z2 r2,z1 r2,z2 z1 r1,z1"),
        id="B5",
        marks=pytest.mark.parity("T-CASE-19"),
    ),
    pytest.param(
        {"node": "n2", "allowed": FIVE, "strict": True},
        ("r1,z1", "r1,z1"),
        id="B6",
        marks=pytest.mark.parity("T-CASE-20"),
    ),
]


@pytest.mark.parity("T-REQ-02")
@pytest.mark.parametrize(("asking", "wanted"), CLUSTER_B)
def test_cluster_b_whatever_the_order_of_keys(asking: dict[str, Any], wanted: tuple[str, str]) -> None:
    orders: Sequence[tuple[str, str]] = (("zone", "rack"), ("rack", "zone"))
    clusters = [Drawn(dict.fromkeys(B.keys, keys), B.labels) for keys in orders]
    assert [shown(find(cluster, **asking)) for cluster in clusters] == [wanted, wanted]


@pytest.mark.parametrize(
    ("node", "wanted"),
    [
        pytest.param("n1", ("z1 z9", "z1 z9"), id="C1", marks=pytest.mark.parity("T-CASE-21")),
        pytest.param("n2", ("r1,z1 r9,z9", "r1,z1 r9,z9"), id="C2", marks=pytest.mark.parity("T-CASE-22")),
    ],
)
def test_cluster_c_keys_are_those_of_the_selected_node(node: str, wanted: tuple[str, str]) -> None:
    assert shown(find(C, node=node)) == wanted


@pytest.mark.parity("T-REQ-03")
def test_cluster_c_without_a_node_the_keys_of_any_node_count() -> None:
    found = {shown(find(C, "data-web-0")) for _ in range(64)}
    assert found == {("z1 z9", "z9 z1"), ("r1,z1 r9,z9", "r9,z9 r1,z1")}


@pytest.mark.parity("T-CASE-23")
@pytest.mark.looptime
async def test_cluster_c_the_node_picked_for_a_claim_stays_the_one_while_a_call_may_be_running() -> None:
    """Sixteen claims, so that both picks occur and a second pick would show."""
    world = build_world(C)
    world.add_class()
    world.driver.trouble.add("CreateVolume:DeadlineExceeded=slow x64")
    for number in range(16):
        world.add_claim(f"claim-{number}")
    async with world.running():
        await asyncio.sleep(60)
    told: dict[str, list[tuple[str, str] | None]] = {}
    for call in world.calls():
        told.setdefault(call.name, []).append(asked(call))
    assert len(told) == 16
    assert all(len(calls) >= 4 and len(set(calls)) == 1 for calls in told.values())
    requisites = {calls[0][0] for calls in told.values() if calls[0] is not None}
    assert requisites == {"z1 z9", "r1,z1 r9,z9"}
