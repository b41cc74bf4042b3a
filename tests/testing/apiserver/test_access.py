"""Tokens, roles, reviews, audit lines, kubeconfigs and how the server introduces itself."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import stat
from typing import TYPE_CHECKING

import aiohttp
import pytest

from csisidecar.clock import SystemClock
from csisidecar.errors import ConfigError
from csisidecar.testing.apiserver import FakeAPIServer, KindSpec, ServerOptions, serve
from csisidecar.testing.apiserver.certificates import self_signed
from tests.testing.apiserver.conftest import CORE, STORAGE, Client, attachment, claim, volume

if TYPE_CHECKING:
    from pathlib import Path


PVS = f"{CORE}/persistentvolumes"
VAS = f"{STORAGE}/volumeattachments"
ROLES = """
kind: ClusterRole
apiVersion: rbac.authorization.k8s.io/v1
metadata: {name: attacher}
rules:
- {apiGroups: [""], resources: [persistentvolumes], verbs: [get, list, watch, patch]}
- {apiGroups: [storage.k8s.io], resources: [volumeattachments/status], verbs: [patch]}
---
kind: Role
apiVersion: rbac.authorization.k8s.io/v1
metadata: {name: leases, namespace: kube-system}
rules:
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: ["*"], resourceNames: [mine]}
---
kind: ClusterRoleBinding
apiVersion: rbac.authorization.k8s.io/v1
metadata: {name: attacher}
roleRef: {kind: ClusterRole, name: attacher, apiGroup: rbac.authorization.k8s.io}
subjects: [{kind: ServiceAccount, name: csi, namespace: default}]
---
kind: RoleBinding
apiVersion: rbac.authorization.k8s.io/v1
metadata: {name: leases, namespace: kube-system}
roleRef: {kind: Role, name: leases, apiGroup: rbac.authorization.k8s.io}
subjects: [{kind: ServiceAccount, name: csi, namespace: default}]
"""
USER = "system:serviceaccount:default:csi"


def entries(folder: Path) -> list[str]:
    return [item.name for item in folder.iterdir()]


def is_there(file: Path) -> bool:
    return file.exists()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_token_is_required(session: aiohttp.ClientSession) -> None:
    async with FakeAPIServer(token="secret") as api:
        client = Client(api.url, session)
        assert (await client.get(PVS)).status == 401
        assert (await client.request("GET", PVS, headers=bearer("wrong"))).status == 401
        assert (await client.request("GET", PVS, headers=bearer("secret"))).status == 200
        assert (await client.get("/readyz")).text == "ok"


async def test_roles_are_enforced_and_the_missing_rule_is_named(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    file = tmp_path / "rbac.yaml"
    file.write_text(ROLES)
    async with FakeAPIServer(rbac=file) as api:
        client = Client(api.url, session)
        me = bearer(USER)
        assert (await client.request("GET", PVS, headers=me)).status == 200
        answer = await client.request("POST", PVS, volume(), headers=me)
        assert answer.status == 403
        assert answer["message"] == (
            f'persistentvolumes is forbidden: User "{USER}" cannot create resource "persistentvolumes" in API group '
            '"" at the cluster scope'
        )
        api.objects.create(attachment())
        answer = await client.request(
            "PATCH", f"{VAS}/va-1", {}, content_type="application/merge-patch+json", headers=me
        )
        assert answer["message"] == (
            f'volumeattachments.storage.k8s.io "va-1" is forbidden: User "{USER}" cannot patch resource '
            '"volumeattachments" in API group "storage.k8s.io" at the cluster scope'
        )
        status = f"{VAS}/va-1/status"
        assert (
            await client.request("PATCH", status, {}, content_type="application/merge-patch+json", headers=me)
        ).status == 200
        leases = "/apis/coordination.k8s.io/v1/namespaces"
        assert (await client.request("GET", f"{leases}/kube-system/leases/mine", headers=me)).status == 404
        assert (await client.request("GET", f"{leases}/kube-system/leases/other", headers=me)).status == 403
        assert (await client.request("GET", f"{leases}/default/leases/mine", headers=me)).status == 403
        assert (await client.request("GET", "/api", headers=me)).status == 200
        assert (await client.get(PVS)).status == 403
        config = api.kubeconfig()
        assert config["current-context"] == USER
        tokens = {user["name"]: user["user"]["token"] for user in config["users"]}
        assert (await client.request("POST", PVS, volume(), headers=bearer(tokens["admin"]))).status == 201


async def test_access_reviews_answer_for_the_asking_user(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    file = tmp_path / "rbac.yaml"
    file.write_text(ROLES)
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

    async def allowed(client: Client, **attributes: str) -> bool:
        body = {"spec": {"resourceAttributes": attributes}}
        answer = await client.request("POST", path, body, headers=bearer(USER))
        assert answer.status == 201
        found: bool = answer["status"]["allowed"]
        return found

    async with FakeAPIServer(rbac=file) as api:
        client = Client(api.url, session)
        assert await allowed(client, verb="patch", resource="persistentvolumes")
        assert not await allowed(client, verb="delete", resource="persistentvolumes")
        status = {"group": "storage.k8s.io", "resource": "volumeattachments", "subresource": "status"}
        assert await allowed(client, verb="patch", **status)
        assert not await allowed(client, verb="patch", group="storage.k8s.io", resource="volumeattachments")
        rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
        answer = await client.request("POST", rules, {"spec": {"namespace": "kube-system"}}, headers=bearer(USER))
        assert len(answer["status"]["resourceRules"]) == 3


async def test_everything_is_allowed_without_roles(client: Client) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    answer = await client.post(path, {"spec": {"resourceAttributes": {"verb": "delete", "resource": "nodes"}}})
    assert answer["status"]["allowed"] is True
    assert (await client.post(path, {"spec": {}})).status == 422


@pytest.mark.parametrize(
    "text", ["[", "kind: Pod", "- 1", "kind: ClusterRoleBinding\nroleRef: {kind: ClusterRole, name: x}"]
)
async def test_unusable_role_files_are_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "rbac.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="--rbac"):
        async with FakeAPIServer(rbac=file):
            pass


async def test_every_request_is_audited(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    file = tmp_path / "audit.jsonl"
    async with FakeAPIServer(audit=file) as api:
        client = Client(api.url, session)
        await client.post(VAS, attachment())
        await client.request(
            "PATCH",
            f"{VAS}/va-1/status",
            {"status": {"attached": True}},
            content_type="application/merge-patch+json",
            headers={"User-Agent": "tester/1"},
        )
        await client.get(f"{PVS}/none")
        async with client.watch(VAS, resourceVersion=api.store.revision):
            assert [record.watch for record in api.audit][-1]
        patch = api.audit.of("volumeattachments.storage.k8s.io/status")[0]
        assert (patch.verb, patch.name, patch.code) == ("patch", "va-1", 200)
        assert patch.user_agent == "tester/1"
        assert patch.body == {"status": {"attached": True}}
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["verb"], line["resource"], line["code"]) for line in lines] == [
        ("create", "volumeattachments.storage.k8s.io", 201),
        ("patch", "volumeattachments.storage.k8s.io/status", 200),
        ("get", "persistentvolumes", 404),
        ("watch", "volumeattachments.storage.k8s.io", 200),
    ]


async def test_kubeconfig_appears_whole_and_private(api: FakeAPIServer, tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    api.write_kubeconfig(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    config = json.loads(file.read_text())
    assert config["clusters"][0]["cluster"]["server"] == api.url
    assert entries(tmp_path) == ["kubeconfig"]


async def test_serve_writes_the_kubeconfig_once_it_answers(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    file = tmp_path / "kubeconfig"
    async with asyncio.TaskGroup() as group:
        task = group.create_task(serve(ServerOptions(kubeconfig_out=file)))
        while not file.exists():
            await asyncio.sleep(0.01)
        url = json.loads(file.read_text())["clusters"][0]["cluster"]["server"]
        assert (await Client(url, session).get("/readyz")).text == "ok"
        task.cancel()


async def test_tls_with_a_certificate_of_its_own(session: aiohttp.ClientSession) -> None:
    async with FakeAPIServer(tls=True, token="secret") as api:
        config = api.kubeconfig()
        assert api.url.startswith("https://127.0.0.1:")
        authority = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
        trusting = ssl.create_default_context(cadata=authority)
        trusting.verify_flags |= ssl.VERIFY_X509_STRICT
        token = config["users"][0]["user"]["token"]
        async with session.get(f"{api.url}/api", ssl=trusting, headers=bearer(token)) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(f"{api.url}/api", ssl=ssl.create_default_context())


async def test_certificate_files_are_used_and_named_when_unusable(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for file, content in zip((cert, key), self_signed(SystemClock().now()), strict=True):
        file.write_bytes(content)
    async with FakeAPIServer(tls_cert=cert, tls_key=key) as api:
        assert api.url.startswith("https://")
    key.write_text("nothing")
    with pytest.raises(ConfigError, match="--tls-key"):
        async with FakeAPIServer(tls_cert=cert, tls_key=key):
            pass


async def test_taken_port_is_named(api: FakeAPIServer) -> None:
    port = int(api.url.rpartition(":")[2])
    with pytest.raises(ConfigError, match=f"--port {port}"):
        async with FakeAPIServer(port=port):
            pass


async def test_discovery(client: Client) -> None:
    core = await client.get("/api/v1")
    found = {item["name"]: item for item in core["resources"]}
    assert found["persistentvolumeclaims"]["shortNames"] == ["pvc"]
    assert "persistentvolumeclaims/status" in found
    groups = {group["name"] for group in (await client.get("/apis"))["groups"]}
    assert {"storage.k8s.io", "coordination.k8s.io", "snapshot.storage.k8s.io"} <= groups
    storage = await client.get(STORAGE)
    assert {"volumeattachments", "volumeattachments/status", "csinodes"} <= {r["name"] for r in storage["resources"]}
    assert (await client.get("/version"))["major"] == "1"
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    everything = await client.request("GET", "/apis", headers={"Accept": accept})
    assert everything["kind"] == "APIGroupDiscoveryList"
    assert (await client.get("/apis/none.example.com")).status == 404


async def test_kinds_by_declaration(session: aiohttp.ClientSession) -> None:
    spec = KindSpec(group="example.com", version="v1", plural="widgets", kind="Widget", status=True, short_names=("w",))
    async with FakeAPIServer(kinds=[spec]) as api:
        client = Client(api.url, session)
        path = "/apis/example.com/v1/namespaces/default/widgets"
        body = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"any": [1]}}
        assert (await client.post(path, body)).meta["generation"] == 1
        answer = await client.merge(f"{path}/w/status", {"status": {"ok": True}, "spec": {"any": []}})
        assert (answer["status"], answer["spec"], answer.meta["generation"]) == ({"ok": True}, {"any": [1]}, 1)
        assert (await client.merge(f"{path}/w", {"spec": {"any": []}})).meta["generation"] == 2
        assert api.objects.get("widgets", "w", "default") is not None


async def test_events_are_the_same_objects_under_two_names(client: Client) -> None:
    body = {
        "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
        "reason": "Why",
        "message": "because",
        "type": "Normal",
    }
    await client.post(f"{CORE}/namespaces/default/events", body)
    path = "/apis/events.k8s.io/v1/namespaces/default/events"
    answer = await client.get(f"{path}/e")
    assert (answer["regarding"]["name"], answer["note"]) == ("p", "because")
    await client.merge(f"{path}/e", {"note": "changed"})
    found = await client.get(f"{CORE}/namespaces/default/events", fieldSelector="involvedObject.name=p,reason=Why")
    assert [item["message"] for item in found["items"]] == ["changed"]


async def test_versions_of_one_kind_share_objects(session: aiohttp.ClientSession) -> None:
    beta = KindSpec(
        group="storage.k8s.io",
        version="v1beta1",
        plural="volumeattributesclasses",
        kind="VolumeAttributesClass",
        namespaced=False,
        custom=False,
        stored_as="volumeattributesclasses.storage.k8s.io",
    )
    async with FakeAPIServer(kinds=[beta]) as api:
        await check_shared_versions(Client(api.url, session))


async def check_shared_versions(client: Client) -> None:
    body = {"metadata": {"name": "gold"}, "driverName": "d.example.com", "parameters": {"iops": "9"}}
    made = await client.post(f"{STORAGE}/volumeattributesclasses", body)
    assert made.status == 201, made.text
    answer = await client.get("/apis/storage.k8s.io/v1beta1/volumeattributesclasses/gold")
    assert answer["apiVersion"] == "storage.k8s.io/v1beta1"
    assert answer.meta["uid"] == made.meta["uid"]


async def test_claims_in_process_follow_the_same_rules(api: FakeAPIServer) -> None:
    made = api.objects.create(claim())
    assert made["metadata"]["namespace"] == "default"
    api.objects.edit("persistentvolumeclaims", "c-1", lambda obj: obj["metadata"].update(labels={"a": "b"}), "default")
    found = api.objects.get("persistentvolumeclaims", "c-1", "default")
    assert found is not None
    found["metadata"]["labels"]["a"] = "changed in the copy"
    again = api.objects.get("persistentvolumeclaims", "c-1", "default")
    assert again is not None
    assert again["metadata"]["labels"] == {"a": "b"}
