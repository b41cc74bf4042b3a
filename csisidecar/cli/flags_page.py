"""Writes docs/flags.md from the flag table, or checks that it is fresh: ``python -m csisidecar.cli.flags_page``."""

from __future__ import annotations

import sys
from pathlib import Path

from csisidecar.cli.flags import FLAGS, GROUPS, RETIRED, Flag, Scope, State
from csisidecar.cli.helptext import VARIABLES, shown, signature

PAGE = Path(__file__).parents[2] / "docs" / "flags.md"

_HEAD = """\
# Flags

Generated from the table in `csisidecar/cli/flags.py` by `python -m csisidecar.cli.flags_page`; do not edit.

`csisidecar run` uses the column *default*; with `--defaults=upstream`, and in the drop-in commands `csi-attacher` and
`csi-provisioner`, the column *upstream* holds, which has the defaults of the Go sidecars. *Go* says which of them
have the flag.

**Grammar.** One or two dashes are the same. `--flag=value` and `--flag value` both work, and `-v5`, `-v 5`, `-v=5`; a
boolean is bare or has `=`. A word that belongs to no flag is named in a warning and skipped. The last of repeated flags
wins, but `--mode`, `--feature-gates`, `--leader-election-labels`, `--vmodule` and `--plugin-option` add up. `--` ends
the flags. Durations are Go's (`500ms`, `1m30s`); whole numbers may be written `0x10`, `0o20`, `0b10`, `1_000`.

**Scope.** A flag of scope *mode* holds for every mode that runs; with the prefix `--attacher-` or `--provisioner-` it
holds for that one, and wins over the plain flag. Every other flag belongs to the process, or to the one mode
named; a flag of a mode that does not run is refused.

**Variables.** What is read from the environment:

{variables}

**States.** *Not built yet*: accepted, named in a warning, without effect in this version. *No effect*: accepted, as it
speaks about Go's runtime or something that is always so.
"""


def page() -> str:
    """The text of docs/flags.md."""
    rows = ["| variable | meaning |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in VARIABLES.items())]
    parts = [_HEAD.replace("{variables}", "\n".join(rows))]
    for group in GROUPS:
        flags = [flag for flag in FLAGS if flag.group == group]
        if group == RETIRED:
            parts.append(f"## {group}\n\nAccepted from older manifests with one warning and no effect.\n")
            rows = [f"| `{signature(flag)}` | {_cell(flag.text)} |" for flag in flags]
            parts.append("\n".join(["| flag | instead |", "|---|---|", *rows]) + "\n")
            continue
        parts.append(f"## {group}\n")
        head = ["| flag | default | upstream | scope | Go | meaning |", "|---|---|---|---|---|---|"]
        parts.append("\n".join([*head, *(_row(flag) for flag in flags)]) + "\n")
    return "\n".join(parts)


def main(words: list[str]) -> int:
    """Write the page, or with ``--check`` compare it; 1 when it is not fresh, 2 for other words."""
    if words not in ([], ["--check"]):
        print(f"unknown words {' '.join(words)}: give nothing to write docs/flags.md, or --check", file=sys.stderr)
        return 2
    text = page()
    if not words:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print("docs/flags.md is not fresh: run python -m csisidecar.cli.flags_page", file=sys.stderr)
    return 1


def _row(flag: Flag) -> str:
    user, upstream = (f"`{text}`" if (text := shown(flag, defaults)) else "" for defaults in ("user", "upstream"))
    scope = "mode" if flag.scope is Scope.MODE else ", ".join(sorted(flag.modes)) or "process"
    go = "both" if len(flag.go) > 1 else "".join(flag.go)
    state = "" if flag.state is State.WORKS else f"*{flag.state.value.capitalize()}.* "
    return f"| `{_cell(signature(flag))}` | {user} | {upstream} | {scope} | {go} | {state}{_cell(flag.text)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
