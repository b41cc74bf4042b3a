"""The work queue: each key once, never twice at a time, in order, and at the time it was asked for."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csisidecar.clock import SystemClock
from csisidecar.runtime import QueueClosed, WorkQueue
from tests.virtual import run_virtual

pytestmark = pytest.mark.looptime


def queue() -> WorkQueue[str]:
    return WorkQueue("q", clock=SystemClock())


async def test_key_added_twice_is_given_once() -> None:
    q = queue()
    q.add("a")
    q.add("a")
    q.add("b")
    assert [await q.get(), await q.get()] == ["a", "b"]
    assert len(q) == 0


async def test_key_added_while_worked_on_comes_back_only_when_done() -> None:
    q = queue()
    q.add("a")
    key = await q.get()
    q.add("a")
    q.add("a")
    assert len(q) == 0
    q.done(key)
    assert await q.get() == "a"
    q.done("a")
    assert len(q) == 0


@pytest.mark.parity("R-RETRY-02")
async def test_delayed_key_keeps_its_earliest_time() -> None:
    q = queue()
    q.add_after("a", 10)
    q.add_after("a", 3)
    q.add_after("a", 30)
    began = asyncio.get_running_loop().time()
    assert await q.get() == "a"
    assert asyncio.get_running_loop().time() - began == pytest.approx(3)
    q.done("a")
    await asyncio.sleep(100)
    assert len(q) == 0


async def test_cancelled_delay_never_fires() -> None:
    q = queue()
    q.add_after("a", 3)
    q.cancel_delayed("a")
    q.add_after("b", 5)
    assert await q.get() == "b"
    await asyncio.sleep(10)
    assert len(q) == 0


async def test_closed_queue_wakes_who_waits() -> None:
    q = queue()
    waiter = asyncio.create_task(q.get())
    await asyncio.sleep(1)
    q.close()
    with pytest.raises(QueueClosed):
        await waiter


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("abc"), st.just(0.0)),
        st.tuples(st.just("after"), st.sampled_from("abc"), st.integers(0, 200).map(lambda tenths: tenths / 10)),
        st.tuples(st.just("get"), st.just(""), st.just(0.0)),
        st.tuples(st.just("done"), st.sampled_from("abc"), st.just(0.0)),
        st.tuples(st.just("sleep"), st.just(""), st.integers(0, 100).map(lambda tenths: tenths / 10)),
    ),
    max_size=60,
)


@given(ACTIONS)
@settings(max_examples=150, deadline=None)
def test_queue_behaves_like_its_model(actions: list[tuple[str, str, float]]) -> None:
    async def play() -> None:
        q = queue()
        loop = asyncio.get_running_loop()
        waiting: list[str] = []
        running: dict[str, bool] = {}
        due: dict[str, float] = {}

        def offer(key: str) -> None:
            if key in running:
                running[key] = True
            elif key not in waiting:
                waiting.append(key)

        def pass_time() -> None:
            for key, moment in sorted(due.items(), key=lambda item: item[1]):
                if moment <= loop.time() + 1e-6:
                    del due[key]
                    offer(key)

        for action, key, seconds in actions:
            pass_time()
            if action == "add":
                q.add(key)
                offer(key)
            elif action == "after":
                q.add_after(key, seconds)
                if seconds <= 0:
                    offer(key)
                else:
                    due[key] = min(due.get(key, float("inf")), loop.time() + seconds)
            elif action == "get" and waiting:
                got = await q.get()
                assert got == waiting.pop(0)
                assert got not in running
                running[got] = False
            elif action == "done" and key in running:
                q.done(key)
                if running.pop(key):
                    waiting.append(key)
            elif action == "sleep":
                # Steps in between so that delays fire one by one, as they do for a queue that is watched.
                end = loop.time() + seconds
                while (moments := [m for m in due.values() if m <= end]) and min(moments) > loop.time():
                    await asyncio.sleep(min(moments) - loop.time() + 1e-4)
                    pass_time()
                await asyncio.sleep(max(0.0, end - loop.time()) + 1e-4)
            pass_time()
            assert len(q) == len(waiting)

    run_virtual(play())
