"""From kubeconfigs and service accounts to a target: what is read, when it is read again, what is said of bad ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.clock import SystemClock
from csisidecar.config import KubeConfig
from csisidecar.errors import ConfigError
from csisidecar.kube import connect
from csisidecar.kube.connect import RETRY_S, build_target

if TYPE_CHECKING:
    from datetime import datetime


_CA = """
-----BEGIN CERTIFICATE-----
MIIBejCCASGgAwIBAgIUT40My9tzVy34wHpZM+6R8hQeP/IwCgYIKoZIzj0EAwIw
EjEQMA4GA1UEAwwHdGVzdC1jYTAgFw0yNjExMjEyMjMwMjJaGA8yMTI2MTAyODIy
MzAyMlowEjEQMA4GA1UEAwwHdGVzdC1jYTBZMBMGByqGSM49AgEGCCqGSM49AwEH
A0IABGYH3jX3v4A1XMGse2We7DHnUjM+WSEL5mGs+atuDDrWdeyDV5kNCb83UUw+
RChEGjhZo/SJXrP/HTXuIUDDBCWjUzBRMB0GA1UdDgQWBBSQ0JGEx+adPoMr6dP9
vb3pZ4QJrDAfBgNVHSMEGDAWgBSQ0JGEx+adPoMr6dP9vb3pZ4QJrDAPBgNVHRMB
Af8EBTADAQH/MAoGCCqGSM49BAMCA0cAMEQCIHPLZgLHg3ROflfQ0Q67Ni/t3stK
nWyKtC2NRc/DY2b8AiB6UcS9KL+KEjR6LSNZZ8NDZvbjbCTa/b4STx5fsi8f8A==
-----END CERTIFICATE-----
"""


class Ahead:
    """A clock some seconds ahead of the real one."""

    def __init__(self) -> None:
        self.by_s = 0.0
        self._real = SystemClock()

    def monotonic(self) -> float:
        return self._real.monotonic() + self.by_s

    def now(self) -> datetime:
        return self._real.now()


def kubeconfig(where: Path, *, user: dict[str, Any] | None = None, **changes: Any) -> str:
    text: dict[str, Any] = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://10.0.0.1:8080/"}}],
        "users": [{"name": "u", "user": user or {}}],
    }
    text.update(changes)
    path = where / "kubeconfig"
    path.write_text(json.dumps({key: value for key, value in text.items() if value is not None}))
    return str(path)


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def clock() -> Ahead:
    return Ahead()


def account(where: Path, token: str = "first\n") -> Path:
    (where / "token").write_text(token)
    (where / "ca.crt").write_text(_CA)
    return where


async def test_token_loses_its_newline_and_the_server_its_slash(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, user={"token": "secret\n"})
    target = await build_target(KubeConfig(kubeconfig=path, user_agent="csi-attacher/1"))
    assert (target.host, target.user_agent, target.ssl_context) == ("http://10.0.0.1:8080", "csi-attacher/1", None)
    assert await target.credentials.authorization() == "Bearer secret"


async def test_master_replaces_the_server_and_keeps_the_credentials(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, user={"username": "me", "password": "pw"})
    target = await build_target(KubeConfig(kubeconfig=path, master="http://127.0.0.1:9/"))
    assert target.host == "http://127.0.0.1:9"
    assert (await target.credentials.authorization()).startswith("Basic ")


async def test_master_alone_is_a_server_without_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.9.9.9")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    target = await build_target(KubeConfig(master="127.0.0.1:8001"), account=account(tmp_path))
    assert target.host == "http://127.0.0.1:8001"
    assert await target.credentials.authorization() == ""


async def test_token_file_is_read_again_after_a_minute(tmp_path: Path, clock: Ahead) -> None:
    (tmp_path / "token").write_text("first\n")
    path = kubeconfig(tmp_path, user={"tokenFile": "token"})
    target = await build_target(KubeConfig(kubeconfig=path), clock=clock)
    assert await target.credentials.authorization() == "Bearer first"
    (tmp_path / "token").write_text("second\n")
    assert await target.credentials.authorization() == "Bearer first"
    clock.by_s = 61
    assert await target.credentials.authorization() == "Bearer second"


async def test_rejected_token_is_looked_for_in_the_kubeconfig_again(tmp_path: Path, clock: Ahead) -> None:
    path = kubeconfig(tmp_path, user={"token": "old"})
    credentials = (await build_target(KubeConfig(kubeconfig=path), clock=clock)).credentials
    kubeconfig(tmp_path, user={"token": "new"})
    clock.by_s = 100
    assert await credentials.authorization() == "Bearer old"
    credentials.rejected()
    clock.by_s += RETRY_S + 1
    assert await credentials.authorization() == "Bearer new"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"clusters": [{"name": "c", "cluster": {"server": "http://10.0.0.2"}}]}, "another server"),
        ({"current-context": None}, "current-context"),
    ],
)
async def test_kubeconfig_that_turned_unusable_changes_nothing(
    tmp_path: Path, clock: Ahead, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], says: str
) -> None:
    path = kubeconfig(tmp_path, user={"token": "old"})
    credentials = (await build_target(KubeConfig(kubeconfig=path), clock=clock)).credentials
    kubeconfig(tmp_path, user={"token": "new"}, **changes)
    credentials.rejected()
    clock.by_s = RETRY_S + 1
    assert await credentials.authorization() == "Bearer old"
    assert says in str(vars(caplog.records[-1])["error"])


async def test_service_account_token_is_read_again_after_a_minute_or_a_rejection(
    tmp_path: Path, clock: Ahead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    target = await build_target(KubeConfig(), account=account(tmp_path), clock=clock)
    assert target.host == "https://[fd00::1]:443"
    assert target.ssl_context is not None
    assert await target.credentials.authorization() == "Bearer first"
    account(tmp_path, "second\n")
    clock.by_s = 61
    assert await target.credentials.authorization() == "Bearer second"
    account(tmp_path, "third\n")
    clock.by_s += RETRY_S
    assert await target.credentials.authorization() == "Bearer second"
    target.credentials.rejected()
    assert await target.credentials.authorization() == "Bearer third"


async def test_token_that_cannot_be_read_again_stays_in_use(
    tmp_path: Path, clock: Ahead, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    target = await build_target(KubeConfig(), account=account(tmp_path), clock=clock)
    (tmp_path / "token").unlink()
    clock.by_s = 61
    assert await target.credentials.authorization() == "Bearer first"
    assert [record.message for record in caplog.records] == ["credentials not renewed, the old ones stay in use"]
    account(tmp_path, "second\n")
    clock.by_s += RETRY_S
    assert await target.credentials.authorization() == "Bearer second"


def plugin(where: Path, *, expires: str | None = None) -> dict[str, Any]:
    """An exec plugin that gives token-1, token-2, … and counts its runs in a file."""
    script = where / "plugin.py"
    state = f', "expirationTimestamp": "{expires}"' if expires else ""
    script.write_text(
        textwrap.dedent(f"""
            import pathlib
            runs = pathlib.Path({str(where / "runs")!r})
            count = int(runs.read_text()) + 1 if runs.exists() else 1
            runs.write_text(str(count))
            print('{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",'
                  ' "status": {{"token": "token-%d"{state}}}}}' % count)
        """)
    )
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": [str(script)]}}


async def test_plugin_runs_again_before_its_credential_expires(tmp_path: Path, clock: Ahead) -> None:
    path = kubeconfig(tmp_path, user=plugin(tmp_path, expires="2020-01-01T00:00:00Z"))
    target = await build_target(KubeConfig(kubeconfig=path), clock=clock)
    assert await target.credentials.authorization() == "Bearer token-1"
    clock.by_s = 61
    assert await target.credentials.authorization() == "Bearer token-2"


@pytest.mark.parametrize("expires", [None, "2199-01-01T00:00:00Z"])
async def test_plugin_runs_again_only_when_its_credential_is_rejected(
    tmp_path: Path, clock: Ahead, expires: str | None
) -> None:
    path = kubeconfig(tmp_path, user=plugin(tmp_path, expires=expires))
    target = await build_target(KubeConfig(kubeconfig=path), clock=clock)
    clock.by_s = 3600
    assert await target.credentials.authorization() == "Bearer token-1"
    target.credentials.rejected()
    assert await target.credentials.authorization() == "Bearer token-2"
    target.credentials.rejected()
    assert await target.credentials.authorization() == "Bearer token-2", "not twice within ten seconds"


async def failure(config: KubeConfig, where: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        await build_target(config, account=where or Path("/nowhere"))
    text = str(caught.value)
    assert "\n" not in text
    return text


async def test_neither_kubeconfig_nor_cluster_says_what_to_do() -> None:
    assert "name a kubeconfig with --kubeconfig" in await failure(KubeConfig())
    with pytest.raises(ConfigError, match="--kubeconfig"):
        async with connect(KubeConfig()):
            pytest.fail("there is nothing to connect to")


async def test_missing_service_account_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    text = await failure(KubeConfig(), tmp_path)
    assert str(tmp_path) in text
    assert "automountServiceAccountToken" in text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "shape of a kubeconfig"),
        ("just words", "shape of a kubeconfig"),
        ("[1, 2]", "shape of a kubeconfig"),
        ("a: [", "cannot be used"),
        ("\t", "cannot be used"),
        ("apiVersion: v1\nkind: Config\n", "has no current-context"),
        ("current-context: x\ncontexts: []\n", "Expected object with name x in"),
        ("current-context: x\ncontexts: [{name: x}]\nclusters: []\nusers: []\n", "cannot be used"),
    ],
)
async def test_malformed_kubeconfig_is_named_with_the_reason(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    text = await failure(KubeConfig(kubeconfig=str(path)))
    assert f"--kubeconfig={path}" in text
    assert says in text


async def test_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "does not exist" in await failure(KubeConfig(kubeconfig=str(tmp_path / "none")))
    assert "cannot be read" in await failure(KubeConfig(kubeconfig=str(tmp_path)))


async def test_context_without_server_is_named(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, clusters=[{"name": "c", "cluster": {}}])
    text = await failure(KubeConfig(kubeconfig=path))
    assert path in text


async def test_url_of_nothing_is_named(tmp_path: Path) -> None:
    assert "--master" in await failure(KubeConfig(master="ftp://x"))
    path = kubeconfig(tmp_path, clusters=[{"name": "c", "cluster": {"server": "https://"}}])
    assert "--kubeconfig" in await failure(KubeConfig(kubeconfig=path))


async def test_bad_certificate_is_named(tmp_path: Path) -> None:
    cluster = {"server": "https://10.0.0.1", "certificate-authority-data": "bm90IGEgY2VydA=="}
    path = kubeconfig(tmp_path, clusters=[{"name": "c", "cluster": cluster}], user={"token": "t"})
    assert "bad certificate or key" in await failure(KubeConfig(kubeconfig=path))


async def test_failing_plugin_is_named_without_secrets(tmp_path: Path) -> None:
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/no/such/plugin"}}
    path = kubeconfig(tmp_path, user=user)
    assert "/no/such/plugin" in await failure(KubeConfig(kubeconfig=path))
    path = kubeconfig(tmp_path, users=[{"name": "u", "user": {"exec": {"token": "top-secret"}}}])
    assert "top-secret" not in await failure(KubeConfig(kubeconfig=path))


async def test_insecure_cluster_and_server_name_are_honored(tmp_path: Path) -> None:
    cluster = {"server": "https://10.0.0.1", "insecure-skip-tls-verify": True, "tls-server-name": "kubernetes"}
    path = kubeconfig(tmp_path, clusters=[{"name": "c", "cluster": cluster}], user={"token": "t"})
    target = await build_target(KubeConfig(kubeconfig=path))
    assert target.ssl_context is not None
    assert not target.ssl_context.check_hostname
    assert target.server_name == "kubernetes"


async def test_proxy_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    path = kubeconfig(tmp_path, user={"token": "t"})
    assert (await build_target(KubeConfig(kubeconfig=path))).proxy == "http://proxy:3128"
    monkeypatch.setenv("no_proxy", "10.0.0.1")
    assert (await build_target(KubeConfig(kubeconfig=path))).proxy is None


_PROBE = """
import asyncio, json, sys
from csisidecar.config import KubeConfig
from csisidecar.kube.connect import build_target

async def main():
    target = await build_target(KubeConfig(kubeconfig=sys.argv[1]))
    seen = {"host": target.host, "auth": await target.credentials.authorization()}
    count = sum(name.startswith("kubernetes_asyncio.client.models.") for name in sys.modules)
    import kubernetes_asyncio
    from kubernetes_asyncio import client, config, watch
    from kubernetes_asyncio.client import CoreV1Api, V1Pod
    seen["names"] = [CoreV1Api.__name__, V1Pod(kind="Pod").kind, watch.Watch.__name__, kubernetes_asyncio.__version__]
    seen["same"] = client.Configuration is client.configuration.Configuration
    seen["dir"] = sorted(name for name in dir(client) if not name.startswith("_"))
    seen["pod"] = client.models.V1Pod is V1Pod
    seen["models"] = sorted(name for name in dir(client.models) if not name.startswith("_"))
    print(json.dumps([count, seen]))

asyncio.run(main())
"""


def probe(path: str, *, eager: bool) -> tuple[int, dict[str, Any]]:
    environment = {**os.environ, "CSISIDECAR_EAGER_IMPORT": "1" if eager else "0"}
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, path], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    count, seen = json.loads(done.stdout)
    return count, seen


def test_late_import_gives_what_the_ordinary_one_gives_without_its_models(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, user={"token": "t"})
    few, late = probe(path, eager=False)
    many, ordinary = probe(path, eager=True)
    assert few == 0
    assert many > 500
    assert set(ordinary["models"]) <= set(late["models"])
    assert set(ordinary["dir"]) <= set(late["dir"])
    for seen in (late, ordinary):
        seen.pop("dir")
        seen.pop("models")
    assert late == ordinary
