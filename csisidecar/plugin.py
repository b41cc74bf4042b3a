"""The contract between the Sidecar and a plugin: what a plugin offers and what it is handed.

A driver author who writes a plugin reads this file and `csisidecar.runtime`; nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from csisidecar.clock import Clock
    from csisidecar.config import PluginSettings
    from csisidecar.csi import CSIClient, DriverInfo
    from csisidecar.kube import KubeClient
    from csisidecar.runtime import Controller, EventRecorder, Stores


class Counter(Protocol):
    """A metric that only grows."""

    def inc(self, *labels: str, by: float = 1.0) -> None:
        """Add `by` to the series with these label values, in the order they were declared."""
        ...


class Histogram(Protocol):
    """A metric that counts observations in buckets."""

    def observe(self, value: float, *labels: str) -> None:
        """Count `value` in the series with these label values."""
        ...


class Metrics(Protocol):
    """Where a plugin declares its metrics; declaring a name again with the same shape gives the same metric."""

    def counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
        """The counter `name`; ``_total`` is part of the name."""
        ...

    def histogram(
        self, name: str, help_text: str, labels: Sequence[str] = (), *, buckets: Sequence[float]
    ) -> Histogram:
        """The histogram `name` with these upper bounds."""
        ...

    def gauge(self, name: str, help_text: str, labels: Sequence[str], read: Callable[[], float], *values: str) -> None:
        """A gauge series that calls `read` at each scrape; declaring the series again replaces `read`."""
        ...


@dataclass(frozen=True, kw_only=True)
class PluginContext:
    """What `Plugin.build` is handed; valid for one driver generation."""

    driver: DriverInfo
    """Name and capabilities, as answered at this generation's handshake."""
    csi: CSIClient
    """One method per RPC; raises CSIError."""
    kube: KubeClient
    """The plugin's own client: counts against its rate ceiling, remembers its own writes."""
    stores: Stores
    """Asking for a resource's store is what makes it watched; equal requests share one watch."""
    events: EventRecorder
    """Kubernetes Events: merged, on their own lane, never raising."""
    metrics: Metrics
    """The process's registry."""
    clock: Clock
    """Monotonic and wall time."""


class Plugin(Protocol):
    """Reconcilers for one subject, hosted by a Sidecar. Settings were given to its constructor.

    A plugin with a true attribute `needs_node_info` gets what the driver's node service says about its node in
    `PluginContext.driver.node`; all others get None there.
    """

    @property
    def name(self) -> str:
        """Short slug, used in logs, metric labels and ``--mode``."""
        ...

    def lease_name(self, driver_name: str) -> str | None:
        """Name of the Lease that makes it the only one at work; None: it runs on every replica."""
        ...

    def build(self, ctx: PluginContext) -> Sequence[Controller[Any]]:
        """The controllers to run. No I/O, starts nothing.

        Called once per driver generation, after the driver is known and before any watch.

        Raises:
            ConfigError: a setting does not fit this driver.
            UnsupportedDriverError: the driver lacks what the plugin needs.
        """
        ...


class PluginFactory(Protocol):
    """What an entry point of the group ``csisidecar.plugins`` names: settings in, plugin out."""

    def __call__(self, settings: PluginSettings) -> Plugin:
        """A plugin with these settings; raises ConfigError when they cannot work."""
        ...
