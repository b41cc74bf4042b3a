"""Help texts: whole, readable in 120 columns, both default sets; the generated page is fresh."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from csisidecar.cli import flags_page, helptext
from csisidecar.cli.exits import UsageError
from csisidecar.cli.flags import FLAGS, GROUPS, State
from csisidecar.cli.grammar import parse
from csisidecar.cli.options import flags_of, help_lines, make

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "text",
    [
        helptext.overview(),
        helptext.run_help(),
        helptext.drop_in_help("/csi-attacher", "attacher"),
        helptext.drop_in_help("/csi-provisioner", "provisioner"),
    ],
)
def test_help_fits_120_columns_of_ascii(text: str) -> None:
    assert max(len(line) for line in text.splitlines()) <= 120
    assert text.isascii()
    assert not re.search(r" $", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        (helptext.run_help(), set(helptext.VARIABLES)),
        (flags_page.page(), set(helptext.VARIABLES)),
        (helptext.drop_in_help("/csi-attacher", "attacher"), {"POD_NAMESPACE"}),
        (
            helptext.drop_in_help("/csi-provisioner", "provisioner"),
            {"NAMESPACE", "POD_NAME", "NODE_NAME", "KUBECONFIG"},
        ),
    ],
    ids=["run", "page", "csi-attacher", "csi-provisioner"],
)
def test_help_names_the_variables(text: str, variables: set[str]) -> None:
    named = {name for name in helptext.VARIABLES if re.search(rf"^(  |\| `){name}[ `]", text, re.MULTILINE)}
    assert variables <= named
    assert ("CSI_ENDPOINT" in named) == ("CSI_ENDPOINT" in variables)


def test_run_help_names_every_flag_and_group() -> None:
    text = helptext.run_help()
    for flag in FLAGS:
        assert re.search(rf"--{flag.name}[ ,.\n]", text), flag.name
    assert all(f"{group}:" in text for group in GROUPS[:-1])


@pytest.mark.parametrize("mode", ["attacher", "provisioner"])
def test_help_of_a_drop_in_is_about_what_it_has(mode: str) -> None:
    text = helptext.drop_in_help(f"csi-{mode}", mode)
    assert "--mode mode" not in text
    assert "Required" not in text
    assert "replaces both defaults" not in text
    assert "--defaults user|upstream (default upstream)" in text


@pytest.mark.parametrize(
    "line",
    [
        r"^  --csi-address string +/var/lib/csi/sockets/pluginproxy/csi\.sock +/run/csi/socket$",
        r"^ \*--timeout duration +attacher 1m, provisioner 10s +attacher 15s, provisioner 10s$",
        r"^ \*--leader-election +true +false$",
        r'^ \*--leader-election-namespace string +kube-system +""$',
        r'^  --metrics-addr string +:8080 +""$',
        r'^  --health-addr string +:9808 +""$',
        r"^ \*--kube-api-qps float +-1 +5$",
        r"^  --volume-attachment-timeout duration +15m +0$",
        r"^Leader election: +default +with --defaults=upstream$",
    ],
)
def test_run_help_shows_both_defaults_side_by_side(line: str) -> None:
    assert re.search(line, helptext.run_help(), re.MULTILINE)


def test_columns_never_run_into_each_other() -> None:
    for line in helptext.run_help().splitlines():
        if re.match(r" [ *]--", line):
            assert re.fullmatch(r" [ *]--\S+( \S+)?( +\S.*)?", line)
            assert len(line) < 46 or line[43] == " ", line
            assert len(line) < 91 or line[89] == " ", line


def test_drop_in_help_has_the_flags_of_its_mode_only() -> None:
    attacher = helptext.drop_in_help("csi-attacher", "attacher")
    provisioner = helptext.drop_in_help("csi-provisioner", "provisioner")
    assert "--max-entries" in attacher
    assert "--max-entries" not in provisioner
    assert "--volume-name-prefix" in provisioner
    assert "--volume-name-prefix" not in attacher
    assert "--timeout duration (default 15s)" in attacher
    assert "--timeout duration (default 10s)" in provisioner
    assert "--csi-address string (default /run/csi/socket)" in attacher


def test_flags_page_is_fresh() -> None:
    assert flags_page.main(["--check"]) == 0


def test_other_words_than_check_write_no_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(flags_page, "PAGE", tmp_path / "flags.md")
    assert flags_page.main(["--check", "docs/flags.md"]) == 2
    assert not (tmp_path / "flags.md").exists()


def test_a_stale_flags_page_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(flags_page, "PAGE", tmp_path / "flags.md")
    assert flags_page.main(["--check"]) == 1
    assert "not fresh" in capsys.readouterr().err
    assert flags_page.main([]) == 0
    assert flags_page.main(["--check"]) == 0


def test_flags_page_says_what_is_not_built() -> None:
    rows = {match[1]: line for line in flags_page.page().splitlines() if (match := re.match(r"\| `--([\w-]+)", line))}
    assert set(rows) == {flag.name for flag in FLAGS}
    for flag in FLAGS:
        assert ("*Not built yet.*" in rows[flag.name]) == (flag.state is State.NOT_BUILT)


# flags made from a dataclass


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a demo command can be told."""

    endpoint: str
    """Where it serves. ``--endpoint``."""
    keep: bool = False
    trouble: tuple[str, ...] = ()
    """What goes wrong,
    in words."""
    port: int = 8443
    step_timeout_s: float = 15.0
    root: Path | None = None
    clock: object = None


def test_each_field_is_a_flag() -> None:
    flags = flags_of(Options)
    words = ["--endpoint=/e", "--keep", "--trouble=a", "--trouble=b,c", "--port=1", "--step-timeout=1m", "--root=/r"]
    parsed = parse(words, {name: flag.kind for name, flag in flags.items()})
    options = make(Options, flags, parsed.values)
    assert (options.endpoint, options.keep, options.trouble) == ("/e", True, ("a", "b,c"))
    assert (options.port, options.step_timeout_s, str(options.root)) == (1, 60.0, "/r")


def test_fields_left_out_keep_their_defaults() -> None:
    flags = flags_of(Options)
    assert make(Options, flags, {"endpoint": "/e"}) == Options(endpoint="/e")
    with pytest.raises(UsageError, match="--endpoint is missing: write --endpoint=STRING"):
        make(Options, flags, {})


def test_help_of_options_comes_from_their_docstrings() -> None:
    assert help_lines(flags_of(Options)) == [
        "  --endpoint string (required)",
        "      Where it serves.",
        "  --keep",
        "  --trouble string",
        "      What goes wrong, in words.",
        "  --port int (default 8443)",
        "  --step-timeout duration (default 15s)",
        "  --root path",
    ]
