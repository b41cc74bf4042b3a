"""The attacher against the embedded API server over HTTP and the embedded driver: do they take what it sends?"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.clock import SystemClock
from csisidecar.config import AttacherSettings
from csisidecar.csi import CreateVolumeRequest, CSIClient, DriverInfo, VolumeCapability
from csisidecar.kube.session import HTTPSession, Target
from csisidecar.mapping.capability import create_capabilities
from csisidecar.plugins.attacher import Attacher
from csisidecar.testing.apiserver.fake import FakeAPIServer
from csisidecar.testing.driver import ALL_CONTROLLER, DriverSettings, FakeDriver
from tests.plugins.attacher.world import DRIVER, FINALIZER, NODE_ID, Numbers, at_work

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.whole

VAS, PVS = "volumeattachments", "persistentvolumes"
STORAGE, CORE = "storage.k8s.io/v1", "v1"


class Peers:
    """An API server, a driver with volumes in it, and a node that the driver serves."""

    def __init__(self, server: FakeAPIServer, driver: FakeDriver) -> None:
        self.api = server.objects
        self.server = server
        self.driver = driver
        self.handles: dict[str, str] = {}

    async def make_volume(self, name: str) -> None:
        channel = self.driver.channel()
        await channel.connect()
        uses: list[VolumeCapability] = create_capabilities(
            ["ReadWriteOnce"], volume_mode=None, fs_type="", mount_flags=None, single_node_multi_writer=False
        )
        request = CreateVolumeRequest(name=name, volume_capabilities=uses)
        made = await CSIClient(channel).create_volume(request, timeout_s=5)
        channel.close()
        assert made.volume is not None
        self.handles[name] = made.volume.volume_id
        spec = {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "csi": {"driver": DRIVER, "volumeHandle": made.volume.volume_id},
        }
        self.api.create({"apiVersion": CORE, "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec})

    def make_node(self) -> None:
        spec = {"drivers": [{"name": DRIVER, "nodeID": "node-1", "topologyKeys": []}]}
        self.api.create({"apiVersion": STORAGE, "kind": "CSINode", "metadata": {"name": "node1"}, "spec": spec})

    def attach(self, name: str, pv: str, **metadata: Any) -> None:
        spec = {"attacher": DRIVER, "nodeName": "node1", "source": {"persistentVolumeName": pv}}
        meta = {"name": name, **metadata}
        self.api.create({"apiVersion": STORAGE, "kind": "VolumeAttachment", "metadata": meta, "spec": spec})

    def is_attached(self, name: str) -> bool:
        found = self.api.get(VAS, name)
        return found is not None and found.get("status", {}).get("attached") is True


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def peers(*trouble: str) -> AsyncIterator[Peers]:
    driver = FakeDriver(DriverSettings(name=DRIVER), trouble=trouble)
    info = DriverInfo(
        name=DRIVER, plugin_capabilities=frozenset({"CONTROLLER_SERVICE"}), controller_capabilities=ALL_CONTROLLER
    )
    settings = AttacherSettings(retry_interval_start_s=0.2)
    async with FakeAPIServer() as server, HTTPSession(Target(host=server.url, user_agent="csi-attacher")) as session:
        channel = driver.channel()
        await channel.connect()
        try:
            world = Peers(server, driver)
            world.make_node()
            async with at_work(Attacher(settings), session, channel, info, Numbers(), SystemClock()):
                yield world
        finally:
            channel.close()


async def test_whole_life_of_ten_volumes() -> None:
    names = [f"pv{number}" for number in range(10)]
    async with peers() as world:
        for name in names:
            await world.make_volume(name)
            world.attach(f"va-{name}", name)
        await eventually(lambda: all(world.is_attached(f"va-{name}") for name in names))
        for name in names:
            va, pv = world.api.get(VAS, f"va-{name}"), world.api.get(PVS, name)
            assert va is not None
            assert pv is not None
            assert va["metadata"]["finalizers"] == [FINALIZER]
            assert va["metadata"]["annotations"] == {NODE_ID: "node-1"}
            assert FINALIZER in pv["metadata"]["finalizers"]
            assert world.driver.published[world.handles[name]] == {"node-1"}
            world.api.delete(VAS, f"va-{name}")
        await eventually(lambda: world.api.count(VAS) == 0)
        assert world.driver.published == {}
        for name in names:
            world.api.edit(PVS, name, lambda obj: obj["metadata"]["finalizers"].remove("kubernetes.io/pv-protection"))
            world.api.delete(PVS, name)
        await eventually(lambda: world.api.count(PVS) == 0)
    assert len(world.driver.calls("ControllerPublishVolume")) == 10
    assert len(world.driver.calls("ControllerUnpublishVolume")) == 10
    assert world.api.count("events") == 0


async def test_errors_show_and_go_and_a_foreign_finalizer_keeps_a_detached_attachment() -> None:
    trouble = ("ControllerPublishVolume:ResourceExhausted=no slots x1", "ControllerUnpublishVolume:Internal=stuck x1")
    async with peers(*trouble) as world:
        await world.make_volume("pv1")
        applied = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
        world.attach("va1", "pv1", finalizers=["example.com/hold"], annotations=applied)

        def error(field: str) -> str:
            found = world.api.get(VAS, "va1")
            return "" if found is None else str(found.get("status", {}).get(field, {}).get("message", ""))

        await eventually(lambda: "no slots" in error("attachError"))
        await eventually(lambda: world.is_attached("va1"))
        assert error("attachError") == ""
        va = world.api.get(VAS, "va1")
        assert va is not None
        assert va["metadata"]["finalizers"] == ["example.com/hold", FINALIZER]
        assert va["metadata"]["annotations"] == {**applied, NODE_ID: "node-1"}
        world.api.delete(VAS, "va1")
        await eventually(lambda: "stuck" in error("detachError"))
        await eventually(lambda: not world.is_attached("va1"))
        va = world.api.get(VAS, "va1")
        assert va is not None
        assert va["metadata"]["finalizers"] == ["example.com/hold"]
        assert va["status"] == {"attached": False}
        told = {"AttachFailed", "Attached", "DetachFailed", "Detached"}
        await eventually(lambda: {event["reason"] for event in world.api.list("events")} == told)
