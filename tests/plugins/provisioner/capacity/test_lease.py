"""The Lease beside capacity objects: whoever publishes slowly does not renew slowly."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from csisidecar import Sidecar, SidecarConfig
from csisidecar.config import (
    CapacitySettings,
    KubeConfig,
    LeaseConfig,
    ModeConfig,
    ProvisionerSettings,
    RateConfig,
)
from csisidecar.plugins.provisioner import Provisioner
from csisidecar.runtime import background
from csisidecar.testing.apiserver import FakeAPIServer
from csisidecar.testing.driver import DriverSettings, FakeDriver
from tests.plugins.provisioner.capacity.rooms import LATE
from tests.whole.processes import eventually

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.whole, pytest.mark.timeout(60)]

SLOW = RateConfig(qps=0.01, burst=1)


@pytest.mark.parity("T-QUIRK-05")
async def test_lease_is_renewed_on_time_while_the_lane_for_capacity_is_full(tmp_path: Path) -> None:
    driver = FakeDriver(DriverSettings(controller_capabilities=frozenset({"CREATE_DELETE_VOLUME", "GET_CAPACITY"})))
    lease = LeaseConfig(lease_duration_s=3.0, renew_deadline_s=2.0, retry_period_s=0.2)
    capacity = CapacitySettings(namespace="default", ownerref_level=-1, rate=SLOW)
    async with FakeAPIServer() as server:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        name = driver.settings.name
        spec = {"drivers": [{"name": name, "nodeID": "n1", "topologyKeys": []}]}
        server.objects.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
        server.objects.create(
            {"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": "n1"}, "spec": spec}
        )
        for number in range(5):
            head = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": f"c{number}"}}
            server.objects.create({**head, "provisioner": name, **LATE})
        config = SidecarConfig(
            kube=KubeConfig(kubeconfig=str(tmp_path / "kubeconfig")), modes={"provisioner": ModeConfig(lease=lease)}
        )
        plugin = Provisioner(ProvisionerSettings(capacity=capacity))
        sidecar = Sidecar(config, plugins=[plugin], csi=driver.services)

        def written(resource: str) -> int:
            verbs = ("create", "update", "patch")
            return sum(each.resource.startswith(resource) and each.verb in verbs for each in server.audit)

        async with background(sidecar.run(), name="sidecar"):
            await eventually(lambda: written("csistoragecapacities") == 1, 20)
            before = written("leases")
            await asyncio.sleep(4)
            assert written("csistoragecapacities") == 1
            assert written("leases") - before >= 5
