"""The Go provisioner's own metrics, by its names, labels and buckets, counted as it counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from csisidecar.kube import Claim, Volume
    from csisidecar.plugin import Metrics

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_CLAIM_LABELS = ("class", "source")
_VOLUME_LABELS = ("class",)


class ProvisionerMetrics:
    """Attempts at claims and volumes.

    Failed counts everything that was begun and gave no volume: also a PV that was there already, a foreign class
    and a claim left to a populator. The class is what `spec.storageClassName` says, without the beta annotation.

    Source: sig-storage-lib-external-provisioner `controller/metrics/metrics.go` and `controller/controller.go`,
    updateProvisionStats and updateDeleteStats.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._provisioned = metrics.counter(
            "controller_persistentvolumeclaim_provision_total",
            "Total number of persistent volumes provisioned succeeded. Broken down by storage class name and source"
            " of the claim.",
            _CLAIM_LABELS,
        )
        self._provision_failed = metrics.counter(
            "controller_persistentvolumeclaim_provision_failed_total",
            "Total number of persistent volume provision failed attempts. Broken down by storage class name and"
            " source of the claim.",
            _CLAIM_LABELS,
        )
        self._provision_seconds = metrics.histogram(
            "controller_persistentvolumeclaim_provision_duration_seconds",
            "Latency in seconds to provision persistent volumes. Broken down by storage class name and source of"
            " the claim.",
            _CLAIM_LABELS,
            buckets=BUCKETS_S,
        )
        self._deleted = metrics.counter(
            "controller_persistentvolume_delete_total",
            "Total number of persistent volumes deleted succeeded. Broken down by storage class name.",
            _VOLUME_LABELS,
        )
        self._delete_failed = metrics.counter(
            "controller_persistentvolume_delete_failed_total",
            "Total number of persistent volume delete failed attempts. Broken down by storage class name.",
            _VOLUME_LABELS,
        )
        self._delete_seconds = metrics.histogram(
            "controller_persistentvolume_delete_duration_seconds",
            "Latency in seconds to delete persistent volumes. Broken down by storage class name.",
            _VOLUME_LABELS,
            buckets=BUCKETS_S,
        )

    def provisioned(self, claim: Claim, seconds: float) -> None:
        """Count a volume made, its first save included."""
        self._provisioned.inc(*_of_claim(claim))
        self._provision_seconds.observe(seconds, *_of_claim(claim))

    def provision_failed(self, claim: Claim) -> None:
        """Count an attempt that gave no volume."""
        self._provision_failed.inc(*_of_claim(claim))

    def deleted(self, volume: Volume, seconds: float) -> None:
        """Count a volume deleted, its PV included."""
        self._deleted.inc(volume.spec.storage_class_name)
        self._delete_seconds.observe(seconds, volume.spec.storage_class_name)

    def delete_failed(self, volume: Volume) -> None:
        """Count an attempt that left the PV or the volume there."""
        self._delete_failed.inc(volume.spec.storage_class_name)


def _of_claim(claim: Claim) -> tuple[str, str]:
    source = claim.spec.data_source
    return claim.spec.storage_class_name or "", source.kind if source is not None else ""
