"""One plugin's life inside a Sidecar: built for a driver, elected, at work, interrupted, built again.

The Sidecar tells a host what happens to the driver and when to stop; the host tells, for people, what it is
doing and whether it is ready. A plugin that fails is restarted here and disturbs nobody else.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from csisidecar.backoff import SUPERVISOR
from csisidecar.errors import LeaseLostError
from csisidecar.runtime import Host, unwrap

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from csisidecar.clock import Clock
    from csisidecar.csi import DriverInfo
    from csisidecar.plugin import Plugin, PluginContext
    from csisidecar.runtime import Controller, QueueObserver, Stores
    from csisidecar.runtime.lease import LeaderElector

logger = logging.getLogger(__name__)

STEADY_S = 5.0
"""How long a restarted plugin must run before it counts as ready again."""
CANCEL_BOUND_S = 5.0
"""How long cancelled attempts may take to end once the lease is lost; then the process must go."""


class PluginHost:
    """Runs one plugin for as long as the Sidecar lives.

    Args:
        plugin: what to run.
        context: makes the plugin's context for a driver generation.
        elector: holds the plugin's Lease; None: it works without one.
        stores: shared by all plugins.
        clock: monotonic time.
        observer: told about the work queues.
        driver_grace_s: how long the lease is kept while the driver is gone.
        exit_on_lease_loss: end with LeaseLostError instead of standing by again.
    """

    def __init__(
        self,
        plugin: Plugin,
        *,
        context: Callable[[DriverInfo], PluginContext],
        elector: LeaderElector | None,
        stores: Stores,
        clock: Clock,
        observer: QueueObserver | None,
        driver_grace_s: float,
        exit_on_lease_loss: bool,
    ) -> None:
        self.name = plugin.name
        self._plugin = plugin
        self._context = context
        self.elector = elector
        self._stores = stores
        self._clock = clock
        self._observer = observer
        self._driver_grace_s = driver_grace_s
        self._exit_on_lease_loss = exit_on_lease_loss
        self._controllers: Sequence[Controller[Any]] = ()
        self._driver: DriverInfo | None = None
        self._built_for: DriverInfo | None = None
        self._lost_at: float | None = None
        self._draining = False
        self._changed = asyncio.Event()
        self._trouble = ""
        self._at_work = False

    @property
    def reason(self) -> str:
        """Why the plugin is not ready, empty when it is: at work, or a warm standby."""
        if self._trouble:
            return self._trouble
        if self._built_for is None:
            return "waiting for the driver"
        if self._at_work:
            return ""
        if unsynced := self._stores.unsynced():
            return f"waiting for {unsynced[0]}"
        return self.elector.problem if self.elector is not None else ""

    @property
    def state(self) -> str:
        """What the plugin is doing, in a word or two."""
        if self.reason:
            return "not ready"
        if self._draining:
            return "draining"
        return "leading" if self._at_work else "standing by"

    def prepare(self, driver: DriverInfo) -> None:
        """Build the controllers for `driver`, so that the stores they need are known.

        Raises:
            ConfigError: a setting does not fit this driver.
            UnsupportedDriverError: the driver lacks what the plugin needs.
        """
        self._driver = driver
        self._controllers = tuple(self._plugin.build(self._context(driver)))
        self._built_for = driver

    def driver_lost(self) -> None:
        """Start no attempt until the driver is back."""
        self._lost_at = self._clock.monotonic()
        for controller in self._controllers:
            controller.pause()
        self._changed.set()

    def driver_back(self, driver: DriverInfo, *, changed: bool) -> None:
        """Go on with the same driver, or be built again for one with other capabilities."""
        self._lost_at = None
        self._driver = driver
        if not changed:
            self._built_for = driver
            for controller in self._controllers:
                controller.resume(forget_failures=True)
        self._changed.set()

    def drain(self) -> None:
        """Take no new keys and end when the attempts in flight have ended."""
        self._draining = True
        for controller in self._controllers:
            controller.drain()
        self._changed.set()

    @property
    def in_flight(self) -> list[str]:
        """Keys with an attempt running now, for the log line of a stop that came too late for them."""
        return [f"{c.name} {key}" for c in self._controllers for key in sorted(map(str, c.in_flight))]

    async def run(self) -> None:
        """Until drained or cancelled.

        Raises:
            LeaseLostError: the lease is gone and either the attempts did not end or it was asked for.
            ConfigError, UnsupportedDriverError: a driver came back that the plugin cannot work with.
        """
        try:
            while not self._draining:
                if self._lost_at is not None and not await self._wait_for_driver():
                    continue
                if self._driver is not None and self._driver != self._built_for:
                    logger.info("driver changed, plugin is built again", extra={"plugin": self.name})
                    self.prepare(self._driver)
                if not await self._uninterrupted(self._stores.synced()):
                    continue
                if self.elector is not None and not self.elector.is_leading:
                    logger.info("standing by for the lease", extra={"plugin": self.name})
                    if not await self._uninterrupted(self.elector.campaign()):
                        continue
                    logger.info("lease held, at work", extra={"plugin": self.name})
                await self._term()
        finally:
            if self.elector is not None:
                await self.elector.release()

    def _is_interrupted(self) -> bool:
        return self._draining or self._lost_at is not None or self._driver != self._built_for

    async def _wait_for_driver(self) -> bool:
        """Wait while the driver is gone; gives up the lease when that takes longer than its grace."""
        while self._lost_at is not None and not self._draining:
            self._changed.clear()
            left_s = self._lost_at + self._driver_grace_s - self._clock.monotonic()
            try:
                async with asyncio.timeout(max(0.0, left_s) if self._holds_lease() else None):
                    await self._changed.wait()
            except TimeoutError:
                await self._give_up_lease()
        return self._lost_at is None

    def _holds_lease(self) -> bool:
        return self.elector is not None and self.elector.is_leading

    async def _give_up_lease(self) -> None:
        if self.elector is not None:
            logger.warning("driver is gone for too long, lease released", extra={"plugin": self.name})
            await self.elector.release()

    async def _uninterrupted(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether `work` ended before the driver changed or a stop came; it is cancelled otherwise."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            watch = group.create_task(self._interruption())
            await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
            done = task.done()
            task.cancel()
            watch.cancel()
        return done and not self._is_interrupted()

    async def _interruption(self) -> None:
        while not self._is_interrupted():
            self._changed.clear()
            await self._changed.wait()

    async def _term(self) -> None:
        """Work until the lease is lost, the driver is gone for long or another, or a stop has drained."""
        for controller in self._controllers:
            controller.resume()
        self._at_work = True
        try:
            lost = await self._work_until_interrupted()
        finally:
            self._at_work = False
        if lost is not None:
            logger.error("lease lost", extra={"plugin": self.name, "error": str(lost)})
            if self._exit_on_lease_loss:
                raise lost
        elif self._lost_at is not None:
            await self._give_up_lease()

    async def _work_until_interrupted(self) -> LeaseLostError | None:
        async with asyncio.TaskGroup() as group:
            work = group.create_task(self._supervise(), name=f"{self.name} controllers")
            hold = group.create_task(self._hold(), name=f"{self.name} lease")
            end = group.create_task(self._end_of_term(), name=f"{self.name} term")
            await asyncio.wait({work, hold, end}, return_when=asyncio.FIRST_COMPLETED)
            lost = hold.result() if hold.done() and not hold.cancelled() else None
            work.cancel()
            await asyncio.wait({work}, timeout=CANCEL_BOUND_S)
            if not work.done() and lost is not None:
                raise LeaseLostError(
                    f"{lost}; attempts did not end within {CANCEL_BOUND_S:g} s: {', '.join(self.in_flight)}"
                )
            hold.cancel()
            end.cancel()
        return lost

    async def _hold(self) -> LeaseLostError | None:
        if self.elector is None:
            await asyncio.Event().wait()
            return None
        try:
            await self.elector.hold()
        except LeaseLostError as error:
            return error

    async def _end_of_term(self) -> None:
        """The driver was replaced, or is gone for longer than its grace."""
        while True:
            self._changed.clear()
            if self._lost_at is None:
                if self._driver != self._built_for:
                    return
                await self._changed.wait()
                continue
            left_s = self._lost_at + self._driver_grace_s - self._clock.monotonic()
            if left_s <= 0:
                return
            try:
                async with asyncio.timeout(left_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _supervise(self) -> None:
        failures = 0
        while not self._draining:
            began = self._clock.monotonic()
            # A plugin that fails at each start must not look ready in between.
            steady = asyncio.get_running_loop().call_later(STEADY_S, self._be_steady)
            try:
                async with asyncio.TaskGroup() as group:
                    for controller in self._controllers:
                        group.create_task(controller.run(self._host()), name=controller.name)
            except* Exception as errors:
                error = unwrap(errors)
                failures = failures + 1 if self._clock.monotonic() - began < SUPERVISOR.max_s else 1
                delay = SUPERVISOR.delay_s(failures)
                self._trouble = f"failed: {type(error).__name__}: {error}; restarts in {delay:.0f} s"
                logger.exception(
                    "plugin failed", extra={"plugin": self.name, "next_s": round(delay, 1)}, exc_info=error
                )
                await self._pause(delay)
            finally:
                steady.cancel()

    def _be_steady(self) -> None:
        self._trouble = ""

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than until a stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._draining:
                    self._changed.clear()
                    await self._changed.wait()

    def _host(self) -> Host:
        elector = self.elector
        return Host(
            stores=self._stores,
            clock=self._clock,
            observer=self._observer,
            may_start=(elector.is_valid) if elector is not None else (lambda: True),
        )
