"""What each outcome of an attempt leads to, and when a key is looked at again."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.backoff import Backoff
from csisidecar.clock import SystemClock
from csisidecar.errors import RetryAfter, TerminalError, ThrottledError
from csisidecar.kube import ObjectKey
from csisidecar.kube.objects import KubeObject
from csisidecar.runtime import (
    DONE,
    Change,
    Controller,
    Host,
    Result,
    Stores,
    current_attempt,
    every,
    note_write,
    on_mapped,
    on_self,
    unwrap,
)
from tests.runtime.tiny_api import THINGS, TinyAPI

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

pytestmark = pytest.mark.looptime


class Scripted:
    """Notes when it was called with what, and does as the script says."""

    def __init__(self, act: Callable[[ObjectKey], Awaitable[Result]] | None = None) -> None:
        self.calls: list[tuple[float, str]] = []
        self._act = act

    async def reconcile(self, key: ObjectKey) -> Result:
        self.calls.append((round(asyncio.get_running_loop().time(), 1), str(key)))
        return await self._act(key) if self._act else DONE

    @property
    def times(self) -> list[float]:
        first = self.calls[0][0]
        return [round(moment - first, 1) for moment, _ in self.calls]


class World:
    def __init__(self) -> None:
        self.api = TinyAPI()
        self.clock = SystemClock()
        self.stores = Stores(self.api, clock=self.clock)  # type: ignore[arg-type]
        self.things = self.stores.get(THINGS, KubeObject)
        self.may_start = True

    @asynccontextmanager
    async def running(self, reconciler: Scripted, **settings: Any) -> AsyncIterator[Controller[ObjectKey]]:
        settings.setdefault("triggers", [on_self(self.things)])
        controller: Controller[ObjectKey] = Controller(
            name="test", reconciler=reconciler, backoff=Backoff(start_s=1, max_s=8), **settings
        )
        host = Host(stores=self.stores, clock=self.clock, may_start=lambda: self.may_start)
        async with asyncio.TaskGroup() as group:
            informers = group.create_task(self.stores.run())
            await self.things.synced()
            work = group.create_task(controller.run(host))
            try:
                yield controller
            finally:
                work.cancel()
                informers.cancel()


async def test_every_stored_object_is_offered_at_start_and_each_change_after() -> None:
    world = World()
    world.api.put("a")
    reconciler = Scripted()
    async with world.running(reconciler):
        await asyncio.sleep(1)
        world.api.put("b")
        await asyncio.sleep(1)
    assert [key for _, key in reconciler.calls] == ["a", "b"]


@pytest.mark.parity("R-RETRY-01")
async def test_failures_back_off_and_success_forgets_them() -> None:
    world = World()
    world.api.put("a")
    outcomes = iter([True, True, True, True, True, False, True, True, False])

    async def act(_: ObjectKey) -> Result:
        if next(outcomes, False):
            raise ValueError("no luck")
        return DONE

    reconciler = Scripted(act)
    async with world.running(reconciler):
        await asyncio.sleep(100)
        world.api.put("a")
        await asyncio.sleep(100)
    assert reconciler.times[:6] == [0.0, 1.0, 3.0, 7.0, 15.0, 23.0]
    again = reconciler.times[6:]
    assert [round(moment - again[0], 1) for moment in again] == [0.0, 1.0, 3.0]


async def test_attempt_knows_its_failures_the_first_text_and_the_next_delay() -> None:
    world = World()
    world.api.put("a")
    seen: list[tuple[int, str, float]] = []

    async def act(_: ObjectKey) -> Result:
        attempt = current_attempt()
        seen.append((attempt.failures, attempt.first_failure, attempt.next_delay_s))
        raise ValueError(f"failure {len(seen)}")

    async with world.running(Scripted(act)):
        await asyncio.sleep(5)
    assert seen[:3] == [(0, "", 1.0), (1, "failure 1", 2.0), (2, "failure 1", 4.0)]


@pytest.mark.parametrize(
    "error", [RetryAfter(5), ThrottledError("slow down", status=429, retry_after_s=5)], ids=["RetryAfter", "429"]
)
async def test_put_off_key_waits_as_told_and_counts_no_failure(error: Exception) -> None:
    world = World()
    world.api.put("a")
    failures: list[int] = []

    async def act(_: ObjectKey) -> Result:
        failures.append(current_attempt().failures)
        raise error

    reconciler = Scripted(act)
    async with world.running(reconciler):
        await asyncio.sleep(12)
    assert reconciler.times == [0.0, 5.0, 10.0]
    assert failures == [0, 0, 0]


async def test_terminal_failure_waits_for_a_change() -> None:
    world = World()
    world.api.put("a")

    async def act(_: ObjectKey) -> Result:
        raise TerminalError("malformed")

    reconciler = Scripted(act)
    async with world.running(reconciler):
        await asyncio.sleep(1000)
        assert len(reconciler.calls) == 1
        world.api.put("a")
        await asyncio.sleep(1)
    assert len(reconciler.calls) == 2


async def test_result_again_looks_again_then() -> None:
    world = World()
    world.api.put("a")

    async def act(_: ObjectKey) -> Result:
        return Result.again(30)

    reconciler = Scripted(act)
    async with world.running(reconciler):
        await asyncio.sleep(65)
    assert reconciler.times == [0.0, 30.0, 60.0]


async def test_attempt_that_never_returns_is_cut_and_counts_as_failed() -> None:
    world = World()
    world.api.put("a")

    async def act(_: ObjectKey) -> Result:
        await asyncio.sleep(10_000)
        return DONE

    reconciler = Scripted(act)
    async with world.running(reconciler, attempt_timeout_s=10):
        await asyncio.sleep(25)
    assert reconciler.times == [0.0, 11.0, 23.0]


async def test_one_key_is_never_worked_on_twice_at_a_time_and_workers_bound_the_others() -> None:
    world = World()
    for name in "abcd":
        world.api.put(name)
    busy: set[ObjectKey] = set()
    peak = 0

    async def act(key: ObjectKey) -> Result:
        nonlocal peak
        assert key not in busy
        busy.add(key)
        peak = max(peak, len(busy))
        await asyncio.sleep(3)
        busy.discard(key)
        return DONE

    reconciler = Scripted(act)
    async with world.running(reconciler, workers=2):
        await asyncio.sleep(1)
        for _ in range(5):
            world.api.put("a")
            await asyncio.sleep(0.2)
        await asyncio.sleep(30)
    assert peak == 2
    assert len(reconciler.calls) == 5


@pytest.mark.parity("R-API-08")
async def test_key_waits_until_the_store_has_seen_its_own_write() -> None:
    world = World()
    world.api.put("a")
    versions: list[str] = []

    def tell_the_watch(held: list[Any], written: list[Any]) -> None:
        world.api.log = held + written
        world.api.put("other")

    async def act(key: ObjectKey) -> Result:
        if key.name == "other":
            return DONE
        versions.append(world.things.find("a").resource_version)  # type: ignore[union-attr]
        if len(versions) == 1:
            # The write is answered, but the watch tells it 2 s later; meanwhile the key is offered again.
            held, world.api.log = world.api.log, _Deaf()
            world.api.put("a")
            note_write(world.api.write_of("a"))
            written = world.api.log[:]
            loop = asyncio.get_running_loop()
            loop.call_later(0.5, controller.requeue, key)
            loop.call_later(2, tell_the_watch, held, written)
        return DONE

    reconciler = Scripted(act)
    async with world.running(reconciler) as controller:
        await asyncio.sleep(4)
    assert [call for call in reconciler.calls if call[1] == "a"][1][0] == pytest.approx(2.0, abs=0.2)
    assert versions == ["101", "102"]


async def test_attempt_that_outlasts_the_wait_for_an_own_write_is_not_followed_by_another() -> None:
    world = World()
    world.api.put("a")
    told = world.api.log

    def tell_the_watch() -> None:
        world.api.log = [*told, *world.api.log[:]]
        world.api.put("other")

    async def act(key: ObjectKey) -> Result:
        if key.name == "a" and len(reconciler.calls) == 1:
            world.api.log = _Deaf()
            world.api.put("a")
            note_write(world.api.write_of("a"))
            controller.requeue(key)
            asyncio.get_running_loop().call_later(1, tell_the_watch)
        elif key.name == "a":
            await asyncio.sleep(20)
        return DONE

    reconciler = Scripted(act)
    async with world.running(reconciler) as controller:
        await asyncio.sleep(60)
    assert [moment - reconciler.calls[0][0] for moment, key in reconciler.calls if key == "a"] == [0.0, 1.0]


class _Deaf(list[Any]):
    """A log whose entries nobody is told of yet."""

    def __iter__(self) -> Any:
        return iter(())


async def test_write_that_the_watch_never_shows_is_read_back_after_a_bound() -> None:
    world = World()
    world.api.put("a")
    versions: list[str] = []

    async def act(key: ObjectKey) -> Result:
        versions.append(world.things.find("a").resource_version)  # type: ignore[union-attr]
        if len(versions) == 1:
            world.api.log = _Deaf()
            world.api.put("a")
            note_write(world.api.write_of("a"))
            asyncio.get_running_loop().call_later(0.5, controller.requeue, key)
        return DONE

    reconciler = Scripted(act)
    async with world.running(reconciler) as controller:
        await asyncio.sleep(20)
    assert versions[:2] == ["101", "102"]
    assert reconciler.times[1] == pytest.approx(5.0, abs=0.2)
    assert "get a" in world.api.requests


async def test_paused_controller_starts_nothing_and_resumes_without_backoff() -> None:
    world = World()
    world.api.put("a")

    async def act(_: ObjectKey) -> Result:
        raise ValueError("driver is gone")

    reconciler = Scripted(act)
    async with world.running(reconciler) as controller:
        await asyncio.sleep(4)
        calls = len(reconciler.calls)
        controller.pause()
        await asyncio.sleep(60)
        assert len(reconciler.calls) == calls
        controller.resume(forget_failures=True)
        await asyncio.sleep(0.1)
        assert len(reconciler.calls) == calls + 1


async def test_no_attempt_starts_without_permission_and_none_is_lost() -> None:
    world = World()
    world.api.put("a")
    world.may_start = False
    reconciler = Scripted()
    async with world.running(reconciler):
        await asyncio.sleep(10)
        assert reconciler.calls == []
        world.may_start = True
        await asyncio.sleep(2)
        assert len(reconciler.calls) == 1


async def test_drain_lets_attempts_in_flight_end_and_takes_no_more() -> None:
    world = World()
    world.api.put("a")
    ended: list[str] = []

    async def act(key: ObjectKey) -> Result:
        await asyncio.sleep(5)
        ended.append(str(key))
        return DONE

    controller: Controller[ObjectKey] = Controller(
        name="test", reconciler=Scripted(act), triggers=[on_self(world.things)], backoff=Backoff(start_s=1, max_s=8)
    )
    async with asyncio.TaskGroup() as group:
        informers = group.create_task(world.stores.run())
        await world.things.synced()
        work = group.create_task(controller.run(Host(stores=world.stores, clock=world.clock)))
        await asyncio.sleep(1)
        world.api.put("b")
        controller.drain()
        async with asyncio.timeout(10):
            await asyncio.wait({work})
        informers.cancel()
    assert ended == ["a"]


async def test_drain_before_the_start_lets_nothing_start() -> None:
    world, reconciler = World(), Scripted()
    world.api.put("a")
    async with world.running(reconciler) as controller:
        controller.drain()  # the task exists and has not had its first turn
        await asyncio.sleep(1)
        assert reconciler.calls == []


async def test_failing_predicate_ends_the_controller_and_not_the_informer() -> None:
    world = World()
    world.api.put("a")

    def when(change: Change[KubeObject]) -> bool:
        if change.obj.name == "poison":
            raise RuntimeError("plugin bug")
        return True

    async def play() -> None:
        async with world.running(Scripted(), triggers=[on_self(world.things, when=when)]):
            await asyncio.sleep(1)
            world.api.put("poison")
            await asyncio.sleep(1)

    with pytest.raises(BaseExceptionGroup) as raised:
        await play()
    assert str(unwrap(raised.value)) == "plugin bug"
    assert world.things.find("poison") is not None


async def test_deletions_and_mappings_and_timers_offer_their_keys() -> None:
    world = World()
    world.api.put("a", annotations={"owner": "x"})
    reconciler = Scripted()
    triggers = [
        on_mapped(
            world.things, lambda obj: [ObjectKey("", obj.annotations["owner"])] if obj.annotations else [], deletes=True
        ),
        every(100, lambda: [ObjectKey("", "tick")]),
    ]
    async with world.running(reconciler, triggers=triggers):
        await asyncio.sleep(1)
        world.api.put("a", annotations={"owner": "y"})
        await asyncio.sleep(1)
        world.api.drop("a")
        await asyncio.sleep(200)
    assert [key for _, key in reconciler.calls] == ["x", "tick", "y", "x", "y", "tick", "tick"]


@pytest.mark.parity("R-RETRY-03")
async def test_resync_offers_every_key_again() -> None:
    world = World()
    world.api.put("a")
    reconciler = Scripted()
    async with world.running(reconciler, resync_s=60):
        await asyncio.sleep(130)
    assert reconciler.times == [0.0, 60.0, 120.0]


async def test_fault_in_a_reconciler_is_logged_with_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.api.put("a")

    async def act(_: ObjectKey) -> Result:
        raise KeyError("oops")

    with caplog.at_level(logging.WARNING):
        async with world.running(Scripted(act)):
            await asyncio.sleep(0.5)
    assert [record.exc_info is not None for record in caplog.records if record.message == "attempt failed"] == [True]


async def test_a_failed_attempt_is_logged_with_what_people_call_the_object(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.api.put("a")
    world.api.put("b")

    async def act(key: ObjectKey) -> Result:
        if key.name == "a":
            current_attempt().subject = "default/c1"
        raise ValueError("no luck")

    async with world.running(Scripted(act)):
        await asyncio.sleep(0.5)
    failed = {vars(it)["key"]: vars(it).get("subject") for it in caplog.records if it.message == "attempt failed"}
    assert failed == {"a": "default/c1", "b": None}
