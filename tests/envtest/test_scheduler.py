"""A whole real cluster but for kubelet: the scheduler reads the room that each node's provisioner publishes."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.config import KubeConfig
from csisidecar.kube import (
    CSI_DRIVERS,
    CSI_NODES,
    CSI_STORAGE_CAPACITIES,
    EVENTS,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    STORAGE_CLASSES,
    KubeClient,
    connect,
)
from csisidecar.testing.driver import DriverSettings, FakeDriver
from tests.envtest.control_plane import ControlPlane, control_plane, why_not
from tests.whole.processes import program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

pytestmark = [pytest.mark.whole, pytest.mark.timeout(180)]

DRIVER = "room.csi.test"
KEY = "topology.room/node"
GIB = 2**30
ROOM = {"n1": 1 * GIB, "n2": 5 * GIB, "n3": 2 * GIB}
CONTROLLERS = (
    "persistentvolume-binder-controller",
    "persistentvolumeclaim-protection-controller",
    "persistentvolume-protection-controller",
)
STORAGE_V1 = "storage.k8s.io/v1"


class Cluster:
    """The objects, in a namespace of the test's own."""

    def __init__(self, kube: KubeClient) -> None:
        self.kube = kube
        self.drivers = {
            node: FakeDriver(
                DriverSettings(
                    name=DRIVER,
                    node_id=node,
                    topology={KEY: node},
                    total_bytes=room,
                    plugin_capabilities=frozenset({"CONTROLLER_SERVICE", "VOLUME_ACCESSIBILITY_CONSTRAINTS"}),
                )
            )
            for node, room in ROOM.items()
        }

    async def arrange(self) -> None:
        await self.kube.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
        body = {"metadata": {"name": DRIVER}, "spec": {"attachRequired": False, "storageCapacity": True}}
        await self.kube.create(CSI_DRIVERS, {"apiVersion": STORAGE_V1, "kind": "CSIDriver", **body})
        for name, mode in (("late", "WaitForFirstConsumer"), ("now", "Immediate")):
            meta = {"apiVersion": STORAGE_V1, "kind": "StorageClass", "metadata": {"name": name}}
            await self.kube.create(STORAGE_CLASSES, {**meta, "provisioner": DRIVER, "volumeBindingMode": mode})
        for node in ROOM:
            meta = {"name": node, "labels": {KEY: node}}
            await self.kube.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": meta})
            room = {"cpu": "8", "memory": "16Gi", "pods": "110"}
            ready = {"type": "Ready", "status": "True", "reason": "Test", "message": ""}
            status = {"capacity": room, "allocatable": room, "conditions": [ready]}
            await self.kube.patch(NODES, node, {"status": status}, subresource="status")
            spec = {"drivers": [{"name": DRIVER, "nodeID": node, "topologyKeys": [KEY]}]}
            body = {"apiVersion": STORAGE_V1, "kind": "CSINode", "metadata": {"name": node}, "spec": spec}
            await self.kube.create(CSI_NODES, body)

    async def add(self, name: str, storage_class: str, size: str) -> None:
        """A Pod and the claim it uses."""
        meta = {"name": name, "namespace": "team"}
        spec: dict[str, Any] = {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage_class,
            "resources": {"requests": {"storage": size}},
        }
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}
        await self.kube.create(PERSISTENT_VOLUME_CLAIMS, claim, namespace="team")
        spec = {
            "containers": [{"name": "c", "image": "none", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}],
            "tolerations": [{"operator": "Exists"}],
            # No kubelet is there to end it.
            "terminationGracePeriodSeconds": 0,
        }
        await self.kube.create(
            PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}, namespace="team"
        )

    async def remove(self, name: str) -> None:
        """Both."""
        await self.kube.delete(PODS, name, namespace="team")
        await self.kube.delete(PERSISTENT_VOLUME_CLAIMS, name, namespace="team")

    async def node_of(self, name: str) -> str:
        found = await self.kube.get(PODS, name, namespace="team")
        return str(found["spec"].get("nodeName", ""))

    async def phase(self, name: str) -> str:
        found = await self.kube.get(PERSISTENT_VOLUME_CLAIMS, name, namespace="team")
        return str(found["status"]["phase"])

    async def room(self) -> dict[str, str]:
        found = json.loads(await self.kube.list_page(CSI_STORAGE_CAPACITIES, namespace="team"))["items"]
        return {each["nodeTopology"]["matchLabels"][KEY]: each["capacity"] for each in found}

    async def events(self, name: str) -> list[str]:
        found = json.loads(await self.kube.list_page(EVENTS, namespace="team"))["items"]
        return [each["message"] for each in found if each["involvedObject"]["name"] == name]


async def settle(check: Callable[[], Awaitable[bool]], timeout_s: float) -> None:
    """Ask the server until it is so."""
    async with asyncio.timeout(timeout_s):
        while not await check():
            await asyncio.sleep(0.1)


@asynccontextmanager
async def provisioners(cluster: Cluster, plane: ControlPlane, folder: Path) -> AsyncIterator[None]:
    """One a node, each beside its driver."""
    async with AsyncExitStack() as stack:
        for node, driver in cluster.drivers.items():
            await stack.enter_async_context(driver.serving(folder / f"{node}.sock"))
            await stack.enter_async_context(
                program(
                    "run",
                    "--mode=provisioner",
                    "--defaults=upstream",
                    f"--csi-address={folder / f'{node}.sock'}",
                    f"--kubeconfig={plane.kubeconfig}",
                    "--node-deployment",
                    "--node-deployment-base-delay=200ms",
                    "--node-deployment-max-delay=2s",
                    "--strict-topology",
                    "--immediate-topology=false",
                    "--enable-capacity",
                    "--capacity-ownerref-level=-1",
                    log=folder / f"{node}.log",
                    env={**os.environ, "NODE_NAME": node, "NAMESPACE": "team"},
                )
            )
        yield


async def test_pods_go_where_there_is_room_for_their_claims(tmp_path: Path) -> None:
    reason = why_not("kube-controller-manager", "kube-scheduler")
    if reason:
        pytest.skip(reason)
    async with (
        control_plane(tmp_path, controllers=CONTROLLERS) as plane,
        connect(KubeConfig(kubeconfig=str(plane.kubeconfig))) as session,
    ):
        cluster = Cluster(KubeClient(session))
        await cluster.arrange()
        async with provisioners(cluster, plane, tmp_path):

            async def is_room(**wanted: str) -> bool:
                return await cluster.room() == wanted

            await settle(lambda: is_room(n1="1Gi", n2="5Gi", n3="2Gi"), 30)
            await cluster.add("big", "late", "3Gi")

            async def is_bound(name: str, node: str = "") -> bool:
                return await cluster.phase(name) == "Bound" and (await cluster.node_of(name) or "none") in (
                    [node] if node else list(ROOM)
                )

            await settle(lambda: is_bound("big", "n2"), 30)
            await settle(lambda: is_room(n1="1Gi", n2="2Gi", n3="2Gi"), 30)

            # No node has room for it: the scheduler says so, no driver is asked.
            await cluster.add("huge", "late", "4Gi")

            async def is_told() -> bool:
                return any("did not have enough free storage" in text for text in await cluster.events("huge"))

            await settle(is_told, 30)
            # The nodes compete for this one, and its Pod follows it.
            await cluster.add("soon", "now", "1536Mi")
            await settle(lambda: is_bound("soon"), 30)
            assert await cluster.node_of("soon") in ("n2", "n3")
            made = [call.request.name for driver in cluster.drivers.values() for call in driver.calls("CreateVolume")]
            assert len(made) == 2

            # Room that comes back is published, and the scheduler tries again.
            await cluster.remove("big")
            await cluster.remove("soon")
            await settle(lambda: is_bound("huge", "n2"), 90)
            await cluster.remove("huge")

            async def is_empty() -> bool:
                return not json.loads(await cluster.kube.list_page(PERSISTENT_VOLUMES))["items"]

            await settle(is_empty, 30)
            assert all(not driver.volumes for driver in cluster.drivers.values())
