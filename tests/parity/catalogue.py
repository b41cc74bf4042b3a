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

_ROW = re.compile(r"^\| ([A-Z]-[A-Z]+-\d\d) \| (.+) \| (.+) \| `([^`]+)` \|$")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One behavior."""

    id: str
    behavior: str
    verdict: str
    test: str
    """From the folder of the tests on: file, two colons, name; a single case of it in brackets, as pytest does."""

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
    """Row → tests and single cases (``pytest.param`` with an id) that are marked as holding it.

    Read off the text, so that nothing has to be collected: a table of cases stands in the decorator or under a name
    of the module.
    """
    marked: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        body = ast.parse(path.read_text()).body
        tables = dict(_tables(body))
        for function in body:
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                test = f"{path.relative_to(ROOT / 'tests').as_posix()}::{function.name}"
                for row, case in _marks_of(function, tables):
                    marked.setdefault(row, set()).add(f"{test}[{case}]" if case else test)
    return marked


def faults(mode: str) -> list[str]:
    """Where page and marks disagree, a line each."""
    found = rows(mode)
    ids = [row.id for row in found]
    marked = {row: tests for row, tests in marks().items() if row.startswith(PREFIXES[mode])}
    return [
        *(f"{row}: the page has it more than once" for row in sorted({row for row in ids if ids.count(row) > 1})),
        *(f"{row.id}: {row.test} is not marked for it" for row in found if row.test not in marked.get(row.id, ())),
        *(
            f"{row}: marked at {test}, but the page has no such row"
            for row in marked
            if row not in ids
            for test in sorted(marked[row])
        ),
    ]


def _tables(body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    """Name → value of the module's own tables."""
    for statement in body:
        if isinstance(statement, ast.Assign):
            yield from ((target.id, statement.value) for target in statement.targets if isinstance(target, ast.Name))
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            yield statement.target.id, statement.value


def _marks_of(
    function: ast.FunctionDef | ast.AsyncFunctionDef, tables: Mapping[str, ast.expr]
) -> Iterator[tuple[str, str]]:
    """Row and case; no case for a mark that holds for the whole test."""
    for decorator in function.decorator_list:
        yield from ((row, "") for row in _rows_in(decorator))
        named = (tables.get(node.id) for node in ast.walk(decorator) if isinstance(node, ast.Name))
        for tree in (decorator, *(table for table in named if table is not None)):
            for call in ast.walk(tree):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.param":
                    words = {word.arg: word.value for word in call.keywords}
                    if "id" in words and "marks" in words:
                        case = ast.literal_eval(words["id"])
                        yield from ((row, case) for row in _rows_in(words["marks"]))


def _rows_in(mark: ast.expr) -> Iterator[str]:
    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.parity":
        yield from (str(argument.value) for argument in mark.args if isinstance(argument, ast.Constant))


def tests_of(found: Sequence[Row]) -> list[str]:
    """The tests of these rows, each once, with all of their cases."""
    return list(dict.fromkeys(row.test.partition("[")[0] for row in found))
