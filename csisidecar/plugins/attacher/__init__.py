"""The attacher: VolumeAttachments → ControllerPublishVolume and ControllerUnpublishVolume.

Belongs here: everything about attaching and nothing about provisioning. `plugin.py` puts it together,
`attachments.py` tells the story of one attachment, `volumes.py` gives volumes back.
"""

from csisidecar.plugins.attacher.plugin import Attacher, factory

__all__ = ["Attacher", "factory"]
