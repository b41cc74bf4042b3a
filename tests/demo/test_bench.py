"""The bench's own arithmetic and its processes; the figures themselves are no test."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from csisidecar.demo.bench import Figures, machine, rows
from csisidecar.demo.processes import ProcessEnded, program
from csisidecar.demo.stage import SIDECAR_AGENT
from csisidecar.demo.story import count_requests
from csisidecar.testing.apiserver import AuditRecord


def record(verb: str, resource: str, agent: str = SIDECAR_AGENT) -> AuditRecord:
    return AuditRecord(time="", verb=verb, resource=resource, user_agent=agent)


def test_requests_of_a_volume_leave_out_watches_leases_and_everybody_else() -> None:
    counted = count_requests(
        [
            record("patch", "persistentvolumes"),
            record("patch", "persistentvolumes"),
            record("get", "persistentvolumes"),
            record("watch", "persistentvolumes"),
            record("list", "persistentvolumes"),
            record("update", "leases.coordination.k8s.io"),
            record("patch", "persistentvolumes", agent="csisidecar-demo-controllers"),
        ]
    )
    assert counted == {("patch", "persistentvolumes"): 2, ("get", "persistentvolumes"): 1}


def test_figures_that_were_not_measured_say_so() -> None:
    figures = Figures(start_to_first_pv_s=[0.5, 0.9, 0.4], start_to_first_pv_cpu_s=[0.3, 0.3, 0.3])
    shown = dict(rows(figures))
    assert shown["start to first PV"] == "0.50 s (of 0.50, 0.90, 0.40)"
    assert shown["RSS idle, both modes"] == "not measured"
    assert shown["requests of one volume's life"] == "not measured"
    assert all(machine().values())


async def test_program_is_measured_and_ended_with_its_block(tmp_path: Path) -> None:
    words = ("demo-apiserver", f"--kubeconfig-out={tmp_path}/kubeconfig")
    async with program("server", *words, log=tmp_path / "log") as server:
        assert server.memory_bytes() > 2**20
        assert server.cpu_s() >= 0
        pid = server.process.pid
        os.kill(pid, 0)
    assert server.process.returncode is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_program_that_ends_by_itself_is_told_with_its_last_words(tmp_path: Path) -> None:
    async with program("server", "demo-apiserver", "--no-such-flag", log=tmp_path / "log") as server:
        await server.process.wait()
        with pytest.raises(ProcessEnded, match=r"server ended with 2:\n.*no-such-flag"):
            server.check()


def test_bench_that_is_stopped_leaves_no_process_and_no_directory(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "csisidecar.demo.bench", "--objects=0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        deadline = time.monotonic() + 20
        while not list(tmp_path.glob("*/csi.sock")) and time.monotonic() < deadline:
            time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
        assert children
        process.terminate()
        _, told = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1
    assert told.endswith("bench: stopped\n")
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert list(tmp_path.iterdir()) == []
