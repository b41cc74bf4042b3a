"""Bodies in the API's protobuf form → JSON values. Typed Go clients, kubectl among them, send some writes that way.

Only reading: answers are always JSON. Custom resources have no protobuf form, on a real server either.

Source: kubernetes/apimachinery, pkg/runtime/serializer/protobuf; Protocol Buffers documentation, "Encoding".
"""

from __future__ import annotations

import base64
import json
import struct
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from csisidecar.testing.apiserver.protobuf_data import NUMBERS
from csisidecar.testing.apiserver.schema import STRUCTS, FieldType, StructType

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"k8s\x00"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_DEPTH = 64
Wire = int | bytes


def _parse() -> dict[str, dict[int, tuple[str, str]]]:
    """Type name → field number → (json name, "") or ("", name of the message shown as the parent's own)."""
    types: dict[str, dict[int, tuple[str, str]]] = {}
    fields: dict[int, tuple[str, str]] = {}
    for line in NUMBERS.strip().splitlines():
        words = line.split()
        if not line.startswith("  "):
            fields = types[words.pop(0)] = {}
        for word in words:
            number, equals, name = word.partition("=")
            if equals:
                fields[int(number)] = (name, "")
            else:
                number, _, name = word.partition(">")
                fields[int(number)] = ("", name)
    return types


_TYPES = _parse()


def decode(raw: bytes, root: StructType) -> dict[str, Any]:
    """The object in a protobuf body.

    Raises:
        ValueError: the bytes are no such message.
    """
    if not raw.startswith(MAGIC):
        raise ValueError("the body does not begin with the mark of the protobuf form")
    envelope = dict(_fields(raw[len(MAGIC) :]))
    kind = dict(_fields(_as_bytes(envelope.get(1, b""))))
    content = _message(_as_bytes(envelope.get(2, b"")), root.name, root, 0)
    for number, name in ((1, "apiVersion"), (2, "kind")):
        text = _as_bytes(kind.get(number, b"")).decode()
        if text:
            content[name] = text
    return content


def _fields(raw: bytes) -> Iterator[tuple[int, Wire]]:
    position, end = 0, len(raw)
    while position < end:
        tag, position = _varint(raw, position)
        number, wire = tag >> 3, tag & 7
        value: Wire
        if wire == _VARINT:
            value, position = _varint(raw, position)
        elif wire in {_FIXED64, _FIXED32}:
            size = 8 if wire == _FIXED64 else 4
            value, position = raw[position : position + size], position + size
        elif wire == _BYTES:
            size, position = _varint(raw, position)
            value, position = raw[position : position + size], position + size
        else:
            raise ValueError(f"wire type {wire} is not known")
        if position > end:
            raise ValueError("the message ends too early")
        yield number, value


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(raw) or shift > 63:
            raise ValueError("a number ends too early")
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _message(raw: bytes, numbers: str, owner: StructType, depth: int) -> dict[str, Any]:
    if depth > _MAX_DEPTH:
        raise ValueError("the message is nested too deeply")
    content: dict[str, Any] = {}
    known = _TYPES.get(numbers, {})
    for number, wire in _fields(raw):
        name, inline = known.get(number, ("", ""))
        if inline:
            content.update(_message(_as_bytes(wire), inline, owner, depth + 1))
            continue
        field = owner.fields.get(name)
        if field is None:
            continue
        if field.shape == "list":
            content.setdefault(name, []).append(_value(wire, field, depth))
        elif field.shape == "map":
            entry = dict(_fields(_as_bytes(wire)))
            key = _as_bytes(entry.get(1, b"")).decode()
            content.setdefault(name, {})[key] = _value(entry.get(2, b""), field, depth)
        else:
            content[name] = _value(wire, field, depth)
    return content


def _value(wire: Wire, field: FieldType, depth: int) -> Any:
    if field.has_structs:
        return _message(_as_bytes(wire), field.item, STRUCTS[field.item], depth + 1)
    return _scalar(wire, field.item)


def _scalar(wire: Wire, kind: str) -> Any:
    if kind == "i":
        return _signed(wire)
    if kind == "b":
        return bool(wire)
    if kind == "f":
        return struct.unpack("<d", _as_bytes(wire))[0]
    raw = _as_bytes(wire)
    if kind == "s":
        return raw.decode()
    if kind == "B":
        return base64.b64encode(raw).decode()
    parts = dict(_fields(raw))
    if kind == "q":
        return _as_bytes(parts.get(1, b"0")).decode()
    if kind in "tu":
        return _time(_signed(parts.get(1, 0)), _signed(parts.get(2, 0)), kind)
    if kind == "I":
        return _as_bytes(parts.get(3, b"")).decode() if parts.get(1) else _signed(parts.get(2, 0))
    return json.loads(_as_bytes(parts.get(1, b"null")) or b"null")


def _time(seconds: int, nanos: int, kind: str) -> str | None:
    try:
        moment = _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)
    except OverflowError:
        # The zero time of Go, year 1, is how an absent time is sent.
        return None
    if moment.year <= 1:
        return None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if kind == "u" else "%Y-%m-%dT%H:%M:%SZ")


def _signed(wire: Wire) -> int:
    if not isinstance(wire, int):
        raise ValueError("a number was expected")  # noqa: TRY004 - the sender's fault, as every ValueError here
    return wire - (1 << 64) if wire >= 1 << 63 else wire


def _as_bytes(wire: Wire) -> bytes:
    if isinstance(wire, int):
        raise ValueError("bytes were expected")  # noqa: TRY004 - as above
    return wire
