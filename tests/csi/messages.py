"""Requests the tests of this room need over and over."""

from __future__ import annotations

from csisidecar.csi import (
    ControllerPublishVolumeRequest,
    CreateVolumeRequest,
    VolumeCapability,
    VolumeCapabilityAccessMode,
    VolumeCapabilityAccessModeMode,
    VolumeCapabilityMountVolume,
)

MOUNT = VolumeCapability(
    mount=VolumeCapabilityMountVolume(),
    access_mode=VolumeCapabilityAccessMode(mode=VolumeCapabilityAccessModeMode.SINGLE_NODE_WRITER),
)


def create_request(name: str = "pvc-1") -> CreateVolumeRequest:
    return CreateVolumeRequest(name=name, volume_capabilities=[MOUNT], secrets={"password": "hunter2"})


def publish_request(volume_id: str, node_id: str = "node-1") -> ControllerPublishVolumeRequest:
    return ControllerPublishVolumeRequest(volume_id=volume_id, node_id=node_id, volume_capability=MOUNT)
