"""The one flag grammar: words of a command line in, typed values out; knows no flag by name except help.

A caller hands over the names it knows, each with its Kind. Both Go dialects are covered: the attacher's
standard `flag` package (one or two dashes) and the provisioner's pflag (`-v5`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from csisidecar.cli.exits import UsageError
from csisidecar.cli.kinds import BOOL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from csisidecar.cli.kinds import Kind

_SHORT_VERBOSITY = re.compile(r"-v(\d+)")
_FLAG_SHAPE = re.compile(r"--?([^-=][^=]*)(?:=(.*))?", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something to tell once the log is set up: a constant message and its fields."""

    message: str
    fields: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """What a command line said.

    Attributes:
        values: full flag name → value, only of flags that were given.
        notices: warnings about words that were skipped.
        wants_help: whether help was asked for; parsing stopped there.
    """

    values: Mapping[str, Any]
    notices: tuple[Notice, ...] = ()
    wants_help: bool = False


def parse(words: Sequence[str], known: Mapping[str, Kind]) -> Parsed:
    """The values in `words`, where `known` maps each full flag name to its kind.

    The last value of a repeated flag wins unless its kind adds up. A word that belongs to no flag is named
    in a notice and skipped; ``--`` ends the flags.

    Raises:
        UsageError: an unknown flag, a missing value, or a value its kind refuses.

    Source: Go `flag` (FlagSet.parseOne) and spf13/pflag (FlagSet.parseArgs). On purpose a stray word does not
    end parsing, as it does in Go's `flag`: every flag after it would be lost without a word.
    """
    values: dict[str, Any] = {}
    notices: list[Notice] = []
    rest = list(words)
    bare_bool = ""  # the boolean just before this word, for a better hint
    while rest:
        word = rest.pop(0)
        if word == "--":
            notices.extend(_stray(left, "") for left in rest)
            break
        if not word.startswith("-") or word == "-":
            notices.append(_stray(word, bare_bool))
            bare_bool = ""
            continue
        name, text = _split(word, known)
        if name in {"h", "help"} and name not in known:
            return Parsed(values=values, notices=tuple(notices), wants_help=True)
        kind = known.get(name)
        if kind is None:
            raise UsageError(_unknown(name, known))
        bare_bool = ""
        if text is None:
            if kind is BOOL:
                text, bare_bool = "true", name
            elif rest:
                text = rest.pop(0)
            else:
                raise UsageError(f"--{name} needs a value: write --{name}={kind.name.upper()}")
        try:
            value = kind.parse(text)
        except ValueError as error:
            raise UsageError(f"--{name}={text} is not a valid {kind.name or 'boolean'}: {error}") from None
        values[name] = kind.add(values[name], value) if kind.add and name in values else value
    return Parsed(values=values, notices=tuple(notices))


def nearest(name: str, names: Sequence[str]) -> str:
    """The known name most like `name`; empty when none is close."""
    from difflib import get_close_matches  # only a mistyped flag pays for it

    close = get_close_matches(name.replace("_", "-"), names, n=1, cutoff=0.6)
    return close[0] if close else ""


def _split(word: str, known: Mapping[str, Kind]) -> tuple[str, str | None]:
    """A word as flag name and the text after ``=``, None without one."""
    shape = _FLAG_SHAPE.fullmatch(word)
    if shape is None:
        raise UsageError(f"{word!r} is no flag: a flag is one or two dashes, a name, and maybe =VALUE")
    name, text = shape.group(1), shape.group(2)
    if name not in known and "v" in known and (short := _SHORT_VERBOSITY.fullmatch(word)):
        return "v", short.group(1)
    return name, text


def _stray(word: str, bare_bool: str) -> Notice:
    if bare_bool:
        hint = f"a boolean takes its value after =, write --{bare_bool}={word}"
    else:
        hint = "flags take their value as --FLAG=VALUE"
    return Notice(message="Ignored an argument that belongs to no flag", fields={"argument": word, "hint": hint})


def _unknown(name: str, known: Mapping[str, Kind]) -> str:
    close = nearest(name, list(known))
    return f"unknown flag --{name}" + (f"; did you mean --{close}?" if close else "")
