from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from csisidecar.csi import CapacityRange, CreateVolumeRequest, VolumeContentSource, VolumeContentSourceVolumeSource
from csisidecar.errors import ConfigError, CSIError, StatusCode
from csisidecar.testing.driver import Trouble
from csisidecar.testing.driver.trouble import TroubleList, parse
from tests.testing.driver.asking import capability

if TYPE_CHECKING:
    from tests.testing.driver.asking import Asker

Code = StatusCode


@pytest.mark.parametrize(
    ("text", "order"),
    [
        (
            "CreateVolume:Internal",
            Trouble(method="CreateVolume", kind="error", code=Code.INTERNAL, message="ordered trouble"),
        ),
        (
            "CreateVolume:RESOURCE_EXHAUSTED=disk max2 x3",
            Trouble(method="CreateVolume", kind="error", code=Code.RESOURCE_EXHAUSTED, message="disk max2", times=3),
        ),
        ("*:Unavailable=max2", Trouble(method="*", kind="error", code=Code.UNAVAILABLE, message="max2")),
        ("Probe:notreadyx5", Trouble(method="Probe", kind="notready", times=5)),
        ("Probe:delay=1.5 x2", Trouble(method="Probe", kind="delay", delay_s=1.5, times=2)),
        ("Probe:delay=3x2", Trouble(method="Probe", kind="delay", delay_s=3.0, times=2)),
        ("DeleteVolume:late", Trouble(method="DeleteVolume", kind="late")),
        (
            "DeleteVolume:late=Aborted=why",
            Trouble(method="DeleteVolume", kind="late", code=Code.ABORTED, message="why"),
        ),
    ],
)
def test_order_is_read(text: str, order: Trouble) -> None:
    assert parse(text) == order


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("CreateVolume", "write METHOD:KIND"),
        ("CreateVolum:Internal", "no RPC of CSI"),
        ("CreateVolume:Broken", "neither a gRPC status nor one of"),
        ("CreateVolume:error", "neither a gRPC status nor one of"),
        ("CreateVolume:OK", "neither"),
        ("CreateVolume:delay", "delay needs seconds"),
        ("CreateVolume:delay=-1", "delay needs seconds"),
        ("CreateVolume:delay=inf", "delay needs seconds"),
        ("CreateVolume:late=Broken", "Broken is no gRPC status"),
    ],
)
def test_order_that_cannot_be_understood_is_quoted(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        parse(text)
    assert text in str(caught.value)


def test_first_order_that_fits_is_used_up_before_the_next() -> None:
    orders = TroubleList(["Probe:Internal x1", "*:Aborted x1", "Probe:Unknown"])
    taken = [orders.take(method) for method in ("Probe", "CreateVolume", "CreateVolume", "Probe", "Probe")]
    assert [item.code if item else None for item in taken] == [
        Code.INTERNAL,
        Code.ABORTED,
        None,
        Code.UNKNOWN,
        Code.UNKNOWN,
    ]


async def _fails(ask: Asker, order: str, code: Code, *, works: bool) -> None:
    ask.driver.order(order)
    start = asyncio.get_running_loop().time()
    assert await ask.code(CreateVolumeRequest(name="a", volume_capabilities=[capability()])) is code
    assert bool(ask.driver.volumes) is works
    if code is Code.DEADLINE_EXCEEDED:
        assert asyncio.get_running_loop().time() - start == pytest.approx(30, abs=0.01)


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("order", "code", "works"),
    [
        ("CreateVolume:Internal", Code.INTERNAL, False),
        ("CreateVolume:hang", Code.DEADLINE_EXCEEDED, False),
        ("CreateVolume:delay=31", Code.DEADLINE_EXCEEDED, False),
        ("CreateVolume:late", Code.DEADLINE_EXCEEDED, True),
        ("CreateVolume:late=Internal", Code.INTERNAL, True),
        ("CreateVolume:lost", Code.UNAVAILABLE, True),
        ("CreateVolume:cut", Code.UNAVAILABLE, False),
    ],
)
async def test_trouble_does_what_its_table_says(ask: Asker, order: str, code: Code, works: bool) -> None:
    await _fails(ask, order, code, works=works)


@pytest.mark.looptime
async def test_delay_only_delays(ask: Asker) -> None:
    ask.driver.order("CreateVolume:delay=3 x1")
    start = asyncio.get_running_loop().time()
    await ask.volume()
    assert asyncio.get_running_loop().time() - start == pytest.approx(3, abs=0.01)


@pytest.mark.looptime
async def test_answers_can_be_spoiled(ask: Asker) -> None:
    source = await ask.volume("source")
    ask.driver.order("CreateVolume:empty x1", "CreateVolume:small x1", "CreateVolume:nosource x1")
    request = CreateVolumeRequest(
        name="a",
        volume_capabilities=[capability()],
        capacity_range=CapacityRange(required_bytes=2**30),
        volume_content_source=VolumeContentSource(volume=VolumeContentSourceVolumeSource(volume_id=source)),
    )
    assert (await ask(request)).volume is None
    assert (await ask(request)).volume.capacity_bytes == 2**30 - 1
    assert (await ask(request)).volume.content_source is None
    assert (await ask(request)).volume.content_source.volume.volume_id == source


@pytest.mark.looptime
async def test_ledger_tells_each_call_with_outcome_and_times(ask: Asker) -> None:
    ask.driver.order("CreateVolume:Internal x1", "CreateVolume:delay=2 x1")
    with pytest.raises(CSIError):
        await ask.volume()
    await ask.volume()
    first, second = ask.driver.calls("CreateVolume")
    assert (first.code, second.code, first.request.name) == (Code.INTERNAL, Code.OK, "a")
    assert second.ended_s is not None
    assert second.ended_s - second.started_s == pytest.approx(2, abs=0.01)
    assert second.trouble is not None
    assert second.trouble.kind == "delay"


@pytest.mark.looptime
async def test_cleared_orders_trouble_no_more(ask: Asker) -> None:
    ask.driver.order("CreateVolume:Internal")
    ask.driver.trouble.clear()
    await ask.volume()
