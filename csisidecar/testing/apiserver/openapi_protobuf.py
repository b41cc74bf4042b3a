"""The OpenAPI 2 document in protobuf form: kubectl asks for it in no other, to validate `kind: List` on its own side.

Field numbers are those of google/gnostic-models, openapiv2/OpenAPIv2.proto. Extensions are told as YAML there; JSON is
YAML.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MEDIA_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}


def is_asked_for(accept: str) -> bool:
    """Whether an Accept header wants the protobuf form before any other that is served."""
    first = next((part for part in accept.split(",") if "json" in part or "*/*" in part or "proto-openapi" in part), "")
    return "proto-openapi.spec.v2" in first


def encode(document: Mapping[str, Any]) -> bytes:
    """The bytes of a document as `openapi.v2` makes it; nothing that it does not make is told."""
    info = _text(1, document["info"]["title"]) + _text(2, document["info"]["version"])
    paths = (_message(2, _named(path, _path(found))) for path, found in document["paths"].items())
    definitions = (_message(1, _named(name, _schema(found))) for name, found in document["definitions"].items())
    return b"".join(
        (
            _text(1, document["swagger"]),
            _message(2, info),
            _message(8, b"".join(paths)),
            _message(9, b"".join(definitions)),
        )
    )


def _path(item: Mapping[str, Any]) -> bytes:
    return b"".join(_message(_METHODS[method], _operation(found)) for method, found in item.items())


def _operation(operation: Mapping[str, Any]) -> bytes:
    answers = (
        # A response in place, not a reference.
        _message(1, _named(code, _message(1, _text(1, answer["description"]))))
        for code, answer in operation["responses"].items()
    )
    return b"".join(
        (
            _text(5, operation["operationId"]),
            *(_message(8, _query_parameter(each)) for each in operation["parameters"]),
            _message(9, b"".join(answers)),
            *_extensions(13, operation),
        )
    )


def _query_parameter(parameter: Mapping[str, Any]) -> bytes:
    shown = _text(2, parameter["in"]) + _text(4, parameter["name"]) + _text(5, parameter["type"])
    # A parameter in place, that is no body, and of the query.
    return _message(1, _message(2, _message(3, shown)))


def _schema(schema: Mapping[str, Any]) -> bytes:
    parts = []
    if "$ref" in schema:
        parts.append(_text(1, schema["$ref"]))
    if "format" in schema:
        parts.append(_text(2, schema["format"]))
    if "additionalProperties" in schema:
        parts.append(_message(21, _message(1, _schema(schema["additionalProperties"]))))
    if "type" in schema:
        parts.append(_message(22, _text(1, schema["type"])))
    if "items" in schema:
        parts.append(_message(23, _message(1, _schema(schema["items"]))))
    if "properties" in schema:
        properties = (_message(1, _named(name, _schema(found))) for name, found in schema["properties"].items())
        parts.append(_message(25, b"".join(properties)))
    return b"".join((*parts, *_extensions(31, schema)))


def _extensions(number: int, content: Mapping[str, Any]) -> Iterable[bytes]:
    for name, value in content.items():
        if name.startswith("x-"):
            yield _message(number, _named(name, _text(2, json.dumps(value))))


def _named(name: str, value: bytes) -> bytes:
    return _text(1, name) + _message(2, value)


def _text(number: int, text: str) -> bytes:
    return _message(number, text.encode())


def _message(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
