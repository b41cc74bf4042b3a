"""The connection to the driver: wait for its socket, keep it, notice at once when it ends.

One `DriverChannel` lives as long as the process and may connect many times; each success is a generation. It never
reconnects by itself (`connection` decides when) and a call on a lost channel is refused, not queued.
Only this file, `link` and `client` know grpclib.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import stat
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import grpclib.const
import grpclib.server
from grpclib.metadata import Deadline
from multidict import MultiDict

from csisidecar.backoff import DRIVER_CONNECT
from csisidecar.csi.link import Call, ConnectionLost, Link, Protocol, RawCodec
from csisidecar.csi.memory import join
from csisidecar.errors import ConfigError, DriverUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


_log = logging.getLogger(__name__)

MAX_SOCKET_PATH_BYTES = 107
"""Longest path that fits into a Unix socket address on Linux."""

CONNECT_ATTEMPT_S = 5.0
"""Bound of one attempt; a Unix socket answers at once unless the driver's backlog is full."""

FINISH_S = 1.0
"""Bound of the wait for an in-memory driver's handlers when the channel is closed for good."""

PROGRESS_EVERY_S = 10.0
"""How often a wait for the driver is logged; as upstream."""


class Service(typing.Protocol):
    """A driver's service object as grpclib's server takes it, for example a subclass of `ControllerBase`."""

    def __mapping__(self) -> Mapping[str, grpclib.const.Handler]:
        """Full method path → handler."""
        ...


def socket_path(endpoint: str, *, flag: str = "--csi-address") -> str:
    """The absolute path in ``unix:///path`` or ``/path``; raises ConfigError naming `flag` for anything else.

    Source: csi-lib-utils `connection` accepts only Unix sockets when the loss of a connection matters.
    """
    path = endpoint.removeprefix("unix://")
    if not path.startswith("/"):
        raise ConfigError(f'{flag}: "{endpoint}" is no Unix socket; write /absolute/path or unix:///absolute/path')
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise ConfigError(f'{flag}: "{path}" is longer than the {MAX_SOCKET_PATH_BYTES} bytes a socket path may have')
    return path


def describe_failure(path: str, error: OSError) -> str:
    """What stands in the way of connecting to `path`, in words an operator can act on."""
    if isinstance(error, FileNotFoundError):
        parent = Path(path).parent
        return "the file does not exist" if parent.is_dir() else f"the directory {parent} does not exist"
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, TimeoutError):
        return "no answer, the driver does not accept connections"
    if isinstance(error, ConnectionResetError):
        return "hung up before it said a word of HTTP/2, so it is no gRPC server"
    if isinstance(error, ConnectionRefusedError):
        try:
            is_socket = stat.S_ISSOCK(os.stat(path).st_mode)  # noqa: PTH116 - one system call, no Path needed
        except OSError:
            is_socket = True
        return "connection refused, nobody listens on it" if is_socket else "the file is not a socket"
    return error.strerror or str(error) or type(error).__name__


class DriverChannel:
    """The way to one driver, by Unix socket or in memory.

    Attributes:
        endpoint: what to call it in messages: the socket path, or ``in memory``.
        generation: how many times a connection was made; 0 before the first.
        lost: set when the present connection ends for another reason than `close()`; a new Event for each generation.
        lost_reason: what ended the last lost connection.
        refusal: why calls about volumes must not be made although a connection may be there; empty for go.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = socket_path(endpoint)
        self._connector: _SocketConnector | _MemoryConnector = _SocketConnector(self.endpoint)
        self._reset()

    @classmethod
    def in_memory(
        cls, services: Sequence[Service], *, is_up: Callable[[], bool] = lambda: True, name: str = "in memory"
    ) -> DriverChannel:
        """A channel to `services` in this very process: no socket, no real time, the same bytes on the wire.

        `is_up` false makes connecting fail like a socket on which nobody listens.
        """
        channel = cls.__new__(cls)
        channel.endpoint = name
        channel._connector = _MemoryConnector(services, is_up)  # noqa: SLF001 - our own instance
        channel._reset()  # noqa: SLF001 - our own instance
        return channel

    def _reset(self) -> None:
        self.generation = 0
        self.lost = asyncio.Event()
        self.lost_reason = ""
        self.refusal = ""
        self._link: Link | None = None

    @property
    def is_connected(self) -> bool:
        """Whether a call may start now."""
        return self._link is not None and self._link.is_open

    async def connect(self, timeout_s: float | None = 30.0, *, on_failure: Callable[[str], None] | None = None) -> None:
        """Waits until the driver accepts a connection; returns at once if there is one.

        Args:
            timeout_s: None waits for ever. The default is upstream's.
            on_failure: called after each failed attempt with what was seen.

        Raises:
            DriverUnreachableError: no connection in time; the message says what was seen last. Nothing is left open.
        """
        loop = asyncio.get_running_loop()
        start, failures, next_log_s = loop.time(), 0, PROGRESS_EVERY_S
        while not self.is_connected:
            try:
                await self._open()
            except OSError as error:
                failures += 1
                seen = describe_failure(self.endpoint, error)
            else:
                return
            if on_failure is not None:
                on_failure(seen)
            waited_s, delay_s = loop.time() - start, DRIVER_CONNECT.delay_s(failures)
            if timeout_s is not None:
                if waited_s >= timeout_s:
                    raise DriverUnreachableError(
                        f"no connection to the CSI driver at {self.endpoint} within {timeout_s:g} s: {seen} "
                        "(does the driver run, and is this the socket --csi-address should name?)"
                    )
                delay_s = min(delay_s, timeout_s - waited_s)
            if waited_s >= next_log_s:
                next_log_s += PROGRESS_EVERY_S
                _log.info(
                    "Still connecting to the CSI driver",
                    extra={"endpoint": self.endpoint, "seen": seen, "waited_s": round(waited_s, 1)},
                )
            await asyncio.sleep(delay_s)

    async def reconnect(self, timeout_s: float | None = None) -> None:
        """Drops what is left of the old connection and waits, for ever by default, for a new one."""
        self.close()
        await self.connect(timeout_s)

    def close(self) -> None:
        """Ends the connection; calls in flight end Unavailable. Nothing is reported as lost. May be called twice."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    async def aclose(self) -> None:
        """Closes, and gives handlers of an in-memory driver a moment to end, so that no task of ours is left."""
        self.close()
        await self._connector.finish()

    async def _open(self) -> None:
        self.close()
        link = Link(self._lost)
        link.adopt(await self._connector(link))
        self._link = link
        self.generation += 1
        self.lost = asyncio.Event()

    def _lost(self, link: Link, reason: str) -> None:
        if link is self._link:
            self._link = None
            self.lost_reason = reason
            self.lost.set()
            _log.warning("Lost connection to the CSI driver", extra={"endpoint": self.endpoint, "reason": reason})
        # grpclib's channel warns about a protocol it still holds when it is collected.
        link.close()

    async def unary(self, path: str, request: bytes, timeout_s: float) -> bytes | None:
        """The reply to one call, undecoded; None if the driver answered OK without a message.

        Raises whatever grpclib, the socket and the timer raise; `CSIClient` turns all of it into CSIError.
        """
        link = self._link
        if link is None or not link.is_open:
            raise ConnectionLost(f"not connected to {self.endpoint}")
        call = Call(
            link,
            path,
            cast("Any", MultiDict[Any]()),
            grpclib.const.Cardinality.UNARY_UNARY,
            bytes,
            bytes,
            codec=RawCodec(),
            status_details_codec=None,
            dispatch=link.__dispatch__,
            deadline=_ToldDeadline(timeout_s),
        )
        async with asyncio.timeout(timeout_s), call as stream:
            link.calls.add(stream.wrapper)
            try:
                await stream.send_message(request, end=True)
                return await stream.recv_message()
            finally:
                link.calls.discard(stream.wrapper)


class _ToldDeadline(Deadline):
    """What the header says: a little more than the caller's timeout, never less.

    grpclib cuts it to whole seconds above 10 s and to milliseconds below, so a driver would be told of a deadline up to
    a second before ours and answer before we give up. Ours is the one that counts: when it passes, the driver's
    side of the call is cancelled.
    """

    def __init__(self, timeout_s: float) -> None:
        super().__init__(_timestamp=0.0)
        self._told_s = timeout_s + 0.1 if timeout_s < 9.9 else math.floor(timeout_s) + 1

    def time_remaining(self) -> float:
        return self._told_s


class _SocketConnector:
    def __init__(self, path: str) -> None:
        self._path = path

    async def __call__(self, link: Link) -> Protocol:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_ATTEMPT_S):
            _, protocol = await loop.create_unix_connection(link.new_protocol, self._path)
            await protocol.wait_until_spoken()
        return protocol

    async def finish(self) -> None:
        """Lets the loop run once: that is when a closed transport lets go of its socket."""
        await asyncio.sleep(0)


class _MemoryConnector:
    """Joins a client and a server protocol back to back; the seam is grpclib's own `testing.ChannelFor`."""

    def __init__(self, services: Sequence[Service], is_up: Callable[[], bool]) -> None:
        self._services = services
        self._is_up = is_up
        self._handlers: list[grpclib.server.Handler] = []

    async def __call__(self, link: Link) -> Protocol:
        if not self._is_up():
            raise ConnectionRefusedError
        server = grpclib.server.Server(list(self._services))
        near, far = link.new_protocol(), server._protocol_factory()  # noqa: SLF001 - as ChannelFor does
        join(near, far)
        self._handlers = [handler for handler in self._handlers if not handler.check_closed()]
        self._handlers.append(cast("grpclib.server.Handler", far.handler))
        await near.wait_until_spoken()
        return near

    async def finish(self) -> None:
        """Ends what the driver's handlers still do; one that ignores its cancel is left after a second."""
        for handler in self._handlers:
            handler.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_S):
                for handler in self._handlers:
                    await handler.wait_closed()
        self._handlers.clear()
