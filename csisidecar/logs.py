"""How a log record becomes a line: klog-like text or JSON, with the fields of `extra` and nothing secret.

The library only emits. The command line and a program that embeds it choose a formatter; without one of these, a
line is its constant message alone.
"""

from __future__ import annotations

import json
import logging
import time
from functools import lru_cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, cast

from csisidecar.errors import CsiSidecarError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEEPEST = 5
"""The highest verbosity that a line asks for."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRET_FIELDS = frozenset({"authorization", "password", "secret", "secrets", "token", "kubeconfig_content"})
_STRIPPED = "***stripped***"
_encode = json.JSONEncoder(ensure_ascii=False, default=str).encode


def verbosity_of(level: int) -> int:
    """The verbosity at which a line of this level appears."""
    return min(max(logging.INFO - level, 0), DEEPEST)


class LogFormatter(logging.Formatter):
    """``I1121 21:34:00.123456    1234 lease.py:12] "message" key="value"``; source: kubernetes/klog `klog.go`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it for errors that are not ours."""
        severity = "E" if record.levelno >= logging.ERROR else "W" if record.levelno >= logging.WARNING else "I"
        second, micros = divmod(int(record.created * 1_000_000), 1_000_000)
        parts = [
            f"{severity}{_clock_text(second)}.{micros:06d} {record.process or 0:7d} {record.filename}:{record.lineno}]",
            _quoted(record.getMessage()),
        ]
        if error := _error_of(record):
            parts.append(f"err={_quoted(_error_text(error))}")
        parts.extend(f"{name}={_text(value)}" for name, value in _fields(record))
        line = " ".join(parts)
        if trace := _traceback(self, record):
            line = f"{line}\n{trace}"
        return line


class JSONFormatter(logging.Formatter):
    """One object a line: ts in milliseconds, caller, msg, v or err, then the fields.

    Source: kubernetes/component-base `logs/json/json.go`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object."""
        line: dict[str, Any] = {
            "ts": round(record.created * 1000, 3),
            "caller": f"{_short_path(record.pathname)}:{record.lineno}",
            "msg": record.getMessage(),
        }
        if record.levelno < logging.ERROR:
            line["v"] = verbosity_of(record.levelno)
        if logging.WARNING <= record.levelno < logging.ERROR:
            line["severity"] = "warning"
        if error := _error_of(record):
            line["err"] = _error_text(error)
        line.update((name, _plain(value)) for name, value in _fields(record))
        if trace := _traceback(self, record):
            line["stacktrace"] = trace
        return _encode(line)


@lru_cache(maxsize=2)
def _clock_text(second: int) -> str:
    """A second of the epoch in local time; lines come many to a second."""
    return time.strftime("%m%d %H:%M:%S", time.localtime(second))


@lru_cache(maxsize=512)
def _short_path(pathname: str) -> str:
    """The file and the folder it is in."""
    return "/".join(PurePath(pathname).parts[-2:])


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    for name, value in vars(record).items():
        if name not in _STANDARD and not name.startswith("_"):
            yield name, _STRIPPED if name.lower() in _SECRET_FIELDS else value


def _error_of(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


def _error_text(error: BaseException) -> str:
    return str(error) if isinstance(error, CsiSidecarError) else f"{type(error).__name__}: {error}"


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    error = _error_of(record)
    if record.exc_info is None or error is None or isinstance(error, CsiSidecarError):
        return ""  # the reason says it all
    return formatter.formatException(record.exc_info)


def _plain(value: object) -> Any:
    """`value` as JSON can hold it; CSI messages without their secrets."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return _plain_mapping(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if type(value).__module__.startswith("csisidecar.csi._generated"):
        from csisidecar.csi import redact  # only there when a CSI message is logged at all

        return redact(cast("Any", value))
    return str(value)


def _plain_mapping(value: Mapping[object, object]) -> dict[str, Any]:
    return {str(key): _STRIPPED if str(key).lower() in _SECRET_FIELDS else _plain(item) for key, item in value.items()}


def _text(value: object) -> str:
    plain = _plain(value)
    if isinstance(plain, str):
        return _quoted(plain)
    return _encode(plain)


def _quoted(text: str) -> str:
    return _encode(text)
