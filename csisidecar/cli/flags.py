"""The flag table of `run` and of the drop-in commands: names, kinds, scopes, both default sets, help.

Data only. `grammar` reads a command line with it, `build` turns the values into settings, `helptext` and
`flags_page` show it. Source of the Go sidecars' names and defaults: kubernetes-csi/external-attacher
`cmd/csi-attacher/main.go`, kubernetes-csi/external-provisioner `cmd/csi-provisioner/csi-provisioner.go`,
kubernetes-csi/csi-lib-utils `standardflags`, kubernetes/component-base `logs/api/v1`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from csisidecar.cli import kinds

if TYPE_CHECKING:
    from csisidecar.cli.kinds import Kind

BUILT_IN_MODES = ("attacher", "provisioner")
"""What ``--mode=all`` means."""

Default = str | Mapping[str, str]
"""A default as it would be written, or mode → default, where "" stands for every other mode."""

_BOTH = frozenset(BUILT_IN_MODES)
_ATTACHER = frozenset({"attacher"})
_PROVISIONER = frozenset({"provisioner"})
_NEITHER: frozenset[str] = frozenset()


class Scope(Enum):
    """What a flag speaks about."""

    PROCESS = "process"
    """The process, or the one mode that has the feature."""
    MODE = "mode"
    """Every running mode; ``--attacher-X`` and ``--provisioner-X`` speak about one."""


class State(Enum):
    """What a flag does in this version."""

    WORKS = "works"
    NOT_BUILT = "not built yet"
    """Accepted; the feature comes in a later version, said in help and in a warning when given."""
    WITHOUT_EFFECT = "no effect"
    """Accepted because it speaks about Go's runtime or about something that is always so."""
    RETIRED = "retired"
    """The Go sidecars had it once; accepted with a warning and no effect."""


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One flag.

    Attributes:
        name: without dashes.
        kind: how its text is read.
        group: heading in help.
        text: one or two sentences for help.
        scope: process or mode.
        modes: the built-in modes it means something for; empty: any mode, also a third party's.
        user: default of `csisidecar run`.
        upstream: default with ``--defaults=upstream``; None: the same.
        go: which Go sidecars have it now.
        state: what it does in this version.
    """

    name: str
    kind: Kind
    group: str
    text: str = ""
    scope: Scope = Scope.PROCESS
    modes: frozenset[str] = _NEITHER
    user: Default = ""
    upstream: Default | None = None
    go: frozenset[str] = _NEITHER
    state: State = State.WORKS

    def default(self, defaults: str, mode: str = "") -> str:
        """The default as text under the set `defaults` for `mode`; empty: the kind's unset value."""
        texts = self.user if defaults == "user" or self.upstream is None else self.upstream
        return texts if isinstance(texts, str) else texts.get(mode, texts[""])


MODE_GROUP = "Modes and defaults"
CONNECTION = "Connection and identity"
WORK = "Work of each mode"
ATTACHER = "Attacher"
PROVISIONER = "Provisioner"
CAPACITY = "Storage capacity (provisioner)"
NODE = "One provisioner per node"
ELECTION = "Leader election"
HTTP = "HTTP"
LOGGING = "Logging"
PROCESS = "Process"
RETIRED = "Retired flags"

GROUPS = (
    MODE_GROUP,
    CONNECTION,
    WORK,
    ATTACHER,
    PROVISIONER,
    CAPACITY,
    NODE,
    ELECTION,
    HTTP,
    LOGGING,
    PROCESS,
    RETIRED,
)


def _retired(name: str, kind: Kind, text: str) -> Flag:
    return Flag(name=name, kind=kind, group=RETIRED, text=text, state=State.RETIRED)


_KLOG_FILES = "Classic log flag of Go programs; logs always go to stderr."

FLAGS: tuple[Flag, ...] = (
    Flag(
        name="mode",
        kind=kinds.MODES,
        group=MODE_GROUP,
        text="What to run: attacher, provisioner, the name of an installed plugin, several of them, or all for the"
        " two built-in ones. Required; repeated flags add up.",
    ),
    Flag(
        name="defaults",
        kind=kinds.DEFAULTS,
        group=MODE_GROUP,
        text="Which defaults hold for flags that are not given: this program's, or those of the Go sidecars.",
        user="user",
    ),
    Flag(
        name="plugin-option",
        kind=kinds.OPTION,
        group=MODE_GROUP,
        text="A setting of an installed plugin that is no flag here. Repeated flags add up.",
    ),
    Flag(
        name="csi-address",
        kind=kinds.STRING,
        group=CONNECTION,
        text="The driver's Unix socket: an absolute path, or unix:// and an absolute path. Without the flag, run reads"
        " the variable CSI_ENDPOINT.",
        user="/var/lib/csi/sockets/pluginproxy/csi.sock",
        upstream="/run/csi/socket",
        go=_BOTH,
    ),
    Flag(
        name="provisioner",
        kind=kinds.STRING,
        group=CONNECTION,
        modes=_PROVISIONER,
        text="The name the driver must have; another name ends the start with an error that names both. Empty: any.",
    ),
    Flag(
        name="kubeconfig",
        kind=kinds.STRING,
        group=CONNECTION,
        text="A kubeconfig file, for use outside a cluster. With the provisioner the variable KUBECONFIG wins over the"
        " flag; run also reads KUBE_CONFIG_PATH when there is no flag.",
        go=_BOTH,
    ),
    Flag(
        name="master",
        kind=kinds.STRING,
        group=CONNECTION,
        text="URL of the API server; with a kubeconfig it overrides that file's server.",
        go=_PROVISIONER,
    ),
    Flag(
        name="kube-api-qps",
        kind=kinds.FLOAT,
        group=CONNECTION,
        scope=Scope.MODE,
        text="Ceiling of a mode's API requests per second. 0 means 5; negative: no ceiling. Leases, Events and watches"
        " do not count.",
        user="-1",
        upstream="5",
        go=_BOTH,
    ),
    Flag(
        name="kube-api-burst",
        kind=kinds.INT,
        group=CONNECTION,
        scope=Scope.MODE,
        text="Requests a mode may send at once under that ceiling.",
        user="10",
        go=_BOTH,
    ),
    Flag(
        name="version",
        kind=kinds.BOOL,
        group=CONNECTION,
        text="Print the version and exit.",
        go=_BOTH,
    ),
    Flag(
        name="timeout",
        kind=kinds.DURATION,
        group=WORK,
        scope=Scope.MODE,
        text="Deadline of each CSI call. The handshake with the driver uses the largest of all modes.",
        user={"": "1m", "provisioner": "10s"},
        upstream={"": "15s", "provisioner": "10s"},
        go=_BOTH,
    ),
    Flag(
        name="worker-threads",
        kind=kinds.UINT,
        group=WORK,
        scope=Scope.MODE,
        text="Objects of one kind worked on at a time.",
        user={"": "10", "provisioner": "100"},
        go=_BOTH,
    ),
    Flag(
        name="retry-interval-start",
        kind=kinds.DURATION,
        group=WORK,
        scope=Scope.MODE,
        text="First pause after a failure; it doubles with each further one. At least 1ms.",
        user="1s",
        go=_BOTH,
    ),
    Flag(
        name="retry-interval-max",
        kind=kinds.DURATION,
        group=WORK,
        scope=Scope.MODE,
        text="Longest pause after a failure.",
        user="5m",
        go=_BOTH,
    ),
    Flag(
        name="resync",
        kind=kinds.DURATION,
        group=WORK,
        scope=Scope.MODE,
        text="How often every known object is looked at again; 0 turns it off, and less than 1s is raised to 1s.",
        user={"": "10m", "provisioner": "15m"},
        go=_ATTACHER,
    ),
    Flag(
        name="default-fstype",
        kind=kinds.STRING,
        group=WORK,
        scope=Scope.MODE,
        text="File system of volumes that name none.",
        go=_BOTH,
    ),
    Flag(
        name="reconcile-sync",
        kind=kinds.DURATION,
        group=ATTACHER,
        modes=_ATTACHER,
        text="Pause between two comparisons of all attachments with ListVolumes.",
        user="1m",
        go=_ATTACHER,
    ),
    Flag(
        name="max-entries",
        kind=kinds.INT,
        group=ATTACHER,
        modes=_ATTACHER,
        text="Entries of one ListVolumes page; 0: the driver decides.",
        user="0",
        go=_ATTACHER,
    ),
    Flag(
        name="volume-attachment-timeout",
        kind=kinds.DURATION,
        group=ATTACHER,
        modes=_ATTACHER,
        text="Age after which a pending VolumeAttachment is reported as late; changes no retry. 0 turns it off.",
        user="15m",
        upstream="0",
    ),
    Flag(
        name="volume-name-prefix",
        kind=kinds.STRING,
        group=PROVISIONER,
        modes=_PROVISIONER,
        text="First part of the names of new volumes.",
        user="pvc",
        go=_PROVISIONER,
    ),
    Flag(
        name="volume-name-uuid-length",
        kind=kinds.INT,
        group=PROVISIONER,
        modes=_PROVISIONER,
        text="How many characters of the claim's UID follow, from 1 to 32; -1: all of it, with dashes.",
        user="-1",
        go=_PROVISIONER,
    ),
    Flag(
        name="extra-create-metadata",
        kind=kinds.BOOL,
        group=PROVISIONER,
        modes=_PROVISIONER,
        text="Tell the driver the names of claim, namespace and volume in the CreateVolume parameters.",
        user="false",
        go=_PROVISIONER,
    ),
    Flag(
        name="controller-publish-readonly",
        kind=kinds.BOOL,
        group=PROVISIONER,
        modes=_PROVISIONER,
        text="Make the volume of a claim whose only access mode is ReadOnlyMany read-only.",
        user="false",
        go=_PROVISIONER,
    ),
    Flag(
        name="prevent-volume-mode-conversion",
        kind=kinds.BOOL,
        group=PROVISIONER,
        modes=_PROVISIONER,
        text="Refuse to restore a snapshot in another volume mode unless its content allows it.",
        user="true",
        go=_PROVISIONER,
    ),
    Flag(
        name="strict-topology",
        kind=kinds.BOOL,
        group=PROVISIONER,
        modes=_PROVISIONER,
        text="With a selected node, ask the driver for that node's topology only.",
        user="false",
        go=_PROVISIONER,
    ),
    Flag(
        name="immediate-topology",
        kind=kinds.BOOL,
        group=PROVISIONER,
        modes=_PROVISIONER,
        text="Without a selected node, ask for the topology of the whole cluster rather than for none.",
        user="true",
        go=_PROVISIONER,
    ),
    Flag(
        name="cloning-protection-threads",
        kind=kinds.UINT,
        group=PROVISIONER,
        modes=_PROVISIONER,
        text="Claims worked on at a time by the keeper of the finalizer on sources of clones.",
        user="1",
        go=_PROVISIONER,
    ),
    Flag(
        name="snapshot-orphan-sweep-interval",
        kind=kinds.DURATION,
        group=PROVISIONER,
        modes=_PROVISIONER,
        text="How often left-over finalizers on snapshots are looked for; 0 turns it off, else at least 100ms.",
        user="5m",
        go=_PROVISIONER,
    ),
    Flag(
        name="enable-capacity",
        kind=kinds.BOOL,
        group=CAPACITY,
        modes=_PROVISIONER,
        text="Publish the driver's free space as CSIStorageCapacity objects; needs the variables NAMESPACE and"
        " POD_NAME.",
        user="false",
        go=_PROVISIONER,
    ),
    Flag(
        name="capacity-threads",
        kind=kinds.UINT,
        group=CAPACITY,
        modes=_PROVISIONER,
        text="Capacity objects worked on at a time.",
        user="1",
        go=_PROVISIONER,
    ),
    Flag(
        name="capacity-poll-interval",
        kind=kinds.DURATION,
        group=CAPACITY,
        modes=_PROVISIONER,
        text="How often each of them is refreshed; at least 100ms.",
        user="1m",
        go=_PROVISIONER,
    ),
    Flag(
        name="capacity-for-immediate-binding",
        kind=kinds.BOOL,
        group=CAPACITY,
        modes=_PROVISIONER,
        text="Also publish for classes that bind at once.",
        user="false",
        go=_PROVISIONER,
    ),
    Flag(
        name="capacity-ownerref-level",
        kind=kinds.INT,
        group=CAPACITY,
        modes=_PROVISIONER,
        text="Who owns them: -1 nobody, 0 the pod, 1 its controller, 2 the controller's controller, and so on.",
        user="1",
        go=_PROVISIONER,
    ),
    Flag(
        name="kube-api-capacity-qps",
        kind=kinds.FLOAT,
        group=CAPACITY,
        modes=_PROVISIONER,
        text="Ceiling of API requests for capacity, per second. 0 means 5; negative: no ceiling.",
        user="1",
        go=_PROVISIONER,
    ),
    Flag(
        name="kube-api-capacity-burst",
        kind=kinds.INT,
        group=CAPACITY,
        modes=_PROVISIONER,
        text="Requests for capacity that may be sent at once.",
        user="5",
        go=_PROVISIONER,
    ),
    Flag(
        name="node-deployment",
        kind=kinds.BOOL,
        group=NODE,
        modes=_PROVISIONER,
        text="One provisioner on each node, working for that node without a Lease; needs the variable NODE_NAME.",
        user="false",
        go=_PROVISIONER,
    ),
    Flag(
        name="node-deployment-immediate-binding",
        kind=kinds.BOOL,
        group=NODE,
        modes=_PROVISIONER,
        text="Whether nodes may compete for claims that bind at once.",
        user="true",
        go=_PROVISIONER,
    ),
    Flag(
        name="node-deployment-base-delay",
        kind=kinds.DURATION,
        group=NODE,
        modes=_PROVISIONER,
        text="First pause before a node competes.",
        user="20s",
        go=_PROVISIONER,
    ),
    Flag(
        name="node-deployment-max-delay",
        kind=kinds.DURATION,
        group=NODE,
        modes=_PROVISIONER,
        text="Longest pause before a node competes.",
        user="60s",
        go=_PROVISIONER,
    ),
    Flag(
        name="leader-election",
        kind=kinds.BOOL,
        group=ELECTION,
        scope=Scope.MODE,
        text="Let only one replica work, by holding a Lease; a must with several replicas.",
        user="true",
        upstream="false",
        go=_BOTH,
    ),
    Flag(
        name="leader-election-namespace",
        kind=kinds.STRING,
        group=ELECTION,
        scope=Scope.MODE,
        text="Namespace of the Lease. Empty: POD_NAMESPACE, else the service account's namespace, else default.",
        user="kube-system",
        upstream="",
        go=_BOTH,
    ),
    Flag(
        name="leader-election-lease-duration",
        kind=kinds.DURATION,
        group=ELECTION,
        scope=Scope.MODE,
        text="How long the others wait for a silent leader; more than the renew deadline.",
        user="15s",
        go=_BOTH,
    ),
    Flag(
        name="leader-election-renew-deadline",
        kind=kinds.DURATION,
        group=ELECTION,
        scope=Scope.MODE,
        text="How long the leader goes on without renewing; more than 1.2 times the retry period.",
        user="10s",
        go=_BOTH,
    ),
    Flag(
        name="leader-election-retry-period",
        kind=kinds.DURATION,
        group=ELECTION,
        scope=Scope.MODE,
        text="Pause between two tries to get or renew the Lease.",
        user="5s",
        go=_BOTH,
    ),
    Flag(
        name="leader-election-labels",
        kind=kinds.LABELS,
        group=ELECTION,
        scope=Scope.MODE,
        text="Labels of the Lease. Repeated flags add up.",
        go=_BOTH,
    ),
    Flag(
        name="exit-on-lease-loss",
        kind=kinds.BOOL,
        group=ELECTION,
        text="Exit when a Lease is lost, as the Go sidecars do, rather than stand by and try to lead again.",
        user="false",
    ),
    Flag(
        name="http-endpoint",
        kind=kinds.STRING,
        group=HTTP,
        text="Address of one listener for everything, such as :8080; replaces both defaults below.",
        go=_BOTH,
    ),
    Flag(
        name="metrics-address",
        kind=kinds.STRING,
        group=HTTP,
        text="Older spelling of the Go sidecars: a listener for metrics only. Not together with --http-endpoint.",
        go=_BOTH,
    ),
    Flag(
        name="metrics-addr",
        kind=kinds.STRING,
        group=HTTP,
        text="Address for metrics, health and readiness. A default that is taken is a warning, a given one is fatal.",
        user=":8080",
        upstream="",
    ),
    Flag(
        name="health-addr",
        kind=kinds.STRING,
        group=HTTP,
        text="A second address for the same.",
        user=":9808",
        upstream="",
    ),
    Flag(
        name="metrics-path",
        kind=kinds.STRING,
        group=HTTP,
        text="Path of the metrics.",
        user="/metrics",
        go=_BOTH,
    ),
    Flag(
        name="enable-pprof",
        kind=kinds.BOOL,
        group=HTTP,
        modes=_PROVISIONER,
        text="Go's profiler; there is none here.",
        user="false",
        go=_PROVISIONER,
        state=State.WITHOUT_EFFECT,
    ),
    Flag(
        name="v",
        kind=kinds.VERBOSITY,
        group=LOGGING,
        text="Verbosity: 0 state changes, 2 for production, 4 every step, 5 to debug, 6 also libraries. -v5 works too.",
        user="0",
        go=_BOTH,
    ),
    Flag(
        name="vmodule",
        kind=kinds.VMODULE,
        group=LOGGING,
        text="Verbosity of single source files, by name without .py, such as lease=5; text format only. Repeated flags"
        " add up.",
        go=_BOTH,
    ),
    Flag(
        name="logging-format",
        kind=kinds.STRING,
        group=LOGGING,
        text="text or json; both go to stderr.",
        user="text",
        go=_BOTH,
    ),
    Flag(
        name="max-grpc-log-length",
        kind=kinds.INT,
        group=LOGGING,
        text="Bytes of a logged CSI answer; 0 or less: all of it.",
        user="-1",
        go=_ATTACHER,
    ),
    Flag(
        name="log-flush-frequency",
        kind=kinds.DURATION,
        group=LOGGING,
        text="Must be above 0; lines are never held back here.",
        user="5s",
        go=_BOTH,
        state=State.WITHOUT_EFFECT,
    ),
    *(
        Flag(
            name=f"log-{log_format}-split-stream",
            kind=kinds.BOOL,
            group=LOGGING,
            text="Refused when true, as by the Go sidecars, which keep it behind a closed gate.",
            user="false",
            go=_BOTH,
            state=State.WITHOUT_EFFECT,
        )
        for log_format in ("text", "json")
    ),
    *(
        Flag(
            name=f"log-{log_format}-info-buffer-size",
            kind=kinds.QUANTITY,
            group=LOGGING,
            text="Refused when not 0, as by the Go sidecars, which keep it behind a closed gate.",
            user="0",
            go=_BOTH,
            state=State.WITHOUT_EFFECT,
        )
        for log_format in ("text", "json")
    ),
    Flag(
        name="feature-gates",
        kind=kinds.GATES,
        group=PROCESS,
        text="MutableCSINodeAllocatableCount (attacher), Topology, VolumeAttributesClass,"
        " CrossNamespaceVolumeDataSource (provisioner), AllAlpha, AllBeta. Unknown gates are named in a warning."
        " Repeated flags add up.",
        go=_BOTH,
    ),
    Flag(
        name="shutdown-grace",
        kind=kinds.DURATION,
        group=PROCESS,
        text="How long work in flight may take after the first SIGTERM or SIGINT; a second one ends it at once.",
        user="20s",
    ),
    Flag(
        name="exit-on-driver-loss",
        kind=kinds.BOOL,
        group=PROCESS,
        text="Exit when the driver's socket is lost, as the Go sidecars do, rather than reconnect.",
        user="false",
    ),
    Flag(
        name="automaxprocs",
        kind=kinds.BOOL,
        group=PROCESS,
        text="Width of Go's scheduler; there is none here.",
        user="false",
        go=_BOTH,
        state=State.WITHOUT_EFFECT,
    ),
    _retired("connection-timeout", kinds.STRING, "Connecting to the driver takes up to 30s, then the process exits."),
    _retired("enable-leader-election", kinds.BOOL, "Use --leader-election."),
    _retired("leader-election-type", kinds.STRING, "Leader election always uses Leases."),
    _retired("leader-election-identity", kinds.STRING, "The identity is the hostname."),
    _retired("capacity-controller-deployment-mode", kinds.STRING, "Use --enable-capacity."),
    _retired("provisioning-retry-count", kinds.STRING, "Failures are retried without end, with growing pauses."),
    _retired("deletion-retry-count", kinds.STRING, "Failures are retried without end, with growing pauses."),
    *(
        _retired(name, kinds.BOOL, _KLOG_FILES)
        for name in (
            "logtostderr",
            "alsologtostderr",
            "skip_headers",
            "skip_log_headers",
            "one_output",
            "add_dir_header",
        )
    ),
    *(
        _retired(name, kinds.STRING, _KLOG_FILES)
        for name in ("log_dir", "log_file", "log_file_max_size", "log_backtrace_at", "stderrthreshold")
    ),
)

BY_NAME: Mapping[str, Flag] = {flag.name: flag for flag in FLAGS}


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """One full name a flag can be given under.

    Attributes:
        flag: what it stands for.
        mode: the mode of the prefix; empty for the plain name.
    """

    flag: Flag
    mode: str = ""


def _spellings() -> dict[str, Spelling]:
    spellings = {flag.name: Spelling(flag=flag) for flag in FLAGS}
    for flag in FLAGS:
        if flag.scope is Scope.MODE:
            for mode in BUILT_IN_MODES:
                spellings[f"{mode}-{flag.name}"] = Spelling(flag=flag, mode=mode)
    return spellings


SPELLINGS: Mapping[str, Spelling] = _spellings()
"""Full name → flag, with the prefixed names of flags of a mode."""

KINDS: Mapping[str, Kind] = {name: spelling.flag.kind for name, spelling in SPELLINGS.items()}
"""Full name → kind, as `grammar.parse` wants it."""


def without_prefix(name: str) -> str:
    """The flag of the process that was given a mode's prefix, as in ``attacher-csi-address``; empty for others."""
    for mode in BUILT_IN_MODES:
        plain = name.removeprefix(f"{mode}-")
        if plain != name and plain in BY_NAME:
            return plain
    return ""
