"""Takes the attacher's finalizer off a PersistentVolume that is being deleted and that no attachment names."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING

from csisidecar.errors import NotFoundError
from csisidecar.kube import PERSISTENT_VOLUMES
from csisidecar.plugins.attacher.live_patch import ensure_patched
from csisidecar.plugins.attacher.status_patch import build_finalizer_off
from csisidecar.plugins.attachment_store import BY_VOLUME
from csisidecar.runtime import DONE, Result

if TYPE_CHECKING:
    from csisidecar.clock import Clock
    from csisidecar.kube import Attachment, KubeClient, ObjectKey, Volume
    from csisidecar.plugins.attacher.changes import VolumeMayBeGivenBack
    from csisidecar.runtime import Store

logger = logging.getLogger(__name__)

TURN_S = 5.0
"""How long after a volume's deletion the finalizers listed before ours are given to leave first.

A finalizer is taken off by its place in the list. Several controllers answer a deletion at the same moment; if each
waits for those before it, none of their requests is refused because the list moved.
"""


class VolumeReconciler:
    """Gives one volume back.

    Source: external-attacher `pkg/controller/csi_handler.go`, ReconcilePV. Any attachment protects the volume,
    whoever attaches it and whatever its state. `TURN_S` is ours.

    Args:
        may_be_given_back: whether a volume is one to give back.
        kube: writes.
        volumes: the cluster's volumes.
        attachments: the cluster's attachments, indexed by volume.
        clock: the age of deletions.
    """

    def __init__(
        self,
        *,
        may_be_given_back: VolumeMayBeGivenBack,
        kube: KubeClient,
        volumes: Store[Volume],
        attachments: Store[Attachment],
        clock: Clock,
    ) -> None:
        self._may_be_given_back = may_be_given_back
        self._kube = kube
        self._volumes = volumes
        self._attachments = attachments
        self._clock = clock

    async def reconcile(self, key: ObjectKey) -> Result:
        """One attempt at the volume called `key`."""
        volume = self._volumes.get(key)
        if volume is None or not self._may_be_given_back.holds(volume):
            return DONE
        if self._attachments.by_index(BY_VOLUME, volume.name):
            return DONE
        wait_s = self._wait_s(volume)
        if wait_s > 0:
            return Result.again(wait_s)
        try:
            await ensure_patched(self._kube, PERSISTENT_VOLUMES, volume, self._finalizer_off)
        except NotFoundError:
            return DONE
        logger.info("volume has lost the attacher's finalizer", extra={"volume": volume.name})
        return DONE

    def _finalizer_off(self, volume: Volume) -> list[dict[str, object]] | None:
        return build_finalizer_off(volume, self._may_be_given_back.finalizer)

    def _wait_s(self, volume: Volume) -> float:
        """How long others may still take off what is listed before our finalizer; 0 when it is our turn."""
        if volume.metadata.deletion_timestamp is None or volume.finalizers[0] == self._may_be_given_back.finalizer:
            return 0.0
        try:
            deleted_at = datetime.fromisoformat(volume.metadata.deletion_timestamp)
            left_s = TURN_S - (self._clock.now() - deleted_at).total_seconds()
        except (ValueError, TypeError):
            return 0.0
        # More than the whole turn means that the two clocks disagree; then nobody is waited for.
        return left_s if left_s <= TURN_S else 0.0
