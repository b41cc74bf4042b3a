"""Other processes that manage objects under our name: how they show, and how both sides come to rest.

Nobody can tell whose an object is but by what happens to it. One that should not exist is deleted at once: a left-over,
or a copy by a user. When another about the same item stands there a moment later, somebody lives who wants it: it is
left alone, and deleted again after pauses that grow to an hour, so that the last one of a rival that is gone does not
stay for ever. An object of ours that somebody deleted is made again at once, and when that repeats itself after pauses
that grow to ten minutes. Duplicates need none of this: all who see them keep the eldest.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from csisidecar.backoff import Backoff
from csisidecar.clock import left_s
from csisidecar.kube import CSI_STORAGE_CAPACITIES
from csisidecar.runtime import Regarding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from csisidecar.clock import Clock
    from csisidecar.plugins.provisioner.capacity.catalog import Item, Room
    from csisidecar.runtime import EventRecorder

logger = logging.getLogger(__name__)

MOMENT_S = 120.0
"""Whoever makes an object again so soon after we deleted it wants it; longer than the default poll, at which it may
be noticed. One made later is another story."""
LASTING_S = 300.0
"""An object that lived for so long and is deleted then was not deleted in a fight."""
LEFT_ALONE = Backoff(start_s=900.0, max_s=3600.0)
"""How long an object is left alone that somebody else wants."""
MADE_AGAIN = Backoff(start_s=2.0, max_s=600.0)
"""How long an object is not made again that was deleted again; the first time is free."""
TELL_AGAIN_S = 3600.0
REASON = "ManagedTwice"


@dataclass(slots=True)
class _Cleared:
    """What we deleted about an item that should not exist."""

    uids: set[str] = field(default_factory=set)
    at_s: float = 0.0
    returns: int = 0
    until_s: float = 0.0

    def is_over(self, now_s: float) -> bool:
        """Whether what comes back now is another story."""
        return now_s > max(self.at_s, self.until_s) + MOMENT_S


@dataclass(slots=True)
class _Kept:
    """The object about an item that should exist."""

    uid: str = ""
    since_s: float = 0.0
    losses: int = 0
    until_s: float = 0.0


def about(item: Item) -> dict[str, str]:
    """The item's class and segment, for the log."""
    class_name, _, segment = str(item).partition("@")
    return {"class": class_name, "segment": segment}


class Rivals:
    """Remembers, item by item, what happened to objects that we deleted and that we made.

    Args:
        clock: monotonic time.
        events: for people who look at the objects.
        driver_name: whose objects.
        namespace: where they are.
        manager: the name that no two processes may share.
        remedy: what to change.
    """

    def __init__(
        self, clock: Clock, events: EventRecorder, *, driver_name: str, namespace: str, manager: str, remedy: str
    ) -> None:
        self._clock = clock
        self._events = events
        self._about = {"driver": driver_name}
        self._text = (
            f"another process manages CSIStorageCapacity objects as {manager} in namespace {namespace}: {remedy}"
        )
        self._cleared: dict[Item, _Cleared] = {}
        self._kept: dict[Item, _Kept] = {}
        self._rival_until_s = 0.0
        self._looked_through_s = 0.0
        self._told_s: float | None = None

    def forget(self) -> None:
        """Begin anew: somebody else was at work meanwhile."""
        self._cleared.clear()
        self._kept.clear()
        self._rival_until_s = 0.0

    # ---- items that should not exist

    def pause_before_clearing_s(self, item: Item, rooms: Sequence[Room]) -> float:
        """How long the objects of an item that should not exist are to be left alone; 0 to delete them now."""
        now_s = self._clock.monotonic()
        kept, cleared = self._kept.get(item), self._cleared.get(item)
        known = (kept.uid if kept else "", *(cleared.uids if cleared else ()))
        strangers = [room for room in rooms if room.uid not in known]
        if not strangers:
            return 0.0
        if cleared is None:
            # A rival that is known to live has more than one object; what is nobody's can wait with them.
            return left_s(self._rival_until_s, now_s)
        if pause_s := left_s(cleared.until_s, now_s):
            return pause_s
        if now_s - cleared.at_s > MOMENT_S:
            return 0.0
        cleared.returns += 1
        cleared.until_s = now_s + LEFT_ALONE.delay_s(cleared.returns)
        self._rival_until_s = max(self._rival_until_s, cleared.until_s)
        self._tell(item, strangers[0])
        return cleared.until_s - now_s

    def was_cleared(self, item: Item, room: Room) -> None:
        """An object of an item that should not exist was deleted, by us or by somebody else just before."""
        kept = self._kept.get(item)
        if kept is not None and kept.uid == room.uid:
            # Ours: it was right until now.
            return
        now_s = self._clock.monotonic()
        if now_s > self._looked_through_s + MOMENT_S:
            self._looked_through_s = now_s
            self._cleared = {each: known for each, known in self._cleared.items() if not known.is_over(now_s)}
        cleared = self._cleared.setdefault(item, _Cleared())
        if cleared.is_over(now_s):
            cleared.returns = 0
        if now_s > cleared.at_s + MOMENT_S:
            cleared.uids.clear()
        cleared.uids.add(room.uid)
        cleared.at_s = now_s

    def let_go(self, item: Item) -> None:
        """An item that should not exist has no object any more."""
        self._kept.pop(item, None)

    # ---- items that should exist

    def pause_before_making_s(self, item: Item, room: Room | None) -> float:
        """How long the object of an item that should exist, which is `room` now, is not to be made; mostly 0."""
        now_s = self._clock.monotonic()
        self._cleared.pop(item, None)
        kept = self._kept.get(item)
        if room is not None:
            self.has(item, room.uid)
            return 0.0
        if kept is None:
            return 0.0
        if kept.uid:
            kept.losses = 1 if now_s - kept.since_s > LASTING_S else kept.losses + 1
            kept.uid = ""
            kept.until_s = now_s + MADE_AGAIN.delay_s(kept.losses - 1)
            if kept.losses > 1:
                self._tell(item, None)
        return left_s(kept.until_s, now_s)

    def has(self, item: Item, uid: str) -> None:
        """The item has this object now."""
        kept = self._kept.setdefault(item, _Kept())
        if kept.uid != uid:
            kept.uid, kept.since_s = uid, self._clock.monotonic()

    def _tell(self, item: Item, room: Room | None) -> None:
        """Say it in the log, at most once an hour, and at the object, if somebody else's is there."""
        if room is not None:
            self._events.event(Regarding.of(CSI_STORAGE_CAPACITIES, room), "Warning", REASON, self._text)
        now_s = self._clock.monotonic()
        if self._told_s is not None and now_s - self._told_s < TELL_AGAIN_S:
            return
        self._told_s = now_s
        seen = "an object about it comes back" if room is not None else "our object about it is deleted again and again"
        logger.warning(self._text, extra={**self._about, **about(item), "seen": seen})
