"""Words of a command line → values and notices."""

from __future__ import annotations

from typing import Any

import pytest

from csisidecar.cli.exits import UsageError
from csisidecar.cli.flags import KINDS
from csisidecar.cli.grammar import parse


@pytest.mark.parity("R-FLAG-03")
@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["--timeout=30s"], {"timeout": 30.0}),
        (["--timeout", "30s"], {"timeout": 30.0}),
        (["-timeout=30s"], {"timeout": 30.0}),
        (["-timeout", "30s"], {"timeout": 30.0}),
        (["-v=5"], {"v": 5}),
        (["-v", "5"], {"v": 5}),
        (["-v5"], {"v": 5}),
        (["-v12"], {"v": 12}),
        (["--v=5"], {"v": 5}),
        (["--v", "5"], {"v": 5}),
        (["--leader-election"], {"leader-election": True}),
        (["-leader-election"], {"leader-election": True}),
        (["--leader-election=false"], {"leader-election": False}),
        (["--leader-election=T"], {"leader-election": True}),
        (["--kubeconfig="], {"kubeconfig": ""}),
        (["--csi-address=unix:///a=b"], {"csi-address": "unix:///a=b"}),
        (["--kube-api-qps", "-1"], {"kube-api-qps": -1.0}),
        (["--timeout=1s", "--timeout=2s"], {"timeout": 2.0}),
        (["--mode=a", "--mode", "b,c"], {"mode": ("a", "b", "c")}),
        (["--feature-gates=A=true", "--feature-gates=B=false,A=false"], {"feature-gates": {"A": False, "B": False}}),
        (
            ["--leader-election-labels=a:b", "--leader-election-labels=c:d"],
            {"leader-election-labels": {"a": "b", "c": "d"}},
        ),
        (["--vmodule=a=1", "--vmodule=b=2"], {"vmodule": (("a", 1), ("b", 2))}),
        (["--attacher-timeout=3s", "--timeout=1s"], {"attacher-timeout": 3.0, "timeout": 1.0}),
        (["--log_dir", "/tmp", "--logtostderr"], {"log_dir": "/tmp", "logtostderr": True}),
    ],
)
def test_spellings(words: list[str], values: dict[str, Any]) -> None:
    parsed = parse(words, KINDS)
    assert parsed.values == values
    assert parsed.notices == ()


@pytest.mark.parity("R-FLAG-04")
def test_a_stray_word_is_named_and_parsing_goes_on() -> None:
    parsed = parse(["--timeout=1s", "oops", "--v=3"], KINDS)
    assert parsed.values == {"timeout": 1.0, "v": 3}
    assert [notice.fields["argument"] for notice in parsed.notices] == ["oops"]
    assert "--FLAG=VALUE" in str(parsed.notices[0].fields["hint"])


def test_a_value_behind_a_boolean_is_told_its_equals_form() -> None:
    parsed = parse(["--leader-election", "false", "--v=1"], KINDS)
    assert parsed.values == {"leader-election": True, "v": 1}
    assert "--leader-election=false" in str(parsed.notices[0].fields["hint"])


def test_two_dashes_end_the_flags() -> None:
    parsed = parse(["--v=1", "--", "--v=5", "x"], KINDS)
    assert parsed.values == {"v": 1}
    assert [notice.fields["argument"] for notice in parsed.notices] == ["--v=5", "x"]


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["-help"], ["--v=1", "--h"]])
def test_help_is_seen(words: list[str]) -> None:
    assert parse(words, KINDS).wants_help


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--tiemout=1s"], "unknown flag --tiemout; did you mean --timeout?"),
        (["--leader_election"], "unknown flag --leader_election; did you mean --leader-election?"),
        (["--zzzzzz"], "unknown flag --zzzzzz"),
        (["-v5x"], "unknown flag --v5x"),
        (["--timeout"], "--timeout needs a value: write --timeout=DURATION"),
        (["--timeout=5"], "--timeout=5 is not a valid duration"),
        (["--worker-threads=-1"], "--worker-threads=-1 is not a valid uint"),
        (["--leader-election=yes"], "--leader-election=yes is not a valid boolean"),
        (["--feature-gates=Topology"], "--feature-gates=Topology is not a valid"),
        (["--leader-election-labels="], "exactly one colon"),
        (["---timeout=1s"], "is no flag"),
        (["--=5"], "is no flag"),
    ],
)
def test_mistakes_are_told_in_one_line(words: list[str], reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(words, KINDS)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
