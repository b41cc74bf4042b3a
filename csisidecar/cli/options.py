"""Flags made from a dataclass of options: each field is a flag, its docstring the help.

Used for the demo commands, whose options belong to the rooms that serve them: a field added there is a flag here.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from itertools import pairwise
from pathlib import Path
from textwrap import dedent, wrap
from typing import TYPE_CHECKING, Any

from csisidecar.cli import kinds
from csisidecar.cli.exits import UsageError
from csisidecar.cli.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

_PATH = Kind(name="path", parse=Path)
_KINDS: Mapping[str, Kind] = {
    "bool": kinds.BOOL,
    "int": kinds.INT,
    "float": kinds.FLOAT,
    "str": kinds.STRING,
    "Path": _PATH,
    "tuple[str, ...]": kinds.STRINGS,
    "Sequence[str]": kinds.STRINGS,
}
_WIDTH = 112
_OWN_NAME = re.compile(r" ``--[a-z-]+``\.?$")  # the flag a docstring names at its end is above it in help


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptionFlag:
    """One field of the options as a flag.

    Attributes:
        name: without dashes.
        field: the dataclass field.
        kind: how its text is read.
        text: the field's docstring.
    """

    name: str
    field: dataclasses.Field[Any]
    kind: Kind
    text: str = ""


def flags_of(options: type[Any]) -> dict[str, OptionFlag]:
    """Flag name → flag, for each field that can be written on a command line.

    A float whose name ends in ``_s`` takes a duration, without the ending in the flag's name.
    """
    texts = _docstrings(options)
    flags = {}
    for field in dataclasses.fields(options):
        kind = _KINDS.get(str(field.type).removesuffix(" | None"))
        if kind is None or not field.init:
            continue
        name = field.name
        if kind is kinds.FLOAT and name.endswith("_s"):
            kind, name = kinds.DURATION, name.removesuffix("_s")
        name = name.replace("_", "-")
        flags[name] = OptionFlag(name=name, field=field, kind=kind, text=texts.get(field.name, ""))
    return flags


def make(options: type[Any], flags: Mapping[str, OptionFlag], values: Mapping[str, Any]) -> Any:
    """An instance of `options` with what was given.

    Raises:
        UsageError: a field without a default was not given.
    """
    arguments = {flag.field.name: values[name] for name, flag in flags.items() if name in values}
    for name, flag in flags.items():
        if flag.field.name not in arguments and _is_required(flag.field):
            raise UsageError(f"--{name} is missing: write --{name}={flag.kind.name.upper()}")
    return options(**arguments)


def help_lines(flags: Mapping[str, OptionFlag]) -> list[str]:
    """The flags for a help text."""
    lines = []
    for name, flag in flags.items():
        default = _shown(flag)
        lines.append(f"  --{name} {flag.kind.name}".rstrip() + (f" ({default})" if default else ""))
        lines += [f"      {line}" for line in wrap(flag.text, _WIDTH, break_on_hyphens=False)]
    return lines


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _shown(flag: OptionFlag) -> str:
    default = flag.field.default
    if _is_required(flag.field):
        return "required"
    if default is dataclasses.MISSING or default is False or default in {None, "", (), 0}:
        return ""
    if flag.kind is kinds.DURATION:
        return f"default {default:g}s"
    return f"default {str(default).lower() if isinstance(default, bool) else default}"


def _docstrings(options: type[Any]) -> dict[str, str]:
    """Field → the string under it, which Python itself throws away; empty where the source is not there."""
    try:
        tree = ast.parse(dedent(inspect.getsource(options)))
    except (OSError, SyntaxError):
        return {}
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    texts = {}
    for field, below in pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            text = _OWN_NAME.sub("", " ".join(below.value.value.split()))
            texts[field.target.id] = text.replace("``", "")
    return texts
