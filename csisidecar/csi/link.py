"""One connection: grpclib's channel, protocol and call, bent to tell at once when the connection ends.

grpclib has no public sign of a lost connection, reconnects lazily and wakes its callers with a bare cancel. The
subclasses here change these three things and override private names to do so: the reason for the pin below 0.5.
`channel` is the only caller.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

import grpclib.client
import grpclib.exceptions
import grpclib.protocol
from grpclib.encoding.base import CodecBase
from grpclib.utils import Wrapper
from h2.events import RemoteSettingsChanged

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class ConnectionLost(grpclib.exceptions.StreamTerminatedError):
    """A call ended, or could not start, because there is no connection."""


class RawCodec(CodecBase):
    """Messages are bytes on both ends: `client` encodes and decodes, so it alone meets those failures."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:  # noqa: ARG002, D102 - grpclib's
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> bytes:  # noqa: ARG002, D102 - grpclib's
        return data


class CallWrapper(Wrapper):
    """Wakes a call when the connection ends, and leaves the task's cancel count as it found it.

    grpclib wakes the waiting task with `Task.cancel()` and then swaps the CancelledError for its own error. Without
    the matching `uncancel` an `asyncio.timeout` further out would take its own expiry for someone else's cancel;
    and a real cancel that arrives in the same step must stay a cancel.
    """

    def __init__(self) -> None:
        super().__init__()
        self._cancels_before = 0
        self._woken: set[asyncio.Task[Any]] = set()

    def __enter__(self) -> None:
        task = asyncio.current_task()
        self._cancels_before = task.cancelling() if task is not None else 0
        super().__enter__()

    def cancel(self, error: Exception) -> None:  # noqa: D102 - grpclib's
        if self._error is None:
            self._woken = set(self._tasks)
            super().cancel(error)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        task = asyncio.current_task()
        if task is not None and task in self._woken:
            self._woken.discard(task)
            if task.uncancel() > self._cancels_before and exc_type is asyncio.CancelledError:
                self._tasks.discard(task)
                return
        super().__exit__(exc_type, exc_val, exc_tb)


class Call(grpclib.client.Stream[bytes, bytes]):
    """One RPC; the deadline travels in the header, the caller's `asyncio.timeout` enforces it here."""

    wrapper: CallWrapper

    async def __aenter__(self) -> Self:
        self._wrapper = self.wrapper = CallWrapper()
        return self

    def _raise_for_content_type(self, headers_map: dict[str, str]) -> None:
        # grpclib's own server leaves the header out when it says that a method does not exist; the status counts.
        if "content-type" in headers_map or "grpc-status" not in headers_map:
            super()._raise_for_content_type(headers_map)


class _Handler(grpclib.client.Handler):
    """Told by grpclib's processor when the connection ends in whatever way: end of file, GOAWAY, protocol error."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def close(self) -> None:
        super().close()
        self._link.on_end()


class Protocol(grpclib.protocol.H2Protocol):
    """grpclib's protocol; keeps the transport and the reason why it ended."""

    transport: asyncio.BaseTransport | None = None
    end_reason = "ended by the driver (GOAWAY) or not gRPC"

    def __init__(self, link: Link, *arguments: Any) -> None:
        super().__init__(_Handler(link), *arguments)
        self.spoke = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102 - asyncio's
        self.transport = transport
        super().connection_made(transport)
        self.processor.processors[RemoteSettingsChanged] = self._on_settings

    def _on_settings(self, event: RemoteSettingsChanged) -> None:
        self.processor.process_remote_settings_changed(event)
        self.spoke.set()

    async def wait_until_spoken(self) -> None:
        """Returns once the peer sent its HTTP/2 settings, which Go's client takes for "connected" too.

        Raises ConnectionResetError if it hung up or sent something else; the transport is then closed.
        """
        try:
            await self.spoke.wait()
        except asyncio.CancelledError:
            self.processor.close()
            raise
        if self.connection.is_closing():
            raise ConnectionResetError

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: D102 - asyncio's
        self.end_reason = str(exc) if exc else "closed by the driver"
        super().connection_lost(exc)
        self.spoke.set()


class Link(grpclib.client.Channel):
    """One connection, from its start to its end; grpclib's own lazy reconnect is switched off.

    Overrides the private `_protocol_factory`, sets the private `_authority` to what Go clients send, and takes the
    protocol from outside: the reason for the pin below 0.5.
    """

    def __init__(self, on_lost: Callable[[Link, str], None]) -> None:
        super().__init__(codec=RawCodec())
        self._authority = "localhost"  # what Go's client sends
        self._on_lost = on_lost
        self.is_open = False
        self.calls: set[CallWrapper] = set()

    def new_protocol(self) -> Protocol:
        """A protocol for one transport; once connected it goes to `adopt`."""
        return self._protocol_factory()

    def _protocol_factory(self) -> Protocol:
        return Protocol(self, self._config, self._h2_config)

    def adopt(self, protocol: Protocol) -> None:
        """Makes `protocol`, already connected, the one all calls use."""
        self._protocol = protocol
        self.is_open = not protocol.connection.is_closing()

    async def __connect__(self) -> grpclib.protocol.H2Protocol:
        if not self.is_open or self._protocol is None:
            raise ConnectionLost("not connected")
        return self._protocol

    def on_end(self) -> None:
        """The connection ended: every call in flight ends now, also one that still waits for its turn to send."""
        was_open, self.is_open = self.is_open, False
        for call in list(self.calls):
            call.cancel(ConnectionLost("error reading from server: EOF"))
        if was_open and isinstance(self._protocol, Protocol):
            if isinstance(self._protocol.transport, asyncio.Transport):
                self._protocol.transport.abort()  # a peer that no longer reads must not keep it half open
            self._on_lost(self, self._protocol.end_reason)

    def close(self) -> None:
        """Ends the connection on our own wish: nobody is told it was lost."""
        self.is_open = False
        for call in list(self.calls):
            call.cancel(ConnectionLost("the client connection is closing"))
        super().close()
