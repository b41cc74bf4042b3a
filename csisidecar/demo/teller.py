"""Prints the story: one aligned line a happening, with the seconds since the start; colors only on a terminal."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_BOLD, _DIM, _GREEN, _RED, _CYAN, _PLAIN = "1", "2", "32", "31", "36", "0"
_WHO_WIDTH = 12


class Teller:
    """Writes lines for people to `out`; `elapsed_s` says how long the story has run."""

    def __init__(self, elapsed_s: Callable[[], float], out: TextIO | None = None) -> None:
        self._elapsed_s = elapsed_s
        self._out = out or sys.stdout
        self._colored = self._out.isatty() and not os.environ.get("NO_COLOR")

    def title(self, text: str) -> None:
        """A heading with an empty line before it."""
        self._print(f"\n{self._paint(text, _BOLD)}")

    def line(self, text: str = "") -> None:
        """A line without time."""
        self._print(text)

    def happened(self, who: str, what: str, details: Iterable[str] = ()) -> None:
        """Something happened now: who did it, what, and lines of detail under it."""
        time = self._paint(f"{self._elapsed_s():7.3f} s", _DIM)
        self._print(f"{time}  {self._paint(who.ljust(_WHO_WIDTH), _CYAN)}{what}")
        self._details(details)

    def verified(self, what: str) -> None:
        """What the last happening claims was read back and is true."""
        self._details([f"{self._paint('verified', _GREEN)}: {what}"])

    def failed(self, step: str, why: Iterable[str]) -> None:
        """The story ends here."""
        self._print(f"\n{self._paint('FAILED', _RED)} at step: {self._paint(step, _BOLD)}")
        for reason in why:
            first, *rest = reason.splitlines() or [""]
            self._print(f"  {first}")
            for more in rest:
                self._print(f"    {more}")

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Rows in aligned columns; columns of numbers are set to the right."""
        if not rows:
            return
        columns = list(zip(*rows, strict=True))
        widths = [max(len(cell) for cell in column) for column in columns]
        numeric = [all(cell.replace(".", "").isdigit() for cell in column) for column in columns]
        for row in rows:
            cells = [
                cell.rjust(width) if is_number else cell.ljust(width)
                for cell, width, is_number in zip(row, widths, numeric, strict=True)
            ]
            self._print("  " + "  ".join(cells).rstrip())

    def _details(self, details: Iterable[str]) -> None:
        for detail in details:
            self._print(f"{'':11}{'':{_WHO_WIDTH}}{detail}")

    def _paint(self, text: str, color: str) -> str:
        return f"\x1b[{color}m{text}\x1b[{_PLAIN}m" if self._colored else text

    def _print(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()
