"""The server as one object with a lifetime, for tests, the demo and the command line.

What it imitates: kube-apiserver 1.36 with the garbage collector and namespace controller of kube-controller-manager.
No other controller runs: nothing binds claims, attaches volumes or runs pods.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import secrets
import socket
import ssl
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from csisidecar.clock import Clock, SystemClock, rfc3339
from csisidecar.errors import ConfigError
from csisidecar.testing.apiserver.audit import AuditLog
from csisidecar.testing.apiserver.bodies import MAX_BODY_BYTES
from csisidecar.testing.apiserver.certificates import self_signed
from csisidecar.testing.apiserver.collector import Collector
from csisidecar.testing.apiserver.kinds import Kinds, KindSpec
from csisidecar.testing.apiserver.rbac import ADMIN, Roles
from csisidecar.testing.apiserver.registry import DeleteOptions, Registry
from csisidecar.testing.apiserver.server import Handler
from csisidecar.testing.apiserver.status import Refusal
from csisidecar.testing.apiserver.store import Store, Stored
from csisidecar.testing.apiserver.troubles import Trouble, Troubles
from csisidecar.testing.folders import check_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

_LOG = logging.getLogger(__name__)
_WIRE_LOG = logging.getLogger(f"{__name__}.wire")
Object = dict[str, Any]
_KEEP_CERTIFICATE_S = 300 * 86400.0
"""How long a kept certificate is used again; it is valid for a year."""
_FIRST_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


class Objects:
    """The objects of a server without HTTP, by plural name (``plural.group`` where that names two kinds).

    Writes follow the same rules as over HTTP and raise `Refusal`; whole objects go in and out, as copies.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._store = registry.store

    def _spec(self, plural: str) -> KindSpec:
        return self._store.kinds.by_plural(plural)

    def _spec_of(self, obj: Mapping[str, Any]) -> KindSpec:
        spec = self._store.kinds.find_kind(obj.get("apiVersion", ""), obj.get("kind", ""))
        if spec is None:
            raise KeyError(f"{obj.get('apiVersion')}/{obj.get('kind')} is not served")
        return spec

    @staticmethod
    def _whole(spec: KindSpec, stored: Stored) -> Object:
        return {"kind": spec.kind, "apiVersion": spec.api_version, **stored.content()}

    @staticmethod
    def _namespace(spec: KindSpec, obj: Mapping[str, Any]) -> str:
        return str(obj.get("metadata", {}).get("namespace", "default")) if spec.namespaced else ""

    def create(self, obj: Mapping[str, Any]) -> Object:
        """Create as a POST does; status is dropped where the kind has a status subresource."""
        spec = self._spec_of(obj)
        return self._whole(spec, self._registry.create(spec, self._namespace(spec, obj), obj))

    def get(self, plural: str, name: str, namespace: str = "") -> Object | None:
        """One object, or None."""
        spec = self._spec(plural)
        stored = self._store.table(spec).get(namespace, name)
        return None if stored is None else self._whole(spec, stored)

    def list(self, plural: str, namespace: str | None = None) -> list[Object]:
        """Every object of a kind, or of one namespace, in order."""
        spec = self._spec(plural)
        return [self._whole(spec, stored) for stored in self._store.table(spec).range(namespace or "")]

    def count(self, plural: str) -> int:
        """How many there are, without decoding them."""
        return len(self._store.table(self._spec(plural)).objects)

    def update(self, obj: Mapping[str, Any], *, subresource: str = "") -> Object:
        """Replace as a PUT does; `subresource` may be status."""
        spec = self._spec_of(obj)
        name = str(obj["metadata"]["name"])
        stored, _ = self._registry.update(spec, self._namespace(spec, obj), name, obj, subresource=subresource)
        return self._whole(spec, stored)

    def edit(
        self, plural: str, name: str, change: Callable[[Object], None], namespace: str = "", *, subresource: str = ""
    ) -> Object:
        """Change an object by a function that modifies it, as a PATCH does."""
        spec = self._spec(plural)

        def apply(current: Object) -> Object:
            change(current)
            return current

        return self._whole(spec, self._registry.patch(spec, namespace, name, apply, subresource=subresource))

    def delete(self, plural: str, name: str, namespace: str = "", *, uid: str = "", propagation: str = "") -> Object:
        """Delete as a DELETE does; the last state."""
        spec = self._spec(plural)
        stored, _ = self._registry.delete(spec, namespace, name, DeleteOptions(uid=uid, propagation=propagation))
        return self._whole(spec, stored)

    def load(self, objects: Iterable[Mapping[str, Any]]) -> int:
        """Store many objects as they are, status included and without checks; how many there were.

        Missing uid and creationTimestamp are filled in; what an object says of its resourceVersion is not kept.
        """
        now, count = rfc3339(self._registry.clock.now()), 0
        for obj in objects:
            spec = self._spec_of(obj)
            content = {key: value for key, value in obj.items() if key not in {"kind", "apiVersion"}}
            meta = content["metadata"] = dict(content["metadata"])
            meta.setdefault("uid", str(uuid.uuid4()))
            meta.setdefault("creationTimestamp", now)
            if spec.namespaced:
                meta.setdefault("namespace", "default")
            self._store.put(self._store.table(spec), content)
            count += 1
        return count


class FakeAPIServer:
    """A Kubernetes API server on loopback that lives as long as the block.

    Raises:
        ConfigError: a file or an order cannot be used, or the port is taken.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        audit: Path | None = None,
        trouble: Sequence[str | Trouble] = (),
        rbac: Path | None = None,
        data: Path | None = None,
        token: str | None = None,
        tls: bool = False,
        tls_cert: Path | None = None,
        tls_key: Path | None = None,
        kinds: Sequence[KindSpec] = (),
        feature_gates: Collection[str] = (),
        bookmark_interval_s: float = 60.0,
        history: int = 10_000,
        clock: Clock | None = None,
    ) -> None:
        self._port = port
        self._clock = clock or SystemClock()
        self._token = token or ""
        self._is_token_required = bool(token)
        self._rbac = rbac
        self._tls_files = (tls_cert, tls_key) if tls or tls_cert or tls_key else None
        self._bookmark_every_s = bookmark_interval_s
        self._data = data
        self.store = Store(Kinds(kinds), history=history)
        self.registry = Registry(self.store, self._clock, feature_gates)
        self.objects = Objects(self.registry)
        """The objects without HTTP."""
        self.audit = AuditLog(audit)
        """What was asked, newest last."""
        self.trouble = Troubles(self._clock, trouble, resources=self.store.kinds.resource_names())
        """Orders for trouble, also while running."""
        self._collector = Collector(self.registry)
        self._stack = contextlib.AsyncExitStack()
        self._handler: Handler | None = None
        self._url = ""
        self._ca = b""
        self._roles = Roles()

    @property
    def url(self) -> str:
        """Where it answers: ``http://127.0.0.1:PORT``."""
        if not self._url:
            raise RuntimeError("the server is not running")
        return self._url

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            self._roles = Roles(self._rbac)
            if self._rbac is not None and not self._token:
                self._token = secrets.token_hex(16)
            self._open_data(stack)
            self._first_objects()
            self._open_audit(stack)
            await self._listen(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._collector.is_running = False
        await self._stack.aclose()
        self._url = ""

    async def _listen(self, stack: contextlib.AsyncExitStack) -> None:
        context, scheme = None, "http"
        if self._tls_files is not None:
            context, scheme = self._tls_context(), "https"
        listener = _bound_socket(self._port)
        port = listener.getsockname()[1]
        handler = Handler(
            self.registry,
            clock=self._clock,
            roles=self._roles,
            troubles=self.trouble,
            audit=self.audit,
            token=self._token,
            is_token_required=self._is_token_required,
            bookmark_every_s=self._bookmark_every_s,
            host=f"127.0.0.1:{port}",
        )
        self._handler = handler
        loop = asyncio.get_running_loop()

        def make_request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
            return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY_BYTES)

        server = web.Server(
            handler,
            request_factory=make_request,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=300.0,
            logger=_WIRE_LOG,
        )
        runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.SockSite(runner, listener, ssl_context=context, backlog=1024)
        await site.start()
        stack.callback(handler.close)
        self._url = f"{scheme}://127.0.0.1:{port}"
        self.trouble.begin()
        self._collector.is_running = True
        self._collector.settle()

    def _tls_context(self) -> ssl.SSLContext:
        cert, key = self._tls_files or (None, None)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if cert is None and key is None:
            self._load_own_certificate(context)
            return context
        if cert is None or key is None:
            raise ConfigError("--tls-cert FILE and --tls-key FILE go together")
        try:
            context.load_cert_chain(cert, key)
            self._ca = cert.read_bytes()
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"--tls-cert {cert}, --tls-key {key}: {error}") from error
        return context

    def _load_own_certificate(self, context: ssl.SSLContext) -> None:
        """Make a certificate, or take the one of an earlier run with the same data, so that kubeconfigs stay good."""
        with contextlib.ExitStack() as stack:
            directory = self._data or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            cert_file, key_file = directory / "tls-cert.pem", directory / "tls-key.pem"
            try:
                if not _is_young(cert_file, self._clock.now()) or not key_file.exists():
                    cert, key = self_signed(self._clock.now())
                    key_file.touch(mode=0o600)
                    key_file.write_bytes(key)
                    cert_file.write_bytes(cert)
                self._ca = cert_file.read_bytes()
                context.load_cert_chain(cert_file, key_file)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"--tls: {cert_file} and {key_file}: {error}") from error

    def _open_data(self, stack: contextlib.AsyncExitStack) -> None:
        if self._data is None:
            return
        from csisidecar.testing.apiserver.persistence import Journal

        stack.enter_context(Journal(self._data, self.store))

    def _open_audit(self, stack: contextlib.AsyncExitStack) -> None:
        try:
            stack.enter_context(self.audit)
        except OSError as error:
            raise ConfigError(f"--audit {error.filename}: {error.strerror}") from error

    def _first_objects(self) -> None:
        for name in _FIRST_NAMESPACES:
            if self.objects.get("namespaces", name) is None:
                self.objects.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        if self.objects.get("serviceaccounts", "default", "default") is None:
            meta = {"name": "default", "namespace": "default"}
            self.objects.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})

    def open_watches(self, plural: str) -> int:
        """How many watches of a kind are open now."""
        name = self.store.kinds.by_plural(plural).storage_name
        return self._handler.verbs.open_watches.get(name, 0) if self._handler is not None else 0

    def compact(self, keep: int = 0) -> None:
        """Forget history but for the newest `keep` changes of each kind; older revisions give 410 from now on."""
        self.store.compact(keep)

    def kubeconfig(self, user: str = "") -> Object:
        """A kubeconfig for this server; `user` picks a subject of the RBAC file.

        Without `user` it is the first subject of the RBAC file, or else the administrator.
        """
        users = {"admin": self._token}
        if self._roles.enforced:
            subjects = self._roles.subjects() or ["csisidecar"]
            users |= {name: name for name in subjects}
            user = user or subjects[0]
        user = "admin" if user in {"", ADMIN} else user
        if user not in users:
            users[user] = user
        cluster: Object = {"server": self.url}
        if self._ca:
            cluster["certificate-authority-data"] = base64.b64encode(self._ca).decode()
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "preferences": {},
            "clusters": [{"name": "embedded", "cluster": cluster}],
            "users": [{"name": name, "user": {"token": token} if token else {}} for name, token in users.items()],
            "contexts": [
                {"name": name, "context": {"cluster": "embedded", "user": name, "namespace": "default"}}
                for name in users
            ],
            "current-context": user,
        }

    def write_kubeconfig(self, path: Path, user: str = "") -> None:
        """Write `kubeconfig` to a file that appears whole, readable by its owner only."""
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(self.kubeconfig(user), file, indent=2)
                file.write("\n")
            Path(temporary).replace(path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise


def _without_trace(record: logging.LogRecord) -> bool:
    """What somebody sent that is no HTTP is one line, and no fault of this program."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.exc_info, record.exc_text = None, None
        record.levelno, record.levelname = logging.INFO, "INFO"
    return True


_WIRE_LOG.addFilter(_without_trace)


def _is_young(cert_file: Path, now: datetime) -> bool:
    """Whether a certificate is there that stays valid for some time yet."""
    return cert_file.exists() and abs(now.timestamp() - cert_file.stat().st_mtime) < _KEEP_CERTIFICATE_S


def _bound_socket(port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port {port} is no port: give one from 1 to 65535, or 0 for a free one")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise ConfigError(f"--port {port}: cannot listen on 127.0.0.1: {error.strerror}") from error
    return listener


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """What `csisidecar demo-apiserver` is asked for."""

    kubeconfig_out: Path
    """Written once the server answers."""
    port: int = 0
    """0 picks a free one."""
    audit: Path | None = None
    """Every request is added to this file as a line of JSON."""
    trouble: tuple[str, ...] = ()
    """Orders for trouble, VERB:RESOURCE:KIND[=ARG][xCOUNT][@AFTER]."""
    rbac: Path | None = None
    """YAML with Roles and bindings that are enforced; the kubeconfig is then for their first subject."""
    data: Path | None = None
    """Folder that keeps the objects across restarts."""
    token: str | None = None
    """Bearer token of the administrator; without it nobody is asked for one."""
    tls: bool = False
    """Answer over HTTPS, with a certificate made at the start unless files are given. With a data folder it
    is kept there."""
    tls_cert: Path | None = None
    """Certificate file, PEM; goes with the key file."""
    tls_key: Path | None = None
    """Private key file, PEM."""
    feature_gates: tuple[str, ...] = ()
    """Kubernetes feature gates to turn on; CrossNamespaceVolumeDataSource is known."""
    bookmark_interval_s: float = 60.0
    """Seconds between the bookmarks of a watch."""


async def serve(options: ServerOptions, *, started: Callable[[FakeAPIServer], None] | None = None) -> None:
    """Run a server until cancelled; the kubeconfig appears when it answers and goes with it.

    Raises:
        ConfigError: an option cannot be used; nothing was left behind.
    """
    if options.data is not None:
        check_parent(options.data, "--data")
    server = FakeAPIServer(
        port=options.port,
        audit=options.audit,
        trouble=options.trouble,
        rbac=options.rbac,
        data=options.data,
        token=options.token,
        tls=options.tls,
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
        feature_gates=options.feature_gates,
        bookmark_interval_s=options.bookmark_interval_s,
    )
    async with server:
        try:
            server.write_kubeconfig(options.kubeconfig_out)
        except OSError as error:
            raise ConfigError(f"--kubeconfig-out {options.kubeconfig_out}: {error.strerror}") from error
        _LOG.info("API server answers", extra={"url": server.url, "kubeconfig": str(options.kubeconfig_out)})
        if started is not None:
            started(server)
        await asyncio.Event().wait()


__all__ = ["FakeAPIServer", "Objects", "Refusal", "ServerOptions", "serve"]
