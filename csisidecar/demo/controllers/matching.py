"""Which existing volume fits a claim: pure rules shared by the binder and the scheduler.

Source: Kubernetes `staging/src/k8s.io/component-helpers/storage/volume/pv_helpers.go` (FindMatchingVolume) and
`component-helpers/scheduling/corev1/nodeaffinity` (node selectors).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from csisidecar.demo.controllers.views import BinderClaim, BinderClass, BinderVolume, LabelSelector, WorkerNode

HOSTNAME_FIELD = "metadata.name"


def is_bound_to(volume: BinderVolume, claim: BinderClaim) -> bool:
    """Whether `volume` is reserved for `claim`; a reservation without a UID fits any claim of that name."""
    ref = volume.spec.claim_ref
    if ref is None or (ref.namespace, ref.name) != (claim.namespace, claim.name):
        return False
    return ref.uid in ("", claim.uid)


def misfit(volume: BinderVolume, claim: BinderClaim) -> str:
    """Why `volume` cannot serve `claim` although the claim names it; empty if it can."""
    if volume.capacity_bytes < claim.requested_bytes:
        return "requested PV is too small"
    if volume.class_name != claim.class_name:
        return "storageClassName does not match"
    if volume.volume_mode != claim.volume_mode:
        return "incompatible volumeMode"
    if not has_modes(volume, claim):
        return "incompatible accessMode"
    return ""


def has_modes(volume: BinderVolume, claim: BinderClaim) -> bool:
    """Whether `volume` offers every access mode of `claim`."""
    return set(claim.spec.access_modes or ()) <= set(volume.spec.access_modes or ())


def find_match(
    claim: BinderClaim, volumes: Iterable[BinderVolume], *, node: WorkerNode | None = None, delayed: bool = False
) -> BinderVolume | None:
    """The volume to bind: the one reserved for `claim`, else the smallest available one that fits.

    Args:
        claim: what is asked for.
        volumes: candidates in any order.
        node: where the Pod will run, when the scheduler asks.
        delayed: whether the class waits for a consumer; without a node only a reserved volume is taken then.
    """
    best: BinderVolume | None = None
    for volume in volumes:
        if volume.spec.claim_ref is not None and not is_bound_to(volume, claim):
            continue
        if not _is_sound(volume, claim):
            continue
        reachable = node is None or is_reachable(volume, node)
        if is_bound_to(volume, claim):
            return volume if reachable else None
        if (delayed and node is None) or not reachable or volume.phase != "Available":
            continue
        if volume.class_name != claim.class_name or not selects(claim.spec.selector, volume.labels):
            continue
        if best is None or (volume.capacity_bytes, volume.name) < (best.capacity_bytes, best.name):
            best = volume
    return best


def _is_sound(volume: BinderVolume, claim: BinderClaim) -> bool:
    return (
        not volume.is_deleting
        and has_modes(volume, claim)
        and volume.capacity_bytes >= claim.requested_bytes
        and volume.volume_mode == claim.volume_mode
        and (volume.spec.volume_attributes_class_name or "") == (claim.spec.volume_attributes_class_name or "")
    )


def selects(selector: LabelSelector | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector accepts `labels`; no selector accepts all."""
    if selector is None:
        return True
    if any(labels.get(key) != value for key, value in (selector.match_labels or {}).items()):
        return False
    return all(_holds(term.key, term.operator, term.values or (), labels) for term in selector.match_expressions or ())


def _holds(key: str, operator: str, values: Iterable[str], labels: Mapping[str, str]) -> bool:
    present = key in labels
    match operator:
        case "In":
            return present and labels[key] in values
        case "NotIn":
            return not present or labels[key] not in values
        case "Exists":
            return present
        case "DoesNotExist":
            return not present
        case "Gt" | "Lt":
            try:
                have, want = int(labels.get(key, "")), int(next(iter(values), ""))
            except ValueError:
                return False
            return have > want if operator == "Gt" else have < want
    return False


def is_reachable(volume: BinderVolume, node: WorkerNode) -> bool:
    """Whether the volume's node affinity admits `node`; terms are alternatives, their parts all hold."""
    required = (volume.spec.node_affinity or {}).get("required")
    if not required:
        return True
    return any(_term_holds(term, node) for term in required.get("nodeSelectorTerms") or ())


def _term_holds(term: Mapping[str, Any], node: WorkerNode) -> bool:
    by_label, by_field = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not by_label and not by_field:
        return False
    fields = {HOSTNAME_FIELD: node.name}
    return all(_holds(t["key"], t["operator"], t.get("values") or (), node.labels) for t in by_label) and all(
        _holds(t["key"], t["operator"], t.get("values") or (), fields) for t in by_field
    )


def admits(storage_class: BinderClass, node: WorkerNode) -> bool:
    """Whether the class's allowedTopologies let a volume be made for `node`; none means anywhere."""
    terms = storage_class.allowed_topologies
    return not terms or any(
        all(node.labels.get(e["key"]) in (e.get("values") or ()) for e in term.get("matchLabelExpressions") or ())
        for term in terms
    )
