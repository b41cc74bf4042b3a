"""A real etcd and kube-apiserver on loopback, for tests that want to know what the real one says.

The binaries come from the folder KUBEBUILDER_ASSETS, laid out as `setup-envtest` does it. Nothing is installed and
nothing outlives the block. Without the folder the tests that need it are skipped and say so.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import ssl
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from csisidecar.testing.apiserver.certificates import self_signed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

ADMIN = "envtest-admin"
MASTERS = ("system:masters",)
START_S = 60.0
STOP_S = 15.0
TRIES = 3
"""Free ports are found before they are used, so somebody may take one in between."""


class NotStartedError(Exception):
    """The control plane did not come up; the message ends with the end of its log."""


@dataclass(frozen=True, kw_only=True)
class ControlPlane:
    """A running API server and how to reach it."""

    url: str
    etcd_url: str
    """Plain HTTP, for tests that compact history."""
    ca_file: Path
    folder: Path
    """Logs and everything else; the caller's."""
    kubeconfig: Path
    """The administrator's; group ``system:masters``."""
    kubeconfigs: Mapping[str, Path]
    """User → kubeconfig, the administrator included."""

    def log(self, name: str) -> str:
        """What ``etcd`` or ``kube-apiserver`` wrote."""
        return (self.folder / f"{name}.log").read_text(errors="replace")


def find_assets() -> Path | None:
    """The folder with the binaries, None when the variable is not set."""
    value = os.environ.get("KUBEBUILDER_ASSETS")
    return Path(value) if value else None


def why_not(*more: str) -> str:
    """Why the real API server cannot be started, empty when it can; `more` names further binaries to look for."""
    assets = find_assets()
    if assets is None:
        return "KUBEBUILDER_ASSETS is not set: it names the folder with etcd and kube-apiserver"
    missing = [name for name in ("etcd", "kube-apiserver", *more) if not (assets / name).is_file()]
    return f"the folder of KUBEBUILDER_ASSETS has no {' and no '.join(missing)}" if missing else ""


@asynccontextmanager
async def control_plane(
    folder: Path,
    *,
    users: Mapping[str, Sequence[str]] | None = None,
    flags: Sequence[str] = (),
    controllers: Sequence[str] = (),
) -> AsyncIterator[ControlPlane]:
    """etcd and kube-apiserver until the end of the block.

    Args:
        folder: empty, for keys, data and logs.
        users: further users that have a token: name → groups. They may do what RBAC objects grant them.
        flags: more flags of kube-apiserver.
        controllers: of kube-controller-manager; with any, it and kube-scheduler run too.

    Raises:
        NotStartedError: one of the two ended, or was not ready in time.
    """
    assets = find_assets()
    if assets is None:
        raise NotStartedError(why_not())
    groups = {ADMIN: MASTERS, **(users or {})}
    tokens = {name: secrets.token_hex(16) for name in groups}
    certificate, key = self_signed(datetime.now(UTC))
    for name, content in (("tls.crt", certificate), ("tls.key", key), ("accounts.key", self_signed(_now())[1])):
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    lines = [f'{tokens[name]},{name},{name},"{",".join(groups[name])}"\n' for name in groups]
    (folder / "tokens.csv").write_text("".join(lines))
    (folder / "tokens.csv").chmod(0o600)
    for left in reversed(range(TRIES)):
        client, peer, port = free_ports(3)
        kubeconfigs = {n: _write_kubeconfig(folder, n, tokens[n], f"https://127.0.0.1:{port}") for n in groups}
        plane = ControlPlane(
            url=f"https://127.0.0.1:{port}",
            etcd_url=f"http://127.0.0.1:{client}",
            ca_file=folder / "tls.crt",
            folder=folder,
            kubeconfig=kubeconfigs[ADMIN],
            kubeconfigs=kubeconfigs,
        )
        etcd = [str(assets / "etcd"), *_etcd_flags(folder, client, peer)]
        server = [str(assets / "kube-apiserver"), *_server_flags(folder, client, port), *flags]
        async with _process(etcd, folder / "etcd.log"), _process(server, folder / "kube-apiserver.log") as process:
            try:
                await _ready(plane, process, tokens[ADMIN])
            except NotStartedError:
                if left:
                    continue
                raise
            async with AsyncExitStack() as stack:
                for words in _cluster_commands(assets, plane, controllers):
                    await stack.enter_async_context(_process(words, folder / f"{Path(words[0]).name}.log"))
                yield plane
            return


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody had a moment ago."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _now() -> datetime:
    return datetime.now(UTC)


def _write_kubeconfig(folder: Path, user: str, token: str, url: str) -> Path:
    path = folder / f"{user}.kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url, "certificate-authority": str(folder / "tls.crt")}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": user}}],
        "current-context": "c",
    }
    path.write_text(json.dumps(content))
    path.chmod(0o600)
    return path


def _etcd_flags(folder: Path, client: int, peer: int) -> list[str]:
    return [
        "--name=default",
        f"--data-dir={folder / 'etcd'}",
        "--unsafe-no-fsync",
        f"--listen-client-urls=http://127.0.0.1:{client}",
        f"--advertise-client-urls=http://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-cluster=default=http://127.0.0.1:{peer}",
        "--log-level=warn",
    ]


def _server_flags(folder: Path, etcd: int, port: int) -> list[str]:
    return [
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        f"--secure-port={port}",
        f"--cert-dir={folder / 'certificates'}",
        f"--tls-cert-file={folder / 'tls.crt'}",
        f"--tls-private-key-file={folder / 'tls.key'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder / 'accounts.key'}",
        f"--service-account-signing-key-file={folder / 'accounts.key'}",
        "--service-cluster-ip-range=10.96.0.0/16",
        # Nobody makes service accounts here; Pods must do without.
        "--disable-admission-plugins=ServiceAccount",
        "--enable-priority-and-fairness=false",
        "--shutdown-delay-duration=0s",
    ]


def _cluster_commands(assets: Path, plane: ControlPlane, controllers: Sequence[str]) -> list[list[str]]:
    """What else makes a cluster; neither serves anything."""
    if not controllers:
        return []
    common = [f"--kubeconfig={plane.kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1", "--secure-port=0"]
    return [
        [str(assets / "kube-controller-manager"), *common, f"--controllers={','.join(controllers)}"],
        [str(assets / "kube-scheduler"), *common],
    ]


@asynccontextmanager
async def _process(words: Sequence[str], log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(STOP_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


async def _ready(plane: ControlPlane, process: asyncio.subprocess.Process, token: str) -> None:
    tls = ssl.create_default_context(cafile=str(plane.ca_file))
    headers = {"Authorization": f"Bearer {token}"}
    loop = asyncio.get_running_loop()
    end = loop.time() + START_S
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls), headers=headers) as session:
        while loop.time() < end:
            if process.returncode is not None:
                raise NotStartedError(f"kube-apiserver ended with {process.returncode}: {_last(plane)}")
            try:
                async with session.get(f"{plane.url}/readyz", timeout=aiohttp.ClientTimeout(total=5)) as answer:
                    if answer.status == 200:
                        return
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.2)
    raise NotStartedError(f"kube-apiserver is not ready after {START_S:g} s: {_last(plane)}")


def _last(plane: ControlPlane) -> str:
    return plane.log("kube-apiserver")[-2000:]
