"""Monotonic and wall time; nothing else in the package reads either.

Deadlines, delays and ages use `monotonic`; only what is written for people or into objects uses `now`.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Protocol

EARLY_S = 0.001
"""How much too early still counts as due: a timer may end a little before its time, and waiting for the rest again
would only spin."""


def left_s(due_s: float, now_s: float) -> float:
    """Seconds until `due_s`, both monotonic; 0 when it is due, also for a timer that ended a little early."""
    return due_s - now_s if due_s - now_s > EARLY_S else 0.0


class Clock(Protocol):
    """What every room is handed instead of `time`."""

    def monotonic(self) -> float:
        """Seconds that never jump; the running loop's own time, so virtual loops stay consistent."""
        ...

    def now(self) -> datetime:
        """The wall clock, timezone-aware UTC."""
        ...


class SystemClock:
    """The real clock: the loop's monotonic time and the system's UTC time."""

    def monotonic(self) -> float:
        """The running loop's time, seconds."""
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        """The system's time in UTC."""
        return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """`moment` in UTC to whole seconds, as metav1.Time writes it: ``2026-11-21T19:41:29Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(moment: datetime) -> str:
    """`moment` in UTC to microseconds, as metav1.MicroTime writes it: ``2026-11-21T19:41:29.000123Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
