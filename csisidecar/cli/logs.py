"""Log set-up of the command line: klog-like text or JSON on stderr, verbosity.

The library itself only emits; nothing outside the command line configures logging.
"""

from __future__ import annotations

import fnmatch
import logging
import sys
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from csisidecar.cli.exits import SettingError
from csisidecar.logs import DEEPEST, JSONFormatter, LogFormatter

if TYPE_CHECKING:
    from csisidecar.cli.values import Values

_LIBRARIES = ("aiohttp", "asyncio", "grpclib", "h2", "hpack", "kubernetes_asyncio", "urllib3")
_LIBRARY_VERBOSITY = 6


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
    return logging.INFO - verbosity if verbosity < DEEPEST else logging.DEBUG


def set_up(settings: LogSettings) -> None:
    """Send the log of the whole process to stderr, in the chosen form; replaces what was set up before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter() if settings.json else LogFormatter())
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
