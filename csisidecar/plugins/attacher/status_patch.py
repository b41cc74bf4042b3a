"""What the attacher writes: patches of an attachment's metadata and status, and of a volume's finalizers; pure.

A function gives None when there is nothing to change. Each patch is bound to the object's UID, so that one meant
for an attachment that is gone never lands on a new one of the same name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from csisidecar.clock import rfc3339
from csisidecar.kube.objects import AttachmentStatus
from csisidecar.kube.patch import add_finalizer, escape, remove_finalizer
from csisidecar.plugins.attacher.names import NODE_ID_ANNOTATION
from csisidecar.runtime import clip

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from csisidecar.kube import Attachment, KubeObject

MESSAGE_LIMIT_BYTES = 1024
"""Longest error message the API server accepts on an attachment, in UTF-8.

Source: Kubernetes `pkg/apis/storage/validation/validation.go`, maxVolumeErrorMessageSize.
"""

ErrorField = Literal["attachError", "detachError"]

_NO_STATUS = AttachmentStatus()


def build_marks(attachment: Attachment, *, finalizer: str, node_id: str) -> list[dict[str, Any]] | None:
    """JSON patch that puts our finalizer and the node id on `attachment`, before anything is published."""
    operations: list[dict[str, Any]] = []
    if finalizer not in attachment.finalizers:
        operations += add_finalizer(attachment.finalizers, finalizer)
    if attachment.annotations.get(NODE_ID_ANNOTATION) != node_id:
        if not attachment.annotations:
            # The copy may have left out annotations that nobody reads; the test finds out before any is lost.
            operations.append({"op": "test", "path": "/metadata/annotations", "value": None})
            operations.append({"op": "add", "path": "/metadata/annotations", "value": {}})
        path = f"/metadata/annotations/{escape(NODE_ID_ANNOTATION)}"
        operations.append({"op": "add", "path": path, "value": node_id})
    return [_uid_test(attachment), *operations] if operations else None


def build_finalizer_on(obj: KubeObject, finalizer: str) -> list[dict[str, Any]] | None:
    """JSON patch that puts `finalizer` on `obj`."""
    if finalizer in obj.finalizers:
        return None
    return [_uid_test(obj), *add_finalizer(obj.finalizers, finalizer)]


def build_finalizer_off(obj: KubeObject, finalizer: str) -> list[dict[str, Any]] | None:
    """JSON patch that takes the first `finalizer` off `obj`."""
    if finalizer not in obj.finalizers:
        return None
    return [_uid_test(obj), *remove_finalizer(obj.finalizers, finalizer)]


def build_attached(
    attachment: Attachment, publish_context: Mapping[str, str], *, clear_error: bool
) -> dict[str, Any] | None:
    """Merge patch of the status that says attached, with what the driver wants the node to know.

    Args:
        attachment: the newest state known.
        publish_context: the driver's answer; keys of an earlier answer that it lacks are removed.
        clear_error: whether an attachError may be there that `attachment` does not show.
    """
    base = attachment.status or _NO_STATUS
    status: dict[str, Any] = {}
    if not base.attached:
        status["attached"] = True
    had = base.attachment_metadata or {}
    changed: dict[str, str | None] = {key: value for key, value in publish_context.items() if had.get(key) != value}
    changed.update(dict.fromkeys(had.keys() - publish_context.keys()))
    if changed:
        status["attachmentMetadata"] = changed if publish_context else None
    if clear_error or base.attach_error is not None:
        status["attachError"] = None
    return _status_patch(attachment, status)


def build_detached(attachment: Attachment) -> dict[str, Any] | None:
    """Merge patch of the status that says detached; attachError stays as it is."""
    base = attachment.status or _NO_STATUS
    status: dict[str, Any] = {}
    if base.attached:
        status["attached"] = False
    if base.attachment_metadata:
        status["attachmentMetadata"] = None
    if base.detach_error is not None:
        status["detachError"] = None
    return _status_patch(attachment, status)


def build_error(
    attachment: Attachment, field: ErrorField, text: str, *, at: datetime, code: int | None
) -> dict[str, Any] | None:
    """Merge patch of the status that shows an error; of an error already shown only what differs.

    Args:
        attachment: the newest state known.
        field: which of the two errors.
        text: the whole error; what the API server would refuse as too long is cut.
        at: when it happened.
        code: gRPC status of the error, None for none.

    Source: external-attacher `pkg/controller/csi_handler.go`, saveAttachError and saveDetachError.
    """
    status = attachment.status or _NO_STATUS
    base = status.attach_error if field == "attachError" else status.detach_error
    message, time = clip(text, MESSAGE_LIMIT_BYTES), rfc3339(at)
    shown: dict[str, Any] = {}
    if base is None or base.message != message:
        shown["message"] = message
    if base is None or base.time != time:
        shown["time"] = time
    if code != (base.error_code if base else None):
        shown["errorCode"] = code
    return _status_patch(attachment, {field: shown} if shown else {})


def build_first_error(
    attachment: Attachment, field: ErrorField, text: str, *, at: datetime
) -> list[dict[str, Any]] | None:
    """JSON patch of the status that shows an error where none is, None where one is.

    It tests that there still is none and that nothing else became of the attachment, since it comes from outside of
    the attempts.
    """
    status = attachment.status or _NO_STATUS
    if (status.attach_error if field == "attachError" else status.detach_error) is not None:
        return None
    return [
        _uid_test(attachment),
        {"op": "test", "path": "/status/attached", "value": status.attached},
        {"op": "test", "path": f"/status/{field}", "value": None},
        {
            "op": "add",
            "path": f"/status/{field}",
            "value": {"message": clip(text, MESSAGE_LIMIT_BYTES), "time": rfc3339(at)},
        },
    ]


def _status_patch(attachment: Attachment, status: dict[str, Any]) -> dict[str, Any] | None:
    return {"metadata": {"uid": attachment.uid}, "status": status} if status else None


def _uid_test(obj: KubeObject) -> dict[str, Any]:
    return {"op": "test", "path": "/metadata/uid", "value": obj.uid}
