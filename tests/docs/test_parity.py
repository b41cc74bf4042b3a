"""The parity page: ids stay single, every test that it names exists; and two of its rows, shown from outside."""

from __future__ import annotations

import ast
import asyncio
import re
from functools import cache
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
from tests.docs.places import ROOT, read
from tests.whole.processes import eventually

if TYPE_CHECKING:
    from pathlib import Path

ROW = re.compile(r"^\| ([RAP]-[A-Z]+-\d\d) \| (.+) \| (.+) \| `([^`]+)` \|$")


def rows() -> list[tuple[str, str, str, str]]:
    lines = [line for line in read("docs/parity.md").splitlines() if line.startswith(("| R-", "| A-", "| P-"))]
    found = [ROW.match(line) for line in lines]
    assert [line for line, match in zip(lines, found, strict=True) if match is None] == []
    return [match.groups() for match in found if match is not None]  # type: ignore[misc]


@cache
def names_in(file: str) -> frozenset[str]:
    path = ROOT / "tests" / file
    body = ast.parse(path.read_text()).body if path.exists() else []
    return frozenset(node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_each_id_is_there_once() -> None:
    ids = [row[0] for row in rows()]
    assert len(ids) > 80
    assert sorted(set(ids)) == sorted(ids)


def test_every_test_that_is_named_exists() -> None:
    missing = []
    for row, _, _, test in rows():
        file, _, name = test.partition("::")
        if not name.startswith("test_") or name not in names_in(file):
            missing.append((row, test))
    assert missing == []


def test_every_row_says_whether_it_is_the_same() -> None:
    words = ("same", "**different**", "not built", "as in Go", "the second is same")
    assert [row for row, _, verdict, _ in rows() if not verdict.startswith(words)] == []


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
