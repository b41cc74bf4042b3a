"""Kubernetes Events about objects: merged, written on a lane of their own, never raising into the caller.

One object and reason has one live Event (a Normal one: object, reason and message). Its first occurrence is
created at once; repeats change its count,
message and time: each of the first five at once, later ones at most once a minute. What cannot be written is
dropped after a few tries: an Event is news, not state.

Source: Kubernetes API reference, Event v1 core; client-go `tools/record/events_cache.go` merges likewise, but
by message.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from csisidecar.clock import left_s, rfc3339
from csisidecar.errors import AlreadyExistsError, ForbiddenError, KubeError, NotFoundError, ThrottledError
from csisidecar.kube import EVENTS, PatchType

if TYPE_CHECKING:
    from datetime import datetime

    from csisidecar.clock import Clock
    from csisidecar.kube import KubeClient, Resource
    from csisidecar.kube.objects import KubeObject

logger = logging.getLogger(__name__)

EAGER_WRITES = 5
LAZY_INTERVAL_S = 60.0
KEPT = 4096
WRITERS = 4
TRIES = 4
_NO_PERMISSION = " cannot "
"""In the text of a 403 that a role would cure; one for a namespace that ends says "because it is being terminated"."""
MESSAGE_BYTES = 1024
"""Longest message the API server takes. Source: kubernetes `pkg/apis/core/validation/events.go`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Regarding:
    """The object an Event is about."""

    kind: str
    api_version: str
    namespace: str
    name: str
    uid: str
    resource_version: str = ""

    @classmethod
    def of(cls, resource: Resource, obj: KubeObject) -> Regarding:
        """A reference to a stored object of `resource`."""
        return cls(
            kind=resource.kind,
            api_version=resource.api_version,
            namespace=obj.namespace,
            name=obj.name,
            uid=obj.uid,
            resource_version=obj.resource_version,
        )


@dataclass(slots=True)
class _Live:
    regarding: Regarding
    type: str
    reason: str
    message: str
    name: str
    first: datetime
    last: datetime
    count: int = 1
    written: int = 0
    """Occurrences that the API server knows of."""
    written_message: str = ""
    writes: int = 0
    not_before: float = 0.0
    tries: int = 0
    queued: bool = False


class EventRecorder:
    """Events of one component.

    Guarantees: `event` neither waits nor raises; no Secret reaches an Event unless it is in the message; without
    permission Events go off with one warning that names the missing rule.

    Args:
        client: outside of every rate ceiling.
        component: what people see as the source; also the reporting controller.
        clock: for times in Events and the pace of writes.
    """

    def __init__(self, client: KubeClient, *, component: str, clock: Clock) -> None:
        self._client = client
        self._component = component
        self._clock = clock
        self._live: OrderedDict[tuple[str, str, str], _Live] = OrderedDict()
        self._queue: asyncio.Queue[_Live] = asyncio.Queue(maxsize=KEPT)
        self._sequence = 0
        self._is_off = False

    def event(self, regarding: Regarding, event_type: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Tell people something about an object; merged with what was told before under the same reason."""
        if self._is_off:
            return
        now = self._clock.now()
        message = clip(message, MESSAGE_BYTES)
        # Failures of one reason are one story, whatever each says; other news differs by what it says.
        story = reason if event_type == "Warning" else f"{reason}: {message}"
        key = (regarding.uid or f"{regarding.kind}/{regarding.namespace}/{regarding.name}", event_type, story)
        live = self._live.get(key)
        if live is None:
            self._sequence += 1
            stamp = f"{int(now.timestamp() * 1e6):x}{self._sequence % 4096:03x}"
            live = self._live[key] = _Live(
                regarding, event_type, reason, message, f"{regarding.name}.{stamp}", now, now
            )
            while len(self._live) > KEPT:
                self._live.popitem(last=False)
        else:
            live.count += 1
            live.last = now
            live.message = message
        self._live.move_to_end(key)
        self._schedule(live)

    def _schedule(self, live: _Live) -> None:
        if live.queued:
            return
        try:
            self._queue.put_nowait(live)
        except asyncio.QueueFull:
            return
        live.queued = True

    async def run(self) -> None:
        """Write what is recorded, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WRITERS):
                group.create_task(self._write_all(group))

    async def flush(self, timeout_s: float) -> None:
        """Give what is recorded a last chance to be written."""
        deadline = self._clock.monotonic() + timeout_s
        while not self._queue.empty() and self._clock.monotonic() < deadline:
            live = self._queue.get_nowait()
            live.queued = False
            try:
                async with asyncio.timeout(max(0.0, deadline - self._clock.monotonic())):
                    await self._write(live)
            except (KubeError, TimeoutError) as error:
                logger.debug("event dropped at the end", extra={"error": str(error)})

    async def _write_all(self, group: asyncio.TaskGroup) -> None:
        while True:
            live = await self._queue.get()
            wait_s = left_s(live.not_before, self._clock.monotonic())
            if wait_s > 0:
                # A writer must not sleep for one Event while others wait for it.
                group.create_task(self._later(live, wait_s))
                continue
            # Until it is written it counts as queued: two writers must never hold one Event.
            try:
                await self._write(live)
            except KubeError as error:
                if isinstance(error, ForbiddenError) and _NO_PERMISSION in str(error):
                    self._turn_off(error)
                else:
                    self._failed(live, error)
            finally:
                live.queued = False
            if live.count != live.written and not self._is_off:
                self._schedule(live)

    async def _later(self, live: _Live, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        await self._queue.put(live)

    async def _write(self, live: _Live) -> None:
        if live.written == live.count or self._is_off:
            return
        count, message = live.count, live.message
        namespace = live.regarding.namespace or "default"
        if live.written == 0:
            try:
                await self._client.create(EVENTS, self._body(live, namespace), namespace=namespace)
            except AlreadyExistsError:
                logger.debug("event was created before", extra={"event": live.name})
        else:
            change: dict[str, Any] = {"count": count, "lastTimestamp": rfc3339(live.last)}
            if message != live.written_message:
                change["message"] = message
            try:
                await self._client.patch(EVENTS, live.name, change, namespace=namespace, patch_type=PatchType.MERGE)
            except NotFoundError:
                # Events expire; what goes on gets a new one.
                live.name = f"{live.name}.{live.writes:x}"
                await self._client.create(EVENTS, self._body(live, namespace), namespace=namespace)
        live.written, live.written_message = count, message
        live.writes += 1
        live.tries = 0
        if live.writes >= EAGER_WRITES:
            live.not_before = self._clock.monotonic() + LAZY_INTERVAL_S

    def _failed(self, live: _Live, error: KubeError) -> None:
        live.tries += 1
        if live.tries >= TRIES or (400 <= error.status < 500 and not isinstance(error, ThrottledError)):
            logger.info("event dropped", extra={"event": live.name, "reason": live.reason, "error": str(error)})
            live.written = live.count
            live.tries = 0
            return
        pause = error.retry_after_s if error.retry_after_s is not None else 2.0**live.tries
        live.not_before = self._clock.monotonic() + pause

    def _turn_off(self, error: ForbiddenError) -> None:
        if not self._is_off:
            self._is_off = True
            logger.warning(
                "no permission to write Events; they stay off",
                extra={"component": self._component, "missing_rule": error.missing_rule},
            )

    def _body(self, live: _Live, namespace: str) -> dict[str, Any]:
        regarding = live.regarding
        reference = {
            "kind": regarding.kind,
            "apiVersion": regarding.api_version,
            "name": regarding.name,
            "uid": regarding.uid,
            "resourceVersion": regarding.resource_version,
            "namespace": regarding.namespace,
        }
        return {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {"name": live.name, "namespace": namespace},
            "involvedObject": {field: value for field, value in reference.items() if value},
            "reason": live.reason,
            "message": live.message,
            "type": live.type,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": "",
            "firstTimestamp": rfc3339(live.first),
            "lastTimestamp": rfc3339(live.last),
            "count": live.count,
        }


def clip(text: str, limit_bytes: int) -> str:
    """`text` cut to at most `limit_bytes` of UTF-8, at a character."""
    raw = text.encode()
    return text if len(raw) <= limit_bytes else raw[:limit_bytes].decode(errors="ignore")
