"""`csisidecar demo` as somebody runs it: a process of its own, judged by its exit code and its words."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.whole

STEPS = (
    "claim default/demo-data created",
    "CreateVolume pvc-",
    "PersistentVolume pvc-",
    "claim Bound to pvc-",
    "pod scheduled to demo-node",
    "attached",
    "publish context: devicePath=",
    "Running; wrote",
    "pod default/demo-app deleted",
    "detached and gone",
    "claim default/demo-data deleted",
    "DeleteVolume vol-",
    "gone",
)


def demo(*flags: str, directory: Path, timeout_s: float = 40) -> subprocess.CompletedProcess[str]:
    """Run the command with its temporary files below `directory`."""
    return subprocess.run(
        [sys.executable, "-m", "csisidecar", "demo", *flags],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, "TMPDIR": str(directory)},
        check=False,
    )


def test_story_is_told_in_order_verified_and_leaves_nothing(tmp_path: Path) -> None:
    ended = demo(directory=tmp_path)
    assert ended.returncode == 0, ended.stderr
    places = []
    start = 0
    for step in STEPS:
        start = ended.stdout.find(step, start)
        assert start >= 0, f"{step!r} is missing or out of order in\n{ended.stdout}"
        places.append(start)
    assert ended.stdout.count("verified: ") == 12
    assert "Every step was verified." in ended.stdout
    assert "\x1b" not in ended.stdout
    assert list(tmp_path.iterdir()) == []


def test_life_of_the_volume_is_ten_requests_and_four_calls(tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    ended = demo(f"--audit={audit}", directory=tmp_path)
    assert "API requests of both modes for this volume: 10\n" in ended.stdout
    assert "CSI calls for this volume: 4\n" in ended.stdout
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    writes = [
        r for r in lines if r["user_agent"].startswith("csisidecar/") and r["verb"] not in ("list", "watch", "get")
    ]
    assert len([r for r in writes if not r["resource"].startswith("leases")]) >= 10


@pytest.mark.parametrize(
    ("trouble", "step", "quote"),
    [
        ("ControllerPublishVolume:Internal", "VolumeAttachment attached", "has status.attachError:\n"),
        ("CreateVolume:ResourceExhausted=no space", "CreateVolume called", "Event ProvisioningFailed of"),
        ("ControllerUnpublishVolume:Internal", "detached", "has status.detachError:\n"),
        ("DeleteVolume:Internal", "DeleteVolume called", "Event VolumeFailedDelete of"),
        ("Probe:notready", "start", "[-]driver "),
        ("GetPluginInfo:empty", "start", "empty name"),
        ("CreateVolume:hang", "CreateVolume called", "the driver has no volume pvc-"),
        ("create:pods:error=500", "pod scheduled", "cannot create pods default/demo-app:\n"),
        ("watch:*:error=500", "start", "cannot watch persistentvolumes"),
        ("create:persistentvolumes:error=500", "PersistentVolume saved", "PersistentVolume"),
    ],
)
def test_trouble_ends_the_story_at_its_step_and_is_quoted(tmp_path: Path, trouble: str, step: str, quote: str) -> None:
    began = time.monotonic()
    ended = demo("--trouble", trouble, "--step-timeout=2s", directory=tmp_path)
    assert ended.returncode == 1, ended.stderr
    assert f"FAILED at step: {step}\n" in ended.stdout
    told = ended.stdout[ended.stdout.index("FAILED") :]
    assert quote in told
    assert time.monotonic() - began < 20
    assert list(tmp_path.iterdir()) == []


def test_attach_error_is_quoted_to_the_letter(tmp_path: Path) -> None:
    ended = demo("--trouble", "ControllerPublishVolume:Internal=disk on fire", "--step-timeout=1s", directory=tmp_path)
    assert ended.returncode == 1
    quoted = re.search(r"VolumeAttachment (csi-[0-9a-f]{64}) has status.attachError:\n +(.*)\n", ended.stdout)
    assert quoted is not None, ended.stdout
    assert quoted[2].startswith("rpc error: code = Internal desc = disk on fire")


def test_trouble_that_passes_does_not_end_the_story(tmp_path: Path) -> None:
    ended = demo("--trouble", "ControllerPublishVolume:Internal x1", directory=tmp_path)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("flag", ["--trouble=Foo", "--trouble=list:pods:nonsense", "--step-timeout=-1s", "--kep"])
def test_wrong_flag_is_refused_in_one_line_before_anything_starts(tmp_path: Path, flag: str) -> None:
    ended = demo(flag, directory=tmp_path)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_kept_demo_serves_until_a_signal_and_cleans_up(tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path.parent / f"{tmp_path.name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "csisidecar", "demo", "--keep"],
            stdout=out,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
    try:
        deadline = time.monotonic() + 30
        while "export KUBECONFIG=" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        found = re.search(r"export KUBECONFIG=(\S+)", log.read_text())
        assert found is not None, log.read_text()
        assert Path(found[1]).read_text().startswith("{")
        process.send_signal(number)
        assert process.wait(timeout=20) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        log.unlink()
    assert list(tmp_path.iterdir()) == []
