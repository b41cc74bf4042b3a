"""A life that uses every verb of the shipped roles: processes with the flags of `csisidecar run`, each its own user.

What happens depends on the flags and on what the driver declares: attaching, restores, clones, published room. The
tests compare what was asked for with what was granted.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from csisidecar import Sidecar
from csisidecar.cli.build import Surroundings, build, running_modes
from csisidecar.cli.values import Values, read
from csisidecar.demo.controllers import ControllersOptions
from csisidecar.demo.controllers import serve as serve_controllers
from csisidecar.demo.props import CLASS, NODE, WAITING_CLASS, build_claim, build_class, build_csi_driver, build_pod
from csisidecar.runtime import background
from csisidecar.testing.apiserver import FakeAPIServer
from csisidecar.testing.driver import ALL_CONTROLLER, DriverSettings, FakeDriver, MemoryBackend, VolumeRecord
from csisidecar.testing.driver.records import SnapshotRecord
from tests.parity.provisioner_plays import content, snapshot
from tests.whole.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PLACE = "topology.csi.demo/place"
POD = "ours-0"
SECRET_CLASS = "with-secrets"
WATCHED = (
    "persistentvolumeclaims",
    "persistentvolumes",
    "storageclasses",
    "volumeattachments",
    "csinodes",
    "nodes",
    "csistoragecapacities",
)

Grant = tuple[str, str, str]
"""Where (a namespace, or empty for the cluster), resource with group, verb."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """One Sidecar: its user and its flags."""

    account: str
    namespace: str
    words: tuple[str, ...]

    @property
    def user(self) -> str:
        """As the audit has it."""
        return f"system:serviceaccount:{self.namespace}:{self.account}"

    def has(self, text: str) -> bool:
        """Whether its flags say so."""
        return any(text in word for word in self.words)


@dataclass(frozen=True, kw_only=True)
class World:
    """What a run leaves to look at.

    Attributes:
        used: user → what was asked for.
        refused: requests that were refused, by anyone.
        owners: kinds that own published room.
        events: reasons of Events.
    """

    used: Mapping[str, set[Grant]]
    refused: Sequence[str]
    owners: set[str] = field(default_factory=set)
    events: set[str] = field(default_factory=set)


def roles_in(text: str) -> dict[str, set[Grant]]:
    """Name of a role in a manifest → what it grants, in every namespace where it is."""
    found: dict[str, set[Grant]] = defaultdict(set)
    for item in yaml.safe_load_all(text):
        if item["kind"] in ("ClusterRole", "Role"):
            found[item["metadata"]["name"]] |= grants_of(item)
    return found


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


def placed(without: tuple[str, ...] = (), *, name: str = "hostpath.csi.k8s.io", has_places: bool = True) -> FakeDriver:
    """A driver that fails twice at first, with a snapshot and a volume from before; `without` are capabilities."""
    plugin = {"CONTROLLER_SERVICE", "VOLUME_ACCESSIBILITY_CONSTRAINTS"} if has_places else {"CONTROLLER_SERVICE"}
    settings = DriverSettings(
        name=name,
        plugin_capabilities=frozenset(plugin),
        controller_capabilities=ALL_CONTROLLER - set(without),
        topology={PLACE: "here"} if has_places else {},
    )
    trouble = ["CreateVolume:Internal=first x2", "ControllerPublishVolume:Internal=first x2"]
    return FakeDriver(settings, backend=MemoryBackend(), trouble=trouble)


async def live(rbac: Path, processes: Sequence[Process], driver: FakeDriver, tmp_path: Path, *, secrets: bool) -> World:
    """Let the processes live with these roles through all that their flags and the driver can do."""
    await driver.backend.save(VolumeRecord(id="vol-old", name="old", capacity_bytes=1 << 20, block=False))
    await driver.backend.save(
        SnapshotRecord(
            id="snap-1", name="snap", source_volume_id="vol-old", size_bytes=1 << 20, block=False, created_s=0.0
        )
    )
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(FakeAPIServer(rbac=rbac))
        furnish(server, driver, {process.namespace for process in processes})
        endpoint = await stack.enter_async_context(driver.serving(tmp_path / "csi.sock"))
        for kind in WATCHED:
            # An API server without streamed lists, as older ones are: then the verb list is used.
            server.trouble.add(f"watch:{kind}:error=400x{sum(watches(kind, each) for each in processes)}")
        sidecars = [await start(stack, server, tmp_path, endpoint, process) for process in processes]
        async with asyncio.timeout(20):
            while not all(sidecar.health.report().is_ok for sidecar in sidecars):
                await asyncio.sleep(0.02)
        owners = await publish(server) if any(each.has("--enable-capacity") for each in processes) else set()
        server.write_kubeconfig(tmp_path / "admin", "system:admin")
        controllers = serve_controllers(ControllersOptions(kubeconfig=str(tmp_path / "admin")))
        async with background(controllers, name="controllers"):
            attaches = any(each.has("attacher") for each in processes)
            await one_life(server, SECRET_CLASS if secrets else CLASS, attaches=attaches)
            if driver.settings.topology:
                await change_the_node(server, driver)
            if "CLONE_VOLUME" in driver.settings.controller_capabilities:
                await clone(server)
            if "CREATE_DELETE_SNAPSHOT" in driver.settings.controller_capabilities:
                await restore(server, driver.settings.name)
        await lose_a_volume(server, driver.settings.name)
        for sidecar in sidecars:
            sidecar.stop()
        await asyncio.sleep(0.5)
        users = {process.user for process in processes}
        records = [record for record in server.audit if record.user in users]
        events = {event["reason"] for event in server.objects.list("events")}
        assert {lease["spec"]["holderIdentity"] for lease in server.objects.list("leases")} <= {""}
    used: dict[str, set[Grant]] = defaultdict(set)
    for record in records:
        for where in ("", record.namespace):
            used[record.user].add((where, as_in_rules(record.resource), record.verb))
    refused = [f"{record.user} {record.verb} {record.resource}" for record in records if record.code in (401, 403)]
    return World(used=used, refused=refused, owners=owners, events=events)


def watches(kind: str, process: Process) -> bool:
    provisions = process.has("provisioner")
    if kind == "csistoragecapacities":
        return process.has("--enable-capacity")
    if kind == "nodes":
        return provisions and not process.has("--node-deployment")
    if kind == "csinodes":
        return not process.has("--node-deployment")
    return provisions or kind in {"persistentvolumes", "volumeattachments"}


def furnish(server: FakeAPIServer, driver: FakeDriver, namespaces: set[str]) -> None:
    """A node with the driver, classes, a Secret; in each namespace the Pod of a Deployment."""
    add, name = server.objects.create, driver.settings.name
    for namespace in sorted(namespaces):
        add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    labels = {"kubernetes.io/hostname": NODE, PLACE: "here"}
    add({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": labels}})
    entry = {"name": name, "nodeID": driver.settings.node_id, "topologyKeys": [*driver.settings.topology]}
    node = {"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": NODE}}
    add({**node, "spec": {"drivers": [entry]}})
    info = build_csi_driver(name)
    info["spec"]["attachRequired"] = "PUBLISH_UNPUBLISH_VOLUME" in driver.settings.controller_capabilities
    add(info)
    add(build_class(CLASS, name))
    add(build_class(WAITING_CLASS, name, mode="WaitForFirstConsumer"))
    with_secrets = build_class(SECRET_CLASS, name)
    with_secrets["parameters"] = {
        f"csi.storage.k8s.io/{pair}-secret-{part}": value
        for pair in ("provisioner", "controller-publish")
        for part, value in (("name", "key"), ("namespace", "default"))
    }
    add(with_secrets)
    secret = {"metadata": {"name": "key", "namespace": "default"}, "apiVersion": "v1", "kind": "Secret"}
    add(secret | {"data": {"user": "YWRtaW4="}})
    for namespace in sorted(namespaces):
        owner: dict[str, Any] = {}
        for kind, version in (("Deployment", "apps/v1"), ("ReplicaSet", "apps/v1"), ("Pod", "v1")):
            meta = {"name": POD, "namespace": namespace, **owner}
            made = add({"apiVersion": version, "kind": kind, "metadata": meta, "spec": _spec_of(kind)})
            above = {"apiVersion": version, "kind": kind, "name": POD, "uid": made["metadata"]["uid"]}
            owner = {"ownerReferences": [{**above, "controller": True}]}


def _spec_of(kind: str) -> dict[str, Any]:
    pod = {"containers": [{"name": "main", "image": "none"}]}
    if kind == "Pod":
        return pod
    labels = {"app": "ours"}
    return {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}


async def start(
    stack: AsyncExitStack, server: FakeAPIServer, tmp_path: Path, endpoint: str, process: Process
) -> Sidecar:
    """A Sidecar as `csisidecar run` makes it from the flags; the last of repeated flags wins."""
    kubeconfig = tmp_path / f"kubeconfig-{process.account}"
    server.write_kubeconfig(kubeconfig, process.user)
    more = [f"--csi-address={endpoint}", f"--kubeconfig={kubeconfig}", "--http-endpoint=127.0.0.1:0"]
    more += ["--retry-interval-start=100ms"]
    if process.has("provisioner"):
        more += ["--snapshot-orphan-sweep-interval=1s", "--kube-api-capacity-qps=-1", "--capacity-poll-interval=1s"]
    if process.has("--node-deployment"):
        more += ["--node-deployment-base-delay=200ms"]
    values = Values(given=read([*process.words, *more]).values)
    env = {"POD_NAMESPACE": process.namespace, "NAMESPACE": process.namespace, "POD_NAME": POD, "NODE_NAME": NODE}
    launch = build(values, running_modes(values), Surroundings(env=env))
    sidecar = Sidecar(launch.config, plugins=launch.plugins())
    await stack.enter_async_context(background(sidecar.run(), name=f"sidecar {process.account}"))
    return sidecar


# ---- what happens


async def publish(server: FakeAPIServer) -> set[str]:
    """Room is published, changed by a stranger and put right, and goes with its class; the kinds that own it."""

    def rooms(storage_class: str) -> list[dict[str, Any]]:
        found = server.objects.list("csistoragecapacities")
        return [room for room in found if room["storageClassName"] == storage_class]

    await eventually(lambda: len(rooms(WAITING_CLASS)) == 1, 10)
    (room,) = rooms(WAITING_CLASS)
    meta, capacity = room["metadata"], room["capacity"]
    server.objects.edit("csistoragecapacities", meta["name"], lambda it: it.update(capacity="7"), meta["namespace"])
    await eventually(lambda: [each["capacity"] for each in rooms(WAITING_CLASS)] == [capacity], 10)
    driver = server.objects.list("csidrivers")[0]["metadata"]["name"]
    server.objects.create(build_class("short", driver, mode="WaitForFirstConsumer"))
    await eventually(lambda: len(rooms("short")) == 1, 10)
    server.objects.delete("storageclasses", "short")
    await eventually(lambda: not rooms("short"), 10)
    return {reference["kind"] for reference in meta.get("ownerReferences", ())}


def bound(server: FakeAPIServer, name: str) -> bool:
    claim = server.objects.get("persistentvolumeclaims", name, "default")
    return claim is not None and claim["status"].get("phase") == "Bound"


async def one_life(server: FakeAPIServer, storage_class: str, *, attaches: bool) -> None:
    """A claim is bound, used, and deleted, and its volume too."""
    server.objects.create(build_claim("life", storage_class=storage_class))
    await eventually(lambda: bound(server, "life"), 20)
    server.objects.create(build_pod("life", "life"))
    if attaches:
        await eventually(
            lambda: [each["status"]["attached"] for each in server.objects.list("volumeattachments")] == [True], 20
        )
    server.objects.delete("pods", "life", "default")
    await eventually(lambda: server.objects.count("volumeattachments") == 0, 20)
    server.objects.delete("persistentvolumeclaims", "life", "default")
    await eventually(lambda: server.objects.count("persistentvolumes") == 0, 20)


async def change_the_node(server: FakeAPIServer, driver: FakeDriver) -> None:
    """A node without room for a volume: its claim goes back to the scheduler."""
    driver.trouble.add("CreateVolume:ResourceExhausted=full x1")
    server.objects.create(build_claim("mover", storage_class=WAITING_CLASS))
    server.objects.create(build_pod("mover", "mover"))
    await eventually(lambda: bound(server, "mover"), 20)


async def clone(server: FakeAPIServer) -> None:
    """A claim is filled from another one."""
    server.objects.create(build_claim("model", size="1Mi"))
    await eventually(lambda: bound(server, "model"), 20)
    body = build_claim("copy", size="1Mi")
    body["spec"]["dataSource"] = {"kind": "PersistentVolumeClaim", "name": "model"}
    server.objects.create(body)
    await eventually(lambda: bound(server, "copy"), 20)


async def restore(server: FakeAPIServer, driver: str) -> None:
    """A claim is filled from a snapshot, and somebody's left-over finalizer is found on another one."""
    version = "snapshot.storage.k8s.io/v1"
    taken = {**snapshot(), "apiVersion": version}
    taken["metadata"] = {**taken["metadata"], "namespace": "default"}
    server.objects.load([taken])
    found = server.objects.get("volumesnapshots", "snap", "default")
    assert found is not None
    reference = {"name": "snap", "namespace": "default", "uid": found["metadata"]["uid"]}
    server.objects.load([{**content(driver=driver, volumeSnapshotRef=reference), "apiVersion": version}])
    body = build_claim("restored", size="1Mi")
    source = {"kind": "VolumeSnapshot", "apiGroup": "snapshot.storage.k8s.io", "name": "snap"}
    body["spec"]["dataSource"] = source
    server.objects.create(body)
    await eventually(lambda: bound(server, "restored"), 20)
    await asyncio.sleep(1.2)  # longer than the interval of the sweep


async def lose_a_volume(server: FakeAPIServer, driver: str) -> None:
    """A volume that somebody removes before its claim was bound: claim and volume are read singly."""
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
