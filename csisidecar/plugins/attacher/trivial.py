"""Attachments of a driver that attaches nothing: each is marked attached, and that is all.

No finalizer, no call to the driver, no node id. Even one that is being deleted is marked.

Source: external-attacher `pkg/controller/trivial_handler.go`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from csisidecar.errors import KubeError, NotFoundError, ThrottledError
from csisidecar.kube import VOLUME_ATTACHMENTS
from csisidecar.plugins.attacher.status_patch import build_attached
from csisidecar.runtime import DONE, Result, current_attempt

if TYPE_CHECKING:
    from csisidecar.kube import Attachment, KubeClient, ObjectKey
    from csisidecar.plugins.attacher.report import Report
    from csisidecar.runtime import Store


class TrivialReconciler:
    """Marks one attachment attached.

    Args:
        driver: its name; attachments of others are left alone.
        kube: writes the status.
        attachments: the cluster's attachments.
        report: tells the outside.
    """

    def __init__(self, *, driver: str, kube: KubeClient, attachments: Store[Attachment], report: Report) -> None:
        self._driver = driver
        self._kube = kube
        self._attachments = attachments
        self._report = report

    async def reconcile(self, key: ObjectKey) -> Result:
        """One attempt at the attachment called `key`."""
        attachment = self._attachments.get(key)
        if attachment is None or attachment.spec.attacher != self._driver or attachment.is_attached:
            self._report.histories.forget(key)
            return DONE
        patch = build_attached(attachment, {}, clear_error=current_attempt().failures > 0)
        if patch is None:
            return DONE
        try:
            await self._kube.patch(VOLUME_ATTACHMENTS, attachment.name, patch, subresource="status")
        except ThrottledError:
            raise
        except NotFoundError:
            return DONE
        except KubeError as error:
            self._report.tell_attach_failure(attachment, error)
            raise
        self._report.attached(attachment)
        return DONE
