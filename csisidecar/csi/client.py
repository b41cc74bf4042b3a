"""One method per RPC that the sidecar calls; every way a call can fail leaves here as one `CSIError`.

Deadline, error translation, measurement and logging happen around the call, once. Nothing is retried: the caller's
work queue owns that.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol, TypeVar

import betterproto2
import grpclib.exceptions

from csisidecar.csi._generated.csi.v1 import (
    ControllerExpandVolumeRequest,
    ControllerExpandVolumeResponse,
    ControllerGetCapabilitiesRequest,
    ControllerGetCapabilitiesResponse,
    ControllerGetVolumeRequest,
    ControllerGetVolumeResponse,
    ControllerModifyVolumeRequest,
    ControllerModifyVolumeResponse,
    ControllerPublishVolumeRequest,
    ControllerPublishVolumeResponse,
    ControllerUnpublishVolumeRequest,
    ControllerUnpublishVolumeResponse,
    CreateSnapshotRequest,
    CreateSnapshotResponse,
    CreateVolumeRequest,
    CreateVolumeResponse,
    DeleteSnapshotRequest,
    DeleteSnapshotResponse,
    DeleteVolumeRequest,
    DeleteVolumeResponse,
    GetCapacityRequest,
    GetCapacityResponse,
    GetPluginCapabilitiesRequest,
    GetPluginCapabilitiesResponse,
    GetPluginInfoRequest,
    GetPluginInfoResponse,
    ListSnapshotsRequest,
    ListSnapshotsResponse,
    ListVolumesRequest,
    ListVolumesResponse,
    NodeGetInfoRequest,
    NodeGetInfoResponse,
    ProbeRequest,
    ProbeResponse,
    ValidateVolumeCapabilitiesRequest,
    ValidateVolumeCapabilitiesResponse,
)
from csisidecar.csi.redact import cut, redact
from csisidecar.csi.wire import PublishedPage, ensure_whole, read_page
from csisidecar.errors import CSIError, StatusCode

if TYPE_CHECKING:
    from csisidecar.csi.channel import DriverChannel

_calls = logging.getLogger("csisidecar.csi.calls")

_Reply = TypeVar("_Reply", bound=betterproto2.Message)

MAX_PAGES = 1_000_000
"""Bound on the pages of one ListVolumes pass; a driver that never ends its list is stopped by the deadline first."""


class CallObserver(Protocol):
    """What is told of each call that ended; `telemetry` fits by shape."""

    def call_done(self, method: str, code: StatusCode, seconds: float, migrated: str | None = None) -> None:
        """`method` is the full path, ``/csi.v1.Controller/CreateVolume``; CANCELED when the caller gave up."""
        ...


class CSIClient:
    """The driver's RPCs as coroutines.

    Every method raises CSIError and nothing else (a cancel passes through): the driver's own status, or
    DEADLINE_EXCEEDED for `timeout_s`, UNAVAILABLE for a lost or absent connection, INTERNAL for what cannot be
    encoded or decoded. After DEADLINE_EXCEEDED and UNAVAILABLE the driver may or may not have done the work.

    Args:
        channel: where the driver is.
        observer: told of each call; None for nobody.
        log_limit: longest response in the call log, bytes; 0 or less means whole.
        guard: asked before each call; what it raises is raised instead of calling.
    """

    def __init__(
        self,
        channel: DriverChannel,
        *,
        observer: CallObserver | None = None,
        log_limit: int = -1,
        guard: Callable[[], None] | None = None,
    ) -> None:
        self.channel = channel
        self._observer = observer
        self._log_limit = log_limit
        self._guard = guard

    def derive(self, *, guard: Callable[[], None]) -> CSIClient:
        """A client of the same channel whose every call first asks `guard`, which raises when it must not start."""
        return CSIClient(self.channel, observer=self._observer, log_limit=self._log_limit, guard=guard)

    @property
    def refusal(self) -> str:
        """Why calls about volumes are refused now, Unavailable; empty for go. Identity calls always go out.

        Shared by all clients of one channel.
        """
        return self.channel.refusal

    @refusal.setter
    def refusal(self, reason: str) -> None:
        self.channel.refusal = reason

    # ---- Identity

    async def probe(self, *, timeout_s: float) -> bool:
        """Whether the driver is ready; an absent answer field means yes."""
        reply = await self._call("Identity/Probe", ProbeRequest(), ProbeResponse, timeout_s)
        return reply.ready is not False

    async def get_plugin_info(self, *, timeout_s: float) -> GetPluginInfoResponse:
        """The driver's name and version."""
        return await self._call("Identity/GetPluginInfo", GetPluginInfoRequest(), GetPluginInfoResponse, timeout_s)

    async def get_plugin_capabilities(self, *, timeout_s: float) -> GetPluginCapabilitiesResponse:
        """Which services and constraints the driver declares."""
        request = GetPluginCapabilitiesRequest()
        return await self._call("Identity/GetPluginCapabilities", request, GetPluginCapabilitiesResponse, timeout_s)

    # ---- Controller

    async def controller_get_capabilities(self, *, timeout_s: float) -> ControllerGetCapabilitiesResponse:
        """Which controller RPCs the driver implements."""
        request = ControllerGetCapabilitiesRequest()
        return await self._call(
            "Controller/ControllerGetCapabilities", request, ControllerGetCapabilitiesResponse, timeout_s
        )

    async def create_volume(
        self, request: CreateVolumeRequest, *, timeout_s: float, migrated: str | None = None
    ) -> CreateVolumeResponse:
        """Creates the volume of that name, or answers with the one there is."""
        return await self._call("Controller/CreateVolume", request, CreateVolumeResponse, timeout_s, migrated)

    async def delete_volume(
        self, request: DeleteVolumeRequest, *, timeout_s: float, migrated: str | None = None
    ) -> DeleteVolumeResponse:
        """Deletes the volume; an absent one is success."""
        return await self._call("Controller/DeleteVolume", request, DeleteVolumeResponse, timeout_s, migrated)

    async def controller_publish_volume(
        self, request: ControllerPublishVolumeRequest, *, timeout_s: float, migrated: str | None = None
    ) -> ControllerPublishVolumeResponse:
        """Makes the volume available to the node."""
        return await self._call(
            "Controller/ControllerPublishVolume", request, ControllerPublishVolumeResponse, timeout_s, migrated
        )

    async def controller_unpublish_volume(
        self, request: ControllerUnpublishVolumeRequest, *, timeout_s: float, migrated: str | None = None
    ) -> ControllerUnpublishVolumeResponse:
        """Takes the volume from the node."""
        return await self._call(
            "Controller/ControllerUnpublishVolume", request, ControllerUnpublishVolumeResponse, timeout_s, migrated
        )

    async def controller_expand_volume(
        self, request: ControllerExpandVolumeRequest, *, timeout_s: float
    ) -> ControllerExpandVolumeResponse:
        """Grows the volume to at least the asked size."""
        return await self._call("Controller/ControllerExpandVolume", request, ControllerExpandVolumeResponse, timeout_s)

    async def controller_modify_volume(
        self, request: ControllerModifyVolumeRequest, *, timeout_s: float
    ) -> ControllerModifyVolumeResponse:
        """Changes the volume's mutable parameters."""
        return await self._call("Controller/ControllerModifyVolume", request, ControllerModifyVolumeResponse, timeout_s)

    async def controller_get_volume(
        self, request: ControllerGetVolumeRequest, *, timeout_s: float
    ) -> ControllerGetVolumeResponse:
        """One volume with its status."""
        return await self._call("Controller/ControllerGetVolume", request, ControllerGetVolumeResponse, timeout_s)

    async def validate_volume_capabilities(
        self, request: ValidateVolumeCapabilitiesRequest, *, timeout_s: float
    ) -> ValidateVolumeCapabilitiesResponse:
        """Whether the volume can be used in the given ways."""
        return await self._call(
            "Controller/ValidateVolumeCapabilities", request, ValidateVolumeCapabilitiesResponse, timeout_s
        )

    async def list_volumes(self, request: ListVolumesRequest, *, timeout_s: float) -> ListVolumesResponse:
        """One page of volumes, decoded whole: about 0.1 ms an entry, so ask for pages of a few hundred at most."""
        return await self._call("Controller/ListVolumes", request, ListVolumesResponse, timeout_s)

    async def list_published(
        self, max_entries: int = 0, *, timeout_s: float, migrated: str | None = None
    ) -> dict[str, frozenset[str]]:
        """Every volume's published nodes, from all pages: volume handle → node ids.

        Entries without a volume or without a status are left out; of a repeated handle the last entry counts.

        Args:
            max_entries: wanted size of a page; 0 leaves it to the driver.
            timeout_s: one deadline for all pages together.
            migrated: passed on to the observer.

        Raises:
            CSIError: also INTERNAL when the driver hands out the same page token twice, which would never end.
        """
        method = "Controller/ListVolumes"
        loop = asyncio.get_running_loop()
        end, seen, published = loop.time() + timeout_s, {""}, dict[str, frozenset[str]]()
        request = ListVolumesRequest(max_entries=max_entries)
        for _ in range(MAX_PAGES):
            # An expired deadline still goes through the call, which reports it like any other.
            left_s = max(end - loop.time(), 0.0)
            page: PublishedPage = await self._raw_call(method, request, left_s, migrated, read_page)
            published.update(page.nodes_by_handle)
            if not page.next_token:
                return published
            if page.next_token in seen:
                break
            seen.add(page.next_token)
            request.starting_token = page.next_token
        raise CSIError("ListVolumes", StatusCode.INTERNAL, f"next_token {request.starting_token!r} does not lead on")

    async def get_capacity(
        self, request: GetCapacityRequest, *, timeout_s: float, migrated: str | None = None
    ) -> GetCapacityResponse:
        """How much can still be created with these parameters in that place."""
        return await self._call("Controller/GetCapacity", request, GetCapacityResponse, timeout_s, migrated)

    async def create_snapshot(self, request: CreateSnapshotRequest, *, timeout_s: float) -> CreateSnapshotResponse:
        """Cuts a snapshot, or answers with the one of that name."""
        return await self._call("Controller/CreateSnapshot", request, CreateSnapshotResponse, timeout_s)

    async def delete_snapshot(self, request: DeleteSnapshotRequest, *, timeout_s: float) -> DeleteSnapshotResponse:
        """Deletes the snapshot; an absent one is success."""
        return await self._call("Controller/DeleteSnapshot", request, DeleteSnapshotResponse, timeout_s)

    async def list_snapshots(self, request: ListSnapshotsRequest, *, timeout_s: float) -> ListSnapshotsResponse:
        """One page of snapshots."""
        return await self._call("Controller/ListSnapshots", request, ListSnapshotsResponse, timeout_s)

    # ---- Node

    async def node_get_info(self, *, timeout_s: float) -> NodeGetInfoResponse:
        """The node's id, its limit and its place."""
        return await self._call("Node/NodeGetInfo", NodeGetInfoRequest(), NodeGetInfoResponse, timeout_s)

    # ---- around every call

    async def _call(
        self,
        method: str,
        request: betterproto2.Message,
        reply_type: type[_Reply],
        timeout_s: float,
        migrated: str | None = None,
    ) -> _Reply:
        async def decode(raw: bytes) -> _Reply:
            ensure_whole(raw)
            return reply_type.parse(raw)

        return await self._raw_call(method, request, timeout_s, migrated, decode)

    async def _raw_call(
        self,
        method: str,
        request: betterproto2.Message,
        timeout_s: float,
        migrated: str | None,
        decode: Callable[[bytes], Awaitable[_Decoded]],
    ) -> _Decoded:
        if self._guard is not None:
            self._guard()
        path, name = f"/csi.v1.{method}", method.partition("/")[2]
        loop = asyncio.get_running_loop()
        logged = _calls.isEnabledFor(logging.DEBUG)
        if logged:
            _calls.debug("GRPC call", extra={"method": path, "request": redact(request)})
        start, code = loop.time(), StatusCode.CANCELED
        reply: _Decoded | None = None
        failure: CSIError | None = None
        try:
            reply = await self._exchange(path, name, request, timeout_s, decode)
            code = StatusCode.OK
            return reply
        except CSIError as error:
            failure, code = error, error.code
            raise
        finally:
            if self._observer is not None:
                self._observer.call_done(path, code, loop.time() - start, migrated)
            if logged:
                text = redact(reply, limit=self._log_limit) if isinstance(reply, betterproto2.Message) else str(reply)
                outcome = str(failure) if failure else code.label
                _calls.debug(
                    "GRPC response",
                    extra={"method": path, "response": cut(text, self._log_limit) if reply else "", "error": outcome},
                )

    async def _exchange(
        self,
        path: str,
        name: str,
        request: betterproto2.Message,
        timeout_s: float,
        decode: Callable[[bytes], Awaitable[_Decoded]],
    ) -> _Decoded:
        if self.refusal and path.startswith("/csi.v1.Controller/") and name != "ControllerGetCapabilities":
            raise CSIError(name, StatusCode.UNAVAILABLE, self.refusal)
        try:
            raw_request = bytes(request)
        except UnicodeEncodeError as error:
            text = "grpc: error while marshaling: string field contains invalid UTF-8"
            raise CSIError(name, StatusCode.INTERNAL, text) from error
        except (ValueError, TypeError, AttributeError) as error:
            raise CSIError(name, StatusCode.INTERNAL, f"grpc: error while marshaling: {error}") from error
        raw = await self._send(path, name, raw_request, timeout_s)
        try:
            return await decode(raw)
        except (ValueError, EOFError, TypeError) as error:
            text = f"grpc: failed to unmarshal the received message: {error}"
            raise CSIError(name, StatusCode.INTERNAL, text) from error

    async def _send(self, path: str, name: str, request: bytes, timeout_s: float) -> bytes:
        try:
            raw = await self.channel.unary(path, request, timeout_s)
        except grpclib.exceptions.GRPCError as error:
            code, message = StatusCode(error.status.value), error.message or ""
            if code is StatusCode.DEADLINE_EXCEEDED and not message:
                message = "context deadline exceeded"
            raise CSIError(name, code, message) from error
        except TimeoutError as error:
            raise CSIError(name, StatusCode.DEADLINE_EXCEEDED, "context deadline exceeded") from error
        except NotImplementedError as error:
            text = "grpc: Decompressor is not installed for the compression the driver used"
            raise CSIError(name, StatusCode.UNIMPLEMENTED, text) from error
        except (OSError, grpclib.exceptions.StreamTerminatedError, grpclib.exceptions.ProtocolError) as error:
            raise CSIError(name, StatusCode.UNAVAILABLE, str(error)) from error
        except Exception as error:
            # h2 and grpclib raise AssertionError, KeyError and their like when the peer breaks HTTP/2 or gRPC framing.
            text = f"the driver broke the protocol: {type(error).__name__}: {error}"
            raise CSIError(name, StatusCode.INTERNAL, text) from error
        if raw is None:
            raise CSIError(name, StatusCode.INTERNAL, "the driver answered OK without a message")
        return raw


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
_Decoded = TypeVar("_Decoded")
