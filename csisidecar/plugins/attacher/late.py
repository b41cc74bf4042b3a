"""Attachments that take too long: people are told once, and from then on every attachError says since when.

Only telling. No attempt is made, put off or given up because of it, and before the time-out nothing shows.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from csisidecar.errors import InvalidError, NotFoundError
from csisidecar.kube import VOLUME_ATTACHMENTS
from csisidecar.plugins.attacher.changes import is_pending_attach
from csisidecar.plugins.attacher.history import op_of
from csisidecar.plugins.attacher.status_patch import ErrorField, build_first_error
from csisidecar.plugins.life_metrics import age_s
from csisidecar.runtime import DONE, Regarding, Result

if TYPE_CHECKING:
    from collections.abc import Iterable

    from csisidecar.clock import Clock
    from csisidecar.kube import Attachment, KubeClient, ObjectKey, Volume
    from csisidecar.plugins.attacher.history import Histories, History, Op
    from csisidecar.plugins.life_metrics import LifeMetrics
    from csisidecar.runtime import EventRecorder, Store

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
"""How often attachments are looked over for late ones."""

REASONS: dict[Op, str] = {"attach": "AttachLate", "detach": "DetachLate"}
"""Reasons of the Warning Events; stable, people filter by them."""

_DONE: dict[Op, str] = {"attach": "attached", "detach": "detached"}
_FIELDS: dict[Op, ErrorField] = {"attach": "attachError", "detach": "detachError"}


class Lateness:
    """Knows which attachments are late and tells it once for each.

    Args:
        driver: its name; attachments of others are left alone.
        finalizer: ours; a deleted attachment without it is not waited for.
        timeout_s: age from which a pending attachment is late, counted from its creation or its deletion.
        attachments: the cluster's attachments.
        volumes: the cluster's volumes; they name the claims.
        histories: failed attempts.
        events: Warnings on the attachment and on its claim.
        metrics: counts late ones as the outcome ``late``.
        clock: the wall clock.
    """

    def __init__(
        self,
        *,
        driver: str,
        finalizer: str,
        timeout_s: float,
        attachments: Store[Attachment],
        volumes: Store[Volume],
        histories: Histories,
        events: EventRecorder,
        metrics: LifeMetrics,
        clock: Clock,
    ) -> None:
        self._driver = driver
        self._finalizer = finalizer
        self._timeout_s = timeout_s
        self._attachments = attachments
        self._volumes = volumes
        self._histories = histories
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._has_looked = False

    def is_late(self, attachment: Attachment) -> bool:
        """Whether `attachment` is one of ours, pending, and has been for longer than the time-out."""
        if attachment.spec.attacher != self._driver:
            return False
        if not (self._finalizer in attachment.finalizers if attachment.is_deleting else is_pending_attach(attachment)):
            return False
        age = age_s(_since(attachment), self._clock.now())
        return age is not None and age >= self._timeout_s

    def to_tell(self) -> Iterable[ObjectKey]:
        """Keys of the late attachments that nobody was told of; none at the first look.

        What is late because nobody was at work is done by the second look, or has failed.
        """
        if not self._has_looked:
            self._has_looked = True
            return
        for attachment in self._attachments.values():
            if self.is_late(attachment):
                history = self._histories.find(attachment)
                if history is None or not history.is_late:
                    yield attachment.key

    def tell(self, attachment: Attachment) -> History:
        """Tell that `attachment` is late, unless that was done, by us or by whoever led before."""
        history = self._histories.get(attachment)
        if history.is_late:
            return history
        history.is_late = True
        if _was_told(attachment):
            return history
        op, node = history.op, attachment.spec.node_name
        self._metrics.late(op)
        logger.warning(
            "attachment is late",
            extra={
                "attachment": attachment.name,
                "volume": attachment.volume_name,
                "node": node,
                "op": op,
                "since": _since(attachment),
                "attempts": history.attempts,
                "first_error": history.first_error,
            },
        )
        side = "to" if op == "attach" else "from"
        what = attachment.volume_name or "an inline volume"
        text = f"{what} is not {_DONE[op]} {side} node {node} ({self._since_text(attachment, history)})"
        self._events.event(Regarding.of(VOLUME_ATTACHMENTS, attachment), "Warning", REASONS[op], text)
        claim = self._claim_of(attachment)
        if claim is not None:
            self._events.event(claim, "Warning", REASONS[op], text)
        return history

    def error_text(self, attachment: Attachment, error: Exception) -> str:
        """What attachError says of `error`: itself, and for a late attachment also since when, how often and why."""
        if not self.is_late(attachment):
            return str(error)
        return f"{error} ({self._since_text(attachment, self.tell(attachment), besides=str(error))})"

    def only_text(self, attachment: Attachment, history: History) -> str:
        """What the status of a late attachment says when it has no error to show."""
        return self._since_text(attachment, history)

    def _since_text(self, attachment: Attachment, history: History, *, besides: str = "") -> str:
        """The story so far; the first error only if nothing else, nor what the story stands besides, says it."""
        text = f"not {_DONE[history.op]} since {_since(attachment)}, {history.attempts} attempts"
        return f"{text}, first error: {history.first_error}" if history.first_error not in ("", besides) else text

    def _claim_of(self, attachment: Attachment) -> Regarding | None:
        """The claim of the attachment's volume as the volume names it; the claim itself is not read."""
        volume = self._volumes.find(attachment.volume_name) if attachment.volume_name else None
        ref = volume.spec.claim_ref if volume is not None else None
        if ref is None or not ref.name:
            return None
        kind = "PersistentVolumeClaim"
        return Regarding(kind=kind, api_version="v1", namespace=ref.namespace, name=ref.name, uid=ref.uid)


class LateReconciler:
    """Tells that one attachment is late; shows it in the status if there is no error to carry it.

    Args:
        lateness: knows and tells.
        attachments: the cluster's attachments.
        kube: writes the status.
        clock: the time in the error.
    """

    def __init__(self, *, lateness: Lateness, attachments: Store[Attachment], kube: KubeClient, clock: Clock) -> None:
        self._lateness = lateness
        self._attachments = attachments
        self._kube = kube
        self._clock = clock

    async def reconcile(self, key: ObjectKey) -> Result:
        """One look at the attachment called `key`."""
        attachment = self._attachments.get(key)
        if attachment is None or not self._lateness.is_late(attachment):
            return DONE
        history = self._lateness.tell(attachment)
        text = self._lateness.only_text(attachment, history)
        patch = build_first_error(attachment, _FIELDS[history.op], text, at=self._clock.now())
        if patch is None:
            return DONE
        try:
            await self._kube.patch(VOLUME_ATTACHMENTS, attachment.name, patch, subresource="status")
        except (InvalidError, NotFoundError):
            # An attempt that ended meanwhile has the last word: the patch tests that nothing was there yet.
            return DONE
        return DONE


def _since(attachment: Attachment) -> str | None:
    return attachment.metadata.deletion_timestamp or attachment.metadata.creation_timestamp


def _was_told(attachment: Attachment) -> bool:
    """Whether an error in the status already says it: then an earlier leader told, and people know."""
    status = attachment.status
    error = (status.detach_error if op_of(attachment) == "detach" else status.attach_error) if status else None
    return error is not None and f"not {_DONE[op_of(attachment)]} since {_since(attachment)}, " in error.message
