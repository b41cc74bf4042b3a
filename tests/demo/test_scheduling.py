"""Where a Pod goes, and what happens to its claims before."""

from __future__ import annotations

from typing import Any

from csisidecar.demo.controllers.binding import BIND_COMPLETED, SELECTED_NODE
from csisidecar.demo.controllers.scheduling import Decision, Demand, decide
from tests.demo.objects import claim, node, pod, ref, storage_class, volume
from tests.demo.test_matching import affinity


def bound(name: str = "data", **spec: Any) -> Demand:
    done = claim(name, phase="Bound", meta={"annotations": {BIND_COMPLETED: "yes"}}, volumeName="pv")
    return Demand(name=name, claim=done, volume=volume(phase="Bound", claimRef=ref(name), **spec))


def unbound(
    name: str = "data", *, selected: str = "", candidates: Any = (), delayed: bool = True, **fields: Any
) -> Demand:
    meta = {"annotations": {SELECTED_NODE: selected}} if selected else {}
    cls = storage_class(delayed=delayed, **fields)
    return Demand(name=name, claim=claim(name, meta=meta), candidates=candidates, storage_class=cls)


def why(decision: Decision) -> str:
    return decision.plan.note.message if decision.plan.note else ""


def test_pod_with_bound_claims_goes_to_the_emptiest_node_that_reaches_them() -> None:
    nodes = [node("n1", zone="a"), node("n2", zone="a"), node("n3", zone="b")]
    demand = bound(nodeAffinity=affinity("zone", "a"))
    assert decide(pod("app", "data"), [demand], nodes, load={"n1": 3, "n2": 1}).node == "n2"


def test_pod_without_claims_is_bound_at_once() -> None:
    assert decide(pod(), [], [node()]).node == "n1"


def test_pod_waits_for_an_immediate_claim() -> None:
    decision = decide(pod("app", "data"), [unbound(delayed=False)], [node()])
    assert (decision.node, why(decision)) == ("", "pod has unbound immediate PersistentVolumeClaims")


def test_pod_waits_for_a_claim_that_is_missing_or_leaving() -> None:
    assert "not found" in why(decide(pod("app", "data"), [Demand(name="data", claim=None)], [node()]))
    leaving = claim(meta={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    assert "being deleted" in why(decide(pod("app", "data"), [Demand(name="data", claim=leaving)], [node()]))


def test_delayed_claim_is_told_the_node_and_the_pod_waits() -> None:
    decision = decide(pod("app", "data"), [unbound()], [node("n2"), node("n1")])
    assert decision.node == ""
    assert [p.body for p in decision.plan.patches] == [{"metadata": {"annotations": {SELECTED_NODE: "n1"}}}]


def test_node_that_was_selected_before_is_kept() -> None:
    decision = decide(pod("app", "data"), [unbound(selected="n2")], [node("n1"), node("n2")], load={"n2": 9})
    assert decision.plan.patches == ()
    assert decision.node == ""


def test_delayed_claim_takes_an_existing_volume_of_the_node_and_two_claims_never_the_same() -> None:
    free = [volume("pv1"), volume("pv2")]
    demands = [unbound("a", candidates=free), unbound("b", candidates=free)]
    decision = decide(pod("app", "a", "b"), demands, [node()])
    assert [p.key.name for p in decision.plan.patches] == ["pv1", "pv2"]
    assert [p.body["spec"]["claimRef"]["name"] for p in decision.plan.patches] == ["a", "b"]


def test_class_without_provisioner_and_without_volumes_fits_nowhere() -> None:
    decision = decide(pod("app", "data"), [unbound(provisioner="kubernetes.io/no-provisioner")], [node()])
    assert why(decision).startswith("0/1 nodes are available")


def test_node_must_be_admitted_by_the_class_and_wanted_by_the_pod() -> None:
    topologies = [{"matchLabelExpressions": [{"key": "zone", "values": ["a"]}]}]
    nodes = [node("n1", zone="b"), node("n2", zone="a"), node("n3", zone="a", disk="ssd")]
    picky = pod("app", "data", nodeSelector={"disk": "ssd"})
    decision = decide(picky, [unbound(allowedTopologies=topologies)], nodes)
    assert [p.body for p in decision.plan.patches] == [{"metadata": {"annotations": {SELECTED_NODE: "n3"}}}]
