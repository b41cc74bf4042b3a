"""One VolumeAttachment: attach it, or detach it once it is being deleted. The narrator of the attacher.

The order of the writes is the safety of it. Attach: finalizer on the volume, then finalizer and node id on the
attachment, then the driver, then the status; so a publish that may have happened is always undone. Detach: the
driver, then the finalizer, which commits it, and then the status, if anything is left to carry one.

Source: external-attacher `pkg/controller/csi_handler.go`, csiAttach and csiDetach.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from csisidecar.errors import (
    CsiSidecarError,
    KubeError,
    NotFoundError,
    RetryAfter,
    ThrottledError,
    UnusableObjectError,
)
from csisidecar.kube import PERSISTENT_VOLUMES, SECRETS, VOLUME_ATTACHMENTS
from csisidecar.mapping.secrets import decode_secret
from csisidecar.plugins.attacher import status_patch
from csisidecar.plugins.attacher.live_patch import ensure_patched
from csisidecar.plugins.attacher.target import find_node_id, find_node_id_or_kept, find_target, target_of
from csisidecar.runtime import DONE, Result, current_attempt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from csisidecar.csi import ControllerPublishVolumeRequest, CSIClient
    from csisidecar.kube import Attachment, KubeClient, ObjectKey
    from csisidecar.kube.objects import SecretRef
    from csisidecar.plugins.attacher.drift import Sightings
    from csisidecar.plugins.attacher.publish_request import PublishRequests
    from csisidecar.plugins.attacher.report import Report
    from csisidecar.plugins.attacher.stores import AttachmentStores
    from csisidecar.plugins.attacher.target import Target


class AttachmentReconciler:
    """Makes one attachment attached, or detached and free to go.

    No error is terminal: whatever fails is shown on the attachment and tried again by the key's backoff. Only
    being asked by the API server to come back later is no failure and shows nowhere.

    Args:
        driver: its name; attachments of others are left alone.
        finalizer: ours, on attachments and volumes.
        csi: calls the driver.
        kube: reads secrets, writes everything.
        stores: the local copies.
        requests: builds the RPCs' requests.
        sightings: where the driver was seen to contradict the status.
        report: tells the outside.
        timeout_s: deadline of one call to the driver.
    """

    def __init__(
        self,
        *,
        driver: str,
        finalizer: str,
        csi: CSIClient,
        kube: KubeClient,
        stores: AttachmentStores,
        requests: PublishRequests,
        sightings: Sightings,
        report: Report,
        timeout_s: float,
    ) -> None:
        self._driver = driver
        self._finalizer = finalizer
        self._csi = csi
        self._kube = kube
        self._stores = stores
        self._requests = requests
        self._sightings = sightings
        self._report = report
        self._timeout_s = timeout_s
        self._unmarked: dict[ObjectKey, str] = {}
        """Detached attachments, key → UID, that something else keeps and whose status does not say so yet."""

    async def reconcile(self, key: ObjectKey) -> Result:
        """One attempt at the attachment called `key`."""
        attachment = self._stores.attachments.get(key)
        if attachment is None or attachment.uid != self._unmarked.get(key):
            self._unmarked.pop(key, None)
        if attachment is None or attachment.spec.attacher != self._driver:
            self._report.histories.forget(key)
            return DONE
        if self._report.histories.is_of_another(attachment):
            # Its name had failures before it was made: with this they are forgotten, and the queue starts anew.
            self._report.histories.forget(key)
            return Result.again(0)
        contradicted = self._sightings.contradicts(attachment)
        if not attachment.is_deleting:
            if contradicted or not attachment.is_attached:
                await self._attach(attachment)
            else:
                await self._leave_attached(attachment)
        elif contradicted or self._finalizer in attachment.finalizers or key in self._unmarked:
            await self._detach(attachment)
        return DONE

    async def _attach(self, attachment: Attachment) -> None:
        try:
            request, migrated = await self._prepare(attachment)
            answer = await self._csi.controller_publish_volume(request, timeout_s=self._timeout_s, migrated=migrated)
        except (ThrottledError, RetryAfter):
            raise
        except CsiSidecarError as error:
            await self._report.save_attach_failure(attachment, error)
            raise
        # An earlier attempt of ours, or being late, may have saved an error that the copy does not show yet.
        clear_error = current_attempt().failures > 0 or self._report.histories.find(attachment) is not None
        patch = status_patch.build_attached(attachment, answer.publish_context, clear_error=clear_error)
        try:
            with _told_as("failed to mark as attached"):
                await self._write_status(attachment, patch)
        except ThrottledError:
            raise
        except CsiSidecarError as error:
            # Not saved as attachError: the volume is attached, and the next attempt publishes it again.
            self._report.tell_attach_failure(attachment, error)
            raise
        self._sightings.settled(attachment)
        self._report.attached(attachment)

    async def _leave_attached(self, attachment: Attachment) -> None:
        """Nothing to do, but an error of an attempt that nothing repeats any more must not stay beside `attached`."""
        self._report.histories.forget(attachment.key)
        if attachment.status is not None and attachment.status.attach_error is not None:
            context = attachment.status.attachment_metadata or {}
            await self._write_status(attachment, status_patch.build_attached(attachment, context, clear_error=True))

    async def _prepare(self, attachment: Attachment) -> tuple[ControllerPublishVolumeRequest, str]:
        """Everything before the driver is called: the request, and whether its volume is migrated, for the metrics.

        The finalizer on the attachment is last, so a hopeless one can go.
        """
        target = find_target(attachment, self._stores.volumes, for_attach=True)
        if target.volume is not None:
            with _told_as("could not add PersistentVolume finalizer"):
                volume = await ensure_patched(
                    self._kube,
                    PERSISTENT_VOLUMES,
                    target.volume,
                    lambda volume: status_patch.build_finalizer_on(volume, self._finalizer),
                )
            target = target_of(volume)
        capability = self._requests.capability(target)
        secrets = await self._fetch_secrets(target.csi.controller_publish_secret_ref)
        # One that is attached already is published again, so its node was known once.
        find = find_node_id_or_kept if attachment.is_attached else find_node_id
        node_id = find(attachment, self._stores.nodes, self._driver)
        with _told_as("could not save VolumeAttachment"):
            await ensure_patched(
                self._kube,
                VOLUME_ATTACHMENTS,
                attachment,
                lambda found: status_patch.build_marks(found, finalizer=self._finalizer, node_id=node_id),
            )
        request = self._requests.publish(target, capability=capability, node_id=node_id, secrets=secrets)
        return request, _migrated(target)

    async def _detach(self, attachment: Attachment) -> None:
        try:
            if self._finalizer in attachment.finalizers or self._sightings.contradicts(attachment):
                await self._unpublish(attachment)
            await self._mark_detached(attachment)
        except (ThrottledError, RetryAfter):
            raise
        except CsiSidecarError as error:
            await self._report.save_detach_failure(attachment, error)
            raise
        self._report.detached(attachment)

    async def _unpublish(self, attachment: Attachment) -> None:
        target = find_target(attachment, self._stores.volumes, for_attach=False)
        secrets = await self._fetch_secrets(target.csi.controller_publish_secret_ref)
        node_id = find_node_id_or_kept(attachment, self._stores.nodes, self._driver)
        request = self._requests.unpublish(target, node_id=node_id, secrets=secrets)
        await self._csi.controller_unpublish_volume(request, timeout_s=self._timeout_s, migrated=_migrated(target))
        self._sightings.settled(attachment)

    async def _mark_detached(self, attachment: Attachment) -> None:
        """Let the attachment go, and if something else keeps it, say in its status that it is detached.

        Without our finalizer the API server removes an attachment at once unless another finalizer holds it. Then
        the status is owed: `_unmarked` remembers that until it is written or the attachment is gone.
        """
        with _told_as("could not mark as detached"), suppress(NotFoundError):
            left = await ensure_patched(
                self._kube,
                VOLUME_ATTACHMENTS,
                attachment,
                lambda found: status_patch.build_finalizer_off(found, self._finalizer),
            )
            if left.finalizers or not left.is_deleting:
                self._unmarked[attachment.key] = attachment.uid
                await self._write_status(left, status_patch.build_detached(left))
        self._unmarked.pop(attachment.key, None)

    async def _write_status(self, attachment: Attachment, patch: dict[str, object] | None) -> None:
        if patch is not None:
            await self._kube.patch(VOLUME_ATTACHMENTS, attachment.name, patch, subresource="status")

    async def _fetch_secrets(self, ref: SecretRef | None) -> dict[str, str]:
        if ref is None:
            return {}
        with _told_as(f'failed to load secret "{ref.namespace}/{ref.name}"'):
            if not ref.name:
                raise UnusableObjectError("resource name may not be empty")
            return decode_secret(await self._kube.get(SECRETS, ref.name, namespace=ref.namespace))


def _migrated(target: Target) -> str:
    return "true" if target.is_migrated else "false"


@contextmanager
def _told_as(prefix: str) -> Iterator[None]:
    """Errors inside get `prefix`, as the Go attacher words them; an order to come back later passes as it is."""
    try:
        yield
    except ThrottledError:
        raise
    except (KubeError, UnusableObjectError) as error:
        raise CsiSidecarError(f"{prefix}: {error}") from error
