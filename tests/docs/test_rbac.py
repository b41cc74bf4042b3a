"""The roles that are shipped: enough for a volume's whole life in each mode, and nothing in them that is never used."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from csisidecar import (
    Attacher,
    AttacherSettings,
    HTTPConfig,
    KubeConfig,
    Listener,
    Plugin,
    Provisioner,
    ProvisionerSettings,
    Sidecar,
    SidecarConfig,
)
from csisidecar.clock import SystemClock
from csisidecar.demo.bulk import live_many
from csisidecar.demo.controllers import ControllersOptions
from csisidecar.demo.controllers import serve as serve_controllers
from csisidecar.demo.observer import Observer
from csisidecar.demo.props import CLASS, NODE, WAITING_CLASS, build_claim, build_class, build_pod, ensure_cluster
from csisidecar.kube import KubeClient, connect
from csisidecar.runtime import background
from csisidecar.testing.apiserver import FakeAPIServer
from csisidecar.testing.driver import DriverSettings, FakeDriver
from tests.whole.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

pytestmark = [pytest.mark.whole, pytest.mark.timeout(90)]

RBAC = Path(__file__).parents[2] / "examples" / "deployment" / "rbac.yaml"
NAMESPACE = "csi-hostpath"
PLACE = "topology.csi.demo/place"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:csi-hostpath"
PLUGINS: Mapping[str, type[Attacher | Provisioner]] = {"attacher": Attacher, "provisioner": Provisioner}

WATCHED: Mapping[str, set[str]] = {
    "persistentvolumeclaims": {"provisioner"},
    "persistentvolumes": {"attacher", "provisioner"},
    "storageclasses": {"provisioner"},
    "volumeattachments": {"attacher", "provisioner"},
    "csinodes": {"attacher", "provisioner"},
    "nodes": {"provisioner"},
}
"""Kind → modes that watch it."""

Grant = tuple[str, str, str]
"""Where (a namespace, or empty for the cluster), resource with group, verb."""

RARE: Mapping[tuple[str, Grant], str] = {
    ("csisidecar-attacher", ("", "persistentvolumes", "get")): (
        "reads a volume again whose finalizers changed between our copy and our patch, or that the watch does not show"
    ),
    ("csisidecar-attacher", ("", "volumeattachments.storage.k8s.io", "get")): ("the same for an attachment"),
}
"""What a life without accidents does not need, and why it is granted all the same."""


@dataclass(frozen=True, kw_only=True)
class World:
    """What a run leaves to look at: for each user, what was asked for and what was refused."""

    used: Mapping[str, set[Grant]]
    refused: Sequence[str]


def documents() -> list[dict[str, Any]]:
    return [item for item in yaml.safe_load_all(RBAC.read_text()) if item]


def account_of(mode: str) -> str:
    return f"system:serviceaccount:{NAMESPACE}:{mode}"


def write_one_account_a_mode(path: Path) -> None:
    """The file with an account for each mode: its own role, and the roles of both."""
    items = documents()
    for item in items:
        if item["kind"] in ("ClusterRoleBinding", "RoleBinding"):
            only = item["roleRef"]["name"].removeprefix("csisidecar-")
            item["subjects"] = [
                {"kind": "ServiceAccount", "name": mode, "namespace": NAMESPACE}
                for mode in PLUGINS
                if only == mode or only not in PLUGINS
            ]
    path.write_text(yaml.safe_dump_all(items))


def grants_of(role: Mapping[str, Any]) -> set[Grant]:
    where = role["metadata"].get("namespace", "")
    return {
        (where, f"{plural}.{group}" if group else plural, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for plural in rule["resources"]
        for verb in rule["verbs"]
    }


def as_in_rules(resource: str) -> str:
    """`volumeattachments.storage.k8s.io/status`, as the audit has it, with its group at the end."""
    plural, _, subresource = resource.partition("/")
    name, _, group = plural.partition(".")
    whole = f"{name}/{subresource}" if subresource else name
    return f"{whole}.{group}" if group else whole


async def live(rbac: Path, accounts: Mapping[str, Sequence[str]], tmp_path: Path) -> World:
    """Run a Sidecar for each account, with its modes, through what volumes live through; returns the audit."""
    settings = DriverSettings(
        plugin_capabilities=frozenset({"CONTROLLER_SERVICE", "VOLUME_ACCESSIBILITY_CONSTRAINTS"}),
        topology={PLACE: "here"},
    )
    driver = FakeDriver(
        settings, trouble=["CreateVolume:Internal=first x2", "ControllerPublishVolume:Internal=first x2"]
    )
    name, clock = driver.settings.name, SystemClock()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(FakeAPIServer(rbac=rbac))
        server.objects.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        admin = tmp_path / "admin"
        server.write_kubeconfig(admin, "system:admin")
        session = await stack.enter_async_context(connect(KubeConfig(kubeconfig=str(admin))))
        client = KubeClient(session)
        await ensure_cluster(client, driver=name, nodes={NODE: driver.settings.node_id})
        server.objects.edit("nodes", NODE, lambda it: it["metadata"]["labels"].update({PLACE: "here"}))
        entry = {"name": name, "nodeID": settings.node_id, "topologyKeys": [PLACE]}
        # An entry that is there cannot be changed, only made anew.
        server.objects.edit("csinodes", NODE, lambda it: it["spec"].update(drivers=[]))
        server.objects.edit("csinodes", NODE, lambda it: it["spec"].update(drivers=[entry]))
        secret = {"metadata": {"name": "key", "namespace": "default"}, "apiVersion": "v1", "kind": "Secret"}
        server.objects.create(secret | {"data": {"user": "YWRtaW4="}})
        with_secrets = build_class("with-secrets", name)
        with_secrets["parameters"] = {
            f"csi.storage.k8s.io/{pair}-secret-{part}": value
            for pair in ("provisioner", "controller-publish")
            for part, value in (("name", "key"), ("namespace", "default"))
        }
        server.objects.create(with_secrets)
        endpoint = await stack.enter_async_context(driver.serving(tmp_path / "csi.sock"))
        for kind, watchers in WATCHED.items():
            # An API server without streamed lists, as older ones are: then the verb list is used.
            strikes = sum(not watchers.isdisjoint(modes) for modes in accounts.values())
            server.trouble.add(f"watch:{kind}:error=400x{strikes}")
        sidecars = [await start(stack, server, tmp_path, endpoint, user, modes) for user, modes in accounts.items()]
        async with asyncio.timeout(20):
            while not all(sidecar.health.report().is_ok for sidecar in sidecars):
                await asyncio.sleep(0.02)
        controllers = serve_controllers(ControllersOptions(kubeconfig=str(admin)))
        async with background(controllers, name="controllers"), Observer.opened(client, clock) as observer:
            await live_many(client, observer, count=1, timeout_s=20, storage_class="with-secrets")
            await change_the_node(server, driver)
        await lose_a_volume(server, name)
        for sidecar in sidecars:
            sidecar.stop()
        await asyncio.sleep(0.5)
        records = [record for record in server.audit if record.user in accounts]
        seen: set[str] = {event["reason"] for event in server.objects.list("events")}
        assert {"AttachFailed", "Attached", "ProvisioningFailed", "ProvisioningSucceeded", "LeaderElection"} <= seen
        assert {lease["spec"]["holderIdentity"] for lease in server.objects.list("leases")} == {""}
    used: dict[str, set[Grant]] = defaultdict(set)
    for record in records:
        for where in ("", record.namespace):
            used[record.user].add((where, as_in_rules(record.resource), record.verb))
    refused = [f"{record.user} {record.verb} {record.resource}" for record in records if record.code in (401, 403)]
    return World(used=used, refused=refused)


async def start(
    stack: AsyncExitStack, server: FakeAPIServer, tmp_path: Path, endpoint: str, user: str, modes: Sequence[str]
) -> Sidecar:
    kubeconfig = tmp_path / f"kubeconfig-{'-'.join(modes)}"
    server.write_kubeconfig(kubeconfig, user)
    plugins: list[Plugin] = []
    if "attacher" in modes:
        plugins.append(Attacher(AttacherSettings(retry_interval_start_s=0.1)))
    if "provisioner" in modes:
        plugins.append(Provisioner(ProvisionerSettings(retry_interval_start_s=0.1)))
    config = SidecarConfig(
        csi_endpoint=endpoint,
        kube=KubeConfig(kubeconfig=str(kubeconfig)),
        http=HTTPConfig(listeners=(Listener(address="127.0.0.1:0", flag="http-endpoint"),)),
        own_namespace=NAMESPACE,
    )
    sidecar = Sidecar(config, plugins=plugins)
    await stack.enter_async_context(background(sidecar.run(), name=f"sidecar {modes}"))
    return sidecar


async def change_the_node(server: FakeAPIServer, driver: FakeDriver) -> None:
    """A node without room for a volume: its claim goes back to the scheduler, the one time when a claim is written."""
    driver.trouble.add("CreateVolume:ResourceExhausted=full x1")
    server.objects.create(build_claim("mover", storage_class=WAITING_CLASS))
    server.objects.create(build_pod("mover", "mover"))

    def is_bound() -> bool:
        claim = server.objects.get("persistentvolumeclaims", "mover", "default")
        return claim is not None and claim["status"].get("phase") == "Bound"

    await eventually(is_bound, 20)


async def lose_a_volume(server: FakeAPIServer, driver: str) -> None:
    """A volume that somebody removes before its claim was bound: the one time when claims are read singly."""
    claim = build_claim("loser", storage_class=CLASS)
    claim["metadata"]["annotations"] = {"volume.kubernetes.io/storage-provisioner": driver}
    name = f"pvc-{server.objects.create(claim)['metadata']['uid']}"
    await eventually(lambda: server.objects.get("persistentvolumes", name) is not None, 10)
    await asyncio.sleep(0.2)
    server.objects.edit("persistentvolumes", name, lambda volume: volume["metadata"].pop("finalizers"))
    server.objects.delete("persistentvolumes", name)
    await asyncio.sleep(0.2)
    labels = {"look": "again"}
    server.objects.edit("persistentvolumeclaims", "loser", lambda it: it["metadata"].update(labels=labels), "default")
    await eventually(lambda: any("and is gone" in event["message"] for event in server.objects.list("events")), 10)


@pytest.fixture(scope="module")
def roles() -> dict[str, set[Grant]]:
    """Name of a role → what it grants, in every namespace where it is."""
    found: dict[str, set[Grant]] = defaultdict(set)
    for item in documents():
        if item["kind"] in ("ClusterRole", "Role"):
            found[item["metadata"]["name"]] |= grants_of(item)
    return found


@pytest.mark.parity("R-LEASE-13")
async def test_each_mode_lives_with_its_role_alone_and_needs_all_of_it(
    tmp_path: Path, roles: dict[str, set[Grant]]
) -> None:
    rbac = tmp_path / "rbac.yaml"
    write_one_account_a_mode(rbac)
    world = await live(rbac, {account_of(mode): [mode] for mode in PLUGINS}, tmp_path)
    assert world.refused == []
    unused = {
        (role, grant)
        for role, grants in roles.items()
        for mode in PLUGINS
        if role.removeprefix("csisidecar-") in {mode, "secrets", "leases"}
        for grant in grants - world.used[account_of(mode)]
    }
    assert unused == set(RARE)


async def test_both_modes_in_one_process_live_with_the_file_as_it_is(tmp_path: Path) -> None:
    world = await live(RBAC, {ACCOUNT: list(PLUGINS)}, tmp_path)
    assert world.refused == []
