"""The embedded driver as a program: `csisidecar demo-driver` parses flags into `DriverOptions` and runs `serve`."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from csisidecar.csi.channel import socket_path
from csisidecar.testing.driver.backend import DirectoryBackend
from csisidecar.testing.driver.fake import FakeDriver
from csisidecar.testing.driver.world import DriverSettings

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DriverOptions:
    """How the embedded driver is to run."""

    endpoint: str
    """Socket to serve on: ``unix:///path`` or ``/path``. A socket left behind by a killed process is replaced."""
    root: Path
    """Directory of the volumes; made if absent, kept when the driver ends."""
    settings: DriverSettings = field(default_factory=DriverSettings)
    trouble: tuple[str, ...] = ()
    """Orders, in the form `csisidecar.testing.driver.trouble` documents."""


async def serve(options: DriverOptions) -> None:
    """Serves until cancelled, then ends its connections and removes the socket.

    Raises:
        ConfigError: an endpoint that is no Unix socket, or an order that cannot be understood.
        OSError: the socket or the directory cannot be made.
    """
    path = socket_path(options.endpoint)
    backend = DirectoryBackend(options.root.absolute())
    driver = FakeDriver(options.settings, backend=backend, trouble=options.trouble)
    async with driver.serving(path) as endpoint:
        fields = {"driver": options.settings.name, "endpoint": endpoint, "root": str(backend.root)}
        _log.info("The embedded driver serves", extra=fields)
        await asyncio.Event().wait()
