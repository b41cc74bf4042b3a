"""The room and the embedded driver against another implementation of gRPC: the C core that grpcio wraps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from csisidecar.csi import (
    ControllerPublishVolumeRequest,
    ControllerPublishVolumeResponse,
    CreateVolumeRequest,
    CreateVolumeResponse,
    CSIClient,
    DriverChannel,
    GetPluginInfoRequest,
    GetPluginInfoResponse,
)
from csisidecar.errors import CSIError, StatusCode
from csisidecar.testing.driver import FakeDriver
from tests.csi.messages import create_request, publish_request

grpc = pytest.importorskip("grpc")
grpc_aio = pytest.importorskip("grpc.aio")


@pytest.fixture
async def socket() -> AsyncIterator[Path]:
    with TemporaryDirectory(prefix="csi") as name:
        yield Path(name) / "csi.sock"


_Answer = Callable[[Any, Any], Awaitable[Any]]


async def _serve(socket: Path, answers: Mapping[str, tuple[_Answer, Any, Any]]) -> Any:
    server = grpc_aio.server()
    for path, (answer, request, reply) in answers.items():
        service, _, method = path.rpartition("/")
        handler = grpc.unary_unary_rpc_method_handler(answer, request.FromString, reply.SerializeToString)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    return server


async def test_strict_server_is_understood(socket: Path) -> None:
    seen: dict[str, Any] = {}

    async def info(_: GetPluginInfoRequest, context: Any) -> GetPluginInfoResponse:
        seen["remaining_s"] = context.time_remaining()
        return GetPluginInfoResponse(name="c.core", vendor_version="1")

    async def create(request: CreateVolumeRequest, context: Any) -> CreateVolumeResponse:
        seen["request"] = request
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "zu voll: 100 % ü")
        raise AssertionError

    async def publish(_: ControllerPublishVolumeRequest, _context: Any) -> ControllerPublishVolumeResponse:
        await asyncio.sleep(10)
        return ControllerPublishVolumeResponse()

    server = await _serve(
        socket,
        {
            "csi.v1.Identity/GetPluginInfo": (info, GetPluginInfoRequest, GetPluginInfoResponse),
            "csi.v1.Controller/CreateVolume": (create, CreateVolumeRequest, CreateVolumeResponse),
            "csi.v1.Controller/ControllerPublishVolume": (
                publish,
                ControllerPublishVolumeRequest,
                ControllerPublishVolumeResponse,
            ),
        },
    )
    channel = DriverChannel(str(socket))
    await channel.connect(5)
    client = CSIClient(channel)
    assert (await client.get_plugin_info(timeout_s=5)).name == "c.core"
    assert 4.9 < seen["remaining_s"] < 5.2
    with pytest.raises(CSIError) as caught:
        await client.create_volume(create_request(), timeout_s=5)
    assert (caught.value.code, caught.value.message) == (StatusCode.RESOURCE_EXHAUSTED, "zu voll: 100 % ü")
    assert seen["request"] == create_request()
    with pytest.raises(CSIError) as caught:
        await client.probe(timeout_s=5)
    assert caught.value.code is StatusCode.UNIMPLEMENTED
    with pytest.raises(CSIError) as caught:
        await client.controller_publish_volume(publish_request("v"), timeout_s=0.2)
    assert caught.value.code is StatusCode.DEADLINE_EXCEEDED
    await server.stop(grace=None)
    async with asyncio.timeout(1):
        await channel.lost.wait()


async def test_graceful_stop_of_the_driver_is_a_loss_at_once(socket: Path) -> None:
    async def info(_: GetPluginInfoRequest, _context: Any) -> GetPluginInfoResponse:
        await asyncio.sleep(0.5)
        return GetPluginInfoResponse(name="c.core")

    answers = {"csi.v1.Identity/GetPluginInfo": (info, GetPluginInfoRequest, GetPluginInfoResponse)}
    server = await _serve(socket, answers)
    channel = DriverChannel(str(socket))
    await channel.connect(5)
    async with asyncio.TaskGroup() as group:
        call = group.create_task(_code(CSIClient(channel).get_plugin_info(timeout_s=5)))
        await asyncio.sleep(0.1)
        stop = group.create_task(server.stop(grace=3))
        async with asyncio.timeout(1):
            await channel.lost.wait()
        assert await call is StatusCode.UNAVAILABLE
        await stop


async def _code(call: Awaitable[Any]) -> StatusCode:
    with pytest.raises(CSIError) as caught:
        await call
    return caught.value.code


async def test_embedded_driver_serves_a_foreign_client(socket: Path) -> None:
    driver = FakeDriver(trouble=["DeleteVolume:Internal=no"])
    async with driver.serving(socket), grpc_aio.insecure_channel(f"unix:{socket}") as channel:
        info = channel.unary_unary(
            "/csi.v1.Identity/GetPluginInfo",
            request_serializer=GetPluginInfoRequest.SerializeToString,
            response_deserializer=GetPluginInfoResponse.FromString,
        )
        assert (await info(GetPluginInfoRequest(), timeout=5)).name == "directories.csi.demo"
        create = channel.unary_unary(
            "/csi.v1.Controller/CreateVolume",
            request_serializer=CreateVolumeRequest.SerializeToString,
            response_deserializer=CreateVolumeResponse.FromString,
        )
        reply = await create(create_request(), timeout=5)
        assert reply.volume.volume_id in driver.volumes
        with pytest.raises(grpc.RpcError) as caught:
            await create(CreateVolumeRequest(), timeout=5)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details() == "name is missing"
