"""One controller: triggers → queue → reconciler; one attempt at a key and what its outcome means.

This is the one place that decides when a key is looked at again. Reconcilers raise and forget; clients never
retry. A controller runs between `run` and its cancellation; `drain` ends it gently.

Source: the outcome table follows controller-runtime `pkg/internal/controller/controller.go`; the delays follow
client-go `util/workqueue/default_rate_limiters.go`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from csisidecar.errors import RetryAfter, TerminalError, ThrottledError
from csisidecar.runtime.queue import QueueClosed, WorkQueue
from csisidecar.runtime.reconcile import Attempt, _current, current_attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from csisidecar.backoff import Backoff
    from csisidecar.clock import Clock
    from csisidecar.kube import Write
    from csisidecar.runtime.informer import Stores
    from csisidecar.runtime.queue import QueueObserver
    from csisidecar.runtime.reconcile import Reconciler, Result
    from csisidecar.runtime.store import Change
    from csisidecar.runtime.triggers import Trigger

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

LAST_PAUSE_S = 0.5
"""Between two tries of what must not be left undone when a controller is drained."""

OWN_WRITES_WAIT_S = 5.0
"""How long a key is held back for the stores to see its own writes, before they are repaired by a live read."""


@dataclass(frozen=True, kw_only=True)
class Host:
    """What a controller needs from whoever runs it."""

    stores: Stores
    clock: Clock
    may_start: Callable[[], bool] = lambda: True
    """Asked right before each attempt; False: the attempt is not started and its key is offered again later."""
    observer: QueueObserver | None = None


@dataclass(slots=True)
class _Failures:
    count: int
    first: str
    since: datetime


@dataclass(slots=True)
class _HeldBack:
    """Own writes of a key that the stores have not seen yet."""

    writes: list[Write]
    until: float
    is_wanted: bool = False
    """Whether the key was offered meanwhile, so that it must be looked at as soon as the stores have caught up."""


class Controller(Generic[K]):
    """A queue of keys, the triggers that fill it and the reconciler that empties it.

    Args:
        name: for logs, and for the work queue's metrics unless `queue_name` says otherwise.
        reconciler: makes the world fit one key.
        triggers: what offers keys.
        workers: attempts at a time, each at another key.
        backoff: how long a key waits after its n-th failure in a row.
        attempt_timeout_s: when an attempt is cut and counts as failed; None: never.
        resync_s: how often every key is offered again; 0: never.
        queue_name: the `name` label of the work queue's metrics.
        unfinished: keys that must not be left when the controller is drained: each is attempted once more, and again
            after a pause, until there are none or whoever drains loses patience. Keys may be of attempts elsewhere
            whose end is to be waited for; those are attempted too, and must do no harm.
    """

    def __init__(
        self,
        *,
        name: str,
        reconciler: Reconciler[K],
        triggers: Sequence[Trigger[K]],
        backoff: Backoff,
        workers: int = 10,
        attempt_timeout_s: float | None = None,
        resync_s: float = 0.0,
        queue_name: str = "",
        unfinished: Callable[[], Iterable[K]] = lambda: (),
    ) -> None:
        self.name = name
        self._reconciler = reconciler
        self._triggers = tuple(triggers)
        self._backoff = backoff
        self._workers = workers
        self._attempt_timeout_s = attempt_timeout_s
        self._resync_s = resync_s
        self._queue_name = queue_name or name
        self._unfinished = unfinished
        self._queue: WorkQueue[K] | None = None
        self._failures: dict[K, _Failures] = {}
        self._held_back: dict[K, _HeldBack] = {}
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._broken: asyncio.Future[None] | None = None
        self._in_flight: set[K] = set()
        self._is_drained = False

    @property
    def in_flight(self) -> frozenset[K]:
        """Keys with an attempt running now."""
        return frozenset(self._in_flight)

    def requeue(self, key: K) -> None:
        """Look at `key` now; nothing happens while the controller does not run."""
        if self._queue is not None:
            self._queue.add(key)

    def pause(self) -> None:
        """Start no attempt until `resume`; attempts in flight go on."""
        self._resumed.clear()

    def resume(self, *, forget_failures: bool = False) -> None:
        """Start attempts again; with `forget_failures` every key that waits for its backoff is looked at now."""
        if forget_failures:
            self._failures.clear()
            if self._queue is not None:
                self._queue.offer_delayed()
        self._resumed.set()

    def drain(self) -> None:
        """Take no more keys, ever; `run` returns when the attempts in flight have ended, a later one at once."""
        self._is_drained = True
        if self._queue is not None:
            self._queue.close()
        self._resumed.set()

    async def run(self, host: Host) -> None:
        """Work until drained or cancelled. All stores of the triggers must be synced.

        Raises:
            Exception: a trigger or predicate failed; the controller cannot go on.

        **Cancellation** cancels the attempts in flight.
        """
        if self._is_drained:
            return
        queue = self._queue = WorkQueue(self._queue_name, clock=host.clock, observer=host.observer)
        self._failures.clear()
        self._held_back.clear()
        self._broken = asyncio.get_running_loop().create_future()
        try:
            with ExitStack() as subscriptions:
                for trigger in self._triggers:
                    if trigger.store is not None:
                        subscriptions.callback(trigger.store.subscribe(self._listener(trigger, queue)))
                for trigger in self._triggers:
                    self._offer_all(trigger, queue)
                async with asyncio.TaskGroup() as group:
                    helpers = [group.create_task(self._watch_broken(self._broken), name=f"{self.name} triggers")]
                    if self._resync_s > 0:
                        helpers.append(group.create_task(self._resync(queue), name=f"{self.name} resync"))
                    helpers += [
                        group.create_task(self._tick(trigger, queue), name=f"{self.name} timer")
                        for trigger in self._triggers
                        if trigger.interval_s > 0
                    ]
                    await self._dispatch(queue, host, group)
                    for helper in helpers:
                        helper.cancel()
                    await self._finish(host)
        finally:
            queue.close()
            self._queue = None

    def _listener(self, trigger: Trigger[K], queue: WorkQueue[K]) -> Callable[[Change[Any]], None]:
        def listen(change: Change[Any]) -> None:
            try:
                for key in trigger.keys(change):
                    queue.add(key)
            except Exception as error:  # noqa: BLE001 - a plugin's predicate must not stop the shared informer
                if self._broken is not None and not self._broken.done():
                    self._broken.set_exception(error)

        return listen

    def _offer_all(self, trigger: Trigger[K], queue: WorkQueue[K]) -> None:
        for key in trigger.all_keys():
            queue.add(key)

    async def _watch_broken(self, broken: asyncio.Future[None]) -> None:
        await broken

    async def _resync(self, queue: WorkQueue[K]) -> None:
        while True:
            await asyncio.sleep(self._resync_s)
            for trigger in self._triggers:
                if trigger.store is not None:
                    self._offer_all(trigger, queue)

    async def _tick(self, trigger: Trigger[K], queue: WorkQueue[K]) -> None:
        while True:
            await asyncio.sleep(trigger.interval_s)
            self._offer_all(trigger, queue)

    async def _dispatch(self, queue: WorkQueue[K], host: Host, group: asyncio.TaskGroup) -> None:
        free = asyncio.Semaphore(self._workers)
        while True:
            await free.acquire()
            try:
                key = await queue.get()
                while not self._resumed.is_set():
                    await self._resumed.wait()
            except QueueClosed:
                return
            if queue.is_closed:
                queue.done(key)
                return
            if not host.may_start():
                # Whoever withdrew the permission also ends this controller; the key must not be lost if not.
                queue.add_after(key, 1.0)
            elif not self._must_wait(key, queue, host):
                self._in_flight.add(key)
                group.create_task(self._attempt(key, queue, host, free), name=f"{self.name} {key}")
                continue
            queue.done(key)
            free.release()

    async def _finish(self, host: Host) -> None:
        """Attempt what must not be left, while it may; no new keys come any more."""
        while keys := list(self._unfinished()):
            for key in keys:
                if key in self._in_flight:
                    continue
                if not host.may_start():
                    return
                try:
                    await self._reconciler.reconcile(key)
                except Exception as error:  # noqa: BLE001 - as in every attempt; the next round is the backoff
                    logger.info("last attempt failed", extra=self._about(key, error=str(error)))
            await asyncio.sleep(LAST_PAUSE_S)

    def _hold_back(self, key: K, writes: Sequence[Write], queue: WorkQueue[K], host: Host) -> None:
        unseen = [write for write in writes if not host.stores.has_seen(write)]
        if not unseen:
            return
        held = self._held_back[key] = _HeldBack(unseen, host.clock.monotonic() + OWN_WRITES_WAIT_S)

        def caught_up() -> None:
            if self._held_back.get(key) is held and all(host.stores.has_seen(write) for write in held.writes):
                del self._held_back[key]
                if held.is_wanted:
                    # The attempt that begins now says itself when the next one is due.
                    queue.cancel_delayed(key)
                    queue.add(key)

        for write in unseen:
            host.stores.when_seen(write, caught_up)

    def _must_wait(self, key: K, queue: WorkQueue[K], host: Host) -> bool:
        held = self._held_back.get(key)
        if held is None:
            return False
        remaining = held.until - host.clock.monotonic()
        if remaining <= 0:
            return False
        held.is_wanted = True
        queue.add_after(key, remaining)
        return True

    async def _attempt(self, key: K, queue: WorkQueue[K], host: Host, free: asyncio.Semaphore) -> None:
        failed = self._failures.get(key)
        count = failed.count if failed else 0
        attempt = Attempt(
            controller=self.name,
            key=key,
            failures=count,
            first_failure=failed.first if failed else "",
            since=failed.since if failed else None,
            next_delay_s=self._backoff.delay_s(count + 1),
        )
        token = _current.set(attempt)
        try:
            held = self._held_back.pop(key, None)
            if held is not None:
                for write in held.writes:
                    await host.stores.refresh(write)
            async with asyncio.timeout(self._attempt_timeout_s):
                result = await self._reconciler.reconcile(key)
            self._succeeded(key, result, queue)
        except (RetryAfter, ThrottledError) as error:
            delay = error.seconds if isinstance(error, RetryAfter) else (error.retry_after_s or 1.0)
            logger.log(17, "attempt put off", extra=self._about(key, next_s=round(delay, 1), reason=str(error)))
            queue.add_after(key, delay)
        except TerminalError as error:
            self._failures.pop(key, None)
            queue.cancel_delayed(key)
            logger.info("attempt failed, waiting for a change", extra=self._about(key, error=str(error)))
        except Exception as error:  # noqa: BLE001 - any failure of an attempt is the key's backoff, nobody else's
            self._failed(key, error, queue, host)
        finally:
            if attempt.writes:
                self._hold_back(key, attempt.writes, queue, host)
            _current.reset(token)
            self._in_flight.discard(key)
            queue.done(key)
            free.release()

    def _succeeded(self, key: K, result: Result, queue: WorkQueue[K]) -> None:
        self._failures.pop(key, None)
        queue.cancel_delayed(key)
        if result.requeue_after_s is not None:
            queue.add_after(key, result.requeue_after_s)

    def _failed(self, key: K, error: Exception, queue: WorkQueue[K], host: Host) -> None:
        text = str(error) or type(error).__name__
        if isinstance(error, TimeoutError):
            text = f"the attempt took longer than {self._attempt_timeout_s:g} s" if self._attempt_timeout_s else text
        failed = self._failures.get(key)
        if failed is None:
            failed = self._failures[key] = _Failures(0, text, host.clock.now())
        failed.count += 1
        delay = self._backoff.delay_s(failed.count)
        queue.add_after(key, delay)
        logger.warning(
            "attempt failed",
            extra=self._about(key, attempt=failed.count, error=text, next_s=round(delay, 3)),
            exc_info=error if _is_bug(error) else None,
        )

    def _about(self, key: K, **fields: Any) -> dict[str, Any]:
        about = {"controller": self.name, "key": str(key)}
        if subject := current_attempt().subject:
            about["subject"] = subject
        return {**about, **fields}


def _is_bug(error: Exception) -> bool:
    """Whether an error is a fault in code rather than an answer of the world; only then a trace helps."""
    return isinstance(error, TypeError | AttributeError | KeyError | IndexError | NameError | AssertionError)
