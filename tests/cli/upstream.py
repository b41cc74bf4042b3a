"""The flags of the Go sidecars with their defaults and a value each, written down by hand from their `--help`."""

from __future__ import annotations

from typing import Any

LOGGING: dict[str, tuple[str, Any]] = {
    "v": ("5", 0),
    "vmodule": ("lease=5", ()),
    "logging-format": ("json", "text"),
    "log-flush-frequency": ("1s", 5.0),
    "log-text-split-stream": ("false", False),
    "log-json-split-stream": ("false", False),
    "log-text-info-buffer-size": ("0", False),
    "log-json-info-buffer-size": ("0", False),
}

ELECTION: dict[str, tuple[str, Any]] = {
    "leader-election": ("true", False),
    "leader-election-namespace": ("storage", ""),
    "leader-election-lease-duration": ("137s", 15.0),
    "leader-election-renew-deadline": ("107s", 10.0),
    "leader-election-retry-period": ("26s", 5.0),
    "leader-election-labels": ("a:b", {}),
}

COMMON: dict[str, tuple[str, Any]] = {
    "csi-address": ("/csi/csi.sock", "/run/csi/socket"),
    "kubeconfig": ("/kubeconfig", ""),
    "kube-api-qps": ("50", 5.0),
    "kube-api-burst": ("100", 10),
    "version": ("false", False),
    "retry-interval-start": ("2s", 1.0),
    "retry-interval-max": ("1m", 300.0),
    "default-fstype": ("ext4", ""),
    "http-endpoint": (":8080", ""),
    "metrics-address": (":8080", ""),
    "metrics-path": ("/m", "/metrics"),
    "feature-gates": ("AllAlpha=false", {}),
    "automaxprocs": ("true", False),
    **LOGGING,
    **ELECTION,
}

ATTACHER: dict[str, tuple[str, Any]] = {
    **COMMON,
    "timeout": ("30s", 15.0),
    "worker-threads": ("20", 10),
    "resync": ("5m", 600.0),
    "reconcile-sync": ("2m", 60.0),
    "max-entries": ("100", 0),
    "max-grpc-log-length": ("1000", -1),
}
"""Flag → an accepted text, and the default as a value."""

PROVISIONER: dict[str, tuple[str, Any]] = {
    **COMMON,
    "timeout": ("30s", 10.0),
    "worker-threads": ("20", 100),
    "master": ("https://127.0.0.1:6443", ""),
    "volume-name-prefix": ("vol", "pvc"),
    "volume-name-uuid-length": ("8", -1),
    "extra-create-metadata": ("true", False),
    "controller-publish-readonly": ("true", False),
    "prevent-volume-mode-conversion": ("false", True),
    "strict-topology": ("true", False),
    "immediate-topology": ("false", True),
    "cloning-protection-threads": ("2", 1),
    "snapshot-orphan-sweep-interval": ("0", 300.0),
    "enable-capacity": ("true", False),
    "capacity-threads": ("2", 1),
    "capacity-poll-interval": ("2m", 60.0),
    "capacity-for-immediate-binding": ("true", False),
    "capacity-ownerref-level": ("2", 1),
    "kube-api-capacity-qps": ("0.5", 1.0),
    "kube-api-capacity-burst": ("3", 5),
    "node-deployment": ("true", False),
    "node-deployment-immediate-binding": ("false", True),
    "node-deployment-base-delay": ("1s", 20.0),
    "node-deployment-max-delay": ("2m", 60.0),
    "enable-pprof": ("true", False),
}
"""Flag → an accepted text, and the default as a value."""

USERS_TABLE: dict[str, Any] = {
    "v": 0,
    "csi-address": "/var/lib/csi/sockets/pluginproxy/csi.sock",
    "timeout": 60.0,
    "leader-election": True,
    "leader-election-namespace": "kube-system",
    "leader-election-lease-duration": 15.0,
    "leader-election-renew-deadline": 10.0,
    "metrics-addr": ":8080",
    "health-addr": ":9808",
    "volume-attachment-timeout": 900.0,
}
"""Flag → its default without ``--defaults=upstream``, for the attacher."""
