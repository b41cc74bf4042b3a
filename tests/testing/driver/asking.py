"""Asks the embedded driver any RPC over its wire, and what such tests say over and over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import csisidecar.csi as csi
from csisidecar.csi import CSIClient, VolumeCapability
from csisidecar.errors import CSIError, StatusCode

if TYPE_CHECKING:
    from csisidecar.csi import DriverChannel
    from csisidecar.testing.driver import FakeDriver

Mode = csi.VolumeCapabilityAccessModeMode


def capability(mode: Mode = Mode.SINGLE_NODE_WRITER, *, block: bool = False) -> VolumeCapability:
    access_mode = csi.VolumeCapabilityAccessMode(mode=mode)
    if block:
        return VolumeCapability(block=csi.VolumeCapabilityBlockVolume(), access_mode=access_mode)
    return VolumeCapability(mount=csi.VolumeCapabilityMountVolume(), access_mode=access_mode)


class Asker:
    """`await ask(request)` is the reply; `await ask.code(request)` is the status of one that must fail."""

    def __init__(self, driver: FakeDriver, channel: DriverChannel | None = None) -> None:
        self.driver = driver
        self.channel = channel or driver.channel()
        self.client = CSIClient(self.channel)
        self._paths = {path.rpartition("/")[2]: path for service in driver.services for path in service.__mapping__()}

    async def __call__(self, request: Any) -> Any:
        name = type(request).__name__.removesuffix("Request")
        method = self._paths[name].removeprefix("/csi.v1.")
        return await self.client._call(method, request, getattr(csi, f"{name}Response"), 30.0)

    async def code(self, request: Any) -> StatusCode:
        with pytest.raises(CSIError) as caught:
            await self(request)
        return caught.value.code

    async def volume(self, name: str = "a", **fields: Any) -> str:
        """The id of a new volume."""
        fields.setdefault("volume_capabilities", [capability()])
        reply = await self(csi.CreateVolumeRequest(name=name, **fields))
        return str(reply.volume.volume_id)

    async def publish(self, volume_id: str, node_id: str = "n1", **fields: Any) -> Any:
        fields.setdefault("volume_capability", capability())
        return await self(csi.ControllerPublishVolumeRequest(volume_id=volume_id, node_id=node_id, **fields))
