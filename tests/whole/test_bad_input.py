"""Bad input: each kind ends with one line that names the thing, and the documented code, or is seen as not ready."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpclib.const
import pytest

from csisidecar import Attacher, AttacherSettings, Provisioner, ProvisionerSettings, Sidecar
from csisidecar.cli.exits import code_for, one_line
from csisidecar.config import HTTPConfig, KubeConfig, Listener, SidecarConfig
from csisidecar.csi import GetPluginInfoResponse, IdentityBase, ProbeResponse
from csisidecar.demo.props import build_claim, build_class, build_csi_node, build_node
from csisidecar.errors import CsiSidecarError
from csisidecar.runtime import background
from csisidecar.testing.apiserver import FakeAPIServer
from csisidecar.testing.driver import DriverSettings, FakeDriver
from tests.whole.processes import eventually, free_port, program, readiness, write_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from csisidecar.plugin import Plugin

pytestmark = [pytest.mark.whole, pytest.mark.timeout(60)]

DRIVER = "bad.csi.example.com"
MODES = (("attacher",), ("provisioner",), ("attacher", "provisioner"))
AT_ONCE = 3
NOBODY = 65534


# ---- command lines and files, as processes


@dataclass(frozen=True, kw_only=True)
class End:
    """Words that end a run, and how: the exit code of both modes in one process, and what the one line must say."""

    words: tuple[str, ...]
    code: int
    says: tuple[str, ...]
    mode: str = "all"


KUBECONFIGS: Mapping[str, bytes] = {
    "empty": b"",
    "malformed": b"clusters: [unclosed",
    "binary": b"\x00\xff\xfe",
}

ENDS: Mapping[str, End] = {
    "kubeconfig-missing": End(
        words=("--kubeconfig=DIR/none",), code=1, says=("--kubeconfig=DIR/none does not exist", "name a kubeconfig")
    ),
    "kubeconfig-missing-provisioner": End(
        words=("--kubeconfig=DIR/none",), code=255, says=("--kubeconfig=DIR/none",), mode="provisioner"
    ),
    "kubeconfig-unreadable": End(words=("--kubeconfig=DIR",), code=1, says=("--kubeconfig=DIR cannot be read",)),
    "kubeconfig-missing-context": End(
        words=("--kubeconfig=DIR/no-context",), code=1, says=("--kubeconfig=DIR/no-context", "no-such-context")
    ),
    "kubeconfig-without-server": End(
        words=("--kubeconfig=DIR/no-server",), code=1, says=("--kubeconfig=DIR/no-server", "server")
    ),
    "not-in-a-cluster": End(words=(), code=1, says=("--kubeconfig is not set", "no pod", "name a kubeconfig")),
    "not-in-a-cluster-provisioner": End(words=(), code=255, says=("--kubeconfig",), mode="provisioner"),
    "port-taken": End(
        words=("--http-endpoint=127.0.0.1:PORT", "--kubeconfig=DIR/good"),
        code=1,
        says=("--http-endpoint=127.0.0.1:PORT cannot be opened", "taken", "another address"),
    ),
    "port-taken-provisioner": End(
        words=("--metrics-address=127.0.0.1:PORT", "--kubeconfig=DIR/good"),
        code=255,
        says=("--metrics-address=127.0.0.1:PORT",),
        mode="provisioner",
    ),
    "no-mode": End(words=(), code=2, says=("--mode", "attacher, provisioner, all"), mode=""),
    "unknown-mode": End(words=(), code=2, says=("'attachr'", "attacher, provisioner, all"), mode="attachr"),
    "unknown-flag": End(words=("--kubeconifg=x",), code=2, says=("--kubeconifg", "did you mean --kubeconfig?")),
    "flag-of-another-mode": End(
        words=("--volume-name-prefix=x",), code=2, says=("--volume-name-prefix", "provisioner"), mode="attacher"
    ),
    "positional-then-bad-flag": End(words=("stray", "--bogus"), code=2, says=("--bogus",)),
    "contradiction": End(
        words=("--http-endpoint=:1", "--metrics-address=:2"),
        code=1,
        says=("--http-endpoint", "--metrics-address", "keep --http-endpoint"),
    ),
    "zero-timeout": End(words=("--timeout=0",), code=1, says=("--timeout=0", "above 0")),
    "zero-workers": End(words=("--worker-threads=0",), code=1, says=("--worker-threads=0", "above 0")),
    "zero-retry": End(
        words=("--retry-interval-start=0",), code=255, says=("--retry-interval-start=0",), mode="provisioner"
    ),
    "lease-timings": End(
        words=("--leader-election-lease-duration=5s",), code=2, says=("--leader-election-lease-duration=5s",)
    ),
    "socket-over-tcp": End(words=("--csi-address=tcp://1.2.3.4:5",), code=1, says=("tcp://1.2.3.4:5", "Unix socket")),
    "socket-path-too-long": End(
        words=("--csi-address=/" + "x" * 120, "--kubeconfig=DIR/good"), code=1, says=("--csi-address", "107 bytes")
    ),
    "master-is-no-url": End(words=("--master=ftp://nowhere",), code=1, says=("--master", "ftp://nowhere")),
    **{
        f"kubeconfig-{name}": End(
            words=(f"--kubeconfig=DIR/{name}",), code=1, says=(f"--kubeconfig=DIR/{name} cannot be used", "correct it")
        )
        for name in KUBECONFIGS
    },
}


def kubeconfig(server: str | None, *, context: str = "c") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server} if server else {}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": context,
    }


def bare_environment() -> dict[str, str]:
    """Ours without what would name a cluster."""
    hidden = {"KUBECONFIG", "KUBE_CONFIG_PATH", "CSI_ENDPOINT", "KUBERNETES_SERVICE_HOST"}
    return {name: value for name, value in os.environ.items() if name not in hidden}


async def run_ends(directory: Path, taken_port: int) -> dict[str, tuple[int, str]]:
    """Name → exit code and log of each of `ENDS`, a few at a time."""
    for name, content in KUBECONFIGS.items():
        (directory / name).write_bytes(content)
    write_json(directory / "no-context", kubeconfig("http://127.0.0.1:1", context="no-such-context"))
    write_json(directory / "no-server", kubeconfig(None))
    write_json(directory / "good", kubeconfig("http://127.0.0.1:1"))
    turn = asyncio.Semaphore(AT_ONCE)

    async def run(name: str, end: End) -> tuple[int, str]:
        words = ["run", *([f"--mode={end.mode}"] if end.mode else [])]
        if not any("address" in word or "endpoint" in word for word in end.words):
            words.append("--http-endpoint=127.0.0.1:0")
        if not any("csi-address" in word for word in end.words):
            words.append(f"--csi-address={directory}/none.sock")
        words += [fill(word, directory, taken_port) for word in end.words]
        log = directory / f"{name}.log"
        async with turn, program(*words, log=log, env=bare_environment()) as running:
            return await running.exit_code(20), running.log

    async with asyncio.TaskGroup() as group:
        tasks = {name: group.create_task(run(name, end)) for name, end in ENDS.items()}
    return {name: task.result() for name, task in tasks.items()}


def fill(text: str, directory: Path, port: int) -> str:
    return text.replace("DIR", str(directory)).replace("PORT", str(port))


@dataclass(frozen=True)
class Ended:
    """What `run_ends` saw, with what the placeholders stood for."""

    results: Mapping[str, tuple[int, str]]
    directory: Path
    port: int


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    directory = tmp_path_factory.mktemp("ends")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
        results = asyncio.run(run_ends(directory, port))
    asyncio.set_event_loop(None)
    return Ended(results, directory, port)


@pytest.mark.parametrize("name", ENDS)
def test_bad_words_end_with_their_code_and_one_line_that_names_them(ended: Ended, name: str) -> None:
    code, log = ended.results[name]
    assert code == ENDS[name].code, log
    assert "Traceback" not in log
    reasons = [line for line in log.splitlines() if line.startswith("csisidecar: ")]
    assert len(reasons) == 1, log
    for part in ENDS[name].says:
        assert fill(part, ended.directory, ended.port) in reasons[0]


# ---- drivers, in this process: `Sidecar.run` raises what the command line turns into code and line


class Odd:
    """An identity service of which one method answers bytes that are no message."""

    def __init__(self, method: str) -> None:
        self._method = method

    def __mapping__(self) -> dict[str, grpclib.const.Handler]:
        found = IdentityBase().__mapping__()
        return {path: self._handler(path.rpartition("/")[2], handler) for path, handler in found.items()}

    def _handler(self, method: str, found: grpclib.const.Handler) -> grpclib.const.Handler:
        garbage = type("Garbage", (found.reply_type,), {"SerializeToString": lambda _: b"\xff" * 4})
        good = {"Probe": ProbeResponse(ready=True), "GetPluginInfo": GetPluginInfoResponse(name=DRIVER)}

        async def answer(stream: Any) -> None:
            await stream.recv_message()
            await stream.send_message(garbage() if method == self._method else good[method])

        return grpclib.const.Handler(answer, found.cardinality, found.request_type, found.reply_type)


def build_config(**changes: Any) -> SidecarConfig:
    settings: dict[str, Any] = {
        "http": HTTPConfig(listeners=(Listener(address="127.0.0.1:0", flag="http-endpoint"),)),
        "connect_timeout_s": 0.3,
        "shutdown_grace_s": 5.0,
    }
    return SidecarConfig(**{**settings, **changes})


def both_plugins(timeout_s: float = 10.0) -> list[Plugin]:
    return [Attacher(AttacherSettings(timeout_s=timeout_s)), Provisioner(ProvisionerSettings(timeout_s=timeout_s))]


async def failure_of(sidecar: Sidecar) -> CsiSidecarError:
    """Why a run ended; the caller sees to it that it does."""
    with pytest.raises(CsiSidecarError) as caught:
        async with asyncio.timeout(15):
            await sidecar.run()
    assert "\n" not in one_line(caught.value)
    return caught.value


def codes(error: CsiSidecarError) -> tuple[int, ...]:
    """Exit codes of the attacher alone, the provisioner alone, and both."""
    return tuple(code_for(error, modes) for modes in MODES)


@pytest.fixture
def any_kubeconfig(tmp_path: Path) -> KubeConfig:
    return KubeConfig(kubeconfig=str(write_json(tmp_path / "kubeconfig", kubeconfig("http://127.0.0.1:1"))))


@asynccontextmanager
async def listening(path: Path, answer: bytes) -> AsyncIterator[None]:
    """Somebody on the socket who says `answer` and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    async with server:
        yield


@pytest.mark.parity("R-DRIVER-02")
async def test_socket_that_cannot_be_used_is_named_with_what_was_seen(
    tmp_path: Path, any_kubeconfig: KubeConfig
) -> None:
    (tmp_path / "file").write_text("no socket")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "stale"))
    cases = {
        "never": "the file does not exist",
        "no-directory/csi.sock": f"the directory {tmp_path}/no-directory does not exist",
        "file": "the file is not a socket",
        "": "the file is not a socket",
        "stale": "nobody listens",
        "http1": "no gRPC server",
        "mute": "no gRPC server",
    }
    async with listening(tmp_path / "http1", b"HTTP/1.1 400 Bad Request\r\n\r\n"), listening(tmp_path / "mute", b""):
        sidecars = [
            Sidecar(build_config(kube=any_kubeconfig, csi_endpoint=f"{tmp_path}/{name}"), plugins=both_plugins())
            for name in cases
        ]
        errors = await asyncio.gather(*(failure_of(sidecar) for sidecar in sidecars))
    for (name, says), error in zip(cases.items(), errors, strict=True):
        assert str(tmp_path / name) in str(error)
        assert says in str(error), name
        assert "--csi-address" in str(error)
        assert codes(error) == (1, 1, 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody without permission")
async def test_socket_without_permission_is_told_as_such(tmp_path: Path) -> None:
    code = (
        "import asyncio, os, sys; from csisidecar.csi.channel import DriverChannel\n"
        f"os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        f"asyncio.run(DriverChannel({str(tmp_path / 'csi.sock')!r}).connect(0.1))"
    )
    driver = FakeDriver()
    async with driver.serving(tmp_path / "csi.sock"):
        await asyncio.to_thread(tmp_path.chmod, 0o700)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stderr=asyncio.subprocess.PIPE)
        _, told = await process.communicate()
    assert "DriverUnreachableError" in told.decode()
    assert "permission denied" in told.decode()


async def test_unusable_driver_ends_the_run_and_is_told(any_kubeconfig: KubeConfig) -> None:
    def ordered(order: str) -> Sequence[Any]:
        return FakeDriver(DriverSettings(name=DRIVER), trouble=[order]).services

    cases: dict[str, tuple[Sequence[Any], str, tuple[str, ...], tuple[int, int, int]]] = {
        "probe error": (ordered("Probe:Internal=on fire"), "", ("failed its Probe", "on fire"), (1, 1, 1)),
        "probe garbage": ([Odd("Probe")], "", ("Probe", "Internal"), (1, 1, 1)),
        "no name": (ordered("GetPluginInfo:empty"), "", ("empty name", "GetPluginInfo"), (1, 255, 1)),
        "name refused": (ordered("GetPluginInfo:Unimplemented"), "", ("no name", "Unimplemented"), (1, 255, 1)),
        "name garbage": ([Odd("GetPluginInfo")], "", ("no name", "GetPluginInfo"), (1, 255, 1)),
        "capabilities refused": (
            ordered("ControllerGetCapabilities:Internal=lost"),
            "",
            (DRIVER, "ControllerGetCapabilities", "lost"),
            (1, 255, 1),
        ),
        "capabilities garbage": (
            [Odd("GetPluginCapabilities")],
            "",
            (DRIVER, "GetPluginCapabilities"),
            (1, 255, 1),
        ),
        "another name": (
            FakeDriver(DriverSettings(name=DRIVER)).services,
            "wanted.csi.example.com",
            ("--provisioner=wanted.csi.example.com", DRIVER),
            (1, 255, 1),
        ),
    }
    sidecars = [
        Sidecar(build_config(kube=any_kubeconfig, expected_driver=expected), plugins=both_plugins(), csi=services)
        for services, expected, _, _ in cases.values()
    ]
    errors = await asyncio.gather(*(failure_of(sidecar) for sidecar in sidecars))
    for (name, (_, _, says, expected_codes)), error in zip(cases.items(), errors, strict=True):
        for part in says:
            assert part in str(error), name
        assert codes(error) == expected_codes, name


async def test_driver_that_is_not_ready_is_waited_for_and_seen(tmp_path: Path) -> None:
    drivers = {
        "not ready": FakeDriver(trouble=["Probe:notready"]),
        "not answered in time": FakeDriver(trouble=["Probe:hang"]),
    }
    async with FakeAPIServer() as server, AsyncExitStack() as stack:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        kube = KubeConfig(kubeconfig=str(tmp_path / "kubeconfig"))
        config = build_config(kube=kube, handshake_timeout_s=0.2)
        for says, driver in drivers.items():
            sidecar = Sidecar(config, plugins=[Provisioner(ProvisionerSettings())], csi=driver.services)
            await stack.enter_async_context(background(sidecar.run(), name="sidecar"))
            await said(sidecar, f"Probe {says}", 5)
            assert await readiness(port_of(sidecar)) == (503, sidecar.health.report().text)
            driver.trouble.clear()
            await ready(sidecar, 10)


# ---- the API server


def port_of(sidecar: Sidecar) -> int:
    return next(iter(sidecar.http.addresses.values()))[1]


async def said(sidecar: Sidecar, part: str, within_s: float) -> None:
    """Wait until /readyz says `part` and is not ready."""

    def is_said() -> bool:
        report = sidecar.health.report()
        return not report.is_ok and part in report.text

    try:
        await eventually(is_said, within_s)
    except AssertionError:
        raise AssertionError(f"{part!r} is not said within {within_s:g} s: {sidecar.health.report().text}") from None


async def ready(sidecar: Sidecar, within_s: float) -> None:
    try:
        await eventually(lambda: sidecar.health.report().is_ok, within_s)
    except AssertionError:
        raise AssertionError(f"not ready within {within_s:g} s: {sidecar.health.report().text}") from None


def claim_uid(server: FakeAPIServer, name: str) -> str:
    found = server.objects.get("persistentvolumeclaims", name, "default")
    return str(found["metadata"]["uid"]) if found else ""


async def provisioned(server: FakeAPIServer, claim: str, within_s: float) -> dict[str, Any]:
    """The PV of a claim, once there is one."""

    def find() -> dict[str, Any] | None:
        return server.objects.get("persistentvolumes", f"pvc-{claim_uid(server, claim)}")

    await eventually(lambda: find() is not None, within_s)
    volume = find()
    assert volume is not None
    return volume


def make_claim(server: FakeAPIServer, name: str, driver: str, *, storage_class: str = "demo") -> None:
    claim = build_claim(name, storage_class=storage_class)
    claim["metadata"]["annotations"] = {"volume.kubernetes.io/storage-provisioner": driver}
    server.objects.create(claim)


def build_attachment(name: str, driver: str, volume: str) -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "VolumeAttachment",
        "metadata": {"name": name},
        "spec": {"attacher": driver, "nodeName": "n1", "source": {"persistentVolumeName": volume}},
    }


async def test_api_server_that_is_down_is_waited_for_at_start_and_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port, driver = free_port(), FakeDriver()
    path = write_json(tmp_path / "kubeconfig", kubeconfig(f"http://127.0.0.1:{port}"))
    sidecar = Sidecar(build_config(kube=KubeConfig(kubeconfig=str(path))), plugins=both_plugins(), csi=driver.services)
    async with background(sidecar.run(), name="sidecar"):
        await said(sidecar, "[-]api cannot", 5)
        assert f"127.0.0.1:{port}" in sidecar.health.report().text
        assert await readiness(port_of(sidecar)) == (503, sidecar.health.report().text)
        async with FakeAPIServer(port=port):
            await ready(sidecar, 10)
        await said(sidecar, "[-]api cannot", 5)
        async with FakeAPIServer(port=port) as server:
            server.objects.create(build_class("demo", driver.settings.name))
            make_claim(server, "afterwards", driver.settings.name)
            await provisioned(server, "afterwards", 20)
            await ready(sidecar, 20)
    assert "Traceback" not in caplog.text


async def test_storm_of_503_is_survived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    driver = FakeDriver()
    async with FakeAPIServer() as server:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        server.objects.create(build_class("demo", driver.settings.name))
        config = build_config(kube=KubeConfig(kubeconfig=str(tmp_path / "kubeconfig")))
        sidecar = Sidecar(config, plugins=both_plugins(), csi=driver.services)
        async with background(sidecar.run(), name="sidecar"):
            await ready(sidecar, 10)
            storm = server.trouble.add("*:*:error=503")
            closing = server.trouble.add("watch:*:close")
            make_claim(server, "during", driver.settings.name)
            await said(sidecar, "[-]api cannot", 5)
            await asyncio.sleep(2)
            server.trouble.remove(closing)
            server.trouble.remove(storm)
            await provisioned(server, "during", 30)
            await ready(sidecar, 30)
            assert len(driver.volumes) == 1
    assert "Traceback" not in caplog.text


async def test_rejected_token_is_told_and_a_new_one_in_the_file_is_taken(tmp_path: Path) -> None:
    driver = FakeDriver()
    async with FakeAPIServer(token="right") as server:
        path = tmp_path / "kubeconfig"
        write_json(path, kubeconfig(server.url))
        config = build_config(kube=KubeConfig(kubeconfig=str(path)))
        sidecar = Sidecar(config, plugins=[Provisioner(ProvisionerSettings())], csi=driver.services)
        async with background(sidecar.run(), name="sidecar"):
            await said(sidecar, "does not accept our credentials (401 Unauthorized): check --kubeconfig", 5)
            server.write_kubeconfig(path)
            await ready(sidecar, 40)


# ---- roles

FULL: Sequence[tuple[str, str, tuple[str, ...]]] = (
    ("", "persistentvolumes", ("get", "list", "watch", "create", "patch", "delete")),
    ("", "persistentvolumeclaims", ("get", "list", "watch", "update")),
    ("storage.k8s.io", "storageclasses", ("get", "list", "watch")),
    ("storage.k8s.io", "csinodes", ("get", "list", "watch")),
    ("storage.k8s.io", "volumeattachments", ("get", "list", "watch", "patch")),
    ("storage.k8s.io", "volumeattachments/status", ("patch",)),
    ("coordination.k8s.io", "leases", ("get", "create", "update")),
    ("", "events", ("create", "patch")),
)
"""What both modes need: API group, resource, verbs."""

MISSING: Sequence[tuple[str, str, str]] = (
    ("", "persistentvolumes", "watch"),
    ("", "persistentvolumeclaims", "watch"),
    ("storage.k8s.io", "storageclasses", "watch"),
    ("storage.k8s.io", "csinodes", "watch"),
    ("storage.k8s.io", "volumeattachments", "watch"),
    ("", "persistentvolumes", "create"),
    ("", "persistentvolumes", "patch"),
    ("", "persistentvolumes", "delete"),
    ("storage.k8s.io", "volumeattachments", "patch"),
    ("storage.k8s.io", "volumeattachments/status", "patch"),
    ("coordination.k8s.io", "leases", "get"),
    ("coordination.k8s.io", "leases", "create"),
    ("coordination.k8s.io", "leases", "update"),
)


def rule_text(group: str, resource: str, verb: str) -> str:
    """The rule as it is told; a Lease needs all its verbs, so all are told at once."""
    verbs = '"get", "create", "update"' if resource == "leases" else f'"{verb}"'
    return f'{{apiGroups: ["{group}"], resources: ["{resource}"], verbs: [{verbs}]}}'


def user_of(group: str, resource: str, verb: str) -> str:
    return f"no-{verb}-{resource.replace('/', '-')}"


def write_roles(path: Path, lacking: Sequence[tuple[str, str, str]]) -> Path:
    """Roles of a user for each of `lacking`, who may do everything but that."""
    items: list[dict[str, Any]] = []
    for missing in lacking:
        name = user_of(*missing)
        rules = [
            {
                "apiGroups": [group],
                "resources": [resource],
                "verbs": [verb for verb in verbs if (group, resource, verb) != missing],
            }
            for group, resource, verbs in FULL
        ]
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
        items += [
            {"kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
            {
                "kind": "ClusterRoleBinding",
                "metadata": {"name": name},
                "roleRef": reference,
                "subjects": [{"kind": "User", "name": name}],
            },
        ]
    return write_json(path, {"kind": "List", "items": items})


@dataclass(frozen=True)
class Tenant:
    """A Sidecar and its driver, under the roles of one user."""

    sidecar: Sidecar
    driver: FakeDriver


class Town:
    """One API server with roles, and a Sidecar for each of its users."""

    def __init__(self, server: FakeAPIServer, directory: Path, stack: AsyncExitStack) -> None:
        self.server = server
        self._directory = directory
        self._stack = stack
        self._drivers: dict[str, str] = {}

    def prepare(self, users: Sequence[str]) -> None:
        self._drivers = {user: f"{user}.csi.example.com" for user in users}
        node = self.server.objects.create(build_node("n1"))
        nodes = {driver: f"id-{driver}" for driver in self._drivers.values()}
        self.server.objects.create(build_csi_node("n1", nodes, node["metadata"]["uid"]))
        for user, driver in self._drivers.items():
            self.server.objects.create(build_class(user, driver))

    async def settle(self, user: str) -> Tenant:
        path = self._directory / f"{user}.kubeconfig"
        self.server.write_kubeconfig(path, user)
        driver = FakeDriver(DriverSettings(name=self._drivers[user]))
        config = build_config(kube=KubeConfig(kubeconfig=str(path)))
        sidecar = Sidecar(config, plugins=both_plugins(), csi=driver.services)
        await self._stack.enter_async_context(background(sidecar.run(), name=user))
        return Tenant(sidecar, driver)

    async def live(self, user: str, tenant: Tenant) -> None:
        """As much of a volume's life as the roles of `user` allow."""
        name = tenant.driver.settings.name
        await ready(tenant.sidecar, 20)
        make_claim(self.server, user, name, storage_class=user)
        if user == user_of("", "persistentvolumes", "create"):
            return
        volume = (await provisioned(self.server, user, 10))["metadata"]["name"]
        if user == user_of("", "persistentvolumes", "delete"):
            self.server.objects.delete("persistentvolumeclaims", user, "default")
            self.server.objects.edit("persistentvolumes", volume, release, subresource="status")
            return
        self.server.objects.create(build_attachment(f"va-{user}", name, volume))


def release(volume: dict[str, Any]) -> None:
    volume["status"] = {"phase": "Released"}


@pytest.mark.parity("R-API-07")
async def test_each_missing_verb_is_told_as_the_rule_to_add(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Debug mode multiplies the price of thirteen Sidecars in one loop.
    asyncio.get_running_loop().set_debug(False)
    roles = write_roles(tmp_path / "roles", MISSING)
    async with FakeAPIServer(rbac=roles) as server, AsyncExitStack() as stack:
        town = Town(server, tmp_path, stack)
        town.prepare([user_of(*missing) for missing in MISSING])

        async def check(missing: tuple[str, str, str]) -> None:
            _, resource, verb = missing
            user, rule = user_of(*missing), rule_text(*missing)
            tenant = await town.settle(user)
            if verb != "watch" and resource != "leases":
                await town.live(user, tenant)
            await said(tenant.sidecar, rule, 15)

        async with asyncio.TaskGroup() as group:
            for missing in MISSING:
                group.create_task(check(missing))
    told = "\n".join(f"{record.message} {vars(record)}" for record in caplog.records if record.levelname == "WARNING")
    for missing in MISSING:
        assert rule_text(*missing) in told
    assert "Traceback" not in caplog.text


@pytest.mark.parity("R-EVENT-03")
async def test_without_permission_for_events_all_goes_on_after_one_warning_a_mode(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    missing = ("", "events", "create")
    user = user_of(*missing)
    async with FakeAPIServer(rbac=write_roles(tmp_path / "roles", [missing])) as server, AsyncExitStack() as stack:
        town = Town(server, tmp_path, stack)
        town.prepare([user])
        tenant = await town.settle(user)
        await town.live(user, tenant)

        def is_attached() -> bool:
            found = server.objects.get("volumeattachments", f"va-{user}")
            return found is not None and (found.get("status") or {}).get("attached") is True

        await eventually(is_attached, 10)
        assert tenant.sidecar.health.report().is_ok
    warned = [record for record in caplog.records if getattr(record, "missing_rule", "") == rule_text(*missing)]
    assert len(warned) <= 2


async def test_role_without_list_is_enough_for_a_server_that_streams_lists(tmp_path: Path) -> None:
    """The API server asks for the verb watch alone; what must be listed in pages says what it lacks."""
    missing = ("", "persistentvolumeclaims", "list")
    user = user_of(*missing)
    async with FakeAPIServer(rbac=write_roles(tmp_path / "roles", [missing])) as server, AsyncExitStack() as stack:
        town = Town(server, tmp_path, stack)
        town.prepare([user])
        await ready((await town.settle(user)).sidecar, 10)
        server.trouble.add("watch:persistentvolumeclaims:error=400")
        await said((await town.settle(user)).sidecar, rule_text(*missing), 10)


# ---- the rest


@pytest.mark.parity("R-HTTP-02")
async def test_default_port_that_is_taken_is_a_warning_and_the_other_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    driver = FakeDriver()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        listeners = (
            Listener(address=address, flag="metrics-addr", is_default=True),
            Listener(address="127.0.0.1:0", flag="health-addr", is_default=True),
        )
        async with FakeAPIServer() as server:
            server.write_kubeconfig(tmp_path / "kubeconfig")
            config = build_config(
                kube=KubeConfig(kubeconfig=str(tmp_path / "kubeconfig")), http=HTTPConfig(listeners=listeners)
            )
            sidecar = Sidecar(config, plugins=both_plugins(), csi=driver.services)
            async with background(sidecar.run(), name="sidecar"):
                await ready(sidecar, 10)
                assert (await readiness(port_of(sidecar)))[0] == 200
    warned = [record for record in caplog.records if address in str(getattr(record, "error", ""))]
    assert [record.levelname for record in warned] == ["WARNING"]
    assert "--metrics-addr" in vars(warned[0])["error"]


MALFORMED: Sequence[tuple[str, str, dict[str, Any]]] = (
    ("v1", "PersistentVolume", {"spec": "text"}),
    ("v1", "PersistentVolume", {"spec": {"csi": {"driver": 7}, "claimRef": []}}),
    ("v1", "PersistentVolume", {"spec": None}),
    ("v1", "PersistentVolumeClaim", {"spec": {"resources": {"requests": ["64Mi"]}, "accessModes": "ReadWriteOnce"}}),
    ("v1", "PersistentVolumeClaim", {"spec": {}, "status": "Bound"}),
    ("storage.k8s.io/v1", "StorageClass", {"provisioner": ["x"], "parameters": {"a": {}}}),
    ("storage.k8s.io/v1", "VolumeAttachment", {"spec": {"attacher": {}, "source": "pv"}}),
    ("storage.k8s.io/v1", "CSINode", {"spec": {"drivers": {"name": "x"}}}),
)


@pytest.mark.parity("R-API-05")
async def test_malformed_objects_are_warned_of_by_name_and_disturb_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    driver = FakeDriver(DriverSettings(name=DRIVER))

    def spoilt(prefix: str) -> list[dict[str, Any]]:
        return [
            {"apiVersion": version, "kind": kind, "metadata": {"name": f"{prefix}-{number}"}, **content}
            for number, (version, kind, content) in enumerate(MALFORMED)
        ]

    nameless = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "no-uid", "uid": ""}}
    async with FakeAPIServer() as server:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        server.objects.create(build_class("demo", DRIVER))
        node = server.objects.create(build_node("n1"))
        server.objects.create(build_csi_node("n1", {DRIVER: "id"}, node["metadata"]["uid"]))
        server.objects.load([*spoilt("listed"), nameless])
        config = build_config(kube=KubeConfig(kubeconfig=str(tmp_path / "kubeconfig")))
        sidecar = Sidecar(config, plugins=both_plugins(), csi=driver.services)
        async with background(sidecar.run(), name="sidecar"):
            await ready(sidecar, 10)
            server.objects.load(spoilt("watched"))
            make_claim(server, "good", DRIVER)
            volume = await provisioned(server, "good", 10)
            server.objects.create(build_attachment("va", DRIVER, volume["metadata"]["name"]))

            def is_attached() -> bool:
                found = server.objects.get("volumeattachments", "va")
                return found is not None and (found.get("status") or {}).get("attached") is True

            await eventually(is_attached, 10)
            assert sidecar.health.report().is_ok
    assert "Traceback" not in caplog.text
    warned = {str(getattr(record, "object", "")).rpartition("/")[2] for record in caplog.records}
    decodable = {2}  # spec: null is what the API server itself writes for an empty one
    for prefix in ("listed", "watched"):
        names = {f"{prefix}-{number}" for number in range(len(MALFORMED)) if number not in decodable}
        assert names <= warned


async def test_driver_that_answers_garbage_is_told_on_the_claim_and_tried_again(tmp_path: Path) -> None:
    cases = {
        "CreateVolume:empty": "volume",
        "CreateVolume:small": "capacity",
    }
    async with FakeAPIServer() as server, AsyncExitStack() as stack:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        for number, order in enumerate(cases):
            name = f"odd-{number}.csi.example.com"
            driver = FakeDriver(DriverSettings(name=name), trouble=[f"{order}x2"])
            server.objects.create(build_class(name, name))
            config = build_config(kube=KubeConfig(kubeconfig=str(tmp_path / "kubeconfig")))
            plugin = Provisioner(ProvisionerSettings(retry_interval_start_s=0.1))
            sidecar = Sidecar(config, plugins=[plugin], csi=driver.services)
            await stack.enter_async_context(background(sidecar.run(), name=name))
            make_claim(server, f"claim-{number}", name, storage_class=name)
            await provisioned(server, f"claim-{number}", 15)
            assert len(driver.volumes) == 1
        told = [event["message"] for event in server.objects.list("events") if event["type"] == "Warning"]
    for says in cases.values():
        assert any(says in message for message in told), told
