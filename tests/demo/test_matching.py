"""Which volume fits a claim, by the rules of FindMatchingVolume."""

from __future__ import annotations

from typing import Any

import pytest

from csisidecar.demo.controllers.matching import admits, find_match, is_reachable
from tests.demo.objects import claim, node, ref, storage_class, volume


def affinity(key: str, *values: str, operator: str = "In") -> dict[str, Any]:
    term = {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}
    return {"required": {"nodeSelectorTerms": [term]}}


@pytest.mark.parametrize(
    ("why", "pv"),
    [
        ("too small", volume(capacity={"storage": "1023Mi"})),
        ("another class", volume(storageClassName="slow")),
        ("lacks a mode", volume(accessModes=["ReadOnlyMany"])),
        ("block", volume(volumeMode="Block")),
        ("not available yet", volume(phase="Pending")),
        ("released", volume(phase="Released")),
        ("reserved for another", volume(claimRef=ref("other"))),
        ("reserved for an older claim of that name", volume(claimRef=ref(uid="old"))),
        ("being deleted", volume(meta={"deletionTimestamp": "2026-01-01T00:00:00Z"})),
        ("attributes class", volume(volumeAttributesClassName="gold")),
    ],
)
def test_volume_that_does_not_fit(why: str, pv: Any) -> None:
    assert find_match(claim(), [pv]) is None, why


def test_smallest_fitting_volume_is_taken() -> None:
    pvs = [volume(f"pv{size}", capacity={"storage": f"{size}Gi"}) for size in (8, 2, 4)]
    found = find_match(claim(), pvs)
    assert found is not None
    assert found.name == "pv2"


def test_reserved_volume_beats_a_smaller_one() -> None:
    found = find_match(claim(), [volume("small"), volume("mine", capacity={"storage": "9Gi"}, claimRef=ref())])
    assert found is not None
    assert found.name == "mine"


def test_reserved_volume_of_another_class_is_still_taken() -> None:
    assert find_match(claim(), [volume(claimRef=ref(uid=""), storageClassName="slow")]) is not None


def test_volume_with_more_modes_than_asked_fits() -> None:
    assert find_match(claim(), [volume(accessModes=["ReadWriteOnce", "ReadWriteMany"])]) is not None


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ({"matchLabels": {"tier": "a"}}, True),
        ({"matchLabels": {"tier": "b"}}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "c"]}]}, True),
        ({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["a"]}]}, False),
        ({"matchExpressions": [{"key": "none", "operator": "NotIn", "values": ["a"]}]}, True),
        ({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, False),
    ],
)
def test_claims_selector(selector: dict[str, Any], fits: bool) -> None:
    found = find_match(claim(selector=selector), [volume(meta={"labels": {"tier": "a"}})])
    assert (found is not None) is fits


def test_delayed_claim_gets_a_free_volume_only_for_a_node_that_reaches_it() -> None:
    local = volume(nodeAffinity=affinity("zone", "a"))
    assert find_match(claim(), [local], delayed=True) is None
    assert find_match(claim(), [local], delayed=True, node=node(zone="a")) is local
    assert find_match(claim(), [local], delayed=True, node=node(zone="b")) is None


def test_reserved_volume_that_the_node_cannot_reach_is_no_match_and_nothing_else_is_tried() -> None:
    reserved = volume("mine", claimRef=ref(), nodeAffinity=affinity("zone", "a"))
    assert find_match(claim(), [reserved, volume("free")], node=node(zone="b")) is None


@pytest.mark.parametrize(
    ("terms", "reachable"),
    [
        ([], False),
        ([{"matchExpressions": []}], False),
        ([{"matchExpressions": [{"key": "cpu", "operator": "Gt", "values": ["3"]}]}], True),
        ([{"matchExpressions": [{"key": "cpu", "operator": "Lt", "values": ["3"]}]}], False),
        ([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}], True),
        ([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}], False),
        (
            [
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]},
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]},
            ],
            True,
        ),
    ],
)
def test_node_affinity(terms: list[dict[str, Any]], reachable: bool) -> None:
    pv = volume(nodeAffinity={"required": {"nodeSelectorTerms": terms}})
    assert is_reachable(pv, node("n1", zone="a", cpu="4")) is reachable


def test_allowed_topologies_are_alternatives_of_labels_that_all_hold() -> None:
    zone = {"matchLabelExpressions": [{"key": "zone", "values": ["a"]}, {"key": "rack", "values": ["1", "2"]}]}
    cls = storage_class(allowedTopologies=[{"matchLabelExpressions": [{"key": "zone", "values": ["z"]}]}, zone])
    assert admits(cls, node(zone="a", rack="2"))
    assert not admits(cls, node(zone="a", rack="3"))
    assert admits(storage_class(), node())
