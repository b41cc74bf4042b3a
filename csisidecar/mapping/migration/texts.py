"""Texts inside messages as Go prints them: quoted strings, and why a text is no number.

Source: Go `strconv`, Quote and Atoi.
"""

from __future__ import annotations

import re

from csisidecar.errors import UnusableObjectError

_DECIMAL = re.compile(r"[+-]?[0-9]+")
_SHORT = {"\\": "\\\\", '"': '\\"', "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_SHORT["\v"] = "\\v"


def quote(text: str) -> str:
    """`text` in double quotes, with escapes for what cannot be printed."""
    return '"' + "".join(_SHORT.get(c) or (c if c.isprintable() else _escape(ord(c))) for c in text) + '"'


def _escape(code: int) -> str:
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def read_partition(text: str, *, refusal: str) -> int:
    """The partition number that `text` is.

    Args:
        text: value of the volume attribute `partition`.
        refusal: how the message begins.

    Raises:
        UnusableObjectError: not a decimal number, or more than 64 bits.
    """
    reason = ""
    if not _DECIMAL.fullmatch(text):
        reason = "invalid syntax"
    elif not -(2**63) <= int(text) < 2**63:
        reason = "value out of range"
    if reason:
        raise UnusableObjectError(f"{refusal} {text} to integer: strconv.Atoi: parsing {quote(text)}: {reason}")
    # The in-tree field has 32 bits; what does not fit is cut off, as upstream does.
    return (int(text) + 2**31) % 2**32 - 2**31
