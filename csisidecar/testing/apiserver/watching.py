"""Watches: one open answer that follows a table's log.

A watch holds only its position in the log, so a slow reader costs nothing and a reader that fell behind the log
is told so. Lines are encoded once for all watches.

Source: Kubernetes API concepts, "Efficient detection of changes", "Watch bookmarks" and "Streaming lists";
kubernetes/apiserver, pkg/storage/cacher.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from csisidecar.testing.apiserver.status import Refusal, too_old
from csisidecar.testing.apiserver.store import Change, Store, Stored, Table, encode
from csisidecar.testing.apiserver.troubles import STREAM_KINDS, Trouble, Troubles

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from csisidecar.clock import Clock
    from csisidecar.testing.apiserver.answers import Answer
    from csisidecar.testing.apiserver.listing import ListOptions

_BATCH = 500
"""Lines joined into one write while the initial state is sent."""


class CutShort(Exception):  # noqa: N818 - an order carried out
    """The connection is to be broken off now."""


@dataclass(kw_only=True, eq=False)
class Watch:
    """One open watch."""

    store: Store
    table: Table
    namespace: str
    options: ListOptions
    answer: Answer
    write: Callable[[bytes], Awaitable[None]]
    clock: Clock
    troubles: Troubles
    resource: str
    bookmark_every_s: float
    timeout_s: float
    is_closing: Callable[[], bool]
    held: bytes = b""
    """A line kept back to be sent after the next one."""
    stalled: Trouble | None = None

    async def run(self) -> None:
        """Send lines until the time is up, the server stops, or an order ends the watch.

        Raises:
            CutShort: break the connection off.
        """
        waker = asyncio.Event()
        self.table.wakers.add(waker)
        try:
            await self._follow(waker)
        finally:
            self.table.wakers.discard(waker)

    async def _follow(self, waker: asyncio.Event) -> None:
        end = self.clock.monotonic() + self.timeout_s
        while self._is_stalled() and not self.is_closing():
            waker.clear()
            await waker.wait()
        try:
            position = await self._begin()
        except Refusal as refusal:
            await self.write(_error_line(refusal))
            return
        if position is None:
            return
        next_bookmark = self.clock.monotonic() + self.bookmark_every_s if self.options.bookmarks else math.inf
        while not self.is_closing():
            waker.clear()
            if self._is_stalled():
                await waker.wait()
                continue
            changes = self.table.since(position)
            if changes is None:
                await self.write(_error_line(too_old(self.table.floor - 1, self.table.floor)))
                return
            # No await between reading the log and encoding: what is sent is one consistent stretch of it.
            position += len(changes)
            if not await self._send(list(self._lines(changes))):
                return
            # A timer may end within its clock's resolution before its time.
            now = self.clock.monotonic() + 1e-6
            if now >= end:
                return
            if now >= next_bookmark and not waker.is_set():
                await self.write(self.answer.bookmark(self.store.revision))
                next_bookmark = now + self.bookmark_every_s
            await self._sleep(waker, min(end, next_bookmark))

    async def _send(self, lines: list[bytes]) -> bool:
        """Write lines, as the orders in force have it; False when that ended the watch."""
        if len(self.troubles) and await self._disturbed(lines):
            return False
        if lines:
            await self.write(b"".join(lines))
        return True

    async def _begin(self) -> int | None:
        """Send the present state if it is asked for; the log position to go on from, None when the watch ended."""
        asked = self.options.revision()
        initial = self.options.send_initial_events
        if initial or (initial is None and asked in {None, 0}):
            objects = self.table.range(self.namespace)
            revision = self.store.revision
            position = self.table.log_start + len(self.table.log)
            kept = [item for item in objects if self.options.keep is None or self.options.keep(item)]
            for first in range(0, len(kept), _BATCH):
                if not await self._send([self.answer.line("ADDED", item) for item in kept[first : first + _BATCH]]):
                    return None
            if initial and self.options.bookmarks:
                await self.write(self.answer.bookmark(revision, initial_end=True))
            return position
        if asked in {None, 0}:
            return self.table.log_start + len(self.table.log)
        return self.table.next_after(asked or 0)

    def _lines(self, changes: list[Change]) -> Iterator[bytes]:
        for change in changes:
            kind = self._kind(change)
            if kind:
                line = self.answer.change(kind, change)
                yield line

    def _kind(self, change: Change) -> str:
        """What this watch sees of a change: a selector turns a change into an arrival or a departure."""
        if self.namespace and change.now.namespace != self.namespace:
            return ""
        if self.options.keep is None:
            return change.kind
        was = change.before is not None and self.options.keep(change.before)
        now = change.kind != "DELETED" and self.options.keep(change.now)
        if was and now:
            return "MODIFIED"
        if now:
            return "ADDED"
        return "DELETED" if was else ""

    def _is_stalled(self) -> bool:
        if self.stalled is not None:
            if self.troubles.holds(self.stalled):
                return True
            self.stalled = None
        self.stalled = self.troubles.strike("watch", self.resource, frozenset({"stall"}))
        return self.stalled is not None

    async def _disturbed(self, lines: list[bytes]) -> bool:
        """Carry out orders that act on lines; whether the watch ends with that."""
        for kind in ("close", "gone-event"):
            if self._quiet(kind) and self.troubles.strike("watch", self.resource, frozenset({kind})):
                if kind == "gone-event":
                    lines.append(_error_line(too_old(self.table.floor, self.store.revision)))
                if lines:
                    await self.write(b"".join(lines))
                return True
        kept: list[bytes] = []
        for line in lines:
            order = self.troubles.strike("watch", self.resource, STREAM_KINDS - {"stall", "close", "gone-event"})
            if order is None:
                kept.append(line)
            elif order.kind == "cut":
                await self.write(b"".join(kept) + line[: len(line) // 2])
                raise CutShort
            elif order.kind == "reorder":
                self.held = line
                continue
            if self.held and order is None:
                kept.append(self.held)
                self.held = b""
        lines[:] = kept
        return False

    def _quiet(self, kind: str) -> bool:
        return any(order.kind == kind for order in self.troubles)

    async def _sleep(self, waker: asyncio.Event, until: float) -> None:
        """Wait for a change, or until a time."""
        left = until - self.clock.monotonic()
        if left <= 0 or waker.is_set():
            return
        try:
            async with asyncio.timeout(left):
                await waker.wait()
        except TimeoutError:
            return


def _error_line(refusal: Refusal) -> bytes:
    return b'{"type":"ERROR","object":%s}\n' % encode(refusal.body())


__all__ = ["CutShort", "Stored", "Watch"]
