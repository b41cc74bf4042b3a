"""The identity service of the embedded driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from csisidecar.csi import (
    GetPluginCapabilitiesRequest,
    GetPluginCapabilitiesResponse,
    GetPluginInfoRequest,
    GetPluginInfoResponse,
    PluginCapability,
    PluginCapabilityService,
    PluginCapabilityServiceType,
    PluginCapabilityVolumeExpansion,
    PluginCapabilityVolumeExpansionType,
    ProbeRequest,
    ProbeResponse,
)

if TYPE_CHECKING:
    from csisidecar.testing.driver.world import World


class IdentityService:
    """Name, capabilities, readiness; all from the settings."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def probe(self, _request: ProbeRequest) -> ProbeResponse:
        """Ready."""
        return ProbeResponse(ready=True)

    async def get_plugin_info(self, _request: GetPluginInfoRequest) -> GetPluginInfoResponse:
        """Name and version."""
        settings = self._world.settings
        return GetPluginInfoResponse(name=settings.name, vendor_version=settings.vendor_version)

    async def get_plugin_capabilities(self, _request: GetPluginCapabilitiesRequest) -> GetPluginCapabilitiesResponse:
        """The declared services, and online expansion where expanding is declared."""
        settings = self._world.settings
        capabilities = [
            PluginCapability(service=PluginCapabilityService(type=PluginCapabilityServiceType[name]))
            for name in sorted(settings.plugin_capabilities)
        ]
        if "EXPAND_VOLUME" in settings.controller_capabilities:
            online = PluginCapabilityVolumeExpansion(type=PluginCapabilityVolumeExpansionType.ONLINE)
            capabilities.append(PluginCapability(volume_expansion=online))
        return GetPluginCapabilitiesResponse(capabilities=capabilities)
