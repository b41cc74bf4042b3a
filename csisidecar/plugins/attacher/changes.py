"""Which changes of watched objects make the attacher look again; pure predicates and key functions.

A change that only our own attempt can have made must not start the next attempt: that would defeat the backoff
after a failure, and publish a second time after a success.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from csisidecar.kube.objects import AttachmentStatus
from csisidecar.plugins.attacher.names import MIGRATED_TO_ANNOTATION, NODE_ID_ANNOTATION

if TYPE_CHECKING:
    from csisidecar.kube import Attachment, CSINode, Volume
    from csisidecar.runtime import Change

_NO_STATUS = AttachmentStatus()


@dataclass(frozen=True, slots=True)
class OwnAttachmentChanged:
    """Whether a change of an attachment of `driver` is worth an attempt.

    Counts: appearing, going, a resync, and every change but two kinds. A change of nothing except attachError and
    detachError is an error being saved. Our finalizer and node id coming on while the attachment is not being
    deleted is what an attach does before it publishes, and no attach depends on them.

    Source: external-attacher `pkg/controller/controller.go`, shouldEnqueueVAChange; there the second kind counts,
    which is why it often publishes twice.
    """

    driver: str
    finalizer: str

    def __call__(self, change: Change[Attachment]) -> bool:
        """See the class."""
        if change.obj.spec.attacher != self.driver:
            return False
        old, new = change.old, change.new
        if old is None or new is None or change.is_resync:
            return True
        if self._has_our_marks_added(old, new):
            return self._core(old, hide_marks=True) != self._core(new, hide_marks=True)
        if not _has_error(old) and not _has_error(new):
            return True
        return self._core(old) != self._core(new)

    def _has_our_marks_added(self, old: Attachment, new: Attachment) -> bool:
        had, has = self.finalizer in old.finalizers, self.finalizer in new.finalizers
        if new.is_deleting or (had and not has):
            return False
        return has != had or old.annotations.get(NODE_ID_ANNOTATION) != new.annotations.get(NODE_ID_ANNOTATION)

    def _core(self, attachment: Attachment, *, hide_marks: bool = False) -> Attachment:
        """`attachment` without version and errors; absent and empty lists and maps become equal."""
        annotations, finalizers = dict(attachment.annotations), attachment.finalizers
        if hide_marks:
            annotations.pop(NODE_ID_ANNOTATION, None)
            finalizers = tuple(f for f in finalizers if f != self.finalizer)
        status = attachment.status or _NO_STATUS
        metadata = replace(
            attachment.metadata, resource_version="", annotations=annotations or None, finalizers=finalizers or None
        )
        core_status = replace(
            status, attach_error=None, detach_error=None, attachment_metadata=status.attachment_metadata or None
        )
        return replace(attachment, metadata=metadata, status=core_status)


@dataclass(frozen=True, slots=True)
class VolumeMayBeGivenBack:
    """Whether a volume carries our finalizer and could lose it: it is being deleted, or its migration ended.

    Source: external-attacher `pkg/controller/csi_handler.go`, ReconcilePV and `pkg/controller/controller.go`,
    pvUpdated.
    """

    driver: str
    finalizer: str

    def __call__(self, change: Change[Volume]) -> bool:
        """See the class; a volume that is gone has nothing left to lose."""
        return change.new is not None and self.holds(change.new)

    def holds(self, volume: Volume) -> bool:
        """The same question about one state of a volume."""
        if self.finalizer not in volume.finalizers:
            return False
        return volume.is_deleting or self.is_no_longer_migrated(volume)

    def is_no_longer_migrated(self, volume: Volume) -> bool:
        """Whether the volume has an in-tree source and nothing says that this driver serves it."""
        return bool(volume.in_tree_source) and volume.annotations.get(MIGRATED_TO_ANNOTATION) != self.driver


@dataclass(frozen=True, slots=True)
class NodeIdChanged:
    """Whether a CSINode came to know the driver, forgot it, or knows it by another node id."""

    driver: str

    def __call__(self, change: Change[CSINode]) -> bool:
        """See the class; attachments that wait for their node look again then."""
        return self._node_id(change.old) != self._node_id(change.new)

    def _node_id(self, node: CSINode | None) -> str | None:
        entry = node.find_driver(self.driver) if node else None
        return entry.node_id if entry else None


def is_pending_attach(attachment: Attachment) -> bool:
    """Whether the attachment is wanted and not there yet."""
    return not attachment.is_deleting and not attachment.is_attached


def _has_error(attachment: Attachment) -> bool:
    status = attachment.status
    return status is not None and (status.attach_error is not None or status.detach_error is not None)
