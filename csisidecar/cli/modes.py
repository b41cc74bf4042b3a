"""Finding plugins: the two built-in ones by import path, everyone else's by the entry points of their wheels."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from csisidecar.cli.flags import BUILT_IN_MODES
from csisidecar.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from csisidecar.config import PluginSettings
    from csisidecar.plugin import Plugin, PluginFactory

ENTRY_POINTS = "csisidecar.plugins"
"""The group a wheel declares its factory in; the entry point's name is the mode's name."""


def installed() -> dict[str, EntryPoint]:
    """Mode → entry point of each installed plugin; those named as a built-in mode are never asked for."""
    from importlib.metadata import entry_points  # reads every installed distribution

    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def load(mode: str, settings: PluginSettings) -> Plugin:
    """The plugin that runs as `mode`, made with `settings`.

    Raises:
        ConfigError: it cannot be imported, is no plugin, or refuses the settings.
    """
    try:
        factory = _factory(mode)
        plugin = factory(settings)
    except ConfigError:
        raise
    except Exception as error:  # importing and calling a stranger's code may raise anything
        raise ConfigError(f"the plugin of mode {mode} cannot be loaded: {type(error).__name__}: {error}") from error
    for member in ("name", "lease_name", "build"):
        if not hasattr(plugin, member):
            raise ConfigError(f"the plugin of mode {mode} is no plugin: {type(plugin).__name__} has no {member!r}")
    if plugin.name != mode:
        raise ConfigError(
            f"the plugin of mode {mode} calls itself {plugin.name!r}; entry point and plugin must agree on the name"
        )
    return plugin


def _factory(mode: str) -> PluginFactory:
    if mode in BUILT_IN_MODES:
        return cast("PluginFactory", import_module(f"csisidecar.plugins.{mode}").factory)
    return cast("PluginFactory", installed()[mode].load())
