"""A server, a driver for each of three nodes, and a provisioner process beside each driver."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csisidecar.testing.driver import DriverSettings, FakeDriver
from tests.whole.processes import Program, program

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AsyncExitStack

    from csisidecar.testing.apiserver import FakeAPIServer
    from csisidecar.testing.apiserver.audit import AuditRecord

DRIVER = "nodes.csi.test"
KEY = "topology.nodes/node"
SELECTED = "volume.kubernetes.io/selected-node"
NODES = ("n1", "n2", "n3")
NAMESPACE = "csi-hostpath"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:csi-hostpath-node"
RBAC = Path(__file__).parents[2] / "examples" / "deployment" / "per-node" / "rbac.yaml"


class Cluster:
    """What the tests of three nodes arrange and look at.

    Args:
        server: with nothing in it.
        folder: for sockets, logs and the kubeconfig.
        stack: ends drivers and processes.
        words: more flags of each process.
        base_delay: `--node-deployment-base-delay` of all but `slow`.
        slow: a node whose base delay is 1 s.
    """

    def __init__(
        self,
        server: FakeAPIServer,
        folder: Path,
        stack: AsyncExitStack,
        *words: str,
        base_delay: str = "200ms",
        slow: str = "",
    ) -> None:
        self.server = server
        self.drivers: dict[str, FakeDriver] = {}
        self.programs: dict[str, Program] = {}
        self._folder = folder
        self._stack = stack
        self._base_delay = base_delay
        self._slow = slow
        self._words = words

    async def start(self, trouble: Mapping[str, str] | None = None) -> None:
        """Two classes, the drivers with an order each, the processes."""
        for name in (NAMESPACE, "team"):
            self.server.objects.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        self.add_class("now")
        self.add_class("late", mode="WaitForFirstConsumer")
        self.server.write_kubeconfig(self._folder / "admin", ACCOUNT)
        for node in NODES:
            order = (trouble or {}).get(node)
            driver = self.drivers[node] = FakeDriver(
                DriverSettings(
                    name=DRIVER,
                    node_id=node,
                    topology={KEY: node},
                    plugin_capabilities=frozenset({"CONTROLLER_SERVICE", "VOLUME_ACCESSIBILITY_CONSTRAINTS"}),
                    controller_capabilities=frozenset({"CREATE_DELETE_VOLUME", "GET_CAPACITY"}),
                ),
                trouble=[order] if order else [],
            )
            await self._stack.enter_async_context(driver.serving(self._folder / f"{node}.sock"))
            pod = {"name": f"pod-{node}", "namespace": NAMESPACE}
            spec = {"containers": [{"name": "main", "image": "none"}]}
            self.server.objects.create({"apiVersion": "v1", "kind": "Pod", "metadata": pod, "spec": spec})
            self.programs[node] = await self.start_program(node)

    async def start_program(self, node: str, log: str = "") -> Program:
        """A provisioner for the node; a killed one's successor appends to its log."""
        env = {**os.environ, "NODE_NAME": node, "NAMESPACE": NAMESPACE, "POD_NAME": f"pod-{node}"}
        env.pop("KUBECONFIG", None)
        return await self._stack.enter_async_context(
            program(
                "run",
                "--mode=provisioner",
                "--defaults=upstream",
                f"--csi-address={self._folder / f'{node}.sock'}",
                f"--kubeconfig={self._folder / 'admin'}",
                "--kube-api-qps=-1",
                "--node-deployment",
                "--node-deployment-max-delay=2s",
                f"--node-deployment-base-delay={'1s' if node == self._slow else self._base_delay}",
                *self._words,
                log=self._folder / (log or f"{node}.log"),
                env=env,
            )
        )

    async def kill(self, node: str) -> None:
        """End the node's process by force."""
        self.programs[node].process.kill()
        await self.programs[node].exit_code()

    async def started(self, count: int = len(NODES)) -> None:
        """So many processes are at work: they have listed the claims, and watch them."""
        while self._watches() < count:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)

    def _watches(self) -> int:
        claims = (each for each in self.server.audit if each.watch and each.resource == "persistentvolumeclaims")
        return sum("sendInitialEvents" not in each.query for each in claims)

    def add_class(self, name: str, *, mode: str = "Immediate", **parameters: str) -> None:
        body = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
        rest = {"provisioner": DRIVER, "reclaimPolicy": "Delete", "volumeBindingMode": mode, "parameters": parameters}
        self.server.objects.create({**body, **rest})

    def add_claim(self, name: str, storage_class: str = "now", node: str = "") -> str:
        """A claim, with the node selected if one is given; the result is its UID."""
        annotations = {"volume.kubernetes.io/storage-provisioner": DRIVER} | ({SELECTED: node} if node else {})
        meta = {"name": name, "namespace": "team", "annotations": annotations}
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage_class,
            "resources": {"requests": {"storage": "1Mi"}},
        }
        body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}
        return str(self.server.objects.create(body)["metadata"]["uid"])

    def volumes(self) -> list[dict[str, Any]]:
        return self.server.objects.list("persistentvolumes")

    def owners(self) -> dict[str, str]:
        """UID of a claim → node that has it."""
        claims = self.server.objects.list("persistentvolumeclaims")
        return {each["metadata"]["uid"]: each["metadata"]["annotations"].get(SELECTED, "") for each in claims}

    def room(self) -> set[str]:
        """Nodes of which there is a capacity object."""
        return {each["nodeTopology"]["matchLabels"][KEY] for each in self.server.objects.list("csistoragecapacities")}

    def puts(self) -> list[AuditRecord]:
        """Writes of claims."""
        return [
            each for each in self.server.audit if (each.verb, each.resource) == ("update", "persistentvolumeclaims")
        ]

    def made(self, node: str) -> list[str]:
        """Names of the volumes that the node's driver was asked for."""
        return [call.request.name for call in self.drivers[node].calls("CreateVolume")]

    def warnings(self) -> list[dict[str, Any]]:
        """Events that are warnings."""
        return [each for each in self.server.objects.list("events") if each["type"] == "Warning"]


def answered_s(record: AuditRecord) -> float:
    """When a request was answered, in the time of the running loop."""
    began_s = datetime.fromisoformat(record.time).timestamp()
    return began_s + record.duration_ms / 1000 - time.time() + asyncio.get_running_loop().time()
