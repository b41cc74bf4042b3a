"""Named checks, asked when somebody looks: each is fine, or says in one line why not.

Whoever can judge a thing registers the check; nothing here polls, keeps history or has an opinion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

RENEWAL_GRACE_S = 20.0
"""A leader is called stuck this long after its lease should have ended. Source: csi-lib-utils `leaderelection`."""


class Leader(Protocol):
    """What the check of a lease needs; `LeaderElector` fits."""

    def last_renewal_age_s(self) -> float:
        """Seconds since the last confirmed renewal, 0 for a process that does not lead."""
        ...


@dataclass(frozen=True, slots=True)
class Report:
    """One look at the checks."""

    is_ok: bool
    lines: tuple[str, ...]
    """``[+]name ok`` or ``[-]name reason``, a check each."""

    @property
    def text(self) -> str:
        """The lines, each with its end."""
        return "".join(f"{line}\n" for line in self.lines)


class Health:
    """The checks of one Sidecar.

    Args:
        leader_election: whether a lease will be held or waited for, known before there is an elector.
    """

    def __init__(self, *, leader_election: bool = False) -> None:
        self._checks: dict[str, tuple[Callable[[], str], Callable[[], str] | None]] = {}
        self._leaders: dict[str, tuple[Leader, float]] = {}
        self.has_election = leader_election

    def add(self, name: str, read: Callable[[], str], *, note: Callable[[], str] | None = None) -> None:
        """Register the check `name`, in place of one of that name.

        Args:
            name: without blanks.
            read: gives why it is not fine, empty when it is; must not raise.
            note: said behind ``ok``, in parentheses.
        """
        self._checks[name] = (read, note)

    def remove(self, name: str) -> None:
        """Forget the check `name`, if there is one."""
        self._checks.pop(name, None)

    def watch_lease(self, name: str, leader: Leader, *, lease_duration_s: float) -> None:
        """Let `election_problem` look at one elector."""
        self.has_election = True
        self._leaders[name] = (leader, lease_duration_s)

    def report(self) -> Report:
        """What every check says now; without any check the process is starting, and not ready."""
        if not self._checks:
            return Report(False, ("[-]startup nothing is ready yet",))
        lines = []
        is_ok = True
        for name, (read, note) in self._checks.items():
            reason = _one_line(read())
            if reason:
                is_ok = False
                lines.append(f"[-]{name} {reason}")
            else:
                remark = _one_line(note()) if note is not None else ""
                lines.append(f"[+]{name} ok ({remark})" if remark else f"[+]{name} ok")
        return Report(is_ok, tuple(lines))

    def election_problem(self) -> str:
        """Why a leader looks stuck, empty for none: it leads, and its renewals ended long ago.

        The name behind the blank is empty for a process with one plugin, as in the Go sidecars.
        """
        for name, (leader, lease_duration_s) in self._leaders.items():
            if leader.last_renewal_age_s() > lease_duration_s + RENEWAL_GRACE_S:
                return f"failed election to renew leadership on lease {name if len(self._leaders) > 1 else ''}"
        return ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
