"""The metrics of one Sidecar under the Go sidecars' names, in a registry of its own; the owner of prometheus_client.

`Telemetry` is told of CSI calls, queues and leases by those who do them (it fits their observers by shape) and is
where plugins declare metrics of their own. Nothing here is global: two Sidecars in one process share nothing.
"""

from __future__ import annotations

import logging
import math
import weakref
from inspect import ismethod
from typing import TYPE_CHECKING, Generic, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client import Counter as PrometheusCounter
from prometheus_client import Gauge as PrometheusGauge
from prometheus_client import Histogram as PrometheusHistogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from csisidecar.telemetry.process import read_address_space_limit, read_network_octets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from csisidecar.errors import StatusCode

logger = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
UNKNOWN_DRIVER = "unknown-driver"
"""`driver_name` of the calls that find out the name."""
CALL_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 25, 50, 120, 300, 600)
QUEUE_BUCKETS = tuple(10.0**power for power in range(-8, 2))
MIGRATED_DRIVERS = frozenset(
    {
        "cinder.csi.openstack.org",
        "csi.vsphere.vmware.com",
        "disk.csi.azure.com",
        "ebs.csi.aws.com",
        "file.csi.azure.com",
        "pd.csi.storage.gke.io",
        "pxd.portworx.com",
    }
)
"""Drivers that took over an in-tree plugin: their calls carry the label `migrated`. Source: csi-translation-lib."""

M = TypeVar("M", PrometheusCounter, PrometheusGauge, PrometheusHistogram)
_Shape = tuple[tuple[str, ...], tuple[float, ...]]


class Telemetry:
    """One registry, the fixed metrics of every Sidecar, and those that plugins declare."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._counters: dict[str, tuple[tuple[str, ...], _Series[PrometheusCounter]]] = {}
        self._histograms: dict[str, tuple[_Shape, _Series[PrometheusHistogram]]] = {}
        self._gauges: dict[str, tuple[tuple[str, ...], PrometheusGauge]] = {}
        self._driver = UNKNOWN_DRIVER
        self._with_migrated = False
        self._calls = self._call_histogram()
        name = ["name"]
        self._depth = _Series(self._gauge("workqueue_depth", "Keys that wait.", name))
        self._adds = _Series(self._counter("workqueue_adds_total", "Keys that were accepted.", name))
        self._waited = _Series(
            self._histogram("workqueue_queue_duration_seconds", "Wait of a key before work.", name, QUEUE_BUCKETS)
        )
        self._worked = _Series(
            self._histogram("workqueue_work_duration_seconds", "Work on a key.", name, QUEUE_BUCKETS)
        )
        self._retries = _Series(self._counter("workqueue_retries_total", "Keys put off to a later time.", name))
        self._master = _Series(
            self._gauge("leader_election_master_status", "1 while this process leads, 0 while it stands by.", name)
        )
        self._slow = _Series(
            self._counter("leader_election_slowpath_total", "Renewals that needed more than one update.", name)
        )
        self._running = _RunningCollector()
        self.registry.register(self._running)
        ProcessCollector(registry=self.registry)
        self.registry.register(_ProcessExtras())

    # ---- what plugins declare

    def counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
        """The counter `name`; declared again with the same labels it is the same one.

        Raises:
            ValueError: the name is taken by a metric of another shape.
        """
        shape = tuple(labels)
        known = self._counters.get(name)
        if known is None:
            known = self._counters[name] = (shape, _Series(self._counter(name, help_text, labels)))
        _check_shape(name, known[0], shape)
        return Counter(known[1])

    def histogram(
        self, name: str, help_text: str, labels: Sequence[str] = (), *, buckets: Sequence[float]
    ) -> Histogram:
        """The histogram `name`; declared again with the same labels and buckets it is the same one.

        Raises:
            ValueError: the name is taken by a metric of another shape.
        """
        shape = (tuple(labels), tuple(buckets))
        known = self._histograms.get(name)
        if known is None:
            known = self._histograms[name] = (shape, _Series(self._histogram(name, help_text, labels, buckets)))
        _check_shape(name, known[0], shape)
        return Histogram(known[1])

    def gauge(self, name: str, help_text: str, labels: Sequence[str], read: Callable[[], float], *values: str) -> None:
        """A gauge series that calls `read` at each scrape; declaring the series again replaces `read`.

        A `read` that raises shows as NaN and does not spoil the scrape.
        """
        shape = tuple(labels)
        known = self._gauges.get(name)
        if known is None:
            known = self._gauges[name] = (shape, self._gauge(name, help_text, labels))
        _check_shape(name, known[0], shape)
        child = known[1].labels(*values) if shape else known[1]
        child.set_function(_guarded(name, read))

    # ---- CSI calls

    def driver_known(self, name: str) -> None:
        """Calls from now on carry `name`; for a migrated driver also `migrated`, and earlier calls are dropped.

        One metric cannot have both sets of labels, so the calls of the first handshake give way, as in the Go
        sidecars.
        """
        self._driver = name
        with_migrated = name in MIGRATED_DRIVERS
        if with_migrated != self._with_migrated:
            self._with_migrated = with_migrated
            self.registry.unregister(self._calls.metric)
            self._calls = self._call_histogram()

    def call_done(self, method: str, code: StatusCode, seconds: float, migrated: str | None = None) -> None:
        """One CSI call ended; `method` is the full path, `migrated` ``true`` or ``false``."""
        extra = (migrated or "false",) if self._with_migrated else ()
        self._calls.of(self._driver, method, code.label, *extra).observe(seconds)

    # ---- queues

    def added(self, name: str, depth: int) -> None:
        """A key was accepted; `depth` keys wait now."""
        self._adds.of(name).inc()
        self._depth.of(name).set(depth)

    def started(self, name: str, waited_s: float, depth: int) -> None:
        """A key was taken out after waiting `waited_s`."""
        self._waited.of(name).observe(waited_s)
        self._depth.of(name).set(depth)

    def finished(self, name: str, worked_s: float) -> None:
        """A key was given back after `worked_s`."""
        self._worked.of(name).observe(worked_s)

    def retried(self, name: str) -> None:
        """A key was put off to a later time."""
        self._retries.of(name).inc()

    def watch_running(self, name: str, read: Callable[[], tuple[float, float]]) -> None:
        """`read` gives seconds of unfinished work in sum and of the longest attempt, asked at each scrape.

        Queues of one name are added up. A bound method does not keep its queue alive and is forgotten with it.
        """
        self._running.add(name, read)

    # ---- leases

    def master(self, name: str, leading: bool) -> None:
        """Whether this process leads."""
        self._master.of(name).set(1 if leading else 0)

    def slow_path(self, name: str) -> None:
        """A renewal needed more than one update."""
        self._slow.of(name).inc()

    # ---- exposition

    def render(self) -> bytes:
        """Every series in the text format 0.0.4."""
        return generate_latest(_Scrape(self.registry))

    def _call_histogram(self) -> _Series[PrometheusHistogram]:
        labels = ["driver_name", "method_name", "grpc_status_code"]
        if self._with_migrated:
            labels.append("migrated")
        return _Series(
            self._histogram("csi_sidecar_operations_seconds", "CSI calls by gRPC status.", labels, CALL_BUCKETS)
        )

    def _counter(self, name: str, help_text: str, labels: Sequence[str]) -> PrometheusCounter:
        return PrometheusCounter(name, help_text, labels, registry=self.registry)

    def _gauge(self, name: str, help_text: str, labels: Sequence[str]) -> PrometheusGauge:
        return PrometheusGauge(name, help_text, labels, registry=self.registry)

    def _histogram(
        self, name: str, help_text: str, labels: Sequence[str], buckets: Sequence[float]
    ) -> PrometheusHistogram:
        return PrometheusHistogram(name, help_text, labels, registry=self.registry, buckets=buckets)


class Counter:
    """A declared counter."""

    def __init__(self, series: _Series[PrometheusCounter]) -> None:
        self._series = series

    def inc(self, *labels: str, by: float = 1.0) -> None:
        """Add `by` to the series with these label values."""
        self._series.of(*labels).inc(by)


class Histogram:
    """A declared histogram."""

    def __init__(self, series: _Series[PrometheusHistogram]) -> None:
        self._series = series

    def observe(self, value: float, *labels: str) -> None:
        """Count `value` in the series with these label values."""
        self._series.of(*labels).observe(value)


class _Series(Generic[M]):
    """A metric and its children by label values; the library's own look-up costs as much as the count itself."""

    def __init__(self, metric: M) -> None:
        self.metric: M = metric
        self._children: dict[tuple[str, ...], M] = {}

    def of(self, *labels: str) -> M:
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self.metric.labels(*labels) if labels else self.metric
        return child


class _Scrape:
    """A registry as the Go sidecars would serve it.

    No empty families, no creation times, and bucket bounds in Go's spelling: ``le="1"`` is another series than
    ``le="1.0"``, and rules that name one must go on working.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            created = f"{family.name}_created"
            family.samples = [sample for sample in family.samples if sample.name != created]
            for sample in family.samples:
                if "le" in sample.labels:
                    sample.labels["le"] = sample.labels["le"].removesuffix(".0")
            if family.samples:
                yield family


class _RunningCollector:
    """workqueue_unfinished_work_seconds and workqueue_longest_running_processor_seconds, as of the scrape."""

    def __init__(self) -> None:
        self._reads: dict[str, list[Callable[[], Callable[[], tuple[float, float]] | None]]] = {}

    def add(self, name: str, read: Callable[[], tuple[float, float]]) -> None:
        reference = weakref.WeakMethod(read) if ismethod(read) else lambda: read
        self._reads.setdefault(name, []).append(reference)

    def collect(self) -> Iterable[Metric]:
        unfinished = GaugeMetricFamily(
            "workqueue_unfinished_work_seconds", "Seconds of work on keys not done yet.", labels=["name"]
        )
        longest = GaugeMetricFamily(
            "workqueue_longest_running_processor_seconds", "Seconds of the longest work not done yet.", labels=["name"]
        )
        for name, references in self._reads.items():
            references[:] = [reference for reference in references if reference() is not None]
            values = [read() for reference in references if (read := reference()) is not None]
            unfinished.add_metric([name], sum(seconds for seconds, _ in values))
            longest.add_metric([name], max((seconds for _, seconds in values), default=0.0))
        return (unfinished, longest)


class _ProcessExtras:
    """The process series that Go's client has and prometheus_client lacks."""

    def collect(self) -> Iterable[Metric]:
        limit = read_address_space_limit()
        if limit is not None:
            yield GaugeMetricFamily(
                "process_virtual_memory_max_bytes", "Maximum amount of virtual memory available in bytes.", value=limit
            )
        octets = read_network_octets()
        if octets is not None:
            yield CounterMetricFamily(
                "process_network_receive_bytes_total", "Bytes received over the network.", value=octets[0]
            )
            yield CounterMetricFamily(
                "process_network_transmit_bytes_total", "Bytes sent over the network.", value=octets[1]
            )


def _check_shape(name: str, known: object, wanted: object) -> None:
    if known != wanted:
        raise ValueError(f"metric {name} is declared already with other labels or buckets: {known}, not {wanted}")


def _guarded(name: str, read: Callable[[], float]) -> Callable[[], float]:
    told = False

    def value() -> float:
        nonlocal told
        try:
            return read()
        except Exception:  # a plugin's fault must not hide every other metric
            if not told:
                told = True
                logger.exception("gauge could not be read", extra={"metric": name})
            return math.nan

    return value
