"""The commands as their callers see them: what is printed where, and the exit codes; a few as real processes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from csisidecar.cli import attacher_main, main, provisioner_main
from csisidecar.version import VERSION

REPOSITORY = Path(__file__).parents[2]


def run(*words: str, timeout_s: float = 30, **env: str) -> subprocess.CompletedProcess[str]:
    """`python -m csisidecar WORDS` with nothing but `env` and what Python needs around it."""
    paths = os.pathsep.join(filter(None, [str(REPOSITORY), env.pop("PYTHONPATH", "")]))
    return subprocess.run(
        [sys.executable, "-m", "csisidecar", *words],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": paths, **env},
        cwd="/",
        check=False,
    )


def test_help_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["-h"], ["help"]):
        assert main(words) == 0
        captured = capsys.readouterr()
        assert "csisidecar COMMAND" in captured.out
        assert captured.err == ""
    assert main(["help", "run"]) == main(["run", "--help"]) == 0
    assert "--defaults=upstream" in capsys.readouterr().out


def test_help_of_the_drop_ins_is_on_stderr_as_upstreams(capsys: pytest.CaptureFixture[str]) -> None:
    assert attacher_main(["--help"]) == provisioner_main(["-h"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "--reconcile-sync duration (default 1m)" in captured.err
    assert "--volume-name-prefix string (default pvc)" in captured.err


def test_versions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == main(["run", "--version"]) == 0
    assert attacher_main(["--version"]) == provisioner_main(["-version"]) == 0
    assert capsys.readouterr().out == (
        f"csisidecar {VERSION}\ncsisidecar {VERSION}\ncsi-attacher {VERSION}\ncsi-provisioner {VERSION}\n"
    )


def test_no_command_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "demo-apiserver" in captured.err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["rum"], "unknown command 'rum'; did you mean run?"),
        (["--mode=all"], "flags follow a command: csisidecar run"),
        (["run"], "--mode is missing; the modes are: attacher, provisioner"),
        (["run", "--mode=nobody"], "unknown mode 'nobody'; the modes are: attacher, provisioner"),
        (["run", "--mode=all", "--tiemout=1s"], "unknown flag --tiemout; did you mean --timeout?"),
        (["run", "--mode=attacher", "--volume-name-prefix=x"], "belongs to the mode provisioner"),
        (["run", "--mode=all", "--attacher-csi-address=/x"], "write --csi-address"),
        (["run", "--mode=all", "--feature-gates=Topology"], "is not GATE=true or GATE=false"),
        (["run", "--mode=all", "--leader-election-lease-duration=1s"], "must be greater than"),
        (["demo-driver"], "--endpoint is missing"),
        (["demo-driver", "--endpiont=/x"], "did you mean --endpoint?"),
        (["demo", "--logging-format=xml"], "give text or json"),
    ],
)
def test_usage_errors_have_a_reason_and_2(capsys: pytest.CaptureFixture[str], words: list[str], reason: str) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert reason in captured.err.splitlines()[0]


def test_log_flags_are_checked_before_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert attacher_main(["--version", "--logging-format=xml"]) == 1
    assert capsys.readouterr().out == ""


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom csisidecar.cli import main\nmain(['run', '--help'])\n"
        "heavy = {'aiohttp', 'asyncio', 'betterproto2', 'grpclib', 'kubernetes_asyncio', 'tenacity', 'argparse'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True, cwd=REPOSITORY
    )
    assert done.stderr == "[]\n"


def test_warnings_come_before_the_reason_of_the_end() -> None:
    done = run(
        "run",
        "--mode=all",
        "oops",
        "--logtostderr",
        "--feature-gates=WatchList=true",
        "--http-endpoint=",
        "--kubeconfig=/does/not/exist",
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 1
    assert done.stdout == ""
    assert [re.search(r'\] "(.*?)"', line) is not None for line in lines[:3]] == [True] * 3
    assert 'argument="oops"' in lines[0]
    assert 'flags="--logtostderr"' in lines[1]
    assert 'gates="WatchList"' in lines[2]
    assert lines[-1].startswith("csisidecar: --kubeconfig=/does/not/exist does not exist")


def test_one_provisioner_ends_with_its_own_code_and_json_stays_json() -> None:
    words = ["run", "--mode=provisioner", "--http-endpoint=", "--logging-format=json"]
    done = run(*words, KUBECONFIG="/does/not/exist")
    assert done.returncode == 255
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert "/does/not/exist does not exist" in lines[-1]["reason"]


@pytest.mark.parity("R-STOP-02")
async def test_a_waiting_run_ends_with_0_at_the_first_signal(tmp_path: Path) -> None:
    """Waits for a driver that never comes; the API server is not asked for anything before it is there."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n"
        "clusters: [{name: k, cluster: {server: 'http://127.0.0.1:9'}}]\nusers: [{name: u, user: {}}]\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "csisidecar", "run", "--mode=all", "--http-endpoint=", f"--kubeconfig={kubeconfig}"),
        f"--csi-address={tmp_path}/csi.sock",
        stderr=asyncio.subprocess.PIPE,
        cwd=REPOSITORY,
    )
    assert process.stderr is not None
    async with asyncio.timeout(20):
        assert b'"Starting"' in await process.stderr.readline()
        await asyncio.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        rest = await process.stderr.read()
        assert await process.wait() == 0, rest.decode()


DURING_IMPORTS = """
import importlib.abc, os, sys, time

class Signals(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == os.environ["DURING"]:
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))
            time.sleep(10)

sys.meta_path.insert(0, Signals())
from csisidecar.cli import attacher_main, main
sys.exit((attacher_main if "attacher" in sys.argv[0] else main)())
"""


@pytest.mark.parametrize(
    ("command", "module", "number", "end"),
    [
        ("csisidecar run --mode=all", "csisidecar.cli.build", signal.SIGINT, (130, "csisidecar: interrupted\n")),
        ("csisidecar run --mode=all", "csisidecar.cli.build", signal.SIGTERM, (0, "")),
        ("/bin/csi-attacher", "csisidecar.cli.build", signal.SIGINT, (130, "csi-attacher: interrupted\n")),
        ("csisidecar demo", "csisidecar.demo.story", signal.SIGINT, (130, "csisidecar demo: interrupted\n")),
        ("csisidecar demo", "csisidecar.demo.story", signal.SIGTERM, (1, "")),
    ],
)
def test_a_signal_during_the_imports_ends_without_a_traceback(
    command: str, module: str, number: signal.Signals, end: tuple[int, str]
) -> None:
    script = f"import sys\nsys.argv = {command.split()!r}\n{DURING_IMPORTS}"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=REPOSITORY,
        env={**os.environ, "DURING": module, "SIGNAL": str(int(number))},
        check=False,
    )
    assert (done.returncode, done.stderr) == end


async def test_an_interrupted_story_says_so() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "csisidecar", "demo", "--trouble=ControllerPublishVolume:hang", "--step-timeout=60s"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=REPOSITORY,
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        await process.stdout.readline()
        await asyncio.sleep(1)
        process.send_signal(signal.SIGINT)
        _, told = await process.communicate()
    assert (process.returncode, told.decode()) == (1, "csisidecar demo: interrupted\n")


def test_a_drop_in_has_no_flag_for_the_mode(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--mode=provisioner"], ["-mode", "all"]):
        assert attacher_main(words) == 2
        assert capsys.readouterr().err.startswith("csi-attacher: unknown flag --mode")
    assert provisioner_main(["--defaults=user", "--version"]) == 0


def test_a_drop_in_started_by_its_path_calls_itself_by_its_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/csi-attacher", "--nonsense"])
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert attacher_main() == 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == ["csi-attacher:", "csi-attacher"]


# plugins of third parties, found through the metadata of a wheel

PLUGIN = """
from csisidecar.errors import ConfigError

class Mine:
    name = "mine"
    def __init__(self, settings):
        if "color" not in settings.options:
            raise ConfigError("--plugin-option=mine.color is missing")
        raise ConfigError(f"made with {settings.options['color']}, {settings.timeout_s:g}s")
    def lease_name(self, driver_name):
        return None
    def build(self, ctx):
        return ()

def factory(settings):
    return Mine(settings)

class Stranger:
    pass

def stranger(settings):
    return Stranger()
"""


@pytest.fixture
def wheel(tmp_path: Path) -> str:
    """A directory with an installed distribution that offers the modes mine, stranger and broken."""
    (tmp_path / "mine_plugin.py").write_text(PLUGIN)
    info = tmp_path / "mine_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[csisidecar.plugins]\n"
        "mine = mine_plugin:factory\n"
        "stranger = mine_plugin:stranger\n"
        "broken = mine_plugin_that_is_not_there:factory\n"
        "attacher = mine_plugin:factory\n"
    )
    return str(tmp_path)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--mode=mine"], "csisidecar: --plugin-option=mine.color is missing"),
        (["--mode=mine", "--plugin-option=mine.color=red", "--timeout=3s"], "csisidecar: made with red, 3s"),
        (["--mode=broken"], "the plugin of mode broken cannot be loaded: ModuleNotFoundError"),
        (["--mode=stranger"], "the plugin of mode stranger is no plugin: Stranger has no 'name'"),
    ],
)
def test_a_plugin_in_a_wheel_is_found_by_its_mode(wheel: str, words: list[str], reason: str) -> None:
    done = run("run", *words, "--http-endpoint=", PYTHONPATH=wheel)
    assert done.returncode == 1
    assert reason in done.stderr.splitlines()[-1]


def test_installed_modes_are_listed(wheel: str) -> None:
    done = run("run", "--mode=yours", PYTHONPATH=wheel)
    assert done.returncode == 2
    assert "attacher, provisioner, broken, mine, stranger, all" in done.stderr


def test_nobody_replaces_a_built_in_mode(wheel: str) -> None:
    done = run("run", "--mode=attacher", "--http-endpoint=", "--kubeconfig=/does/not/exist", PYTHONPATH=wheel)
    assert "/does/not/exist does not exist" in done.stderr.splitlines()[-1]


def test_roles_of_an_installed_mode_are_its_plugins_to_say(wheel: str) -> None:
    done = run("rbac", "--mode=mine", PYTHONPATH=wheel)
    assert done.returncode == 0
    assert "# What the mode mine asks for besides, its plugin must say.\n" in done.stdout
    assert "name: csisidecar-leases" in done.stdout
    assert "name: csisidecar-provisioner" not in done.stdout
