"""VolumeReconciler: one PersistentVolume; our finalizer on or off, and its end: DeleteVolume, PV gone.

The volume goes first and the PV after it: a PV that is gone while its volume is not would be a volume that nobody
knows of.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from csisidecar.clock import rfc3339_micro
from csisidecar.csi import DeleteVolumeRequest
from csisidecar.errors import (
    ConflictError,
    CSIError,
    InvalidError,
    KubeError,
    NotFoundError,
    ThrottledError,
    UnusableObjectError,
)
from csisidecar.kube import PERSISTENT_VOLUMES, add_finalizer, remove_finalizer
from csisidecar.mapping import migration
from csisidecar.plugins.attachment_store import BY_VOLUME
from csisidecar.plugins.provisioner import eligibility, names
from csisidecar.plugins.provisioner.create_request import check_driver
from csisidecar.plugins.provisioner.credentials import fetch_credentials
from csisidecar.plugins.provisioner.deletion import find_deletion_secret, find_handle
from csisidecar.plugins.provisioner.history import with_history
from csisidecar.plugins.provisioner.planning import translate_class
from csisidecar.plugins.provisioner.saving import BY_UID
from csisidecar.plugins.provisioner.topology import is_volume_here
from csisidecar.runtime import DONE, Regarding, Result, current_attempt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from csisidecar.config import ProvisionerSettings
    from csisidecar.kube import Attachment, Claim, StorageClass, Volume
    from csisidecar.plugin import PluginContext
    from csisidecar.plugins.life_metrics import LifeMetrics
    from csisidecar.plugins.provisioner.capacity import RoomNews
    from csisidecar.plugins.provisioner.memory import Memory
    from csisidecar.plugins.provisioner.metrics import ProvisionerMetrics
    from csisidecar.runtime import Store

logger = logging.getLogger(__name__)

FINALIZER_TRIES = 5
"""How often the finalizer's removal is computed anew when others change the list at the same moment."""


class VolumeReconciler:
    """Key: the PV's name.

    Guarantees: a PV with policy Delete goes only after DeleteVolume succeeded; a volume is not deleted while a
    VolumeAttachment names its PV.
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
        attachments: Store[Attachment] | None,
        metrics: ProvisionerMetrics,
        life: LifeMetrics,
        room: RoomNews,
        segments: Mapping[str, str] | None = None,
    ) -> None:
        self._ctx = ctx
        self._settings = settings
        self._memory = memory
        self._claims = claims
        self._classes = classes
        self._volumes = volumes
        self._attachments = attachments
        self._metrics = metrics
        self._life = life
        self._room = room
        self._segments = segments
        self._own_names = names.own_names(ctx.driver.name)

    async def reconcile(self, name: str) -> Result:
        """Do what the PV called `name` needs now."""
        volume = self._volumes.find(name)
        if volume is None or not eligibility.is_volume_ours(volume, self._own_names):
            self._memory.volumes_seen.pop(name, None)
            return DONE
        if not self._is_here(volume):
            # Another node's provisioner can reach it, ours cannot.
            self._memory.volumes_seen.pop(name, None)
            return DONE
        if eligibility.needs_finalizer(volume):
            await self._patch_finalizer(name, volume.uid, add_finalizer(volume.finalizers, names.FINALIZER))
        elif eligibility.has_needless_finalizer(volume):
            await self._patch_finalizer(name, volume.uid, remove_finalizer(volume.finalizers, names.FINALIZER))
        if not eligibility.should_delete(volume):
            self._memory.volumes_seen.pop(name, None)
            return DONE
        self._memory.volumes_seen.setdefault(name, rfc3339_micro(self._ctx.clock.now()))
        started_s = self._ctx.clock.monotonic()
        try:
            is_volume_here(volume.spec.node_affinity, self._segments)
            await self._delete_volume(volume)
            self._room.volume_deleted(volume.spec.node_affinity)
            await self._delete_object(volume)
        except ThrottledError:
            raise
        except (CSIError, UnusableObjectError) as error:
            self._count_failure(volume)
            self._ctx.events.event(
                Regarding.of(PERSISTENT_VOLUMES, volume),
                "Warning",
                "VolumeFailedDelete",
                with_history(str(error), current_attempt()),
            )
            raise
        except KubeError:
            self._count_failure(volume)
            raise
        self._metrics.deleted(volume, self._ctx.clock.monotonic() - started_s)
        self._life.succeeded("delete", self._memory.volumes_seen.pop(name, None))
        logger.info("volume deleted", extra={"volume": name})
        return DONE

    def _is_here(self, volume: Volume) -> bool:
        """Whether our node can use the volume; an affinity that cannot be read fails the deletion, not this."""
        try:
            return is_volume_here(volume.spec.node_affinity, self._segments)
        except UnusableObjectError:
            return True

    async def _delete_volume(self, volume: Volume) -> None:
        is_migrated = migration.find_by_volume(volume) is not None
        handle = find_handle(volume, self._ctx.driver.name)
        check_driver(self._ctx.driver)
        credentials = await self._fetch_credentials(volume, is_migrated=is_migrated)
        self._check_attachments(volume.name)
        claim_uid = volume.spec.claim_ref.uid if volume.spec.claim_ref else ""
        # There is no await between the check for attachments and the call.
        self._memory.deleting.add(claim_uid)
        try:
            await self._ctx.csi.delete_volume(
                DeleteVolumeRequest(volume_id=handle, secrets=credentials),
                timeout_s=self._settings.timeout_s,
                migrated="true" if is_migrated else None,
            )
        finally:
            self._memory.deleting.discard(claim_uid)
        if any(not claim.spec.volume_name for claim in self._claims.by_index(BY_UID, claim_uid)):
            # Our copy of the claim is older than its volume's whole life; it must not get another one.
            self._memory.stored[claim_uid] = volume.name

    async def _fetch_credentials(self, volume: Volume, *, is_migrated: bool) -> dict[str, str]:
        storage_class = self._classes.find(volume.class_name) if volume.class_name else None
        if is_migrated and storage_class is not None and storage_class.provisioner != self._ctx.driver.name:
            storage_class = translate_class(storage_class)
        ref = find_deletion_secret(volume, storage_class)
        try:
            return await fetch_credentials(self._ctx.kube, ref)
        except UnusableObjectError as error:
            # The Secret may have gone before the volume; most drivers can delete without it.
            logger.warning("deleting a volume without its secret", extra={"volume": volume.name, "error": str(error)})
            return {}

    def _check_attachments(self, name: str) -> None:
        if self._attachments is None:
            return
        for attachment in self._attachments.by_index(BY_VOLUME, name):
            raise UnusableObjectError(
                f"persistentvolume {name} is still attached to node {attachment.spec.node_name or 'unknown'}"
            )

    async def _delete_object(self, volume: Volume) -> None:
        answer = await self._ctx.kube.delete(PERSISTENT_VOLUMES, volume.name, uid=volume.uid)
        await self._take_finalizer_off(volume, answer)

    async def _take_finalizer_off(self, volume: Volume, answer: dict[str, Any]) -> None:
        """Remove our finalizer from the PV as the API server answered the delete, while others remove theirs.

        The key's backoff is not enough here: the next attempt would call DeleteVolume again.
        """
        for tries_left in reversed(range(FINALIZER_TRIES)):
            meta = answer.get("metadata") or {}
            if answer.get("kind") == "Status" or meta.get("uid") != volume.uid:
                return
            patch = remove_finalizer(meta.get("finalizers"), names.FINALIZER)
            if not patch:
                return
            try:
                await self._patch_finalizer(volume.name, volume.uid, patch)
            except NotFoundError:
                return
            except (ConflictError, InvalidError):
                if tries_left == 0:
                    raise
            else:
                return
            try:
                answer = await self._ctx.kube.get(PERSISTENT_VOLUMES, volume.name)
            except NotFoundError:
                return

    async def _patch_finalizer(self, name: str, uid: str, patch: Sequence[dict[str, Any]]) -> None:
        # The name alone could be another PV by now.
        guarded = [{"op": "test", "path": "/metadata/uid", "value": uid}, *patch]
        await self._ctx.kube.patch(PERSISTENT_VOLUMES, name, guarded)

    def _count_failure(self, volume: Volume) -> None:
        self._metrics.delete_failed(volume)
        self._life.failed("delete")
