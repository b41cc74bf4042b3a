"""The binder's rules: what a claim or a volume needs next. Pure functions; `binder.py` carries them out.

Source: Kubernetes `pkg/controller/volume/persistentvolume/pv_controller.go` (syncClaim, syncVolume and what they
call) and `staging/src/k8s.io/component-helpers/storage/volume/pv_helpers.go`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from csisidecar.demo.controllers.matching import find_match, is_bound_to, misfit
from csisidecar.demo.controllers.plan import NOTHING, Draft, Note, Plan
from csisidecar.kube.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from csisidecar.demo.controllers.views import BinderClaim, BinderClass, BinderVolume

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
STORAGE_PROVISIONER = "volume.kubernetes.io/storage-provisioner"
BETA_STORAGE_PROVISIONER = "volume.beta.kubernetes.io/storage-provisioner"
SELECTED_NODE = "volume.kubernetes.io/selected-node"


def plan_claim(
    claim: BinderClaim,
    *,
    named: BinderVolume | None,
    candidates: Iterable[BinderVolume],
    storage_class: BinderClass | None,
    default_class: BinderClass | None = None,
) -> Plan:
    """What `claim` needs next.

    Args:
        claim: the claim.
        named: the volume that `spec.volumeName` names, if it exists.
        candidates: volumes that could be bound: those reserved for the claim and the free ones of its class.
        storage_class: the claim's class, if it exists.
        default_class: the class for claims that name none.
    """
    if BIND_COMPLETED in claim.annotations:
        return _plan_bound_claim(claim, named)
    if claim.spec.volume_name:
        return _plan_named_claim(claim, named)
    if not claim.has_class and default_class is not None:
        draft = Draft()
        draft.add(PERSISTENT_VOLUME_CLAIMS, claim, {"spec": {"storageClassName": default_class.name}})
        return draft.done()
    delayed = storage_class is not None and storage_class.waits_for_consumer
    volume = find_match(claim, candidates, delayed=delayed)
    if volume is not None:
        return bind(volume, claim)
    if delayed and SELECTED_NODE not in claim.annotations:
        return _pending(claim, Note(type="Normal", reason="WaitForFirstConsumer", message=_WAITING), storage_class=None)
    if not claim.class_name:
        message = "no persistent volumes available for this claim and no storage class is set"
        return _pending(claim, Note(type="Normal", reason="FailedBinding", message=message), storage_class=None)
    if storage_class is None:
        message = f'storageclass.storage.k8s.io "{claim.class_name}" not found'
        return _pending(claim, Note(type="Warning", reason="ProvisioningFailed", message=message), storage_class=None)
    if storage_class.provisioner.startswith("kubernetes.io/"):
        message = f"no volume plugin matched name: {storage_class.provisioner}"
        return _pending(claim, Note(type="Warning", reason="ProvisioningFailed", message=message), storage_class=None)
    message = (
        "Waiting for a volume to be created either by the external provisioner"
        f" '{storage_class.provisioner}' or manually by the system administrator. If volume creation is delayed,"
        " please verify that the provisioner is running and correctly registered."
    )
    note = Note(type="Normal", reason="ExternalProvisioning", message=message)
    return _pending(claim, note, storage_class=storage_class)


_WAITING = "waiting for first consumer to be created before binding"


def _pending(claim: BinderClaim, note: Note | None, *, storage_class: BinderClass | None) -> Plan:
    """The claim stays unbound; with a class it is handed to the class's provisioner."""
    draft = Draft(note=note)
    if storage_class is not None:
        wanted = dict.fromkeys((BETA_STORAGE_PROVISIONER, STORAGE_PROVISIONER), storage_class.provisioner)
        missing = {key: value for key, value in wanted.items() if claim.annotations.get(key) != value}
        if missing:
            draft.add(PERSISTENT_VOLUME_CLAIMS, claim, {"metadata": {"annotations": missing}})
    if claim.phase != "Pending":
        draft.add(
            PERSISTENT_VOLUME_CLAIMS,
            claim,
            {"status": {"phase": "Pending", "accessModes": None, "capacity": None}},
            subresource="status",
        )
    return draft.done()


def _plan_named_claim(claim: BinderClaim, volume: BinderVolume | None) -> Plan:
    """Somebody named the volume: it is bound if it is free or reserved for the claim, and fits."""
    if volume is None:
        return _pending(claim, None, storage_class=None)
    if volume.spec.claim_ref is None:
        why = misfit(volume, claim)
        if why:
            message = f'Cannot bind to requested volume "{volume.name}": {why}'
            return _pending(claim, Note(type="Warning", reason="VolumeMismatch", message=message), storage_class=None)
        return bind(volume, claim)
    if is_bound_to(volume, claim):
        return bind(volume, claim)
    ref = volume.spec.claim_ref
    message = f'volume "{volume.name}" already bound to a different claim ({ref.namespace}/{ref.name})'
    return _pending(claim, Note(type="Warning", reason="FailedBinding", message=message), storage_class=None)


def _plan_bound_claim(claim: BinderClaim, volume: BinderVolume | None) -> Plan:
    """Binding was completed once: repair what is missing, or say that the volume is lost."""
    if not claim.spec.volume_name:
        return _lost(
            claim, "ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
        )
    if volume is None:
        return _lost(claim, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
    if volume.spec.claim_ref is None or volume.spec.claim_ref.uid == claim.uid:
        return bind(volume, claim)
    return _lost(claim, "ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")


def _lost(claim: BinderClaim, reason: str, message: str) -> Plan:
    if claim.phase == "Lost":
        return NOTHING
    draft = Draft(note=Note(type="Warning", reason=reason, message=message))
    status = {"phase": "Lost", "accessModes": None, "capacity": None}
    draft.add(PERSISTENT_VOLUME_CLAIMS, claim, {"status": status}, subresource="status")
    return draft.done()


def bind(volume: BinderVolume, claim: BinderClaim) -> Plan:
    """The writes that bind the two, each left out when it is done: reserve, PV phase, claim, claim status."""
    draft = Draft()
    if (reserved := reserve(volume, claim)) is not None:
        draft.add(PERSISTENT_VOLUMES, volume, reserved)
    if volume.phase != "Bound":
        draft.add(PERSISTENT_VOLUMES, volume, {"status": {"phase": "Bound"}}, subresource="status")
    annotations: dict[str, str] = {}
    body: dict[str, Any] = {}
    if claim.spec.volume_name != volume.name:
        body["spec"] = {"volumeName": volume.name}
        annotations[BOUND_BY_CONTROLLER] = "yes"
    if BIND_COMPLETED not in claim.annotations:
        annotations[BIND_COMPLETED] = "yes"
    if annotations:
        draft.add(PERSISTENT_VOLUME_CLAIMS, claim, {"metadata": {"annotations": annotations}, **body})
    status = _bound_status(volume, claim)
    if status:
        draft.add(PERSISTENT_VOLUME_CLAIMS, claim, {"status": status}, subresource="status")
    return draft.done()


def reserve(volume: BinderVolume, claim: BinderClaim) -> dict[str, Any] | None:
    """The patch that reserves `volume` for exactly this claim, None when it is."""
    ref = volume.spec.claim_ref
    if ref is not None and ref.uid == claim.uid:
        return None
    body: dict[str, Any] = {
        "spec": {
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": claim.namespace,
                "name": claim.name,
                "uid": claim.uid,
                "resourceVersion": claim.resource_version,
            }
        }
    }
    if ref is None:
        body["metadata"] = {"annotations": {BOUND_BY_CONTROLLER: "yes"}}
    return body


def _bound_status(volume: BinderVolume, claim: BinderClaim) -> dict[str, Any]:
    status: dict[str, Any] = {}
    modes = list(volume.spec.access_modes or ())
    if claim.phase != "Bound":
        status["phase"] = "Bound"
        status["capacity"] = dict(volume.spec.capacity or {})
    if list(claim.status.access_modes or ()) != modes:
        status["accessModes"] = modes
    return status


def plan_volume(volume: BinderVolume, claim: BinderClaim | None) -> Plan:
    """What `volume` needs next; binding itself is the claim's plan.

    Args:
        volume: the volume.
        claim: the claim its claimRef names, None when there is none with that name. The caller has asked the
            API server itself before it says None, because a store can be behind.
    """
    ref = volume.spec.claim_ref
    if ref is None or not ref.uid:
        return _phase(volume, "Available")
    if claim is None or claim.uid != ref.uid:
        # Deleting the volume of a released PV is the external provisioner's part; phase Failed stays for people.
        return NOTHING if volume.phase == "Failed" else _phase(volume, "Released")
    if not claim.spec.volume_name:
        if volume.volume_mode == claim.volume_mode:
            return NOTHING
        message = (
            f'Cannot bind PersistentVolume "{volume.name}" to requested PersistentVolumeClaim "{claim.name}"'
            " due to incompatible volumeMode."
        )
        return Plan(note=Note(type="Warning", reason="VolumeMismatch", message=message))
    if claim.spec.volume_name == volume.name:
        return _phase(volume, "Bound")
    if PROVISIONED_BY in volume.annotations and volume.reclaim_policy == "Delete":
        return _phase(volume, "Released")
    return _unbind(volume)


def _phase(volume: BinderVolume, phase: str) -> Plan:
    if volume.phase == phase:
        return NOTHING
    draft = Draft()
    draft.add(PERSISTENT_VOLUMES, volume, {"status": {"phase": phase}}, subresource="status")
    return draft.done()


def _unbind(volume: BinderVolume) -> Plan:
    """The claim went to another volume: a reservation of ours is dropped, an administrator's keeps its name."""
    draft = Draft()
    if BOUND_BY_CONTROLLER in volume.annotations:
        body = {"metadata": {"annotations": {BOUND_BY_CONTROLLER: None}}, "spec": {"claimRef": None}}
        draft.add(PERSISTENT_VOLUMES, volume, body)
    else:
        draft.add(PERSISTENT_VOLUMES, volume, {"spec": {"claimRef": {"uid": None, "resourceVersion": None}}})
    if volume.phase != "Available":
        draft.add(PERSISTENT_VOLUMES, volume, {"status": {"phase": "Available"}}, subresource="status")
    return draft.done()
