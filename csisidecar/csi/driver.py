"""What the driver is: wait until it is ready, learn its name and capabilities, keep them frozen.

`handshake` is one pass and makes no connection; `connection` decides when it runs.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from csisidecar.csi._generated.csi.v1 import ControllerServiceCapabilityRpcType, PluginCapabilityServiceType
from csisidecar.errors import CSIError, DriverIdentityError, StartupError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from csisidecar.clock import Clock
    from csisidecar.csi._generated.csi.v1 import ControllerGetCapabilitiesResponse, GetPluginCapabilitiesResponse
    from csisidecar.csi.client import CSIClient

_log = logging.getLogger(__name__)

PROBE_EVERY_S = 1.0
"""Pause between two Probe calls, counted from the start of the first. Source: csi-lib-utils `rpc.ProbeForever`."""

PROGRESS_EVERY_S = 10.0
"""How often a wait for readiness is logged."""

CONTROLLER_SERVICE = "CONTROLLER_SERVICE"


@dataclass(frozen=True, kw_only=True)
class NodeInfo:
    """What the driver's node service says about the node it runs on."""

    node_id: str
    segments: Mapping[str, str] | None = None
    """Where the node is; None: the driver did not say."""


@dataclass(frozen=True, kw_only=True)
class DriverInfo:
    """One driver's name and what it declared; kinds this version does not know are left out."""

    name: str
    vendor_version: str = ""
    plugin_capabilities: frozenset[str] = frozenset()
    """Names of CSI's PluginCapability.Service.Type, for example ``VOLUME_ACCESSIBILITY_CONSTRAINTS``."""
    controller_capabilities: frozenset[str] = frozenset()
    """Names of CSI's ControllerServiceCapability.RPC.Type, for example ``PUBLISH_UNPUBLISH_VOLUME``."""
    node: NodeInfo | None = None
    """What NodeGetInfo says; None: nobody wanted to know."""

    def has_plugin(self, capability: str) -> bool:
        """Whether the driver declared the plugin capability."""
        return capability in self.plugin_capabilities

    def has_controller(self, capability: str) -> bool:
        """Whether the driver declared the controller capability."""
        return capability in self.controller_capabilities

    def has_same_capabilities(self, other: DriverInfo) -> bool:
        """Whether both declare the same, at the same place, whatever their version."""
        return (self.plugin_capabilities, self.controller_capabilities, self.node) == (
            other.plugin_capabilities,
            other.controller_capabilities,
            other.node,
        )


async def handshake(
    client: CSIClient,
    *,
    timeout_s: float,
    clock: Clock,
    on_state: Callable[[str], None] | None = None,
    with_node: bool = False,
) -> DriverInfo:
    """Probes until the driver is ready, then asks who it is and what it can do.

    Args:
        client: its channel must be connected.
        timeout_s: deadline of each call; there is none for the whole, as upstream.
        clock: for how long a wait has lasted.
        on_state: told what is being waited for, in words for /readyz.
        with_node: whether to ask the node service about its node, too.

    Raises:
        StartupError: Probe or a capability call failed; the CSIError is its cause.
        DriverIdentityError: GetPluginInfo failed or gave no name.
    """
    tell = on_state or (lambda _: None)
    await _probe_until_ready(client, timeout_s, clock, tell)
    tell("asking for name and capabilities")
    endpoint = client.channel.endpoint
    try:
        info = await client.get_plugin_info(timeout_s=timeout_s)
    except CSIError as error:
        raise DriverIdentityError(f"the CSI driver at {endpoint} gave no name: GetPluginInfo: {error}") from error
    if not info.name:
        raise DriverIdentityError(f"the CSI driver at {endpoint} gave an empty name in GetPluginInfo")
    try:
        plugin = plugin_capabilities(await client.get_plugin_capabilities(timeout_s=timeout_s))
        controller: frozenset[str] = frozenset()
        if CONTROLLER_SERVICE in plugin:
            controller = controller_capabilities(await client.controller_get_capabilities(timeout_s=timeout_s))
        node = await _find_node(client, info.name, timeout_s) if with_node else None
    except CSIError as error:
        raise StartupError(f"CSI driver {info.name} at {endpoint}: {error.method}: {error}") from error
    return DriverInfo(
        name=info.name,
        vendor_version=info.vendor_version,
        plugin_capabilities=plugin,
        controller_capabilities=controller,
        node=node,
    )


async def _find_node(client: CSIClient, driver_name: str, timeout_s: float) -> NodeInfo:
    try:
        reply = await client.node_get_info(timeout_s=timeout_s)
    except CSIError as error:
        raise StartupError(
            f"CSI driver {driver_name} at {client.channel.endpoint}: {error.method}: {error};"
            " one provisioner a node needs the driver's node service, on the same socket, to say where that node is"
        ) from error
    place = reply.accessible_topology
    return NodeInfo(node_id=reply.node_id, segments=None if place is None else dict(place.segments))


def plugin_capabilities(reply: GetPluginCapabilitiesResponse) -> frozenset[str]:
    """Names of the declared service capabilities."""
    known = {kind.value: kind.name for kind in PluginCapabilityServiceType if kind.value}
    declared = (int(item.service.type) for item in reply.capabilities if item.service is not None)
    return frozenset(known[number] for number in declared if number in known)


def controller_capabilities(reply: ControllerGetCapabilitiesResponse) -> frozenset[str]:
    """Names of the declared controller capabilities."""
    known = {kind.value: kind.name for kind in ControllerServiceCapabilityRpcType if kind.value}
    declared = (int(item.rpc.type) for item in reply.capabilities if item.rpc is not None)
    return frozenset(known[number] for number in declared if number in known)


async def _probe_until_ready(client: CSIClient, timeout_s: float, clock: Clock, tell: Callable[[str], None]) -> None:
    """Source: csi-lib-utils `rpc.ProbeForever`: not ready and DeadlineExceeded are waited out, all else is final."""
    start, next_log_s, why = clock.monotonic(), PROGRESS_EVERY_S, "not answered"
    while True:
        began = clock.monotonic()
        waited_s = began - start
        tell(f"Probe {why} for {waited_s:.0f} s")
        try:
            if await client.probe(timeout_s=timeout_s):
                return
            why = "not ready"
        except CSIError as error:
            if error.code is not StatusCode.DEADLINE_EXCEEDED:
                endpoint = client.channel.endpoint
                raise StartupError(f"the CSI driver at {endpoint} failed its Probe: {error}") from error
            why = "not answered in time"
        waited_s = clock.monotonic() - start
        tell(f"Probe {why} for {waited_s:.0f} s")
        if waited_s >= next_log_s:
            next_log_s += PROGRESS_EVERY_S
            fields = {"endpoint": client.channel.endpoint, "probe": why, "waited_s": round(waited_s, 1)}
            _log.warning("Still waiting for the CSI driver to be ready", extra=fields)
        await asyncio.sleep(max(began + PROBE_EVERY_S - clock.monotonic(), 0.0))
