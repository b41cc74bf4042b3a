"""What the attacher tells of a late attachment, as the real API server takes it: the status, and two Events."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar import Attacher, AttacherSettings, KubeConfig, LeaseConfig, ModeConfig, Sidecar, SidecarConfig
from csisidecar.kube import CSI_NODES, EVENTS, PERSISTENT_VOLUMES, VOLUME_ATTACHMENTS, KubeClient, connect
from csisidecar.runtime import background
from csisidecar.testing.driver import FakeDriver, MemoryBackend, VolumeRecord
from tests.envtest.control_plane import control_plane
from tests.whole.test_hundred import attachment, csinode, volume

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.whole, pytest.mark.timeout(180)]

CLAIM = {"kind": "PersistentVolumeClaim", "namespace": "shop", "name": "data", "uid": "6ba7b810-9dad-11d1"}


async def test_late_attachment_is_told_where_the_real_server_keeps_it(tmp_path: Path) -> None:
    backend = MemoryBackend()
    await backend.save(VolumeRecord(id="v", name="v", capacity_bytes=1, block=False))
    driver = FakeDriver(backend=backend, trouble=["ControllerPublishVolume:delay=8"])
    await driver.load()
    async with (
        control_plane(tmp_path) as plane,
        connect(KubeConfig(kubeconfig=str(plane.kubeconfig))) as session,
    ):
        kube = KubeClient(session)
        path = "/api/v1/namespaces"
        body = json.dumps({"metadata": {"name": "shop"}}).encode()
        json_type = {"Content-Type": "application/json"}
        await session.request("POST", path, headers=json_type, body=body, timeout_s=10)
        pv = volume("v", driver.settings.name)
        pv["spec"]["claimRef"] = {"apiVersion": "v1", **CLAIM}
        await kube.create(PERSISTENT_VOLUMES, pv)
        await kube.create(CSI_NODES, csinode(driver.settings.name))
        config = SidecarConfig(
            kube=KubeConfig(kubeconfig=str(plane.kubeconfig)),
            modes={"attacher": ModeConfig(lease=LeaseConfig(enabled=False))},
        )
        settings = AttacherSettings(volume_attachment_timeout_s=2.0)
        sidecar = Sidecar(config, plugins=[Attacher(settings)], csi=driver.services)
        async with background(sidecar.run(), name="sidecar"):
            await kube.create(VOLUME_ATTACHMENTS, attachment("v", driver.settings.name))
            status = await until(kube, "attachError")
            assert status["attached"] is False
            assert ", 0 attempts" in status["attachError"]["message"]
            status = await until(kube, "attachmentMetadata")
        assert status["attached"] is True
        assert "attachError" not in status
        told = {(e["involvedObject"]["kind"], e["metadata"]["namespace"]) for e in await events(kube, "AttachLate")}
        assert told == {("VolumeAttachment", "default"), ("PersistentVolumeClaim", "shop")}


async def until(kube: KubeClient, field: str) -> dict[str, Any]:
    """The attachment's status once it has `field`."""
    async with asyncio.timeout(30):
        while True:
            status: dict[str, Any] = (await kube.get(VOLUME_ATTACHMENTS, "v"))["status"]
            if field in status:
                return status
            await asyncio.sleep(0.1)


async def events(kube: KubeClient, reason: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(await kube.list_page(EVENTS))["items"]
    return [item for item in items if item["reason"] == reason]
