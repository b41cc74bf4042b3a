"""csisidecar: the CSI attacher and provisioner as plugins on one asyncio runtime.

The public face. Importing it loads nothing else: each name is fetched from its room when it is first used.

    from csisidecar import Attacher, AttacherSettings, Provisioner, ProvisionerSettings, Sidecar, SidecarConfig

    await Sidecar(
        SidecarConfig(csi_endpoint="/run/csi/socket"),
        plugins=[Attacher(AttacherSettings()), Provisioner(ProvisionerSettings())],
    ).run()

For plugins of your own: `csisidecar.plugin` (the contract) and `csisidecar.runtime` (controllers, stores,
triggers). For tests of your driver: `csisidecar.testing`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from csisidecar.config import (
        AttacherSettings,
        HTTPConfig,
        KubeConfig,
        LeaseConfig,
        Listener,
        ModeConfig,
        PluginSettings,
        ProvisionerSettings,
        RateConfig,
        SidecarConfig,
    )
    from csisidecar.errors import (
        ConfigError,
        CSIError,
        CsiSidecarError,
        DriverIdentityError,
        DriverLostError,
        DriverUnreachableError,
        KubeError,
        LeaseLostError,
        RetryAfter,
        StartupError,
        TerminalError,
        UnsupportedDriverError,
    )
    from csisidecar.logs import LogFormatter
    from csisidecar.plugin import Plugin, PluginContext, PluginFactory
    from csisidecar.plugins.attacher import Attacher
    from csisidecar.plugins.provisioner import Provisioner
    from csisidecar.sidecar import Sidecar
    from csisidecar.version import VERSION

_ROOMS = {
    "config": (
        "AttacherSettings",
        "HTTPConfig",
        "KubeConfig",
        "LeaseConfig",
        "Listener",
        "ModeConfig",
        "PluginSettings",
        "ProvisionerSettings",
        "RateConfig",
        "SidecarConfig",
    ),
    "errors": (
        "CSIError",
        "ConfigError",
        "CsiSidecarError",
        "DriverIdentityError",
        "DriverLostError",
        "DriverUnreachableError",
        "KubeError",
        "LeaseLostError",
        "RetryAfter",
        "StartupError",
        "TerminalError",
        "UnsupportedDriverError",
    ),
    "logs": ("LogFormatter",),
    "plugin": ("Plugin", "PluginContext", "PluginFactory"),
    "plugins.attacher": ("Attacher",),
    "plugins.provisioner": ("Provisioner",),
    "sidecar": ("Sidecar",),
    "version": ("VERSION",),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "VERSION",
    "Attacher",
    "AttacherSettings",
    "CSIError",
    "ConfigError",
    "CsiSidecarError",
    "DriverIdentityError",
    "DriverLostError",
    "DriverUnreachableError",
    "HTTPConfig",
    "KubeConfig",
    "KubeError",
    "LeaseConfig",
    "LeaseLostError",
    "Listener",
    "LogFormatter",
    "ModeConfig",
    "Plugin",
    "PluginContext",
    "PluginFactory",
    "PluginSettings",
    "Provisioner",
    "ProvisionerSettings",
    "RateConfig",
    "RetryAfter",
    "Sidecar",
    "SidecarConfig",
    "StartupError",
    "TerminalError",
    "UnsupportedDriverError",
]


def __getattr__(name: str) -> Any:
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{room}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
