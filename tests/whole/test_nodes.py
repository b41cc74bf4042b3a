"""Three provisioner processes, one a node, on one API server: each claim has one of them, and no claim has none."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from csisidecar.testing.apiserver import FakeAPIServer
from tests.whole.nodes import NAMESPACE, NODES, RBAC, Cluster, answered_s
from tests.whole.processes import eventually

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.whole, pytest.mark.timeout(110)]

IN_FLIGHT_S = 2.0
"""How long after a claim got its owner a call for it may still come on a busy machine: the watch has to tell first."""


@pytest.mark.parity("T-NODE-14", "T-NODE-91")
async def test_each_of_thirty_claims_is_made_by_one_node_and_a_dead_node_keeps_its_own(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(FakeAPIServer(rbac=RBAC))
        flags = ("--enable-capacity", "--capacity-ownerref-level=0", "--kube-api-capacity-qps=-1")
        cluster = Cluster(server, tmp_path, stack, *flags)
        await cluster.start()
        await eventually(lambda: cluster.room() == set(NODES), 30)
        for number in range(30):
            cluster.add_claim(f"c{number}")
        await eventually(lambda: len(cluster.volumes()) == 30, 40)
        await asyncio.sleep(1)
        made = {node: cluster.made(node) for node in NODES}
        assert sorted(name for names in made.values() for name in names) == sorted(
            f"pvc-{uid}" for uid in cluster.owners()
        )
        for uid, node in cluster.owners().items():
            assert f"pvc-{uid}" in made[node]
        assert server.objects.list("leases") == []
        assert [record for record in server.audit if record.code in (401, 403)] == []
        assert [record for record in server.audit if record.resource.startswith(("nodes", "csinodes"))] == []

        await cluster.kill("n3")
        cluster.add_claim("for-dead", "late", "n3")
        cluster.add_claim("for-living", "late", "n1")
        await eventually(lambda: len(cluster.volumes()) == 31, 10)
        assert cluster.room() == set(NODES)
        server.objects.delete("pods", "pod-n3", NAMESPACE)
        await eventually(lambda: cluster.room() == {"n1", "n2"}, 10)
        assert len(cluster.volumes()) == 31


@pytest.mark.parity("T-NODE-92")
@pytest.mark.parametrize("delay", ["200ms", "6s"])
async def test_losers_make_no_call_for_a_claim_once_it_has_an_owner(tmp_path: Path, delay: str) -> None:
    """Each claim has a class of its own, whose parameter says which claim a GetCapacity is about.

    With the longer delay most of the losers would come long after the winner, were they not told.
    """
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(FakeAPIServer(rbac=RBAC))
        cluster = Cluster(server, tmp_path, stack, "--node-deployment-max-delay=6s", base_delay=delay)
        await cluster.start()
        await cluster.started()
        uids: dict[str, str] = {}
        for number in range(30):
            name = f"c{number}"
            cluster.add_class(name, claim=name)
            uids[name] = cluster.add_claim(name, name)
        await eventually(lambda: len(cluster.volumes()) == 30, 40)
        await asyncio.sleep(5)
        codes = [record.code for record in cluster.puts()]
        assert codes.count(200) == 30
        assert set(codes) <= {200, 409}
        taken_s = {record.name: answered_s(record) for record in cluster.puts() if record.code == 200}
        owners = cluster.owners()
        late = []
        for node in NODES:
            for call in cluster.drivers[node].calls("GetCapacity"):
                name = call.request.parameters["claim"]
                if owners[uids[name]] != node:
                    late.append(call.started_s - taken_s[name])
            assert sorted(cluster.made(node)) == sorted(f"pvc-{uid}" for uid in uids.values() if owners[uid] == node)
        assert max(late, default=0.0) < IN_FLIGHT_S


@pytest.mark.parity("T-NODE-93")
async def test_nodes_that_lie_about_their_room_keep_no_claim_from_the_one_that_has_some(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(FakeAPIServer(rbac=RBAC))
        cluster = Cluster(server, tmp_path, stack, slow="n3")
        full = "CreateVolume:ResourceExhausted=full"
        await cluster.start({"n1": full, "n2": full})
        await cluster.started()
        for number in range(10):
            cluster.add_claim(f"c{number}")
        await eventually(lambda: len(cluster.volumes()) == 10, 20)
        await asyncio.sleep(3)
        assert set(cluster.owners().values()) == {"n3"}
        tries = sum(len(cluster.made(node)) for node in ("n1", "n2"))
        for node in ("n1", "n2"):
            made = cluster.made(node)
            assert max(map(made.count, made), default=0) <= 3
            assert len(cluster.drivers[node].calls("GetCapacity")) <= 4 * 10
        assert sum(event.get("count", 1) for event in cluster.warnings()) <= tries
        assert all("ResourceExhausted" in event["message"] for event in cluster.warnings())
        for node in ("n1", "n2"):
            assert "attempt failed" not in cluster.programs[node].log
            assert len(cluster.programs[node].log.splitlines()) < 10 + 3 * 30


@pytest.mark.parity("T-NODE-94")
async def test_restarted_instance_goes_on_with_its_claims(tmp_path: Path) -> None:
    """Those it was at, those that came meanwhile, and those it may compete for."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(FakeAPIServer(rbac=RBAC))
        cluster = Cluster(server, tmp_path, stack)
        await cluster.start({"n3": "CreateVolume:delay=2 x5"})
        await cluster.started()
        for number in range(5):
            cluster.add_claim(f"begun{number}", "late", "n3")
        await eventually(lambda: len(cluster.made("n3")) == 5, 10)
        await cluster.kill("n3")
        for number in range(5):
            cluster.add_claim(f"waiting{number}", "late", "n3")
            cluster.add_claim(f"free{number}")
        await eventually(lambda: len(cluster.volumes()) == 5, 20)
        assert set(cluster.owners().values()) == {"n1", "n2", "n3"}
        cluster.programs["n3"] = await cluster.start_program("n3")
        await eventually(lambda: len(cluster.volumes()) == 15, 20)
        assert len(cluster.drivers["n3"].volumes) == 10
        assert "Another provisioner" not in cluster.programs["n3"].log


@pytest.mark.parity("T-NODE-95")
async def test_two_instances_of_one_node_make_one_volume_a_claim_and_one_tells_of_the_other(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(FakeAPIServer(rbac=RBAC))
        cluster = Cluster(server, tmp_path, stack)
        await cluster.start({"n1": "CreateVolume:delay=0.2"})
        twin = await cluster.start_program("n1", "twin.log")
        await cluster.started(len(NODES) + 1)
        uids = [cluster.add_claim(f"c{number}", "late", "n1") for number in range(20)]
        await eventually(lambda: len(cluster.volumes()) == 20, 30)
        await asyncio.sleep(2)
        assert set(cluster.made("n1")) == {f"pvc-{uid}" for uid in uids}
        assert len(cluster.drivers["n1"].volumes) == 20
        assert len(cluster.made("n1")) > 20
        free = [cluster.add_claim(f"free{number}") for number in range(10)]
        await eventually(lambda: len(cluster.volumes()) == 30, 30)
        await asyncio.sleep(2)
        owners = cluster.owners()
        for node in NODES:
            wanted = {f"pvc-{uid}" for uid in [*uids, *free] if owners[uid] == node}
            assert (
                set(cluster.made(node)) == {volume.name for volume in cluster.drivers[node].volumes.values()} == wanted
            )
        assert cluster.warnings() == []
        logs = [cluster.programs["n1"].log, twin.log]
        assert 1 <= sum(log.count("Another provisioner works for this node") for log in logs) <= 2
        assert all("Traceback" not in log for log in logs)
