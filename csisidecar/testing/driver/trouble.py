"""Orders for trouble: what the embedded driver is told to do wrong, by a short text or as an object.

An order is ``METHOD:KIND[=VALUE][xN]``; METHOD is an RPC name or ``*``, N how many calls it is good for (default:
every call). The first order that fits a call is used, and of several the earlier.

| order | what the driver does |
|---|---|
| ``CreateVolume:Internal=disk on fire x2`` | answers with that status and message, twice; does no work |
| ``CreateVolume:delay=3`` | waits 3 s, then works as usual |
| ``CreateVolume:hang`` | never answers; does no work |
| ``CreateVolume:late`` | does the work, then never answers: the caller's deadline passes |
| ``CreateVolume:late=Unavailable`` | does the work, then answers with that status |
| ``CreateVolume:lost`` | does the work, then drops the connection instead of answering |
| ``CreateVolume:cut`` | drops the connection without doing the work |
| ``CreateVolume:empty`` | does the work, answers an empty message (no volume, no id, no name) |
| ``CreateVolume:small`` | answers a capacity of 1 byte less than was asked for |
| ``CreateVolume:nosource`` | leaves the content source out of the answer |
| ``Probe:notready`` | answers "not ready" |
| ``Probe:silent`` | leaves the field out of the answer, which means ready |
| ``ListVolumes:loop`` | hands out the same next_token for ever |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from csisidecar.csi import ControllerBase, IdentityBase, NodeBase
from csisidecar.errors import ConfigError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Iterable

METHODS = frozenset(
    path.rpartition("/")[2] for base in (IdentityBase(), ControllerBase(), NodeBase()) for path in base.__mapping__()
)
"""Every RPC the driver serves."""

KINDS = frozenset(
    {"error", "delay", "hang", "late", "lost", "cut", "empty", "small", "nosource", "notready", "silent", "loop"}
)
_CODES = {code.label.lower(): code for code in StatusCode if code is not StatusCode.OK}
_PLAIN = re.compile(r"(\*|[A-Z]\w+):([A-Za-z_]+?)()(?:\s*x(\d+))?")
_VALUED = re.compile(r"(\*|[A-Z]\w+):([A-Za-z_]+)=(.*?)(?:(?:\s+|(?<=\d))x(\d+))?", re.DOTALL)
"""A count right behind a value must follow a digit or a space, so that "disk max2" stays a message."""


@dataclass(kw_only=True)
class Trouble:
    """One order, as the table above says.

    Attributes:
        kind: one of `KINDS`.
        code: for ``error`` and ``late``; None for a late without answer.
        delay_s: for ``delay``.
        times: calls it is still good for; None for every call.
    """

    method: str
    kind: str
    code: StatusCode | None = None
    message: str = ""
    delay_s: float = 0.0
    times: int | None = None

    def fits(self, method: str) -> bool:
        """Whether it is meant for `method` and not used up."""
        return self.method in {"*", method} and self.times != 0


def parse(text: str) -> Trouble:
    """The order in `text`; raises ConfigError that quotes it and says what is wrong."""
    match = _PLAIN.fullmatch(text.strip()) or _VALUED.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f'trouble "{text}": write METHOD:KIND[=VALUE][xN], for example CreateVolume:Internal=full x2')
    method, kind, value, times = match.groups()
    if method != "*" and method not in METHODS:
        raise ConfigError(f'trouble "{text}": {method} is no RPC of CSI; known: {", ".join(sorted(METHODS))}')
    order = Trouble(method=method, kind=kind, times=int(times) if times else None)
    if code := _code(kind):
        order.kind, order.code, order.message = "error", code, value or "ordered trouble"
    elif kind == "late" and value:
        label, _, message = value.partition("=")
        order.code, order.message = _code(label), message or "ordered trouble, after the work was done"
        if order.code is None:
            raise ConfigError(f'trouble "{text}": {label} is no gRPC status')
    elif kind == "delay":
        if not re.fullmatch(r"\d+(\.\d+)?s?", value or ""):
            raise ConfigError(f'trouble "{text}": delay needs seconds, as in {method}:delay=3')
        order.delay_s = float((value or "").removesuffix("s"))
    elif kind not in KINDS or kind == "error":
        known = ", ".join(sorted(KINDS - {"error"}))
        raise ConfigError(f'trouble "{text}": {kind} is neither a gRPC status nor one of {known}')
    return order


def _code(text: str) -> StatusCode | None:
    return _CODES.get(text.replace("_", "").lower())


class TroubleList:
    """The orders in force."""

    def __init__(self, orders: Iterable[str | Trouble] = ()) -> None:
        self.orders: list[Trouble] = []
        for order in orders:
            self.add(order)

    def add(self, order: str | Trouble) -> None:
        """Puts an order behind those there are."""
        self.orders.append(parse(order) if isinstance(order, str) else order)

    def clear(self) -> None:
        """Forgets every order; calls already caught by one stay caught."""
        self.orders.clear()

    def take(self, method: str) -> Trouble | None:
        """The order for this call, used once; None for an untroubled call."""
        for order in self.orders:
            if order.fits(method):
                if order.times is not None:
                    order.times -= 1
                return order
        return None
