"""Storage capacity over sockets without a ceiling: 500 segments and 5 classes from nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar import (
    KubeConfig,
    LeaseConfig,
    ModeConfig,
    Provisioner,
    ProvisionerSettings,
    Sidecar,
    SidecarConfig,
)
from csisidecar.config import CapacitySettings, RateConfig
from csisidecar.runtime import background
from csisidecar.testing.apiserver import FakeAPIServer
from csisidecar.testing.driver import DriverSettings, FakeDriver
from tests.whole.processes import eventually

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.whole, pytest.mark.timeout(170)]

DRIVER = "room.csi.test"
NODES = 500
CLASSES = 5


def objects() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "csi"}}]
    for number in range(NODES):
        name = f"n{number}"
        labels = {"zone": f"z{number}"}
        found.append({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
        driver = {"name": DRIVER, "nodeID": name, "topologyKeys": ["zone"]}
        body = {"metadata": {"name": name}, "spec": {"drivers": [driver]}}
        found.append({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", **body})
    found.extend(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": f"c{number}"},
            "provisioner": DRIVER,
            "volumeBindingMode": "WaitForFirstConsumer",
        }
        for number in range(CLASSES)
    )
    return found


async def test_2500_objects_cost_2500_calls_2500_creates_and_little_else(tmp_path: Path) -> None:
    driver = FakeDriver(
        DriverSettings(
            name=DRIVER,
            topology={"zone": "z0"},
            plugin_capabilities=frozenset({"CONTROLLER_SERVICE", "VOLUME_ACCESSIBILITY_CONSTRAINTS"}),
        )
    )
    capacity = CapacitySettings(namespace="csi", ownerref_level=-1, rate=RateConfig(), poll_interval_s=1000.0)
    async with FakeAPIServer() as server, driver.serving(tmp_path / "csi.sock") as endpoint:
        server.objects.load(objects())
        kubeconfig = tmp_path / "admin"
        server.write_kubeconfig(kubeconfig, "system:admin")
        config = SidecarConfig(
            csi_endpoint=endpoint,
            kube=KubeConfig(kubeconfig=str(kubeconfig)),
            modes={"provisioner": ModeConfig(lease=LeaseConfig(enabled=False))},
        )
        plugin = Provisioner(ProvisionerSettings(capacity=capacity))
        async with background(Sidecar(config, plugins=[plugin]).run(), name="sidecar"):
            count = NODES * CLASSES
            seconds = await eventually(lambda: len(driver.calls("GetCapacity")) >= count, 150)
            await asyncio.sleep(2)
            kinds = Counter(
                f"{record.verb} {record.resource}" for record in server.audit if record.user == "system:admin"
            )
            assert len(server.objects.list("csistoragecapacities")) == count
            assert len(driver.calls("GetCapacity")) == count
            created = kinds.pop("create csistoragecapacities.storage.k8s.io")
            assert created == count
            # Watches end and are opened again however little happens; each kind has one at a time.
            watched = [what for what in kinds if what.startswith("watch ")]
            assert len(watched) + sum(times for what, times in kinds.items() if what not in watched) <= 20
            print(f"{count} objects in {seconds:.1f} s; besides: {dict(kinds)}")
