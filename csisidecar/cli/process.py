"""One run of a Sidecar as a process: loop, signals, and the exit code of however it ends."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from csisidecar.cli.exits import FAILED, OK, code_for, one_line, root_cause
from csisidecar.errors import CsiSidecarError, DriverLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

logger = logging.getLogger(__name__)

_ABORT_LIMIT_S = 5.0
_TURNS_OF_A_SIGNAL = 3
"""Turns of the loop from a signal's byte in its pipe to the call of the handler: wake up, read, call."""
_TERMINATION_LOG = Path("/dev/termination-log")
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Hosted(Protocol):
    """What is run: a Sidecar, or anything that stops the same two ways."""

    async def run(self) -> None:
        """Work until stopped; raises why it ended otherwise. Cancelling it aborts what is in flight."""
        ...

    def stop(self) -> None:
        """Drain: no new work, let what is in flight end, then return from `run`."""
        ...


def run_loop(main: Coroutine[Any, Any, int]) -> int:
    """The result of `main` on a fresh event loop; uvloop's if it is installed and CSISIDECAR_UVLOOP=1."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if os.environ.get("CSISIDECAR_UVLOOP") == "1":
        try:
            import uvloop  # an extra; slower on watch streams, faster on calls
        except ImportError:
            logger.warning("CSISIDECAR_UVLOOP=1 has no effect: uvloop is not installed")
        else:
            factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


async def host(
    make: Callable[[], Hosted], modes: Sequence[str], report: Callable[[str], None], *, ends_process: bool = False
) -> int:
    """Run what `make` returns until it ends or a signal ends it; the exit code.

    The first SIGTERM or SIGINT drains, the second aborts. Signals are taken before `make` is called, because
    importing the plugins takes most of a second: a stop in that time ends the process without a start.

    Args:
        make: builds what is run; may raise as a run may.
        modes: what runs, for the exit code.
        report: told the reason of a bad end, on one line.
        ends_process: whether nothing but the end of the process follows; then another stop signal ends it at once.
    """
    loop = asyncio.get_running_loop()
    signals = _Signals(asyncio.current_task())
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, signals.received, number)
    try:
        hosted = make()
        for _ in range(_TURNS_OF_A_SIGNAL):  # one that came during the imports is counted here
            await asyncio.sleep(0)
        if signals.count:
            return OK
        signals.hosted = hosted
        await hosted.run()
    except (asyncio.CancelledError, Exception) as error:
        if signals.count > 1:  # whatever an aborted run ends with
            return FAILED
        cause = root_cause(error)
        if isinstance(cause, DriverLostError):
            _tell_kubelet(str(cause))
        if not isinstance(cause, Exception):
            raise
        if not isinstance(cause, CsiSidecarError):
            logger.critical("Ended by an unexpected error", exc_info=cause)
        report(one_line(cause))
        return code_for(cause, modes)
    finally:
        signals.close()
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)
            if ends_process and signals.count:
                signal.signal(number, lambda *_: os._exit(FAILED))
                # The interpreter takes a tenth of a second to end, without handlers: the code stands by then.
                atexit.register(signal.signal, number, signal.SIG_IGN)
    return FAILED if signals.count > 1 else OK


def _tell_kubelet(reason: str) -> None:
    """Leave the reason where a pod's status shows it; outside a pod there is no such file and none is made."""
    try:
        with _TERMINATION_LOG.open("r+", encoding="utf-8") as file:
            file.write(reason)
    except OSError as error:
        logger.debug("No termination message was left", extra={"reason": str(error)})


class _Signals:
    """Counts stop signals and passes them on."""

    def __init__(self, task: asyncio.Task[Any] | None) -> None:
        self._task = task
        self.count = 0
        self.hosted: Hosted | None = None
        self._limit: asyncio.TimerHandle | None = None

    def received(self, number: int) -> None:
        """First: drain; second: abort, with a limit; third: leave at once."""
        self.count += 1
        name = signal.Signals(number).name
        if self.count == 1:
            logger.info("Stopping: work in flight may end", extra={"signal": name})
            if self.hosted:
                self.hosted.stop()
        elif self.count == 2:
            logger.warning("Aborting: work in flight is cancelled", extra={"signal": name})
            self._limit = asyncio.get_running_loop().call_later(_ABORT_LIMIT_S, os._exit, FAILED)
            if self._task:
                self._task.cancel()
        else:
            os._exit(FAILED)

    def close(self) -> None:
        """Stop waiting for an abort to end."""
        if self._limit:
            self._limit.cancel()
