"""Taking our finalizers off sources: off claims whose clones are done, off snapshots that nobody restores any more.

Putting them on, and taking one off a snapshot right after its restore, is the claim's own story. Every write here is
an update of the object just read, as the shipped role allows no patch of these two kinds.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec

from csisidecar.errors import ConflictError, ForbiddenError, KubeError, NotFoundError
from csisidecar.kube import PERSISTENT_VOLUME_CLAIMS, STORAGE_CLASSES, VOLUME_SNAPSHOTS, ObjectKey, StorageClass
from csisidecar.plugins.provisioner import names
from csisidecar.plugins.provisioner.held import HeldSources, name_all
from csisidecar.plugins.provisioner.history import short_duration
from csisidecar.plugins.provisioner.waits import LOOK_AGAIN_S
from csisidecar.runtime import DONE, Controller, Regarding, Result, every, on_mapped, on_self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from csisidecar.backoff import Backoff
    from csisidecar.config import ProvisionerSettings
    from csisidecar.kube import Claim, KubeClient, ObjectRef
    from csisidecar.plugin import PluginContext
    from csisidecar.plugins.provisioner.memory import Memory
    from csisidecar.runtime import Store

logger = logging.getLogger(__name__)

BY_CLONE_SOURCE = "by clone source"
"""Index of the claim store: key of a claim → pending claims that are to be cloned from it."""

BY_RESTORED_SNAPSHOT = "by restored snapshot"
"""Index of the claim store: key of a snapshot → pending claims that are to be filled from it."""

_SNAPSHOT_GROUP = "snapshot.storage.k8s.io"
_SWEEP = "sweep"
_CONFLICT_PAUSE_S = 1.0


def unprotecting_controllers(
    ctx: PluginContext, settings: ProvisionerSettings, memory: Memory, claims: Store[Claim], backoff: Backoff
) -> Sequence[Controller[Any]]:
    """One controller for sources of clones and one for snapshots, each where the driver has what it is for.

    Source: external-provisioner `cmd/csi-provisioner/csi-provisioner.go`, main.
    """
    found: list[Controller[Any]] = []
    classes = ctx.stores.get(STORAGE_CLASSES, StorageClass)
    if ctx.driver.has_controller("CLONE_VOLUME"):
        claims.add_index(BY_CLONE_SOURCE, _pending_source)
        held = HeldSources(ctx, settings, classes, reason="WaitingForClone", told=memory.told_claims)
        found.append(
            Controller(
                name="cloneprotection",
                # The Go provisioner counts this queue together with the claims'.
                queue_name="claims",
                reconciler=CloneSourceReconciler(ctx.kube, memory, claims, held),
                triggers=[
                    on_self(claims, when=lambda change: change.new is not None and _is_held(change.new)),
                    on_mapped(claims, _sources_of(claims), deletes=True),
                ],
                workers=settings.cloning_protection_threads,
                backoff=backoff,
                resync_s=settings.resync_s,
            )
        )
    if ctx.driver.has_controller("CREATE_DELETE_SNAPSHOT") and settings.snapshot_orphan_sweep_interval_s > 0:
        claims.add_index(BY_RESTORED_SNAPSHOT, _pending_snapshot)
        held = HeldSources(ctx, settings, classes, reason="WaitingForRestore", told=memory.told_snapshots)
        found.append(
            Controller(
                name="snapshotsweep",
                reconciler=SnapshotSweeper(
                    ctx.kube, memory, claims, held, interval_s=settings.snapshot_orphan_sweep_interval_s
                ),
                triggers=[every(settings.snapshot_orphan_sweep_interval_s, lambda: (_SWEEP,))],
                workers=1,
                backoff=backoff,
            )
        )
    return found


def _is_held(claim: Claim) -> bool:
    return claim.is_deleting and names.CLONING_FINALIZER in claim.finalizers


def _pending_source(claim: Claim) -> Sequence[ObjectKey]:
    key = find_clone_source(claim)
    return (key,) if key is not None and claim.phase == "Pending" else ()


def _pending_snapshot(claim: Claim) -> Sequence[ObjectKey]:
    key = find_restored_snapshot(claim)
    return (key,) if key is not None and claim.phase in ("Pending", "") else ()


def _sources_of(claims: Store[Claim]) -> Callable[[Claim], Sequence[ObjectKey]]:
    """A clone that changes may have been the last one that its source waited for."""

    def keys(claim: Claim) -> Sequence[ObjectKey]:
        key = find_clone_source(claim)
        source = claims.get(key) if key is not None else None
        return (source.key,) if source is not None and _is_held(source) else ()

    return keys


def find_clone_source(claim: Claim) -> ObjectKey | None:
    """The claim that this one is cloned from, in whichever namespace; None for no clone."""
    spec = claim.spec
    if spec.data_source is not None and spec.data_source.kind == "PersistentVolumeClaim":
        return ObjectKey(claim.namespace, spec.data_source.name)
    reference = spec.data_source_ref
    if reference is not None and reference.kind == "PersistentVolumeClaim" and not reference.api_group:
        return ObjectKey(reference.namespace or claim.namespace, reference.name)
    return None


class CloneSourceReconciler:
    """Key: a claim that may be the source of clones.

    Guarantees: our finalizer stays on a deleted claim while a clone of it waits for its volume, even one that was
    deleted meanwhile and whose CreateVolume may still be running. Waiting is no failure; an Event says it once.

    Source: external-provisioner `pkg/controller/clone_controller.go`.
    """

    def __init__(self, kube: KubeClient, memory: Memory, claims: Store[Claim], held: HeldSources) -> None:
        self._kube = kube
        self._memory = memory
        self._claims = claims
        self._held = held

    async def reconcile(self, key: ObjectKey) -> Result:
        """Let the claim go if no clone needs it any more."""
        claim = self._claims.get(key)
        if claim is None or not _is_held(claim):
            return DONE
        pending = self._claims.by_index(BY_CLONE_SOURCE, key)
        plans = self._memory.in_progress.values()
        running = [plan.draft.claim for plan in plans if find_clone_source(plan.draft.claim) == key]
        if pending or running:
            self._tell(claim, pending, running)
            # A clone that changes wakes us; the end of a call for one that is gone changes nothing that is watched.
            return Result.again(LOOK_AGAIN_S) if running else DONE
        try:
            live = await self._kube.get(PERSISTENT_VOLUME_CLAIMS, key.name, namespace=key.namespace)
            if live["metadata"].get("uid") == claim.uid and _take_off(live, names.CLONING_FINALIZER):
                await self._kube.update(PERSISTENT_VOLUME_CLAIMS, live)
        except NotFoundError:
            pass
        except ConflictError:
            # The provisioners of other drivers take it off at the same moment.
            return Result.again(_CONFLICT_PAUSE_S)
        return DONE

    def _tell(self, claim: Claim, pending: Sequence[Claim], running: Sequence[Claim]) -> None:
        calls = {clone.uid for clone in running}
        ours = [clone for clone in pending if clone.uid in calls or self._held.is_ours_to_tell(clone, claim)]
        gone = [clone for clone in running if not self._is_stored(clone)]
        if ours:
            text = f"Deletion waits for clone {name_all(ours)}, without a volume yet, to be Bound or deleted"
        elif gone:
            text = f"Deletion waits for the driver to finish the volume of clone {name_all(gone)}, deleted meanwhile"
        else:
            logger.debug("clones of other drivers hold a claim", extra={"claim": str(claim.key)})
            return
        self._held.forget_others({each.uid for each in self._claims.values() if _is_held(each)})
        self._held.tell(Regarding.of(PERSISTENT_VOLUME_CLAIMS, claim), text)

    def _is_stored(self, clone: Claim) -> bool:
        stored = self._claims.get(clone.key)
        return stored is not None and stored.uid == clone.uid


class SnapshotSweeper:
    """Key: always the same; one look at every snapshot.

    Finalizers are left over when a claim is deleted before its restore has ended, when the Go provisioner or we
    ended in between, or when the write that takes one off failed.

    Source: external-provisioner `pkg/controller/snapshot_finalizer_controller.go`. It keeps a watch of all
    snapshots for this; a list at each sweep needs less and notices when the kind is installed later.
    """

    def __init__(
        self, kube: KubeClient, memory: Memory, claims: Store[Claim], held: HeldSources, *, interval_s: float
    ) -> None:
        self._kube = kube
        self._quiet = kube.derive(permissions=None)
        self._memory = memory
        self._claims = claims
        self._held = held
        self._interval_s = interval_s
        self._told = ""

    async def reconcile(self, key: str) -> Result:
        """Take our finalizer off every snapshot from which no claim is to be filled; tell of deleted ones that stay."""
        del key
        waiting: set[str] = set()
        try:
            async for snapshot in self._protected():
                # No await between the look for claims and the write, which the server checks against what was read.
                claims = self._claims_to_fill(_key_of(snapshot))
                if not claims:
                    await self._release(snapshot)
                elif snapshot["metadata"].get("deletionTimestamp"):
                    waiting.add(snapshot["metadata"]["uid"])
                    self._tell(snapshot, claims)
            self._held.forget_others(waiting)
        except (ForbiddenError, NotFoundError) as error:
            # Nobody has to grant this, and the kind need not be installed.
            self._tell_once(str(error))
        return DONE

    async def _protected(self) -> AsyncIterator[dict[str, Any]]:
        token = ""
        while True:
            page = msgspec.json.decode(await self._kube.list_page(VOLUME_SNAPSHOTS, continue_token=token))
            for item in page.get("items") or ():
                if names.SNAPSHOT_FINALIZER in (item["metadata"].get("finalizers") or ()):
                    item.setdefault("apiVersion", VOLUME_SNAPSHOTS.api_version)
                    item.setdefault("kind", VOLUME_SNAPSHOTS.kind)
                    yield item
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return

    def _claims_to_fill(self, key: ObjectKey) -> Sequence[Claim]:
        """Claims that are to be filled from the snapshot, or for which a volume may be in the making from it."""
        running = (plan.draft.claim for plan in self._memory.in_progress.values())
        return [
            *self._claims.by_index(BY_RESTORED_SNAPSHOT, key),
            *(claim for claim in running if find_restored_snapshot(claim) == key),
        ]

    def _tell(self, snapshot: dict[str, Any], claims: Sequence[Claim]) -> None:
        calls = self._memory.in_progress
        ours = [claim for claim in claims if claim.uid in calls or self._held.is_ours_to_tell(claim)]
        if not ours:
            return
        meta = snapshot["metadata"]
        source = Regarding(
            kind=snapshot["kind"],
            api_version=snapshot["apiVersion"],
            namespace=meta["namespace"],
            name=meta["name"],
            uid=meta["uid"],
            resource_version=meta["resourceVersion"],
        )
        self._held.tell(
            source,
            f"Deletion waits for claim {name_all(ours)}, to be filled from here and without a volume yet,"
            f" to be Bound or deleted; looked at every {short_duration(self._interval_s)}",
        )

    async def _release(self, snapshot: dict[str, Any]) -> None:
        extra = {"snapshot": str(_key_of(snapshot))}
        _take_off(snapshot, names.SNAPSHOT_FINALIZER)
        try:
            await self._quiet.update(VOLUME_SNAPSHOTS, snapshot)
        except (NotFoundError, ConflictError):
            return
        except KubeError as error:
            logger.info("left-over finalizer stays on a snapshot", extra={**extra, "error": str(error)})
        else:
            logger.info("left-over finalizer removed from a snapshot", extra=extra)

    def _tell_once(self, text: str) -> None:
        if text != self._told:
            self._told = text
            logger.info("snapshots are not looked at for left-over finalizers", extra={"error": text})


def find_restored_snapshot(claim: Claim) -> ObjectKey | None:
    """The snapshot that the claim is filled from, in whichever namespace; None for another source or none."""
    source, reference = claim.spec.data_source, claim.spec.data_source_ref
    if source is not None and _is_snapshot(source):
        return ObjectKey(claim.namespace, source.name)
    if reference is not None and _is_snapshot(reference):
        return ObjectKey(reference.namespace or claim.namespace, reference.name)
    return None


def _is_snapshot(source: ObjectRef) -> bool:
    return source.kind == "VolumeSnapshot" and source.api_group in (None, _SNAPSHOT_GROUP)


def _key_of(obj: dict[str, Any]) -> ObjectKey:
    return ObjectKey(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


def _take_off(obj: dict[str, Any], finalizer: str) -> bool:
    found = obj["metadata"].get("finalizers") or []
    obj["metadata"]["finalizers"] = [each for each in found if each != finalizer]
    return finalizer in found
