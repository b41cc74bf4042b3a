"""The demo's servers as programs: what they refuse at the start, on one line that names the flag."""

from __future__ import annotations

import asyncio
import tempfile
from typing import TYPE_CHECKING

import pytest

from csisidecar.demo.story import DemoOptions
from csisidecar.errors import ConfigError
from csisidecar.testing.apiserver import FakeAPIServer, ServerOptions
from csisidecar.testing.apiserver import serve as serve_api
from csisidecar.testing.driver.fake import FakeDriver
from csisidecar.testing.driver.serve import DriverOptions
from csisidecar.testing.driver.serve import serve as serve_driver

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is not below the temporary one."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path


async def refusal(work: object) -> str:
    with pytest.raises(ConfigError) as caught:
        async with asyncio.timeout(5):
            await work  # type: ignore[misc]
    return str(caught.value)


@pytest.mark.parametrize("port", [-1, 65536, 70000])
async def test_a_port_that_is_none(port: int, tmp_path: Path) -> None:
    said = await refusal(serve_api(ServerOptions(kubeconfig_out=tmp_path / "k", port=port)))
    assert said.startswith(f"--port {port} is no port")


async def test_folders_that_are_missing_are_named_and_not_made(elsewhere: Path) -> None:
    missing = elsewhere / "missing"
    out = elsewhere / "kubeconfig"
    for flag, work in {
        "--endpoint": serve_driver(DriverOptions(endpoint=str(missing / "csi.sock"))),
        "--root": serve_driver(DriverOptions(endpoint=str(elsewhere / "csi.sock"), root=missing / "a" / "b")),
        "--data": serve_api(ServerOptions(kubeconfig_out=out, data=missing / "data")),
        "--audit": serve_api(ServerOptions(kubeconfig_out=out, audit=missing / "audit")),
        "--kubeconfig-out": serve_api(ServerOptions(kubeconfig_out=missing / "kubeconfig")),
    }.items():
        assert (await refusal(work)).startswith(f"{flag} {missing}")
    with pytest.raises(ConfigError, match="--audit"):
        DemoOptions(audit=missing / "audit")
    assert not missing.exists()


async def test_a_socket_that_is_served_already(tmp_path: Path) -> None:
    path = tmp_path / "csi.sock"
    async with FakeDriver().serving(path):
        said = await refusal(serve_driver(DriverOptions(endpoint=str(path))))
    assert said == f"--endpoint {path}: another process serves there"


def test_orders_for_a_resource_there_is_not_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"persistentvolume is no resource .*; did you mean persistentvolumes"):
        FakeAPIServer(trouble=["create:persistentvolume:error=500"])
    with pytest.raises(ConfigError, match="error needs an argument, for example error=500"):
        FakeAPIServer(trouble=["create:persistentvolumes:error"])
    for good in ("get:*:delay=1", "patch:volumeattachments/status:error=500", "*:leases.coordination.k8s.io:drop"):
        FakeAPIServer(trouble=[good])
        DemoOptions(trouble=(good,))


def test_the_story_names_both_grammars() -> None:
    with pytest.raises(ConfigError, match=r"METHOD:KIND.*for the driver.*VERB:RESOURCE:KIND.*for the API server"):
        DemoOptions(trouble=("foo",))


async def test_the_own_certificate_is_kept_with_the_data(tmp_path: Path) -> None:
    kept = []
    for _ in range(2):
        async with FakeAPIServer(tls=True, data=tmp_path / "data") as server:
            kept.append(server.kubeconfig()["clusters"][0]["cluster"]["certificate-authority-data"])
    assert kept[0] == kept[1]
    assert (tmp_path / "data" / "tls-key.pem").stat().st_mode & 0o077 == 0
