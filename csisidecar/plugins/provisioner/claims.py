"""ClaimReconciler: one PersistentVolumeClaim from "is it ours?" to its stored PV; the only narrator of that story.

The files around it answer one question each and never call back. Whatever goes wrong is raised as one
ProvisionError, told on the claim, and left to the key's backoff.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from csisidecar.clock import rfc3339_micro
from csisidecar.errors import (
    CSIError,
    KubeError,
    NotFoundError,
    RetryAfter,
    TerminalError,
    ThrottledError,
    UnusableObjectError,
)
from csisidecar.kube import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from csisidecar.mapping import secrets
from csisidecar.plugins.provisioner import names
from csisidecar.plugins.provisioner.answer import Fault, judge_answer
from csisidecar.plugins.provisioner.cleanup import delete_again
from csisidecar.plugins.provisioner.create_request import (
    VolumePlan,
    build_request,
    draft_volume,
    driver_parameters,
    find_secret_refs,
)
from csisidecar.plugins.provisioner.credentials import fetch_credentials
from csisidecar.plugins.provisioner.data_source import find_data_source, is_for_populator
from csisidecar.plugins.provisioner.eligibility import Verdict, judge_claim
from csisidecar.plugins.provisioner.history import with_history
from csisidecar.plugins.provisioner.memory import CreatedVolume
from csisidecar.plugins.provisioner.outcome import Outcome, ProvisionError, create_failed
from csisidecar.plugins.provisioner.persistent_volume import build_persistent_volume
from csisidecar.plugins.provisioner.refusals import find_claim_refusal
from csisidecar.plugins.provisioner.reschedule import give_up_node
from csisidecar.plugins.provisioner.saving import BY_UID
from csisidecar.plugins.provisioner.topology import TopologyError, find_requirements
from csisidecar.runtime import DONE, Regarding, Result, current_attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Literal

    from csisidecar.config import ProvisionerSettings
    from csisidecar.csi import Volume as DriverVolume
    from csisidecar.kube import Claim, ObjectRef, SecretRef, StorageClass, Volume
    from csisidecar.plugin import PluginContext
    from csisidecar.plugins.life_metrics import LifeMetrics
    from csisidecar.plugins.provisioner.memory import Memory
    from csisidecar.plugins.provisioner.metrics import ProvisionerMetrics
    from csisidecar.plugins.provisioner.saving import VolumeSaver
    from csisidecar.plugins.provisioner.topology import Cluster, Requirements
    from csisidecar.runtime import Store

logger = logging.getLogger(__name__)


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
        metrics: ProvisionerMetrics,
        life: LifeMetrics,
        identity: str,
        cluster: Cluster | None,
    ) -> None:
        self._ctx = ctx
        self._settings = settings
        self._memory = memory
        self._claims = claims
        self._classes = classes
        self._volumes = volumes
        self._saver = saver
        self._save_later = save_later
        self._metrics = metrics
        self._life = life
        self._identity = identity
        self._driver_name = ctx.driver.name
        self._cluster = cluster

    async def reconcile(self, uid: str) -> Result:
        """Give the claim with this UID a volume, if it is ours and wants one now."""
        plan = self._memory.in_progress.get(uid)
        stored = self._claims.by_index(BY_UID, uid)
        claim = stored[0] if stored else plan.draft.claim if plan else None
        if claim is None:
            self._memory.forget_claim(uid)
            return DONE
        storage_class = plan.draft.storage_class if plan else self._classes.find(claim.class_name)
        verdict = judge_claim(claim, storage_class, self._driver_name, is_unfinished=plan is not None)
        if verdict is Verdict.BOUND:
            self._memory.forget_claim(uid)
            return DONE
        if verdict is Verdict.CLASS_MISSING:
            self._saw(claim)
            error = ProvisionError(f'storageClass "{claim.class_name}" not found', Outcome.NO_CHANGE)
            self._record_failure(claim, error)
            raise error
        if verdict is not Verdict.PROVISION or storage_class is None:
            self._memory.rest_claim(uid)
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
            if error.outcome is Outcome.RESCHEDULE and await give_up_node(self._ctx.kube, claim):
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
            credentials = await self._fetch_credentials(plan.provisioner_secret)
        else:
            with _failing_as(Outcome.FINAL):
                source = find_data_source(claim)
            if source is not None and is_for_populator(source):
                return self._leave_to_populator(claim)
            plan, credentials = await self._make_plan(claim, storage_class, source)
        volume = await self._create(plan, claim, credentials)
        created = CreatedVolume(
            claim=claim,
            plan=plan,
            handle=volume.volume_id,
            body=build_persistent_volume(
                plan,
                claim,
                volume,
                driver_name=self._driver_name,
                identity=self._identity,
                read_only_from_access_mode=self._settings.controller_publish_readonly,
                has_topology=self._cluster is not None,
            ),
        )
        # From here on the volume is the unsaved queue's to lose: an attempt that is cut now is taken up there.
        self._memory.unsaved[plan.draft.name] = created
        self._memory.in_progress.pop(claim.uid, None)
        await self._save(created)
        self._metrics.provisioned(claim, self._ctx.clock.monotonic() - started_s)
        return DONE

    def _leave_to_populator(self, claim: Claim) -> Result:
        self._tell(claim, "Normal", "Provisioning", "Assuming an external populator will provision the volume")
        self._metrics.provision_failed(claim)
        self._memory.rest_claim(claim.uid)
        return DONE

    async def _make_plan(
        self, claim: Claim, storage_class: StorageClass, source: ObjectRef | None
    ) -> tuple[VolumePlan, dict[str, str]]:
        with _failing_as(Outcome.FINAL):
            refusal = find_claim_refusal(claim, storage_class, source, self._driver_name)
            if refusal:
                raise UnusableObjectError(refusal)
            draft = draft_volume(claim, storage_class, self._ctx.driver, self._settings)
        requirements = self._find_requirements(claim, draft.storage_class)
        with _failing_as(Outcome.NO_CHANGE):
            provisioner_secret = draft.find_secret(secrets.PROVISIONER)
        credentials = await self._fetch_credentials(provisioner_secret)
        with _failing_as(Outcome.NO_CHANGE):
            secret_refs = find_secret_refs(draft)
        with _failing_as(Outcome.FINAL):
            parameters = driver_parameters(draft, extra_create_metadata=self._settings.extra_create_metadata)
        plan = VolumePlan(draft=draft, parameters=parameters, secret_refs=secret_refs, requirements=requirements)
        return plan, credentials

    def _find_requirements(self, claim: Claim, storage_class: StorageClass) -> Requirements | None:
        if self._cluster is None:
            return None
        try:
            return find_requirements(
                self._cluster,
                claim_name=claim.name,
                allowed_topologies=storage_class.allowed_topologies,
                selected_node=names.find_selected_node(claim),
                strict=self._settings.strict_topology,
                immediate=self._settings.immediate_topology,
            )
        except TopologyError as error:
            if error.is_node_gone:
                raise ProvisionError(str(error), Outcome.RESCHEDULE) from error
            text = f"error generating accessibility requirements: {error}"
            raise ProvisionError(text, Outcome.NO_CHANGE) from error

    async def _fetch_credentials(self, ref: SecretRef | None) -> dict[str, str]:
        with _failing_as(Outcome.NO_CHANGE):
            return await fetch_credentials(self._ctx.kube, ref)

    async def _create(self, plan: VolumePlan, claim: Claim, credentials: dict[str, str]) -> DriverVolume:
        # Noted before the call: whatever ends this attempt, the volume may be in the making from now on.
        self._memory.in_progress[claim.uid] = plan
        try:
            response = await self._ctx.csi.create_volume(
                build_request(plan, credentials), timeout_s=self._settings.timeout_s
            )
        except CSIError as error:
            may_reschedule = self._cluster is not None and bool(names.find_selected_node(claim))
            raise create_failed(error, may_reschedule=may_reschedule) from error
        volume = judge_answer(plan, response)
        if not isinstance(volume, Fault):
            return volume
        text = volume.text
        if volume.volume_id:
            try:
                await delete_again(
                    self._ctx.csi,
                    self._ctx.clock,
                    volume.volume_id,
                    credentials,
                    timeout_s=self._settings.timeout_s,
                )
            except CSIError as error:
                text = volume.with_cleanup_failure(plan.draft.name, str(error))
        raise ProvisionError(text, Outcome.IN_PROGRESS)

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
        self._life.failed("provision")
        text = str(error)
        if error.is_infeasible:
            text = f"Volume provisioning failed with infeasible error. Retries will be delayed. {text}"
            storage_class = self._classes.find(claim.class_name)
            if storage_class is not None:
                self._memory.slow_down(claim.uid, storage_class.uid, self._ctx.clock.monotonic())
        self._tell(claim, "Warning", "ProvisioningFailed", with_history(text, current_attempt()))
        if error.outcome in (Outcome.FINAL, Outcome.RESCHEDULE):
            self._memory.in_progress.pop(claim.uid, None)

    def _saw(self, claim: Claim) -> None:
        self._memory.claims_seen.setdefault(claim.uid, rfc3339_micro(self._ctx.clock.now()))

    def _name_of(self, claim: Claim) -> str:
        with _failing_as(Outcome.FINAL):
            return names.volume_name(claim.uid, self._settings)

    def _tell(self, claim: Claim, event_type: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        self._ctx.events.event(Regarding.of(PERSISTENT_VOLUME_CLAIMS, claim), event_type, reason, message)


@contextmanager
def _failing_as(outcome: Outcome) -> Iterator[None]:
    """What makes an object unusable, as a failed attempt that says `outcome` about the driver."""
    try:
        yield
    except UnusableObjectError as error:
        raise ProvisionError(str(error), outcome) from error
