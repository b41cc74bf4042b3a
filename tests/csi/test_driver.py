from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from csisidecar.clock import SystemClock
from csisidecar.csi import CSIClient, DriverInfo, handshake
from csisidecar.csi._generated.csi.v1 import (
    ControllerGetCapabilitiesResponse,
    GetPluginCapabilitiesResponse,
)
from csisidecar.csi.driver import controller_capabilities, plugin_capabilities
from csisidecar.errors import CSIError, DriverIdentityError, StartupError
from csisidecar.testing.driver import ALL_CONTROLLER, DriverSettings, FakeDriver

if TYPE_CHECKING:
    from collections.abc import Callable

    from csisidecar.csi import DriverChannel

    Keep = Callable[[DriverChannel], DriverChannel]

pytestmark = pytest.mark.looptime


async def shake(keep: Keep, driver: FakeDriver, states: list[str] | None = None, timeout_s: float = 5.0) -> DriverInfo:
    channel = keep(driver.channel())
    await channel.connect()
    on_state = states.append if states is not None else None
    return await handshake(CSIClient(channel), timeout_s=timeout_s, clock=SystemClock(), on_state=on_state)


async def test_name_version_and_capabilities_are_learned(keep: Keep) -> None:
    info = await shake(keep, FakeDriver(DriverSettings(name="a.b", vendor_version="7")))
    assert (info.name, info.vendor_version) == ("a.b", "7")
    assert info.plugin_capabilities == {"CONTROLLER_SERVICE"}
    assert info.controller_capabilities == ALL_CONTROLLER
    assert info.has_plugin("CONTROLLER_SERVICE")
    assert not info.has_plugin("VOLUME_ACCESSIBILITY_CONSTRAINTS")
    assert info.has_controller("PUBLISH_UNPUBLISH_VOLUME")


@pytest.mark.parity("R-DRIVER-05")
async def test_driver_without_controller_service_is_not_asked_for_its_controller_capabilities(keep: Keep) -> None:
    driver = FakeDriver(DriverSettings(plugin_capabilities=frozenset()))
    assert (await shake(keep, driver)).controller_capabilities == frozenset()
    assert not driver.calls("ControllerGetCapabilities")


@pytest.mark.parity("R-DRIVER-03")
@pytest.mark.parametrize("order", ["Probe:notready x70", "Probe:DeadlineExceeded x70"])
async def test_driver_that_is_not_ready_is_probed_once_a_second_for_as_long_as_it_takes(
    keep: Keep, order: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    driver, states = FakeDriver(trouble=[order]), list[str]()
    await shake(keep, driver, states)
    starts = [call.started_s for call in driver.calls("Probe")]
    assert len(starts) == 71
    assert starts[-1] - starts[0] == pytest.approx(70.0, abs=0.1)
    assert len([record for record in caplog.records if record.message.startswith("Still waiting")]) == 6
    assert any("for 12 s" in state for state in states)


async def test_probe_that_hangs_is_given_up_at_the_deadline_and_asked_again(keep: Keep) -> None:
    driver, states = FakeDriver(trouble=["Probe:hang x2"]), list[str]()
    await shake(keep, driver, states, timeout_s=5.0)
    starts = [round(call.started_s - driver.ledger[0].started_s, 1) for call in driver.calls("Probe")]
    assert starts == [0.0, 5.0, 10.0]
    assert "Probe not answered in time for 5 s" in states


@pytest.mark.parametrize("code", ["Internal", "Unimplemented", "Unavailable", "FailedPrecondition"])
async def test_any_other_probe_error_is_final(keep: Keep, code: str) -> None:
    with pytest.raises(StartupError, match=f"Probe: rpc error: code = {code}") as caught:
        await shake(keep, FakeDriver(trouble=[f"Probe:{code}=no"]))
    assert isinstance(caught.value.__cause__, CSIError)


async def test_empty_name_is_refused(keep: Keep) -> None:
    with pytest.raises(DriverIdentityError, match="empty name"):
        await shake(keep, FakeDriver(trouble=["GetPluginInfo:empty"]))


async def test_failing_get_plugin_info_is_an_identity_error(keep: Keep) -> None:
    with pytest.raises(DriverIdentityError, match="GetPluginInfo: rpc error: code = Internal desc = why"):
        await shake(keep, FakeDriver(trouble=["GetPluginInfo:Internal=why"]))


@pytest.mark.parametrize("method", ["GetPluginCapabilities", "ControllerGetCapabilities"])
async def test_failing_capability_call_is_named(keep: Keep, method: str) -> None:
    with pytest.raises(StartupError, match=f"directories.csi.demo at .*: {method}: rpc error: code = Unimplemented"):
        await shake(keep, FakeDriver(trouble=[f"{method}:Unimplemented"]))


async def test_kinds_of_a_newer_specification_are_skipped() -> None:
    # field 1 (capability) { field 1 (service / rpc) { field 1 (type) = number } }
    raw = b"".join(b"\x0a\x04\x0a\x02\x08" + bytes([number]) for number in (1, 99, 0))
    assert plugin_capabilities(GetPluginCapabilitiesResponse.parse(raw)) == {"CONTROLLER_SERVICE"}
    assert controller_capabilities(ControllerGetCapabilitiesResponse.parse(raw)) == {"CREATE_DELETE_VOLUME"}
    of_another_kind = b"\x0a\x04\x12\x02\x08\x01\x0a\x00\x0a\x04\x7a\x02\x08\x01"
    assert plugin_capabilities(GetPluginCapabilitiesResponse.parse(of_another_kind)) == frozenset()


async def test_cancel_ends_the_wait(keep: Keep) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3.5):
            await shake(keep, FakeDriver(trouble=["Probe:notready"]))
