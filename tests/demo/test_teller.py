"""What the story looks like."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from csisidecar.demo.teller import Teller

if TYPE_CHECKING:
    import pytest


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_lines_are_aligned_and_plain_when_they_go_to_a_file() -> None:
    out = io.StringIO()
    teller = Teller(lambda: 1.5, out)
    teller.happened("driver", "CreateVolume x", ["→ volume id 1"])
    teller.happened("controllers", "claim Bound")
    teller.verified("it is so")
    first, detail, second, verified = out.getvalue().splitlines()
    assert first == "  1.500 s  driver      CreateVolume x"
    assert second.index("claim") == first.index("CreateVolume") == detail.index("→") == verified.index("verified")


def test_colors_are_used_on_a_terminal_only_and_not_against_the_users_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = Terminal()
    Teller(lambda: 0, out).verified("yes")
    assert "\x1b[32mverified\x1b[0m" in out.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    Teller(lambda: 0, plain).verified("yes")
    assert "\x1b" not in plain.getvalue()


def test_table_sets_numbers_to_the_right() -> None:
    out = io.StringIO()
    Teller(lambda: 0, out).table([("2", "create", "events"), ("10", "patch", "x")])
    assert out.getvalue() == "   2  create  events\n  10  patch   x\n"


def test_failure_names_the_step_and_indents_what_is_quoted() -> None:
    out = io.StringIO()
    Teller(lambda: 0, out).failed("attached", ["not attached", "VolumeAttachment a has status.attachError:\nno disk"])
    assert out.getvalue().splitlines() == [
        "",
        "FAILED at step: attached",
        "  not attached",
        "  VolumeAttachment a has status.attachError:",
        "    no disk",
    ]
