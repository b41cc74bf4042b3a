"""The demo commands: flags from the options of what they serve, run until done or until a signal."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from csisidecar.cli import helptext, kinds, logs
from csisidecar.cli.exits import FAILED, OK, USAGE, UsageError, one_line, root_cause
from csisidecar.cli.grammar import parse
from csisidecar.cli.options import flags_of, help_lines, make
from csisidecar.cli.process import run_loop
from csisidecar.errors import ConfigError, CsiSidecarError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Served:
    """What a command serves: a coroutine function of a module, and the dataclass of its options."""

    module: str
    function: str
    options: str
    stopped: int = OK
    """The exit code when a signal ends it."""


_SERVED: Mapping[str, _Served] = {
    "demo": _Served(module="csisidecar.demo.story", function="run", options="DemoOptions", stopped=FAILED),
    "demo-apiserver": _Served(module="csisidecar.testing.apiserver", function="serve", options="ServerOptions"),
    "demo-controllers": _Served(module="csisidecar.demo.controllers", function="serve", options="ControllersOptions"),
    "demo-driver": _Served(module="csisidecar.testing.driver", function="serve", options="DriverOptions"),
}
_LOGGING = {"v": kinds.VERBOSITY, "logging-format": kinds.STRING}


def main(command: str, words: Sequence[str]) -> int:
    """The command `csisidecar demo…`; the exit code."""
    served = _SERVED[command]
    module = import_module(served.module)
    options = getattr(module, served.options)
    flags = flags_of(options)
    try:
        parsed = parse(words, {**{name: flag.kind for name, flag in flags.items()}, **_LOGGING})
        if parsed.wants_help:
            lines = [f"Usage: csisidecar {command} [FLAGS]", "", helptext.COMMANDS[command], "", *help_lines(flags)]
            lines += ["  --v level", "      Verbosity of the log on stderr.", "  --logging-format text|json"]
            print("\n".join(lines))
            return OK
        log_format = parsed.values.get("logging-format", "text")
        if log_format not in {"text", "json"}:
            raise UsageError(f"--logging-format={log_format} is unknown: give text or json")
        given = make(options, flags, parsed.values)
    except ConfigError as error:
        print(f"csisidecar {command}: {one_line(error)}", file=sys.stderr)
        return USAGE
    logs.set_up(logs.LogSettings(verbosity=parsed.values.get("v", 0), json=log_format == "json"))
    if command == "demo" and "v" not in parsed.values:
        logging.getLogger().setLevel(logging.WARNING)  # the story is on the terminal, not the log
    for notice in parsed.notices:
        logger.warning(notice.message, extra=dict(notice.fields))
    return run_loop(_serve(command, getattr(module, served.function), given, served.stopped))


async def _serve(command: str, function: Callable[[Any], Awaitable[int | None]], options: Any, stopped: int) -> int:
    """Run `function` until it ends; the first SIGTERM or SIGINT cancels it.

    Returns:
        What the function returned; 0 for None; `stopped` when it was cancelled and did not say otherwise.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel if task else loop.stop)
    try:
        return await function(options) or OK
    except asyncio.CancelledError:
        if stopped:
            print(f"csisidecar {command}: interrupted", file=sys.stderr)
        return stopped
    except Exception as error:  # the command ends here, whatever it was
        cause = root_cause(error)
        if not isinstance(cause, (CsiSidecarError, OSError)):
            logger.critical("Ended by an unexpected error", exc_info=cause)
        print(f"csisidecar {command}: {one_line(cause)}", file=sys.stderr)
        return USAGE if isinstance(cause, ConfigError) else FAILED
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
