"""The node service of the embedded driver: volumes appear as symbolic links, so no root is needed.

Source of every rule and status: the CSI specification, "Node Service RPC".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpclib.const import Status

from csisidecar.csi import (
    NodeExpandVolumeRequest,
    NodeExpandVolumeResponse,
    NodeGetCapabilitiesRequest,
    NodeGetCapabilitiesResponse,
    NodeGetInfoRequest,
    NodeGetInfoResponse,
    NodeGetVolumeStatsRequest,
    NodeGetVolumeStatsResponse,
    NodePublishVolumeRequest,
    NodePublishVolumeResponse,
    NodeServiceCapability,
    NodeServiceCapabilityRpc,
    NodeServiceCapabilityRpcType,
    NodeStageVolumeRequest,
    NodeStageVolumeResponse,
    NodeUnpublishVolumeRequest,
    NodeUnpublishVolumeResponse,
    NodeUnstageVolumeRequest,
    NodeUnstageVolumeResponse,
    Topology,
    VolumeCapabilityAccessModeMode,
    VolumeCondition,
    VolumeUsage,
    VolumeUsageUnit,
)
from csisidecar.testing.driver.world import fail, read_use

if TYPE_CHECKING:
    from csisidecar.testing.driver.world import World


class NodeService:
    """The volume on this one node. Staging is bookkeeping; publishing makes the link."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def node_get_info(self, _request: NodeGetInfoRequest) -> NodeGetInfoResponse:
        """Node id, attach limit and place."""
        settings = self._world.settings
        place = Topology(segments=dict(settings.topology)) if settings.topology else None
        return NodeGetInfoResponse(
            node_id=settings.node_id, max_volumes_per_node=settings.attach_limit, accessible_topology=place
        )

    async def node_get_capabilities(self, _request: NodeGetCapabilitiesRequest) -> NodeGetCapabilitiesResponse:
        """What the settings declare."""
        kinds = (NodeServiceCapabilityRpcType[name] for name in sorted(self._world.settings.node_capabilities))
        return NodeGetCapabilitiesResponse(
            capabilities=[NodeServiceCapability(rpc=NodeServiceCapabilityRpc(type=kind)) for kind in kinds]
        )

    async def node_stage_volume(self, request: NodeStageVolumeRequest) -> NodeStageVolumeResponse:
        """Notes the staging path."""
        world = self._world
        self._require("STAGE_UNSTAGE_VOLUME")
        require_path(request.staging_target_path, "staging_target_path")
        use = read_use(request.volume_capability)
        record = world.volume(request.volume_id)
        with world.busy(record.id):
            if record.staged.get(request.staging_target_path, use) != use:
                fail(Status.ALREADY_EXISTS, f"{request.staging_target_path} is staged in another way")
            record.staged[request.staging_target_path] = use
            await world.backend.save(record)
        return NodeStageVolumeResponse()

    async def node_unstage_volume(self, request: NodeUnstageVolumeRequest) -> NodeUnstageVolumeResponse:
        """Forgets the staging path; fine if it is not known."""
        world = self._world
        self._require("STAGE_UNSTAGE_VOLUME")
        require_path(request.staging_target_path, "staging_target_path")
        record = world.volume(request.volume_id)
        with world.busy(record.id):
            if record.staged.pop(request.staging_target_path, None) is not None:
                await world.backend.save(record)
        return NodeUnstageVolumeResponse()

    async def node_publish_volume(self, request: NodePublishVolumeRequest) -> NodePublishVolumeResponse:
        """Makes the volume appear at the target path; a staged driver must have been asked to stage before."""
        world = self._world
        require_path(request.target_path, "target_path")
        use = read_use(request.volume_capability, readonly=request.readonly)
        record = world.volume(request.volume_id)
        if "STAGE_UNSTAGE_VOLUME" in world.settings.node_capabilities:
            if not request.staging_target_path:
                fail(Status.FAILED_PRECONDITION, "staging_target_path is missing, and this driver needs it")
            if request.staging_target_path not in record.staged:
                fail(Status.FAILED_PRECONDITION, f"volume {record.id} is not staged at {request.staging_target_path}")
        with world.busy(record.id):
            if record.node_published.get(request.target_path, use) != use:
                fail(Status.ALREADY_EXISTS, f"{request.target_path} is published in another way")
            elsewhere = [path for path in record.node_published if path != request.target_path]
            if elsewhere and use.mode == VolumeCapabilityAccessModeMode.SINGLE_NODE_SINGLE_WRITER:
                fail(Status.FAILED_PRECONDITION, f"volume {record.id} has its one writer at {elsewhere[0]}")
            await world.backend.link(record, request.target_path)
            record.node_published[request.target_path] = use
            await world.backend.save(record)
        return NodePublishVolumeResponse()

    async def node_unpublish_volume(self, request: NodeUnpublishVolumeRequest) -> NodeUnpublishVolumeResponse:
        """Takes the link away; fine if it is gone."""
        world = self._world
        require_path(request.target_path, "target_path")
        record = world.volume(request.volume_id)
        with world.busy(record.id):
            await world.backend.unlink(request.target_path)
            if record.node_published.pop(request.target_path, None) is not None:
                await world.backend.save(record)
        return NodeUnpublishVolumeResponse()

    async def node_expand_volume(self, request: NodeExpandVolumeRequest) -> NodeExpandVolumeResponse:
        """A directory grows by itself: answers the capacity the controller set."""
        self._require("EXPAND_VOLUME")
        record = self._world.volume(request.volume_id)
        require_path(request.volume_path, "volume_path")
        if request.volume_path not in record.node_published and request.volume_path not in record.staged:
            fail(Status.NOT_FOUND, f"volume {record.id} is not at {request.volume_path}")
        if request.capacity_range and request.capacity_range.required_bytes > record.capacity_bytes:
            fail(Status.OUT_OF_RANGE, f"volume {record.id} has {record.capacity_bytes} bytes")
        return NodeExpandVolumeResponse(capacity_bytes=record.capacity_bytes)

    async def node_get_volume_stats(self, request: NodeGetVolumeStatsRequest) -> NodeGetVolumeStatsResponse:
        """Bytes and files used."""
        self._require("GET_VOLUME_STATS")
        if not request.volume_path:
            fail(Status.INVALID_ARGUMENT, "volume_path is missing")
        record = self._world.volume(request.volume_id)
        if request.volume_path not in record.node_published and request.volume_path not in record.staged:
            fail(Status.NOT_FOUND, f"volume {record.id} is not at {request.volume_path}")
        used_bytes, used_files = await self._world.backend.used(record)
        total = record.capacity_bytes
        sizes = VolumeUsage(
            total=total, used=used_bytes, available=max(total - used_bytes, 0), unit=VolumeUsageUnit.BYTES
        )
        files = VolumeUsage(used=used_files, unit=VolumeUsageUnit.INODES)
        condition: VolumeCondition | None = None
        if "VOLUME_CONDITION" in self._world.settings.node_capabilities:
            condition = VolumeCondition(abnormal=False, message="the directory is there")
        return NodeGetVolumeStatsResponse(usage=[sizes, files], volume_condition=condition)

    def _require(self, capability: str) -> None:
        if capability not in self._world.settings.node_capabilities:
            fail(Status.UNIMPLEMENTED, f"this driver does not declare {capability}")


def require_path(path: str, name: str) -> None:
    """INVALID_ARGUMENT for a missing or relative path."""
    if not path.startswith("/"):
        fail(Status.INVALID_ARGUMENT, f"{name} is missing or not absolute")
