"""Taking our finalizers off sources: off claims whose clones are done, off snapshots that nobody restores any more.

Putting them on, and taking one off a snapshot right after its restore, is the claim's own story. Every write here is
an update of the object just read, as the shipped role allows no patch of these two kinds.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec

from csisidecar.errors import ConflictError, ForbiddenError, KubeError, NotFoundError
from csisidecar.kube import PERSISTENT_VOLUME_CLAIMS, VOLUME_SNAPSHOTS, ObjectKey
from csisidecar.plugins.provisioner import names
from csisidecar.plugins.provisioner.outcome import Outcome, ProvisionError
from csisidecar.runtime import DONE, Controller, every, on_mapped, on_self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from csisidecar.backoff import Backoff
    from csisidecar.config import ProvisionerSettings
    from csisidecar.kube import Claim, KubeClient, ObjectRef
    from csisidecar.plugin import PluginContext
    from csisidecar.plugins.provisioner.memory import Memory
    from csisidecar.runtime import Result, Store

logger = logging.getLogger(__name__)

BY_CLONE_SOURCE = "by clone source"
"""Index of the claim store: key of a claim → pending claims that are to be cloned from it."""

BY_RESTORED_SNAPSHOT = "by restored snapshot"
"""Index of the claim store: key of a snapshot → pending claims that are to be filled from it."""

_SNAPSHOT_GROUP = "snapshot.storage.k8s.io"
_SWEEP = "sweep"


def unprotecting_controllers(
    ctx: PluginContext, settings: ProvisionerSettings, memory: Memory, claims: Store[Claim], backoff: Backoff
) -> Sequence[Controller[Any]]:
    """One controller for sources of clones and one for snapshots, each where the driver has what it is for.

    Source: external-provisioner `cmd/csi-provisioner/csi-provisioner.go`, main.
    """
    found: list[Controller[Any]] = []
    if ctx.driver.has_controller("CLONE_VOLUME"):
        claims.add_index(BY_CLONE_SOURCE, _pending_source)
        found.append(
            Controller(
                name="cloneprotection",
                # The Go provisioner counts this queue together with the claims'.
                queue_name="claims",
                reconciler=CloneSourceReconciler(ctx.kube, memory, claims),
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
        found.append(
            Controller(
                name="snapshotsweep",
                reconciler=SnapshotSweeper(ctx.kube, memory, claims),
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
    deleted meanwhile and whose CreateVolume may still be running.

    Source: external-provisioner `pkg/controller/clone_controller.go`.
    """

    def __init__(self, kube: KubeClient, memory: Memory, claims: Store[Claim]) -> None:
        self._kube = kube
        self._memory = memory
        self._claims = claims

    async def reconcile(self, key: ObjectKey) -> Result:
        """Let the claim go if no clone needs it any more."""
        claim = self._claims.get(key)
        if claim is None or not _is_held(claim):
            return DONE
        running = [plan.draft.claim for plan in self._memory.in_progress.values()]
        for clone in (*self._claims.by_index(BY_CLONE_SOURCE, key), *running):
            if find_clone_source(clone) == key:
                raise ProvisionError(
                    f"the claim is the source of clone {clone.key}, which has no volume yet", Outcome.NO_CHANGE
                )
        try:
            live = await self._kube.get(PERSISTENT_VOLUME_CLAIMS, key.name, namespace=key.namespace)
            if live["metadata"].get("uid") == claim.uid and _take_off(live, names.CLONING_FINALIZER):
                await self._kube.update(PERSISTENT_VOLUME_CLAIMS, live)
        except NotFoundError:
            pass
        return DONE


class SnapshotSweeper:
    """Key: always the same; one look at every snapshot.

    Finalizers are left over when a claim is deleted before its restore has ended, when the Go provisioner or we
    ended in between, or when the write that takes one off failed.

    Source: external-provisioner `pkg/controller/snapshot_finalizer_controller.go`. It keeps a watch of all
    snapshots for this; a list at each sweep needs less and notices when the kind is installed later.
    """

    def __init__(self, kube: KubeClient, memory: Memory, claims: Store[Claim]) -> None:
        self._kube = kube
        self._quiet = kube.derive(permissions=None)
        self._memory = memory
        self._claims = claims
        self._told = ""

    async def reconcile(self, key: str) -> Result:
        """Take our finalizer off every snapshot from which no claim is to be filled."""
        del key
        try:
            async for snapshot in self._protected():
                # No await between the look for claims and the write, which the server checks against what was read.
                if not self._is_needed(_key_of(snapshot)):
                    await self._release(snapshot)
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

    def _is_needed(self, key: ObjectKey) -> bool:
        """Whether a claim is to be filled from the snapshot, or a volume may be in the making from it."""
        running = (plan.draft.claim for plan in self._memory.in_progress.values())
        return bool(self._claims.by_index(BY_RESTORED_SNAPSHOT, key)) or any(
            find_restored_snapshot(claim) == key for claim in running
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
