from __future__ import annotations

import asyncio
import logging
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from csisidecar.csi import CSIClient, DriverChannel
from csisidecar.csi.channel import describe_failure, socket_path
from csisidecar.errors import ConfigError, CSIError, DriverUnreachableError, StatusCode
from csisidecar.testing.driver import DriverSettings, FakeDriver
from tests.csi.messages import create_request

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="csi") as name:  # pytest's own paths are too long for a socket
        yield Path(name)


@pytest.mark.parametrize("endpoint", ["unix:///csi/csi.sock", "/csi/csi.sock"])
def test_both_spellings_of_a_socket_are_accepted(endpoint: str) -> None:
    assert socket_path(endpoint) == "/csi/csi.sock"


@pytest.mark.parity("R-DRIVER-01")
@pytest.mark.parametrize(
    "endpoint", ["", "csi.sock", "unix:/x", "unix://relative", "dns:///host:1", "tcp://host:1", "unix:///" + "x" * 108]
)
def test_what_is_no_unix_socket_is_refused_naming_the_flag(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="--csi-address"):
        DriverChannel(endpoint)


async def _fails_to_connect(path: Path) -> str:
    with pytest.raises(DriverUnreachableError) as caught:
        await DriverChannel(str(path)).connect(0.05)
    assert str(path) in str(caught.value)
    assert "--csi-address" in str(caught.value)
    return str(caught.value)


async def test_missing_socket_is_named(folder: Path) -> None:
    assert "the file does not exist" in await _fails_to_connect(folder / "csi.sock")


async def test_missing_directory_is_named(folder: Path) -> None:
    assert f"the directory {folder}/no does not exist" in await _fails_to_connect(folder / "no" / "csi.sock")


async def test_ordinary_file_is_told_from_a_socket(folder: Path) -> None:
    (folder / "csi.sock").write_text("")
    assert "the file is not a socket" in await _fails_to_connect(folder / "csi.sock")


async def test_dead_socket_is_told_from_a_missing_one(folder: Path) -> None:
    server = await asyncio.start_unix_server(lambda *_: None, folder / "csi.sock")
    server.close()
    await server.wait_closed()
    assert "nobody listens" in await _fails_to_connect(folder / "csi.sock")


def test_forbidden_socket_is_named() -> None:
    assert describe_failure("/csi/csi.sock", PermissionError(13, "Permission denied")) == "permission denied"


async def test_server_of_another_protocol_is_named(folder: Path) -> None:
    def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    async with await asyncio.start_unix_server(greet, folder / "csi.sock"):
        assert "no gRPC server" in await _fails_to_connect(folder / "csi.sock")


async def test_socket_that_appears_late_is_waited_for(folder: Path) -> None:
    channel, driver = DriverChannel(str(folder / "csi.sock")), FakeDriver()

    async def appear() -> None:
        await asyncio.sleep(0.3)
        await stack.enter_async_context(driver.serving(folder / "csi.sock"))

    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        group.create_task(appear())
        await channel.connect(5.0)
        assert channel.is_connected
        assert channel.generation == 1
        channel.close()


@pytest.mark.looptime
async def test_wait_for_the_driver_lasts_as_told_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    driver = FakeDriver()
    driver.stop()
    loop = asyncio.get_running_loop()
    start = loop.time()
    caplog.set_level(logging.INFO)
    with pytest.raises(DriverUnreachableError, match="nobody listens"):
        await driver.channel().connect(30.0)
    assert loop.time() - start == pytest.approx(30.0, abs=0.01)
    lines = [record for record in caplog.records if record.message.startswith("Still connecting")]
    assert [round(line.__dict__["waited_s"], -1) for line in lines] == [10, 20]


@pytest.mark.looptime
async def test_loss_is_told_at_once_and_ends_calls_in_flight() -> None:
    driver = FakeDriver(trouble=["CreateVolume:hang"])
    channel = driver.channel()
    await channel.connect()
    client, loop = CSIClient(channel), asyncio.get_running_loop()

    async def call() -> float:
        with pytest.raises(CSIError) as caught:
            await client.create_volume(create_request(), timeout_s=60)
        assert caught.value.code is StatusCode.UNAVAILABLE
        return loop.time()

    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(call()) for _ in range(150)]  # more than may be sent at once
        await asyncio.sleep(1.0)
        lost, when = channel.lost, loop.time()
        driver.stop()
        await lost.wait()
        assert loop.time() == when
    assert {task.result() for task in calls} == {when}


@pytest.mark.looptime
async def test_calls_on_a_lost_channel_are_refused_at_once_and_no_lazy_reconnect_happens() -> None:
    driver = FakeDriver()
    channel = driver.channel()
    await channel.connect()
    await CSIClient(channel).probe(timeout_s=1)
    driver.drop_connections()  # the driver still listens
    await channel.lost.wait()
    start = asyncio.get_running_loop().time()
    with pytest.raises(CSIError) as caught:
        await CSIClient(channel).probe(timeout_s=60)
    assert caught.value.code is StatusCode.UNAVAILABLE
    assert asyncio.get_running_loop().time() == start
    assert channel.generation == 1


@pytest.mark.looptime
async def test_own_close_is_no_loss() -> None:
    channel = FakeDriver().channel()
    await channel.connect()
    lost = channel.lost
    channel.close()
    await asyncio.sleep(1)
    assert not lost.is_set()
    assert not channel.is_connected


@pytest.mark.looptime
async def test_reconnect_gives_a_new_generation_and_a_new_loss_event() -> None:
    driver = FakeDriver()
    channel = driver.channel()
    await channel.connect()
    await CSIClient(channel).probe(timeout_s=1)
    first = channel.lost
    driver.stop()
    await first.wait()
    driver.start()
    await channel.reconnect()
    assert (channel.generation, channel.lost.is_set()) == (2, False)
    assert await CSIClient(channel).probe(timeout_s=1)
    channel.close()


_SERVE = """
import asyncio, sys
from pathlib import Path
from csisidecar.testing.driver import DriverOptions, serve
asyncio.run(serve(DriverOptions(endpoint=sys.argv[1])))
"""


async def test_killed_driver_process_is_noticed_within_a_second(folder: Path) -> None:
    path = str(folder / "csi.sock")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _SERVE, path)
    try:
        channel = DriverChannel(path)
        await channel.connect(30.0)
        assert await CSIClient(channel).probe(timeout_s=5)
        process.send_signal(signal.SIGKILL)
        async with asyncio.timeout(1.0):
            await channel.lost.wait()
        assert channel.lost_reason == "closed by the driver"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_stale_socket_of_a_killed_driver_is_replaced_but_a_live_one_is_not(folder: Path) -> None:
    path = folder / "csi.sock"
    server = await asyncio.start_unix_server(lambda *_: None, path)
    server.close()
    await server.wait_closed()
    async with FakeDriver().serving(path):
        with pytest.raises(OSError, match="another process serves there"):
            async with FakeDriver().serving(path):
                pass
        channel = DriverChannel(str(path))
        await channel.connect(1.0)
        channel.close()
    assert not path.exists()


async def test_goaway_counts_as_a_loss(folder: Path) -> None:
    """A graceful stop of a Go driver begins with GOAWAY; calls in flight end, as grpclib cannot finish them."""
    path = folder / "csi.sock"
    settings, goaway = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + b"\x00" * 8

    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(settings)
        await asyncio.sleep(0.05)
        writer.write(goaway)
        await reader.read()
        writer.close()
        gone.set()

    async with await asyncio.start_unix_server(serve, path):
        channel = DriverChannel(str(path))
        await channel.connect(1.0)
        start = asyncio.get_running_loop().time()
        with pytest.raises(CSIError) as caught:
            await CSIClient(channel).probe(timeout_s=5)
        assert caught.value.code is StatusCode.UNAVAILABLE
        assert asyncio.get_running_loop().time() - start < 1
        assert channel.lost.is_set()
        assert "GOAWAY" in channel.lost_reason
        await gone.wait()


@pytest.mark.looptime
async def test_timeout_further_out_still_works_after_a_loss_in_the_same_task() -> None:
    """grpclib wakes callers with Task.cancel(); a count left behind would turn this TimeoutError into a cancel."""
    driver = FakeDriver(DriverSettings(), trouble=["Probe:cut"])
    channel = driver.channel()
    await channel.connect()

    async def lose_and_wait() -> None:
        async with asyncio.timeout(10):
            with pytest.raises(CSIError):
                await CSIClient(channel).probe(timeout_s=5)
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        await lose_and_wait()


@pytest.mark.looptime
async def test_cancel_that_arrives_with_the_loss_stays_a_cancel() -> None:
    driver = FakeDriver(trouble=["Probe:hang"])
    channel = driver.channel()
    await channel.connect()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(CSIClient(channel).probe(timeout_s=50))
        await asyncio.sleep(1)
        lost = channel.lost
        channel.close()  # wakes the call
        task.cancel()
        assert not lost.is_set()
    assert task.cancelled()
