"""Every retry policy of the package, by name; the one owner of tenacity.

A policy is an object that is passed in. It answers one question, how long to wait after the n-th failure,
and never sleeps by itself: queues, watchers and connectors keep their own counts.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tenacity import RetryCallState, wait_exponential

if TYPE_CHECKING:
    from tenacity.wait import wait_base


def _after(wait: wait_base, failures: int) -> float:
    state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]  # only attempt_number is read by curves
    state.attempt_number = failures
    return float(wait(state))


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Delay that doubles from `start_s` up to `max_s`, with optional relative jitter.

    Guarantees: the n-th failure in a row (n from 1) waits ``min(max_s, start_s * 2**(n-1))``, times a random
    factor between 1 and ``1 + jitter``. A `max_s` below `start_s` means always `max_s`.
    Source: client-go `util/workqueue/default_rate_limiters.go`, ItemExponentialFailureRateLimiter (no jitter there).
    """

    start_s: float
    max_s: float
    jitter: float = 0.0
    _curve: wait_base = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_curve", wait_exponential(multiplier=self.start_s, max=self.max_s))

    def delay_s(self, failures: int) -> float:
        """Seconds to wait after `failures` failures in a row; 0 failures wait nothing."""
        if failures <= 0:
            return 0.0
        base = _after(self._curve, failures)
        return base * (1 + random.random() * self.jitter) if self.jitter else base  # noqa: S311 - spreading load, not secrecy


WATCH = Backoff(start_s=0.8, max_s=30.0, jitter=1.0)
"""Lists and watches that failed. Source: client-go reflector, 0.8 s doubling to 30 s with up to 100 % jitter."""

DRIVER_CONNECT = Backoff(start_s=0.2, max_s=1.0, jitter=0.2)
"""Connecting to the driver's socket, first and after a loss. Source: csi-lib-utils connection, at most 1 s apart."""

SUPERVISOR = Backoff(start_s=1.0, max_s=60.0, jitter=0.2)
"""Restarting a plugin whose controllers failed."""
