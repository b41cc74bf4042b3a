"""One provisioner a node: which claims and volumes are this node's, and how a node takes a claim that binds at once.

A node owns a claim while `volume.kubernetes.io/selected-node` names it. Of the nodes that compete for a claim, the
one whose write of that annotation the API server accepts has it; the waits before are only to spare such writes.

Source: external-provisioner `pkg/controller/controller.go`, checkNode, becomeOwner and checkCapacity.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from csisidecar.clock import left_s
from csisidecar.csi import GetCapacityRequest, Topology
from csisidecar.errors import ConflictError, CSIError, KubeError, NotFoundError, ThrottledError, UnusableObjectError
from csisidecar.kube import PERSISTENT_VOLUME_CLAIMS
from csisidecar.plugins.provisioner import names
from csisidecar.plugins.provisioner.create_request import draft_volume, driver_parameters, requested_bytes
from csisidecar.plugins.provisioner.data_source import CLAIM
from csisidecar.plugins.provisioner.history import with_history
from csisidecar.plugins.provisioner.outcome import Outcome, ProvisionError
from csisidecar.plugins.provisioner.planning import translate_class
from csisidecar.plugins.provisioner.saving import BY_UID
from csisidecar.plugins.provisioner.topology import find_requirements, is_too_much, is_volume_here, may_be_on
from csisidecar.runtime import DONE, Regarding, Result, current_attempt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from csisidecar.config import NodeSettings, ProvisionerSettings
    from csisidecar.kube import Claim, StorageClass, Volume
    from csisidecar.plugin import PluginContext
    from csisidecar.plugins.provisioner.topology import Cluster, Requirements
    from csisidecar.runtime import Store

logger = logging.getLogger(__name__)

MANAGER_BASE = "external-provisioner"
MANAGER_MAX = 63
"""Longest value of a label."""

FULL_PAUSE_S = 1.0
"""Shortest pause before a node without room looks again."""


class Whose(Enum):
    """Whose claim it is."""

    OURS = "ours"
    ANOTHERS = "another's"
    """Of another node, or of none that could be this one."""
    FREE = "free"
    """Of the node that takes it first."""


def judge_owner(
    claim: Claim,
    storage_class: StorageClass | None,
    node: NodeSettings,
    cluster: Cluster | None,
    settings: ProvisionerSettings,
) -> Whose:
    """Whose claim this is, as far as `node` is concerned.

    That a class does not exist, or allows for more places than can be told, is everybody's to complain about whom it
    concerns; a claim that names none is nobody's. No places are made for that: it is asked at each look at a claim.
    """
    selected = claim.annotations.get(names.SELECTED_NODE)
    if selected:
        return Whose.OURS if selected == node.name else Whose.ANOTHERS
    if storage_class is None:
        return Whose.OURS if claim.class_name else Whose.ANOTHERS
    if storage_class.volume_binding_mode != "Immediate" or not node.immediate_binding:
        return Whose.ANOTHERS
    allowed = storage_class.allowed_topologies
    if allowed and cluster is not None:
        if not may_be_on(cluster, node.name, allowed_topologies=allowed, strict=settings.strict_topology):
            return Whose.ANOTHERS
        if is_too_much(allowed):
            return Whose.OURS
    return Whose.FREE


def _requirements_here(
    claim: Claim, storage_class: StorageClass, node: NodeSettings, cluster: Cluster, settings: ProvisionerSettings
) -> Requirements | None:
    return find_requirements(
        cluster,
        claim_name=claim.name,
        class_name=storage_class.name,
        allowed_topologies=storage_class.allowed_topologies,
        selected_node=node.name,
        strict=settings.strict_topology,
        immediate=settings.immediate_topology,
    )


def competing_delay_s(attempts: int, base_s: float, max_s: float, spread: float) -> float:
    """How long to wait before the next try: doubling up to `max_s`, less a part of `base_s`.

    Args:
        attempts: tries so far.
        base_s: first wait, and the width of the spread.
        max_s: longest wait.
        spread: from 0 to below 1, random.

    Source: external-provisioner `pkg/controller/ratelimiter.go`.
    """
    return max(min(base_s * 2.0 ** min(attempts, 64), max_s) - base_s * spread, 0.0)


@dataclass(slots=True)
class _Bid:
    """One claim that this node would take."""

    attempts: int = 0
    due_s: float | None = None
    """Monotonic time of the next try; None: not competing now."""
    had_it: bool = False
    """Whether this node took the claim before and gave it back; then it keeps its place at the end of the line."""


class OwnerReconciler:
    """Key: the UID of a claim that the first node may have.

    The wait takes no worker. A node that has no room looks again for as long as nobody has the claim, and one whose
    driver ran out of room after it had the claim goes to the end of the line.
    """

    def __init__(
        self,
        ctx: PluginContext,
        settings: ProvisionerSettings,
        node: NodeSettings,
        *,
        claims: Store[Claim],
        classes: Store[StorageClass],
        volumes: Store[Volume],
        cluster: Cluster | None,
        segments: Mapping[str, str] | None,
    ) -> None:
        self._ctx = ctx
        self._settings = settings
        self._node = node
        self._claims = claims
        self._classes = classes
        self._volumes = volumes
        self._cluster = cluster
        self._segments = segments
        self._bids: dict[str, _Bid] = {}

    def is_bidding(self, uid: str) -> bool:
        """Whether anything is remembered about the claim."""
        return uid in self._bids

    def remembered(self) -> Sequence[str]:
        """UIDs of all such claims."""
        return list(self._bids)

    async def reconcile(self, uid: str) -> Result:
        """Take the claim for this node, if it is time and it still can be had."""
        stored = self._claims.by_index(BY_UID, uid)
        if not stored or stored[0].spec.volume_name:
            self._bids.pop(uid, None)
            return DONE
        claim = stored[0]
        storage_class = self._classes.find(claim.class_name)
        bid = self._bids.setdefault(uid, _Bid())
        whose = judge_owner(claim, storage_class, self._node, self._cluster, self._settings)
        if whose is Whose.FREE and not self._can_reach_source(claim):
            whose = Whose.ANOTHERS
        if whose is not Whose.FREE or storage_class is None or claim.is_deleting:
            bid.due_s = None
            if whose is Whose.ANOTHERS and not bid.had_it:
                del self._bids[uid]
            return DONE
        if bid.due_s is None:
            return self._wait(bid)
        if pause_s := left_s(bid.due_s, self._ctx.clock.monotonic()):
            return Result.again(pause_s)
        if not await self._has_room(claim, storage_class):
            return self._wait(bid, at_least_s=FULL_PAUSE_S)
        try:
            bid.had_it |= await self._take(claim)
        except ConflictError:
            return self._wait(bid)
        except (NotFoundError, ThrottledError):
            raise
        except KubeError as error:
            text = (
                f"node check failed: PVC {claim.namespace}/{claim.name}: selecting node"
                f' "{self._node.name}" for PVC failed: {error}'
            )
            self._ctx.events.event(
                Regarding.of(PERSISTENT_VOLUME_CLAIMS, claim),
                "Warning",
                "ProvisioningFailed",
                with_history(text, current_attempt()),
            )
            bid.due_s = None
            bid.attempts += 1
            raise ProvisionError(text, Outcome.NO_CHANGE) from error
        bid.due_s = None
        return DONE

    def _can_reach_source(self, claim: Claim) -> bool:
        """Whether this node can use the volume that the claim is to be a clone of; while that is not known, yes."""
        reference = claim.spec.data_source or claim.spec.data_source_ref
        if reference is None or reference.kind != CLAIM:
            return True
        source = self._claims.find(reference.name, reference.namespace or claim.namespace)
        volume = self._volumes.find(source.spec.volume_name) if source is not None and source.spec.volume_name else None
        if volume is None:
            return True
        try:
            return is_volume_here(volume.spec.node_affinity, self._segments)
        except UnusableObjectError:
            return True

    def _wait(self, bid: _Bid, *, at_least_s: float = 0.0) -> Result:
        spread = random.random()  # noqa: S311 - spreads tries, guards nothing
        delay_s = competing_delay_s(bid.attempts, self._node.base_delay_s, self._node.max_delay_s, spread)
        delay_s = max(delay_s, at_least_s)
        bid.attempts += 1
        bid.due_s = self._ctx.clock.monotonic() + delay_s
        return Result.again(delay_s)

    async def _has_room(self, claim: Claim, storage_class: StorageClass) -> bool:
        """Whether the driver has room for the claim here; where it cannot say, CreateVolume will."""
        if not self._ctx.driver.has_controller("GET_CAPACITY"):
            return True
        try:
            wanted = requested_bytes(claim)
            if wanted == 0:
                return True
            if storage_class.provisioner != self._ctx.driver.name:
                storage_class = translate_class(storage_class)
            draft = draft_volume(claim, storage_class, self._ctx.driver, self._settings)
            parameters = driver_parameters(draft, extra_create_metadata=self._settings.extra_create_metadata)
            places: list[Topology | None] = [None]
            if self._cluster is not None:
                found = _requirements_here(claim, storage_class, self._node, self._cluster, self._settings)
                if found is not None:
                    places = [*found.to_message().requisite]
            for place in places:
                answer = await self._ctx.csi.get_capacity(
                    GetCapacityRequest(
                        volume_capabilities=list(draft.capabilities),
                        parameters=parameters,
                        accessible_topology=place,
                    ),
                    timeout_s=self._settings.timeout_s,
                )
                if wanted <= answer.available_capacity:
                    return True
        except (CSIError, UnusableObjectError) as error:
            logger.info("room not known, going on", extra={"claim": str(claim.key), "error": str(error)})
            return True
        logger.info("not enough room here for the claim", extra={"claim": str(claim.key), "wanted_bytes": wanted})
        return False

    async def _take(self, claim: Claim) -> bool:
        """Write our name on the claim, unless it has one by now; whether that was done. Raises KubeError."""
        live = await self._ctx.kube.get(PERSISTENT_VOLUME_CLAIMS, claim.name, namespace=claim.namespace)
        annotations = live["metadata"].get("annotations") or {}
        taken = annotations.get(names.SELECTED_NODE) or (live.get("spec") or {}).get("volumeName")
        if live["metadata"].get("uid") != claim.uid or taken or live["metadata"].get("deletionTimestamp"):
            return False
        live["metadata"]["annotations"] = {**annotations, names.SELECTED_NODE: self._node.name}
        await self._ctx.kube.update(PERSISTENT_VOLUME_CLAIMS, live)
        logger.info("took a claim for this node", extra={"claim": str(claim.key), "node": self._node.name})
        return True


def manager_name(node: str) -> str:
    """Who manages the capacity objects of `node`, fit for a label; different for each node.

    Source: external-provisioner `cmd/csi-provisioner/csi-provisioner.go`, getNameWithMaxLength.
    """
    whole = f"{MANAGER_BASE}-{node}"
    if len(whole) <= MANAGER_MAX:
        return whole
    room = MANAGER_MAX - 10 - len(node)
    if room > 0:
        return f"{MANAGER_BASE[:room]}-{_fnv1a_hex(MANAGER_BASE)}-{node}"
    return f"{MANAGER_BASE[: MANAGER_MAX - 9]}-{_fnv1a_hex(whole)}"[:MANAGER_MAX]


def _fnv1a_hex(text: str) -> str:
    """FNV-1a, 32 bits: XOR, then multiply; not the variant that spreads claims over places."""
    value = 2166136261
    for byte in text.encode():
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return f"{value:08x}"
