from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from grpclib.const import Cardinality, Handler, Status

from csisidecar.csi import (
    CSIClient,
    DeleteVolumeRequest,
    DriverChannel,
    GetCapacityRequest,
    ListVolumesRequest,
    ProbeRequest,
    ProbeResponse,
)
from csisidecar.errors import CSIError, LeaseLostError, StatusCode
from csisidecar.testing.driver import DriverSettings, FakeDriver
from tests.csi.messages import create_request, publish_request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Keep = Callable[[DriverChannel], DriverChannel]
    Reach = Callable[..., Awaitable[CSIClient]]

pytestmark = pytest.mark.looptime


class Observer:
    def __init__(self) -> None:
        self.calls: list[tuple[str, StatusCode, float, str | None]] = []

    def call_done(self, method: str, code: StatusCode, seconds: float, migrated: str | None = None) -> None:
        self.calls.append((method, code, round(seconds, 3), migrated))


@pytest.fixture
def reach(keep: Keep) -> Reach:
    """Connects in memory to a driver, or to bare service objects."""

    async def connect(
        driver: FakeDriver | Sequence[Any], observer: Observer | None = None, log_limit: int = -1
    ) -> CSIClient:
        channel = keep(driver.channel() if isinstance(driver, FakeDriver) else DriverChannel.in_memory(driver))
        await channel.connect()
        return CSIClient(channel, observer=observer, log_limit=log_limit)

    return connect


async def fails(call: Awaitable[Any]) -> CSIError:
    with pytest.raises(CSIError) as caught:
        await call
    return caught.value


@pytest.mark.parametrize("code", [code for code in StatusCode if code is not StatusCode.OK])
async def test_status_of_the_driver_arrives_with_its_message(reach: Reach, code: StatusCode) -> None:
    client = await reach(FakeDriver(trouble=[f"CreateVolume:{code.label}=disk on fire: 100 % ünlucky"]))
    error = await fails(client.create_volume(create_request(), timeout_s=1))
    assert (error.method, error.code, error.message) == ("CreateVolume", code, "disk on fire: 100 % ünlucky")


@pytest.mark.parity("R-DRIVER-09")
async def test_deadline_ends_the_call_when_told_and_reads_as_go_writes_it(reach: Reach) -> None:
    client, loop = await reach(FakeDriver(trouble=["CreateVolume:hang"])), asyncio.get_running_loop()
    start = loop.time()
    error = await fails(client.create_volume(create_request(), timeout_s=15))
    assert str(error) == "rpc error: code = DeadlineExceeded desc = context deadline exceeded"
    assert loop.time() - start == pytest.approx(15.0, abs=0.001)


@pytest.mark.parametrize("timeout_s", [0.3, 7.0, 10.0, 15.0, 29.5])
async def test_driver_is_never_told_of_an_earlier_deadline_than_ours(reach: Reach, timeout_s: float) -> None:
    told: list[float] = []

    class Slow:
        def __mapping__(self) -> dict[str, Handler]:
            return {"/csi.v1.Identity/Probe": Handler(self.probe, Cardinality.UNARY_UNARY, ProbeRequest, ProbeResponse)}

        async def probe(self, stream: Any) -> None:
            told.append(stream.deadline.time_remaining())
            await asyncio.Event().wait()

    client = await reach([Slow()])
    await fails(client.probe(timeout_s=timeout_s))
    assert timeout_s <= told[0] <= timeout_s + 1


async def test_zero_deadline_fails_instead_of_waiting(reach: Reach) -> None:
    client = await reach(FakeDriver(trouble=["Probe:hang"]))
    assert (await fails(client.probe(timeout_s=0.0))).code is StatusCode.DEADLINE_EXCEEDED


async def test_deadline_reported_by_the_driver_reads_the_same(reach: Reach) -> None:
    class Impatient:
        def __mapping__(self) -> dict[str, Handler]:
            return {"/csi.v1.Identity/Probe": Handler(self.probe, Cardinality.UNARY_UNARY, ProbeRequest, ProbeResponse)}

        async def probe(self, stream: Any) -> None:
            await stream.send_trailing_metadata(status=Status.DEADLINE_EXCEEDED)

    client = await reach([Impatient()])
    error = await fails(client.probe(timeout_s=5))
    assert str(error) == "rpc error: code = DeadlineExceeded desc = context deadline exceeded"


@pytest.mark.parametrize("order", ["CreateVolume:lost", "CreateVolume:cut"])
async def test_connection_dropped_by_the_driver_is_unavailable(reach: Reach, order: str) -> None:
    driver = FakeDriver(trouble=[order])
    client = await reach(driver)
    error = await fails(client.create_volume(create_request(), timeout_s=5))
    assert error.code is StatusCode.UNAVAILABLE
    assert error.message == "error reading from server: EOF"
    assert len(driver.volumes) == (1 if order.endswith("lost") else 0)


async def test_never_connected_channel_is_unavailable() -> None:
    error = await fails(CSIClient(DriverChannel("/csi/csi.sock")).probe(timeout_s=5))
    assert (error.code, error.message) == (StatusCode.UNAVAILABLE, "not connected to /csi/csi.sock")


@pytest.mark.parity("R-DRIVER-10")
async def test_secret_that_is_no_utf8_fails_as_in_go_and_reaches_no_driver(reach: Reach) -> None:
    driver = FakeDriver()
    client = await reach(driver)
    request = DeleteVolumeRequest(volume_id="v", secrets={"key": b"\xff\xfe".decode(errors="surrogateescape")})
    error = await fails(client.delete_volume(request, timeout_s=5))
    assert error.code is StatusCode.INTERNAL
    assert error.message == "grpc: error while marshaling: string field contains invalid UTF-8"
    assert not driver.ledger


@pytest.mark.parametrize(
    ("status", "code"), [("99", StatusCode.UNKNOWN), ("x", StatusCode.UNKNOWN), ("16", StatusCode.UNAUTHENTICATED)]
)
async def test_status_numbers_no_one_knows_are_unknown(reach: Reach, status: str, code: StatusCode) -> None:
    class Odd:
        def __mapping__(self) -> dict[str, Handler]:
            return {"/csi.v1.Identity/Probe": Handler(self.probe, Cardinality.UNARY_UNARY, ProbeRequest, ProbeResponse)}

        async def probe(self, stream: Any) -> None:
            headers = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", status)]
            await stream._stream.send_headers(headers, end_stream=True)
            stream._send_trailing_metadata_done = True

    client = await reach([Odd()])
    assert (await fails(client.probe(timeout_s=5))).code is code


@pytest.mark.parametrize("raw", [b"\x00\x00\x00\x00\x02\xff\xff", b"\x00\x00\x00\x00\x09\x08", b"\x01\x00\x00\x00\x00"])
async def test_answer_that_cannot_be_read_is_an_error_and_no_traceback(reach: Reach, raw: bytes) -> None:
    class Garbled:
        def __mapping__(self) -> dict[str, Handler]:
            path = "/csi.v1.Identity/GetPluginInfo"
            return {path: Handler(self.answer, Cardinality.UNARY_UNARY, ProbeRequest, ProbeResponse)}

        async def answer(self, stream: Any) -> None:
            await stream.send_initial_metadata()
            await stream._stream.send_data(raw)
            stream._send_message_done = True

    client = await reach([Garbled()])
    error = await fails(client.get_plugin_info(timeout_s=5))
    assert error.code in {StatusCode.INTERNAL, StatusCode.UNIMPLEMENTED}


async def test_ok_without_a_message_is_an_error(reach: Reach) -> None:
    class Silent:
        def __mapping__(self) -> dict[str, Handler]:
            return {"/csi.v1.Identity/Probe": Handler(self.probe, Cardinality.UNARY_UNARY, ProbeRequest, ProbeResponse)}

        async def probe(self, stream: Any) -> None:
            await stream.send_initial_metadata()
            await stream._stream.send_headers([("grpc-status", "0")], end_stream=True)
            stream._send_trailing_metadata_done = True

    client = await reach([Silent()])
    assert (await fails(client.probe(timeout_s=5))).code is StatusCode.INTERNAL


async def test_method_the_driver_lacks_is_unimplemented(reach: Reach) -> None:
    client = await reach(FakeDriver().services[:1])
    assert (await fails(client.node_get_info(timeout_s=5))).code is StatusCode.UNIMPLEMENTED


async def test_cancel_passes_through_and_reaches_the_driver(reach: Reach) -> None:
    driver, observer = FakeDriver(trouble=["CreateVolume:hang"]), Observer()
    client = await reach(driver, observer)
    task = asyncio.get_running_loop().create_task(client.create_volume(create_request(), timeout_s=60))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.1)
    assert driver.ledger[-1].code is StatusCode.CANCELED
    assert observer.calls == [("/csi.v1.Controller/CreateVolume", StatusCode.CANCELED, 1.0, None)]


async def test_every_call_is_observed_with_its_full_name_code_and_duration(reach: Reach) -> None:
    observer = Observer()
    client = await reach(FakeDriver(trouble=["DeleteVolume:delay=2"]), observer)
    await client.create_volume(create_request(), timeout_s=5, migrated="false")
    await client.delete_volume(DeleteVolumeRequest(volume_id="v"), timeout_s=5)
    await fails(client.delete_volume(DeleteVolumeRequest(volume_id="v"), timeout_s=1))
    assert observer.calls == [
        ("/csi.v1.Controller/CreateVolume", StatusCode.OK, 0.0, "false"),
        ("/csi.v1.Controller/DeleteVolume", StatusCode.OK, 2.0, None),
        ("/csi.v1.Controller/DeleteVolume", StatusCode.DEADLINE_EXCEEDED, 1.0, None),
    ]


@pytest.mark.parametrize(
    ("order", "ready"), [("Probe:notready", False), ("Probe:silent", True), ("Probe:delay=0", True)]
)
async def test_absent_ready_means_ready(reach: Reach, order: str, ready: bool) -> None:
    assert await (await reach(FakeDriver(trouble=[order]))).probe(timeout_s=1) is ready


async def test_hundred_calls_at_once_get_their_own_answers(reach: Reach) -> None:
    client = await reach(FakeDriver())
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.create_volume(create_request(f"pvc-{i}"), timeout_s=5)) for i in range(300)]
    for i, task in enumerate(tasks):
        volume = task.result().volume
        assert volume is not None
        assert volume.volume_context == {"name": f"pvc-{i}"}


@pytest.mark.parity("R-DRIVER-11")
async def test_call_log_has_one_line_each_way_and_no_secret(reach: Reach, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "csisidecar.csi.calls")
    client = await reach(FakeDriver())
    await client.create_volume(create_request(), timeout_s=5)
    call, response = [record for record in caplog.records if record.name == "csisidecar.csi.calls"]
    assert call.__dict__["method"] == response.__dict__["method"] == "/csi.v1.Controller/CreateVolume"
    assert '"secrets":"***stripped***"' in call.__dict__["request"]
    assert '"capacity_bytes":1073741824' in response.__dict__["response"]
    assert "hunter2" not in str([record.__dict__ for record in caplog.records])


async def test_call_log_is_cut_where_asked(reach: Reach, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "csisidecar.csi.calls")
    client = await reach(FakeDriver(), log_limit=10)
    await client.create_volume(create_request(), timeout_s=5)
    response = caplog.records[-1].__dict__["response"]
    assert response == '{"volume":' + " [response body too large, log capped to 10 chars]"


async def test_failed_call_is_logged_with_its_error(reach: Reach, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "csisidecar.csi.calls")
    client = await reach(FakeDriver(trouble=["GetCapacity:Internal=no"]))
    await fails(client.get_capacity(GetCapacityRequest(), timeout_s=5))
    assert caplog.records[-1].__dict__["error"] == "rpc error: code = Internal desc = no"


async def _with_volumes(reach: Reach, count: int, **settings: Any) -> tuple[FakeDriver, CSIClient]:
    driver = FakeDriver(DriverSettings(**settings))
    client = await reach(driver)
    for i in range(count):
        volume = (await client.create_volume(create_request(f"pvc-{i}"), timeout_s=5)).volume
        assert volume is not None
        if i % 2:
            await client.controller_publish_volume(publish_request(volume.volume_id, f"node-{i}"), timeout_s=5)
    return driver, client


@pytest.mark.parametrize("max_entries", [0, 1, 3, 10, 100])
async def test_published_nodes_come_from_all_pages(reach: Reach, max_entries: int) -> None:
    driver, client = await _with_volumes(reach, 10)
    published = await client.list_published(max_entries, timeout_s=5)
    assert set(published) == set(driver.volumes)
    assert {handle: nodes for handle, nodes in published.items() if nodes} == driver.published
    assert len(driver.calls("ListVolumes")) == {0: 1, 1: 10, 3: 4, 10: 1, 100: 1}[max_entries]


async def test_page_token_that_leads_nowhere_is_an_error_instead_of_an_endless_loop(reach: Reach) -> None:
    driver, client = await _with_volumes(reach, 3)
    driver.order("ListVolumes:loop")
    error = await fails(client.list_published(timeout_s=60))
    assert error.code is StatusCode.INTERNAL
    assert len(driver.calls("ListVolumes")) == 2


async def test_one_deadline_covers_all_pages(reach: Reach) -> None:
    driver, client = await _with_volumes(reach, 10)
    driver.order("ListVolumes:delay=2")
    loop = asyncio.get_running_loop()
    start = loop.time()
    assert (await fails(client.list_published(1, timeout_s=5))).code is StatusCode.DEADLINE_EXCEEDED
    assert loop.time() - start == pytest.approx(5.0, abs=0.01)


async def test_plain_listing_decodes_whole_entries(reach: Reach) -> None:
    driver, client = await _with_volumes(reach, 4)
    reply = await client.list_volumes(ListVolumesRequest(max_entries=3), timeout_s=5)
    assert [entry.volume.volume_id for entry in reply.entries if entry.volume] == sorted(driver.volumes)[:3]
    assert reply.next_token


async def test_refusal_keeps_volume_calls_from_the_driver_but_not_the_handshake(reach: Reach) -> None:
    driver = FakeDriver()
    client = await reach(driver)
    client.refusal = "the driver is away"
    error = await fails(client.create_volume(create_request(), timeout_s=5))
    assert (error.code, error.message) == (StatusCode.UNAVAILABLE, "the driver is away")
    assert await client.probe(timeout_s=5)
    await client.controller_get_capabilities(timeout_s=5)
    assert not driver.calls("CreateVolume")


async def test_guarded_client_calls_nothing_once_its_lease_is_over(reach: Reach) -> None:
    driver = FakeDriver()
    base = await reach(driver)

    def guard() -> None:
        raise LeaseLostError("not started")

    with pytest.raises(LeaseLostError):
        await base.derive(guard=guard).create_volume(create_request(), timeout_s=5)
    assert not driver.calls("CreateVolume")
    await base.create_volume(create_request(), timeout_s=5)
