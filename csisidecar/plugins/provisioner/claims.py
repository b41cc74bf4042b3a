"""ClaimReconciler: one PersistentVolumeClaim from "is it ours?" to its stored PV; the only narrator of that story.

The files around it answer one question each and never call back. Whatever goes wrong is raised as one
ProvisionError, told on the claim, and left to the key's backoff.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from csisidecar.clock import rfc3339_micro
from csisidecar.errors import (
    CSIError,
    KubeError,
    NotFoundError,
    RetryAfter,
    StatusCode,
    TerminalError,
    ThrottledError,
    UnusableObjectError,
)
from csisidecar.kube import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from csisidecar.plugins.provisioner import names
from csisidecar.plugins.provisioner.answer import Fault, judge_answer
from csisidecar.plugins.provisioner.cleanup import delete_again
from csisidecar.plugins.provisioner.create_request import VolumePlan, build_request
from csisidecar.plugins.provisioner.eligibility import Verdict, judge_claim
from csisidecar.plugins.provisioner.history import with_history
from csisidecar.plugins.provisioner.memory import CreatedVolume
from csisidecar.plugins.provisioner.node_local import Whose
from csisidecar.plugins.provisioner.outcome import Outcome, ProvisionError, create_failed
from csisidecar.plugins.provisioner.persistent_volume import build_persistent_volume
from csisidecar.plugins.provisioner.planning import failing_as
from csisidecar.plugins.provisioner.reschedule import give_up_node
from csisidecar.plugins.provisioner.saving import BY_UID
from csisidecar.plugins.provisioner.topology import find_elsewhere
from csisidecar.runtime import DONE, Regarding, Result, current_attempt

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal

    from csisidecar.config import ProvisionerSettings
    from csisidecar.csi import Volume as DriverVolume
    from csisidecar.kube import Claim, StorageClass, Volume
    from csisidecar.plugin import PluginContext
    from csisidecar.plugins.life_metrics import LifeMetrics
    from csisidecar.plugins.provisioner.capacity import RoomNews
    from csisidecar.plugins.provisioner.memory import Memory
    from csisidecar.plugins.provisioner.metrics import ProvisionerMetrics
    from csisidecar.plugins.provisioner.planning import Planner
    from csisidecar.plugins.provisioner.protection import SourceProtection
    from csisidecar.plugins.provisioner.saving import VolumeSaver
    from csisidecar.runtime import Store

logger = logging.getLogger(__name__)

_SAYS_LITTLE = frozenset({StatusCode.ABORTED, StatusCode.CANCELED})
"""Something else is going on, or we gave up ourselves: neither is why there is no volume."""


_NEEDS_OWNER = frozenset({Verdict.PROVISION, Verdict.CLASS_MISSING})
"""What only one of several provisioners may act on."""


class ClaimReconciler:
    """Key: the claim's UID.

    Guarantees: every CreateVolume of a claim says the same until the driver has given a final answer; none starts
    once a PV of the claim was stored, nor while its volume is being deleted; a claim that is deleted while one may
    be running is still carried to its end, so that the volume gets a PV and with it somebody who deletes it.
    """

    def __init__(
        self,
        ctx: PluginContext,
        settings: ProvisionerSettings,
        memory: Memory,
        *,
        claims: Store[Claim],
        classes: Store[StorageClass],
        volumes: Store[Volume],
        saver: VolumeSaver,
        save_later: Callable[[str], None],
        planner: Planner,
        protection: SourceProtection,
        metrics: ProvisionerMetrics,
        life: LifeMetrics,
        identity: str,
        has_topology: bool,
        room: RoomNews,
        whose: Callable[[Claim, StorageClass | None], Whose],
        take: Callable[[str], None],
    ) -> None:
        self._ctx = ctx
        self._settings = settings
        self._memory = memory
        self._claims = claims
        self._classes = classes
        self._volumes = volumes
        self._saver = saver
        self._save_later = save_later
        self._planner = planner
        self._protection = protection
        self._metrics = metrics
        self._life = life
        self._identity = identity
        self._driver_name = ctx.driver.name
        self._has_topology = has_topology
        self._room = room
        self._whose = whose
        self._take = take

    async def reconcile(self, uid: str) -> Result:
        """Give the claim with this UID a volume, if it is ours and wants one now."""
        plan = self._memory.in_progress.get(uid)
        stored = self._claims.by_index(BY_UID, uid)
        claim = stored[0] if stored else plan.draft.claim if plan else None
        if claim is None:
            self._memory.forget_claim(uid)
            return DONE
        current_attempt().subject = f"{claim.namespace}/{claim.name}"
        storage_class = plan.draft.storage_class if plan else self._classes.find(claim.class_name)
        verdict = judge_claim(claim, storage_class, self._driver_name, is_unfinished=plan is not None)
        if verdict is Verdict.BOUND:
            if plan is None or plan.draft.name == claim.spec.volume_name:
                self._memory.forget_claim(uid)
                return DONE
            # It took another volume. The one in the making needs a PV all the same, so that somebody deletes it.
            verdict = Verdict.PROVISION
        if plan is None and verdict in _NEEDS_OWNER:
            whose = self._whose(claim, storage_class)
            if whose is Whose.FREE:
                self._take(uid)
            if whose is not Whose.OURS:
                self._memory.rest_claim(uid)
                return DONE
        if verdict is Verdict.CLASS_MISSING:
            self._saw(claim)
            error = ProvisionError(f'storageClass "{claim.class_name}" not found', Outcome.NO_CHANGE)
            self._record_failure(claim, error)
            raise error
        if verdict is not Verdict.PROVISION or storage_class is None:
            if plan is None:
                self._memory.rest_claim(uid)
            else:
                # The driver gave no final answer yet: whoever wants the volume later, or deletes the claim, goes on
                # with the very same request.
                self._memory.settle_claim(uid)
            return DONE
        return await self._attempt(claim, storage_class, plan)

    async def _attempt(self, claim: Claim, storage_class: StorageClass, plan: VolumePlan | None) -> Result:
        uid = claim.uid
        self._saw(claim)
        if self._memory.is_slowed(uid, storage_class.uid, self._ctx.clock.monotonic()):
            # Neither told nor counted: the claim's Event says why, and that it takes time.
            raise ProvisionError(
                f"skipping volume provisioning for pvc {uid}, because provisioning previously failed with"
                " infeasible error",
                Outcome.NO_CHANGE,
            )
        try:
            settled = await self._find_existing(claim)
            if settled is not None:
                return settled
            if storage_class.provisioner not in names.own_names(self._driver_name):
                return self._stop_for_foreign_class(claim, storage_class)
            if uid not in self._memory.announced:
                self._memory.announced.add(uid)
                self._tell(
                    claim,
                    "Normal",
                    "Provisioning",
                    f'External provisioner is provisioning volume for claim "{claim.namespace}/{claim.name}"',
                )
            return await self._provision(claim, storage_class, plan)
        except ProvisionError as error:
            self._record_failure(claim, error)
            if error.outcome is Outcome.RESCHEDULE and await give_up_node(self._ctx.kube, claim, str(error)):
                self._memory.rest_claim(uid)
                return DONE
            raise

    async def _find_existing(self, claim: Claim) -> Result | None:
        """What to do because the claim has, or had, a volume already; None when it never had one."""
        uid = claim.uid
        name = self._name_of(claim)
        volume = self._volumes.find(name)
        if volume is not None:
            owner = volume.spec.claim_ref
            if owner is None or owner.uid != uid:
                whose = f"{owner.namespace}/{owner.name} with UID {owner.uid or 'unknown'}" if owner else "no claim"
                raise ProvisionError(
                    f"PersistentVolume {name} exists already and belongs to {whose}; it is not adopted",
                    Outcome.NO_CHANGE,
                )
            self._metrics.provision_failed(claim)
            self._memory.rest_claim(uid)
            return DONE
        if name in self._memory.unsaved:
            return DONE
        if uid in self._memory.deleting:
            raise RetryAfter(1.0, f"volume {name} of the claim is being deleted")
        if uid in self._memory.stored:
            return await self._look_closer(claim, name)
        return None

    async def _look_closer(self, claim: Claim, name: str) -> Result:
        """Ask the API server itself about a claim that had a volume of which our copies show nothing."""
        kube = self._ctx.kube
        try:
            await kube.get(PERSISTENT_VOLUMES, name)
        except NotFoundError:
            pass
        else:
            return Result.again(1.0)
        try:
            live = await kube.get(PERSISTENT_VOLUME_CLAIMS, claim.name, namespace=claim.namespace)
        except NotFoundError:
            return DONE
        meta = live["metadata"]
        if meta.get("uid") != claim.uid or meta.get("deletionTimestamp") or (live.get("spec") or {}).get("volumeName"):
            return DONE
        text = (
            f"PersistentVolume {name} was provisioned for this claim before and is gone; a claim gets one volume in"
            " its life: delete the claim and create it again"
        )
        self._tell(claim, "Warning", "ProvisioningFailed", text)
        raise TerminalError(text)

    def _stop_for_foreign_class(self, claim: Claim, storage_class: StorageClass) -> Result:
        # Only another class of that name, or another claim, can help; both wake the key.
        text = (
            f'storageClass "{storage_class.name}" has provisioner {storage_class.provisioner},'
            f" but the claim is addressed to {names.find_provisioner(claim)}"
        )
        self._metrics.provision_failed(claim)
        self._tell(claim, "Warning", "ProvisioningFailed", text)
        self._memory.rest_claim(claim.uid)
        return DONE

    async def _provision(self, claim: Claim, storage_class: StorageClass, plan: VolumePlan | None) -> Result:
        started_s = self._ctx.clock.monotonic()
        if plan is not None:
            credentials = await self._planner.fetch_credentials(claim, plan.provisioner_secret)
        else:
            made = await self._planner.make(claim, storage_class)
            if made is None:
                return self._leave_to_populator(claim)
            plan, credentials = made
        volume = await self._create(plan, claim, credentials)
        created = CreatedVolume(
            claim=claim,
            plan=plan,
            handle=volume.volume_id,
            body=await self._build_body(plan, claim, volume, credentials),
            elsewhere=find_elsewhere(plan.requirements, volume.accessible_topology),
        )
        # From here on the volume is the unsaved queue's to lose: an attempt that is cut now is taken up there.
        self._memory.unsaved[plan.draft.name] = created
        self._memory.in_progress.pop(claim.uid, None)
        self._room.volume_made(claim.class_name, created.body["spec"].get("nodeAffinity"))
        await self._save(created)
        self._metrics.provisioned(claim, self._ctx.clock.monotonic() - started_s)
        await self._release_source(plan)
        return DONE

    async def _build_body(
        self, plan: VolumePlan, claim: Claim, volume: DriverVolume, credentials: dict[str, str]
    ) -> dict[str, Any]:
        """The PV to store; a volume that cannot be told as its class wants it is deleted again."""
        try:
            return build_persistent_volume(
                plan,
                claim,
                volume,
                driver_name=self._driver_name,
                identity=self._identity,
                read_only_from_access_mode=self._settings.controller_publish_readonly,
                has_topology=self._has_topology,
            )
        except UnusableObjectError as error:
            why_not = await self._delete_again(plan, volume.volume_id, credentials)
            if why_not:
                text = f"{error}. Cleanup of volume {plan.draft.name} failed, volume is orphaned: {why_not}"
                raise ProvisionError(text, Outcome.IN_PROGRESS) from error
            raise ProvisionError(str(error), Outcome.FINAL) from error

    async def _release_source(self, plan: VolumePlan) -> None:
        """Our finalizer off the snapshot of a finished restore, unless another restore of it may be running."""
        source = plan.draft.source
        if source is not None and source.is_snapshot and not self._memory.is_restoring(source):
            await self._protection.release_snapshot(source)

    def _leave_to_populator(self, claim: Claim) -> Result:
        self._tell(claim, "Normal", "Provisioning", "Assuming an external populator will provision the volume")
        self._metrics.provision_failed(claim)
        self._memory.rest_claim(claim.uid)
        return DONE

    async def _create(self, plan: VolumePlan, claim: Claim, credentials: dict[str, str]) -> DriverVolume:
        # Noted before the call: whatever ends this attempt, the volume may be in the making from now on.
        self._memory.in_progress[claim.uid] = plan
        try:
            response = await self._ctx.csi.create_volume(
                build_request(plan, credentials), timeout_s=self._settings.timeout_s, migrated=migrated(plan)
            )
        except CSIError as error:
            may_reschedule = self._has_topology and bool(names.find_selected_node(claim))
            raise create_failed(error, may_reschedule=may_reschedule) from error
        volume = judge_answer(plan, response)
        if not isinstance(volume, Fault):
            return volume
        text = volume.text
        if volume.volume_id:
            why_not = await self._delete_again(plan, volume.volume_id, credentials)
            if why_not:
                text = volume.with_cleanup_failure(plan.draft.name, why_not)
        raise ProvisionError(text, Outcome.IN_PROGRESS)

    async def _delete_again(self, plan: VolumePlan, volume_id: str, credentials: dict[str, str]) -> str:
        """Delete a volume that was just made and must not be kept; why that failed, empty when it did not."""
        try:
            await delete_again(
                self._ctx.csi,
                self._ctx.clock,
                volume_id,
                credentials,
                timeout_s=self._settings.timeout_s,
                migrated=migrated(plan),
            )
        except CSIError as error:
            return str(error)
        return ""

    async def _save(self, created: CreatedVolume) -> None:
        name = created.plan.draft.name
        try:
            await self._saver.save(created)
        except KubeError as error:
            if isinstance(error, ThrottledError):
                wait_s = error.retry_after_s or 1.0
                self._memory.retry_save_at_s[name] = self._ctx.clock.monotonic() + wait_s
            logger.warning("persistent volume not saved yet", extra={"volume": name, "error": str(error)})
            self._save_later(name)
        except ProvisionError:
            if name in self._memory.unsaved:
                self._save_later(name)
            raise

    def _record_failure(self, claim: Claim, error: ProvisionError) -> None:
        """Count it, tell it, and note what it says about the driver."""
        self._metrics.provision_failed(claim)
        self._life.failed("provision", error.outcome.value)
        text = str(error)
        if error.is_infeasible:
            text = f"Volume provisioning failed with infeasible error. Retries will be delayed. {text}"
            storage_class = self._classes.find(claim.class_name)
            if storage_class is not None:
                self._memory.slow_down(claim.uid, storage_class.uid, self._ctx.clock.monotonic())
        cause = error.__cause__
        says_why = not (isinstance(cause, CSIError) and cause.code in _SAYS_LITTLE)
        first = self._memory.first_error(claim.uid, text, says_why=says_why)
        self._tell(claim, "Warning", "ProvisioningFailed", with_history(text, current_attempt(), first))
        if error.outcome is not Outcome.NO_CHANGE:
            self._room.volume_refused(claim.class_name)
        if error.outcome in (Outcome.FINAL, Outcome.RESCHEDULE):
            self._memory.in_progress.pop(claim.uid, None)

    def _saw(self, claim: Claim) -> None:
        self._memory.claims_seen.setdefault(claim.uid, rfc3339_micro(self._ctx.clock.now()))

    def _name_of(self, claim: Claim) -> str:
        with failing_as(Outcome.FINAL):
            return names.volume_name(claim.uid, self._settings)

    def _tell(self, claim: Claim, event_type: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        self._ctx.events.event(Regarding.of(PERSISTENT_VOLUME_CLAIMS, claim), event_type, reason, message)


def migrated(plan: VolumePlan) -> str | None:
    """The label of the metric of calls for the volume; None where no such label is."""
    return "true" if plan.draft.is_migrated else None
