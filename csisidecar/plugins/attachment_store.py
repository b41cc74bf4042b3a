"""The store of VolumeAttachments as both built-in plugins ask for it, so that they share one watch.

The attacher works on the driver's own attachments. Those of other drivers matter to both plugins in one way only:
as long as one names a PersistentVolume, the volume keeps its finalizer and is not deleted.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from csisidecar.kube import VOLUME_ATTACHMENTS, Attachment
from csisidecar.kube.objects import AttachmentSource, AttachmentSpec, Metadata, compact_attachment

if TYPE_CHECKING:
    from csisidecar.plugin import PluginContext
    from csisidecar.runtime import Store

BY_VOLUME = "by volume"
"""Index of the store: name of a PersistentVolume → attachments that name it, whoever attaches them."""


@dataclass(frozen=True, slots=True)
class ForeignAttachmentsSlim:
    """Keeps attachments of other drivers only as name, UID, version, volume and node; a compactor for the store.

    Equal drivers give equal compactors: that is how two plugins come to share one store. What is left of a foreign
    attachment names no attacher, so it cannot be mistaken for one of ours.
    """

    driver: str

    def __call__(self, attachment: Attachment) -> Attachment:
        """`attachment` itself when it is the driver's, else the little that is kept of it."""
        if attachment.spec.attacher == self.driver:
            return compact_attachment(attachment)
        meta = attachment.metadata
        return Attachment(
            metadata=Metadata(name=meta.name, uid=meta.uid, resource_version=meta.resource_version),
            spec=AttachmentSpec(
                # Whoever waits for its end tells people where the volume is attached.
                node_name=sys.intern(attachment.spec.node_name),
                source=AttachmentSource(persistent_volume_name=attachment.volume_name or None),
            ),
        )


def attachments(ctx: PluginContext) -> Store[Attachment]:
    """The cluster's attachments with the index `BY_VOLUME`; asking again gives the same store."""
    store = ctx.stores.get(VOLUME_ATTACHMENTS, Attachment, compact=ForeignAttachmentsSlim(ctx.driver.name))
    store.add_index(BY_VOLUME, _volume_names)
    return store


def _volume_names(attachment: Attachment) -> tuple[str, ...]:
    return (attachment.volume_name,) if attachment.volume_name else ()
