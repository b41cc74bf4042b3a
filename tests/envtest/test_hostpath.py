"""The public hostpath driver as a real peer of the attacher, on a real API server: attach, detach, restart, drift.

hostpathplugin is looked for in the folders of CSI_SIDECARS and KUBEBUILDER_ASSETS.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar import Attacher, AttacherSettings, KubeConfig, LeaseConfig, ModeConfig, Sidecar, SidecarConfig
from csisidecar.csi import (
    ControllerGetCapabilitiesResponse,
    ControllerServiceCapability,
    ControllerServiceCapabilityRpc,
    ControllerServiceCapabilityRpcType,
    ControllerUnpublishVolumeRequest,
    CreateVolumeRequest,
    CSIClient,
    DriverChannel,
)
from csisidecar.errors import NotFoundError
from csisidecar.kube import CSI_NODES, PERSISTENT_VOLUMES, VOLUME_ATTACHMENTS, KubeClient, connect
from csisidecar.mapping.capability import attach_capability
from csisidecar.runtime import background
from tests.envtest.control_plane import control_plane
from tests.whole.processes import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.whole, pytest.mark.timeout(180)]

DRIVER = "hostpath.csi.k8s.io"
NODE = "node1"


def hostpathplugin() -> str:
    folders = [os.environ[name] for name in ("CSI_SIDECARS", "KUBEBUILDER_ASSETS") if os.environ.get(name)]
    found = next((path for folder in folders if (path := Path(folder) / "hostpathplugin").is_file()), None)
    if found is None:
        pytest.skip("neither the folder of CSI_SIDECARS nor that of KUBEBUILDER_ASSETS has hostpathplugin")
    return str(found)


class ClaimsToList(DriverChannel):
    """The driver lists nodes, empty ones, but does not declare that it does; this declares it."""

    async def unary(self, path: str, request: bytes, timeout_s: float) -> bytes | None:
        raw = await super().unary(path, request, timeout_s)
        if raw is None or not path.endswith("/ControllerGetCapabilities"):
            return raw
        answer = ControllerGetCapabilitiesResponse.parse(raw)
        kind = ControllerServiceCapabilityRpcType.LIST_VOLUMES_PUBLISHED_NODES
        answer.capabilities.append(ControllerServiceCapability(rpc=ControllerServiceCapabilityRpc(type=kind)))
        return bytes(answer)


@dataclass(frozen=True, kw_only=True)
class Peers:
    kube: KubeClient
    csi: CSIClient
    folder: Path
    kubeconfig: Path

    @property
    def endpoint(self) -> str:
        return f"unix://{self.folder}/csi.sock"

    @asynccontextmanager
    async def driver(self) -> AsyncIterator[None]:
        """The driver until the end of the block; its volumes outlive it."""
        words = ["--endpoint", self.endpoint, "--statedir", str(self.folder / "state"), "--nodeid", NODE]
        with (self.folder / "driver.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                hostpathplugin(), *words, "--enable-attach=true", "--enable-topology=false", stdout=log, stderr=log
            )
        try:
            await eventually((self.folder / "csi.sock").exists, 10)
            await self.csi.channel.connect()
            yield
        finally:
            self.csi.channel.close()
            process.kill()
            await process.wait()
            (self.folder / "csi.sock").unlink(missing_ok=True)

    @asynccontextmanager
    async def attacher(self, **settings: Any) -> AsyncIterator[None]:
        config = SidecarConfig(
            kube=KubeConfig(kubeconfig=str(self.kubeconfig)),
            modes={"attacher": ModeConfig(lease=LeaseConfig(enabled=False))},
        )
        plugin = Attacher(AttacherSettings(timeout_s=5.0, **settings))
        sidecar = Sidecar(config, plugins=[plugin], csi=ClaimsToList(self.endpoint))
        async with background(sidecar.run(), name="sidecar"):
            yield

    def is_attached_at_the_driver(self, handle: str) -> bool:
        state = json.loads((self.folder / "state" / "state.json").read_text())
        return any(volume["VolID"] == handle and volume["Attached"] for volume in state["Volumes"])

    async def create_volume(self) -> str:
        request = CreateVolumeRequest(name="pv1", volume_capabilities=[capability()])
        answer = await self.csi.create_volume(request, timeout_s=10)
        assert answer.volume is not None
        handle = answer.volume.volume_id
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Mi"},
            "csi": {"driver": DRIVER, "volumeHandle": handle},
        }
        await self.kube.create(
            PERSISTENT_VOLUMES,
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv1"}, "spec": spec},
        )
        drivers = [{"name": DRIVER, "nodeID": NODE, "topologyKeys": None}]
        node = {"metadata": {"name": NODE}, "spec": {"drivers": drivers}}
        await self.kube.create(CSI_NODES, {"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", **node})
        return handle

    async def create_attachment(self, **metadata: Any) -> None:
        spec = {"attacher": DRIVER, "nodeName": NODE, "source": {"persistentVolumeName": "pv1"}}
        body = {"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment"}
        await self.kube.create(VOLUME_ATTACHMENTS, {**body, "metadata": {"name": "va1", **metadata}, "spec": spec})

    async def attached(self) -> bool | None:
        """What the status says; None when there is no attachment."""
        try:
            found = await self.kube.get(VOLUME_ATTACHMENTS, "va1")
        except NotFoundError:
            return None
        return bool(found["status"]["attached"])

    async def until(self, attached: bool | None) -> None:
        async with asyncio.timeout(30):
            while await self.attached() is not attached:
                await asyncio.sleep(0.1)


def capability() -> Any:
    return attach_capability(
        ["ReadWriteOnce"], volume_mode=None, fs_type="", mount_flags=(), single_node_multi_writer=False
    )


@asynccontextmanager
async def peers(folder: Path) -> AsyncIterator[Peers]:
    hostpathplugin()
    (folder / "plane").mkdir()
    async with (
        control_plane(folder / "plane") as plane,
        connect(KubeConfig(kubeconfig=str(plane.kubeconfig))) as session,
    ):
        csi = CSIClient(DriverChannel(f"unix://{folder}/csi.sock"))
        yield Peers(kube=KubeClient(session), csi=csi, folder=folder, kubeconfig=plane.kubeconfig)


async def test_attach_restart_detach_and_drift_with_the_public_driver(tmp_path: Path) -> None:
    async with peers(tmp_path) as them:
        async with them.driver():
            handle = await them.create_volume()
            await them.create_attachment()
            async with them.attacher():
                await them.until(True)
        assert them.is_attached_at_the_driver(handle)

        # The driver dies under the attacher and comes back: what was asked for meanwhile is done.
        async with them.attacher():
            await them.kube.delete(VOLUME_ATTACHMENTS, "va1")
            await asyncio.sleep(1)
            assert them.is_attached_at_the_driver(handle)
            async with them.driver():
                await them.until(None)
                assert not them.is_attached_at_the_driver(handle)

        # Somebody detaches behind our back what an attachment says is attached.
        async with them.driver():
            await them.create_attachment()
            async with them.attacher():
                await them.until(True)
            request = ControllerUnpublishVolumeRequest(volume_id=handle, node_id=NODE)
            await them.csi.controller_unpublish_volume(request, timeout_s=10)
            assert not them.is_attached_at_the_driver(handle)
            async with them.attacher(reconcile_sync_s=1.0):
                await eventually(lambda: them.is_attached_at_the_driver(handle), 20)
                assert await them.attached() is True
