"""List and watch of one resource as an endless stream of watch events, whatever the API server does.

The states: list (streamed over a watch where the server can, else in pages), watch from where the list ended,
watch again from the last seen version when a watch ends, list again when that version is too old or when a
watch fell silent. A failure waits (backoff) and goes on; the stream ends only when its reader is cancelled.

A streamed list is closed at its end and followed by a watch of its own. Watches are short: the server is asked
to end each one after 30 to 40 s. An orderly end proves that the connection lives, at the price of one request; a
watch that is still open 5 s later is dead, and nothing that happened meanwhile can be trusted to arrive: the
resource is listed again.

Source: Kubernetes API concepts, "Efficient detection of changes" and "Streaming lists"; client-go
`tools/cache/reflector.go` for the back-off and the fall-back from streamed to paged lists.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from csisidecar.backoff import WATCH, Backoff
from csisidecar.errors import ForbiddenError, GoneError, InvalidError, KubeError, ThrottledError, UnreachableError
from csisidecar.kube import ObjectKey, decode_error
from csisidecar.kube.objects import KubeObject

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from csisidecar.clock import Clock
    from csisidecar.kube import KubeClient, Resource

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=KubeObject)

WATCH_MIN_S = 30.0
WATCH_SPREAD_S = 10.0
SILENCE_S = 5.0
"""A dead watch is noticed after WATCH_MIN_S + WATCH_SPREAD_S + SILENCE_S at the latest: 45 s."""
SETTLED_S = 1.0
"""A watch that is open for so long works, whether or not anything happens; one that ends sooner has failed."""
LIST_TIMEOUT_S = 300.0
LIST_SILENCE_S = 30.0
PAGE_SIZE = 500
_END_OF_INITIAL = "k8s.io/initial-events-end"


class EventType(Enum):
    """What happened to the watched resource."""

    INIT = auto()
    """A list starts; what it will not name is gone."""
    INIT_APPLY = auto()
    """An object of the list."""
    INIT_DONE = auto()
    """The list is complete."""
    APPLY = auto()
    """An object was added or changed."""
    DELETE = auto()
    """An object is gone; it carries its last state."""
    BOOKMARK = auto()
    """Nothing changed up to this version."""
    MALFORMED = auto()
    """An object is there that does not fit its view; what was known of it before still is the best there is."""


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[T]):
    """One step of the stream."""

    type: EventType
    obj: T | None = None
    resource_version: str = ""
    """The version up to which everything has been told, where the event knows it."""
    key: ObjectKey | None = None
    """The object's name, where it is known and the object is not."""


class _Line(msgspec.Struct):
    type: str
    object: msgspec.Raw = msgspec.Raw(b"{}")


class _Meta(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    annotations: dict[str, str] | None = None


class _AnyObject(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)


class _StatusObject(msgspec.Struct):
    code: int = 0


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)
    items: list[msgspec.Raw] | None = None


class Watcher(Generic[T]):
    """The endless stream of one resource and selector.

    Attributes:
        status: what it is doing now, or what is wrong and what to change; for people.
        is_healthy: whether the last step worked.
    """

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        view: type[T],
        *,
        clock: Clock,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        backoff: Backoff = WATCH,
    ) -> None:
        self._client = client
        self._resource = resource
        self._clock = clock
        self._namespace = namespace
        self._labels = label_selector
        self._fields = field_selector
        self._backoff = backoff
        self._decode = msgspec.json.Decoder(view).decode
        self._decode_line = msgspec.json.Decoder(_Line).decode
        self._decode_list = msgspec.json.Decoder(_List).decode
        self._streams_lists = True
        self._failures = 0
        self._malformed: set[ObjectKey] = set()
        self.status = "not started"
        self.is_healthy = False

    async def events(self) -> AsyncGenerator[WatchEvent[T], None]:
        """The stream; it never ends by itself and raises nothing but cancellation and programming errors."""
        version = ""
        needs_paged_list = False
        while True:
            try:
                if not version:
                    steps = self._paged_list() if needs_paged_list or not self._streams_lists else self._streamed_list()
                else:
                    steps = self._watch(version)
                # Closed here and not by the garbage collector: an open watch is a connection and a timer.
                async with aclosing(steps):
                    async for event in steps:
                        if event.resource_version:
                            version = event.resource_version
                        yield event
            except GoneError as error:
                # A version that was good a moment ago is a reason to list at once; a list that is refused is not.
                logger.info("resource version too old, listing again", extra=self._about(error=str(error)))
                listing, version = not version, ""
                if listing:
                    await self._pause(error)
            except _SilentWatchError as error:
                logger.warning("watch fell silent, listing again", extra=self._about(after_s=round(error.after_s)))
                version, needs_paged_list = "", True
                continue
            except InvalidError as error:
                if version or not self._streams_lists:
                    await self._pause(error)
                else:
                    logger.info("server has no streamed lists, using pages", extra=self._about(error=str(error)))
                    self._streams_lists = False
            except KubeError as error:
                if error.status == 400 and not version and self._streams_lists:
                    self._streams_lists = False
                    continue
                # A streamed list that did not come through is not tried twice in a row: pages may.
                needs_paged_list = needs_paged_list or not version
                await self._pause(error)
            except msgspec.DecodeError as error:
                await self._pause(UnreachableError(f"the API server's answer is no JSON: {error}"))
            else:
                needs_paged_list = False

    async def _paged_list(self) -> AsyncGenerator[WatchEvent[T], None]:
        self.status = "listing"
        yield WatchEvent(EventType.INIT)
        token, limit = "", PAGE_SIZE
        while True:
            try:
                body = await self._client.list_page(
                    self._resource,
                    limit=limit,
                    continue_token=token,
                    namespace=self._namespace,
                    label_selector=self._labels,
                    field_selector=self._fields,
                )
            except GoneError:
                if not token:
                    raise
                # The continue token expired in mid-list: everything in one answer, as nothing older can be had.
                token, limit = "", 0
                yield WatchEvent(EventType.INIT)
                continue
            page = self._decode_list(body)
            for raw in page.items or ():
                obj = self._object(raw)
                if isinstance(obj, ObjectKey):
                    yield WatchEvent(EventType.MALFORMED, key=obj)
                elif obj is not None:
                    yield WatchEvent(EventType.INIT_APPLY, obj)
            token = page.metadata.continue_
            if not token:
                break
            await asyncio.sleep(0)
        self._worked()
        yield WatchEvent(EventType.INIT_DONE, resource_version=page.metadata.resource_version)

    async def _streamed_list(self) -> AsyncGenerator[WatchEvent[T], None]:
        self.status = "listing"
        opening = self._client.watch(
            self._resource,
            resource_version_match="NotOlderThan",
            send_initial_events=True,
            timeout_s=LIST_TIMEOUT_S,
            idle_timeout_s=LIST_SILENCE_S,
            namespace=self._namespace,
            label_selector=self._labels,
            field_selector=self._fields,
        )
        async with opening as lines:
            yield WatchEvent(EventType.INIT)
            async for line in lines:
                event = self._event_of(line, listing=True) if line else None
                if event is not None:
                    yield event
                    if event.type is EventType.INIT_DONE:
                        self._worked()
                        return
        raise UnreachableError("the API server ended a streamed list before its end", verb="list")

    async def _watch(self, version: str) -> AsyncGenerator[WatchEvent[T], None]:
        began = self._clock.monotonic()
        timeout_s = WATCH_MIN_S + random.random() * WATCH_SPREAD_S  # noqa: S311 - spreading load, not secrecy
        opening = self._client.watch(
            self._resource,
            resource_version=version,
            timeout_s=timeout_s,
            idle_timeout_s=timeout_s + 3 * SILENCE_S,
            namespace=self._namespace,
            label_selector=self._labels,
            field_selector=self._fields,
        )
        seen = False
        try:
            async with asyncio.timeout(timeout_s + SILENCE_S) as limit, opening as lines:
                settled = asyncio.get_running_loop().call_later(SETTLED_S, self._worked)
                try:
                    async for line in lines:
                        event = self._event_of(line, listing=False) if line else None
                        if event is None:
                            continue
                        if not seen:
                            seen = True
                            self._worked()
                        # The reader may take its time; only the server's silence is measured.
                        limit.reschedule(None)
                        yield event
                        limit.reschedule(max(began + timeout_s, self._clock.monotonic()) + SILENCE_S)
                finally:
                    settled.cancel()
        except TimeoutError as error:
            raise _SilentWatchError(self._clock.monotonic() - began) from error
        if not seen and self._clock.monotonic() - began < SETTLED_S:
            # A server that ends every watch at once must not be asked again at once.
            raise UnreachableError("the API server ended the watch at once", verb="watch")
        self._worked()

    def _event_of(self, line: bytes, *, listing: bool) -> WatchEvent[T] | None:
        entry = self._decode_line(line)
        if entry.type == "BOOKMARK":
            meta = msgspec.json.decode(entry.object, type=_AnyObject).metadata
            if listing and (meta.annotations or {}).get(_END_OF_INITIAL) == "true":
                return WatchEvent(EventType.INIT_DONE, resource_version=meta.resource_version)
            # A bookmark in mid-list says nothing about what the list will still name.
            return None if listing else WatchEvent(EventType.BOOKMARK, resource_version=meta.resource_version)
        if entry.type == "ERROR":
            status = msgspec.json.decode(entry.object, type=_StatusObject)
            raise decode_error(status.code, entry.object, verb="watch", resource=self._resource.full_name)
        obj = self._object(entry.object)
        if obj is None:
            return None
        if isinstance(obj, ObjectKey):
            return WatchEvent(EventType.DELETE if entry.type == "DELETED" else EventType.MALFORMED, key=obj)
        if entry.type == "DELETED":
            return WatchEvent(EventType.DELETE, obj, "" if listing else obj.resource_version)
        if entry.type in ("ADDED", "MODIFIED"):
            if listing:
                return WatchEvent(EventType.INIT_APPLY, obj)
            return WatchEvent(EventType.APPLY, obj, obj.resource_version)
        logger.warning("unknown watch event ignored", extra=self._about(event=entry.type))
        return None

    def _object(self, raw: msgspec.Raw) -> T | ObjectKey | None:
        """The object; only its key when it does not fit the view; None when not even that can be told."""
        try:
            obj = self._decode(raw)
        except msgspec.ValidationError as error:
            meta = msgspec.json.decode(raw, type=_AnyObject, strict=False).metadata if _is_object(raw) else _Meta()
            key = ObjectKey(meta.namespace, meta.name)
            if key not in self._malformed:
                self._malformed.add(key)
                logger.warning("malformed object ignored", extra=self._about(object=str(key), error=str(error)))
            return key if key.name else None
        if not obj.name or not obj.uid:
            logger.warning("object without name or uid ignored", extra=self._about(object=str(obj.key)))
            return None
        return obj

    def _worked(self) -> None:
        self._failures = 0
        self.is_healthy = True
        self.status = "watching"

    async def _pause(self, error: KubeError) -> None:
        self.is_healthy = False
        self._failures += 1
        delay = self._backoff.delay_s(self._failures)
        if isinstance(error, ThrottledError) and error.retry_after_s is not None:
            delay = error.retry_after_s
        reason = str(error)
        if isinstance(error, ForbiddenError):
            reason = f"{reason}; the role lacks {error.missing_rule}"
        self.status = f"cannot {error.verb or 'list'} {self._resource.full_name}: {reason}"
        level = logging.INFO if isinstance(error, ThrottledError) else logging.WARNING
        if self._failures in (1, 3) or self._failures % 10 == 0:
            logger.log(level, "list or watch failed", extra=self._about(error=reason, next_s=round(delay, 1)))
        await asyncio.sleep(delay)

    def _about(self, **fields: Any) -> dict[str, Any]:
        return {"resource": self._resource.full_name, **fields}


class _SilentWatchError(Exception):
    """A watch neither delivered nor ended when it should have."""

    def __init__(self, after_s: float) -> None:
        super().__init__(after_s)
        self.after_s = after_s


def _is_object(raw: msgspec.Raw) -> bool:
    try:
        msgspec.json.decode(raw, type=_AnyObject)
    except msgspec.DecodeError:
        return False
    return True
