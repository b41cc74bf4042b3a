"""The commands: which words mean what, where texts go, how a run is put together. Heavy imports are late."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from csisidecar.cli import early, helptext, logs
from csisidecar.cli.exits import FAILED, OK, USAGE, UsageError, code_for, one_line
from csisidecar.cli.grammar import nearest
from csisidecar.cli.values import Values, notices, read
from csisidecar.errors import ConfigError
from csisidecar.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from csisidecar.cli.build import Launch
    from csisidecar.cli.process import Hosted

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Command:
    """How `run` was called: in front of messages, in help, and what a drop-in adds.

    Attributes:
        shown: the command as messages name it.
        mode: the mode of a drop-in; empty for `csisidecar run`.
        is_process: whether this is what the process was started for, rather than a call from a program.
    """

    shown: str
    mode: str = ""
    is_process: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """The command `csisidecar`; the exit code.

    Args:
        argv: words after the command's name; None: those of this process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is None:
        tells = words[:1] == ["demo"]
        early.end_at_once("csisidecar demo" if tells else "csisidecar", terminated=FAILED if tells else OK)
    if not words:
        sys.stderr.write(helptext.overview())
        return USAGE
    first, rest = words[0], words[1:]
    if first == "help":
        first, rest = (rest[0], ["--help"]) if rest else ("--help", [])
    if first in {"-h", "--help", "-help"}:
        sys.stdout.write(helptext.overview())
        return OK
    if first in {"--version", "-version"}:
        print(f"csisidecar {VERSION}")
        return OK
    if first == "run":
        return _run(_Command(shown="csisidecar", is_process=argv is None), rest)
    if first == "rbac":
        from csisidecar.cli import rbac

        return rbac.main(rest)
    if first in helptext.COMMANDS:
        from csisidecar.cli import demo  # the demo's parts are not wanted in production

        return demo.main(first, rest)
    close = nearest(first, list(helptext.COMMANDS))
    if first.startswith("-"):
        hint = "; flags follow a command: csisidecar run --mode=..."
    else:
        hint = f"; did you mean {close}?" if close else f"; the commands are: {', '.join(helptext.COMMANDS)}"
    print(f"csisidecar: unknown command {first!r}{hint}", file=sys.stderr)
    return USAGE


def attacher_main(argv: Sequence[str] | None = None) -> int:
    """The drop-in command `csi-attacher`; the exit code."""
    return _drop_in("attacher", argv)


def provisioner_main(argv: Sequence[str] | None = None) -> int:
    """The drop-in command `csi-provisioner`; the exit code."""
    return _drop_in("provisioner", argv)


def _drop_in(mode: str, argv: Sequence[str] | None) -> int:
    words = sys.argv[1:] if argv is None else argv
    shown = PurePath(sys.argv[0]).name if argv is None else f"csi-{mode}"
    if argv is None:
        early.end_at_once(shown, terminated=OK)
    return _run(_Command(shown=shown, mode=mode, is_process=argv is None), words)


def _run(command: _Command, words: Sequence[str]) -> int:
    """`csisidecar run` and the drop-ins."""
    modes: tuple[str, ...] = (command.mode,) if command.mode else ()
    report: Callable[[str], None] = _stderr(command)
    try:
        parsed = read(words, drop_in=command.mode)
        if parsed.wants_help:
            _show_help(command)
            return OK
        values = Values(given=parsed.values)
        settings = logs.settings_from(values)
        if values.get("version"):
            print(f"{command.shown} {VERSION}")
            return OK
        from csisidecar.cli import build, gates

        modes = build.running_modes(values)
        logs.set_up(settings)
        if settings.json:
            report = _log_reason
        outside = build.Surroundings(env=os.environ, drop_in=bool(command.mode))
        launch = build.build(values, modes, outside)
        for notice in (
            *parsed.notices,
            *notices(values),
            *gates.notices(values.get("feature-gates"), modes),
            *launch.notices,
        ):
            logger.warning(notice.message, extra=dict(notice.fields))
    except ConfigError as error:
        report(one_line(error))
        if isinstance(error, UsageError) and report is not _log_reason:
            _hint(command)
        return code_for(error, modes)
    return _host(launch, report, ends_process=command.is_process)


def _host(launch: Launch, report: Callable[[str], None], *, ends_process: bool) -> int:
    """Run what `launch` describes until it ends; the exit code."""
    from csisidecar.cli.process import host, run_loop

    def make() -> Hosted:
        from csisidecar.sidecar import Sidecar

        logger.info("Starting", extra={"version": VERSION, "modes": ",".join(launch.modes)})
        return Sidecar(launch.config, plugins=launch.plugins())

    return run_loop(host(make, launch.modes, report, ends_process=ends_process))


def _show_help(command: _Command) -> None:
    if command.mode:  # the Go sidecars print usage on stderr
        sys.stderr.write(helptext.drop_in_help(command.shown, command.mode))
    else:
        sys.stdout.write(helptext.run_help())


def _stderr(command: _Command) -> Callable[[str], None]:
    def report(reason: str) -> None:
        print(f"{command.shown}: {reason}", file=sys.stderr)

    return report


def _log_reason(reason: str) -> None:
    logger.error("Ended with an error", extra={"reason": reason})


def _hint(command: _Command) -> None:
    line = f"{command.shown} --help" if command.mode else f"{command.shown} run --help"
    print(f"{line} shows all flags", file=sys.stderr)
