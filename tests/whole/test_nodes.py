"""Three provisioner processes, one a node, on one API server: each claim has one of them, and no claim has none."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from csisidecar.testing.apiserver import FakeAPIServer
from csisidecar.testing.driver import DriverSettings, FakeDriver
from tests.whole.processes import Program, eventually, program

pytestmark = [pytest.mark.whole, pytest.mark.timeout(110)]

DRIVER = "nodes.csi.test"
KEY = "topology.nodes/node"
SELECTED = "volume.kubernetes.io/selected-node"
NODES = ("n1", "n2", "n3")
NAMESPACE = "csi-hostpath"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:csi-hostpath-node"
RBAC = Path(__file__).parents[2] / "examples" / "deployment" / "per-node" / "rbac.yaml"


class Cluster:
    """The server, and for each node a driver and a process beside it."""

    def __init__(self, server: FakeAPIServer) -> None:
        self.server = server
        self.drivers: dict[str, FakeDriver] = {}
        self.programs: dict[str, Program] = {}

    async def start(self, stack: AsyncExitStack, tmp_path: Path, *more: str, trouble: str = "") -> None:
        for name in (NAMESPACE, "team"):
            self.server.objects.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        for name, mode in (("now", "Immediate"), ("late", "WaitForFirstConsumer")):
            self.server.objects.create(
                {
                    "apiVersion": "storage.k8s.io/v1",
                    "kind": "StorageClass",
                    "metadata": {"name": name},
                    "provisioner": DRIVER,
                    "reclaimPolicy": "Delete",
                    "volumeBindingMode": mode,
                }
            )
        kubeconfig = tmp_path / "admin"
        self.server.write_kubeconfig(kubeconfig, ACCOUNT)
        for node in NODES:
            driver = self.drivers[node] = FakeDriver(
                DriverSettings(
                    name=DRIVER,
                    node_id=node,
                    topology={KEY: node},
                    plugin_capabilities=frozenset({"CONTROLLER_SERVICE", "VOLUME_ACCESSIBILITY_CONSTRAINTS"}),
                ),
                trouble=[trouble] if trouble and node == "n1" else [],
            )
            await stack.enter_async_context(driver.serving(tmp_path / f"{node}.sock"))
            self.server.objects.create(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": f"pod-{node}", "namespace": NAMESPACE},
                    "spec": {"containers": [{"name": "main", "image": "none"}]},
                }
            )
            env = {**os.environ, "NODE_NAME": node, "NAMESPACE": NAMESPACE, "POD_NAME": f"pod-{node}"}
            env.pop("KUBECONFIG", None)
            self.programs[node] = await stack.enter_async_context(
                program(
                    "run",
                    "--mode=provisioner",
                    "--defaults=upstream",
                    f"--csi-address={tmp_path / f'{node}.sock'}",
                    f"--kubeconfig={kubeconfig}",
                    "--kube-api-qps=-1",
                    "--node-deployment",
                    "--node-deployment-base-delay=200ms",
                    "--node-deployment-max-delay=2s",
                    *more,
                    log=tmp_path / f"{node}.log",
                    env=env,
                )
            )

    def add_claim(self, name: str, storage_class: str = "now", node: str = "") -> None:
        annotations = {"volume.kubernetes.io/storage-provisioner": DRIVER} | ({SELECTED: node} if node else {})
        self.server.objects.create(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": "team", "annotations": annotations},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": storage_class,
                    "resources": {"requests": {"storage": "1Mi"}},
                },
            }
        )

    def volumes(self) -> list[dict[str, Any]]:
        return self.server.objects.list("persistentvolumes")

    def owners(self) -> dict[str, str]:
        """UID of a claim → node that has it."""
        claims = self.server.objects.list("persistentvolumeclaims")
        return {each["metadata"]["uid"]: each["metadata"]["annotations"].get(SELECTED, "") for each in claims}

    def room(self) -> set[str]:
        return {each["nodeTopology"]["matchLabels"][KEY] for each in self.server.objects.list("csistoragecapacities")}


@pytest.mark.parity("T-NODE-14")
async def test_each_of_thirty_claims_is_made_by_one_node_and_a_dead_node_keeps_its_own(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(FakeAPIServer(rbac=RBAC))
        cluster = Cluster(server)
        await cluster.start(
            stack, tmp_path, "--enable-capacity", "--capacity-ownerref-level=0", "--kube-api-capacity-qps=-1"
        )
        await eventually(lambda: cluster.room() == set(NODES), 30)
        for number in range(30):
            cluster.add_claim(f"c{number}")
        await eventually(lambda: len(cluster.volumes()) == 30, 40)
        await asyncio.sleep(1)
        puts = [
            record.code
            for record in server.audit
            if record.verb == "update" and record.resource == "persistentvolumeclaims"
        ]
        assert puts.count(200) == 30
        assert set(puts) <= {200, 409}
        made = {node: [call.request.name for call in cluster.drivers[node].calls("CreateVolume")] for node in NODES}
        assert sorted(name for names in made.values() for name in names) == sorted(
            f"pvc-{uid}" for uid in cluster.owners()
        )
        for uid, node in cluster.owners().items():
            assert f"pvc-{uid}" in made[node]
        assert server.objects.list("leases") == []
        assert [record for record in server.audit if record.code in (401, 403)] == []

        cluster.programs["n3"].process.kill()
        await cluster.programs["n3"].exit_code()
        cluster.add_claim("for-dead", "late", "n3")
        cluster.add_claim("for-living", "late", "n1")
        await eventually(lambda: len(cluster.volumes()) == 31, 10)
        assert cluster.room() == set(NODES)
        server.objects.delete("pods", "pod-n3", NAMESPACE)
        await eventually(lambda: cluster.room() == {"n1", "n2"}, 10)
        assert len(cluster.volumes()) == 31


async def test_no_claim_stays_unclaimed_after_one_node_ran_out_of_room(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(FakeAPIServer(rbac=RBAC))
        cluster = Cluster(server)
        await cluster.start(stack, tmp_path, trouble="CreateVolume:ResourceExhausted=full")
        for number in range(6):
            cluster.add_claim(f"c{number}")
        await eventually(lambda: len(cluster.volumes()) == 6, 60)
        assert set(cluster.owners().values()) <= {"n2", "n3"}
        assert cluster.drivers["n1"].volumes == {}
