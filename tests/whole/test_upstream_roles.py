"""The drop-in commands live a volume's whole life under the roles that the Go sidecars ship, with every feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.demo.controllers import ControllersOptions
from csisidecar.demo.controllers import serve as serve_controllers
from csisidecar.demo.props import build_claim, build_class, build_csi_node, build_node, build_pod
from csisidecar.runtime import background
from csisidecar.testing.apiserver import FakeAPIServer
from csisidecar.testing.driver import FakeDriver
from tests.whole.processes import eventually, free_port, program, ready_within, write_json
from tests.whole.role_life import Process, live, placed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = [pytest.mark.whole, pytest.mark.timeout(90)]

Rules = tuple[tuple[str, str, tuple[str, ...]], ...]
"""API group, resource, verbs."""

LEASES: Rules = (("coordination.k8s.io", "leases", ("get", "watch", "list", "delete", "update", "create")),)
ATTACHER: Rules = (
    ("", "persistentvolumes", ("get", "list", "watch", "patch")),
    ("storage.k8s.io", "csinodes", ("get", "list", "watch")),
    ("storage.k8s.io", "volumeattachments", ("get", "list", "watch", "patch")),
    ("storage.k8s.io", "volumeattachments/status", ("patch",)),
)
PROVISIONER: Rules = (
    ("", "persistentvolumes", ("get", "list", "watch", "create", "patch", "delete")),
    ("", "persistentvolumeclaims", ("get", "list", "watch", "update")),
    ("storage.k8s.io", "storageclasses", ("get", "list", "watch")),
    ("", "events", ("list", "watch", "create", "update", "patch")),
    ("snapshot.storage.k8s.io", "volumesnapshots", ("get", "list", "watch", "update")),
    ("snapshot.storage.k8s.io", "volumesnapshotcontents", ("get", "list")),
    ("storage.k8s.io", "csinodes", ("get", "list", "watch")),
    ("", "nodes", ("get", "list", "watch")),
    ("storage.k8s.io", "volumeattachments", ("get", "list", "watch")),
)
CAPACITY: Rules = (
    ("storage.k8s.io", "csistoragecapacities", ("get", "list", "watch", "create", "update", "patch", "delete")),
    ("", "pods", ("get",)),
    ("apps", "replicasets", ("get",)),
)
ROLES = {"attacher": (ATTACHER, LEASES), "provisioner": (PROVISIONER, (*LEASES, *CAPACITY))}
"""User → rules in the whole cluster, rules in the Pod's namespace.

Source: `deploy/kubernetes/rbac.yaml` of external-attacher and external-provisioner, where Secrets are commented out.
"""


def write_roles(path: Path, namespace: str, users: dict[str, Sequence[str]]) -> Path:
    """The roles in a file; `users` is mode → users that have its roles."""
    items: list[dict[str, Any]] = []
    for name, whole_and_own in ROLES.items():
        for rules, kind, where in zip(
            whole_and_own, ("ClusterRole", "Role"), ({}, {"namespace": namespace}), strict=True
        ):
            rows = [{"apiGroups": [g], "resources": [r], "verbs": list(v)} for g, r, v in rules]
            metadata = {"name": name, **where}
            reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
            subjects = [{"kind": "User", "name": user} for user in users[name]]
            items += [
                {"kind": kind, "metadata": metadata, "rules": rows},
                {"kind": f"{kind}Binding", "metadata": metadata, "roleRef": reference, "subjects": subjects},
            ]
    return write_json(path, {"kind": "List", "items": items})


async def test_drop_ins_live_a_whole_life_under_the_shipped_roles(tmp_path: Path) -> None:
    driver = FakeDriver()
    roles = write_roles(tmp_path / "roles.json", "default", {mode: [mode] for mode in ROLES})
    async with FakeAPIServer(rbac=roles) as server, driver.serving(tmp_path / "csi.sock"):
        server.write_kubeconfig(tmp_path / "admin", "admin")
        node = server.objects.create(build_node("n1"))
        server.objects.create(build_csi_node("n1", {driver.settings.name: "node-1"}, node["metadata"]["uid"]))
        server.objects.create(build_class("demo", driver.settings.name))
        ports = {mode: free_port() for mode in ROLES}

        def words(mode: str) -> tuple[str, ...]:
            server.write_kubeconfig(tmp_path / mode, mode)
            return (
                f"--kubeconfig={tmp_path}/{mode}",
                f"--csi-address={tmp_path}/csi.sock",
                f"--http-endpoint=127.0.0.1:{ports[mode]}",
                "--leader-election",
                "--leader-election-namespace=default",
                "--v=2",
            )

        async with (
            background(serve_controllers(ControllersOptions(kubeconfig=str(tmp_path / "admin"))), name="controllers"),
            program(*words("attacher"), log=tmp_path / "a.log", command="csi-attacher") as attacher,
            program(*words("provisioner"), log=tmp_path / "p.log", command="csi-provisioner") as provisioner,
        ):
            for port in ports.values():
                await ready_within(port, 200, 20)
            server.objects.create(build_claim("data"))
            server.objects.create(build_pod("app", "data"))

            def is_attached() -> bool:
                return [va["status"]["attached"] for va in server.objects.list("volumeattachments")] == [True]

            await eventually(is_attached, 20)
            server.objects.delete("pods", "app", "default")
            await eventually(lambda: server.objects.count("volumeattachments") == 0, 20)
            server.objects.delete("persistentvolumeclaims", "data", "default")
            await eventually(lambda: server.objects.count("persistentvolumes") == 0, 20)
            assert not driver.volumes
            assert attacher.process.returncode is None
            assert provisioner.process.returncode is None
        refused = {(r.user, r.verb, r.resource) for r in server.audit if r.code == 403}
    # The attacher's role knows no Events; they go off with one warning.
    assert refused <= {("attacher", "create", "events")}


NODE_FLAGS = ("--node-deployment", "--strict-topology", "--immediate-topology=false")


@pytest.mark.parametrize(
    ("flags", "owners"),
    [
        pytest.param(
            ["--leader-election", "--capacity-ownerref-level=-1"],
            set(),
            id="central-nobody",
            marks=pytest.mark.parity("T-ROLE-01"),
        ),
        pytest.param(
            ["--leader-election", "--capacity-ownerref-level=0"],
            {"Pod"},
            id="central-pod",
            marks=pytest.mark.parity("T-ROLE-02"),
        ),
        pytest.param(
            ["--leader-election"], {"ReplicaSet"}, id="central-controller", marks=pytest.mark.parity("T-ROLE-03")
        ),
        pytest.param(
            ["--leader-election", "--capacity-ownerref-level=2"],
            {"Deployment"},
            id="central-deployment",
            marks=pytest.mark.parity("T-ROLE-04"),
        ),
        pytest.param(
            [*NODE_FLAGS, "--capacity-ownerref-level=0"],
            {"Pod"},
            id="per-node-pod",
            marks=pytest.mark.parity("T-ROLE-05"),
        ),
        pytest.param(
            [*NODE_FLAGS, "--capacity-ownerref-level=1"],
            {"ReplicaSet"},
            id="per-node-controller",
            marks=pytest.mark.parity("T-ROLE-06"),
        ),
    ],
)
async def test_places_room_snapshots_and_clones_need_no_more_than_the_shipped_roles(
    flags: list[str], owners: set[str], tmp_path: Path
) -> None:
    words = ("--mode=provisioner", "--defaults=upstream", "--kube-api-qps=-1", "--enable-capacity", *flags)
    process = Process(account="csi-provisioner", namespace="csi", words=words)
    roles = write_roles(tmp_path / "roles.json", "csi", {"provisioner": [process.user], "attacher": []})
    world = await live(roles, [process], placed(), tmp_path, secrets=False)
    assert world.refused == []
    assert world.owners == owners
