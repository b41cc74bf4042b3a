"""The embedded driver's settings and the state its three services share; the rules of CSI live in the services."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from csisidecar.csi import (
    ControllerServiceCapabilityRpcType,
    NodeServiceCapabilityRpcType,
    PluginCapabilityServiceType,
    VolumeCapability,
    VolumeCapabilityAccessModeMode,
)
from csisidecar.errors import ConfigError
from csisidecar.testing.driver.records import SnapshotRecord, Use, VolumeRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from csisidecar.testing.driver.backend import Backend

GIB = 1024**3

ALL_CONTROLLER = frozenset(
    {
        "CREATE_DELETE_VOLUME",
        "PUBLISH_UNPUBLISH_VOLUME",
        "LIST_VOLUMES",
        "LIST_VOLUMES_PUBLISHED_NODES",
        "GET_VOLUME",
        "GET_CAPACITY",
        "CREATE_DELETE_SNAPSHOT",
        "LIST_SNAPSHOTS",
        "GET_SNAPSHOT",
        "CLONE_VOLUME",
        "PUBLISH_READONLY",
        "EXPAND_VOLUME",
        "MODIFY_VOLUME",
        "SINGLE_NODE_MULTI_WRITER",
        "VOLUME_CONDITION",
    }
)
"""Every controller capability the driver can serve; the default."""

ALL_NODE = frozenset(
    {"STAGE_UNSTAGE_VOLUME", "GET_VOLUME_STATS", "EXPAND_VOLUME", "SINGLE_NODE_MULTI_WRITER", "VOLUME_CONDITION"}
)
"""Every node capability the driver can serve; the default."""

SHARED_MODES = frozenset({"MULTI_NODE_READER_ONLY", "MULTI_NODE_SINGLE_WRITER", "MULTI_NODE_MULTI_WRITER"})
"""Access modes under which a volume may be published to several nodes at once."""


@dataclass(frozen=True, kw_only=True)
class DriverSettings:
    """What the embedded driver claims to be. Capability names are the specification's."""

    name: str = "directories.csi.demo"
    vendor_version: str = "1.0.0"
    node_id: str = "demo-node"
    plugin_capabilities: frozenset[str] = frozenset({"CONTROLLER_SERVICE"})
    """Add ``VOLUME_ACCESSIBILITY_CONSTRAINTS`` together with a `topology`."""
    controller_capabilities: frozenset[str] = ALL_CONTROLLER
    node_capabilities: frozenset[str] = ALL_NODE
    attach_limit: int = 0
    """Volumes that may be published to one node; 0 means no limit."""
    known_nodes: frozenset[str] | None = None
    """Nodes a volume may be published to; None means any."""
    mutable_parameters: frozenset[str] | None = None
    """Names a VolumeAttributesClass may use; None means any but ``unsupported``, which is always refused."""
    topology: Mapping[str, str] = field(default_factory=dict)
    """Segments of this node, and of every volume when no other were asked for."""
    places: tuple[Mapping[str, str], ...] = ()
    """All segments volumes can be created in; empty means just `topology`."""
    total_bytes: int = 1024 * GIB
    max_volume_bytes: int | None = 256 * GIB
    """Largest volume; None: there is no such limit, and GetCapacity tells none."""
    default_volume_bytes: int = GIB
    publish_context: Mapping[str, str] = field(default_factory=dict)
    """Added to what each ControllerPublishVolume answers."""

    def __post_init__(self) -> None:
        for given, known in (
            (self.plugin_capabilities, {kind.name for kind in PluginCapabilityServiceType}),
            (self.controller_capabilities, {kind.name for kind in ControllerServiceCapabilityRpcType}),
            (self.node_capabilities, {kind.name for kind in NodeServiceCapabilityRpcType}),
        ):
            if unknown := sorted(given - known):
                raise ConfigError(f"{unknown[0]} is no CSI capability of its kind; known: {', '.join(sorted(known))}")

    @property
    def all_places(self) -> tuple[Mapping[str, str], ...]:
        """Where volumes can be; empty for a driver without topology."""
        return self.places or ((self.topology,) if self.topology else ())


class World:
    """Volumes and snapshots as they are now, by id."""

    def __init__(self, settings: DriverSettings, backend: Backend) -> None:
        self.settings = settings
        self.backend = backend
        self.volumes: dict[str, VolumeRecord] = {}
        self.snapshots: dict[str, SnapshotRecord] = {}
        self._busy: set[str] = set()
        self._read: Counter[str] = Counter()

    async def load(self) -> None:
        """Takes over what the backend kept."""
        volumes, snapshots = await self.backend.load()
        self.volumes = {record.id: record for record in volumes}
        self.snapshots = {record.id: record for record in snapshots}

    def volume(self, volume_id: str) -> VolumeRecord:
        """The volume; INVALID_ARGUMENT without an id, NOT_FOUND without a volume."""
        if not volume_id:
            fail(Status.INVALID_ARGUMENT, "volume_id is missing")
        record = self.volumes.get(volume_id)
        if record is None:
            fail(Status.NOT_FOUND, f"there is no volume {volume_id}")
        return record

    def require(self, capability: str) -> None:
        """UNIMPLEMENTED unless the driver declares the controller capability."""
        if capability not in self.settings.controller_capabilities:
            fail(Status.UNIMPLEMENTED, f"this driver does not declare {capability}")

    @contextlib.contextmanager
    def busy(self, *ids: str) -> Iterator[None]:
        """ABORTED if another call works on one of `ids`; else holds them. CSI asks for exactly this answer."""
        for name in ids:
            if name in self._busy:
                fail(Status.ABORTED, f"an operation on {name} is pending")
        self._busy.update(ids)
        try:
            yield
        finally:
            self._busy.difference_update(ids)

    @contextlib.contextmanager
    def reading(self, *ids: str) -> Iterator[None]:
        """Holds `ids` as sources of a copy: any number at once, but none while it is being deleted."""
        self._read.update(ids)
        try:
            yield
        finally:
            self._read.subtract(ids)

    def refuse_if_read(self, name: str) -> None:
        """ABORTED while `name` is being copied."""
        if self._read[name] > 0:
            fail(Status.ABORTED, f"{name} is being copied")

    def free_bytes(self) -> int:
        """What volumes and snapshots leave of the total."""
        taken = sum(item.capacity_bytes for item in self.volumes.values())
        taken += sum(item.size_bytes for item in self.snapshots.values())
        return max(self.settings.total_bytes - taken, 0)


def fail(status: Status, message: str) -> NoReturn:
    """Ends the call with that status."""
    raise GRPCError(status, message)


def make_id(prefix: str, name: str) -> str:
    """An id that is the same for the same name, in every process: safe as a file name."""
    return f"{prefix}-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:16]}"


def read_use(capability: VolumeCapability | None, *, readonly: bool = False) -> Use:
    """The capability as a use; INVALID_ARGUMENT if it is missing, or lacks access type or mode."""
    if capability is None:
        fail(Status.INVALID_ARGUMENT, "volume_capability is missing")
    if (capability.block is None) == (capability.mount is None):
        fail(Status.INVALID_ARGUMENT, "volume_capability needs exactly one of block and mount")
    mode = int(capability.access_mode.mode) if capability.access_mode else 0
    known = {int(item) for item in VolumeCapabilityAccessModeMode}
    if not mode or mode not in known:
        fail(Status.INVALID_ARGUMENT, f"access mode {mode} is missing or unknown")
    fs_type = capability.mount.fs_type if capability.mount else ""
    return Use(mode=mode, block=capability.block is not None, fs_type=fs_type, readonly=readonly)


def is_shared(use: Use) -> bool:
    """Whether the access mode allows several nodes."""
    return VolumeCapabilityAccessModeMode(use.mode).name in SHARED_MODES


def read_uses(capabilities: Iterable[VolumeCapability]) -> list[Use]:
    """All of them; INVALID_ARGUMENT if there is none, or if block and mount are mixed."""
    uses = [read_use(item) for item in capabilities]
    if not uses:
        fail(Status.INVALID_ARGUMENT, "volume_capabilities are missing")
    if len({use.block for use in uses}) > 1:
        fail(Status.INVALID_ARGUMENT, "a volume is either block or mount, not both")
    return uses
