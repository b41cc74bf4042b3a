"""The local copies that attempts at attachments, and their comparison with the driver, read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from csisidecar.kube import Attachment, CSINode, Volume
    from csisidecar.runtime import Store


@dataclass(frozen=True, kw_only=True)
class AttachmentStores:
    """The local copies an attempt reads."""

    attachments: Store[Attachment]
    volumes: Store[Volume]
    nodes: Store[CSINode]
