"""The kinds of values flags take, read as the Go sidecars read them.

A Kind is a name for help texts and a pure function from text to value; it raises ValueError with the reason.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_UNIT_NS = {
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,  # micro sign
    "\u03bcs": 10**3,  # Greek letter mu
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")
_INTEGER = re.compile(r"(0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO]?(?:_?[0-7])+|0|[1-9](?:_?[0-9])*)")
_QUANTITY = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(?:[numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?")
_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Kind:
    """How the text of a flag becomes a value.

    Attributes:
        name: shown in help behind the flag; empty for booleans.
        parse: text → value; raises ValueError with the reason.
        unset: the value without a flag and without a default text.
        add: old and new value → both, for kinds that add up when a flag is repeated.
    """

    name: str
    parse: Callable[[str], Any]
    unset: Any = ""
    add: Callable[[Any, Any], Any] | None = None


def parse_bool(text: str) -> bool:
    """Go's strconv.ParseBool."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("give true or false (also 1, t, T, True, TRUE, 0, f, F, False, FALSE)")


def parse_duration_s(text: str) -> float:
    """Seconds of a Go duration such as ``1m30s``; a bare number is refused, except 0.

    Source: Go `time.ParseDuration`.
    """
    sign, body = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if body == "0":
        return 0.0
    total_ns, at = Fraction(0), 0
    while part := _DURATION_PART.match(body, at):
        total_ns += Fraction(part.group(1).removesuffix(".")) * _UNIT_NS[part.group(2)]
        at = part.end()
    if at == 0 or at != len(body):
        if re.fullmatch(r"\d+\.?\d*", body):
            raise ValueError(f"a duration needs a unit: {text}s, {text}m or {text}h")
        raise ValueError("give a duration such as 500ms, 10s, 1m30s or 1.5h")
    if total_ns > _INT64_MAX:
        raise ValueError("longer than 290 years")
    return sign * int(total_ns) / 1e9


def parse_int(text: str) -> int:
    """An integer as Go reads it with base 0: ``10``, ``0xa``, ``0o12``, ``012``, ``0b1010``, ``1_000``."""
    sign, body = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if not _INTEGER.fullmatch(body):
        raise ValueError("give a whole number")
    plain = body.replace("_", "").lower()
    number = int(plain, 8) if re.fullmatch(r"0[0-7]+", plain) else int(plain, 0)
    if number > _INT64_MAX:
        raise ValueError("the number is too large")
    return sign * number


def parse_uint(text: str) -> int:
    """As `parse_int`, without a sign."""
    if text[:1] in {"-", "+"}:
        raise ValueError("give a whole number without a sign")
    return parse_int(text)


def parse_verbosity(text: str) -> int:
    """A log level: decimal, from 0 to 2147483647."""
    if not re.fullmatch(r"\d{1,10}", text) or int(text) >= 2**31:
        raise ValueError("give a whole number from 0 to 2147483647")
    return int(text)


def parse_float(text: str) -> float:
    """A finite number."""
    try:
        number = float(text)
    except ValueError:
        raise ValueError("give a number") from None
    if not math.isfinite(number):
        raise ValueError("give a finite number")
    return number


def parse_quantity(text: str) -> bool:
    """Whether a Kubernetes quantity such as ``2Ki`` is anything but zero; the amount itself is of no use here."""
    if not _QUANTITY.fullmatch(text):
        raise ValueError("give a quantity such as 512, 1k or 2Ki")
    return any(digit in "123456789" for digit in re.split(r"[eE]", text)[0])


def parse_labels(text: str) -> Mapping[str, str]:
    """``key:value,key:value`` → the labels. Source: kubernetes-csi/csi-lib-utils `standardflags`."""
    labels = {}
    for item in text.split(","):
        key, colon, value = item.partition(":")
        if not colon or ":" in value:
            raise ValueError(f"{item!r} is not KEY:VALUE with exactly one colon")
        labels[key] = value
    return labels


def parse_gates(text: str) -> Mapping[str, bool]:
    """``Name=true,Name=false`` → the gates. Source: kubernetes/component-base `featuregate`, featureGate.Set."""
    gates = {}
    for item in text.split(","):
        if not item:
            continue
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"{item!r} is not GATE=true or GATE=false")
        gates[key.strip()] = parse_bool(value.strip())
    return gates


def parse_vmodule(text: str) -> tuple[tuple[str, int], ...]:
    """``pattern=N,pattern=N`` → patterns and levels. Source: kubernetes/klog `klog.go`, moduleSpec.Set."""
    patterns = []
    for item in text.split(","):
        if not item:
            continue
        pattern, equals, level = item.partition("=")
        if not equals or not pattern:
            raise ValueError(f"{item!r} is not PATTERN=N")
        patterns.append((pattern, parse_verbosity(level)))
    return tuple(patterns)


def parse_modes(text: str) -> tuple[str, ...]:
    """``attacher,provisioner`` → the names."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ValueError("name at least one mode")
    return names


def parse_option(text: str) -> tuple[tuple[str, str, str], ...]:
    """``NAME.KEY=VALUE`` → plugin, key and value."""
    path, equals, value = text.partition("=")
    plugin, dot, key = path.partition(".")
    if not (equals and dot and plugin and key):
        raise ValueError("give NAME.KEY=VALUE")
    return ((plugin, key, value),)


def parse_defaults(text: str) -> str:
    """Which set of defaults."""
    if text not in {"user", "upstream"}:
        raise ValueError("give user or upstream")
    return text


def _merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**old, **new}


def _append(old: tuple[Any, ...], new: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*old, *new)


BOOL = Kind(name="", parse=parse_bool, unset=False)
STRING = Kind(name="string", parse=str)
DURATION = Kind(name="duration", parse=parse_duration_s, unset=0.0)
INT = Kind(name="int", parse=parse_int, unset=0)
UINT = Kind(name="uint", parse=parse_uint, unset=0)
FLOAT = Kind(name="float", parse=parse_float, unset=0.0)
VERBOSITY = Kind(name="level", parse=parse_verbosity, unset=0)
QUANTITY = Kind(name="quantity", parse=parse_quantity, unset=False)
LABELS = Kind(name="k:v,...", parse=parse_labels, unset={}, add=_merge)
GATES = Kind(name="gate=bool,...", parse=parse_gates, unset={}, add=_merge)
VMODULE = Kind(name="pattern=N,...", parse=parse_vmodule, unset=(), add=_append)
MODES = Kind(name="mode,...", parse=parse_modes, unset=(), add=_append)
OPTION = Kind(name="name.key=value", parse=parse_option, unset=(), add=_append)
DEFAULTS = Kind(name="user|upstream", parse=parse_defaults, unset="user")
STRINGS = Kind(name="string", parse=lambda text: (text,), unset=(), add=_append)
