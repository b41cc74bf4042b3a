"""Frozen settings, validated once on construction; what a flag means below the command line.

`PluginSettings` and its children go to a plugin's constructor; `ModeConfig` says how the Sidecar hosts one
plugin (lease, request rate); `SidecarConfig` is the process. Nothing here knows flags beyond naming them in errors.
The defaults are those of `csisidecar run`; the Go sidecars' own are set by the command line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from csisidecar.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


LEAST_RETRY_S = 0.001
"""The shortest pause after a failure."""
LEAST_INTERVAL_S = 0.1
"""The shortest pause between two rounds that ask the driver or the API server for everything."""

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL)
_OBJECT = re.compile(rf"{_LABEL}(\.{_LABEL})*")


def _positive(value: float, flag: str, why: str) -> None:
    if not value > 0:
        raise ConfigError(f"--{flag}={value:g} cannot work: {why}; give a value above 0")


def _above_zero(value_s: float, flag: str, why: str) -> None:
    if not value_s > 0:
        raise ConfigError(f"--{flag}={_shown(value_s)} cannot work: {why}; give a value above 0")


def _at_least(least_s: float, value_s: float, flag: str, why: str) -> None:
    if not value_s >= least_s:
        raise ConfigError(f"--{flag}={_shown(value_s)} cannot work: {why}; give at least {_shown(least_s)}")


def _shown(seconds: float) -> str:
    """A duration as the flags take it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if abs(seconds) >= size:
            return f"{seconds / size:g}{unit}"
    return f"{seconds / 1e-9:g}ns" if seconds else "0s"


def _check_name(variable: str, value: str, pod_field: str, *, is_namespace: bool = False) -> None:
    """Refuse what the API server can know nobody by. Source: Kubernetes, "Object Names and IDs"."""
    pattern, length = (_NAMESPACE, 63) if is_namespace else (_OBJECT, 253)
    if len(value) > length or not pattern.fullmatch(value):
        raise ConfigError(
            f"{variable}={value!r} can be no name: take it from the pod's field {pod_field};"
            f" names have a-z, 0-9, dashes{'' if is_namespace else ', dots'} and at most {length} characters"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseConfig:
    """Leader election of one mode.

    Raises:
        ConfigError: the durations do not leave room for each other.

    Source: client-go `tools/leaderelection/leaderelection.go`, NewLeaderElector.
    """

    enabled: bool = True
    """Whether to hold a Lease at all. ``--leader-election``."""
    namespace: str = "kube-system"
    """Where the Lease lives; empty: the pod's own namespace. ``--leader-election-namespace``."""
    namespace_is_default: bool = True
    """Whether nobody asked for `namespace`: then the Lease in the pod's own namespace is held too."""
    lease_duration_s: float = 15.0
    """How long others wait for a silent holder. ``--leader-election-lease-duration``."""
    renew_deadline_s: float = 10.0
    """How long the holder goes on without a confirmed renewal. ``--leader-election-renew-deadline``."""
    retry_period_s: float = 5.0
    """Between two tries. ``--leader-election-retry-period``."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Put on the Lease at create and update. ``--leader-election-labels``."""

    def __post_init__(self) -> None:
        for value, flag in (
            (self.lease_duration_s, "leader-election-lease-duration"),
            (self.renew_deadline_s, "leader-election-renew-deadline"),
            (self.retry_period_s, "leader-election-retry-period"),
        ):
            _above_zero(value, flag, "leader election needs time to pass")
        _at_least(
            LEAST_INTERVAL_S,
            self.retry_period_s,
            "leader-election-retry-period",
            "the Lease would be asked for without a pause",
        )
        if self.lease_duration_s < 1:
            raise ConfigError(
                f"--leader-election-lease-duration={self.lease_duration_s:g}s must be at least 1s:"
                " the Lease counts whole seconds"
            )
        if self.lease_duration_s <= self.renew_deadline_s:
            raise ConfigError(
                f"--leader-election-lease-duration={self.lease_duration_s:g}s must be greater than"
                f" --leader-election-renew-deadline={self.renew_deadline_s:g}s"
            )
        if self.renew_deadline_s <= 1.2 * self.retry_period_s:
            raise ConfigError(
                f"--leader-election-renew-deadline={self.renew_deadline_s:g}s must be greater than 1.2 times"
                f" --leader-election-retry-period={self.retry_period_s:g}s"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class RateConfig:
    """Ceiling for one mode's API requests, a token bucket. Leases, Events and watches stay outside it."""

    qps: float = 0.0
    """Requests a second; 0 or less: no ceiling. ``--kube-api-qps``."""
    burst: int = 0
    """Size of the bucket. ``--kube-api-burst``."""

    def __post_init__(self) -> None:
        if self.qps > 0 and self.burst <= 0:
            raise ConfigError(f"--kube-api-burst={self.burst} must be above 0 when --kube-api-qps={self.qps:g} limits")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModeConfig:
    """How the Sidecar hosts one plugin."""

    lease: LeaseConfig = field(default_factory=LeaseConfig)
    """Leader election of this mode."""
    rate: RateConfig = field(default_factory=RateConfig)
    """Request ceiling of this mode."""


@dataclass(frozen=True, kw_only=True)
class PluginSettings:
    """What every plugin can be told; a third party's factory gets exactly this.

    Raises:
        ConfigError: a value would give a dead process or a hot loop.
    """

    timeout_s: float = 60.0
    """Deadline of one CSI call. ``--timeout``."""
    worker_threads: int = 10
    """Attempts of one controller at a time. ``--worker-threads``."""
    retry_interval_start_s: float = 1.0
    """First backoff of a failed key. ``--retry-interval-start``."""
    retry_interval_max_s: float = 300.0
    """Longest backoff of a failed key. ``--retry-interval-max``."""
    resync_s: float = 600.0
    """How often every key is offered again; 0: never. ``--resync``."""
    default_fstype: str = ""
    """File system for volumes that name none. ``--default-fstype``."""
    options: Mapping[str, str] = field(default_factory=dict)
    """``--plugin-option NAME.KEY=VALUE`` for a third party's plugin: KEY → VALUE."""

    def __post_init__(self) -> None:
        _above_zero(self.timeout_s, "timeout", "every CSI call would fail at once")
        _positive(self.worker_threads, "worker-threads", "nothing would ever be processed")
        for value_s, flag in (
            (self.retry_interval_start_s, "retry-interval-start"),
            (self.retry_interval_max_s, "retry-interval-max"),
        ):
            _at_least(LEAST_RETRY_S, value_s, flag, "failed work would be repeated without a pause")
        if self.resync_s < 0:
            raise ConfigError(f"--resync={self.resync_s:g}s must not be negative; 0 turns it off")


@dataclass(frozen=True, kw_only=True)
class AttacherSettings(PluginSettings):
    """Settings of the attacher."""

    reconcile_sync_s: float = 60.0
    """Pause between two comparisons with ListVolumes. ``--reconcile-sync``."""
    max_entries: int = 0
    """`max_entries` of one ListVolumes page; 0: the driver decides. ``--max-entries``."""
    volume_attachment_timeout_s: float = 900.0
    """Age after which a pending attachment is reported as late; changes no schedule; 0: off.
    ``--volume-attachment-timeout``."""
    error_codes: bool = True
    """Whether attachError carries the gRPC code. Gate ``MutableCSINodeAllocatableCount``."""

    def __post_init__(self) -> None:
        PluginSettings.__post_init__(self)
        _at_least(
            LEAST_INTERVAL_S, self.reconcile_sync_s, "reconcile-sync", "ListVolumes would be called without a pause"
        )
        if not 0 <= self.max_entries < 2**31:
            raise ConfigError(f"--max-entries={self.max_entries} must be from 0 to 2147483647")
        if self.volume_attachment_timeout_s < 0:
            raise ConfigError(
                f"--volume-attachment-timeout={self.volume_attachment_timeout_s:g}s must not be negative;"
                " 0 turns it off"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class CapacitySettings:
    """Publishing CSIStorageCapacity objects."""

    namespace: str
    """Where the objects go: the pod's own. Variable ``NAMESPACE``."""
    pod_name: str = ""
    """Where the search for their owner begins. Variable ``POD_NAME``."""
    ownerref_level: int = 1
    """Whom they belong to: -1 nobody, 0 the pod, 1 its controller, 2 the controller's controller, and so on.
    ``--capacity-ownerref-level``."""
    threads: int = 1
    """Objects worked on at a time. ``--capacity-threads``."""
    poll_interval_s: float = 60.0
    """How often each of them is refreshed. ``--capacity-poll-interval``."""
    for_immediate_binding: bool = False
    """Whether classes that bind at once get objects, too. ``--capacity-for-immediate-binding``."""
    rate: RateConfig = field(default_factory=lambda: RateConfig(qps=1.0, burst=5))
    """Ceiling of requests for them, a lane of its own. ``--kube-api-capacity-qps``, ``--kube-api-capacity-burst``."""

    def __post_init__(self) -> None:
        _positive(self.threads, "capacity-threads", "nothing would ever be published")
        _at_least(
            LEAST_INTERVAL_S,
            self.poll_interval_s,
            "capacity-poll-interval",
            "the driver would be asked without a pause",
        )
        # Missing ones are refused where the driver is known, with the level that asks for them.
        if self.namespace:
            _check_name("NAMESPACE", self.namespace, "metadata.namespace", is_namespace=True)
        if self.pod_name:
            _check_name("POD_NAME", self.pod_name, "metadata.name")


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeSettings:
    """One provisioner a node."""

    name: str
    """The node. Variable ``NODE_NAME``."""
    immediate_binding: bool = True
    """Whether nodes may compete for claims that bind at once. ``--node-deployment-immediate-binding``."""
    base_delay_s: float = 20.0
    """First wait before a node competes. ``--node-deployment-base-delay``."""
    max_delay_s: float = 60.0
    """Longest wait before a node competes. ``--node-deployment-max-delay``."""
    elected: bool = False
    """Whether to hold a Lease all the same, so that one node only provisions. ``--leader-election``."""

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("--node-deployment needs the variable NODE_NAME")
        _check_name("NODE_NAME", self.name, "spec.nodeName")
        for value_s, flag in (
            (self.base_delay_s, "node-deployment-base-delay"),
            (self.max_delay_s, "node-deployment-max-delay"),
        ):
            if value_s < 0:
                raise ConfigError(f"--{flag}={_shown(value_s)} must not be negative")


@dataclass(frozen=True, kw_only=True)
class ProvisionerSettings(PluginSettings):
    """Settings of the provisioner."""

    timeout_s: float = 10.0
    worker_threads: int = 100
    resync_s: float = 900.0
    volume_name_prefix: str = "pvc"
    """First part of volume names. ``--volume-name-prefix``."""
    volume_name_uuid_length: int = -1
    """Characters of the claim's UID in names, without dashes; -1: all, with dashes. ``--volume-name-uuid-length``."""
    extra_create_metadata: bool = False
    """Whether CreateVolume parameters name the claim and the PV. ``--extra-create-metadata``."""
    controller_publish_readonly: bool = False
    """Whether a claim with only ReadOnlyMany gives a read-only PV. ``--controller-publish-readonly``."""
    prevent_volume_mode_conversion: bool = True
    """Whether a restore may not change the volume mode unless allowed. ``--prevent-volume-mode-conversion``."""
    strict_topology: bool = False
    """``--strict-topology``."""
    immediate_topology: bool = True
    """``--immediate-topology``."""
    topology: bool = True
    """Gate ``Topology``."""
    volume_attributes_class: bool | None = None
    """Gate ``VolumeAttributesClass``; None: nobody set it, and it is on where the API server serves such classes."""
    cross_namespace_data_source: bool = False
    """Whether volumes may be filled from other namespaces. Gate ``CrossNamespaceVolumeDataSource``."""
    node: NodeSettings | None = None
    """Work for one node only; None: for the cluster. ``--node-deployment``."""
    capacity: CapacitySettings | None = None
    """Publish storage capacity; None: do not. ``--enable-capacity``."""
    cloning_protection_threads: int = 1
    """Claims at a time whose finalizer against deletion during a clone is taken off.
    ``--cloning-protection-threads``."""
    snapshot_orphan_sweep_interval_s: float = 300.0
    """Pause between two looks for left-over finalizers on snapshots; 0 or less: none.
    ``--snapshot-orphan-sweep-interval``."""

    def __post_init__(self) -> None:
        PluginSettings.__post_init__(self)
        if not self.volume_name_prefix:
            raise ConfigError(
                "--volume-name-prefix must not be empty: volume names would have no prefix to tell them by"
            )
        length = self.volume_name_uuid_length
        if length != -1 and not 1 <= length <= 32:
            raise ConfigError(
                f"--volume-name-uuid-length={length} is impossible: a UID has 32 characters;"
                " give 1 to 32, or -1 for all"
            )
        _positive(self.cloning_protection_threads, "cloning-protection-threads", "no finalizer would ever be removed")
        if self.snapshot_orphan_sweep_interval_s > 0:
            _at_least(
                LEAST_INTERVAL_S,
                self.snapshot_orphan_sweep_interval_s,
                "snapshot-orphan-sweep-interval",
                "snapshots would be listed without a pause",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Listener:
    """One address the HTTP server opens."""

    address: str
    """``host:port`` or ``:port``."""
    flag: str
    """The flag it came from, for messages."""
    is_default: bool = False
    """Whether nobody asked for it: then a failure to bind is a warning."""
    metrics_only: bool = False
    """Whether only the metrics path is served."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HTTPConfig:
    """What the process serves over HTTP; no listener: nothing is opened."""

    listeners: tuple[Listener, ...] = ()
    metrics_path: str = "/metrics"
    """``--metrics-path``."""

    def __post_init__(self) -> None:
        reserved = {"/healthz", "/readyz", "/healthz/leader-election"}
        if not self.metrics_path.startswith("/") or self.metrics_path in reserved:
            raise ConfigError(
                f"--metrics-path={self.metrics_path!r} must start with / and differ from {', '.join(sorted(reserved))}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class KubeConfig:
    """How to reach the API server."""

    kubeconfig: str = ""
    """Path of a kubeconfig; empty: in-cluster. ``--kubeconfig``."""
    master: str = ""
    """Overrides the server's URL. ``--master``."""
    user_agent: str = "csisidecar"
    """The part before the slash is the manager name in `managedFields`."""
    request_timeout_s: float = 60.0
    """Deadline of one request that is no watch; no flag."""


@dataclass(frozen=True, kw_only=True)
class SidecarConfig:
    """The process: driver, API server, HTTP, stopping; and how each mode is hosted."""

    csi_endpoint: str = "/var/lib/csi/sockets/pluginproxy/csi.sock"
    """The driver's socket. ``--csi-address``."""
    expected_driver: str = ""
    """Name the driver must have; empty: any. ``--provisioner``."""
    handshake_timeout_s: float = 60.0
    """Deadline of each call of the handshake: the largest ``--timeout``."""
    connect_timeout_s: float = 30.0
    """How long the first connection may take; no flag."""
    kube: KubeConfig = field(default_factory=KubeConfig)
    http: HTTPConfig = field(default_factory=HTTPConfig)
    modes: Mapping[str, ModeConfig] = field(default_factory=dict)
    """Plugin name → how it is hosted; a plugin not named here gets the defaults."""
    identity: str = ""
    """Holder name in leases and Events; empty: the hostname."""
    own_namespace: str = "default"
    """Namespace of the pod: POD_NAMESPACE, the service account's, or ``default``."""
    shutdown_grace_s: float = 20.0
    """How long attempts in flight may take after the first stop signal. ``--shutdown-grace``."""
    exit_on_driver_loss: bool = False
    """End as the Go sidecars do when the driver is lost. ``--exit-on-driver-loss``."""
    exit_on_lease_loss: bool = False
    """End as the Go sidecars do when a lease is lost. ``--exit-on-lease-loss``."""
    grpc_log_length: int = -1
    """Bytes of a logged CSI response; 0 or less: all. ``--max-grpc-log-length``."""

    def mode(self, name: str) -> ModeConfig:
        """How the plugin called `name` is hosted."""
        return self.modes.get(name) or ModeConfig()
