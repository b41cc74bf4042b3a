"""The embedded CSI driver: a working driver for directories, for tests, the demo and driver authors.

`FakeDriver` is the object, `serve` the program, `trouble` the orders it takes. Nothing here is imported by the
sidecars themselves.
"""

from __future__ import annotations

from csisidecar.testing.driver.backend import Backend, DirectoryBackend, MemoryBackend
from csisidecar.testing.driver.fake import Call, FakeDriver
from csisidecar.testing.driver.records import SnapshotRecord, Source, Use, VolumeRecord
from csisidecar.testing.driver.serve import DriverOptions, serve
from csisidecar.testing.driver.trouble import Trouble
from csisidecar.testing.driver.world import ALL_CONTROLLER, ALL_NODE, DriverSettings

__all__ = [
    "ALL_CONTROLLER",
    "ALL_NODE",
    "Backend",
    "Call",
    "DirectoryBackend",
    "DriverOptions",
    "DriverSettings",
    "FakeDriver",
    "MemoryBackend",
    "SnapshotRecord",
    "Source",
    "Trouble",
    "Use",
    "VolumeRecord",
    "serve",
]
