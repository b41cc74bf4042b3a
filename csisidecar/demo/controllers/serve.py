"""Runs all the stand-ins of this folder against one API server until cancelled."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from csisidecar.clock import Clock, SystemClock
from csisidecar.config import KubeConfig
from csisidecar.demo.controllers import attachdetach, binder, kubelet, protection, scheduling
from csisidecar.demo.controllers.world import World
from csisidecar.kube import KubeClient, connect
from csisidecar.runtime import EventRecorder, Host, Stores, note_write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from csisidecar.kube import KubeSession
    from csisidecar.kube.resources import ObjectKey
    from csisidecar.runtime import Controller

USER_AGENT = "csisidecar-demo-controllers"
COMPONENT = "demo-controllers"


@dataclass(frozen=True, kw_only=True)
class ControllersOptions:
    """What `csisidecar demo-controllers` can be told."""

    kubeconfig: str = ""
    """Path of a kubeconfig; empty: in-cluster. ``--kubeconfig``."""
    pods: bool = True
    """Whether to play the scheduler and the kubelets too; not where real ones run. ``--pods``."""


async def serve(
    options: ControllersOptions, *, on_ready: Callable[[], None] | None = None, clock: Clock | None = None
) -> None:
    """Be a small kube-controller-manager and scheduler for storage until cancelled.

    Args:
        options: where the API server is and which parts to play.
        on_ready: called once all objects are known and work begins.
        clock: the system's unless a test says otherwise.

    Raises:
        ConfigError: the kubeconfig cannot be used.
    """
    config = KubeConfig(kubeconfig=options.kubeconfig, user_agent=USER_AGENT)
    async with connect(config) as session:
        await run_controllers(session, options, on_ready=on_ready, clock=clock or SystemClock())


async def run_controllers(
    session: KubeSession, options: ControllersOptions, *, on_ready: Callable[[], None] | None, clock: Clock
) -> None:
    """Run the controllers on an open session until cancelled."""
    kube = KubeClient(session, on_write=note_write)
    stores = Stores(kube, clock=clock)
    events = EventRecorder(KubeClient(session), component=COMPONENT, clock=clock)
    world = World.open(session, kube, stores, events, clock)
    controllers = build(world, options)
    host = Host(stores=stores, clock=clock)
    async with asyncio.TaskGroup() as group:
        group.create_task(stores.run(), name="demo stores")
        group.create_task(events.run(), name="demo events")
        for store in world.stores():
            await store.synced()
        for controller in controllers:
            group.create_task(controller.run(host), name=controller.name)
        if on_ready is not None:
            on_ready()


def build(world: World, options: ControllersOptions) -> Sequence[Controller[ObjectKey]]:
    """Every controller that `options` ask for."""
    binder.add_indexes(world)
    attachdetach.add_indexes(world)
    scheduling.add_indexes(world)
    controllers = [*binder.build(world), *protection.build(world), *attachdetach.build(world)]
    if options.pods:
        controllers += [*scheduling.build(world), *kubelet.build(world)]
    return controllers
