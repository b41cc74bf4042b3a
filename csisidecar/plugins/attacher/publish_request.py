"""Target, node and secrets → ControllerPublishVolume and ControllerUnpublishVolume requests; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from csisidecar.csi import ControllerPublishVolumeRequest, ControllerUnpublishVolumeRequest
from csisidecar.mapping.capability import attach_capability

if TYPE_CHECKING:
    from collections.abc import Mapping

    from csisidecar.csi import DriverInfo, VolumeCapability
    from csisidecar.plugins.attacher.target import Target


@dataclass(frozen=True, kw_only=True)
class PublishRequests:
    """Builds the requests as one driver understands them."""

    can_publish_readonly: bool
    """Whether the driver has PUBLISH_READONLY; without it `readonly` is never set."""
    single_node_multi_writer: bool
    """Whether the driver tells the single-node access modes apart."""
    default_fstype: str
    """File system type for volumes that name none, may be empty."""

    @classmethod
    def for_driver(cls, driver: DriverInfo, *, default_fstype: str) -> PublishRequests:
        """What the driver's capabilities ask for."""
        return cls(
            can_publish_readonly=driver.has_controller("PUBLISH_READONLY"),
            single_node_multi_writer=driver.has_controller("SINGLE_NODE_MULTI_WRITER"),
            default_fstype=default_fstype,
        )

    def capability(self, target: Target) -> VolumeCapability:
        """How the volume will be used.

        Raises:
            UnusableObjectError: CSI cannot say the volume's access modes together.
        """
        return attach_capability(
            target.spec.access_modes,
            volume_mode=target.spec.volume_mode,
            fs_type=target.csi.fs_type or self.default_fstype,
            mount_flags=target.spec.mount_options,
            single_node_multi_writer=self.single_node_multi_writer,
        )

    def publish(
        self, target: Target, *, capability: VolumeCapability, node_id: str, secrets: Mapping[str, str]
    ) -> ControllerPublishVolumeRequest:
        """The request that makes the volume available on the node."""
        return ControllerPublishVolumeRequest(
            volume_id=target.csi.volume_handle,
            node_id=node_id,
            volume_capability=capability,
            readonly=self.can_publish_readonly and target.csi.read_only,
            volume_context=dict(target.csi.volume_attributes or {}),
            secrets=dict(secrets),
        )

    def unpublish(
        self, target: Target, *, node_id: str, secrets: Mapping[str, str]
    ) -> ControllerUnpublishVolumeRequest:
        """The request that takes the volume off the node; never the form that means all nodes."""
        return ControllerUnpublishVolumeRequest(
            volume_id=target.csi.volume_handle, node_id=node_id, secrets=dict(secrets)
        )
