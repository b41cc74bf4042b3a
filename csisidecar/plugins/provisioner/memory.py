"""What one process knows about claims and volumes beyond what the stores show; shared by the three reconcilers.

Nothing here is needed for a fresh process to be right: it only keeps this one from doing a thing twice, from
losing a volume that a late answer brings, and from acting on a copy of a claim that is older than its volume.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from csisidecar.plugins.provisioner.waits import Waits

if TYPE_CHECKING:
    from csisidecar.kube import Claim
    from csisidecar.plugins.provisioner.create_request import VolumePlan
    from csisidecar.plugins.provisioner.data_source import DataSource

SLOW_LANE_S = 300.0
"""How long a claim that the driver called infeasible is not asked about again. Source:
sig-storage-lib-external-provisioner `controller/controller.go`, slowSet; fixed there too."""


@dataclass(frozen=True, kw_only=True)
class CreatedVolume:
    """A volume that exists in the driver and whose PV is not known to be stored yet."""

    claim: Claim
    plan: VolumePlan
    handle: str
    body: dict[str, Any]
    """The PV to create."""
    elsewhere: str = ""
    """Where it is and where it was asked for, if the driver made it somewhere else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Slowed:
    until_s: float
    class_uid: str


@dataclass(kw_only=True)
class Memory:
    """The tables, by claim UID unless said otherwise. The plugin owns it, so it outlives a change of driver."""

    in_progress: dict[str, VolumePlan] = field(default_factory=dict)
    """Claims whose CreateVolume may still be running → what it was asked for."""
    unsaved: dict[str, CreatedVolume] = field(default_factory=dict)
    """PV name → volumes made but not saved."""
    retry_save_at_s: dict[str, float] = field(default_factory=dict)
    """PV name → monotonic time before which the API server does not want to be asked again."""
    stored: dict[str, str] = field(default_factory=dict)
    """Claims that once had a PV → its name; kept until the claim's own copy shows it, or the claim is gone."""
    deleting: set[str] = field(default_factory=set)
    """Claims whose volume is being deleted right now."""
    announced: set[str] = field(default_factory=set)
    """Claims whose owners were told that work has begun."""
    claims_seen: dict[str, str] = field(default_factory=dict)
    """Claims that wait for a volume → when they were first looked at, RFC 3339."""
    volumes_seen: dict[str, str] = field(default_factory=dict)
    """PV name → when its deletion was first looked at, RFC 3339."""
    told_claims: set[str] = field(default_factory=set)
    """UIDs of deleted claims of which was told that a clone holds them."""
    told_snapshots: set[str] = field(default_factory=set)
    """UIDs of deleted snapshots of which was told that a claim holds them."""
    waits: Waits = field(default_factory=Waits)
    """What claims without a volume were judged by."""
    _slowed: dict[str, _Slowed] = field(default_factory=dict)
    _first_errors: dict[str, tuple[str, bool]] = field(default_factory=dict)

    def slow_down(self, claim_uid: str, class_uid: str, now_s: float) -> None:
        """Put a claim in the slow lane until `SLOW_LANE_S` from now, or until its class is another object."""
        self._slowed[claim_uid] = _Slowed(until_s=now_s + SLOW_LANE_S, class_uid=class_uid)

    def is_slowed(self, claim_uid: str, class_uid: str, now_s: float) -> bool:
        """Whether a claim is in the slow lane; one that has left it is forgotten there."""
        slowed = self._slowed.get(claim_uid)
        if slowed is None:
            return False
        if slowed.class_uid == class_uid and now_s < slowed.until_s:
            return True
        del self._slowed[claim_uid]
        return False

    def first_error(self, claim_uid: str, text: str, *, says_why: bool) -> str:
        """The first error of a claim that says why it has no volume; until there is one, the first of all.

        `text` is what went wrong now; `says_why` is whether it is a cause, and not what follows from an earlier one.
        """
        first = self._first_errors.get(claim_uid)
        if first is None or (says_why and not first[1]):
            first = self._first_errors[claim_uid] = (text, says_why)
        return first[0]

    def is_restoring(self, source: DataSource) -> bool:
        """Whether CreateVolume may be running for a claim that is filled from `source`."""
        return any(plan.draft.source == source for plan in self.in_progress.values())

    def claims(self) -> set[str]:
        """UIDs of the claims about which anything is known."""
        return {
            *self.in_progress,
            *self.stored,
            *self.announced,
            *self.claims_seen,
            *self._slowed,
            *self._first_errors,
            *self.waits.claims(),
        }

    def settle_claim(self, claim_uid: str) -> None:
        """A claim waits for nothing: it has its volume, or wants none at present."""
        self._first_errors.pop(claim_uid, None)
        self.waits.forget(claim_uid)
        self.claims_seen.pop(claim_uid, None)

    def rest_claim(self, claim_uid: str) -> None:
        """Nothing is to be done for a claim at present; whether it had a volume stays known."""
        self.settle_claim(claim_uid)
        self.in_progress.pop(claim_uid, None)
        self._slowed.pop(claim_uid, None)

    def forget_claim(self, claim_uid: str) -> None:
        """A claim shows its volume, or is gone: nothing about it is needed any more."""
        self.rest_claim(claim_uid)
        self.announced.discard(claim_uid)
        self.stored.pop(claim_uid, None)

    def forget_unsaved(self, volume_name: str) -> None:
        """A volume's PV is stored, or the volume is deleted again."""
        self.unsaved.pop(volume_name, None)
        self.retry_save_at_s.pop(volume_name, None)
