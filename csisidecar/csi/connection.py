"""Keeps the driver for the life of a block: connects, shakes hands, notices the loss, does it again.

The block's owner waits for `ready()`, shows `state` and `reason` on /readyz, and hears `DriverLost` and `DriverBack`.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from csisidecar.backoff import DRIVER_CONNECT
from csisidecar.csi.driver import DriverInfo, handshake
from csisidecar.errors import CSIError, DriverReplacedError, StartupError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from csisidecar.clock import Clock
    from csisidecar.csi.channel import DriverChannel
    from csisidecar.csi.client import CSIClient

_log = logging.getLogger(__name__)

STEADY_S = 5.0
"""A connection that ends sooner after being ready counts as a failed one for the back-off."""


class DriverState(StrEnum):
    """Where the connection stands."""

    WAITING = "waiting"
    """for the socket, before the first connection"""
    PROBING = "probing"
    """connected, asking whether it is ready and who it is"""
    READY = "ready"
    """calls may be made"""
    LOST = "lost"
    """it was ready before and is gone; calls are refused"""


@dataclass(frozen=True, kw_only=True)
class DriverLost:
    """The connection ended after the driver was ready; calls in flight have ended Unavailable."""

    info: DriverInfo
    reason: str


@dataclass(frozen=True, kw_only=True)
class DriverBack:
    """The same driver is ready again.

    Attributes:
        info: what it is now.
        changed: whether its capabilities differ from before, so that plans made from them no longer hold.
        generation: the channel's, greater than before.
    """

    info: DriverInfo
    changed: bool
    generation: int


class DriverConnection:
    """`async with DriverConnection(...) as connection:` - the supervisor of one `DriverChannel`.

    Guarantees: between a loss and the next successful handshake no call about volumes reaches whoever listens on the
    socket. A driver that comes back under another name ends the block with DriverReplacedError; before the first
    success, DriverUnreachableError and the handshake's errors end it too. After the first success only another
    name does: everything else is tried again, with the delays of `backoff.DRIVER_CONNECT`, for ever.

    Leaving the block closes the channel. Errors of the block's own body pass through unchanged.

    Args:
        channel: not connected yet, or connected.
        client: the one whose calls are refused while the driver is away; it speaks through `channel`.
        clock: for ages in `reason`.
        timeout_s: deadline of each call of the handshake.
        connect_timeout_s: how long the first connection may take.
        with_node: whether the handshake asks the node service about its node, too.
    """

    def __init__(
        self,
        channel: DriverChannel,
        client: CSIClient,
        clock: Clock,
        *,
        timeout_s: float,
        connect_timeout_s: float = 30.0,
        with_node: bool = False,
    ) -> None:
        self.state = DriverState.WAITING
        self.info: DriverInfo | None = None
        self._channel = channel
        self._client = client
        self._clock = clock
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._with_node = with_node
        self._detail = "not tried yet"
        self._since = 0.0
        self._is_ready = asyncio.Event()
        self._listeners: list[Callable[[DriverLost | DriverBack], None]] = []

    @property
    def reason(self) -> str:
        """Why the driver cannot be used now, naming it and its socket; empty when it can."""
        if self.state is DriverState.READY:
            return ""
        who = f"driver {self.info.name}" if self.info else "driver"
        for_s = self._clock.monotonic() - self._since
        return f"{who} at {self._channel.endpoint}: {self.state} for {for_s:.0f} s: {self._detail}"

    @property
    def generation(self) -> int:
        """The channel's count of connections."""
        return self._channel.generation

    async def ready(self) -> DriverInfo:
        """Waits until the driver is ready, now or again.

        Raises nothing of its own: if the driver can never become ready the block itself is cancelled and ends with
        the error.
        """
        while self.info is None or self.state is not DriverState.READY:
            await self._is_ready.wait()
        return self.info

    def subscribe(self, listener: Callable[[DriverLost | DriverBack], None]) -> Callable[[], None]:
        """Calls `listener` at each loss and return, in the loop, in order of subscription; returns the way to end it.

        A listener must not block and must not raise.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def __aenter__(self) -> Self:
        self._since = self._clock.monotonic()
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self._supervisor = self._group.create_task(self._supervise(), name="csi driver connection")
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._supervisor.cancel()
        own_error = exc is not None and not isinstance(exc, asyncio.CancelledError)
        try:
            # The group is told of a cancel (it may be its own, to be undone), not of the body's errors: those pass.
            await (self._group.__aexit__(None, None, None) if own_error else self._group.__aexit__(exc_type, exc, None))
        except BaseExceptionGroup as group:
            if not own_error:
                raise group.exceptions[0] from group.exceptions[0].__cause__
        finally:
            await self._channel.aclose()

    async def _supervise(self) -> None:
        await self._channel.connect(self._connect_timeout_s, on_failure=self._tell)
        self._enter(DriverState.PROBING, "connected")
        info = await self._shake_hands()
        failures = 0
        while True:
            lost, previous = self._channel.lost, self.info
            ready_since = self._be_ready(info, previous)
            await lost.wait()
            self._be_lost(info)
            steady = self._clock.monotonic() - ready_since >= STEADY_S
            failures = 0 if steady else failures + 1
            info = await self._come_back(info, failures)

    async def _shake_hands(self) -> DriverInfo:
        return await handshake(
            self._client,
            timeout_s=self._timeout_s,
            clock=self._clock,
            on_state=self._tell,
            with_node=self._with_node,
        )

    async def _come_back(self, before: DriverInfo, failures: int) -> DriverInfo:
        """Reconnects and shakes hands until the driver named as before answers."""
        while True:
            await asyncio.sleep(DRIVER_CONNECT.delay_s(failures))
            await self._channel.connect(None, on_failure=self._tell)
            try:
                info = await self._shake_hands()
            except StartupError as error:
                if not isinstance(error.__cause__, CSIError):
                    raise
                failures += 1
                self._tell(str(error))
                self._channel.close()
                _log.warning("The CSI driver came back but is not usable yet", extra={"reason": str(error)})
                continue
            if info.name != before.name:
                raise DriverReplacedError(
                    f"the CSI driver at {self._channel.endpoint} came back as {info.name!r}; it was {before.name!r}"
                )
            return info

    def _be_ready(self, info: DriverInfo, previous: DriverInfo | None) -> float:
        self.info = info
        self._client.refusal = ""
        self._enter(DriverState.READY, "")
        self._is_ready.set()
        fields = {"driver": info.name, "version": info.vendor_version, "generation": self.generation}
        _log.info("The CSI driver is ready", extra=fields)
        if previous is not None:
            changed = not info.has_same_capabilities(previous)
            self._announce(DriverBack(info=info, changed=changed, generation=self.generation))
        return self._clock.monotonic()

    def _be_lost(self, info: DriverInfo) -> None:
        self._client.refusal = f"the connection to driver {info.name} at {self._channel.endpoint} is lost"
        self._enter(DriverState.LOST, self._channel.lost_reason)
        self._is_ready.clear()
        self._announce(DriverLost(info=info, reason=self._channel.lost_reason))

    def _announce(self, change: DriverLost | DriverBack) -> None:
        for listener in list(self._listeners):
            listener(change)

    def _enter(self, state: DriverState, detail: str) -> None:
        self.state, self._detail, self._since = state, detail, self._clock.monotonic()

    def _tell(self, detail: str) -> None:
        self._detail = detail
