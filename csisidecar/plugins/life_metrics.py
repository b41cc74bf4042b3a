"""The metrics by which both plugins tell how their objects fare: age of the oldest pending, time to done, outcomes.

Both declare them here, because one name must have one help text, one set of labels and one set of buckets.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from csisidecar.clock import Clock
    from csisidecar.plugin import Metrics

BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 25.0, 50.0, 120.0, 300.0, 600.0)
"""Those of `csi_sidecar_operations_seconds`, so that the two can be laid over each other."""


class LifeMetrics:
    """`csi_sidecar_oldest_pending_seconds`, `csi_sidecar_end_to_end_seconds` and `csi_sidecar_outcomes_total`.

    `op` is what is done to an object, for example ``attach``. Ages are counted by the wall clock from a timestamp
    the API server wrote, so they are as right as the two clocks agree; below 0 they count as 0.
    """

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._end_to_end = metrics.histogram(
            "csi_sidecar_end_to_end_seconds",
            "Seconds from the request in the API to its success, retries included.",
            ["op"],
            buckets=BUCKETS_S,
        )
        self._outcomes = metrics.counter(
            "csi_sidecar_outcomes_total", "Attempts that did something, by how they ended.", ["op", "outcome"]
        )

    def watch_pending(self, op: str, requested_at: Callable[[], Iterable[str | None]]) -> None:
        """Show the age of the oldest of the timestamps that `requested_at` gives at each scrape; 0 for none."""

        def read() -> float:
            return max((age for t in requested_at() if (age := self._age_s(t)) is not None), default=0.0)

        self._metrics.gauge(
            "csi_sidecar_oldest_pending_seconds",
            "Age of the oldest request that has not succeeded yet.",
            ["op"],
            read,
            op,
        )

    def succeeded(self, op: str, requested_at: str | None) -> None:
        """Count a success, and the time since `requested_at`, the API server's timestamp of the request."""
        self._outcomes.inc(op, "success")
        age = self._age_s(requested_at)
        if age is not None:
            self._end_to_end.observe(age, op)

    def failed(self, op: str, outcome: str = "failure") -> None:
        """Count a failed attempt; `outcome` says how it failed where there are ways to tell apart."""
        self._outcomes.inc(op, outcome)

    def late(self, op: str) -> None:
        """Count an object that takes too long; once for each."""
        self._outcomes.inc(op, "late")

    def _age_s(self, timestamp: str | None) -> float | None:
        return age_s(timestamp, self._clock.now())


def age_s(timestamp: str | None, now: datetime) -> float | None:
    """Seconds from an API server's timestamp to `now`, at least 0; None for one that cannot be compared."""
    if not timestamp:
        return None
    try:
        age = (now - datetime.fromisoformat(timestamp)).total_seconds()
    except (ValueError, TypeError):
        # A malformed timestamp, or one without a time zone, cannot be compared; it must not break a scrape.
        return None
    return max(age, 0.0)
