"""A third party's plugin, built into a wheel and installed in an environment of its own, runs by its name."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from csisidecar.testing.apiserver import FakeAPIServer
from csisidecar.testing.driver import FakeDriver
from tests.whole.processes import eventually, free_port, ready_within

pytestmark = [pytest.mark.whole, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with two wheels in it; only third parties' libraries are borrowed from ours."""
    place = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    for source in (ROOT, ROOT / "examples" / "plugin"):
        # Built from a copy: building leaves folders beside the sources.
        copy = place / source.name
        ignore = ("--exclude=.git", "--exclude=.venv", "--exclude=build", "--exclude=*.egg-info")
        copy.mkdir()
        subprocess.run(f"tar -C {source} {' '.join(ignore)} -cf - . | tar -C {copy} -xf -", shell=True, check=True)
        wheel = (*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(place), str(copy))
        subprocess.run(wheel, check=True, capture_output=True, timeout=120)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place / "env")], check=True, timeout=60)
    python = place / "env" / "bin" / "python"
    wheels = sorted(str(wheel) for wheel in place.glob("*.whl"))
    assert len(wheels) == 2
    install = (*pip, "--python", str(python), "install", "--no-deps", "--no-index", *wheels)
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    libraries = sysconfig.get_paths()["purelib"]
    site = next((place / "env" / "lib").glob("python*/site-packages"))
    (site / "borrowed.pth").write_text(f"{libraries}\n")
    return place / "env"


async def test_plugin_in_its_own_wheel_runs_by_its_name(environment: Path, tmp_path: Path) -> None:
    driver = FakeDriver()
    port = free_port()
    async with FakeAPIServer() as server, driver.serving(tmp_path / "csi.sock"):
        server.write_kubeconfig(tmp_path / "kubeconfig")
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": "pv-1"},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "csi": {"driver": driver.settings.name, "volumeHandle": "v1"},
            },
        }
        server.objects.create(volume)
        process = await asyncio.create_subprocess_exec(
            str(environment / "bin" / "csisidecar"),
            "run",
            "--mode=volume-labels",
            "--plugin-option=volume-labels.label=example.com/by",
            f"--kubeconfig={tmp_path}/kubeconfig",
            f"--csi-address={tmp_path}/csi.sock",
            f"--http-endpoint=127.0.0.1:{port}",
        )
        try:
            assert "[+]mode-volume-labels ok" in await ready_within(port, 200, 20)

            def is_labeled() -> bool:
                found = server.objects.get("persistentvolumes", "pv-1")
                return found is not None and found["metadata"].get("labels") == {"example.com/by": driver.settings.name}

            await eventually(is_labeled, 10)
        finally:
            process.terminate()
            await process.wait()
        assert process.returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--mode=nonsense",), "volume-labels"),
        (("--mode=volume-labels", "--plugin-option=volume-labels.colour=red"), "volume-labels.colour is unknown"),
    ],
    ids=["unknown-mode-lists-it", "its-own-option-error"],
)
def test_wrong_words_are_answered_in_one_line(environment: Path, words: tuple[str, ...], said: str) -> None:
    command = [str(environment / "bin" / "csisidecar"), "run", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode in (1, 2)
    assert said in done.stderr
