"""The one lifetime: everything a Sidecar needs, opened in order and closed in reverse.

HTTP up → API session → driver ready → plugins built → stores synced → lease held → controllers run. Nothing
here takes signals, exits, configures logging, or outlives `run()`; `cli` does the first three.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from csisidecar.clock import SystemClock
from csisidecar.csi import CSIClient, DriverBack, DriverChannel, DriverConnection, DriverLost
from csisidecar.errors import ConfigError, DriverIdentityError, DriverLostError, LeaseLostError
from csisidecar.hosting import PluginHost
from csisidecar.kube import LEASES, KubeClient, Permissions, RateLimiter, connect
from csisidecar.plugin import PluginContext
from csisidecar.runtime import EventRecorder, Regarding, Stores, note_write, unwrap
from csisidecar.runtime.lease import LeaderElector, lease_name
from csisidecar.telemetry import Health, HTTPServer, Telemetry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from csisidecar.clock import Clock
    from csisidecar.config import SidecarConfig
    from csisidecar.csi import DriverInfo
    from csisidecar.csi.channel import Service
    from csisidecar.kube import KubeSession
    from csisidecar.plugin import Plugin

logger = logging.getLogger(__name__)

ABORT_BOUND_S = 5.0
"""How long cancelled work may take to end after the grace period of a stop."""


class Sidecar:
    """Plugins beside one CSI driver, for one run.

    Args:
        config: the process's settings.
        plugins: what to run; their names must differ.
        csi: the driver: an endpoint, a channel, or the driver's own service objects, served in memory;
            None: `config.csi_endpoint`.
        kube: an open session to the API server, which stays the caller's; None: made from `config.kube`.
        clock: monotonic and wall time.

    Two Sidecars in one loop are fine. Driver authors `await sidecar.run()` inside their own task group.
    """

    def __init__(
        self,
        config: SidecarConfig,
        *,
        plugins: Sequence[Plugin],
        csi: str | DriverChannel | Sequence[Service] | None = None,
        kube: KubeSession | None = None,
        clock: Clock | None = None,
    ) -> None:
        names = [plugin.name for plugin in plugins]
        if not names:
            raise ConfigError("a Sidecar needs at least one plugin")
        if len(set(names)) != len(names):
            raise ConfigError(f"plugin names must differ: {', '.join(names)}")
        self._config = config
        self._plugins = tuple(plugins)
        self._csi = csi if csi is not None else config.csi_endpoint
        self._kube = kube
        self._clock = clock or SystemClock()
        self._identity = lease_name(config.identity or socket.gethostname())
        self._hosts: list[PluginHost] = []
        self._stopping = asyncio.Event()
        self._fatal: asyncio.Future[None] | None = None
        self._connection: DriverConnection | None = None
        self._stores: Stores | None = None
        self.telemetry = Telemetry()
        self.health = Health(leader_election=any(config.mode(name).lease.enabled for name in names))
        self.http = HTTPServer(config.http, telemetry=self.telemetry, health=self.health, clock=self._clock)

    def stop(self) -> None:
        """Drain: take no new work, let attempts in flight end, release the leases, return from `run`."""
        self._stopping.set()

    async def run(self) -> None:
        """Until stopped or cancelled; cancelling aborts: attempts in flight are cancelled, leases released.

        Raises:
            ConfigError: a setting cannot work, known before anything is changed.
            StartupError: the driver or a listener is not what it should be.
            DriverLostError, LeaseLostError: only where the settings ask to end then.
        """
        self._fatal = asyncio.get_running_loop().create_future()
        self._add_checks()
        try:
            async with asyncio.TaskGroup() as group:
                main = group.create_task(self._main(), name="csisidecar")
                stopper = group.create_task(self._stop_main(main), name="csisidecar stop")
                failer = group.create_task(self._fail(self._fatal), name="csisidecar failure")
                await asyncio.wait({main, failer}, return_when=asyncio.FIRST_COMPLETED)
                stopper.cancel()
                failer.cancel()
        except BaseExceptionGroup as errors:
            error = unwrap(errors)
            raise error from error.__cause__  # which says, for example, that it was Probe that failed

    async def _fail(self, fatal: asyncio.Future[None]) -> None:
        await fatal

    async def _stop_main(self, main: asyncio.Task[None]) -> None:
        await self._stopping.wait()
        logger.info("stopping", extra={"grace_s": self._config.shutdown_grace_s})
        for host in self._hosts:
            host.drain()
        if self._hosts:
            await asyncio.wait({main}, timeout=self._config.shutdown_grace_s)
        if not main.done():
            in_flight = [key for host in self._hosts for key in host.in_flight]
            if in_flight:
                logger.warning("grace period is over, attempts are cancelled", extra={"in_flight": in_flight})
            main.cancel()
            await asyncio.wait({main}, timeout=ABORT_BOUND_S)

    async def _main(self) -> None:
        config = self._config
        async with self.http, self._api() as session:
            client = KubeClient(session, on_write=note_write, request_timeout_s=config.kube.request_timeout_s)
            channel = self._channel()
            csi = CSIClient(channel, observer=self.telemetry, log_limit=config.grpc_log_length)
            connection = DriverConnection(
                channel,
                csi,
                self._clock,
                timeout_s=config.handshake_timeout_s,
                connect_timeout_s=config.connect_timeout_s,
                with_node=any(getattr(plugin, "needs_node_info", False) for plugin in self._plugins),
            )
            self._connection = connection
            async with connection:
                driver = await connection.ready()
                self._check_name(driver)
                self.telemetry.driver_known(driver.name)
                stores = self._stores = Stores(client, clock=self._clock)
                async with asyncio.TaskGroup() as group:
                    lanes = [self._make_host(plugin, driver, csi, client, stores) for plugin in self._plugins]
                    hosts = [host for host, _ in lanes]
                    for host in hosts:
                        host.prepare(driver)
                    self._hosts = hosts
                    unsubscribe = connection.subscribe(self._driver_changed)
                    background_tasks = [group.create_task(stores.run(), name="stores")]
                    background_tasks += [
                        group.create_task(events.run(), name=f"{host.name} events") for host, events in lanes
                    ]
                    try:
                        await self._run_hosts(hosts)
                    finally:
                        unsubscribe()
                        for _, events in lanes:
                            await events.flush(timeout_s=1.0)
                        for task in background_tasks:
                            task.cancel()

    async def _run_hosts(self, hosts: Sequence[PluginHost]) -> None:
        if self._stopping.is_set():
            return
        async with asyncio.TaskGroup() as group:
            for host in hosts:
                group.create_task(host.run(), name=f"plugin {host.name}")

    def _make_host(
        self, plugin: Plugin, driver: DriverInfo, csi: CSIClient, client: KubeClient, stores: Stores
    ) -> tuple[PluginHost, EventRecorder]:
        mode = self._config.mode(plugin.name)
        limiter = RateLimiter(mode.rate, self._clock) if mode.rate.qps > 0 else None
        component = f"{driver.name}_{socket.gethostname()}_{secrets.token_hex(8)}"
        events = EventRecorder(client, component=component, clock=self._clock)
        permissions = Permissions(self._clock, owner=plugin.name)

        elector = self._elector(plugin, driver, client, events)

        def guard() -> None:
            # A process that was frozen wakes in mid-attempt, before the task that would cancel it.
            if elector is not None and not elector.is_leading:
                raise LeaseLostError(f"not started: {elector.status}")

        def context(info: DriverInfo) -> PluginContext:
            return PluginContext(
                driver=info,
                csi=csi.derive(guard=guard),
                kube=client.derive(limiter=limiter, permissions=permissions, guard=guard),
                stores=stores,
                events=events,
                metrics=self.telemetry,
                clock=self._clock,
            )

        host = PluginHost(
            plugin,
            context=context,
            elector=elector,
            stores=stores,
            clock=self._clock,
            observer=self.telemetry,
            driver_grace_s=mode.lease.lease_duration_s,
            exit_on_lease_loss=self._config.exit_on_lease_loss,
        )
        self.health.add(f"mode-{plugin.name}", lambda: host.reason or permissions.reason, note=lambda: host.state)
        return host, events

    def _elector(
        self, plugin: Plugin, driver: DriverInfo, client: KubeClient, events: EventRecorder
    ) -> LeaderElector | None:
        lease = self._config.mode(plugin.name).lease
        name = plugin.lease_name(driver.name)
        if not lease.enabled or name is None:
            return None
        own = self._config.own_namespace
        namespaces = [lease.namespace or own]
        if lease.namespace_is_default and own not in namespaces:
            # A Go sidecar of the same driver keeps its Lease in its own namespace: it must find that one taken.
            namespaces.append(own)

        def told(kind: str) -> None:
            verb = "became leader" if kind == "became" else "stopped leading"
            where = Regarding(
                kind=LEASES.kind, api_version=LEASES.api_version, namespace=namespaces[0], name=name, uid=""
            )
            events.event(where, "Normal", "LeaderElection", f"{self._identity} {verb}")

        elector = LeaderElector(
            client,
            name=name,
            namespaces=namespaces,
            identity=self._identity,
            config=lease,
            clock=self._clock,
            observer=self.telemetry,
            on_transition=told,
            label="" if len(self._plugins) == 1 else plugin.name,
        )
        self.health.watch_lease(plugin.name, elector, lease_duration_s=lease.lease_duration_s)
        return elector

    @asynccontextmanager
    async def _api(self) -> AsyncIterator[KubeSession]:
        if self._kube is not None:
            yield self._kube
            return
        async with connect(self._config.kube) as session:
            yield session

    def _channel(self) -> DriverChannel:
        if isinstance(self._csi, DriverChannel):
            return self._csi
        if isinstance(self._csi, str):
            return DriverChannel(self._csi)
        return DriverChannel.in_memory(self._csi)

    def _check_name(self, driver: DriverInfo) -> None:
        expected = self._config.expected_driver
        if expected and expected != driver.name:
            raise DriverIdentityError(
                f"--provisioner={expected} names another driver than the one at {self._csi}, which is {driver.name};"
                " leave the flag out or correct it"
            )

    def _driver_changed(self, change: DriverLost | DriverBack) -> None:
        if isinstance(change, DriverLost):
            if self._config.exit_on_driver_loss and self._fatal is not None and not self._fatal.done():
                self._fatal.set_exception(DriverLostError("Lost connection to CSI driver, exiting"))
            for host in self._hosts:
                host.driver_lost()
            return
        for host in self._hosts:
            host.driver_back(change.info, changed=change.changed)

    def _add_checks(self) -> None:
        self.health.add("driver", lambda: self._connection.reason if self._connection else "not tried yet")
        self.health.add("api", self._api_reason)
        self.health.add("stores", self._stores_reason)

    def _api_reason(self) -> str:
        return "; ".join(self._stores.troubled()[:3]) if self._stores else ""

    def _stores_reason(self) -> str:
        return "; ".join(self._stores.unsynced()[:3]) if self._stores else "waiting for the driver"
