"""From flags and environment to what a Sidecar is made of; no I/O but reading the pod's namespace."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csisidecar.cli import gates, modes
from csisidecar.cli.exits import FATAL, SettingError, UsageError
from csisidecar.cli.grammar import Notice
from csisidecar.cli.values import Values, check_modes_of_flags, plugin_options, resolve_modes
from csisidecar.config import (
    AttacherSettings,
    CapacitySettings,
    HTTPConfig,
    KubeConfig,
    LeaseConfig,
    Listener,
    ModeConfig,
    NodeSettings,
    PluginSettings,
    ProvisionerSettings,
    RateConfig,
    SidecarConfig,
)
from csisidecar.errors import ConfigError
from csisidecar.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from csisidecar.plugin import Plugin

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


_OF_CAPACITY = ("capacity-", "kube-api-capacity-")
_OF_NODE_DEPLOYMENT = ("node-deployment-",)

_REPLACED_BY = {"metrics-addr": ("http-endpoint", "metrics-address"), "health-addr": ("http-endpoint",)}
"""Flag with a default listener → flags that take the default away."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What is read from outside the command line.

    Attributes:
        env: environment variables.
        namespace_file: where a pod finds the namespace of its service account.
        hostname: holder name in leases.
        drop_in: whether this is `csi-attacher` or `csi-provisioner`, which read fewer variables.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    namespace_file: Path = _NAMESPACE_FILE
    hostname: str = field(default_factory=socket.gethostname)
    drop_in: bool = False

    def own_namespace(self) -> str:
        """The pod's namespace: POD_NAMESPACE, else the service account's, else ``default``."""
        if name := self.env.get("POD_NAMESPACE"):
            return name
        try:
            return self.namespace_file.read_text(encoding="utf-8").strip() or "default"
        except OSError:
            return "default"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Everything `run` was told, checked.

    Attributes:
        modes: what runs, in the order given.
        config: the process.
        settings: mode → what its plugin is made with.
        notices: what to warn about.
    """

    modes: tuple[str, ...]
    config: SidecarConfig
    settings: Mapping[str, PluginSettings]
    notices: tuple[Notice, ...] = ()

    def plugins(self) -> list[Plugin]:
        """The plugins of all modes; imports them.

        Raises:
            ConfigError: one cannot be loaded or refuses its settings.
        """
        return [modes.load(mode, self.settings[mode]) for mode in self.modes]


def running_modes(values: Values) -> tuple[str, ...]:
    """The modes to run; looks for installed plugins only when a name is not built in.

    Raises:
        UsageError: no mode, or one that nobody offers.
    """
    try:
        return resolve_modes(values, ())
    except UsageError:
        return resolve_modes(values, sorted(modes.installed()))


def build(values: Values, running: Sequence[str], outside: Surroundings) -> Launch:
    """The settings of a run.

    Raises:
        UsageError: a flag of a mode that does not run, or lease timings without room for each other.
        SettingError: a setting for which the Go sidecars have an exit code of their own.
        ConfigError: another setting that cannot work.
    """
    check_modes_of_flags(values, running)
    options = plugin_options(values, running)
    node_deployment = "provisioner" in running and bool(values.get("node-deployment"))
    if node_deployment and not outside.env.get("NODE_NAME"):
        raise SettingError(
            "--node-deployment needs the variable NODE_NAME: the name of the pod's node, from its field spec.nodeName",
            provisioner=FATAL,
        )
    http, notices = _http(values)
    kube, kube_notices = _kube(values, running, outside)
    settings = {mode: _settings(values, mode, options.get(mode, {}), outside) for mode in running}
    hosting = {mode: _hosting(values, mode, node_deployment=node_deployment) for mode in running}
    notices = [*notices, *kube_notices, *_resync_notices(values, running), *_idle_notices(values)]
    if node_deployment and hosting["provisioner"].lease.enabled:
        notices.append(
            Notice(
                message="With --leader-election one node only provisions; --node-deployment is meant to go without",
                fields={"plugin": "provisioner"},
            )
        )
    config = SidecarConfig(
        csi_endpoint=_endpoint(values, outside),
        expected_driver=values.get("provisioner"),
        handshake_timeout_s=max(one.timeout_s for one in settings.values()),
        kube=kube,
        http=http,
        modes=hosting,
        identity=outside.hostname,
        own_namespace=outside.own_namespace(),
        shutdown_grace_s=_not_negative(values, "shutdown-grace"),
        exit_on_driver_loss=values.get("exit-on-driver-loss"),
        exit_on_lease_loss=values.get("exit-on-lease-loss"),
        grpc_log_length=values.get("max-grpc-log-length"),
    )
    return Launch(modes=tuple(running), config=config, settings=settings, notices=tuple(notices))


def _not_negative(values: Values, name: str) -> float:
    seconds: float = values.get(name)
    if seconds < 0:
        raise ConfigError(f"--{name}={seconds:g}s must not be negative")
    return seconds


def _endpoint(values: Values, outside: Surroundings) -> str:
    """The driver's socket; the flag wins over CSI_ENDPOINT."""
    address, source = values.get("csi-address"), "--csi-address"
    from_env = "" if outside.drop_in else outside.env.get("CSI_ENDPOINT", "")
    if from_env and not values.is_given("csi-address"):
        address, source = from_env, "CSI_ENDPOINT"
        if address.startswith("unix:/") and not address.startswith("unix://"):
            address = "unix://" + address.removeprefix("unix:")
    path = address.removeprefix("unix://")
    if not path.startswith("/"):
        raise SettingError(
            f"{source}={address} is no Unix socket: give an absolute path, or unix:// and an absolute path"
        )
    return str(address)


def _kube(values: Values, running: Sequence[str], outside: Surroundings) -> tuple[KubeConfig, list[Notice]]:
    """How to reach the API server.

    With the provisioner, KUBECONFIG beats the flag, as upstream; elsewhere it is the last resort of `run`.
    """
    notices: list[Notice] = []
    flag: str = values.get("kubeconfig")
    path_variable = "" if outside.drop_in else outside.env.get("KUBE_CONFIG_PATH", "")
    variable = outside.env.get("KUBECONFIG", "")
    if "provisioner" in running:
        path = variable or flag or path_variable
        if variable and flag and variable != flag:
            notices.append(
                Notice(
                    message="The variable KUBECONFIG wins over --kubeconfig where the provisioner runs",
                    fields={"used": variable, "ignored": flag},
                )
            )
    elif outside.drop_in:
        path = flag
    else:
        path = flag or path_variable or variable
    manager = f"csi-{running[0]}" if running in (("attacher",), ("provisioner",)) else "csisidecar"
    return KubeConfig(kubeconfig=path, master=values.get("master"), user_agent=f"{manager}/{VERSION}"), notices


def _http(values: Values) -> tuple[HTTPConfig, list[Notice]]:
    """The listeners: an explicit ``--http-endpoint`` replaces both defaults, each other flag its own."""
    everything, metrics_only = values.get("http-endpoint"), values.get("metrics-address")
    if everything and metrics_only:
        raise SettingError("--http-endpoint and --metrics-address exclude each other; keep --http-endpoint")
    wanted = [
        Listener(address=everything, flag="http-endpoint"),
        Listener(address=metrics_only, flag="metrics-address", metrics_only=True),
    ]
    for name, replaced_by in _REPLACED_BY.items():
        given = values.is_given(name)
        if given or not any(values.is_given(other) for other in replaced_by):
            wanted.append(Listener(address=values.get(name), flag=name, is_default=not given))
    listeners: dict[str, Listener] = {}
    for listener in wanted:
        if not listener.address:
            continue
        _check_address(listener)
        before = listeners.get(listener.address)
        if before is None:
            listeners[listener.address] = listener
        else:  # the same address twice: one listener that can do what either asks for
            listeners[listener.address] = replace(
                before,
                metrics_only=before.metrics_only and listener.metrics_only,
                is_default=before.is_default and listener.is_default,
            )
    try:
        return HTTPConfig(listeners=tuple(listeners.values()), metrics_path=values.get("metrics-path")), []
    except ConfigError as error:
        raise SettingError(str(error), attacher=2, provisioner=2) from None


def _check_address(listener: Listener) -> None:
    _, colon, port = listener.address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise SettingError(
            f"--{listener.flag}={listener.address} is no address: give HOST:PORT or :PORT", provisioner=FATAL
        )


def _hosting(values: Values, mode: str, *, node_deployment: bool) -> ModeConfig:
    """Lease and request ceiling of one mode."""
    return ModeConfig(lease=_lease(values, mode, node_deployment=node_deployment), rate=_rate(values, mode))


def _lease(values: Values, mode: str, *, node_deployment: bool) -> LeaseConfig:
    """Leader election of one mode; without being asked for, none where each node has its provisioner."""
    enabled: bool = values.get("leader-election", mode)
    if mode == "provisioner" and node_deployment and not values.is_given("leader-election", mode):
        enabled = False
    namespace = values.get("leader-election-namespace", mode)
    is_default = bool(namespace) and not values.is_given("leader-election-namespace", mode)
    labels = values.get("leader-election-labels", mode)
    if not enabled:
        return LeaseConfig(enabled=False, namespace=namespace, namespace_is_default=is_default, labels=labels)
    try:
        return LeaseConfig(
            namespace=namespace,
            namespace_is_default=is_default,
            lease_duration_s=values.get("leader-election-lease-duration", mode),
            renew_deadline_s=values.get("leader-election-renew-deadline", mode),
            retry_period_s=values.get("leader-election-retry-period", mode),
            labels=labels,
        )
    except ConfigError as error:
        raise UsageError(str(error)) from None


def _rate(values: Values, mode: str) -> RateConfig:
    """Request ceiling of one mode."""
    return _rate_of(values, "kube-api", mode)


def _rate_of(values: Values, lane: str, mode: str = "") -> RateConfig:
    """The ceiling that the two flags of `lane` say; 0 asks for client-go's own default of 5 and 10, below is none.

    Raises:
        ConfigError: a ceiling lets nothing through.

    Source: client-go `rest/config.go`, DefaultQPS and DefaultBurst.
    """
    qps: float = values.get(f"{lane}-qps", mode)
    burst: int = values.get(f"{lane}-burst", mode)
    if qps < 0:
        return RateConfig()
    if qps == 0:
        return RateConfig(qps=5.0, burst=burst if burst > 0 else 10)
    if burst <= 0:
        ceiling, size = (values.spelled(f"{lane}-{half}", mode) for half in ("qps", "burst"))
        is_default = "" if values.is_given(f"{lane}-qps", mode) else ", its default,"
        raise ConfigError(f"--{size}={burst} must be above 0 when --{ceiling}={qps:g}{is_default} limits")
    return RateConfig(qps=qps, burst=burst)


def _node(values: Values, outside: Surroundings) -> NodeSettings | None:
    """Working for one node only, if that was asked for."""
    if not values.get("node-deployment"):
        return None
    return NodeSettings(
        name=outside.env.get("NODE_NAME", ""),
        immediate_binding=values.get("node-deployment-immediate-binding"),
        base_delay_s=values.get("node-deployment-base-delay"),
        max_delay_s=values.get("node-deployment-max-delay"),
        elected=values.is_given("leader-election", "provisioner") and values.get("leader-election", "provisioner"),
    )


def _capacity(values: Values, outside: Surroundings) -> CapacitySettings | None:
    """Publishing storage capacity, if that was asked for.

    Source: external-provisioner `cmd/csi-provisioner/csi-provisioner.go`, main.
    """
    if not values.get("enable-capacity"):
        return None
    namespace, pod_name = outside.env.get("NAMESPACE", ""), outside.env.get("POD_NAME", "")
    level: int = values.get("capacity-ownerref-level")
    missing = []
    if not namespace:
        missing.append("NAMESPACE (from the pod's field metadata.namespace)")
    if level >= 0 and not pod_name:
        missing.append(
            f"POD_NAME (from metadata.name; --capacity-ownerref-level={level} asks for it, -1 for objects without an"
            " owner does not)"
        )
    if missing:
        variables = "variable" if len(missing) == 1 else "variables"
        raise SettingError(f"--enable-capacity needs the {variables} {' and '.join(missing)}", provisioner=FATAL)
    return CapacitySettings(
        namespace=namespace,
        pod_name=pod_name,
        ownerref_level=level,
        threads=values.get("capacity-threads"),
        poll_interval_s=values.get("capacity-poll-interval"),
        for_immediate_binding=values.get("capacity-for-immediate-binding"),
        rate=_rate_of(values, "kube-api-capacity"),
    )


def _settings(values: Values, mode: str, options: Mapping[str, str], outside: Surroundings) -> PluginSettings:
    """What the plugin of `mode` is made with."""
    resync_s: float = values.get("resync", mode)
    common: dict[str, Any] = {
        "timeout_s": values.get("timeout", mode),
        "worker_threads": values.get("worker-threads", mode),
        "retry_interval_start_s": values.get("retry-interval-start", mode),
        "retry_interval_max_s": values.get("retry-interval-max", mode),
        "resync_s": 1.0 if 0 < resync_s < 1 else resync_s,
        "default_fstype": values.get("default-fstype", mode),
        "options": options,
    }
    enabled = values.get("feature-gates")
    if mode == "attacher":
        return AttacherSettings(
            **common,
            reconcile_sync_s=values.get("reconcile-sync"),
            max_entries=values.get("max-entries"),
            volume_attachment_timeout_s=values.get("volume-attachment-timeout"),
            error_codes=gates.is_on("MutableCSINodeAllocatableCount", enabled),
        )
    if mode == "provisioner":
        return ProvisionerSettings(
            **common,
            volume_name_prefix=values.get("volume-name-prefix"),
            volume_name_uuid_length=values.get("volume-name-uuid-length"),
            extra_create_metadata=values.get("extra-create-metadata"),
            controller_publish_readonly=values.get("controller-publish-readonly"),
            prevent_volume_mode_conversion=values.get("prevent-volume-mode-conversion"),
            strict_topology=values.get("strict-topology"),
            immediate_topology=values.get("immediate-topology"),
            topology=gates.is_on("Topology", enabled),
            node=_node(values, outside),
            capacity=_capacity(values, outside),
            cloning_protection_threads=values.get("cloning-protection-threads"),
            snapshot_orphan_sweep_interval_s=values.get("snapshot-orphan-sweep-interval"),
            volume_attributes_class=enabled.get("VolumeAttributesClass"),
            cross_namespace_data_source=gates.is_on("CrossNamespaceVolumeDataSource", enabled),
        )
    return PluginSettings(**common)


def _resync_notices(values: Values, running: Sequence[str]) -> list[Notice]:
    return [
        Notice(message="Raised --resync to 1s", fields={"plugin": mode})
        for mode in running
        if 0 < values.get("resync", mode) < 1
    ]


def _idle_notices(values: Values) -> list[Notice]:
    """Flags that change nothing because of another one."""
    found = []
    for main, parts in (("enable-capacity", _OF_CAPACITY), ("node-deployment", _OF_NODE_DEPLOYMENT)):
        idle = [f"--{name}" for name in values.given if name.startswith(parts)]
        if idle and not values.get(main):
            found.append(
                Notice(
                    message="Flags without effect, another one is missing",
                    fields={"flags": " ".join(idle), "missing": f"--{main}"},
                )
            )
    base_s, max_s = values.get("node-deployment-base-delay"), values.get("node-deployment-max-delay")
    if values.get("node-deployment") and base_s > max_s:
        found.append(
            Notice(
                message="--node-deployment-base-delay is above the max: nodes often compete without any pause",
                fields={"base_s": base_s, "max_s": max_s},
            )
        )
    return found
