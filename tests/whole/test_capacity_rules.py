"""Roles that lack a verb of CSIStorageCapacity objects: the rule is told, and claims are provisioned all the same."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar import KubeConfig, LeaseConfig, ModeConfig, Provisioner, ProvisionerSettings, Sidecar, SidecarConfig
from csisidecar.config import CapacitySettings, RateConfig
from csisidecar.demo.props import build_claim, build_class
from csisidecar.runtime import background
from csisidecar.testing.apiserver import FakeAPIServer
from csisidecar.testing.driver import DriverSettings, FakeDriver
from tests.whole.processes import eventually, write_json

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.whole, pytest.mark.timeout(60)]

DRIVER = "room.csi.test"
USER = "tenant"
PLURAL = "csistoragecapacities"
WATCH = ["list", "watch"]
RULES = [
    ("", "persistentvolumes", [*WATCH, "get", "create", "patch", "delete"]),
    ("", "persistentvolumeclaims", [*WATCH, "get"]),
    ("", "nodes", WATCH),
    ("", "events", ["create", "patch"]),
    ("storage.k8s.io", "storageclasses", WATCH),
    ("storage.k8s.io", "csinodes", WATCH),
    ("storage.k8s.io", "volumeattachments", WATCH),
]
VERBS = ["get", *WATCH, "create", "update", "delete"]


def roles_without(*verbs: str) -> dict[str, Any]:
    rules = [*RULES, ("storage.k8s.io", PLURAL, [verb for verb in VERBS if verb not in verbs])]
    shown = [{"apiGroups": [group], "resources": [plural], "verbs": list(may)} for group, plural, may in rules]
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": USER}
    subject = {"kind": "User", "name": USER}
    return {
        "kind": "List",
        "items": [
            {"kind": "ClusterRole", "metadata": {"name": USER}, "rules": shown},
            {"kind": "ClusterRoleBinding", "metadata": {"name": USER}, "roleRef": reference, "subjects": [subject]},
        ],
    }


def rule(verb: str) -> str:
    return f'{{apiGroups: ["storage.k8s.io"], resources: ["{PLURAL}"], verbs: ["{verb}"]}}'


@pytest.mark.parametrize(
    "verb",
    [
        pytest.param("create", id="create", marks=pytest.mark.parity("T-REFUSED-01")),
        pytest.param("update", id="update", marks=pytest.mark.parity("T-REFUSED-02")),
        pytest.param("delete", id="delete", marks=pytest.mark.parity("T-REFUSED-03")),
        pytest.param("watch", id="watch", marks=pytest.mark.parity("T-REFUSED-04")),
    ],
)
async def test_missing_verb_is_told_as_the_rule_to_add(
    verb: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    driver = FakeDriver(DriverSettings(name=DRIVER))
    roles = write_json(tmp_path / "roles", roles_without(*(WATCH if verb == "watch" else [verb])))
    capacity = CapacitySettings(
        namespace="default",
        ownerref_level=-1,
        rate=RateConfig(),
        poll_interval_s=0.5,
        # Its claims need no scheduler here.
        for_immediate_binding=True,
    )
    async with FakeAPIServer(rbac=roles) as server, AsyncExitStack() as stack:
        server.write_kubeconfig(tmp_path / "user", USER)
        entry = {"name": DRIVER, "nodeID": "n1", "topologyKeys": []}
        server.objects.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
        body = {"metadata": {"name": "n1"}, "spec": {"drivers": [entry]}}
        server.objects.create({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", **body})
        for name in ("demo", "other"):
            server.objects.create(build_class(name, DRIVER))
        config = SidecarConfig(
            kube=KubeConfig(kubeconfig=str(tmp_path / "user")),
            modes={"provisioner": ModeConfig(lease=LeaseConfig(enabled=False))},
        )
        sidecar = Sidecar(config, plugins=[Provisioner(ProvisionerSettings(capacity=capacity))], csi=driver.services)
        await stack.enter_async_context(background(sidecar.run(), name="sidecar"))

        def count() -> int:
            return len(server.objects.list(PLURAL))

        if verb in ("update", "delete"):
            await eventually(lambda: count() == 2, 10)
        if verb == "update":
            driver.settings = replace(driver.settings, total_bytes=driver.settings.total_bytes * 2)
        if verb == "delete":
            server.objects.delete("storageclasses", "other")

        def is_told() -> bool:
            report = sidecar.health.report()
            return not report.is_ok and rule(verb) in report.text

        await eventually(is_told, 15)
        claim = build_claim("data", storage_class="demo")
        claim["metadata"]["annotations"] = {"volume.kubernetes.io/storage-provisioner": DRIVER}
        server.objects.create(claim)
        if verb == "watch":
            # Nothing begins before what is to be watched was listed, as with every other kind.
            await asyncio.sleep(0.5)
            assert not server.objects.list("persistentvolumes")
            assert not driver.calls("CreateVolume")
        else:
            await eventually(lambda: len(server.objects.list("persistentvolumes")) == 1, 10)
    told = [vars(record) for record in caplog.records if record.levelname == "WARNING"]
    assert any(rule(verb) in str(fields) for fields in told)
    assert sum(fields["msg"] == "no permission for a write" for fields in told) <= 1
    assert "Traceback" not in caplog.text
