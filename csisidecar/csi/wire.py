"""Protobuf's wire format by hand, for the two things generated code does badly; `client` is the one caller.

Volume ids and published nodes are read straight out of a ListVolumes answer: decoding 10,000 entries into message
objects holds the loop for more than a second, walking the bytes takes a few hundredths and yields in between. And a
message that was cut short is told from a whole one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

YIELD_EVERY = 250
"""Entries between two yields to the loop; about 2 ms of work."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, kw_only=True)
class PublishedPage:
    """One page: volume handle → node ids (entries with a volume and a status only), and where to go on."""

    nodes_by_handle: dict[str, frozenset[str]]
    next_token: str

    def __str__(self) -> str:
        return f"{len(self.nodes_by_handle)} volumes with a status, next_token {self.next_token!r}"


async def read_page(raw: bytes) -> PublishedPage:
    """The page in `raw`, an encoded ListVolumesResponse; raises ValueError if the bytes are none."""
    nodes_by_handle: dict[str, frozenset[str]] = {}
    next_token = ""
    for count, (number, value) in enumerate(_fields(raw), 1):
        if number == 1:
            entry = _read_entry(value)
            if entry is not None:
                nodes_by_handle[entry[0]] = entry[1]
        elif number == 2:
            next_token = value.decode()
        if count % YIELD_EVERY == 0:
            await asyncio.sleep(0)
    return PublishedPage(nodes_by_handle=nodes_by_handle, next_token=next_token)


def ensure_whole(raw: bytes) -> None:
    """Raises ValueError if the bytes are no whole message at their top level; betterproto2 takes cut ones as well."""
    for _ in _fields(raw):
        pass


def _read_entry(raw: bytes) -> tuple[str, frozenset[str]] | None:
    handle: str | None = None
    nodes: frozenset[str] | None = None
    for number, value in _fields(raw):
        if number == 1:
            handle = next((item.decode() for tag, item in _fields(value) if tag == 2), "")
        elif number == 2:
            nodes = frozenset(item.decode() for tag, item in _fields(value) if tag == 1)
    return None if handle is None or nodes is None else (handle, nodes)


def _fields(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of each length-delimited field of `raw`; the other wire types are stepped over."""
    position, end = 0, len(raw)
    while position < end:
        tag, position = _varint(raw, position)
        kind = tag & 7
        if kind == _BYTES:
            length, position = _varint(raw, position)
            if position + length > end:
                raise ValueError("unexpected EOF")
            yield tag >> 3, raw[position : position + length]
            position += length
        elif kind == _VARINT:
            _, position = _varint(raw, position)
        elif kind in {_FIXED64, _FIXED32}:
            position += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"invalid wire type {kind}")
    if position > end:
        raise ValueError("unexpected EOF")


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(raw) or shift > 63:
            raise ValueError("unexpected EOF" if position >= len(raw) else "variable length integer overflow")
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
