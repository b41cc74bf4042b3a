"""The node service and the directory backend: real files, real sockets, real time."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from csisidecar.csi import (
    CapacityRange,
    ControllerExpandVolumeRequest,
    CreateSnapshotRequest,
    CreateVolumeRequest,
    DeleteSnapshotRequest,
    DeleteVolumeRequest,
    DriverChannel,
    NodeExpandVolumeRequest,
    NodeGetCapabilitiesRequest,
    NodeGetInfoRequest,
    NodeGetVolumeStatsRequest,
    NodePublishVolumeRequest,
    NodeStageVolumeRequest,
    NodeUnpublishVolumeRequest,
    NodeUnstageVolumeRequest,
    VolumeContentSource,
    VolumeContentSourceSnapshotSource,
    VolumeContentSourceVolumeSource,
)
from csisidecar.errors import ConfigError, StatusCode
from csisidecar.testing.driver import DirectoryBackend, DriverOptions, DriverSettings, FakeDriver, serve
from tests.testing.driver.asking import Asker, capability

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

Code = StatusCode


@pytest.fixture
async def ask(folder: Path) -> AsyncIterator[Asker]:
    driver = FakeDriver(backend=DirectoryBackend(folder / "root"))
    async with driver.serving(folder / "csi.sock") as endpoint:
        asker = Asker(driver, DriverChannel(endpoint))
        await asker.channel.connect()
        yield asker
        asker.channel.close()


async def test_volumes_are_directories_and_clones_have_the_bytes(ask: Asker, folder: Path) -> None:
    volumes = folder / "root" / "volumes"
    source = await ask.volume("source")
    (volumes / source / "sub").mkdir()
    (volumes / source / "sub" / "file").write_text("bytes")
    snapshot = (await ask(CreateSnapshotRequest(name="s", source_volume_id=source))).snapshot.snapshot_id
    (volumes / source / "sub" / "file").write_text("changed")
    from_snapshot = VolumeContentSource(snapshot=VolumeContentSourceSnapshotSource(snapshot_id=snapshot))
    from_volume = VolumeContentSource(volume=VolumeContentSourceVolumeSource(volume_id=source))
    restored = await ask.volume("restored", volume_content_source=from_snapshot)
    clone = await ask.volume("clone", volume_content_source=from_volume)
    assert (volumes / restored / "sub" / "file").read_text() == "bytes"
    assert (volumes / clone / "sub" / "file").read_text() == "changed"
    for volume in (source, restored, clone):
        await ask(DeleteVolumeRequest(volume_id=volume))
    await ask(DeleteSnapshotRequest(snapshot_id=snapshot))
    assert [path.name for path in (folder / "root").rglob("*")] == ["volumes", "snapshots"]


async def test_block_volume_is_a_sparse_disk_that_grows(ask: Asker, folder: Path) -> None:
    size = CapacityRange(required_bytes=2**30)
    volume = await ask.volume(volume_capabilities=[capability(block=True)], capacity_range=size)
    disk = folder / "root" / "volumes" / volume / "disk"
    assert disk.stat().st_size == 2**30
    assert disk.stat().st_blocks == 0
    more = CapacityRange(required_bytes=2**31)
    reply = await ask(ControllerExpandVolumeRequest(volume_id=volume, capacity_range=more))
    assert (disk.stat().st_size, reply.node_expansion_required) == (2**31, False)


async def test_everything_is_there_after_a_restart(folder: Path) -> None:
    settings = DriverSettings(topology={"zone": "a"})
    first = FakeDriver(settings, backend=DirectoryBackend(folder / "root"))
    async with first.serving(folder / "csi.sock") as endpoint:
        ask = Asker(first, DriverChannel(endpoint))
        await ask.channel.connect()
        volume = await ask.volume(parameters={"p": "1"})
        await ask.publish(volume)
        await ask(CreateSnapshotRequest(name="s", source_volume_id=volume))
        source = VolumeContentSource(volume=VolumeContentSourceVolumeSource(volume_id=volume))
        await ask.volume("clone", volume_content_source=source)
        ask.channel.close()
    second = FakeDriver(settings, backend=DirectoryBackend(folder / "root"))
    async with second.serving(folder / "csi.sock"):
        assert second.volumes == first.volumes
        assert second.snapshots == first.snapshots
        assert second.published == {volume: frozenset({"n1"})}


async def test_what_a_killed_driver_left_half_done_is_removed(folder: Path) -> None:
    volumes = folder / "root" / "volumes"
    (volumes / "vol-half").mkdir(parents=True)
    (volumes / "vol-half" / "file").write_text("x")
    (volumes / "abc.tmp").write_text("{")
    async with FakeDriver(backend=DirectoryBackend(folder / "root")).serving(folder / "csi.sock"):
        assert list(volumes.iterdir()) == []


async def test_record_of_something_else_is_named(folder: Path) -> None:
    volumes = folder / "root" / "volumes"
    volumes.mkdir(parents=True)
    (volumes / "x.json").write_text(json.dumps({"other": 1}))
    with pytest.raises(ConfigError, match=r"x\.json is no record of this driver"):
        await FakeDriver(backend=DirectoryBackend(folder / "root")).load()


async def test_fifty_volumes_at_once(ask: Asker, folder: Path) -> None:
    async with asyncio.TaskGroup() as group:
        for i in range(50):
            group.create_task(ask.volume(f"pvc-{i}"))
    assert len(list((folder / "root" / "volumes").glob("*.json"))) == 50


# ---- the node


async def _published(ask: Asker, folder: Path, *, block: bool = False) -> tuple[str, str, str]:
    volume = await ask.volume(volume_capabilities=[capability(block=block)])
    staging, target = str(folder / "staging"), str(folder / "pod" / "target")
    use = capability(block=block)
    for _ in range(2):
        request = NodeStageVolumeRequest(volume_id=volume, staging_target_path=staging, volume_capability=use)
        await ask(request)
    for _ in range(2):
        await ask(
            NodePublishVolumeRequest(
                volume_id=volume, staging_target_path=staging, target_path=target, volume_capability=use
            )
        )
    return volume, staging, target


async def test_pod_writes_through_the_target_path_into_the_volume(ask: Asker, folder: Path) -> None:
    volume, staging, target = await _published(ask, folder)
    (folder / "pod" / "target" / "file").write_text("hello")
    assert (folder / "root" / "volumes" / volume / "file").read_text() == "hello"
    stats = await ask(NodeGetVolumeStatsRequest(volume_id=volume, volume_path=target))
    assert [(usage.used, usage.total) for usage in stats.usage] == [(5, 2**30), (1, 0)]
    for _ in range(2):
        await ask(NodeUnpublishVolumeRequest(volume_id=volume, target_path=target))
        await ask(NodeUnstageVolumeRequest(volume_id=volume, staging_target_path=staging))
    assert not (folder / "pod" / "target").exists()
    assert (folder / "root" / "volumes" / volume / "file").read_text() == "hello"
    assert not ask.driver.volumes[volume].staged


async def test_block_volume_appears_as_a_file(ask: Asker, folder: Path) -> None:
    await _published(ask, folder, block=True)
    assert (folder / "pod" / "target").is_file()


async def test_target_directory_made_beforehand_is_replaced(ask: Asker, folder: Path) -> None:
    (folder / "pod" / "target").mkdir(parents=True)
    volume, _, _ = await _published(ask, folder)
    assert (folder / "pod" / "target").resolve() == (folder / "root" / "volumes" / volume).resolve()


async def test_publishing_needs_staging_first(ask: Asker, folder: Path) -> None:
    volume = await ask.volume()
    request = NodePublishVolumeRequest(
        volume_id=volume, target_path=str(folder / "t"), volume_capability=capability(), staging_target_path="/nowhere"
    )
    assert await ask.code(request) is Code.FAILED_PRECONDITION
    declared = ask.driver.settings.node_capabilities - {"STAGE_UNSTAGE_VOLUME"}
    ask.driver.settings = replace(ask.driver.settings, node_capabilities=declared)
    await ask(request)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (NodeStageVolumeRequest(staging_target_path="/s", volume_capability=capability()), Code.INVALID_ARGUMENT),
        (NodeStageVolumeRequest(volume_id="v", volume_capability=capability()), Code.INVALID_ARGUMENT),
        (NodeStageVolumeRequest(volume_id="v", staging_target_path="/s"), Code.INVALID_ARGUMENT),
        (
            NodeStageVolumeRequest(volume_id="v", staging_target_path="/s", volume_capability=capability()),
            Code.NOT_FOUND,
        ),
        (NodeUnstageVolumeRequest(volume_id="v"), Code.INVALID_ARGUMENT),
        (NodeUnstageVolumeRequest(volume_id="v", staging_target_path="/s"), Code.NOT_FOUND),
        (NodePublishVolumeRequest(volume_id="v", volume_capability=capability()), Code.INVALID_ARGUMENT),
        (NodePublishVolumeRequest(volume_id="v", target_path="/t"), Code.INVALID_ARGUMENT),
        (NodeUnpublishVolumeRequest(volume_id="v"), Code.INVALID_ARGUMENT),
        (NodeUnpublishVolumeRequest(target_path="/t"), Code.INVALID_ARGUMENT),
        (NodeGetVolumeStatsRequest(volume_id="v"), Code.INVALID_ARGUMENT),
        (NodeGetVolumeStatsRequest(volume_id="v", volume_path="/t"), Code.NOT_FOUND),
        (NodeExpandVolumeRequest(volume_path="/t"), Code.INVALID_ARGUMENT),
        (NodeExpandVolumeRequest(volume_id="v", volume_path="/t"), Code.NOT_FOUND),
    ],
)
async def test_what_cannot_be_on_a_node_is_refused(ask: Asker, request_: object, code: Code) -> None:
    assert await ask.code(request_) is code


async def test_node_tells_who_it_is(ask: Asker) -> None:
    ask.driver.settings = replace(ask.driver.settings, node_id="n7", attach_limit=3, topology={"zone": "a"})
    info = await ask(NodeGetInfoRequest())
    assert (info.node_id, info.max_volumes_per_node, info.accessible_topology.segments) == ("n7", 3, {"zone": "a"})
    assert len((await ask(NodeGetCapabilitiesRequest())).capabilities) == 5


async def test_node_expand_answers_the_new_size(ask: Asker, folder: Path) -> None:
    volume, _, target = await _published(ask, folder)
    size = CapacityRange(required_bytes=2**31)
    await ask(ControllerExpandVolumeRequest(volume_id=volume, capacity_range=size))
    reply = await ask(NodeExpandVolumeRequest(volume_id=volume, volume_path=target, capacity_range=size))
    assert reply.capacity_bytes == 2**31


# ---- the program


async def test_program_serves_until_cancelled_and_keeps_its_volumes_beside_the_socket(folder: Path) -> None:
    path = folder / "csi.sock"
    options = DriverOptions(endpoint=f"unix://{path}", name="x.y", trouble=("CreateVolume:Internal=ordered x1",))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(serve(options))
        ask = Asker(FakeDriver(), DriverChannel(str(path)))
        await ask.channel.connect(10)
        assert (await ask.client.get_plugin_info(timeout_s=5)).name == "x.y"
        assert await ask.code(CreateVolumeRequest(name="a", volume_capabilities=[capability()])) is Code.INTERNAL
        volume = await ask.volume()
        assert (folder / "csi.sock.volumes" / "volumes" / volume).is_dir()
        task.cancel()
        async with asyncio.timeout(1):
            await ask.channel.lost.wait()
    assert not path.exists()
    assert (folder / "csi.sock.volumes" / "volumes" / volume).is_dir()


def test_options_become_settings() -> None:
    options = DriverOptions(
        endpoint="/s",
        nodes=("a", "b"),
        capabilities=("CREATE_DELETE_VOLUME", "GET_CAPACITY"),
        without=("GET_CAPACITY", "STAGE_UNSTAGE_VOLUME"),
        topology=("zone=a", "rack=1"),
        total_gib=2,
        attach_limit=4,
    )
    settings = options.to_settings()
    assert settings.controller_capabilities == {"CREATE_DELETE_VOLUME"}
    assert settings.plugin_capabilities == {"CONTROLLER_SERVICE", "VOLUME_ACCESSIBILITY_CONSTRAINTS"}
    assert "STAGE_UNSTAGE_VOLUME" not in settings.node_capabilities
    assert settings.topology == {"zone": "a", "rack": "1"}
    assert settings.known_nodes == frozenset({"a", "b"})
    assert (settings.total_bytes, settings.attach_limit) == (2**31, 4)
    assert not DriverOptions(endpoint="/s", capabilities=("none",)).to_settings().controller_capabilities


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (DriverOptions(endpoint="/s", topology=("zone",)), "is not key=value"),
        (DriverOptions(endpoint="/s", without=("FLY",)), "--without=FLY"),
        (DriverOptions(endpoint="/s", capabilities=("FLY",)), "FLY is no CSI capability"),
        (DriverOptions(endpoint="/s", attach_limit=-1), "cannot be negative"),
    ],
)
def test_options_that_cannot_be_are_refused(options: DriverOptions, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        options.to_settings()


async def test_endpoint_that_is_no_socket_is_refused_naming_the_flag() -> None:
    with pytest.raises(ConfigError, match="--endpoint"):
        await serve(DriverOptions(endpoint="tcp://127.0.0.1:1"))
