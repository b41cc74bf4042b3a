"""The metrics under the Go sidecars' names, as a scrape shows them."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from csisidecar.errors import StatusCode
from csisidecar.telemetry import Telemetry
from csisidecar.telemetry.process import read_address_space_limit, read_network_octets

if TYPE_CHECKING:
    from pathlib import Path

    from csisidecar.plugin import Metrics

PROCESS = {
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
    "process_virtual_memory_max_bytes",
    "process_network_receive_bytes_total",
    "process_network_transmit_bytes_total",
}


def samples(telemetry: Telemetry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Name and sorted labels → value."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(telemetry.render().decode())
        for sample in family.samples
    }


def value(telemetry: Telemetry, metric: str, /, **labels: str) -> float:
    return samples(telemetry)[metric, tuple(sorted(labels.items()))]


def names(telemetry: Telemetry) -> set[str]:
    return {name for name, _ in samples(telemetry)}


def bounds(telemetry: Telemetry, name: str) -> list[str]:
    return [dict(labels)["le"] for found, labels in samples(telemetry) if found == f"{name}_bucket"]


def test_idle_process_shows_the_process_and_nothing_else() -> None:
    shown = names(Telemetry())
    assert shown == PROCESS
    assert "created" not in Telemetry().render().decode()


@pytest.mark.parity("R-METRIC-01")
def test_calls_are_counted_by_method_and_status_in_gos_words() -> None:
    telemetry = Telemetry()
    telemetry.call_done("/csi.v1.Identity/Probe", StatusCode.OK, 0.01)
    telemetry.driver_known("csi.test.io")
    telemetry.call_done("/csi.v1.Controller/CreateVolume", StatusCode.DEADLINE_EXCEEDED, 11)
    name = "csi_sidecar_operations_seconds"
    first = {"driver_name": "unknown-driver", "method_name": "/csi.v1.Identity/Probe", "grpc_status_code": "OK"}
    second = {
        "driver_name": "csi.test.io",
        "method_name": "/csi.v1.Controller/CreateVolume",
        "grpc_status_code": "DeadlineExceeded",
    }
    assert value(telemetry, f"{name}_count", **first) == 1
    assert value(telemetry, f"{name}_sum", **second) == 11
    assert value(telemetry, f"{name}_bucket", le="10", **second) == 0
    assert value(telemetry, f"{name}_bucket", le="15", **second) == 1
    text = telemetry.render().decode()
    assert '{driver_name="unknown-driver",grpc_status_code="OK",le="0.1",method_name="/csi.v1.Identity/Probe"}' in text


def test_call_buckets_are_the_go_sidecars_in_their_spelling() -> None:
    telemetry = Telemetry()
    telemetry.call_done("/m", StatusCode.OK, 0)
    wanted = ["0.1", "0.25", "0.5", "1", "2.5", "5", "10", "15", "25", "50", "120", "300", "600", "+Inf"]
    assert bounds(telemetry, "csi_sidecar_operations_seconds") == wanted


def test_migrated_driver_has_one_more_label_and_loses_the_calls_before_its_name() -> None:
    telemetry = Telemetry()
    telemetry.call_done("/csi.v1.Identity/Probe", StatusCode.OK, 1)
    telemetry.driver_known("ebs.csi.aws.com")
    telemetry.call_done("/m", StatusCode.OK, 1, "true")
    telemetry.call_done("/m", StatusCode.OK, 1)
    shown = [dict(labels) for name, labels in samples(telemetry) if name == "csi_sidecar_operations_seconds_count"]
    assert sorted(labels["migrated"] for labels in shown) == ["false", "true"]
    assert {labels["driver_name"] for labels in shown} == {"ebs.csi.aws.com"}


def test_driver_that_changes_its_name_keeps_counting() -> None:
    telemetry = Telemetry()
    for name in ("a", "pd.csi.storage.gke.io", "b"):
        telemetry.driver_known(name)
        telemetry.call_done("/m", StatusCode.OK, 1)
    labels = {"driver_name": "b", "method_name": "/m", "grpc_status_code": "OK"}
    assert value(telemetry, "csi_sidecar_operations_seconds_count", **labels) == 1


@pytest.mark.parity("R-METRIC-02")
def test_queues_count_under_their_names() -> None:
    telemetry = Telemetry()
    telemetry.added("claims", 1)
    telemetry.added("claims", 2)
    telemetry.started("claims", 0.5, 1)
    telemetry.finished("claims", 20)
    telemetry.retried("claims")
    assert value(telemetry, "workqueue_adds_total", name="claims") == 2
    assert value(telemetry, "workqueue_depth", name="claims") == 1
    assert value(telemetry, "workqueue_retries_total", name="claims") == 1
    assert value(telemetry, "workqueue_queue_duration_seconds_sum", name="claims") == 0.5
    assert value(telemetry, "workqueue_work_duration_seconds_bucket", name="claims", le="10") == 0
    assert value(telemetry, "workqueue_work_duration_seconds_count", name="claims") == 1
    wanted = ["1e-08", "1e-07", "1e-06", "1e-05", "0.0001", "0.001", "0.01", "0.1", "1", "10", "+Inf"]
    assert bounds(telemetry, "workqueue_queue_duration_seconds") == wanted


class Queue:
    def __init__(self, seconds: tuple[float, float]) -> None:
        self.seconds = seconds

    def running(self) -> tuple[float, float]:
        return self.seconds


def test_running_work_is_asked_for_at_each_scrape_and_added_up_by_name() -> None:
    telemetry, one, two = Telemetry(), Queue((3, 2)), Queue((5, 5))
    telemetry.watch_running("claims", one.running)
    telemetry.watch_running("claims", two.running)
    assert value(telemetry, "workqueue_unfinished_work_seconds", name="claims") == 8
    assert value(telemetry, "workqueue_longest_running_processor_seconds", name="claims") == 5
    one.seconds = (0, 0)
    assert value(telemetry, "workqueue_unfinished_work_seconds", name="claims") == 5
    del two
    gc.collect()
    assert value(telemetry, "workqueue_unfinished_work_seconds", name="claims") == 0


@pytest.mark.parity("R-METRIC-03")
def test_election_shows_only_where_there_is_one_and_slow_renewals_only_when_there_were() -> None:
    telemetry = Telemetry()
    telemetry.master("", True)
    assert value(telemetry, "leader_election_master_status", name="") == 1
    assert "leader_election_slowpath_total" not in names(telemetry)
    telemetry.master("", False)
    telemetry.slow_path("")
    assert value(telemetry, "leader_election_master_status", name="") == 0
    assert value(telemetry, "leader_election_slowpath_total", name="") == 1


def test_metric_declared_again_is_the_same_one() -> None:
    telemetry = Telemetry()
    for _ in range(2):
        telemetry.counter("x_total", "help", ["class"]).inc("gold", by=2)
        telemetry.histogram("y_seconds", "help", ["class"], buckets=(1, 2)).observe(1.5, "gold")
    assert value(telemetry, "x_total", **{"class": "gold"}) == 4
    assert value(telemetry, "y_seconds_bucket", **{"class": "gold", "le": "2"}) == 2


def test_metric_declared_in_another_shape_is_refused() -> None:
    telemetry = Telemetry()
    telemetry.counter("x_total", "help", ["a"])
    telemetry.histogram("y_seconds", "help", buckets=(1, 2))
    telemetry.gauge("z", "help", ["a"], lambda: 1, "v")
    with pytest.raises(ValueError, match="x_total"):
        telemetry.counter("x_total", "help", ["b"])
    with pytest.raises(ValueError, match="y_seconds"):
        telemetry.histogram("y_seconds", "help", buckets=(1, 3))
    with pytest.raises(ValueError, match=r"\bz\b"):
        telemetry.gauge("z", "help", [], lambda: 1)


def test_gauge_is_read_at_each_scrape_and_its_failure_spoils_nothing() -> None:
    telemetry, now = Telemetry(), [1.0]
    telemetry.gauge("age", "help", ["op"], lambda: now[0], "attach")
    telemetry.gauge("broken", "help", [], lambda: 1 / 0)
    assert value(telemetry, "age", op="attach") == 1
    now[0] = 2
    assert value(telemetry, "age", op="attach") == 2
    telemetry.gauge("age", "help", ["op"], lambda: 9, "attach")
    assert value(telemetry, "age", op="attach") == 9
    assert str(value(telemetry, "broken")) == "nan"


def test_two_sidecars_share_no_series() -> None:
    one, two = Telemetry(), Telemetry()
    one.added("q", 1)
    assert "workqueue_adds_total" in names(one)
    assert "workqueue_adds_total" not in names(two)


def test_telemetry_is_what_plugins_are_promised() -> None:
    metrics: Metrics = Telemetry()
    metrics.counter("a_total", "help").inc()


def test_proc_of_another_shape_gives_no_series(tmp_path: Path) -> None:
    assert read_address_space_limit(tmp_path) is None
    assert read_network_octets(tmp_path) is None
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "netstat").write_text("IpExt: InOctets OutOctets\nIpExt: 12 x\n")
    (tmp_path / "limits").write_text("Max address space         unlimited            unlimited            bytes\n")
    assert read_network_octets(tmp_path) is None
    assert read_address_space_limit(tmp_path) == float(2**64 - 1)
    (tmp_path / "net" / "netstat").write_text("TcpExt: a\nTcpExt: 1\nIpExt: In InOctets OutOctets\nIpExt: 1 12 34\n")
    assert read_network_octets(tmp_path) == (12, 34)
