"""Working stand-ins for driver authors and for our own tests: an API server and a CSI driver, no mocks.

    async with FakeAPIServer() as server, FakeDriver().serving(path) as endpoint:
        ...

Both take orders for trouble and keep a record of what was asked of them. Each is fetched when it is first used, so
that a driver's test does not load an API server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from csisidecar.testing.apiserver import FakeAPIServer, KindSpec
    from csisidecar.testing.driver import DirectoryBackend, DriverSettings, FakeDriver, MemoryBackend

__all__ = ["DirectoryBackend", "DriverSettings", "FakeAPIServer", "FakeDriver", "KindSpec", "MemoryBackend"]

_ROOM_OF = {name: "apiserver" if name in ("FakeAPIServer", "KindSpec") else "driver" for name in __all__}


def __getattr__(name: str) -> Any:
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{room}"), name)
