"""The embedded driver as a program: `csisidecar demo-driver` parses flags into `DriverOptions` and runs `serve`."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from csisidecar.csi.channel import socket_path
from csisidecar.errors import ConfigError
from csisidecar.testing.driver.backend import DirectoryBackend
from csisidecar.testing.driver.fake import FakeDriver
from csisidecar.testing.driver.world import ALL_CONTROLLER, ALL_NODE, DriverSettings
from csisidecar.testing.folders import check_parent

_log = logging.getLogger(__name__)

_TOPOLOGY = "VOLUME_ACCESSIBILITY_CONSTRAINTS"


@dataclass(frozen=True, kw_only=True)
class DriverOptions:
    """How the embedded driver is to run."""

    endpoint: str
    """Socket to serve on: unix:///path or /path. A socket left behind by a killed process is replaced."""

    root: Path | None = None
    """Directory that holds the volumes; made if absent and kept when the driver ends. Default: the socket's path with
    .volumes at its end."""

    name: str = "directories.csi.demo"
    """Name of the driver, as StorageClass provisioner and VolumeAttachment attacher have it."""

    vendor_version: str = "1.0.0"
    """Version it tells."""

    node_id: str = "demo-node"
    """Id of the node it stands for."""

    nodes: tuple[str, ...] = ()
    """Nodes a volume may be published to; default: any."""

    mutable_parameters: tuple[str, ...] = ()
    """Parameters a VolumeAttributesClass may name; default: any but "unsupported", which is always refused."""

    capabilities: tuple[str, ...] = ()
    """Controller capabilities it declares, by their CSI names; default: every one, "none": no one."""

    without: tuple[str, ...] = ()
    """Capabilities, of any kind, to leave out, for example PUBLISH_UNPUBLISH_VOLUME."""

    attach_limit: int = 0
    """Volumes that may be published to one node; 0 means no limit."""

    topology: tuple[str, ...] = ()
    """Segments of the node and its volumes, each as key=value; with any it declares topology."""

    total_gib: int = 1024
    """Space it has for volumes, in GiB; nothing of it is taken in advance."""

    trouble: tuple[str, ...] = ()
    """What it does wrong: METHOD:KIND[=VALUE][xN], for example "CreateVolume:Internal=disk on fire x2". KIND is a
    gRPC status, or delay=SECONDS, hang, late, lost, cut, empty, small, nosource, notready, silent, loop."""

    def to_settings(self) -> DriverSettings:
        """What the options say about the driver itself; raises ConfigError for what cannot be."""
        segments = dict(self._segment(text) for text in self.topology)
        if unknown := sorted(set(self.without) - ALL_CONTROLLER - ALL_NODE - {"CONTROLLER_SERVICE", _TOPOLOGY}):
            raise ConfigError(f"--without={unknown[0]} is no capability of this driver")
        if self.attach_limit < 0 or self.total_gib < 0:
            raise ConfigError("--attach-limit and --total-gib cannot be negative")
        declared = frozenset(self.capabilities) - {"none"} if self.capabilities else ALL_CONTROLLER
        without = frozenset(self.without)
        return DriverSettings(
            name=self.name,
            vendor_version=self.vendor_version,
            node_id=self.node_id,
            known_nodes=frozenset(self.nodes) or None,
            mutable_parameters=frozenset(self.mutable_parameters) or None,
            plugin_capabilities=frozenset({"CONTROLLER_SERVICE", *([_TOPOLOGY] if segments else [])}) - without,
            controller_capabilities=declared - without,
            node_capabilities=ALL_NODE - without,
            attach_limit=self.attach_limit,
            topology=segments,
            total_bytes=self.total_gib * 1024**3,
        )

    @staticmethod
    def _segment(text: str) -> tuple[str, str]:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise ConfigError(f"--topology={text} is not key=value")
        return key, value


async def serve(options: DriverOptions) -> None:
    """Serves until cancelled, then ends its connections and removes the socket.

    Raises:
        ConfigError: an endpoint that is no Unix socket, or an order or a capability that does not exist; the socket
            or the directory cannot be made.
    """
    path = socket_path(options.endpoint, flag="--endpoint")
    backend = DirectoryBackend((options.root or Path(f"{path}.volumes")).absolute())
    driver = FakeDriver(options.to_settings(), backend=backend, trouble=options.trouble)
    check_parent(path, "--endpoint")
    check_parent(backend.root, "--root")
    async with AsyncExitStack() as stack:
        try:
            endpoint = await stack.enter_async_context(driver.serving(path))
        except OSError as error:
            flag = "--root" if str(error.filename).startswith(f"{backend.root}") else "--endpoint"
            where = backend.root if flag == "--root" else path
            raise ConfigError(f"{flag} {where}: {error.strerror or error}") from error
        fields = {"driver": options.name, "endpoint": endpoint, "root": str(backend.root)}
        _log.info("The embedded driver serves", extra=fields)
        await asyncio.Event().wait()
