"""The embedded driver as one object: services, trouble and a ledger of every call, in memory or on a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import re
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import grpclib.server
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from csisidecar.csi import (
    ControllerBase,
    CreateVolumeResponse,
    DriverChannel,
    IdentityBase,
    ListVolumesResponse,
    NodeBase,
    ProbeResponse,
)
from csisidecar.errors import StatusCode
from csisidecar.testing.driver.backend import Backend, MemoryBackend
from csisidecar.testing.driver.controller import ControllerService
from csisidecar.testing.driver.identity import IdentityService
from csisidecar.testing.driver.node import NodeService
from csisidecar.testing.driver.snapshots import SnapshotService
from csisidecar.testing.driver.trouble import Trouble, TroubleList
from csisidecar.testing.driver.world import DriverSettings, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    import betterproto2
    from grpclib.protocol import H2Protocol

    from csisidecar.testing.driver.records import SnapshotRecord, VolumeRecord

    _Method = Callable[[Any], Awaitable[betterproto2.Message]]

_log = logging.getLogger(__name__)

LEDGER_LENGTH = 10_000
"""Calls the ledger keeps; older ones fall out of a driver that runs for long."""


@dataclass(kw_only=True)
class Call:
    """One call the driver got.

    Attributes:
        method: RPC name without the package.
        request: the message as it came.
        code: how it ended; None while it runs. CANCELED if the caller gave up or the connection went.
        started_s: loop time.
        ended_s: loop time; None while it runs.
        trouble: the order it fell under.
    """

    method: str
    request: Any
    started_s: float
    code: StatusCode | None = None
    ended_s: float | None = None
    trouble: Trouble | None = None


class FakeDriver:
    """A working CSI 1.13 driver for tests, for the demo and for driver authors.

    It imitates a well-behaved storage system: identity, controller and node services, idempotent in every call, with
    the statuses the specification asks for. It takes orders for trouble (see `trouble`) and writes down every call.
    It does not imitate mounting: a published volume is a symbolic link, or with the memory backend just a note.

    Args:
        settings: name, capabilities, limits, topology. May be replaced while running, as an upgraded driver would.
        backend: where bytes and records live; MemoryBackend by default, which also works in virtual time.
        trouble: orders in force from the start.

    Attributes:
        ledger: every call, oldest first.
        is_up: whether connections are taken; see `stop`.
    """

    def __init__(
        self,
        settings: DriverSettings | None = None,
        *,
        backend: Backend | None = None,
        trouble: Iterable[str | Trouble] = (),
    ) -> None:
        self._world = World(settings or DriverSettings(), backend or MemoryBackend())
        self.trouble = TroubleList(trouble)
        self.ledger: deque[Call] = deque(maxlen=LEDGER_LENGTH)
        self.is_up = True
        self._transports: WeakSet[asyncio.Transport] = WeakSet()
        identity, node = IdentityService(self._world), NodeService(self._world)
        controller, snapshots = ControllerService(self._world), SnapshotService(self._world)
        self.services = [
            _Service(self, IdentityBase(), [identity]),
            _Service(self, ControllerBase(), [controller, snapshots]),
            _Service(self, NodeBase(), [node]),
        ]
        """The service objects, as grpclib's Server and `DriverChannel.in_memory` take them."""

    # ---- the world, for assertions

    @property
    def settings(self) -> DriverSettings:
        """What the driver claims to be, now."""
        return self._world.settings

    @settings.setter
    def settings(self, settings: DriverSettings) -> None:
        self._world.settings = settings

    @property
    def backend(self) -> Backend:
        """Where bytes and records live."""
        return self._world.backend

    @property
    def volumes(self) -> Mapping[str, VolumeRecord]:
        """Volume id → record."""
        return self._world.volumes

    @property
    def snapshots(self) -> Mapping[str, SnapshotRecord]:
        """Snapshot id → record."""
        return self._world.snapshots

    @property
    def published(self) -> dict[str, frozenset[str]]:
        """Volume id → nodes it is published to; volumes published nowhere are left out."""
        return {record.id: frozenset(record.published) for record in self.volumes.values() if record.published}

    def volume_named(self, name: str) -> VolumeRecord | None:
        """The volume created under that name."""
        return next((record for record in self.volumes.values() if record.name == name), None)

    def calls(self, method: str) -> list[Call]:
        """The ledger's calls of one RPC."""
        return [call for call in self.ledger if call.method == method]

    # ---- orders

    def order(self, *orders: str | Trouble) -> None:
        """Adds orders for trouble."""
        for order in orders:
            self.trouble.add(order)

    async def load(self) -> None:
        """Takes over what the backend kept, as a new process would; `serving` does it by itself."""
        await self._world.load()

    def stop(self) -> None:
        """Goes away as a killed process does: connections end at once, new ones are refused."""
        self.is_up = False
        self.drop_connections()

    def start(self) -> None:
        """Takes connections again after `stop`."""
        self.is_up = True

    def drop_connections(self) -> None:
        """Ends every connection on which a call was made."""
        for transport in list(self._transports):
            transport.abort()

    # ---- ways to reach it

    def channel(self) -> DriverChannel:
        """A new in-memory channel to this driver, not connected yet."""
        return DriverChannel.in_memory(self.services, is_up=lambda: self.is_up, name=f"memory:{self.settings.name}")

    @contextlib.asynccontextmanager
    async def serving(self, path: str | Path) -> AsyncIterator[str]:
        """Serves on a Unix socket for the life of the block; gives the endpoint, ``unix:///path``.

        What the backend kept is loaded first. A socket on which nobody listens any more is replaced. Leaving ends
        every connection and removes the socket.

        Raises:
            OSError: another process serves there, or the socket cannot be made.
        """
        await self.load()
        path = Path(path)
        await _refuse_if_served(path)
        server = _Server(self.services)
        await server.start(path=str(path))
        own = path.stat().st_ino
        try:
            yield f"unix://{path}"
        finally:
            server.close()
            server.close_connections()
            await server.wait_closed()
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == own:
                    path.unlink()

    # ---- one call

    async def answer(self, stream: grpclib.server.Stream[Any, Any], name: str, work: _Method) -> None:
        """Takes the request off `stream`, obeys the order for it, does the work, answers, writes the ledger."""
        transport = stream._stream._transport  # noqa: SLF001 - grpclib has no public way to drop a connection
        self._transports.add(transport)
        request = await stream.recv_message()
        loop = asyncio.get_running_loop()
        call = Call(method=name, request=request, started_s=loop.time(), trouble=self.trouble.take(name))
        self.ledger.append(call)
        try:
            reply = await self._obey(call, work, transport)
            await stream.send_message(reply)
            call.code = StatusCode.OK
        except GRPCError as error:
            call.code = StatusCode(error.status.value)
            raise
        except asyncio.CancelledError:
            call.code = StatusCode.CANCELED
            raise
        except Exception as error:
            call.code = StatusCode.INTERNAL
            _log.exception("The embedded driver failed", extra={"method": name})
            raise GRPCError(Status.INTERNAL, f"{type(error).__name__}: {error}") from error
        finally:
            call.ended_s = loop.time()

    async def _obey(self, call: Call, work: _Method, transport: asyncio.Transport) -> betterproto2.Message:
        order = call.trouble
        if order is None:
            return await work(call.request)
        if order.kind == "delay":
            await asyncio.sleep(order.delay_s)
            return await work(call.request)
        if order.kind == "error" and order.code is not None:
            raise GRPCError(Status(order.code.value), order.message)
        if order.kind == "cut":
            transport.abort()
        if order.kind in {"hang", "cut"}:
            await asyncio.Event().wait()
        if order.kind == "loop" and call.request.starting_token:
            call.request.starting_token = ""
        reply = await work(call.request)
        if order.kind == "lost":
            transport.abort()
        if order.kind == "lost" or (order.kind == "late" and order.code is None):
            await asyncio.Event().wait()
        if order.kind == "late" and order.code is not None:
            raise GRPCError(Status(order.code.value), order.message)
        return _spoil(reply, order.kind, call.request)


async def _refuse_if_served(path: Path) -> None:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return  # absent, stale or forbidden: making the server says what it is
    writer.close()
    await writer.wait_closed()
    raise OSError(errno.EADDRINUSE, "another process serves there", str(path))


def _spoil(reply: betterproto2.Message, kind: str, request: Any) -> betterproto2.Message:
    """The reply with what the order asks to be wrong about it."""
    if kind == "empty":
        return type(reply)()
    if kind == "loop" and isinstance(reply, ListVolumesResponse):
        reply.next_token = "again"  # noqa: S105 - a page token
    elif isinstance(reply, ProbeResponse) and kind in {"notready", "silent"}:
        reply.ready = False if kind == "notready" else None
    elif isinstance(reply, CreateVolumeResponse) and reply.volume is not None:
        if kind == "small":
            reply.volume.capacity_bytes = request.capacity_range.required_bytes - 1 if request.capacity_range else 1
        elif kind == "nosource":
            reply.volume.content_source = None
    return reply


class _Service:
    """One gRPC service: the generated base knows paths and types, `parts` have the methods."""

    def __init__(self, driver: FakeDriver, base: ControllerBase | IdentityBase | NodeBase, parts: list[object]) -> None:
        self._handlers: dict[str, Handler] = {}
        for path, spec in base.__mapping__().items():
            name = path.rpartition("/")[2]
            method = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
            work = next(getattr(part, method) for part in parts if hasattr(part, method))
            answer = functools.partial(driver.answer, name=name, work=work)
            self._handlers[path] = Handler(answer, Cardinality.UNARY_UNARY, spec.request_type, spec.reply_type)

    def __mapping__(self) -> dict[str, Handler]:
        return self._handlers


class _Server(grpclib.server.Server):
    """grpclib's server, which can also end its connections."""

    def __init__(self, services: list[_Service]) -> None:
        super().__init__(services)
        self._protocols: WeakSet[H2Protocol] = WeakSet()

    def _protocol_factory(self) -> H2Protocol:
        protocol = super()._protocol_factory()
        self._protocols.add(protocol)
        return protocol

    def close_connections(self) -> None:
        """Closes every connection that was made."""
        for protocol in list(self._protocols):
            if hasattr(protocol, "processor"):
                protocol.processor.close()
