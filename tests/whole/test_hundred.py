"""A hundred attachments at a driver that takes its time: no request and no call more than a hundred times one life."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar import Attacher, AttacherSettings, KubeConfig, LeaseConfig, ModeConfig, Sidecar, SidecarConfig
from csisidecar.demo.story import count_requests
from csisidecar.runtime import background
from csisidecar.testing.apiserver import FakeAPIServer
from csisidecar.testing.driver import FakeDriver, MemoryBackend, VolumeRecord
from tests.whole.processes import eventually

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.whole, pytest.mark.timeout(110)]

COUNT = 100
AGENT = "csisidecar"


def volume(name: str, driver: str) -> dict[str, Any]:
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Mi"},
        "csi": {"driver": driver, "volumeHandle": name},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}


def attachment(name: str, driver: str) -> dict[str, Any]:
    spec = {"attacher": driver, "nodeName": "node1", "source": {"persistentVolumeName": name}}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "VolumeAttachment",
        "metadata": {"name": name},
        "spec": spec,
    }


def csinode(driver: str) -> dict[str, Any]:
    drivers = [{"name": driver, "nodeID": "n1", "topologyKeys": None}]
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSINode",
        "metadata": {"name": "node1"},
        "spec": {"drivers": drivers},
    }


@pytest.mark.parity("A-OWN-11")
async def test_hundred_attachments_are_five_writes_and_two_calls_each(tmp_path: Path) -> None:
    names = [f"v{at:03}" for at in range(COUNT)]
    backend = MemoryBackend()
    for name in names:
        await backend.save(VolumeRecord(id=name, name=name, capacity_bytes=1, block=False))
    slow = ("ControllerPublishVolume:delay=0.2", "ControllerUnpublishVolume:delay=0.2")
    driver = FakeDriver(backend=backend, trouble=slow)
    await driver.load()
    own = driver.settings.name
    async with FakeAPIServer() as server:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        server.objects.create(csinode(own))
        config = SidecarConfig(
            kube=KubeConfig(kubeconfig=str(tmp_path / "kubeconfig"), user_agent=AGENT),
            modes={"attacher": ModeConfig(lease=LeaseConfig(enabled=False))},
        )
        sidecar = Sidecar(config, plugins=[Attacher(AttacherSettings())], csi=driver.services)
        async with background(sidecar.run(), name="sidecar"):
            await eventually(lambda: "(leading)" in sidecar.health.report().text, 20)
            for name in names:
                server.objects.create(volume(name, own))
                server.objects.create(attachment(name, own))
            await eventually(lambda: attached(server) == COUNT, 60)
            for name in names:
                server.objects.delete("volumeattachments", name)
            await eventually(lambda: not server.objects.list("volumeattachments"), 60)
            for name in names:
                server.objects.delete("persistentvolumes", name)
            await eventually(lambda: all(left == ["kubernetes.io/pv-protection"] for left in finalizers(server)), 30)
            await asyncio.sleep(0.3)
        requests = count_requests(server.audit, AGENT)
    calls = Counter(call.method for call in driver.ledger)
    assert requests == {
        ("patch", "persistentvolumes"): 2 * COUNT,
        ("patch", "volumeattachments.storage.k8s.io"): 2 * COUNT,
        ("patch", "volumeattachments.storage.k8s.io/status"): COUNT,
    }
    assert (calls["ControllerPublishVolume"], calls["ControllerUnpublishVolume"]) == (COUNT, COUNT)


def attached(server: FakeAPIServer) -> int:
    return sum(bool(item.get("status", {}).get("attached")) for item in server.objects.list("volumeattachments"))


def finalizers(server: FakeAPIServer) -> list[list[str]]:
    return [item["metadata"].get("finalizers", []) for item in server.objects.list("persistentvolumes")]
