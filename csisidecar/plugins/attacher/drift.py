"""What the driver says is published, beside what attachments say: the comparison, and what it found.

`DriftReconciler` asks the driver from time to time. Where driver and status disagree it notes what it saw, by the
attachment's UID, and offers the attachment; `AttachmentReconciler` reads the note and decides. A note is dropped
when an attempt has made it untrue and when a later comparison finds no difference.

Source: external-attacher `pkg/controller/csi_handler.go`, ReconcileVA. There a flag by name forces one attempt, and
inline volumes are never compared.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from csisidecar.errors import UnusableObjectError
from csisidecar.plugins.attacher.target import find_node_id_or_kept, find_target, handle_on
from csisidecar.runtime import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

    from csisidecar.csi import CSIClient
    from csisidecar.kube import Attachment, ObjectKey
    from csisidecar.plugins.attacher.stores import AttachmentStores

logger = logging.getLogger(__name__)

YIELD_EVERY = 250
"""Attachments between two yields to the loop; about 2 ms of work."""

NAMED = 10
"""Attachments of one comparison that the log names; of the others it tells the number."""


class Sightings:
    """Where the driver was seen to contradict an attachment's status."""

    def __init__(self) -> None:
        self._is_published: dict[str, bool] = {}
        self._settled: set[str] = set()

    def contradicts(self, attachment: Attachment) -> bool:
        """Whether the driver was seen to have `attachment` published and its status says no, or the other way round."""
        return self._is_published.get(attachment.uid, attachment.is_attached) != attachment.is_attached

    def settled(self, attachment: Attachment) -> None:
        """The driver has just done as `attachment` asks; what was seen before, or is being looked at, is old."""
        self._is_published.pop(attachment.uid, None)
        self._settled.add(attachment.uid)

    def begin(self) -> None:
        """A look at the driver begins."""
        self._settled.clear()

    def note(self, attachment: Attachment, *, is_published: bool) -> bool:
        """Keep what was seen of `attachment`; whether it contradicts it, and no attempt has overtaken that."""
        if attachment.uid in self._settled:
            return False
        if is_published is attachment.is_attached:
            self._is_published.pop(attachment.uid, None)
            return False
        self._is_published[attachment.uid] = is_published
        return True

    def end(self, uids: Container[str]) -> None:
        """The look is over; of attachments that are not in `uids` any more nothing is kept."""
        for gone in [uid for uid in self._is_published if uid not in uids]:
            del self._is_published[gone]


class DriftReconciler:
    """Compares every attachment of the driver with its list of volumes, once per attempt.

    All pages share one deadline; an error anywhere ends the comparison without effect.

    Args:
        driver: its name; attachments of others are left alone.
        csi: asks the driver.
        stores: the local copies.
        sightings: takes what was seen.
        offer: makes an attachment be looked at now.
        timeout_s: deadline of the whole list.
        max_entries: wanted size of a page, 0: the driver's choice.
        pause_s: from the end of a comparison to the next.
    """

    def __init__(
        self,
        *,
        driver: str,
        csi: CSIClient,
        stores: AttachmentStores,
        sightings: Sightings,
        offer: Callable[[ObjectKey], None],
        timeout_s: float,
        max_entries: int,
        pause_s: float,
    ) -> None:
        self._driver = driver
        self._csi = csi
        self._stores = stores
        self._sightings = sightings
        self._offer = offer
        self._timeout_s = timeout_s
        self._max_entries = max_entries
        self._pause_s = pause_s

    async def reconcile(self, key: str) -> Result:
        """One comparison; `key` only names it."""
        del key
        # Compared is what was there before the driver was asked and is unchanged after: the rest is in motion.
        before = {found.uid: found.is_attached for found in self._own()}
        self._sightings.begin()
        published = await self._csi.list_published(self._max_entries, timeout_s=self._timeout_s)
        await self._compare(before, published)
        return Result.again(self._pause_s)

    async def _compare(self, before: Mapping[str, bool], published: Mapping[str, frozenset[str]]) -> None:
        disagree: list[str] = []
        skipped: list[str] = []
        for count, attachment in enumerate(self._own(), 1):
            if count % YIELD_EVERY == 0:
                await asyncio.sleep(0)
            if before.get(attachment.uid) is not attachment.is_attached:
                continue
            try:
                is_published = self._is_on_node(attachment, published)
            except UnusableObjectError as error:
                skipped.append(f"{attachment.name}: {error}")
                continue
            if self._sightings.note(attachment, is_published=is_published):
                disagree.append(f"{attachment.name}: {'published' if is_published else 'not published'}")
                self._offer(attachment.key)
        self._sightings.end({found.uid for found in self._own()})
        if skipped:
            logger.warning(
                "attachments could not be compared with the driver's list",
                extra={"count": len(skipped), "first": skipped[:NAMED]},
            )
        if disagree:
            logger.warning(
                "the driver's list differs from the status of attachments",
                extra={"count": len(disagree), "first": disagree[:NAMED]},
            )

    def _is_on_node(self, attachment: Attachment, published: Mapping[str, frozenset[str]]) -> bool:
        node_id = find_node_id_or_kept(attachment, self._stores.nodes, self._driver)
        target = find_target(attachment, self._stores.volumes, for_attach=False)
        return node_id in published.get(handle_on(target, node_id, self._driver), ())

    def _own(self) -> Iterable[Attachment]:
        return (found for found in self._stores.attachments.values() if found.spec.attacher == self._driver)
