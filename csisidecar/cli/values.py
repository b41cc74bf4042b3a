"""Values of all flags as the running modes see them: what was given, over the defaults of the chosen set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from csisidecar.cli.exits import UsageError
from csisidecar.cli.flags import BUILT_IN_MODES, BY_NAME, KINDS, SPELLINGS, Scope, State, without_prefix
from csisidecar.cli.grammar import Notice, Parsed, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, kw_only=True)
class Values:
    """Lookup of flags; plain names hold for every mode, prefixed ones for theirs."""

    given: Mapping[str, Any]
    """Full name → value, only of flags on the command line."""

    @property
    def defaults(self) -> str:
        """The chosen set of defaults: ``user`` or ``upstream``."""
        return str(self.given.get("defaults", "user"))

    def is_given(self, name: str, mode: str = "") -> bool:
        """Whether the command line has the flag, plainly or with the prefix of `mode`."""
        return name in self.given or (bool(mode) and f"{mode}-{name}" in self.given)

    def spelled(self, name: str, mode: str = "") -> str:
        """The flag as the command line has it: with the prefix of `mode`, if it was given so."""
        return f"{mode}-{name}" if mode and f"{mode}-{name}" in self.given else name

    def get(self, name: str, mode: str = "") -> Any:
        """The value of the flag for `mode`: the prefixed flag, else the plain one, else the default."""
        prefixed = f"{mode}-{name}"
        if mode and prefixed in self.given:
            return self.given[prefixed]
        if name in self.given:
            return self.given[name]
        return self.default(name, mode)

    def default(self, name: str, mode: str = "") -> Any:
        """The default of the flag for `mode`."""
        flag = BY_NAME[name]
        text = flag.default(self.defaults, mode)
        return flag.kind.parse(text) if text else flag.kind.unset


def read(words: Sequence[str], *, drop_in: str = "") -> Parsed:
    """What the command line `words` of `run` says, before anything is known about modes.

    Args:
        words: what was given.
        drop_in: the mode of a drop-in command, which has no flag for it and upstream's defaults.

    Raises:
        UsageError: it is not a command line of `run`.
    """
    for word in words:  # a better reason than "unknown" for a prefix where none belongs
        if word == "--":
            break
        name = word.lstrip("-").partition("=")[0]
        if word.startswith("-") and name not in SPELLINGS and (plain := without_prefix(name)):
            raise UsageError(f"--{name} has a prefix that --{plain} does not take: write --{plain}")
        if drop_in and word.startswith("-") and name == "mode":
            raise UsageError(f"unknown flag --mode; csi-{drop_in} runs that mode alone, csisidecar run has the flag")
    parsed = parse(words, KINDS)
    if not drop_in:
        return parsed
    own = {"mode": KINDS["mode"].parse(drop_in), "defaults": KINDS["defaults"].parse("upstream")}
    return replace(parsed, values={**own, **parsed.values})


def resolve_modes(values: Values, others: Sequence[str]) -> tuple[str, ...]:
    """The modes to run, each once, in the order given; `others` are the names of installed plugins.

    Raises:
        UsageError: no mode, or one that nobody offers.
    """
    known = (*BUILT_IN_MODES, *(name for name in others if name not in BUILT_IN_MODES))
    listed = ", ".join((*known, "all"))
    asked = values.get("mode")
    if not asked:
        raise UsageError(f"--mode is missing; the modes are: {listed}")
    modes: dict[str, None] = {}
    for name in asked:
        if name == "all":
            modes.update(dict.fromkeys(BUILT_IN_MODES))
        elif name in known:
            modes[name] = None
        else:
            raise UsageError(f"unknown mode {name!r}; the modes are: {listed}")
    return tuple(modes)


def check_modes_of_flags(values: Values, modes: Sequence[str]) -> None:
    """Refuse flags of a mode that does not run.

    Raises:
        UsageError: names the flag, its mode and the modes that run.
    """
    running = ", ".join(modes)
    for name in values.given:
        spelling = SPELLINGS[name]
        wanted = frozenset({spelling.mode}) if spelling.mode else spelling.flag.modes
        if wanted and not wanted.intersection(modes):
            owner = " or ".join(sorted(wanted))
            hint = f"; did you mean --{spelling.flag.name}?" if spelling.mode else ""
            raise UsageError(f"--{name} belongs to the mode {owner}, which does not run (running: {running}){hint}")


def notices(values: Values) -> tuple[Notice, ...]:
    """One warning for each state of flags that were given but do nothing."""
    messages = {
        State.NOT_BUILT: "Accepted flags whose feature is not built yet; they change nothing",
        State.RETIRED: "Accepted retired flags; they have no effect",
    }
    found = []
    for state, message in messages.items():
        flags = [f"--{name}" for name in values.given if SPELLINGS[name].flag.state is state]
        if flags:
            found.append(Notice(message=message, fields={"flags": " ".join(flags)}))
    if values.given.get("enable-pprof"):
        found.append(Notice(message="There is no Go profiler here", fields={"flags": "--enable-pprof"}))
    return tuple(found)


def plugin_options(values: Values, modes: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    """Mode → its ``--plugin-option`` settings.

    Raises:
        UsageError: a setting for a plugin that does not run, or for a built-in mode.
    """
    options: dict[str, dict[str, str]] = {}
    for plugin, key, value in values.get("plugin-option"):
        if plugin in BUILT_IN_MODES:
            raise UsageError(f"--plugin-option={plugin}.{key}: the built-in modes have flags only")
        if plugin not in modes:
            raise UsageError(f"--plugin-option={plugin}.{key}: the mode {plugin} does not run")
        options.setdefault(plugin, {})[key] = value
    return options


def is_mode_flag(name: str) -> bool:
    """Whether the flag can differ from mode to mode."""
    return BY_NAME[name].scope is Scope.MODE
