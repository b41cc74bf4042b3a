"""Event text of a failure that is not the first: what came first, how often, since when, and when again; pure.

The first true error must not be hidden by what follows from it, such as ``Aborted: operation already exists``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from csisidecar.clock import rfc3339
from csisidecar.runtime import clip

if TYPE_CHECKING:
    from csisidecar.runtime import Attempt

FIRST_LIMIT = 300
"""Longest quoted first error, characters; an Event is read in one line of a terminal."""

MESSAGE_BYTES = 1024
"""Longest message of an Event. Source: kubernetes `pkg/apis/core/validation/events.go`."""


def with_history(text: str, attempt: Attempt, first: str = "") -> str:
    """`text`, with the attempt's history after it from the second failure in a row on.

    A first error that says the same is left out. Where both do not fit, the end of `text` goes.

    Args:
        text: what went wrong now.
        attempt: how often, since when and when again.
        first: the first error; empty: the attempt's own.
    """
    if attempt.failures == 0 or attempt.since is None:
        return text
    first = first or attempt.first_failure
    came_first = "" if first == text else f"first: {_shorten(first)}; "
    history = (
        f" ({came_first}{attempt.failures + 1} attempts since {rfc3339(attempt.since)};"
        f" next in about {short_duration(attempt.next_delay_s)})"
    )
    left_bytes = MESSAGE_BYTES - len(history.encode())
    return clip(text, left_bytes) + history


def _shorten(text: str) -> str:
    return text if len(text) <= FIRST_LIMIT else text[: FIRST_LIMIT - 1] + "…"


def short_duration(seconds: float) -> str:
    """Whole seconds as Go prints a duration: ``4s``, ``1m4s``, ``5m0s``; below a second in milliseconds."""
    if 0 < seconds < 1:
        return f"{max(round(seconds * 1000), 1)}ms"
    total = round(seconds)
    hours, rest = divmod(total, 3600)
    minutes, secs = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{secs}s"
    return f"{minutes}m{secs}s" if minutes else f"{secs}s"
