"""From settings to a session: kubeconfig, service account, credentials, TLS; the one user of kubernetes_asyncio.

That library reads configurations well; its models, watches and clients stay unused. Its import happens here,
late and without its 800 model classes (`import_lazily`); the environment variable CSISIDECAR_EAGER_IMPORT=1
asks for the ordinary import instead.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
import os
import re
import ssl
import sys
import urllib.request
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from csisidecar.clock import SystemClock
from csisidecar.errors import ConfigError
from csisidecar.kube.session import Anonymous, HTTPSession, Target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from datetime import datetime
    from types import ModuleType

    from csisidecar.clock import Clock
    from csisidecar.config import KubeConfig
    from csisidecar.kube.session import Credentials, KubeSession

logger = logging.getLogger(__name__)

EAGER_IMPORT = "CSISIDECAR_EAGER_IMPORT"
ACCOUNT_DIRECTORY = Path("/var/run/secrets/kubernetes.io/serviceaccount")
REFRESH_S = 60.0
RETRY_S = 10.0
PLUGIN_TIMEOUT_S = 60.0
BEFORE_EXPIRY = timedelta(minutes=5)
_LAZY = {
    "kubernetes_asyncio": {"client": "client", "config": "config"},
    "kubernetes_asyncio.client": {"Configuration": "configuration", "ApiClient": "api_client", "models": "models"},
    "kubernetes_asyncio.client.models": {},
}


@asynccontextmanager
async def connect(config: KubeConfig) -> AsyncIterator[KubeSession]:
    """A session with the API server that `config` names. Sends no request by itself.

    A kubeconfig is used when one is named, else the pod's service account. `master` replaces the URL in the
    kubeconfig; without a kubeconfig it is a server that asks for no credentials.

    Raises:
        ConfigError: nothing to connect to, or a file that cannot be used; the message names the flag.
    """
    async with HTTPSession(await build_target(config)) as session:
        yield session


async def build_target(config: KubeConfig, *, account: Path = ACCOUNT_DIRECTORY, clock: Clock | None = None) -> Target:
    """Address, TLS and credentials out of the files that `config` and the environment name.

    Raises:
        ConfigError: as `connect`.
    """
    import_lazily()
    configuration = importlib.import_module("kubernetes_asyncio.client.configuration").Configuration()
    loaded: LoadedCredentials | None = None
    clock = clock or SystemClock()
    if config.kubeconfig:
        loaded = await _read_kubeconfig(config.kubeconfig, configuration, clock, has_master=bool(config.master))
    elif not config.master:
        loaded = await _read_account(account, configuration, clock)
    host = (config.master or str(configuration.host)).rstrip("/")
    if not host.startswith(("http:", "https:")) and "://" not in host:
        host = f"http://{host}"
    if urlsplit(host).scheme not in ("http", "https") or not urlsplit(host).hostname:
        flag = "--master" if config.master else "--kubeconfig"
        raise ConfigError(f"{flag}: {host!r} is no URL of an API server; give one such as https://10.0.0.1:6443")
    context = _build_tls(configuration, config.kubeconfig) if host.startswith("https:") else None
    credentials: Credentials = Anonymous()
    if loaded is not None:
        loaded.present_in(context)
        credentials = loaded
    return Target(
        host=host,
        user_agent=config.user_agent,
        ssl_context=context,
        server_name=configuration.tls_server_name,
        proxy=configuration.proxy or _environment_proxy(host),
        credentials=credentials,
    )


class LoadedCredentials:
    """The credentials that kubernetes_asyncio loaded, loaded again when they may have changed.

    Token and certificate files are read again once a minute. An exec plugin runs again five minutes before its
    credential expires. A 401 brings either forward and reads the kubeconfig itself again, but not closer than ten
    seconds to the last time. A failure is logged and the old credentials stay in use: the server decides how long
    they are good.

    Args:
        configuration: kubernetes_asyncio's settings, into which `load` writes.
        load: loads again; True means that the present credentials were rejected.
        expires: when the present credentials end; None: unknown.
        rereads: whether loading again is cheap, so that it can be done every minute.
        clock: time.
    """

    def __init__(
        self,
        configuration: Any,
        load: Callable[[bool], Awaitable[None]],
        *,
        expires: Callable[[], datetime | None],
        rereads: bool,
        clock: Clock,
    ) -> None:
        self._configuration = configuration
        self._load = load
        self._expires = expires
        self._rereads = rereads
        self._clock = clock
        self._lock = asyncio.Lock()
        self._rejected = False
        self._loaded_s = clock.monotonic()
        self._wait_s = REFRESH_S
        self._context: ssl.SSLContext | None = None
        self._certificate = self._certificate_state()

    def present_in(self, context: ssl.SSLContext | None) -> None:
        """Keep the client certificate of `context` up to date, for connections yet to be opened."""
        self._context = context

    async def authorization(self) -> str:
        """The Authorization header; loads the credentials again first when that is due."""
        if self._is_due():
            async with self._lock:
                if self._is_due():
                    await self._reload()
        # Token files end in a newline, and no header may hold one.
        return str(self._configuration.api_key.get("BearerToken") or "").strip()

    def rejected(self) -> None:
        """Load again before the next request, if the last time is not just now."""
        self._rejected = True

    def _is_due(self) -> bool:
        age_s = self._clock.monotonic() - self._loaded_s
        if self._rejected:
            return age_s >= RETRY_S
        if age_s < self._wait_s:
            return False
        expires = self._expires()
        return self._rereads or (expires is not None and expires - BEFORE_EXPIRY <= self._clock.now())

    async def _reload(self) -> None:
        failures: tuple[type[BaseException], ...] = (ConfigError, *_failures())
        try:
            await self._load(self._rejected)
        except failures as error:
            self._wait_s = RETRY_S
            logger.warning("credentials not renewed, the old ones stay in use", extra={"error": _reason(error)})
        else:
            self._wait_s = REFRESH_S
        self._rejected = False
        self._loaded_s = self._clock.monotonic()
        certificate = self._certificate_state()
        if self._context is not None and certificate is not None and certificate != self._certificate:
            self._context.load_cert_chain(certificate[0], self._configuration.key_file)
        self._certificate = certificate

    def _certificate_state(self) -> tuple[str, float] | None:
        path = self._configuration.cert_file
        try:
            return (path, Path(path).stat().st_mtime) if path else None
        except OSError:
            return self._certificate


async def _read_kubeconfig(paths: str, configuration: Any, clock: Clock, *, has_master: bool) -> LoadedCredentials:
    kube_config = importlib.import_module("kubernetes_asyncio.config.kube_config")
    flag = f"--kubeconfig={paths}"
    _check_readable(paths, flag)

    def open_file() -> tuple[Any, Any]:
        merger = kube_config.KubeConfigMerger(paths)
        if not merger.config.safe_get("current-context"):
            raise ConfigError(f"{flag} has no current-context; set one with kubectl config use-context NAME")
        loader = kube_config.KubeConfigLoader(
            config_dict=merger.config, config_base_path=None, config_persister=_persister(merger)
        )
        return merger, loader

    try:
        merger, loader = open_file()
        async with asyncio.timeout(PLUGIN_TIMEOUT_S):
            await loader.load_and_set(configuration)
    except TimeoutError as error:
        raise ConfigError(
            f"{flag} cannot be used: its credential plugin did not end within {PLUGIN_TIMEOUT_S:g} s"
        ) from error
    except _failures() as error:
        raise ConfigError(f"{flag} cannot be used: {_reason(error)}; correct it or name another file") from error
    if not has_master and not getattr(loader, "host", ""):
        raise ConfigError(f"{flag} names no server for its current context; add one, or give --master")
    user = _entry(merger, "users", "user")
    server = _entry(merger, "clusters", "cluster").get("server")

    async def load(was_rejected: bool) -> None:
        nonlocal loader
        if was_rejected:
            # Somebody may have put new credentials into the file. A new loader also runs a credential plugin
            # anew, which the old one does not before what it got has expired, whatever the server says.
            fresh, fresh_loader = open_file()
            if _entry(fresh, "clusters", "cluster").get("server") != server:
                raise ConfigError(f"{flag} names another server now, which a restart would connect to")
            loader = fresh_loader
        async with asyncio.timeout(PLUGIN_TIMEOUT_S):
            await loader.load_and_set(configuration)

    return LoadedCredentials(
        configuration,
        load,
        expires=lambda: getattr(loader, "exec_plugin_expiry", None),
        rereads="exec" not in user,
        clock=clock,
    )


def _entry(merger: Any, section: str, key: str) -> dict[str, Any]:
    """The cluster or user of the current context; empty when there is none."""
    context = merger.config["contexts"].get_with_name(merger.config["current-context"])["context"]
    found = merger.config[section].get_with_name(context.safe_get(key), safe=True) if section in merger.config else None
    value = found.safe_get(key) if found is not None else None
    return dict(getattr(value, "value", value) or {})


def _check_readable(paths: str, flag: str) -> None:
    """KubeConfigMerger skips what does not exist and fails in its own words on the rest."""
    found = False
    for path in filter(None, paths.split(os.pathsep)):
        try:
            with Path(path).expanduser().open("rb"):
                found = True
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ConfigError(f"{flag} cannot be read: {error.strerror}; name a readable file") from error
    if not found:
        raise ConfigError(f"{flag} does not exist; name a kubeconfig, or leave it out inside a cluster")


def _persister(merger: Any) -> Callable[[Any], None]:
    """Keeps the new refresh token of an identity provider where kubectl finds it, if the file may be written."""

    def persist(_: Any) -> None:
        try:
            merger.save_changes()
        except OSError as error:
            logger.warning("kubeconfig not updated with the new token", extra={"error": _reason(error)})

    return persist


async def _read_account(account: Path, configuration: Any, clock: Clock) -> LoadedCredentials:
    if not os.environ.get("KUBERNETES_SERVICE_HOST") or not os.environ.get("KUBERNETES_SERVICE_PORT"):
        raise ConfigError(
            "--kubeconfig is not set and this is no pod of a cluster (no KUBERNETES_SERVICE_HOST and _PORT);"
            " name a kubeconfig with --kubeconfig"
        )
    incluster = importlib.import_module("kubernetes_asyncio.config.incluster_config")

    async def load(_: bool) -> None:
        incluster.InClusterConfigLoader(
            token_filename=str(account / "token"), cert_filename=str(account / "ca.crt"), try_refresh_token=False
        ).load_and_set(configuration)

    try:
        await load(False)
    except _failures() as error:
        raise ConfigError(
            f"--kubeconfig is not set and the pod's service account in {account} cannot be used: {_reason(error)};"
            " mount its token (automountServiceAccountToken), or name a kubeconfig with --kubeconfig"
        ) from error
    return LoadedCredentials(configuration, load, expires=lambda: None, rereads=True, clock=clock)


def _build_tls(configuration: Any, kubeconfig: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        if configuration.cert_file:
            context.load_cert_chain(configuration.cert_file, configuration.key_file)
    except (OSError, ValueError) as error:
        origin = f"--kubeconfig={kubeconfig}" if kubeconfig else "the service account's ca.crt"
        raise ConfigError(f"{origin} cannot be used: bad certificate or key: {_reason(error)}; replace it") from error
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    # Cluster CAs often lack extensions that newer Pythons insist on and Go does not.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _environment_proxy(host: str) -> str | None:
    parts = urlsplit(host)
    if urllib.request.proxy_bypass(parts.netloc):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def _failures() -> tuple[type[BaseException], ...]:
    """What reading user text with kubernetes_asyncio can end in; a broken file meets its asserts and lookups."""
    import aiohttp

    yaml_error = importlib.import_module("kubernetes_asyncio.config.kube_config").yaml.YAMLError
    config_error = importlib.import_module("kubernetes_asyncio.config.config_exception").ConfigException
    lookups = (AssertionError, AttributeError, LookupError, TypeError)
    return (config_error, yaml_error, aiohttp.ClientError, OSError, ValueError, RuntimeError, *lookups)


def _reason(error: BaseException) -> str:
    """One line without values: the library's messages quote whole entries, tokens included."""
    if isinstance(error, AssertionError | AttributeError | LookupError | TypeError):
        return "it does not have the shape of a kubeconfig"
    text = re.sub(r"/?\{.*\}?", "", " ".join(str(error).split()))
    return text.strip() or type(error).__name__


def import_lazily() -> None:
    """Make kubernetes_asyncio load only the modules that are asked for.

    Its packages import all APIs and models on the first `import`: 0.2 s and 30 MiB for nothing. So they are put
    into `sys.modules` unexecuted, with a module `__getattr__` (PEP 562) that loads the few modules we need. Any
    other name executes the real package, after which it is what an ordinary import gives. Does nothing when
    somebody has imported the package already.
    """
    if os.environ.get(EAGER_IMPORT) == "1" or "kubernetes_asyncio" in sys.modules:
        return
    for name, needed in _LAZY.items():
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise ConfigError("kubernetes-asyncio is not installed; install csisidecar with its dependencies")
        module = importlib.util.module_from_spec(spec)
        module.__dict__["__getattr__"] = _late(module, needed)
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)


def _late(module: ModuleType, needed: dict[str, str]) -> Callable[[str], Any]:
    def load(name: str) -> Any:
        if name in needed:
            found = importlib.import_module(f"{module.__name__}.{needed[name]}")
            return found if name == needed[name] else getattr(found, name)
        if name.startswith("__") and name not in ("__all__", "__version__"):
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        spec = importlib.util.find_spec(f"{module.__name__}.{name}") if name.isidentifier() else None
        if spec is not None:
            return importlib.import_module(spec.name)
        module.__dict__.pop("__getattr__", None)
        if module.__spec__ is not None and module.__spec__.loader is not None:
            module.__spec__.loader.exec_module(module)
        return getattr(module, name)

    return load
