"""The pages tell the truth: links lead somewhere, flags and metrics exist, code and commands work."""

from __future__ import annotations

import ast
import asyncio
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar import KubeConfig, PluginSettings, Sidecar, SidecarConfig
from csisidecar.cli.demo import _SERVED
from csisidecar.cli.flags import FLAGS, State
from csisidecar.cli.options import flags_of
from csisidecar.cli.rbac import OWN
from csisidecar.cli.values import read as read_words
from csisidecar.clock import SystemClock
from csisidecar.demo.props import build_claim, build_class
from csisidecar.demo.stage import set_up
from csisidecar.runtime import background
from csisidecar.testing.apiserver import FakeAPIServer
from csisidecar.testing.driver import FakeDriver
from tests.docs.places import PAGES, ROOT, blocks, prose, read
from tests.whole.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from prometheus_client import Metric

pytestmark = [pytest.mark.timeout(120)]

LINK = re.compile(r"!?\[[^]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FLAG = re.compile(r"(?<![\w-])--([a-z][a-z0-9-]+)")
TABLE_ROW = re.compile(r"^\| `([a-z_]+)` \| (\w+) \| ([\w, ]*?) ?\|", re.MULTILINE)

NOT_OURS = {
    *("target", "patch-file", "type", "kubeconfig-out"),  # docker, kubectl, the demo's API server
    *("drivername", "endpoint", "nodeid", "enable-attach", "kubelet-registration-path"),  # others'
    "check",  # of the script that generates the flags page
}
"""Flags of other programs that the pages mention."""


def anchor(heading: str) -> str:
    """What GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    here = (ROOT / page).parent
    broken = []
    for target in LINK.findall(prose(page)):
        if target.startswith("https://"):
            continue
        name, _, part = target.partition("#")
        file = (here / name).resolve() if name else ROOT / page
        is_there = file.exists() and file.is_relative_to(ROOT)
        if not is_there or (part and part not in map(anchor, HEADING.findall(file.read_text()))):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", [page for page in PAGES if page != "docs/flags.md"])
def test_flags_that_are_named_exist(page: str) -> None:
    plain = {flag.name for flag in FLAGS}
    demo = set()
    for served in _SERVED.values():
        module = __import__(served.module, fromlist=[served.options])
        demo |= set(flags_of(getattr(module, served.options)))
    named = set(FLAG.findall(read(page)))
    prefixed = {f"{mode}-{name}" for mode in ("attacher", "provisioner") for name in plain}
    assert named - plain - prefixed - demo - set(OWN) - NOT_OURS - {"help"} == {"retry-interval-"} & named


def commands() -> Iterator[tuple[str, list[str]]]:
    for page in PAGES:
        for block in blocks(page, "console"):
            for line in block.splitlines():
                if line.startswith("$ csisidecar"):
                    yield page, shlex.split(line.removeprefix("$ ").removesuffix("&"))


@pytest.mark.parametrize(
    ("page", "words"), list(commands()), ids=lambda value: value if isinstance(value, str) else None
)
def test_commands_in_pages_are_understood(page: str, words: list[str]) -> None:
    if words[1] == "run":
        assert read_words(words[2:]).notices == (), page
        return
    done = subprocess.run(
        [sys.executable, "-m", *words, "--help"], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, (page, done.stderr)


def python_blocks() -> list[tuple[str, str]]:
    return [(page, block) for page in PAGES for block in blocks(page, "python")]


def test_code_in_pages_has_the_types_it_says(tmp_path: Path) -> None:
    files = []
    for number, (page, block) in enumerate(python_blocks()):
        # Blocks of the decisions are cut out of something; everything else stands alone.
        if page.startswith("docs/decisions/"):
            compile(block, page, "exec")
            continue
        file = tmp_path / f"block_{number}_{re.sub(r'[^a-z]', '_', page.lower())}.py"
        file.write_text(block)
        files.append(str(file))
    assert len(files) > 5
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    complaints = [line for line in done.stdout.splitlines() if str(tmp_path) in line]
    assert complaints == []


@pytest.mark.parametrize(
    ("page", "block"),
    [(page, block) for page, block in python_blocks() if not page.startswith("docs/decisions/")],
    ids=lambda value: value if value.endswith(".md") else None,
)
def test_code_in_pages_runs(page: str, block: str) -> None:
    exec(compile(block, page, "exec"), {"__name__": "block"})


def load(page: str, marker: str) -> dict[str, Any]:
    """The names that the one block with `marker` in it defines."""
    (block,) = [block for block in blocks(page, "python") if marker in block]
    names: dict[str, Any] = {"__name__": "block"}
    exec(compile(block, page, "exec"), names)
    return names


async def test_embedding_in_the_readme_provisions(tmp_path: Path) -> None:
    serve = load("README.md", "async def serve(")["serve"]
    driver, done = FakeDriver(), asyncio.Event()
    name = driver.settings.name
    async with FakeAPIServer() as server:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        server.objects.create(build_class("c", name))
        claim = build_claim("c", storage_class="c")
        claim["metadata"]["annotations"] = {"volume.kubernetes.io/storage-provisioner": name}
        server.objects.create(claim)
        async with asyncio.TaskGroup() as group:
            group.create_task(serve(str(tmp_path / "kubeconfig"), driver.services, done))
            await eventually(lambda: server.objects.count("persistentvolumes") == 1, 20)
            done.set()
    assert len(driver.volumes) == 1


async def test_plugin_in_the_readme_warns_about_late_claims(tmp_path: Path) -> None:
    plugin = load("README.md", "class LateClaims")["LateClaims"](PluginSettings(options={"minutes": "5"}))
    async with FakeAPIServer() as server:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        old = build_claim("old")
        created = datetime.now(UTC) - timedelta(minutes=6)
        old["metadata"]["creationTimestamp"] = f"{created:%Y-%m-%dT%H:%M:%SZ}"
        server.objects.load([old, build_claim("young")])
        config = SidecarConfig(kube=KubeConfig(kubeconfig=str(tmp_path / "kubeconfig")))
        sidecar = Sidecar(config, plugins=[plugin], csi=FakeDriver().services)
        async with background(sidecar.run(), name="sidecar"):
            await eventually(lambda: bool(told(server.objects.list("events"))), 20)
            assert told(server.objects.list("events")) == [("old", "no volume after 0:05:00")]


def told(events: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(e["involvedObject"]["name"], e["message"]) for e in events if e["reason"] == "StillPending"]


def test_plugins_page_shows_the_example_as_it_is() -> None:
    code, settings = (ROOT / "examples" / "plugin" / name for name in ("volume_labels.py", "pyproject.toml"))
    assert blocks("docs/plugins.md", "python") == [code.read_text()]
    assert blocks("docs/plugins.md", "toml") == [settings.read_text()]


def declared(family: Metric) -> tuple[str, str]:
    """A family's name and type as the page has them."""
    return (f"{family.name}_total" if family.type == "counter" else family.name), family.type


@pytest.mark.parity("R-METRIC-05")
async def test_metrics_page_lists_what_a_running_sidecar_has() -> None:
    page = {name: (kind, tuple(labels.split(", ")) if labels else ()) for name, kind, labels in metric_rows()}
    async with set_up(SystemClock()) as stage:
        await eventually(lambda: stage.sidecar.health.report().is_ok, 20)
        families = list(stage.sidecar.telemetry.registry.collect())
    assert {name: kind for name, (kind, _) in page.items()} == dict(map(declared, families))
    for family in families:
        _, labels = page[declared(family)[0]]
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(labels), family.name


def metric_rows() -> list[tuple[str, str, str]]:
    rows = TABLE_ROW.findall(read("docs/metrics.md"))
    assert len({name for name, _, _ in rows}) == len(rows)
    return rows


def normalized(text: str) -> list[str]:
    """Lines without what differs from run to run: times, ports, names that are made up."""
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{16}\b|csi-[0-9a-f]{12}…", "ID", text)
    text = re.sub(r"csisidecar-demo-\w+", "DIRECTORY", re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", text))
    # A slow machine may still be writing the Events on the Leases when the story begins.
    text = re.sub(r"for this volume: \d+", "for this volume: SOME", text)
    return re.sub(r"\d+\.\d+ s", "TIME", text).splitlines()


def test_readme_shows_what_the_demo_really_says() -> None:
    (shown,) = [block for block in blocks("README.md", "text") if "the life of one volume" in block]
    done = subprocess.run(
        [sys.executable, "-m", "csisidecar", "demo"], capture_output=True, text=True, timeout=60, check=True
    )
    told = [line.strip() for line in normalized(done.stdout)]
    for line in normalized(shown):
        if line.strip() != "…":
            assert told[told.index(line.strip()) :], line
            told = told[told.index(line.strip()) + 1 :] if line.strip() else told


def texts_in_the_code() -> list[str]:
    """Every text that the program can say, with a NUL for what is filled in."""
    found = []
    for file in (ROOT / "csisidecar").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "\0" for v in node.values]
                found.append("".join(str(part) for part in parts))
    return found


def test_runbook_quotes_what_the_program_says() -> None:
    texts = texts_in_the_code()
    quoted = [
        text
        for line in read("docs/runbook.md").splitlines()
        if line.startswith("| ")
        for text in re.findall(r"`([^`]+)`", line.split(" | ")[0])
    ]
    assert len(quoted) > 40
    # What is filled in, names of checks and states among it.
    fill_ins = re.compile(
        r"…|\{…[^}]*\}|[\"\[\]{}]|N s\b|"
        r"\b(?:[A-Z]|KIND|NAME|TYPE|TEXT|driver|api|stores|mode|list|watch|(?:waiting|lost) for)\b"
    )
    pieces = [piece.strip(" :/'-") for text in quoted for piece in fill_ins.split(text) if piece]
    unknown = {piece for piece in pieces if len(piece) > 2 and not any(piece in text for text in texts)}
    assert unknown == set()


REFUSALS = {
    "cloning a PersistentVolumeClaim": "Clones",
    "restoring a VolumeSnapshot": "snapshots",
    "volume attributes classes are not supported": "VolumeAttributesClass",
    "in-tree migration is not supported": "In-tree",
    "topology is not supported": "Topology",
}
"""What the program says of a feature that it lacks → how the README names the feature."""


def test_readme_lists_what_is_refused_and_nothing_else() -> None:
    section = read("README.md").partition("## What is not there yet")[2].partition("\n## ")[0]
    texts = texts_in_the_code()
    refused = {word for text, word in REFUSALS.items() if any(text in found for found in texts)}
    assert {word for word in REFUSALS.values() if word in section} == refused
    not_built = {flag.name for flag in FLAGS if flag.state is State.NOT_BUILT}
    assert set(FLAG.findall(section)) <= not_built
