"""The ceiling for one mode's API requests: a token bucket that serves in the order of arrival."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from csisidecar.clock import Clock
    from csisidecar.config import RateConfig


class RateLimiter:
    """At most `burst` requests at once and `qps` a second in the long run; without a ceiling it never waits.

    Guarantees: first come, first served; a waiter that is cancelled gives its turn back.
    """

    def __init__(self, rate: RateConfig, clock: Clock) -> None:
        self._interval_s = 1.0 / rate.qps if rate.qps > 0 else 0.0
        self._room_s = self._interval_s * max(rate.burst, 1)
        self._clock = clock
        self._booked_until: float | None = None

    async def wait(self) -> None:
        """Return when the next request may go out."""
        if not self._interval_s:
            return
        now = self._clock.monotonic()
        # The bucket as one number: the time up to which its tokens are given away, never more than full.
        earliest = now - self._room_s
        booked = earliest if self._booked_until is None else max(self._booked_until, earliest)
        self._booked_until = booked + self._interval_s
        delay_s = self._booked_until - now
        if delay_s <= 0:
            return
        try:
            await asyncio.sleep(delay_s)
        except asyncio.CancelledError:
            self._booked_until -= self._interval_s
            raise


def build_limiter(rate: RateConfig, clock: Clock) -> RateLimiter | None:
    """A limiter for `rate`, or None when it sets no ceiling."""
    return RateLimiter(rate, clock) if rate.qps > 0 else None
