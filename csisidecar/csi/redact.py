"""A CSI message as one line of text that may be logged: fields the specification marks `csi_secret` are blanked.

Pure. `repr()` and `to_dict()` of a message print secrets, so nothing is logged but through `redact`.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from datetime import date, datetime, timedelta
from enum import IntEnum
from typing import Any, cast

import betterproto2

from csisidecar.csi._generated.secret_fields import SECRET_FIELDS

STRIPPED = "***stripped***"
"""What stands in the place of a secret field, whole: not even the names of its keys are shown. As upstream."""


def redact(message: betterproto2.Message, *, limit: int = -1) -> str:
    """`message` as one-line JSON: proto field names, keys sorted, only set fields, enums by name, bytes in base64.

    Args:
        message: any message of the door.
        limit: longest result in bytes; a longer one is cut and says so. 0 or less means no limit.

    Source: csi-lib-utils `protosanitizer` and `connection.LogGRPC`.
    """
    text = json.dumps(_plain(message), sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return cut(text.encode(errors="backslashreplace").decode(), limit)  # no text that a log stream cannot encode


def cut(text: str, limit: int) -> str:
    """`text`, or its first `limit` bytes and a remark; a character is never cut in two."""
    raw = text.encode()
    if limit <= 0 or len(raw) <= limit:
        return text
    return f"{raw[:limit].decode(errors='ignore')} [response body too large, log capped to {limit} chars]"


def _plain(message: betterproto2.Message) -> dict[str, Any]:
    secret = SECRET_FIELDS.get(type(message).__name__, ())
    # A name that is a Python keyword carries a trailing underscore in the class, not on the wire.
    return {
        name.rstrip("_"): STRIPPED if name in secret else _value(getattr(message, name))
        for name in (field.name for field in dataclasses.fields(cast("Any", message)))
        if not name.startswith("_") and message.is_set(name)
    }


def _value(value: Any) -> Any:
    if isinstance(value, betterproto2.Message):
        return _plain(value)
    if isinstance(value, list):
        return [_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _value(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, IntEnum):
        return value.name or int(value)
    if isinstance(value, datetime | date | timedelta):
        return value.isoformat() if isinstance(value, date) else value.total_seconds()
    return value
