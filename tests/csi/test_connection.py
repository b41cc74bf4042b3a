from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from csisidecar.clock import SystemClock
from csisidecar.csi import CSIClient, DriverBack, DriverConnection, DriverLost, DriverState
from csisidecar.errors import CSIError, DriverIdentityError, DriverUnreachableError, StartupError, StatusCode
from csisidecar.testing.driver import FakeDriver
from tests.csi.messages import create_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from csisidecar.csi import DriverChannel

pytestmark = pytest.mark.looptime


class Setting:
    """A driver, a client and a connection of it, with what listeners heard."""

    def __init__(self, driver: FakeDriver) -> None:
        self.driver = driver
        self.channel: DriverChannel = driver.channel()
        self.client = CSIClient(self.channel)
        self.connection = DriverConnection(self.channel, self.client, SystemClock(), timeout_s=5.0)
        self.heard: list[DriverLost | DriverBack] = []
        self.connection.subscribe(self.heard.append)

    async def lose(self) -> None:
        self.driver.stop()
        await asyncio.sleep(0.01)


@pytest.fixture
async def setting() -> AsyncIterator[Setting]:
    yield Setting(FakeDriver())
    await asyncio.sleep(0.01)  # time for the driver's handlers to end


async def test_ready_tells_who_the_driver_is(setting: Setting) -> None:
    async with setting.connection as connection:
        assert connection.state is DriverState.WAITING
        info = await connection.ready()
        assert (info.name, connection.state, connection.reason) == ("directories.csi.demo", DriverState.READY, "")
        assert (connection.generation, setting.heard) == (1, [])
    assert not setting.channel.is_connected


async def test_driver_that_comes_late_is_waited_for_with_a_reason(setting: Setting) -> None:
    setting.driver.stop()
    async with setting.connection as connection:
        await asyncio.sleep(12)
        assert connection.reason.startswith(
            "driver at memory:directories.csi.demo: waiting for 12 s: connection refused"
        )
        setting.driver.order("Probe:notready x5")
        setting.driver.start()
        await asyncio.sleep(4)
        assert connection.state is DriverState.PROBING
        assert "Probe not ready for 3 s" in connection.reason
        await connection.ready()


async def test_driver_that_never_comes_ends_the_block(setting: Setting) -> None:
    setting.driver.stop()
    start = asyncio.get_running_loop().time()
    with pytest.raises(DriverUnreachableError, match="within 30 s"):
        async with setting.connection as connection:
            await connection.ready()
    assert asyncio.get_running_loop().time() - start == pytest.approx(30, abs=0.1)


async def test_failed_first_handshake_ends_the_block_with_its_own_error(setting: Setting) -> None:
    setting.driver.order("Probe:Internal")
    with pytest.raises(StartupError, match="failed its Probe"):
        async with setting.connection as connection:
            await connection.ready()


async def test_errors_and_cancels_of_the_body_pass_unchanged(setting: Setting) -> None:
    async def stumble() -> None:
        async with setting.connection as connection:
            await connection.ready()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await stumble()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1), Setting(FakeDriver()).connection:
            await asyncio.sleep(10)


async def test_loss_is_heard_at_once_and_the_same_driver_is_heard_back(setting: Setting) -> None:
    async with setting.connection as connection:
        info = await connection.ready()
        await asyncio.sleep(100)
        await setting.lose()
        assert setting.heard == [DriverLost(info=info, reason="closed by the driver")]
        assert connection.state is DriverState.LOST
        await asyncio.sleep(7)
        assert "driver directories.csi.demo at memory:" in connection.reason
        assert "lost for 7 s: connection refused" in connection.reason
        setting.driver.start()
        start = asyncio.get_running_loop().time()
        assert await connection.ready() == info
        assert asyncio.get_running_loop().time() - start < 2
        assert setting.heard[1:] == [DriverBack(info=info, changed=False, generation=2)]


async def test_calls_in_flight_end_and_new_ones_are_refused_until_the_driver_is_back(setting: Setting) -> None:
    async with setting.connection as connection, asyncio.TaskGroup() as group:
        await connection.ready()
        setting.driver.order("CreateVolume:hang x1")

        async def create() -> StatusCode:
            with pytest.raises(CSIError) as caught:
                await setting.client.create_volume(create_request(), timeout_s=60)
            return caught.value.code

        running = group.create_task(create())
        await asyncio.sleep(1)
        start = asyncio.get_running_loop().time()
        await setting.lose()
        assert await running is StatusCode.UNAVAILABLE
        assert await create() is StatusCode.UNAVAILABLE
        assert asyncio.get_running_loop().time() - start < 0.1
        setting.driver.start()
        await connection.ready()
        await setting.client.create_volume(create_request(), timeout_s=60)


async def test_whoever_answers_on_the_socket_gets_no_volume_call_before_it_said_who_it_is(setting: Setting) -> None:
    async with setting.connection as connection:
        await connection.ready()
        await setting.lose()
        setting.driver.order("GetPluginInfo:delay=3 x1")
        setting.driver.start()
        await asyncio.sleep(2)
        assert setting.channel.is_connected
        with pytest.raises(CSIError, match="is lost"):
            await setting.client.create_volume(create_request(), timeout_s=60)
        await connection.ready()
        assert not setting.driver.calls("CreateVolume")


async def test_other_capabilities_are_told_as_a_change(setting: Setting) -> None:
    async with setting.connection as connection:
        await connection.ready()
        await setting.lose()
        settings = setting.driver.settings
        fewer = settings.controller_capabilities - {"PUBLISH_UNPUBLISH_VOLUME"}
        setting.driver.settings = replace(settings, controller_capabilities=fewer, vendor_version="2")
        setting.driver.start()
        info = await connection.ready()
        assert not info.has_controller("PUBLISH_UNPUBLISH_VOLUME")
        assert setting.heard[-1] == DriverBack(info=info, changed=True, generation=2)


async def test_other_version_alone_is_no_change(setting: Setting) -> None:
    async with setting.connection as connection:
        await connection.ready()
        await setting.lose()
        setting.driver.settings = replace(setting.driver.settings, vendor_version="2")
        setting.driver.start()
        info = await connection.ready()
        assert setting.heard[-1] == DriverBack(info=info, changed=False, generation=2)


async def test_other_name_ends_the_block_naming_both(setting: Setting) -> None:
    async def meet_another() -> None:
        async with setting.connection as connection:
            await connection.ready()
            await setting.lose()
            setting.driver.settings = replace(setting.driver.settings, name="other.name")
            setting.driver.start()
            await asyncio.sleep(60)

    with pytest.raises(DriverIdentityError, match=r"came back as 'other\.name'; it was 'directories\.csi\.demo'"):
        await meet_another()
    assert len(setting.heard) == 1


@pytest.mark.parametrize(
    "order",
    ["Probe:Internal x5", "GetPluginInfo:Unavailable x5", "ControllerGetCapabilities:Internal x5", "Probe:cut x5"],
)
async def test_stumbling_return_is_tried_again(setting: Setting, order: str) -> None:
    async with setting.connection as connection:
        await connection.ready()
        await setting.lose()
        setting.driver.order(order)
        setting.driver.start()
        await connection.ready()
        assert isinstance(setting.heard[-1], DriverBack)
        assert setting.driver.trouble.orders[0].times == 0


async def test_driver_that_comes_and_goes_at_once_is_not_chased_in_a_hot_loop(setting: Setting) -> None:
    async with setting.connection as connection:
        await connection.ready()
        for _ in range(20):
            setting.driver.drop_connections()
            await asyncio.sleep(0.001)
            await connection.ready()
        assert asyncio.get_running_loop().time() > 10


async def test_driver_lost_during_the_handshake_of_a_return_is_found_again(setting: Setting) -> None:
    async with setting.connection as connection:
        await connection.ready()
        await setting.lose()
        setting.driver.order("GetPluginCapabilities:hang x1")
        setting.driver.start()
        await asyncio.sleep(2)
        await setting.lose()
        await asyncio.sleep(5)
        assert connection.state is DriverState.LOST
        setting.driver.start()
        await connection.ready()
        assert [type(item) for item in setting.heard] == [DriverLost, DriverBack]


async def test_ended_subscription_hears_nothing(setting: Setting) -> None:
    heard: list[object] = []
    end = setting.connection.subscribe(heard.append)
    async with setting.connection as connection:
        await connection.ready()
        end()
        await setting.lose()
        assert (len(heard), len(setting.heard)) == (0, 1)


async def test_no_task_is_left_when_the_block_ends(setting: Setting) -> None:
    before = asyncio.all_tasks()
    setting.driver.order("CreateVolume:hang")

    async def leave_in_the_middle() -> None:
        async with setting.connection as connection, asyncio.timeout(5):
            await connection.ready()
            await setting.client.create_volume(create_request(), timeout_s=60)

    with pytest.raises(TimeoutError):
        await leave_in_the_middle()
    assert asyncio.all_tasks() == before
