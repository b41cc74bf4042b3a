"""The provisioner's roles feature by feature: each is enough, with no verb to spare; the Go provisioner's do too."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from csisidecar import KubeConfig, LeaseConfig, ModeConfig, Provisioner, ProvisionerSettings, Sidecar, SidecarConfig
from csisidecar.cli.rbac import Wish, page
from csisidecar.runtime import background
from csisidecar.testing.apiserver import FakeAPIServer
from csisidecar.testing.driver import FakeDriver, MemoryBackend, VolumeRecord
from csisidecar.testing.driver.records import SnapshotRecord
from tests.parity.provisioner_plays import (
    CLONE,
    FOREIGN,
    GRANT,
    RESTORE,
    claim,
    content,
    pair,
    secret,
    settings,
    snapshot,
    storage_class,
    volume,
)
from tests.parity.provisioner_stage import KINDS, NAMESPACE
from tests.whole.processes import eventually
from tests.whole.role_life import Grant, as_in_rules, grants_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

pytestmark = [pytest.mark.whole, pytest.mark.timeout(90)]

Object = dict[str, Any]
USER = "system:serviceaccount:csi:provisioner"

ATTRIBUTES: Object = {
    "kind": "VolumeAttributesClass",
    "metadata": {"name": "silver"},
    "driverName": "csi.test.io",
    "parameters": {"iops": "100"},
}
PLAIN = storage_class()
SOURCE = claim("old", volumeName="pv-old", volumeMode="Filesystem")
SOURCE["status"] = {"phase": "Bound"}
OWNER = {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": NAMESPACE, "name": "old"}


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One feature of the provisioner, by an object that needs it."""

    objects: Sequence[Object]
    role: str = ""
    """What it needs beside the base role."""
    gate: bool = False
    without: tuple[str, ...] = ("CREATE_DELETE_SNAPSHOT",)
    """Capabilities that the driver lacks; with snapshots, those left protected are looked for, which needs a role."""


BASE = ("csisidecar-provisioner", "csisidecar-attached")
LIBRARY = {"kube-public": {"name": "snap", "namespace": "kube-public"}}
FEATURES: Mapping[str, Feature] = {
    "nothing": Feature(objects=(PLAIN, claim())),
    "secret": Feature(
        objects=(secret("creds"), storage_class(parameters=pair("provisioner-", "creds")), claim()),
        role="csisidecar-secrets",
    ),
    "restore": Feature(
        objects=(snapshot(), content(), PLAIN, claim(**RESTORE)), role="csisidecar-snapshots", without=()
    ),
    "clone": Feature(
        objects=(PLAIN, volume("pv-old", phase="Bound", spec={"claimRef": OWNER}), SOURCE, claim(**CLONE)),
        role="csisidecar-claims",
    ),
    "attributes": Feature(
        objects=(ATTRIBUTES, PLAIN, claim(volumeAttributesClassName="silver")), role="csisidecar-attributes"
    ),
    "another namespace": Feature(
        objects=(
            {**snapshot(), "metadata": LIBRARY["kube-public"]},
            content(volumeSnapshotRef=LIBRARY["kube-public"]),
            GRANT,
            PLAIN,
            claim(**FOREIGN),
        ),
        role="csisidecar-grants",
        gate=True,
        without=(),
    ),
}

UPSTREAM = """
persistentvolumes: get list watch create patch delete
persistentvolumeclaims: get list watch update
storageclasses.storage.k8s.io: get list watch
events: list watch create update patch
csinodes.storage.k8s.io: get list watch
nodes: get list watch
volumeattachments.storage.k8s.io: get list watch
volumesnapshots.snapshot.storage.k8s.io: get list watch update
volumesnapshotcontents.snapshot.storage.k8s.io: get list
secrets: get list
referencegrants.gateway.networking.k8s.io: get list watch
"""
"""What kubernetes-csi/external-provisioner ships in `deploy/kubernetes/rbac.yaml`; it lacks VolumeAttributesClasses."""


def upstreams_role() -> Object:
    rules = []
    for line in UPSTREAM.split("\n"):
        resource, _, verbs = line.partition(": ")
        plural, _, group = resource.partition(".")
        if plural:
            rules.append({"apiGroups": [group], "resources": [plural], "verbs": verbs.split()})
    return {"kind": "ClusterRole", "metadata": {"name": "upstream"}, "rules": rules}


def shipped(name: str) -> Object:
    """The role as `csisidecar rbac` prints it."""
    words = ("--mode=provisioner", "--feature-gates=CrossNamespaceVolumeDataSource=true")
    items = yaml.safe_load_all(page(Wish(account="csisidecar", words=words)))
    return next(item for item in items if item["kind"] == "ClusterRole" and item["metadata"]["name"] == name)


def write_roles(path: Path, roles: Sequence[Object]) -> None:
    items: list[Object] = []
    for role in roles:
        name = role["metadata"]["name"]
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
        subject = {"kind": "ServiceAccount", "name": "provisioner", "namespace": "csi"}
        binding = {"kind": "ClusterRoleBinding", "metadata": {"name": name}, "subjects": [subject]}
        items += [role, {**binding, "roleRef": reference}]
    path.write_text(yaml.safe_dump_all([{"apiVersion": "rbac.authorization.k8s.io/v1", **item} for item in items]))


async def live(feature: Feature, roles: Sequence[Object], folder: Path) -> tuple[set[Grant], list[str]]:
    """Provision once for the feature with these roles; what was used, what was refused."""
    write_roles(folder / "rbac.yaml", roles)
    backend = MemoryBackend()
    await backend.save(VolumeRecord(id="vol-old", name="old", capacity_bytes=1 << 20, block=False))
    await backend.save(
        SnapshotRecord(
            id="snap-1", name="snap", source_volume_id="vol-old", size_bytes=1 << 20, block=False, created_s=0.0
        )
    )
    driver = FakeDriver(settings(without=feature.without), backend=backend)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(FakeAPIServer(rbac=folder / "rbac.yaml"))
        put(server, feature.objects)
        # An API server without streamed lists, as older ones are: then the verb list is used.
        server.trouble.add("watch:referencegrants:error=400x1")
        kubeconfig = folder / "kubeconfig"
        server.write_kubeconfig(kubeconfig, USER)
        endpoint = await stack.enter_async_context(driver.serving(folder / "csi.sock"))
        config = SidecarConfig(
            csi_endpoint=endpoint,
            kube=KubeConfig(kubeconfig=str(kubeconfig)),
            modes={"provisioner": ModeConfig(lease=LeaseConfig(enabled=False))},
        )
        plugin = Provisioner(
            ProvisionerSettings(cross_namespace_data_source=feature.gate, snapshot_orphan_sweep_interval_s=0.3)
        )
        sidecar = Sidecar(config, plugins=[plugin])
        async with background(sidecar.run(), name="sidecar"):
            try:
                await eventually(
                    lambda: any(is_for_data(item) for item in server.objects.list("persistentvolumes")), 10
                )
            except AssertionError:
                pytest.fail(str([event["message"] for event in server.objects.list("events")]))
            await asyncio.sleep(0.5)
        records = [record for record in server.audit if record.user == USER]
    refused = [f"{record.verb} {record.resource}" for record in records if record.code in (401, 403)]
    return {("", as_in_rules(record.resource), record.verb) for record in records}, refused


def put(server: FakeAPIServer, objects: Sequence[Object]) -> None:
    made: dict[str, Object] = {}
    for given in objects:
        resource = KINDS[given["kind"]]
        meta = dict(given["metadata"])
        if resource.namespaced:
            meta.setdefault("namespace", NAMESPACE)
        obj = {"apiVersion": resource.api_version, **given, "metadata": meta}
        reference = obj.get("spec", {}).get("volumeSnapshotRef")
        if reference:
            uid = made["VolumeSnapshot"]["metadata"]["uid"]
            obj["spec"] = {**obj["spec"], "volumeSnapshotRef": {**reference, "uid": uid}}
        if obj["kind"] == "PersistentVolumeClaim" and meta["name"] == "old":
            meta["uid"] = "old-uid"
        if "claimRef" in obj.get("spec", {}):
            obj["spec"] = {**obj["spec"], "claimRef": {**obj["spec"]["claimRef"], "uid": "old-uid"}}
        server.objects.load([obj])
        found = server.objects.get(resource.plural, meta["name"], meta.get("namespace", ""))
        assert found is not None
        made[obj["kind"]] = found


def is_for_data(volume: Object) -> bool:
    return bool(volume["spec"].get("claimRef", {}).get("name") == "data")


@pytest.mark.parametrize("name", list(FEATURES))
async def test_each_feature_lives_with_its_role_and_needs_all_of_it(name: str, tmp_path: Path) -> None:
    feature = FEATURES[name]
    names = {*BASE, *([feature.role] if feature.role else [])}
    if name == "another namespace":
        names.add("csisidecar-snapshots")
    used, refused = await live(feature, [shipped(each) for each in sorted(names)], tmp_path)
    assert refused == []
    if feature.role:
        assert grants_of(shipped(feature.role)) <= used


@pytest.mark.parametrize("name", [name for name in FEATURES if name != "attributes"])
async def test_the_go_provisioners_role_is_enough_for_every_feature_but_attributes(name: str, tmp_path: Path) -> None:
    _, refused = await live(FEATURES[name], [upstreams_role()], tmp_path)
    assert refused == []
