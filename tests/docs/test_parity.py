"""The parity page: ids stay single, every test that it names exists; and two of its rows, shown from outside."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar import (
    Attacher,
    AttacherSettings,
    KubeConfig,
    LeaseConfig,
    ModeConfig,
    Provisioner,
    ProvisionerSettings,
    Sidecar,
    SidecarConfig,
)
from csisidecar.demo.props import build_claim, build_class
from csisidecar.errors import StatusCode
from csisidecar.runtime import background
from csisidecar.testing.apiserver import FakeAPIServer
from csisidecar.testing.driver import DriverSettings, FakeDriver
from tests.docs.places import read
from tests.parity import catalogue
from tests.whole.processes import eventually

if TYPE_CHECKING:
    from pathlib import Path

MODES = sorted(catalogue.PREFIXES)


@pytest.mark.parametrize("mode", MODES)
def test_rows_and_marked_tests_belong_together(mode: str) -> None:
    assert catalogue.faults(mode) == []


def test_every_row_is_written_so_that_it_is_found() -> None:
    lines = [line for line in read("docs/parity.md").splitlines() if re.match(r"\| [A-Z]-", line)]
    found = {row.id for mode in MODES for row in catalogue.rows(mode)}
    assert [line for line in lines if line.split()[1] not in found] == []
    assert len(found) > 250


@pytest.mark.parametrize("mode", MODES)
def test_every_row_says_whether_it_is_the_same(mode: str) -> None:
    words = ("same", "**different**", "not built", "as in Go", "the second is same")
    assert [row.id for row in catalogue.rows(mode) if not row.verdict.startswith(words)] == []


@pytest.mark.parity("A-TRIVIAL-02")
@pytest.mark.whole
async def test_attacher_without_attach_watches_attachments_alone(tmp_path: Path) -> None:
    driver = FakeDriver(DriverSettings(controller_capabilities=frozenset({"CREATE_DELETE_VOLUME"})))
    async with FakeAPIServer() as server:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        config = SidecarConfig(kube=KubeConfig(kubeconfig=str(tmp_path / "kubeconfig")))
        sidecar = Sidecar(config, plugins=[Attacher(AttacherSettings())], csi=driver.services)
        async with background(sidecar.run(), name="sidecar"):
            await eventually(lambda: "(leading)" in sidecar.health.report().text, 20)
        watched = {record.resource for record in server.audit if record.verb in ("list", "watch")}
    assert watched == {"volumeattachments.storage.k8s.io"}


@pytest.mark.parity("R-LEASE-07")
@pytest.mark.whole
async def test_lost_lease_stops_the_mode_which_stands_by_and_leads_again(tmp_path: Path) -> None:
    driver = FakeDriver(trouble=["CreateVolume:hang x1"])
    name = driver.settings.name
    lease = LeaseConfig(namespace="default", lease_duration_s=2.0, renew_deadline_s=1.0, retry_period_s=0.2)
    async with FakeAPIServer() as server:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        server.objects.create(build_class("c", name))
        claim = build_claim("c", storage_class="c")
        claim["metadata"]["annotations"] = {"volume.kubernetes.io/storage-provisioner": name}
        server.objects.create(claim)
        config = SidecarConfig(
            kube=KubeConfig(kubeconfig=str(tmp_path / "kubeconfig")), modes={"provisioner": ModeConfig(lease=lease)}
        )
        sidecar = Sidecar(config, plugins=[Provisioner(ProvisionerSettings())], csi=driver.services)
        async with background(sidecar.run(), name="sidecar"):

            def creates() -> list[Any]:
                return [call for call in driver.ledger if call.method == "CreateVolume"]

            await eventually(lambda: len(creates()) == 1, 20)
            (held,) = server.objects.list("leases")
            give(server, held["metadata"]["name"], "somebody-else")
            await eventually(lambda: creates()[0].code is StatusCode.CANCELED, 5)
            await eventually(lambda: "(standing by)" in sidecar.health.report().text, 5)
            await asyncio.sleep(0.5)
            assert len(creates()) == 1
            give(server, held["metadata"]["name"], "")
            await eventually(lambda: len(creates()) == 2, 10)
            assert "(leading)" in sidecar.health.report().text


def give(server: FakeAPIServer, name: str, holder: str) -> None:
    def change(lease: dict[str, Any]) -> None:
        lease["spec"]["holderIdentity"] = holder

    server.objects.edit("leases", name, change, "default")
