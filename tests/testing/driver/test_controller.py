"""Behavior of the controller service, as the CSI specification words it under each RPC."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.csi import (
    CapacityRange,
    ControllerExpandVolumeRequest,
    ControllerGetVolumeRequest,
    ControllerModifyVolumeRequest,
    ControllerPublishVolumeRequest,
    ControllerUnpublishVolumeRequest,
    CreateVolumeRequest,
    DeleteVolumeRequest,
    GetCapacityRequest,
    ListVolumesRequest,
    Topology,
    TopologyRequirement,
    ValidateVolumeCapabilitiesRequest,
    VolumeCapability,
    VolumeContentSource,
    VolumeContentSourceVolumeSource,
)
from csisidecar.errors import ConfigError, CSIError, StatusCode
from csisidecar.testing.driver import DriverSettings, MemoryBackend
from tests.testing.driver.asking import Mode, capability

if TYPE_CHECKING:
    from tests.testing.driver.asking import Asker

pytestmark = pytest.mark.looptime

GIB = 2**30
Code = StatusCode


def sized(low: int = 0, high: int = 0, name: str = "a", **fields: Any) -> CreateVolumeRequest:
    size = CapacityRange(required_bytes=low, limit_bytes=high)
    return CreateVolumeRequest(name=name, capacity_range=size, volume_capabilities=[capability()], **fields)


def tune(ask: Asker, **changes: Any) -> None:
    ask.driver.settings = replace(ask.driver.settings, **changes)


# ---- create and delete


@pytest.mark.parametrize(
    ("low", "high", "size"),
    [(0, 0, GIB), (5, 0, 5), (0, 7, 7), (5, 7, 5), (GIB + 1, 0, GIB + 1), (0, 2 * GIB, GIB)],
)
async def test_size_is_at_least_what_is_required_and_within_the_limit(
    ask: Asker, low: int, high: int, size: int
) -> None:
    assert (await ask(sized(low, high))).volume.capacity_bytes == size


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (CreateVolumeRequest(volume_capabilities=[capability()]), Code.INVALID_ARGUMENT),
        (CreateVolumeRequest(name="a"), Code.INVALID_ARGUMENT),
        (CreateVolumeRequest(name="a", volume_capabilities=[VolumeCapability()]), Code.INVALID_ARGUMENT),
        (
            CreateVolumeRequest(name="a", volume_capabilities=[capability(), capability(block=True)]),
            Code.INVALID_ARGUMENT,
        ),
        (sized(5, 4), Code.INVALID_ARGUMENT),
        (sized(-1), Code.INVALID_ARGUMENT),
        (sized(257 * GIB), Code.OUT_OF_RANGE),
        (sized(5, volume_content_source=VolumeContentSource()), Code.INVALID_ARGUMENT),
        (
            sized(5, volume_content_source=VolumeContentSource(volume=VolumeContentSourceVolumeSource(volume_id="no"))),
            Code.NOT_FOUND,
        ),
    ],
)
async def test_create_that_cannot_be_is_refused(ask: Asker, request_: CreateVolumeRequest, code: Code) -> None:
    assert await ask.code(request_) is code
    assert not ask.driver.volumes


async def test_create_is_idempotent_and_tells_a_different_volume_of_the_same_name(ask: Asker) -> None:
    first = await ask(sized(5 * GIB))
    assert await ask(sized(5 * GIB)) == first
    assert await ask(sized(4 * GIB)) == first
    assert await ask.code(sized(6 * GIB)) is Code.ALREADY_EXISTS
    assert await ask.code(sized(0, 4 * GIB)) is Code.ALREADY_EXISTS
    block = CreateVolumeRequest(name="a", volume_capabilities=[capability(block=True)])
    assert await ask.code(block) is Code.ALREADY_EXISTS
    assert len(ask.driver.volumes) == 1


async def test_space_runs_out_and_comes_back(ask: Asker) -> None:
    tune(ask, total_bytes=10 * GIB)
    await ask(sized(8 * GIB, name="a"))
    assert await ask.code(sized(3 * GIB, name="b")) is Code.RESOURCE_EXHAUSTED
    assert (await ask(GetCapacityRequest())).available_capacity == 2 * GIB
    await ask(DeleteVolumeRequest(volume_id=next(iter(ask.driver.volumes))))
    await ask(sized(3 * GIB, name="b"))


async def test_concurrent_creates_cannot_share_the_same_space(ask: Asker) -> None:
    tune(ask, total_bytes=10 * GIB)
    calls = (ask(sized(6 * GIB, name=name)) for name in "ab")
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert sorted(type(item).__name__ for item in done) == ["CSIError", "CreateVolumeResponse"]


async def test_second_call_for_a_volume_being_made_is_aborted(ask: Asker) -> None:
    class SlowBackend(MemoryBackend):
        async def create_volume(self, record: Any) -> None:
            await asyncio.sleep(5)
            await super().create_volume(record)

    ask.driver._world.backend = SlowBackend()
    async with asyncio.TaskGroup() as group:
        group.create_task(ask(sized(1)))
        await asyncio.sleep(1)
        assert await ask.code(sized(1)) is Code.ABORTED
    await ask(sized(1))


async def test_failed_backend_leaves_no_volume_behind(ask: Asker) -> None:
    class FullBackend(MemoryBackend):
        async def create_volume(self, record: Any) -> None:
            raise OSError(28, "No space left on device")

    ask.driver._world.backend = FullBackend()
    with pytest.raises(CSIError, match="No space left"):
        await ask(sized(1))
    assert not ask.driver.volumes


async def test_delete_is_idempotent_and_refused_while_published(ask: Asker) -> None:
    volume = await ask.volume()
    await ask.publish(volume)
    assert await ask.code(DeleteVolumeRequest(volume_id=volume)) is Code.FAILED_PRECONDITION
    await ask(ControllerUnpublishVolumeRequest(volume_id=volume, node_id="n1"))
    for _ in range(2):
        await ask(DeleteVolumeRequest(volume_id=volume))
    assert not ask.driver.volumes
    assert await ask.code(DeleteVolumeRequest()) is Code.INVALID_ARGUMENT


async def test_clone_has_the_bytes_and_at_least_the_size_of_its_source(ask: Asker) -> None:
    backend = ask.driver.backend
    assert isinstance(backend, MemoryBackend)
    source = (await ask(sized(3 * GIB, name="source"))).volume.volume_id
    backend.contents[source]["file"] = b"bytes"
    content = VolumeContentSource(volume=VolumeContentSourceVolumeSource(volume_id=source))
    volume = (await ask(sized(0, name="clone", volume_content_source=content))).volume
    assert (volume.capacity_bytes, volume.content_source) == (3 * GIB, content)
    backend.contents[source]["file"] = b"changed"
    assert backend.contents[volume.volume_id] == {"file": b"bytes"}
    assert await ask.code(sized(0, 2 * GIB, name="small", volume_content_source=content)) is Code.OUT_OF_RANGE
    assert await ask.code(sized(0, name="clone")) is Code.ALREADY_EXISTS


# ---- publish and unpublish


async def test_publish_is_idempotent_and_gives_a_context(ask: Asker) -> None:
    tune(ask, publish_context={"device": "/dev/x"})
    volume = await ask.volume()
    first = await ask.publish(volume)
    assert first.publish_context == {"volume": volume, "node": "n1", "device": "/dev/x"}
    assert await ask.publish(volume) == first
    assert ask.driver.published == {volume: frozenset({"n1"})}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"volume_id": ""}, Code.INVALID_ARGUMENT),
        ({"volume_id": "no"}, Code.NOT_FOUND),
        ({"node_id": ""}, Code.INVALID_ARGUMENT),
        ({"node_id": "stranger"}, Code.NOT_FOUND),
        ({"volume_capability": None}, Code.INVALID_ARGUMENT),
        ({"volume_capability": capability(block=True)}, Code.INVALID_ARGUMENT),
        ({"volume_capability": capability(Mode.UNKNOWN)}, Code.INVALID_ARGUMENT),
        ({"readonly": True}, Code.UNIMPLEMENTED),
    ],
)
async def test_publish_that_cannot_be_is_refused(ask: Asker, fields: dict[str, Any], code: Code) -> None:
    known = ask.driver.settings.controller_capabilities - {"PUBLISH_READONLY"}
    tune(ask, known_nodes=frozenset({"n1"}), controller_capabilities=known)
    good = {"volume_id": await ask.volume(), "node_id": "n1", "volume_capability": capability()}
    assert await ask.code(ControllerPublishVolumeRequest(**{**good, **fields})) is code
    assert not ask.driver.published


async def test_publish_in_another_way_is_already_there(ask: Asker) -> None:
    volume = await ask.volume()
    await ask.publish(volume)
    with pytest.raises(CSIError, match="in another way"):
        await ask.publish(volume, readonly=True)


@pytest.mark.parametrize("mode", list(Mode)[1:])
async def test_only_multi_node_modes_reach_a_second_node(ask: Asker, mode: Mode) -> None:
    volume = await ask.volume(volume_capabilities=[capability(mode)])
    await ask.publish(volume, volume_capability=capability(mode))
    second = ControllerPublishVolumeRequest(volume_id=volume, node_id="n2", volume_capability=capability(mode))
    if mode.name is not None and mode.name.startswith("MULTI_NODE"):
        await ask(second)
        assert ask.driver.published == {volume: frozenset({"n1", "n2"})}
    else:
        assert await ask.code(second) is Code.FAILED_PRECONDITION


async def test_attach_limit_holds_for_each_node(ask: Asker) -> None:
    tune(ask, attach_limit=2)
    volumes = [await ask.volume(name) for name in "abc"]
    for volume in volumes[:2]:
        await ask.publish(volume)
    third = ControllerPublishVolumeRequest(volume_id=volumes[2], node_id="n1", volume_capability=capability())
    assert await ask.code(third) is Code.RESOURCE_EXHAUSTED
    await ask.publish(volumes[2], "n2")
    await ask.publish(volumes[0])  # already there: the limit does not count it again


async def test_unpublish_is_idempotent_and_without_a_node_means_all(ask: Asker) -> None:
    mode = capability(Mode.MULTI_NODE_MULTI_WRITER)
    volume = await ask.volume()
    for node in ("n1", "n2", "n3"):
        await ask.publish(volume, node, volume_capability=mode)
    for _ in range(2):
        await ask(ControllerUnpublishVolumeRequest(volume_id=volume, node_id="n2"))
    assert ask.driver.published == {volume: frozenset({"n1", "n3"})}
    await ask(ControllerUnpublishVolumeRequest(volume_id=volume))
    assert ask.driver.published == {}
    await ask(ControllerUnpublishVolumeRequest(volume_id="gone", node_id="n1"))
    assert await ask.code(ControllerUnpublishVolumeRequest(node_id="n1")) is Code.INVALID_ARGUMENT


# ---- listing and looking


async def test_pages_end_and_survive_changes_in_between(ask: Asker) -> None:
    ids = sorted([await ask.volume(name) for name in "abcde"])
    first = await ask(ListVolumesRequest(max_entries=2))
    assert [entry.volume.volume_id for entry in first.entries] == ids[:2]
    await ask(DeleteVolumeRequest(volume_id=ids[1]))
    rest = await ask(ListVolumesRequest(starting_token=first.next_token))
    assert [entry.volume.volume_id for entry in rest.entries] == ids[2:]
    assert rest.next_token == ""
    assert await ask.code(ListVolumesRequest(starting_token="invalid")) is Code.ABORTED
    assert await ask.code(ListVolumesRequest(max_entries=-1)) is Code.INVALID_ARGUMENT


async def test_published_nodes_are_listed_only_where_declared(ask: Asker) -> None:
    volume = await ask.volume()
    await ask.publish(volume)
    assert (await ask(ListVolumesRequest())).entries[0].status.published_node_ids == ["n1"]
    assert (await ask(ControllerGetVolumeRequest(volume_id=volume))).status.published_node_ids == ["n1"]
    tune(ask, controller_capabilities=frozenset({"LIST_VOLUMES"}))
    assert (await ask(ListVolumesRequest())).entries[0].status.published_node_ids == []


async def test_get_volume_tells_an_absent_one(ask: Asker) -> None:
    assert await ask.code(ControllerGetVolumeRequest(volume_id="no")) is Code.NOT_FOUND
    assert await ask.code(ControllerGetVolumeRequest()) is Code.INVALID_ARGUMENT


async def test_validation_confirms_the_own_access_type_only(ask: Asker) -> None:
    volume = await ask.volume()
    uses = [capability(Mode.MULTI_NODE_MULTI_WRITER)]
    good = await ask(ValidateVolumeCapabilitiesRequest(volume_id=volume, volume_capabilities=uses))
    assert good.confirmed.volume_capabilities == uses
    other = [capability(block=True)]
    bad = await ask(ValidateVolumeCapabilitiesRequest(volume_id=volume, volume_capabilities=other))
    assert (bad.confirmed, bad.message) == (None, f"volume {volume} is a mount volume")
    empty = ValidateVolumeCapabilitiesRequest(volume_id=volume)
    assert await ask.code(empty) is Code.INVALID_ARGUMENT
    gone = ValidateVolumeCapabilitiesRequest(volume_id="no", volume_capabilities=uses)
    assert await ask.code(gone) is Code.NOT_FOUND


# ---- expand and modify


async def test_expand_grows_and_never_shrinks(ask: Asker) -> None:
    volume = await ask.volume()
    bigger = ControllerExpandVolumeRequest(volume_id=volume, capacity_range=CapacityRange(required_bytes=3 * GIB))
    for _ in range(2):
        reply = await ask(bigger)
        assert (reply.capacity_bytes, reply.node_expansion_required) == (3 * GIB, True)
    smaller = ControllerExpandVolumeRequest(volume_id=volume, capacity_range=CapacityRange(required_bytes=1))
    assert (await ask(smaller)).capacity_bytes == 3 * GIB
    huge = ControllerExpandVolumeRequest(volume_id=volume, capacity_range=CapacityRange(required_bytes=300 * GIB))
    assert await ask.code(huge) is Code.OUT_OF_RANGE
    assert await ask.code(ControllerExpandVolumeRequest(volume_id=volume)) is Code.INVALID_ARGUMENT
    gone = ControllerExpandVolumeRequest(volume_id="no", capacity_range=CapacityRange(required_bytes=1))
    assert await ask.code(gone) is Code.NOT_FOUND


async def test_modify_keeps_what_it_is_told(ask: Asker) -> None:
    volume = await ask.volume(mutable_parameters={"iops": "1", "tier": "a"})
    await ask(ControllerModifyVolumeRequest(volume_id=volume, mutable_parameters={"iops": "2"}))
    assert ask.driver.volumes[volume].mutable_parameters == {"iops": "2", "tier": "a"}
    refused = ControllerModifyVolumeRequest(volume_id=volume, mutable_parameters={"unsupported": "1"})
    assert await ask.code(refused) is Code.INVALID_ARGUMENT


# ---- topology and capacity


async def test_volume_is_put_into_the_first_preferred_place_of_ours(ask: Asker) -> None:
    places = ({"zone": "a"}, {"zone": "b"})
    tune(ask, topology={"zone": "a"}, places=places)
    terms = [Topology(segments={"zone": zone}) for zone in "cba"]
    wanted = TopologyRequirement(requisite=terms, preferred=terms)
    reply = await ask(sized(1, accessibility_requirements=wanted))
    assert reply.volume.accessible_topology == [Topology(segments={"zone": "b"})]
    nowhere = TopologyRequirement(requisite=terms[:1])
    assert await ask.code(sized(1, name="b", accessibility_requirements=nowhere)) is Code.RESOURCE_EXHAUSTED
    assert (await ask(sized(1, name="c"))).volume.accessible_topology == [Topology(segments={"zone": "a"})]


async def test_there_is_no_capacity_in_a_foreign_place(ask: Asker) -> None:
    tune(ask, topology={"zone": "a"}, total_bytes=7)
    for zone, free in (("a", 7), ("b", 0)):
        place = Topology(segments={"zone": zone})
        assert (await ask(GetCapacityRequest(accessible_topology=place))).available_capacity == free


# ---- what is not declared


@pytest.mark.parametrize(
    ("request_", "missing"),
    [
        (sized(1), "CREATE_DELETE_VOLUME"),
        (DeleteVolumeRequest(volume_id="v"), "CREATE_DELETE_VOLUME"),
        (ControllerPublishVolumeRequest(volume_id="v"), "PUBLISH_UNPUBLISH_VOLUME"),
        (ControllerUnpublishVolumeRequest(volume_id="v"), "PUBLISH_UNPUBLISH_VOLUME"),
        (ListVolumesRequest(), "LIST_VOLUMES"),
        (GetCapacityRequest(), "GET_CAPACITY"),
        (ControllerExpandVolumeRequest(volume_id="v"), "EXPAND_VOLUME"),
        (ControllerModifyVolumeRequest(volume_id="v"), "MODIFY_VOLUME"),
        (ControllerGetVolumeRequest(volume_id="v"), "GET_VOLUME"),
    ],
)
async def test_rpc_of_an_undeclared_capability_is_unimplemented(ask: Asker, request_: Any, missing: str) -> None:
    tune(ask, controller_capabilities=ask.driver.settings.controller_capabilities - {missing})
    assert await ask.code(request_) is Code.UNIMPLEMENTED


def test_capability_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="FLY is no CSI capability"):
        DriverSettings(controller_capabilities=frozenset({"FLY"}))
