"""The binder's rules, one table row a situation of pv_controller.go."""

from __future__ import annotations

from typing import Any

import pytest

from csisidecar.demo.controllers.binding import (
    BETA_STORAGE_PROVISIONER,
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    PROVISIONED_BY,
    SELECTED_NODE,
    STORAGE_PROVISIONER,
    plan_claim,
    plan_volume,
)
from csisidecar.demo.controllers.plan import Plan
from tests.demo.objects import claim, ref, storage_class, volume

BOUND: dict[str, Any] = {"annotations": {BIND_COMPLETED: "yes"}}
HANDED_OVER = {"metadata": {"annotations": {BETA_STORAGE_PROVISIONER: "demo", STORAGE_PROVISIONER: "demo"}}}


def writes(plan: Plan) -> list[tuple[str, str, Any]]:
    """Object, subresource and body of each write, in order."""
    return [(f"{p.resource.plural}/{p.key.name}", p.subresource, p.body) for p in plan.patches]


def reason(plan: Plan) -> str:
    """The Event's reason, empty without one."""
    return plan.note.reason if plan.note else ""


def test_claim_of_an_external_class_is_handed_to_its_provisioner_under_both_annotations() -> None:
    plan = plan_claim(claim(), named=None, candidates=[], storage_class=storage_class())
    assert writes(plan) == [("persistentvolumeclaims/data", "", HANDED_OVER)]
    assert reason(plan) == "ExternalProvisioning"


def test_claim_that_was_handed_over_is_not_written_again() -> None:
    done = claim(meta=HANDED_OVER["metadata"])
    assert not writes(plan_claim(done, named=None, candidates=[], storage_class=storage_class()))


def test_delayed_claim_is_handed_over_only_once_a_node_was_selected() -> None:
    delayed = storage_class(delayed=True)
    waiting = plan_claim(claim(), named=None, candidates=[], storage_class=delayed)
    assert writes(waiting) == []
    assert reason(waiting) == "WaitForFirstConsumer"
    chosen = claim(meta={"annotations": {SELECTED_NODE: "n1"}})
    assert writes(plan_claim(chosen, named=None, candidates=[], storage_class=delayed)) == [
        ("persistentvolumeclaims/data", "", HANDED_OVER)
    ]


def test_delayed_claim_takes_no_free_volume_by_itself_but_the_one_made_for_it() -> None:
    delayed = storage_class(delayed=True)
    chosen = claim(meta={"annotations": {SELECTED_NODE: "n1"}})
    free = plan_claim(chosen, named=None, candidates=[volume()], storage_class=delayed)
    assert "persistentvolumes/pv" not in {target for target, _, _ in writes(free)}
    made = plan_claim(chosen, named=None, candidates=[volume(claimRef=ref())], storage_class=delayed)
    assert ("persistentvolumes/pv", "status", {"status": {"phase": "Bound"}}) in writes(made)


def test_provisioned_volume_is_bound_by_phase_claim_and_status_in_this_order() -> None:
    made = volume(phase="Pending", claimRef=ref())
    plan = plan_claim(claim(), named=None, candidates=[made], storage_class=storage_class())
    assert writes(plan) == [
        ("persistentvolumes/pv", "status", {"status": {"phase": "Bound"}}),
        (
            "persistentvolumeclaims/data",
            "",
            {
                "metadata": {"annotations": {BOUND_BY_CONTROLLER: "yes", BIND_COMPLETED: "yes"}},
                "spec": {"volumeName": "pv"},
            },
        ),
        (
            "persistentvolumeclaims/data",
            "status",
            {"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}},
        ),
    ]


def test_free_volume_is_reserved_with_the_claims_uid_before_anything_else() -> None:
    plan = plan_claim(claim(), named=None, candidates=[volume()], storage_class=storage_class())
    target, subresource, body = writes(plan)[0]
    assert (target, subresource) == ("persistentvolumes/pv", "")
    assert body["spec"]["claimRef"]["uid"] == "uid-data"
    assert body["metadata"]["annotations"] == {BOUND_BY_CONTROLLER: "yes"}


def test_binding_that_was_interrupted_goes_on_where_it_stopped() -> None:
    reserved = volume(phase="Bound", claimRef=ref())
    half = claim(meta={"annotations": {BIND_COMPLETED: "yes", BOUND_BY_CONTROLLER: "yes"}}, volumeName="pv")
    plan = plan_claim(half, named=reserved, candidates=[], storage_class=None)
    assert [(t, s) for t, s, _ in writes(plan)] == [("persistentvolumeclaims/data", "status")]


def test_claim_without_class_gets_the_default_class() -> None:
    plain = claim(storageClassName=None)
    plan = plan_claim(plain, named=None, candidates=[], storage_class=None, default_class=storage_class(default=True))
    assert writes(plan) == [("persistentvolumeclaims/data", "", {"spec": {"storageClassName": "fast"}})]


def test_claim_of_the_empty_class_never_gets_the_default_class() -> None:
    none = claim(storageClassName="")
    plan = plan_claim(none, named=None, candidates=[], storage_class=None, default_class=storage_class(default=True))
    assert (writes(plan), reason(plan)) == ([], "FailedBinding")


@pytest.mark.parametrize(
    ("cls", "expected"),
    [(None, "ProvisioningFailed"), (storage_class(provisioner="kubernetes.io/no-provisioner"), "ProvisioningFailed")],
)
def test_claim_that_nobody_can_provision_says_so(cls: Any, expected: str) -> None:
    plan = plan_claim(claim(), named=None, candidates=[], storage_class=cls)
    assert (writes(plan), reason(plan)) == ([], expected)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"capacity": {"storage": "1M"}}, "too small"),
        ({"storageClassName": "slow"}, "storageClassName"),
        ({"volumeMode": "Block"}, "volumeMode"),
        ({"accessModes": ["ReadWriteMany"]}, "accessMode"),
    ],
)
def test_named_volume_that_does_not_fit_is_refused_with_the_reason(spec: dict[str, Any], why: str) -> None:
    plan = plan_claim(claim(volumeName="pv"), named=volume(**spec), candidates=[], storage_class=None)
    assert writes(plan) == []
    assert plan.note is not None
    assert plan.note.reason == "VolumeMismatch"
    assert why in plan.note.message


def test_named_volume_of_another_claim_keeps_the_claim_pending() -> None:
    plan = plan_claim(
        claim(volumeName="pv"), named=volume(claimRef=ref("other")), candidates=[], storage_class=storage_class()
    )
    assert (writes(plan), reason(plan)) == ([], "FailedBinding")


def test_bound_claim_whose_volume_is_gone_is_lost_once() -> None:
    lost = claim(phase="Bound", meta=BOUND, volumeName="pv")
    plan = plan_claim(lost, named=None, candidates=[volume("other")], storage_class=storage_class())
    assert [(t, s, b["status"]["phase"]) for t, s, b in writes(plan)] == [
        ("persistentvolumeclaims/data", "status", "Lost")
    ]
    assert reason(plan) == "ClaimLost"
    again = claim(phase="Lost", meta=BOUND, volumeName="pv")
    assert plan_claim(again, named=None, candidates=[], storage_class=None) == Plan()


def test_bound_claim_whose_volume_belongs_to_another_uid_is_misbound() -> None:
    twin = claim(phase="Bound", meta=BOUND, volumeName="pv")
    plan = plan_claim(twin, named=volume(claimRef=ref(uid="old")), candidates=[], storage_class=None)
    assert reason(plan) == "ClaimMisbound"


@pytest.mark.parametrize(
    ("name", "pv", "pvc", "phase"),
    [
        ("new and free", volume(phase="Pending"), None, "Available"),
        ("reserved by name only", volume(phase="Pending", claimRef=ref(uid="")), None, "Available"),
        ("bound", volume(phase="Pending", claimRef=ref()), claim(volumeName="pv"), "Bound"),
        ("claim gone", volume(phase="Bound", claimRef=ref()), None, "Released"),
        ("claim made anew", volume(phase="Bound", claimRef=ref(uid="old")), claim(volumeName="pv"), "Released"),
        (
            "claim gone, retained",
            volume(phase="Bound", claimRef=ref(), persistentVolumeReclaimPolicy="Retain"),
            None,
            "Released",
        ),
        (
            "made for a claim that found another",
            volume(phase="Available", claimRef=ref(), meta={"annotations": {PROVISIONED_BY: "demo"}}),
            claim(volumeName="another"),
            "Released",
        ),
    ],
)
def test_volume_phase(name: str, pv: Any, pvc: Any, phase: str) -> None:
    plan = plan_volume(pv, pvc)
    assert writes(plan) == [("persistentvolumes/pv", "status", {"status": {"phase": phase}})], name
    settled = volume(
        phase=phase,
        claimRef=ref(uid=pv.spec.claim_ref.uid) if pv.spec.claim_ref else None,
        meta={"annotations": dict(pv.annotations)},
    )
    assert plan_volume(settled, pvc) == Plan(), f"{name}: written twice"


def test_volume_whose_claim_is_not_bound_yet_is_left_to_the_claim() -> None:
    assert plan_volume(volume(claimRef=ref()), claim()) == Plan()


def test_failed_volume_stays_failed() -> None:
    assert plan_volume(volume(phase="Failed", claimRef=ref()), None) == Plan()


def test_reservation_of_ours_is_dropped_when_the_claim_went_elsewhere() -> None:
    ours = volume(phase="Available", claimRef=ref(), meta={"annotations": {BOUND_BY_CONTROLLER: "yes"}})
    assert writes(plan_volume(ours, claim(volumeName="another"))) == [
        (
            "persistentvolumes/pv",
            "",
            {"metadata": {"annotations": {BOUND_BY_CONTROLLER: None}}, "spec": {"claimRef": None}},
        )
    ]


def test_reservation_of_an_administrator_keeps_the_claims_name() -> None:
    theirs = volume(phase="Available", claimRef=ref())
    assert writes(plan_volume(theirs, claim(volumeName="another"))) == [
        ("persistentvolumes/pv", "", {"spec": {"claimRef": {"uid": None, "resourceVersion": None}}})
    ]
