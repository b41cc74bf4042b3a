"""The controller service of the embedded driver: volumes, publishing, listing, capacity.

Source of every rule and status: the CSI specification, "Controller Service RPC". Snapshots are in `snapshots`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpclib.const import Status

from csisidecar.csi import (
    ControllerExpandVolumeRequest,
    ControllerExpandVolumeResponse,
    ControllerGetCapabilitiesRequest,
    ControllerGetCapabilitiesResponse,
    ControllerGetVolumeRequest,
    ControllerGetVolumeResponse,
    ControllerGetVolumeResponseVolumeStatus,
    ControllerModifyVolumeRequest,
    ControllerModifyVolumeResponse,
    ControllerPublishVolumeRequest,
    ControllerPublishVolumeResponse,
    ControllerServiceCapability,
    ControllerServiceCapabilityRpc,
    ControllerServiceCapabilityRpcType,
    ControllerUnpublishVolumeRequest,
    ControllerUnpublishVolumeResponse,
    CreateVolumeRequest,
    CreateVolumeResponse,
    DeleteVolumeRequest,
    DeleteVolumeResponse,
    GetCapacityRequest,
    GetCapacityResponse,
    ListVolumesRequest,
    ListVolumesResponse,
    ListVolumesResponseEntry,
    ListVolumesResponseVolumeStatus,
    Topology,
    ValidateVolumeCapabilitiesRequest,
    ValidateVolumeCapabilitiesResponse,
    ValidateVolumeCapabilitiesResponseConfirmed,
    Volume,
    VolumeCondition,
    VolumeContentSource,
    VolumeContentSourceSnapshotSource,
    VolumeContentSourceVolumeSource,
)
from csisidecar.testing.driver.paging import page
from csisidecar.testing.driver.records import Source, VolumeRecord
from csisidecar.testing.driver.world import fail, is_shared, make_id, read_use, read_uses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from csisidecar.csi import CapacityRange, TopologyRequirement
    from csisidecar.testing.driver.world import World


class ControllerService:
    """The RPCs about volumes; one method each, raising GRPCError."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def controller_get_capabilities(
        self, _request: ControllerGetCapabilitiesRequest
    ) -> ControllerGetCapabilitiesResponse:
        """What the settings declare."""
        kinds = (
            ControllerServiceCapabilityRpcType[name] for name in sorted(self._world.settings.controller_capabilities)
        )
        return ControllerGetCapabilitiesResponse(
            capabilities=[ControllerServiceCapability(rpc=ControllerServiceCapabilityRpc(type=kind)) for kind in kinds]
        )

    async def create_volume(self, request: CreateVolumeRequest) -> CreateVolumeResponse:
        """Creates the volume of that name, or answers with it if it fits what is asked for."""
        world = self._world
        world.require("CREATE_DELETE_VOLUME")
        if not request.name:
            fail(Status.INVALID_ARGUMENT, "name is missing")
        block = read_uses(request.volume_capabilities)[0].block
        source = read_source(request.volume_content_source)
        low, high = read_range(request.capacity_range)
        self._check_mutable(request.mutable_parameters)
        volume_id = make_id("vol", request.name)
        with world.busy(volume_id), world.reading(*([source.id] if source else [])):
            record = world.volumes.get(volume_id)
            if record is not None:
                fits = low <= record.capacity_bytes <= high if high else low <= record.capacity_bytes
                if not fits or record.source != source or record.block != block:
                    fail(Status.ALREADY_EXISTS, f"volume {request.name} exists with other size, source or access type")
            else:
                record = VolumeRecord(
                    id=volume_id,
                    name=request.name,
                    capacity_bytes=self._size(low, high, source, block=block),
                    block=block,
                    parameters=dict(request.parameters),
                    mutable_parameters=dict(request.mutable_parameters),
                    context={"name": request.name},
                    source=source,
                    topology=dict(self._place(request.accessibility_requirements)),
                )
                world.volumes[volume_id] = record  # takes its capacity before the first await
                try:
                    await world.backend.create_volume(record)
                    await world.backend.save(record)
                except BaseException:
                    del world.volumes[volume_id]
                    raise
        return CreateVolumeResponse(volume=to_volume(record))

    def _check_mutable(self, parameters: Mapping[str, str]) -> None:
        known = self._world.settings.mutable_parameters
        for name in sorted(parameters):
            if name == "unsupported" or (known is not None and name not in known):
                fail(Status.INVALID_ARGUMENT, f'the parameter "{name}" cannot be changed')

    async def delete_volume(self, request: DeleteVolumeRequest) -> DeleteVolumeResponse:
        """Deletes the volume; FAILED_PRECONDITION while it is published, fine if it is gone."""
        world = self._world
        world.require("CREATE_DELETE_VOLUME")
        if not request.volume_id:
            fail(Status.INVALID_ARGUMENT, "volume_id is missing")
        with world.busy(request.volume_id):
            record = world.volumes.get(request.volume_id)
            if record is not None:
                if record.published:
                    nodes = ", ".join(sorted(record.published))
                    fail(Status.FAILED_PRECONDITION, f"volume {record.id} is still published to {nodes}")
                world.refuse_if_read(record.id)
                await world.backend.delete_volume(record)
                del world.volumes[record.id]
        return DeleteVolumeResponse()

    async def controller_publish_volume(
        self, request: ControllerPublishVolumeRequest
    ) -> ControllerPublishVolumeResponse:
        """Publishes to one node: idempotent for the same use, ALREADY_EXISTS for another."""
        world, settings = self._world, self._world.settings
        world.require("PUBLISH_UNPUBLISH_VOLUME")
        # What is wrong with the request itself comes before what is not there.
        if not request.volume_id or not request.node_id:
            fail(Status.INVALID_ARGUMENT, f"{'node_id' if request.volume_id else 'volume_id'} is missing")
        use = read_use(request.volume_capability, readonly=request.readonly)
        record = world.volume(request.volume_id)
        if use.readonly:
            world.require("PUBLISH_READONLY")
        if settings.known_nodes is not None and request.node_id not in settings.known_nodes:
            fail(Status.NOT_FOUND, f"there is no node {request.node_id}")
        if use.block != record.block:
            fail(Status.INVALID_ARGUMENT, f"volume {record.id} is a {'block' if record.block else 'mount'} volume")
        with world.busy(record.id):
            present = record.published.get(request.node_id)
            if present is not None and present != use:
                fail(Status.ALREADY_EXISTS, f"volume {record.id} is published to {request.node_id} in another way")
            if present is None:
                if record.published and not (is_shared(use) and all(map(is_shared, record.published.values()))):
                    nodes = ", ".join(sorted(record.published))
                    fail(Status.FAILED_PRECONDITION, f"volume {record.id} is published to {nodes}")
                there = sum(request.node_id in item.published for item in world.volumes.values())
                if settings.attach_limit and there >= settings.attach_limit:
                    fail(Status.RESOURCE_EXHAUSTED, f"node {request.node_id} has {there} volumes, the most it can have")
                record.published[request.node_id] = use
                await world.backend.save(record)
        context = {"volume": record.id, "node": request.node_id, **settings.publish_context}
        return ControllerPublishVolumeResponse(publish_context=context)

    async def controller_unpublish_volume(
        self, request: ControllerUnpublishVolumeRequest
    ) -> ControllerUnpublishVolumeResponse:
        """Takes the volume from the node, or from all; fine if it, or the volume, is not there."""
        world = self._world
        world.require("PUBLISH_UNPUBLISH_VOLUME")
        if not request.volume_id:
            fail(Status.INVALID_ARGUMENT, "volume_id is missing")
        with world.busy(request.volume_id):
            record = world.volumes.get(request.volume_id)
            if record is not None:
                nodes = [request.node_id] if request.node_id else list(record.published)
                removed = [record.published.pop(node, None) for node in nodes]
                if any(removed):
                    await world.backend.save(record)
        return ControllerUnpublishVolumeResponse()

    async def controller_expand_volume(self, request: ControllerExpandVolumeRequest) -> ControllerExpandVolumeResponse:
        """Grows the volume; a smaller size than it has is already satisfied."""
        world = self._world
        world.require("EXPAND_VOLUME")
        record = world.volume(request.volume_id)
        if request.capacity_range is None:
            fail(Status.INVALID_ARGUMENT, "capacity_range is missing")
        low, high = read_range(request.capacity_range)
        if exceeds(low, world.settings.max_volume_bytes) or (high and record.capacity_bytes > high):
            fail(Status.OUT_OF_RANGE, f"volume {record.id} cannot be brought to {low} to {high} bytes")
        with world.busy(record.id):
            if low > record.capacity_bytes:
                if low - record.capacity_bytes > world.free_bytes():
                    fail(Status.OUT_OF_RANGE, "not enough space left")
                record.capacity_bytes = low
                await world.backend.resize_volume(record)
                await world.backend.save(record)
        on_node = "EXPAND_VOLUME" in world.settings.node_capabilities and not record.block
        return ControllerExpandVolumeResponse(capacity_bytes=record.capacity_bytes, node_expansion_required=on_node)

    async def controller_modify_volume(self, request: ControllerModifyVolumeRequest) -> ControllerModifyVolumeResponse:
        """Takes over the mutable parameters, if the settings know their names."""
        world = self._world
        world.require("MODIFY_VOLUME")
        record = world.volume(request.volume_id)
        self._check_mutable(request.mutable_parameters)
        with world.busy(record.id):
            record.mutable_parameters.update(request.mutable_parameters)
            await world.backend.save(record)
        return ControllerModifyVolumeResponse()

    async def controller_get_volume(self, request: ControllerGetVolumeRequest) -> ControllerGetVolumeResponse:
        """One volume with its nodes."""
        self._world.require("GET_VOLUME")
        record = self._world.volume(request.volume_id)
        status = ControllerGetVolumeResponseVolumeStatus(
            published_node_ids=sorted(record.published), volume_condition=self._condition()
        )
        return ControllerGetVolumeResponse(volume=to_volume(record), status=status)

    async def validate_volume_capabilities(
        self, request: ValidateVolumeCapabilitiesRequest
    ) -> ValidateVolumeCapabilitiesResponse:
        """Confirms every use of the volume's own access type."""
        record = self._world.volume(request.volume_id)
        if read_uses(request.volume_capabilities)[0].block != record.block:
            kind = "block" if record.block else "mount"
            return ValidateVolumeCapabilitiesResponse(message=f"volume {record.id} is a {kind} volume")
        return ValidateVolumeCapabilitiesResponse(
            confirmed=ValidateVolumeCapabilitiesResponseConfirmed(
                volume_context=request.volume_context,
                volume_capabilities=request.volume_capabilities,
                parameters=request.parameters,
                mutable_parameters=request.mutable_parameters,
            )
        )

    async def list_volumes(self, request: ListVolumesRequest) -> ListVolumesResponse:
        """A page of volumes, ordered by id."""
        world = self._world
        world.require("LIST_VOLUMES")
        records, token = page(world.volumes, request.max_entries, request.starting_token)
        with_nodes = "LIST_VOLUMES_PUBLISHED_NODES" in world.settings.controller_capabilities
        entries = [
            ListVolumesResponseEntry(
                volume=to_volume(record),
                status=ListVolumesResponseVolumeStatus(
                    published_node_ids=sorted(record.published) if with_nodes else [],
                    volume_condition=self._condition(),
                ),
            )
            for record in records
        ]
        return ListVolumesResponse(entries=entries, next_token=token)

    async def get_capacity(self, request: GetCapacityRequest) -> GetCapacityResponse:
        """What is left; nothing in a place that is not ours.

        The largest volume is never larger than what is left: kube-scheduler looks at that number alone where it is
        given (Kubernetes API, CSIStorageCapacity `maximumVolumeSize`).
        """
        world = self._world
        world.require("GET_CAPACITY")
        if request.volume_capabilities:
            read_uses(request.volume_capabilities)
        place = request.accessible_topology.segments if request.accessible_topology else {}
        if place and not any(holds(place, ours) for ours in world.settings.all_places):
            return GetCapacityResponse(available_capacity=0)
        largest = world.settings.max_volume_bytes
        return GetCapacityResponse(
            available_capacity=world.free_bytes(),
            maximum_volume_size=None if largest is None else min(largest, world.free_bytes()),
            minimum_volume_size=1,
        )

    def _size(self, low: int, high: int, source: Source | None, *, block: bool) -> int:
        """The capacity for a new volume; the statuses for a size or a source that cannot be."""
        world, settings = self._world, self._world.settings
        least = low
        if source is not None:
            kept = world.snapshots.get(source.id) if source.kind == "snapshot" else world.volumes.get(source.id)
            if kept is None:
                fail(Status.NOT_FOUND, f"there is no {source.kind} {source.id} to copy from")
            world.require("CREATE_DELETE_SNAPSHOT" if source.kind == "snapshot" else "CLONE_VOLUME")
            if kept.block != block:
                fail(Status.INVALID_ARGUMENT, f"{source.kind} {source.id} has the other access type")
            least = max(low, kept.capacity_bytes if isinstance(kept, VolumeRecord) else kept.size_bytes)
        size = least or min(settings.default_volume_bytes, high or settings.default_volume_bytes)
        if exceeds(size, settings.max_volume_bytes) or (high and size > high):
            fail(Status.OUT_OF_RANGE, f"a volume of {size} bytes cannot be made here")
        if size > world.free_bytes():
            fail(Status.RESOURCE_EXHAUSTED, f"{size} bytes asked for, {world.free_bytes()} left")
        return size

    def _place(self, requirement: TopologyRequirement | None) -> Mapping[str, str]:
        """The segments of a new volume: the first preferred that is ours, else the first requisite."""
        places = self._world.settings.all_places
        if not places:
            return {}
        wanted: Sequence[Topology] = [*requirement.preferred, *requirement.requisite] if requirement else []
        for term in wanted:
            for place in places:
                if holds(term.segments, place):
                    return place
        if wanted:
            fail(Status.RESOURCE_EXHAUSTED, "none of the asked places is served by this driver")
        return places[0]

    def _condition(self) -> VolumeCondition | None:
        if "VOLUME_CONDITION" not in self._world.settings.controller_capabilities:
            return None
        return VolumeCondition(abnormal=False, message="the directory is there")


def holds(wanted: Mapping[str, str], place: Mapping[str, str]) -> bool:
    """Whether everything wanted is true of the place."""
    return all(place.get(key) == value for key, value in wanted.items())


def exceeds(size_bytes: int, limit_bytes: int | None) -> bool:
    """Whether there is a limit, and it is smaller."""
    return limit_bytes is not None and size_bytes > limit_bytes


def read_range(asked: CapacityRange | None) -> tuple[int, int]:
    """Least and most bytes; 0 for no bound. INVALID_ARGUMENT for nonsense."""
    low, high = (asked.required_bytes, asked.limit_bytes) if asked else (0, 0)
    if low < 0 or high < 0 or (high and low > high):
        fail(Status.INVALID_ARGUMENT, f"capacity_range {low} to {high} makes no sense")
    return low, high


def read_source(source: VolumeContentSource | None) -> Source | None:
    """The source asked for; INVALID_ARGUMENT for one without an id."""
    if source is None:
        return None
    if source.snapshot is not None and source.snapshot.snapshot_id:
        return Source(kind="snapshot", id=source.snapshot.snapshot_id)
    if source.volume is None or not source.volume.volume_id:
        fail(Status.INVALID_ARGUMENT, "volume_content_source names no source")
    return Source(kind="volume", id=source.volume.volume_id)


def to_volume(record: VolumeRecord) -> Volume:
    """The record as CSI's Volume."""
    source: VolumeContentSource | None = None
    if record.source is not None and record.source.kind == "snapshot":
        source = VolumeContentSource(snapshot=VolumeContentSourceSnapshotSource(snapshot_id=record.source.id))
    elif record.source is not None:
        source = VolumeContentSource(volume=VolumeContentSourceVolumeSource(volume_id=record.source.id))
    return Volume(
        volume_id=record.id,
        capacity_bytes=record.capacity_bytes,
        volume_context=dict(record.context),
        content_source=source,
        accessible_topology=[Topology(segments=dict(record.topology))] if record.topology else [],
    )
