"""Quantities in the one form a typed server writes them in: ``1024Mi`` is stored as ``1Gi``.

Source: kubernetes/apimachinery, pkg/api/resource/quantity.go (ParseQuantity, CanonicalizeBytes).
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from math import ceil

_QUANTITY = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)(?:([eE])([+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_NAMES = {exponent: name for name, exponent in _DECIMAL.items()}
_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_NANO = Fraction(1, 10**9)
_MAX_EXPONENT = 400
"""Beyond it Python would build huge numbers for a few characters of input."""


@lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """`text` in canonical form.

    Raises:
        ValueError: it is no quantity.
    """
    found = _QUANTITY.fullmatch(text)
    if not found:
        raise ValueError(text)
    sign, digits, _, exponent, suffix = found.groups()
    suffix = suffix or ""
    value = Fraction(digits if digits[-1] != "." else digits[:-1])
    if exponent is not None:
        if abs(int(exponent)) > _MAX_EXPONENT:
            raise ValueError(text)
        value *= Fraction(10) ** int(exponent)
    else:
        value *= 1024 ** _BINARY.index(suffix) if suffix in _BINARY else Fraction(10) ** _DECIMAL[suffix]
    if value % _NANO:
        value = ceil(value / _NANO) * _NANO
    if not value:
        return "0"
    lead = "-" if sign == "-" else ""
    if suffix.endswith("i") and value >= 1024 and value.denominator == 1:
        return lead + _in_binary(int(value))
    return lead + _in_decimal(value, has_exponent=exponent is not None)


def _in_binary(value: int) -> str:
    power = 0
    while value % 1024 == 0 and power < len(_BINARY) - 1:
        value //= 1024
        power += 1
    return f"{value}{_BINARY[power]}"


def _in_decimal(value: Fraction, *, has_exponent: bool) -> str:
    exponent = 0
    while value.denominator != 1:
        value, exponent = value * 1000, exponent - 3
    number = int(value)
    while number % 1000 == 0 and (has_exponent or exponent < _DECIMAL["E"]):
        number, exponent = number // 1000, exponent + 3
    if has_exponent:
        return f"{number}e{exponent}" if exponent else str(number)
    return f"{number}{_DECIMAL_NAMES[exponent]}"
