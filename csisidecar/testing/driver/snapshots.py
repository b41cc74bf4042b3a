"""The snapshot RPCs of the embedded driver's controller service. Source: CSI specification, the RPCs of these names."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from grpclib.const import Status

from csisidecar.clock import SystemClock
from csisidecar.csi import (
    CreateSnapshotRequest,
    CreateSnapshotResponse,
    DeleteSnapshotRequest,
    DeleteSnapshotResponse,
    GetSnapshotRequest,
    GetSnapshotResponse,
    ListSnapshotsRequest,
    ListSnapshotsResponse,
    ListSnapshotsResponseEntry,
    Snapshot,
)
from csisidecar.testing.driver.paging import page
from csisidecar.testing.driver.records import SnapshotRecord
from csisidecar.testing.driver.world import fail, make_id

if TYPE_CHECKING:
    from csisidecar.testing.driver.world import World


class SnapshotService:
    """Snapshots are copies: they outlive their volume."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def create_snapshot(self, request: CreateSnapshotRequest) -> CreateSnapshotResponse:
        """Copies the volume, or answers with the snapshot of that name."""
        world = self._world
        world.require("CREATE_DELETE_SNAPSHOT")
        if not request.name:
            fail(Status.INVALID_ARGUMENT, "name is missing")
        if not request.source_volume_id:
            fail(Status.INVALID_ARGUMENT, "source_volume_id is missing")
        snapshot_id = make_id("snap", request.name)
        record = world.snapshots.get(snapshot_id)
        if record is not None and record.source_volume_id != request.source_volume_id:
            fail(Status.ALREADY_EXISTS, f"snapshot {request.name} exists of volume {record.source_volume_id}")
        if record is None:
            volume = world.volume(request.source_volume_id)
            if volume.capacity_bytes > world.free_bytes():
                fail(Status.RESOURCE_EXHAUSTED, "not enough space left")
            with world.busy(snapshot_id), world.reading(volume.id):
                record = SnapshotRecord(
                    id=snapshot_id,
                    name=request.name,
                    source_volume_id=volume.id,
                    size_bytes=volume.capacity_bytes,
                    block=volume.block,
                    created_s=SystemClock().now().timestamp(),
                )
                await world.backend.create_snapshot(record)
                await world.backend.save(record)
                world.snapshots[snapshot_id] = record
        return CreateSnapshotResponse(snapshot=to_snapshot(record))

    async def delete_snapshot(self, request: DeleteSnapshotRequest) -> DeleteSnapshotResponse:
        """Deletes the snapshot; fine if it is gone."""
        world = self._world
        world.require("CREATE_DELETE_SNAPSHOT")
        if not request.snapshot_id:
            fail(Status.INVALID_ARGUMENT, "snapshot_id is missing")
        with world.busy(request.snapshot_id):
            record = world.snapshots.get(request.snapshot_id)
            if record is not None:
                world.refuse_if_read(record.id)
                await world.backend.delete_snapshot(record)
                del world.snapshots[record.id]
        return DeleteSnapshotResponse()

    async def list_snapshots(self, request: ListSnapshotsRequest) -> ListSnapshotsResponse:
        """A page of snapshots, of one volume or of one id if asked."""
        world = self._world
        world.require("LIST_SNAPSHOTS")
        wanted = {
            record.id: record
            for record in world.snapshots.values()
            if request.snapshot_id in {"", record.id} and request.source_volume_id in {"", record.source_volume_id}
        }
        records, token = page(wanted, request.max_entries, request.starting_token)
        entries = [ListSnapshotsResponseEntry(snapshot=to_snapshot(record)) for record in records]
        return ListSnapshotsResponse(entries=entries, next_token=token)

    async def get_snapshot(self, request: GetSnapshotRequest) -> GetSnapshotResponse:
        """One snapshot."""
        self._world.require("GET_SNAPSHOT")
        if not request.snapshot_id:
            fail(Status.INVALID_ARGUMENT, "snapshot_id is missing")
        record = self._world.snapshots.get(request.snapshot_id)
        if record is None:
            fail(Status.NOT_FOUND, f"there is no snapshot {request.snapshot_id}")
        return GetSnapshotResponse(snapshot=to_snapshot(record))


def to_snapshot(record: SnapshotRecord) -> Snapshot:
    """The record as CSI's Snapshot."""
    return Snapshot(
        snapshot_id=record.id,
        source_volume_id=record.source_volume_id,
        size_bytes=record.size_bytes,
        creation_time=dt.datetime.fromtimestamp(record.created_s, dt.UTC),
        ready_to_use=True,
    )
