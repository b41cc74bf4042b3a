"""Orders for trouble: which requests go wrong, how, how often, and from when on.

An order reads ``VERB:RESOURCE:KIND[=ARG][xCOUNT][@AFTER]``. VERB is get, list, watch, create, update, patch, delete
or ``*``; RESOURCE a plural (``volumeattachments``, with ``/status`` for the subresource alone) or ``*``. COUNT is how
often it strikes (default: until removed). AFTER is how many matching requests (events, for what acts inside a
watch) pass unharmed first, or with an ``s`` how many seconds pass.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING

from csisidecar.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from csisidecar.clock import Clock

_ORDER = re.compile(
    r"^(?P<verb>[a-z*]+):(?P<resource>[a-z0-9.*/-]+):(?P<kind>[a-z-]+)"
    r"(?:=(?P<arg>[0-9.]+))?(?:x(?P<count>\d+))?(?:@(?P<after>\d+(?:\.\d+)?)(?P<unit>s?))?$"
)
VERBS = frozenset({"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "*"})
ANSWER_KINDS = frozenset({"drop", "delay", "halfopen", "conflict", "gone", "throttle", "error", "lost", "stale"})
"""Strike once a request."""
STREAM_KINDS = frozenset({"stall", "cut", "close", "gone-event", "lose", "reorder"})
"""Strike inside an open watch."""
_EXAMPLES = {"delay": "0.5", "error": "500"}
"""Kinds that need an argument, with one."""

_numbers = itertools.count(1)


@dataclass(kw_only=True)
class Trouble:
    """One order. It counts by itself what it has let pass and how often it struck."""

    verb: str
    resource: str
    kind: str
    argument: float | None = None
    """Seconds for delay and throttle, HTTP status for error, revisions back for stale."""
    count: int | None = None
    after: int = 0
    after_s: float = 0.0
    number: int = field(default_factory=lambda: next(_numbers))
    struck: int = 0
    passed: int = 0
    given_at: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Trouble:
        """Read an order.

        Raises:
            ConfigError: it is none; the message shows the form and the kinds.
        """
        found = _ORDER.match(text.strip())
        kinds = ANSWER_KINDS | STREAM_KINDS
        if not found or found["verb"] not in VERBS or found["kind"] not in kinds:
            raise ConfigError(
                f"--trouble {text!r}: want VERB:RESOURCE:KIND[=ARG][xCOUNT][@AFTER] with VERB one of "
                f"{', '.join(sorted(VERBS))} and KIND one of {', '.join(sorted(kinds))}"
            )
        if found["kind"] in _EXAMPLES and found["arg"] is None:
            example = f"{found['kind']}={_EXAMPLES[found['kind']]}"
            raise ConfigError(f"--trouble {text!r}: {found['kind']} needs an argument, for example {example}")
        seconds = found["unit"] == "s"
        after = found["after"] or "0"
        if not seconds and not after.isdigit():
            raise ConfigError(f"--trouble {text!r}: @{after} is neither a count nor seconds (write @{after}s)")
        return cls(
            verb=found["verb"],
            resource=found["resource"],
            kind=found["kind"],
            argument=float(found["arg"]) if found["arg"] else None,
            count=int(found["count"]) if found["count"] else None,
            after=0 if seconds else int(after),
            after_s=float(after) if seconds else 0.0,
        )

    def __str__(self) -> str:
        argument = "" if self.argument is None else f"={self.argument:g}"
        count = "" if self.count is None else f"x{self.count}"
        after = f"@{self.after_s:g}s" if self.after_s else f"@{self.after}" if self.after else ""
        return f"{self.verb}:{self.resource}:{self.kind}{argument}{count}{after}"

    @property
    def is_spent(self) -> bool:
        """Whether it struck as often as it should."""
        return self.count is not None and self.struck >= self.count

    def concerns(self, verb: str, resource: str) -> bool:
        """Whether a request with this verb for ``plural.group/subresource`` is meant."""
        if self.verb not in {"*", verb} and not (self.verb == "delete" and verb == "deletecollection"):
            return False
        if self.resource == "*":
            return True
        plural, slash, subresource = resource.partition("/")
        wanted, wanted_slash, wanted_sub = self.resource.partition("/")
        if wanted_slash and (not slash or wanted_sub != subresource):
            return False
        return wanted in {plural, plural.partition(".")[0], "*"}


def _nothing() -> None:
    return


class Troubles:
    """The orders in force on one server.

    Args:
        clock: for orders that begin later.
        orders: those of the start.
        resources: names of resources an order may have; empty: any.

    Raises:
        ConfigError: the text of an order is none.
    """

    def __init__(self, clock: Clock, orders: Iterable[str | Trouble] = (), *, resources: Collection[str] = ()) -> None:
        self._clock = clock
        self._resources = resources
        self._orders: list[Trouble] = []
        self.on_change: Callable[[], None] = _nothing
        """Called after every change of the orders."""
        for order in orders:
            self._orders.append(self.parse(order) if isinstance(order, str) else order)

    def parse(self, text: str) -> Trouble:
        """The order in `text`, for a resource there is.

        Raises:
            ConfigError: it is none, or no resource has that name; the nearest one is told.
        """
        trouble = Trouble.parse(text)
        wanted = trouble.resource.partition("/")[0]
        if self._resources and wanted != "*" and wanted not in self._resources:
            close = get_close_matches(wanted, self._resources, n=1)
            hint = f"; did you mean {close[0]}?" if close else "; give a plural, as in persistentvolumes"
            raise ConfigError(f"--trouble {text!r}: {wanted} is no resource of this server{hint}")
        return trouble

    def begin(self) -> None:
        """Count the seconds of ``@SECONDSs`` from now on for the orders given at construction."""
        for trouble in self._orders:
            self._start(trouble)

    def _start(self, trouble: Trouble) -> None:
        trouble.given_at = self._clock.monotonic()
        if trouble.after_s:
            asyncio.get_running_loop().call_later(trouble.after_s, self._ring)

    def _ring(self) -> None:
        self.on_change()

    def add(self, order: str | Trouble) -> Trouble:
        """Put an order in force, from now on also for watches that are open.

        Raises:
            ConfigError: the text is no order.
        """
        trouble = self.parse(order) if isinstance(order, str) else order
        self._start(trouble)
        self._orders.append(trouble)
        self.on_change()
        return trouble

    def remove(self, trouble: Trouble) -> None:
        """Take one order back; no error if it is gone already."""
        if trouble in self._orders:
            self._orders.remove(trouble)
            self.on_change()

    def clear(self) -> None:
        """Take all orders back."""
        self._orders.clear()
        self.on_change()

    def __iter__(self) -> Iterator[Trouble]:
        return iter(list(self._orders))

    def __len__(self) -> int:
        return len(self._orders)

    def strike(self, verb: str, resource: str, kinds: frozenset[str]) -> Trouble | None:
        """The order that hits this request or event now, counted as struck; None if all is well.

        A spent order stays listed until removed, so that its counts can be read.
        """
        for trouble in self._orders:
            if trouble.kind not in kinds or trouble.is_spent or not trouble.concerns(verb, resource):
                continue
            if trouble.after_s and self._clock.monotonic() - trouble.given_at < trouble.after_s:
                continue
            if trouble.passed < trouble.after:
                trouble.passed += 1
                continue
            trouble.struck += 1
            return trouble
        return None

    def holds(self, trouble: Trouble) -> bool:
        """Whether an order is still in force."""
        return trouble in self._orders
