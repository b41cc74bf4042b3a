"""A run as a process: two kinds of stop by signals, and how ends become exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from csisidecar.cli import process
from csisidecar.cli.process import host, run_loop
from csisidecar.errors import DriverLostError, DriverUnreachableError, LeaseLostError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Work:
    """Something hosted: runs until told to stop, then drains for a while; remembers what happened."""

    def __init__(self, *, drain_s: float = 0.0, error: BaseException | None = None) -> None:
        self.events: list[str] = []
        self._drain_s = drain_s
        self._error = error
        self._stopping = asyncio.Event()
        self.started = asyncio.Event()

    async def run(self) -> None:
        self.started.set()
        if self._error:
            raise self._error
        try:
            await self._stopping.wait()
            self.events.append("draining")
            await asyncio.sleep(self._drain_s)
            self.events.append("drained")
        except asyncio.CancelledError:
            self.events.append("aborted")
            raise

    def stop(self) -> None:
        self._stopping.set()


async def hosted(work: Work, *signals: signal.Signals, modes: tuple[str, ...] = ("attacher",)) -> tuple[int, list[str]]:
    """The exit code and the reasons told, with `signals` sent to this process once the work runs."""
    told: list[str] = []
    async with asyncio.TaskGroup() as group:
        running = group.create_task(host(lambda: work, modes, told.append))
        if signals:
            await work.started.wait()
        for number in signals:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.02)
    return running.result(), told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_drains(number: signal.Signals) -> None:
    work = Work(drain_s=0.05)
    assert await hosted(work, number) == (0, [])
    assert work.events == ["draining", "drained"]


@pytest.mark.parity("R-STOP-03")
async def test_the_second_signal_aborts() -> None:
    work = Work(drain_s=30)
    assert await hosted(work, signal.SIGTERM, signal.SIGINT) == (1, [])
    assert work.events == ["draining", "aborted"]


async def test_an_abort_that_ends_quietly_is_still_1() -> None:
    class Quiet(Work):
        async def run(self) -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await super().run()

    assert await hosted(Quiet(drain_s=30), signal.SIGTERM, signal.SIGTERM) == (1, [])


async def test_a_signal_during_the_imports_ends_without_a_start() -> None:
    work = Work()

    def make() -> Work:
        os.kill(os.getpid(), signal.SIGTERM)
        return work

    assert await host(make, ("attacher",), lambda _: None) == 0
    assert not work.started.is_set()


async def test_an_end_of_its_own_is_0() -> None:
    work = Work()
    work.stop()
    assert await hosted(work) == (0, [])


async def test_an_error_is_told_and_has_the_modes_code() -> None:
    work = Work(error=DriverUnreachableError("no driver at /csi.sock"))
    assert await hosted(work) == (1, ["no driver at /csi.sock"])


async def test_the_cause_in_a_group_is_told() -> None:
    work = Work(error=BaseExceptionGroup("many", [ExceptionGroup("inner", [LeaseLostError("lease lost")])]))
    assert await hosted(work, modes=("attacher", "provisioner")) == (1, ["lease lost"])


async def test_a_bug_is_told_with_its_type_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    code, told = await hosted(Work(error=ZeroDivisionError("division by zero")))
    assert (code, told) == (2, ["ZeroDivisionError: division by zero"])
    assert caplog.records[-1].exc_info


async def test_an_error_while_building_is_told() -> None:
    told: list[str] = []

    def make() -> Work:
        raise LeaseLostError("not even started")

    assert await host(make, ("attacher",), told.append) == 1
    assert told == ["not even started"]


async def test_signals_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    await hosted(Work(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


async def test_cancelling_from_outside_passes_through() -> None:
    work = Work()
    task = asyncio.create_task(host(lambda: work, ("attacher",), lambda _: None))
    await work.started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.events == ["aborted"]


@pytest.fixture
def termination_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "termination-log"
    monkeypatch.setattr(process, "_TERMINATION_LOG", path)
    return path


async def test_a_lost_driver_leaves_its_message_for_the_pods_status(termination_log: Path) -> None:
    termination_log.touch()
    work = Work(error=DriverLostError("Lost connection to CSI driver, exiting"))
    assert (await hosted(work))[0] == 1
    assert termination_log.read_text() == "Lost connection to CSI driver, exiting"


async def test_no_termination_log_is_made_outside_a_pod(termination_log: Path) -> None:
    await hosted(Work(error=DriverLostError("gone")))
    assert not termination_log.exists()


def in_a_loop(check: Callable[[], int]) -> int:
    """What `check` says inside a loop of `run_loop`; in a thread, so that the loop of the test run stays set."""

    async def main() -> int:
        return check()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run_loop, main()).result(timeout=10)


def test_a_loop_gives_the_result() -> None:
    assert in_a_loop(lambda: 7) == 7


def test_uvloop_is_used_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("uvloop")
    monkeypatch.setenv("CSISIDECAR_UVLOOP", "1")
    assert in_a_loop(lambda: type(asyncio.get_running_loop()).__module__.startswith("uvloop")) == 1
