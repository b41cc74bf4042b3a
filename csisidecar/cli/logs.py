"""Log set-up of the command line: klog-like text or JSON on stderr, verbosity, fields of `extra`.

The library itself only emits; nothing outside the command line configures logging.
"""

from __future__ import annotations

import fnmatch
import json
import logging
import sys
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, cast

from csisidecar.cli.exits import SettingError
from csisidecar.errors import CsiSidecarError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from csisidecar.cli.values import Values

_LIBRARIES = ("aiohttp", "asyncio", "grpclib", "h2", "hpack", "kubernetes_asyncio", "urllib3")
_LIBRARY_VERBOSITY = 6
_DEEPEST = 5
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRET_FIELDS = frozenset({"authorization", "password", "secret", "secrets", "token", "kubeconfig_content"})
_STRIPPED = "***stripped***"
_encode = json.JSONEncoder(ensure_ascii=False, default=str).encode


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """How to log.

    Attributes:
        verbosity: ``-v``.
        json: whether lines are JSON objects.
        vmodule: file patterns and their verbosity; they only ever add lines.
    """

    verbosity: int = 0
    json: bool = False
    vmodule: tuple[tuple[str, int], ...] = ()


def settings_from(values: Values) -> LogSettings:
    """The log settings of a command line.

    Raises:
        SettingError: a combination that the Go sidecars refuse, too.

    Source: kubernetes/component-base `logs/api/v1/options.go`, Validate.
    """
    log_format = values.get("logging-format")
    if log_format not in {"text", "json"}:
        raise SettingError(f"--logging-format={log_format} is unknown: give text or json")
    vmodule = values.get("vmodule")
    if vmodule and log_format == "json":
        raise SettingError("--vmodule works with --logging-format=text only")
    if values.get("log-flush-frequency") <= 0:
        raise SettingError("--log-flush-frequency must be above 0")
    for form in ("text", "json"):
        for name in (f"log-{form}-split-stream", f"log-{form}-info-buffer-size"):
            if values.get(name):
                raise SettingError(f"--{name} is refused: its feature gate LoggingAlphaOptions cannot be turned on")
    return LogSettings(verbosity=values.get("v"), json=log_format == "json", vmodule=vmodule)


def level_of(verbosity: int) -> int:
    """The lowest stdlib level shown at this verbosity: 0 → INFO (20), 1 → 19, … 4 → 16, 5 and more → DEBUG."""
    return logging.INFO - verbosity if verbosity < _DEEPEST else logging.DEBUG


def verbosity_of(level: int) -> int:
    """The verbosity at which a line of this level appears."""
    return min(max(logging.INFO - level, 0), _DEEPEST)


def set_up(settings: LogSettings) -> None:
    """Send the log of the whole process to stderr, in the chosen form; replaces what was set up before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter() if settings.json else TextFormatter())
    threshold = level_of(settings.verbosity)
    lowest = min([threshold, *(level_of(level) for _, level in settings.vmodule)])
    if lowest != threshold:
        handler.addFilter(_PerFile(threshold, settings.vmodule))
    logging.basicConfig(handlers=[handler], level=lowest, force=True)
    for name in _LIBRARIES:
        quiet = settings.verbosity < _LIBRARY_VERBOSITY
        logging.getLogger(name).setLevel(logging.WARNING if quiet else logging.NOTSET)
    logging.captureWarnings(True)


class _PerFile(logging.Filter):
    """Lets a line pass at the threshold, or at the verbosity a pattern gives its file.

    Source: kubernetes/klog `klog.go`, setV: a pattern with a slash is matched against the whole path,
    any other against the file's name without its ending.
    """

    def __init__(self, threshold: int, patterns: tuple[tuple[str, int], ...]) -> None:
        super().__init__()
        self._threshold = threshold
        self._patterns = patterns
        self._known: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= self._threshold:
            return True
        level = self._known.get(record.pathname)
        if level is None:
            level = self._known[record.pathname] = self._level(record.pathname)
        return record.levelno >= level

    def _level(self, pathname: str) -> int:
        path = PurePath(pathname).with_suffix("")
        for pattern, verbosity in self._patterns:
            target = path.as_posix() if "/" in pattern else path.name
            if fnmatch.fnmatchcase(target, pattern) or ("/" in pattern and fnmatch.fnmatchcase(target, f"*/{pattern}")):
                return min(self._threshold, level_of(verbosity))
        return self._threshold


class TextFormatter(logging.Formatter):
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
