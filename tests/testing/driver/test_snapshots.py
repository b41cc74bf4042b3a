from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from csisidecar.csi import (
    CreateSnapshotRequest,
    CreateVolumeRequest,
    DeleteSnapshotRequest,
    DeleteVolumeRequest,
    GetSnapshotRequest,
    ListSnapshotsRequest,
    VolumeContentSource,
    VolumeContentSourceSnapshotSource,
)
from csisidecar.errors import StatusCode
from csisidecar.testing.driver import MemoryBackend
from tests.testing.driver.asking import capability

if TYPE_CHECKING:
    from tests.testing.driver.asking import Asker

pytestmark = pytest.mark.looptime


def restore(snapshot_id: str, name: str = "restored", *, block: bool = False) -> CreateVolumeRequest:
    source = VolumeContentSource(snapshot=VolumeContentSourceSnapshotSource(snapshot_id=snapshot_id))
    return CreateVolumeRequest(name=name, volume_capabilities=[capability(block=block)], volume_content_source=source)


async def test_snapshot_outlives_its_volume_and_gives_the_bytes_back(ask: Asker) -> None:
    backend = ask.driver.backend
    assert isinstance(backend, MemoryBackend)
    volume = await ask.volume()
    backend.contents[volume]["file"] = b"bytes"
    snapshot = (await ask(CreateSnapshotRequest(name="s", source_volume_id=volume))).snapshot
    assert (snapshot.ready_to_use, snapshot.source_volume_id, snapshot.size_bytes) == (True, volume, 2**30)
    await ask(DeleteVolumeRequest(volume_id=volume))
    restored = (await ask(restore(snapshot.snapshot_id))).volume
    assert backend.contents[restored.volume_id] == {"file": b"bytes"}
    assert restored.content_source.snapshot.snapshot_id == snapshot.snapshot_id


async def test_snapshot_is_idempotent_and_tells_another_source(ask: Asker) -> None:
    first, second = await ask.volume("a"), await ask.volume("b")
    request = CreateSnapshotRequest(name="s", source_volume_id=first)
    assert await ask(request) == await ask(request)
    other = CreateSnapshotRequest(name="s", source_volume_id=second)
    assert await ask.code(other) is StatusCode.ALREADY_EXISTS
    assert len(ask.driver.snapshots) == 1


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (CreateSnapshotRequest(source_volume_id="v"), StatusCode.INVALID_ARGUMENT),
        (CreateSnapshotRequest(name="s"), StatusCode.INVALID_ARGUMENT),
        (CreateSnapshotRequest(name="s", source_volume_id="no"), StatusCode.NOT_FOUND),
        (DeleteSnapshotRequest(), StatusCode.INVALID_ARGUMENT),
        (GetSnapshotRequest(), StatusCode.INVALID_ARGUMENT),
        (GetSnapshotRequest(snapshot_id="no"), StatusCode.NOT_FOUND),
        (ListSnapshotsRequest(starting_token="invalid"), StatusCode.ABORTED),
        (restore("no"), StatusCode.NOT_FOUND),
    ],
)
async def test_what_cannot_be_is_refused(ask: Asker, request_: object, code: StatusCode) -> None:
    assert await ask.code(request_) is code


async def test_restore_with_the_other_access_type_is_refused(ask: Asker) -> None:
    snapshot = (await ask(CreateSnapshotRequest(name="s", source_volume_id=await ask.volume()))).snapshot
    assert await ask.code(restore(snapshot.snapshot_id, block=True)) is StatusCode.INVALID_ARGUMENT


async def test_delete_is_idempotent(ask: Asker) -> None:
    snapshot = (await ask(CreateSnapshotRequest(name="s", source_volume_id=await ask.volume()))).snapshot
    assert (await ask(GetSnapshotRequest(snapshot_id=snapshot.snapshot_id))).snapshot == snapshot
    for _ in range(2):
        await ask(DeleteSnapshotRequest(snapshot_id=snapshot.snapshot_id))
    assert not ask.driver.snapshots


async def test_list_filters_and_pages(ask: Asker) -> None:
    volumes = [await ask.volume("a"), await ask.volume("b")]
    made = [
        (await ask(CreateSnapshotRequest(name=f"s{i}", source_volume_id=volumes[i % 2]))).snapshot for i in range(5)
    ]

    async def listed(**fields: object) -> set[str]:
        found: set[str] = set()
        request = ListSnapshotsRequest(**fields)  # type: ignore[arg-type]
        while True:
            reply = await ask(request)
            assert len(reply.entries) <= 2
            found |= {entry.snapshot.snapshot_id for entry in reply.entries}
            request.starting_token = reply.next_token
            if not reply.next_token:
                return found

    assert await listed(max_entries=2) == {item.snapshot_id for item in made}
    assert await listed(max_entries=2, source_volume_id=volumes[1]) == {made[1].snapshot_id, made[3].snapshot_id}
    assert await listed(max_entries=2, snapshot_id=made[4].snapshot_id) == {made[4].snapshot_id}
    assert await listed(max_entries=2, snapshot_id="no") == set()
