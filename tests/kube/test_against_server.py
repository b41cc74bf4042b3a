"""The client and a lease against the embedded API server, over TLS on a real socket. Short."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from csisidecar.clock import SystemClock
from csisidecar.config import KubeConfig, LeaseConfig
from csisidecar.errors import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    KubeError,
    NotFoundError,
    ThrottledError,
    UnreachableError,
)
from csisidecar.kube import (
    LEASES,
    PERSISTENT_VOLUMES,
    SECRETS,
    KubeClient,
    Write,
    add_finalizer,
    connect,
    remove_finalizer,
)
from csisidecar.runtime.lease import LeaderElector
from csisidecar.testing.apiserver import FakeAPIServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MINE = "external-attacher/csi-test-io"


def volume(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "csi": {"driver": "csi.test.io", "volumeHandle": name},
        },
    }


@asynccontextmanager
async def connected(server: FakeAPIServer, where: Path, user: str = "") -> AsyncIterator[KubeClient]:
    path = where / f"kubeconfig-{user}"
    server.write_kubeconfig(path, user)
    async with connect(KubeConfig(kubeconfig=str(path), user_agent="csi-attacher/1", request_timeout_s=2)) as session:
        yield KubeClient(session, request_timeout_s=2)


async def test_life_of_an_object_over_tls(tmp_path: Path) -> None:
    seen: list[Write] = []
    async with FakeAPIServer(tls=True, token="secret") as server, connected(server, tmp_path) as plain:
        client = plain.derive(on_write=seen.append)
        created = await client.create(PERSISTENT_VOLUMES, volume("pv"))
        with pytest.raises(AlreadyExistsError):
            await client.create(PERSISTENT_VOLUMES, volume("pv"))
        finalizers = created["metadata"].get("finalizers")
        patched = await client.patch(PERSISTENT_VOLUMES, "pv", add_finalizer(finalizers, MINE))
        assert MINE in patched["metadata"]["finalizers"]
        with pytest.raises(KubeError) as caught:
            await client.patch(PERSISTENT_VOLUMES, "pv", add_finalizer(finalizers, MINE))
        assert caught.value.status == 422
        with pytest.raises(ConflictError):
            await client.update(PERSISTENT_VOLUMES, created)
        with pytest.raises(ConflictError):
            await client.delete(PERSISTENT_VOLUMES, "pv", uid="another")
        await client.delete(PERSISTENT_VOLUMES, "pv", uid=created["metadata"]["uid"])
        now = await client.get(PERSISTENT_VOLUMES, "pv")
        for name in now["metadata"]["finalizers"]:
            now = await client.patch(
                PERSISTENT_VOLUMES, "pv", remove_finalizer(now["metadata"].get("finalizers"), name)
            )
        with pytest.raises(NotFoundError, match="pv"):
            await client.get(PERSISTENT_VOLUMES, "pv")
    assert [write.removed for write in seen][-1]
    assert not any(write.removed for write in seen[:-1])
    assert {write.uid for write in seen} == {created["metadata"]["uid"]}


async def test_first_finalizer_of_an_object_without_any_is_guarded_too(tmp_path: Path) -> None:
    async with FakeAPIServer() as server, connected(server, tmp_path) as client:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
        created = await client.create(SECRETS, secret, namespace="default")
        patch = add_finalizer(created["metadata"].get("finalizers"), "example.com/x")
        await client.patch(SECRETS, "s", patch, namespace="default")
        with pytest.raises((InvalidError, ConflictError)):
            await client.patch(SECRETS, "s", patch, namespace="default")


async def test_list_and_watch_tell_the_same_story(tmp_path: Path) -> None:
    async with FakeAPIServer() as server, connected(server, tmp_path) as client:
        for name in ("a", "b", "c"):
            await client.create(PERSISTENT_VOLUMES, volume(name))
        first = msgspec.json.decode(await client.list_page(PERSISTENT_VOLUMES, limit=2))
        token, version = first["metadata"]["continue"], first["metadata"]["resourceVersion"]
        second = msgspec.json.decode(await client.list_page(PERSISTENT_VOLUMES, limit=2, continue_token=token))
        assert [item["metadata"]["name"] for item in first["items"] + second["items"]] == ["a", "b", "c"]
        await client.create(PERSISTENT_VOLUMES, volume("d"))
        async with client.watch(PERSISTENT_VOLUMES, resource_version=version, idle_timeout_s=5) as lines:
            event = msgspec.json.decode(await anext(lines))
        assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "d")
        server.compact()
        with pytest.raises(GoneError):
            async with client.watch(PERSISTENT_VOLUMES, resource_version="1", idle_timeout_s=5) as lines:
                raise_if_gone(await anext(lines))


def raise_if_gone(line: bytes) -> None:
    """410 comes as a status or as an ERROR event; both are in order."""
    event = msgspec.json.decode(line)
    if event["type"] == "ERROR" and event["object"]["code"] == 410:
        raise GoneError(event["object"]["message"])


@pytest.mark.parametrize(
    ("order", "kind"),
    [
        ("get:persistentvolumes:throttle=3", ThrottledError),
        ("get:persistentvolumes:drop", UnreachableError),
        ("get:persistentvolumes:halfopen", UnreachableError),
        ("get:persistentvolumes:error=500", KubeError),
    ],
)
async def test_troubles_of_the_way_become_their_errors(tmp_path: Path, order: str, kind: type[KubeError]) -> None:
    async with FakeAPIServer(trouble=[order]) as server, connected(server, tmp_path) as client:
        with pytest.raises(KubeError) as caught:
            await client.get(PERSISTENT_VOLUMES, "pv")
        assert type(caught.value) is kind
        assert caught.value.resource == "persistentvolumes"
        if kind is ThrottledError:
            assert caught.value.retry_after_s == 3


async def test_wrong_token_is_said_clearly(tmp_path: Path) -> None:
    async with FakeAPIServer(token="right") as server:
        path = tmp_path / "kubeconfig"
        server.write_kubeconfig(path)
        path.write_text(path.read_text().replace("right", "wrong"))
        async with connect(KubeConfig(kubeconfig=str(path))) as session:
            with pytest.raises(KubeError, match="does not accept our credentials"):
                await KubeClient(session).get(PERSISTENT_VOLUMES, "pv")


def elector(client: KubeClient, identity: str, *namespaces: str) -> LeaderElector:
    config = LeaseConfig(lease_duration_s=2, renew_deadline_s=1.2, retry_period_s=0.2, labels={"team": "storage"})
    return LeaderElector(
        client, name="csi-test-io", namespaces=namespaces, identity=identity, config=config, clock=SystemClock()
    )


async def test_lease_passes_from_one_candidate_to_the_next(tmp_path: Path) -> None:
    async with FakeAPIServer() as server, connected(server, tmp_path) as client, asyncio.TaskGroup() as group:
        one = elector(client, "pod-1", "kube-system", "default")
        two = elector(client, "pod-2", "default")
        await one.campaign()
        hold = group.create_task(one.hold())
        wait = group.create_task(two.campaign())
        await asyncio.sleep(1)
        assert (one.is_leading, two.is_leading) == (True, False)
        assert "pod-1" in two.status
        hold.cancel()
        await asyncio.wait({hold})
        await one.release()
        await asyncio.wait_for(wait, 5)
        lease = await client.get(LEASES, "csi-test-io", namespace="default")
        assert (lease["spec"]["holderIdentity"], lease["spec"]["leaseTransitions"]) == ("pod-2", 1)
        assert lease["metadata"]["labels"] == {"team": "storage"}
        await two.release()


async def test_missing_rights_name_the_rule_of_the_lease(tmp_path: Path) -> None:
    rules = tmp_path / "rbac.yaml"
    rules.write_text(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: r}\n"
        "rules: [{apiGroups: [''], resources: [nodes], verbs: [get]}]\n---\n"
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: b}\n"
        "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: r}\n"
        "subjects: [{kind: ServiceAccount, name: sa, namespace: default}]\n"
    )
    async with FakeAPIServer(rbac=rules) as server, connected(server, tmp_path) as client:
        with pytest.raises(ForbiddenError):
            await client.get(LEASES, "csi-test-io", namespace="kube-system")
        me = elector(client, "pod-1", "kube-system")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await me.campaign()
        assert 'resources: ["leases"], verbs: ["get", "create", "update"]' in me.problem
