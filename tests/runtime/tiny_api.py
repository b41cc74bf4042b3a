"""A working stand-in for the API client in virtual time: one resource, versions, a log, and orders for trouble.

It imitates lists in pages, streamed lists, watches from a version with bookmarks and time-outs, and 410 for
versions that were compacted. It speaks no HTTP; `csisidecar.testing.apiserver` does.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from csisidecar.errors import GoneError, InvalidError, NotFoundError, ThrottledError, UnreachableError
from csisidecar.kube import Resource, Write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

THINGS = Resource(group="example.com", version="v1", plural="things", kind="Thing", namespaced=False)


class TinyAPI:
    def __init__(self) -> None:
        self.version = 100
        self.compacted = 0
        self.epoch = 0
        self.objects: dict[str, dict[str, Any]] = {}
        self.log: list[tuple[int, str, dict[str, Any]]] = []
        self.requests: list[str] = []
        self.trouble: deque[str] = deque()
        """Orders for the next requests, one each: see `_order`."""
        self.streams_lists = True
        self.page_size_seen: list[int] = []
        self._changed = asyncio.Event()

    def put(self, name: str, **fields: Any) -> dict[str, Any]:
        self.version += 1
        old = self.objects.get(name)
        obj = {
            "metadata": {
                "name": name,
                "uid": old["metadata"]["uid"] if old else f"uid-{self.version}",
                "resourceVersion": str(self.version),
                **fields,
            }
        }
        self.objects[name] = obj
        self._tell("MODIFIED" if old else "ADDED", obj)
        return obj

    def drop(self, name: str) -> None:
        obj = self.objects.pop(name)
        self.version += 1
        gone = {"metadata": {**obj["metadata"], "resourceVersion": str(self.version)}}
        self._tell("DELETED", gone)

    def compact(self) -> None:
        """Forget the log and end every open watch, as a restarted server does."""
        self.epoch += 1
        self._changed.set()
        self._changed = asyncio.Event()
        self.version += 1
        self.compacted = self.version
        self.log.clear()

    def _tell(self, kind: str, obj: dict[str, Any]) -> None:
        self.log.append((self.version, kind, obj))
        self._changed.set()
        self._changed = asyncio.Event()

    def write_of(self, name: str, *, removed: bool = False) -> Write:
        meta = self.objects[name]["metadata"]
        return Write(
            resource=THINGS,
            namespace="",
            name=name,
            uid=meta["uid"],
            resource_version=meta["resourceVersion"],
            removed=removed,
        )

    def _order(self) -> str:
        order = self.trouble.popleft() if self.trouble else ""
        if order == "gone":
            raise GoneError("too old resource version", status=410, verb="watch")
        if order == "throttled":
            raise ThrottledError("slow down", status=429, retry_after_s=7.0, verb="list")
        if order == "unreachable":
            raise UnreachableError("connection refused", verb="list")
        return order

    async def get(self, resource: Resource, name: str, *, namespace: str = "") -> dict[str, Any]:
        self.requests.append(f"get {name}")
        if name not in self.objects:
            raise NotFoundError(f'things "{name}" not found', status=404)
        return self.objects[name]

    async def list_page(self, resource: Resource, *, limit: int = 500, continue_token: str = "", **_: Any) -> bytes:
        self.requests.append(f"list {continue_token}".strip())
        self.page_size_seen.append(limit)
        order = self._order()
        await asyncio.sleep(0)
        names = sorted(self.objects)
        start = int(continue_token or 0)
        if order == "gone-token" and continue_token:
            raise GoneError("the provided continue parameter is too old", status=410)
        end = start + limit if limit else len(names)
        body: dict[str, Any] = {
            "metadata": {"resourceVersion": str(self.version)},
            "items": [self.objects[name] for name in names[start:end]],
        }
        if end < len(names):
            body["metadata"]["continue"] = str(end)
        return json.dumps(body).encode()

    @asynccontextmanager
    async def watch(
        self,
        resource: Resource,
        *,
        resource_version: str = "",
        send_initial_events: bool = False,
        timeout_s: float = 300,
        idle_timeout_s: float = 300,
        **_: Any,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self.requests.append("stream" if send_initial_events else f"watch {resource_version}")
        order = self._order()
        if send_initial_events and not self.streams_lists:
            raise InvalidError("sendInitialEvents: Forbidden", status=422)
        if not send_initial_events and int(resource_version) < self.compacted:
            if order == "gone-event":
                yield self._one(b'{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}')
                return
            raise GoneError("too old resource version", status=410, verb="watch")
        since = 0 if send_initial_events else int(resource_version)
        yield self._lines(order, since, send_initial_events, timeout_s, idle_timeout_s)

    async def _one(self, line: bytes) -> AsyncIterator[bytes]:
        yield line

    async def _lines(
        self, order: str, since: int, initial: bool, timeout_s: float, idle_timeout_s: float
    ) -> AsyncIterator[bytes]:
        if order == "stall":
            await asyncio.sleep(idle_timeout_s)
            raise UnreachableError(f"nothing came for {idle_timeout_s:g} s")
        if order == "close":
            return
        if initial:
            since = self.version
            for name in sorted(self.objects):
                yield self._line("ADDED", self.objects[name])
            marks = {"metadata": {"resourceVersion": str(since), "annotations": {"k8s.io/initial-events-end": "true"}}}
            yield self._line("BOOKMARK", marks)
        deadline = asyncio.get_running_loop().time() + timeout_s
        epoch = self.epoch
        while epoch == self.epoch:
            changed = self._changed
            for version, kind, obj in list(self.log):
                if version > since:
                    since = version
                    if order == "cut":
                        yield self._line(kind, obj)[:20]
                        raise UnreachableError("connection reset")
                    yield self._line(kind, obj)
            try:
                async with asyncio.timeout_at(deadline):
                    await changed.wait()
            except TimeoutError:
                yield self._line("BOOKMARK", {"metadata": {"resourceVersion": str(self.version)}})
                return

    def _line(self, kind: str, obj: dict[str, Any]) -> bytes:
        return json.dumps({"type": kind, "object": obj}).encode()
