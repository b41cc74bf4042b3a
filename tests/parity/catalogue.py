"""The catalogue: the rows of docs/parity.md, and the marks in the tests that say which row a test holds."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "parity.md"
PREFIXES: Mapping[str, tuple[str, ...]] = {
    "attacher": ("R-", "A-"),
    "provisioner": ("R-", "P-"),
    "topology": ("T-",),
}
"""Mode or subject → what the ids of its rows begin with; R rows hold for both modes."""
MARKED: Mapping[str, str] = {"attacher": "A-", "provisioner": "P-"}
"""Mode → rows whose tests carry a mark, so that none is left without its row."""

_ROW = re.compile(r"^\| ([A-Z]-[A-Z]+-\d\d) \| (.+) \| (.+) \| `([^`]+)` \|$")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One behavior."""

    id: str
    behavior: str
    verdict: str
    test: str
    """From the folder of the tests on: file, two colons, name."""

    @property
    def differs(self) -> bool:
        """Whether the page says that it is not as in Go."""
        return self.verdict.startswith(("**different**", "not built"))


def rows(mode: str) -> list[Row]:
    """The mode's rows, in the order of the page."""
    found = (_ROW.match(line) for line in PAGE.read_text().splitlines())
    every = [Row(id=m[1], behavior=m[2], verdict=m[3], test=m[4]) for m in found if m is not None]
    return [row for row in every if row.id.startswith(PREFIXES[mode])]


def marks() -> dict[str, set[str]]:
    """Row → tests that are marked as holding it."""
    marked: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for function in ast.parse(path.read_text()).body:
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                test = f"{path.relative_to(ROOT / 'tests').as_posix()}::{function.name}"
                for row in _marks_of(function):
                    marked.setdefault(row, set()).add(test)
    return marked


def faults(mode: str) -> list[str]:
    """Where page and marks disagree, a line each."""
    prefix = MARKED.get(mode)
    if prefix is None:
        return []
    ids = [row.id for row in rows(mode)]
    found = [f"{row}: the page has it more than once" for row in sorted({row for row in ids if ids.count(row) > 1})]
    named = {row.id: row.test for row in rows(mode) if row.id.startswith(prefix)}
    marked = {row: tests for row, tests in marks().items() if row.startswith(prefix)}
    found += [f"{row}: {test} is not marked for it" for row, test in named.items() if test not in marked.get(row, ())]
    return found + _without_row(named, marked)


def _without_row(named: Mapping[str, str], marked: Mapping[str, set[str]]) -> list[str]:
    return [
        f"{row}: marked at {test}, but the page has no such row"
        for row in marked
        if row not in named
        for test in sorted(marked[row])
    ]


def _marks_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.parity":
            yield from (str(argument.value) for argument in decorator.args if isinstance(argument, ast.Constant))


def tests_of(found: Sequence[Row]) -> list[str]:
    """The tests of these rows, each once."""
    return list(dict.fromkeys(row.test for row in found))
