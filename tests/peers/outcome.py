"""What came of one peer, and the ways of saying that."""

from __future__ import annotations

from dataclasses import dataclass


class NotRunError(Exception):
    """The peer is not here; the message says what would bring it."""


class PeerFailedError(Exception):
    """The peer did not get what it wanted; the message is its last words."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One line of the report."""

    peer: str
    state: str
    """``ran``, ``not run`` or ``FAILED``."""
    text: str
    seconds: float = 0.0

    def __str__(self) -> str:
        took = f" ({self.seconds:.1f} s)" if self.seconds else ""
        return f"{self.peer:<20} {self.state:<8} {self.text}{took}"
