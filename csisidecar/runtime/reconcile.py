"""What a reconciler is asked, what it answers, and what it may know about its own attempt."""

from __future__ import annotations

from collections.abc import Hashable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from datetime import datetime

    from csisidecar.kube import Write

K_contra = TypeVar("K_contra", bound=Hashable, contravariant=True)


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt ended without an error."""

    requeue_after_s: float | None = None
    """Look at the key again in so many seconds; None: when something changes."""

    @classmethod
    def again(cls, seconds: float) -> Result:
        """Done for now; look again in `seconds`."""
        return cls(requeue_after_s=seconds)


DONE = Result()
"""Nothing left to do until something changes."""


class Reconciler(Protocol[K_contra]):
    """Makes the world fit one key, judged by the present state.

    Promised to it: one attempt per key at a time; stores synced before the first; its own writes visible in the
    stores; deadline and log context set; cancelled only by stop or abort. Asked of it: idempotent, safe to
    cancel at each `await`, spawns no tasks, mutates no stored object.

    Raising means: TerminalError, wait for a change; RetryAfter or ThrottledError, at that time and counted as
    no failure; anything else, the key's backoff.
    """

    async def reconcile(self, key: K_contra) -> Result:
        """One attempt at `key`."""
        ...


@dataclass(slots=True)
class Attempt:
    """One call of a reconciler, as seen from inside."""

    controller: str
    key: Hashable
    subject: str = ""
    """What people call the object, for the log; a reconciler whose keys are no names sets it."""
    failures: int = 0
    """Failures in a row before this attempt."""
    first_failure: str = ""
    """Text of the first of them."""
    since: datetime | None = None
    """When the first of them happened."""
    next_delay_s: float = 0.0
    """How long the key waits if this attempt fails too."""
    writes: list[Write] = field(default_factory=list)
    """Successful writes of this attempt; the next attempt waits until the stores have seen them."""


_current: ContextVar[Attempt | None] = ContextVar("csisidecar_attempt", default=None)


def current_attempt() -> Attempt:
    """The attempt that the caller runs in; an empty one outside of any."""
    return _current.get() or Attempt(controller="", key="")


def note_write(write: Write) -> None:
    """Remember a write of ours for the attempt that made it; outside of attempts nobody needs to."""
    attempt = _current.get()
    if attempt is not None:
        attempt.writes.append(write)
