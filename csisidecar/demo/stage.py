"""The whole world in one process: API server, controllers, driver and both modes, joined by real sockets.

Everything lives in one temporary directory that is removed with it. No fixed port is taken.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from csisidecar.clock import SystemClock
from csisidecar.config import AttacherSettings, HTTPConfig, KubeConfig, Listener, ProvisionerSettings, SidecarConfig
from csisidecar.demo.controllers import ControllersOptions
from csisidecar.demo.controllers import serve as serve_controllers
from csisidecar.demo.props import NODE, ensure_cluster
from csisidecar.errors import ConfigError
from csisidecar.kube import KubeClient, connect
from csisidecar.plugins.attacher import Attacher
from csisidecar.plugins.provisioner import Provisioner
from csisidecar.runtime import background
from csisidecar.sidecar import Sidecar
from csisidecar.testing.apiserver import FakeAPIServer
from csisidecar.testing.apiserver.kinds import Kinds
from csisidecar.testing.apiserver.troubles import VERBS, Troubles
from csisidecar.testing.driver import DirectoryBackend, DriverSettings, FakeDriver
from csisidecar.version import VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from csisidecar.clock import Clock
    from csisidecar.plugin import Plugin

SIDECAR_AGENT = f"csisidecar/{VERSION}"
STORY_AGENT = f"csisidecar-demo-story/{VERSION}"
REQUEST_TIMEOUT_S = 10.0
"""Of the story's own requests, so that an API server in trouble cannot hold the story for long."""
PUBLISH_CONTEXT = {"devicePath": "/dev/disk/by-id/demo"}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Everything at work."""

    server: FakeAPIServer
    kubeconfig: Path
    driver: FakeDriver
    endpoint: str
    """Of the driver's socket: ``unix:///path``."""
    volumes_directory: Path
    """Where the driver keeps the volumes' bytes, a directory each."""
    sidecar: Sidecar
    client: KubeClient
    """The story's own."""
    orders: tuple[str, ...] = ()
    """Trouble for the API server, not given yet: the stage itself must come up."""

    def give_orders(self) -> None:
        """From now on the API server makes trouble as ordered."""
        for order in self.orders:
            self.server.trouble.add(order)


@asynccontextmanager
async def set_up(clock: Clock, *, trouble: Sequence[str] = (), audit: Path | None = None) -> AsyncIterator[Stage]:
    """A stage on which both modes are ready; all of it ends with the block.

    Args:
        clock: the process's.
        trouble: orders; those that begin with an RPC's name go to the driver at once, others to the API server
            with `Stage.give_orders`.
        audit: where to write each API request as a line of JSON.

    Raises:
        StartupError: the sidecar cannot work with the driver.
        Exception: a part of the stage failed; the block is cancelled then.
    """
    for_driver, for_server = _sort_orders(trouble)
    root = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="csisidecar-demo-"))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, shutil.rmtree, root, True)
        server = await stack.enter_async_context(FakeAPIServer(audit=audit, clock=clock))
        kubeconfig = root / "kubeconfig"
        server.write_kubeconfig(kubeconfig)
        backend = DirectoryBackend(root / "driver")
        driver = FakeDriver(DriverSettings(publish_context=PUBLISH_CONTEXT), backend=backend, trouble=for_driver)
        endpoint = await stack.enter_async_context(driver.serving(root / "csi.sock"))
        session = await stack.enter_async_context(
            connect(KubeConfig(kubeconfig=str(kubeconfig), user_agent=STORY_AGENT))
        )
        client = KubeClient(session, request_timeout_s=REQUEST_TIMEOUT_S)
        await ensure_cluster(client, driver=driver.settings.name, nodes={NODE: driver.settings.node_id})
        await _run_controllers(stack, kubeconfig, clock)
        sidecar = build_sidecar(kubeconfig, endpoint, clock)
        await stack.enter_async_context(background(sidecar.run(), name="sidecar"))
        yield Stage(
            server=server,
            kubeconfig=kubeconfig,
            driver=driver,
            endpoint=endpoint,
            volumes_directory=root / "driver" / "volumes",
            sidecar=sidecar,
            client=client,
            orders=for_server,
        )


def check_orders(trouble: Sequence[str]) -> None:
    """Read the orders for trouble without giving them.

    Raises:
        ConfigError: one cannot be understood.
    """
    for_driver, for_server = _sort_orders(trouble)
    FakeDriver(trouble=for_driver)
    for order in for_server:
        if order.partition(":")[0].strip() not in VERBS:
            raise ConfigError(
                f"--trouble {order!r}: want METHOD:KIND[=VALUE][xN] for the driver, as in"
                " ControllerPublishVolume:Internal, or VERB:RESOURCE:KIND[=ARG][xCOUNT][@AFTER] for the API server, as"
                " in create:persistentvolumes:error=500x2"
            )
    Troubles(SystemClock(), for_server, resources=Kinds().resource_names())


def _sort_orders(trouble: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The driver's orders, which begin with the name of an RPC, and the API server's, which begin with a verb."""
    for_driver = tuple(order for order in trouble if order.lstrip()[:1].isupper())
    return for_driver, tuple(order for order in trouble if order not in for_driver)


async def _run_controllers(stack: AsyncExitStack, kubeconfig: Path, clock: Clock) -> None:
    """Start the controllers and wait until they work."""
    ready = asyncio.Event()
    options = ControllersOptions(kubeconfig=str(kubeconfig))
    work = serve_controllers(options, on_ready=ready.set, clock=clock)
    await stack.enter_async_context(background(work, name="demo controllers"))
    await ready.wait()


def build_sidecar(kubeconfig: Path, endpoint: str, clock: Clock) -> Sidecar:
    """Both modes as `csisidecar run --mode=all` has them, but with HTTP on a free loopback port."""
    config = SidecarConfig(
        csi_endpoint=endpoint,
        kube=KubeConfig(kubeconfig=str(kubeconfig), user_agent=SIDECAR_AGENT),
        http=HTTPConfig(listeners=(Listener(address="127.0.0.1:0", flag="http-endpoint"),)),
        shutdown_grace_s=5.0,
    )
    plugins: list[Plugin] = [Attacher(AttacherSettings()), Provisioner(ProvisionerSettings())]
    return Sidecar(config, plugins=plugins, clock=clock)
