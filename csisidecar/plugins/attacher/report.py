"""How attempts at attachments show to the outside: errors in the status, Events, metrics and one log line each.

The reconcilers say what happened; nothing here decides whether it is tried again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from csisidecar.errors import CSIError, KubeError
from csisidecar.kube import VOLUME_ATTACHMENTS
from csisidecar.plugins.attacher.status_patch import build_error
from csisidecar.runtime import Regarding, current_attempt

if TYPE_CHECKING:
    from collections.abc import Callable

    from csisidecar.clock import Clock
    from csisidecar.kube import Attachment, KubeClient
    from csisidecar.plugins.attacher.history import Histories
    from csisidecar.plugins.life_metrics import LifeMetrics
    from csisidecar.runtime import EventRecorder

logger = logging.getLogger(__name__)

ATTACH_FAILED = "AttachFailed"
DETACH_FAILED = "DetachFailed"
ATTACHED = "Attached"
DETACHED = "Detached"
"""Reasons of the Events on a VolumeAttachment; stable, people filter by them."""


def grpc_code(error: Exception) -> int | None:
    """The gRPC status of a driver's error, None for any other; kubelet acts on RESOURCE_EXHAUSTED.

    Source: KEP-4876, mutable CSINode allocatable; external-attacher `pkg/controller/csi_handler.go`, saveAttachError.
    """
    return int(error.code) if isinstance(error, CSIError) else None


def plain_text(attachment: Attachment, error: Exception) -> str:
    """Nothing but the error; stands in where nobody is told that attachments are late."""
    del attachment
    return str(error)


def no_code(error: Exception) -> int | None:
    """None for every error; stands in for `grpc_code` where codes are switched off."""
    del error
    return None


class Report:
    """Tells the outside about attempts at attachments of one driver.

    Args:
        kube: saves errors in the status.
        events: Warning Events for failures, Normal ones only for a success that ends failures.
        clock: the time in error messages.
        metrics: outcomes and ages.
        code_of: what attachError shows as its code.
        text_of: what attachError says of an error.
        histories: what failed attempts have said.
    """

    def __init__(
        self,
        *,
        kube: KubeClient,
        events: EventRecorder,
        clock: Clock,
        metrics: LifeMetrics,
        code_of: Callable[[Exception], int | None],
        text_of: Callable[[Attachment, Exception], str],
        histories: Histories,
    ) -> None:
        self._kube = kube
        self._events = events
        self._clock = clock
        self.metrics = metrics
        """Outcomes and ages; whoever knows what is pending declares it here."""
        self._code_of = code_of
        self._text_of = text_of
        self.histories = histories
        """What failed attempts have said; whoever knows that an attachment is gone forgets its own here."""

    async def save_attach_failure(self, attachment: Attachment, error: Exception) -> None:
        """Show `error` as attachError, besides what `tell_attach_failure` does; a failure to save it is only logged."""
        self.tell_attach_failure(attachment, error)
        text, code = self._text_of(attachment, error), self._code_of(error)
        await self._save(attachment, build_error(attachment, "attachError", text, at=self._clock.now(), code=code))

    async def save_detach_failure(self, attachment: Attachment, error: Exception) -> None:
        """Show `error` as detachError, which never has a code; otherwise as `save_attach_failure`."""
        self.metrics.failed("detach")
        self._warn(attachment, DETACH_FAILED, error)
        await self._save(
            attachment, build_error(attachment, "detachError", str(error), at=self._clock.now(), code=None)
        )

    def tell_attach_failure(self, attachment: Attachment, error: Exception) -> None:
        """Count the failure and record its Event, without touching the status."""
        self.metrics.failed("attach")
        self._warn(attachment, ATTACH_FAILED, error)

    def attached(self, attachment: Attachment) -> None:
        """`attachment`, as it was before, is attached now; it may have been before, but not at the driver."""
        self.metrics.succeeded("attach", None if attachment.is_attached else attachment.metadata.creation_timestamp)
        had_failed = attachment.status is not None and attachment.status.attach_error is not None
        self._succeeded(attachment, ATTACHED, had_failed=had_failed)

    def detached(self, attachment: Attachment) -> None:
        """`attachment`, as it was before, is detached now."""
        self.metrics.succeeded("detach", attachment.metadata.deletion_timestamp)
        had_failed = attachment.status is not None and attachment.status.detach_error is not None
        self._succeeded(attachment, DETACHED, had_failed=had_failed)

    def _succeeded(self, attachment: Attachment, reason: str, *, had_failed: bool) -> None:
        failures = current_attempt().failures
        had_trouble = had_failed or failures > 0 or self.histories.find(attachment) is not None
        self.histories.forget(attachment.key)
        volume, node = attachment.volume_name or "an inline volume", attachment.spec.node_name
        logger.info(
            "attachment is attached" if reason == ATTACHED else "attachment is detached",
            extra={"attachment": attachment.name, "volume": volume, "node": node, "failures": failures},
        )
        if had_trouble:
            side = "attached to" if reason == ATTACHED else "detached from"
            self._events.event(
                Regarding.of(VOLUME_ATTACHMENTS, attachment), "Normal", reason, f"{volume} is {side} node {node}"
            )

    def _warn(self, attachment: Attachment, reason: str, error: Exception) -> None:
        text, first = str(error), self.histories.failed(attachment, error).first_error
        if first != text:
            text = f"{text} (first error: {first})"
        self._events.event(Regarding.of(VOLUME_ATTACHMENTS, attachment), "Warning", reason, text)

    async def _save(self, attachment: Attachment, patch: dict[str, object] | None) -> None:
        if patch is None:
            return
        try:
            await self._kube.patch(VOLUME_ATTACHMENTS, attachment.name, patch, subresource="status")
        except KubeError as error:
            # The attempt fails with the error that could not be saved, and the next one tries to show its own.
            logger.warning(
                "error could not be saved on the attachment", extra={"attachment": attachment.name, "error": str(error)}
            )
