"""The committed messages are what the generator makes today."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def _check(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "protos" / "generate.py"), "--check"]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=50)


def test_generated_code_is_fresh() -> None:
    done = _check(_ROOT)
    assert done.returncode == 0, done.stdout


def test_staleness_is_found_and_shown(tmp_path: Path) -> None:
    shutil.copytree(_ROOT / "protos", tmp_path / "protos")
    shutil.copytree(_ROOT / "csisidecar" / "csi" / "_generated", tmp_path / "csisidecar" / "csi" / "_generated")
    proto = tmp_path / "protos" / "csi.proto"
    proto.write_text(proto.read_text().replace("map<string, string> secrets = 2 [(csi_secret) = true]", "string x = 2"))
    done = _check(tmp_path)
    assert done.returncode == 1
    assert '-    "DeleteVolumeRequest": ("secrets",),' in done.stdout
