"""A work queue of keys: each key waits once, is never worked on twice at a time, and can be delayed.

Who takes a key out gives it back with `done`. How long a failed key waits is decided by the controller; the
queue only keeps the time. Not thread-safe: one loop owns it.

Source: client-go `util/workqueue/queue.go` and `delaying_queue.go`.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Hashable
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from csisidecar.clock import Clock

K = TypeVar("K", bound=Hashable)


class QueueObserver(Protocol):
    """What a queue tells about itself; metrics fit by shape."""

    def added(self, name: str, depth: int) -> None:
        """A key was accepted; `depth` keys wait now."""
        ...

    def started(self, name: str, waited_s: float, depth: int) -> None:
        """A key was taken out after waiting `waited_s`."""
        ...

    def finished(self, name: str, worked_s: float) -> None:
        """A key was given back after `worked_s`."""
        ...

    def retried(self, name: str) -> None:
        """A key was put off to a later time."""
        ...

    def watch_running(self, name: str, read: Callable[[], tuple[float, float]]) -> None:
        """`read` gives, at any time, the seconds of unfinished work in sum and of the longest running attempt."""
        ...


class NullObserver:
    """Observes nothing; for queues used on their own."""

    def added(self, name: str, depth: int) -> None:
        """Do nothing."""

    def started(self, name: str, waited_s: float, depth: int) -> None:
        """Do nothing."""

    def finished(self, name: str, worked_s: float) -> None:
        """Do nothing."""

    def retried(self, name: str) -> None:
        """Do nothing."""

    def watch_running(self, name: str, read: Callable[[], tuple[float, float]]) -> None:
        """Do nothing."""


class QueueClosed(Exception):  # noqa: N818 - the end of a queue is no fault
    """The queue takes and gives no more keys."""


class WorkQueue(Generic[K]):
    """Keys to look at, first in first out.

    Guarantees: a key added while it waits is not doubled; a key added while it is worked on comes back as soon
    as it is done; a delayed key is kept once, with the earliest time it was asked for.
    """

    def __init__(self, name: str, *, clock: Clock, observer: QueueObserver | None = None) -> None:
        self.name = name
        self._clock = clock
        self._observer = observer or NullObserver()
        self._ready: deque[K] = deque()
        self._waiting: dict[K, float] = {}
        self._running: dict[K, float] = {}
        self._again: set[K] = set()
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._wake = asyncio.Event()
        self._closed = False
        self._observer.watch_running(name, self._running_seconds)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def __len__(self) -> int:
        return len(self._ready)

    def add(self, key: K) -> None:
        """Offer `key` now."""
        if self._closed or key in self._waiting or key in self._again:
            return
        if key in self._running:
            self._again.add(key)
            self._observer.added(self.name, len(self._ready))
            return
        self._waiting[key] = self._clock.monotonic()
        self._ready.append(key)
        self._wake.set()
        self._observer.added(self.name, len(self._ready))

    def add_after(self, key: K, delay_s: float) -> None:
        """Offer `key` in `delay_s` seconds, or earlier if that was asked for before."""
        if self._closed:
            return
        self._observer.retried(self.name)
        if delay_s <= 0:
            self.add(key)
            return
        due = self._clock.monotonic() + delay_s
        if self._due.get(key, due + 1) <= due:
            return
        self._due[key] = due
        self._order += 1
        heapq.heappush(self._heap, (due, self._order, key))
        self._arm()

    def cancel_delayed(self, key: K) -> None:
        """Forget a later time at which `key` was to be offered."""
        self._due.pop(key, None)

    def offer_delayed(self) -> None:
        """Offer every delayed key now."""
        for key in list(self._due):
            self.add(key)
        self._due.clear()
        self._heap.clear()

    async def get(self) -> K:
        """The next key; it is the caller's until `done`.

        Raises:
            QueueClosed: no more keys are given.
        """
        while not self._ready:
            if self._closed:
                raise QueueClosed
            self._wake.clear()
            await self._wake.wait()
        if self._closed:
            raise QueueClosed
        key = self._ready.popleft()
        now = self._clock.monotonic()
        self._running[key] = now
        self._observer.started(self.name, now - self._waiting.pop(key), len(self._ready))
        return key

    def done(self, key: K) -> None:
        """Give `key` back; if it was added meanwhile it waits again."""
        began = self._running.pop(key)
        self._observer.finished(self.name, self._clock.monotonic() - began)
        if key in self._again:
            self._again.discard(key)
            if not self._closed:
                self._waiting[key] = self._clock.monotonic()
                self._ready.append(key)
                self._wake.set()

    def close(self) -> None:
        """Give out no more keys; waiting and delayed ones are dropped."""
        self._closed = True
        self._ready.clear()
        self._waiting.clear()
        self._again.clear()
        self._due.clear()
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake.set()

    def _arm(self) -> None:
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        if not self._heap:
            return
        due = self._heap[0][0]
        if self._timer is not None and self._timer_at <= due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        delay = max(0.0, due - self._clock.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        while self._heap and self._heap[0][0] <= now + 1e-6:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)
        self._arm()

    def _running_seconds(self) -> tuple[float, float]:
        if not self._running:
            return 0.0, 0.0
        now = self._clock.monotonic()
        ages = [now - began for began in self._running.values()]
        return sum(ages), max(ages)
