"""Kubernetes quantities ("10Gi", "1e3", "500m") as exact whole bytes, and back.

Source: Kubernetes apimachinery `pkg/api/resource/quantity.go`, the grammar in the comment of `Quantity`.
"""

from __future__ import annotations

import re
from fractions import Fraction
from math import ceil

MAX_BYTES = 2**63 - 1
"""Larger amounts become this one: CSI and Kubernetes count bytes in signed 64 bits."""

_LONGEST = 100
_FORM = re.compile(r"([+-]?)([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE]([+-]?[0-9]{1,6})|([numkMGTPE]|[KMGTPE]i))?")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


def parse(text: str | float) -> int:
    """The amount in whole bytes, fractions of a byte rounded up.

    Raises:
        ValueError: it is no quantity; the message quotes it and says what is expected.
    """
    if isinstance(text, bool):
        raise ValueError(f"{text!r} is no quantity: give a number with an optional suffix, such as 10Gi")  # noqa: TRY004 - one error for every bad amount
    if isinstance(text, int):
        return _bounded(text)
    text = str(text)
    found = _FORM.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        raise ValueError(f"{text[:_LONGEST]!r} is no quantity: give a number with an optional suffix, such as 10Gi")
    sign, number, exponent, suffix = found.groups()
    amount = Fraction(number)
    power = int(exponent) if exponent else _DECIMAL.get(suffix or "", 0)
    if power > _LONGEST and amount:
        amount = Fraction(MAX_BYTES)
    elif power < -2 * _LONGEST:
        amount = Fraction(1 if amount else 0)
    else:
        amount *= Fraction(10) ** power
    amount *= 2 ** _BINARY.get(suffix or "", 0)
    return _bounded(ceil(-amount if sign == "-" else amount))


def to_text(amount_bytes: int) -> str:
    """The canonical form: the largest of Ki to Ei that divides exactly; below 1024 the decimal form, 1000 is ``1k``."""
    if amount_bytes and amount_bytes % 1024 == 0:
        for suffix, power in reversed(_BINARY.items()):
            if amount_bytes % (1 << power) == 0:
                return f"{amount_bytes >> power}{suffix}"
    if abs(amount_bytes) < 1024 and amount_bytes and amount_bytes % 1000 == 0:
        return f"{amount_bytes // 1000}k"
    return str(amount_bytes)


def _bounded(amount: int) -> int:
    return max(-MAX_BYTES, min(amount, MAX_BYTES))
