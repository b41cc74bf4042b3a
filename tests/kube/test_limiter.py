"""The request ceiling, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from csisidecar.clock import SystemClock
from csisidecar.config import RateConfig
from csisidecar.kube import RateLimiter, build_limiter

pytestmark = pytest.mark.looptime


def limiter(qps: float, burst: int) -> RateLimiter:
    return RateLimiter(RateConfig(qps=qps, burst=burst), SystemClock())


async def passes(limit: RateLimiter, count: int) -> list[float]:
    """When each of `count` requests that arrive at once may go, in the order of arrival."""
    loop = asyncio.get_running_loop()
    began, times = loop.time(), [0.0] * count

    async def one(index: int) -> None:
        await limit.wait()
        times[index] = loop.time() - began

    async with asyncio.TaskGroup() as group:
        for index in range(count):
            group.create_task(one(index))
    return times


async def test_burst_goes_at_once_and_the_rest_in_order_at_the_rate() -> None:
    assert await passes(limiter(5, 3), 7) == pytest.approx([0, 0, 0, 0.2, 0.4, 0.6, 0.8])


async def test_bucket_fills_up_again_but_never_over() -> None:
    limit = limiter(2, 4)
    await passes(limit, 4)
    await asyncio.sleep(1000)
    assert await passes(limit, 6) == pytest.approx([0, 0, 0, 0, 0.5, 1.0])


async def test_cancelled_waiter_gives_its_turn_back() -> None:
    limit = limiter(1, 1)
    await limit.wait()
    waiters = [asyncio.create_task(limit.wait()) for _ in range(3)]
    await asyncio.sleep(0.1)
    for waiter in waiters:
        waiter.cancel()
    await asyncio.wait(waiters)
    assert await passes(limit, 1) == pytest.approx([0.9])


async def test_no_ceiling_means_no_limiter_and_no_waiting() -> None:
    assert build_limiter(RateConfig(), SystemClock()) is None
    assert build_limiter(RateConfig(qps=5, burst=10), SystemClock()) is not None
    assert await passes(RateLimiter(RateConfig(), SystemClock()), 1000) == [0.0] * 1000
