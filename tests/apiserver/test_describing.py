"""What the server says of itself: discovery, OpenAPI, version, health, and what a user may do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.apiserver.client import CORE, STORAGE

if TYPE_CHECKING:
    from tests.apiserver.client import Client

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
RESOURCES: dict[str, list[tuple[str, str, bool]]] = {
    CORE: [
        ("persistentvolumes", "PersistentVolume", False),
        ("persistentvolumes/status", "PersistentVolume", False),
        ("persistentvolumeclaims", "PersistentVolumeClaim", True),
        ("persistentvolumeclaims/status", "PersistentVolumeClaim", True),
        ("nodes", "Node", False),
        ("secrets", "Secret", True),
        ("namespaces", "Namespace", False),
        ("pods", "Pod", True),
        ("events", "Event", True),
        ("configmaps", "ConfigMap", True),
    ],
    STORAGE: [
        ("storageclasses", "StorageClass", False),
        ("volumeattachments", "VolumeAttachment", False),
        ("volumeattachments/status", "VolumeAttachment", False),
        ("csinodes", "CSINode", False),
        ("csidrivers", "CSIDriver", False),
        ("csistoragecapacities", "CSIStorageCapacity", True),
        ("volumeattributesclasses", "VolumeAttributesClass", False),
    ],
    "/apis/coordination.k8s.io/v1": [("leases", "Lease", True)],
    "/apis/events.k8s.io/v1": [("events", "Event", True)],
    "/apis/authorization.k8s.io/v1": [("selfsubjectaccessreviews", "SelfSubjectAccessReview", False)],
}


@pytest.mark.parametrize("path", list(RESOURCES))
async def test_resources_of_a_version(client: Client, path: str) -> None:
    found = (await client.get(path)).ok()
    assert found["kind"] == "APIResourceList"
    assert found["groupVersion"] == path.removeprefix("/api/").removeprefix("/apis/")
    shown = {item["name"]: (item["kind"], item["namespaced"]) for item in found["resources"]}
    for name, kind, namespaced in RESOURCES[path]:
        assert shown[name] == (kind, namespaced)


@pytest.mark.parametrize(
    ("path", "name", "short"),
    [
        (CORE, "persistentvolumes", ["pv"]),
        (CORE, "persistentvolumeclaims", ["pvc"]),
        (CORE, "nodes", ["no"]),
        (CORE, "pods", ["po"]),
        (CORE, "events", ["ev"]),
        (STORAGE, "storageclasses", ["sc"]),
        (STORAGE, "volumeattributesclasses", ["vac"]),
        (STORAGE, "volumeattachments", None),
        ("/apis/coordination.k8s.io/v1", "leases", None),
    ],
)
async def test_short_names_and_verbs(client: Client, path: str, name: str, short: list[str] | None) -> None:
    found = (await client.get(path)).ok()
    (item,) = [item for item in found["resources"] if item["name"] == name]
    assert item.get("shortNames") == short
    assert set(item["verbs"]) == {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
    assert item["singularName"] == item["kind"].lower()


async def test_status_subresources_have_their_verbs(client: Client) -> None:
    found = (await client.get(STORAGE)).ok()
    (item,) = [item for item in found["resources"] if item["name"] == "volumeattachments/status"]
    assert sorted(item["verbs"]) == ["get", "patch", "update"]


async def test_versions_of_the_core(client: Client) -> None:
    found = (await client.get("/api")).ok()
    assert (found["kind"], found["versions"]) == ("APIVersions", ["v1"])


async def test_groups(client: Client) -> None:
    found = (await client.get("/apis")).ok()
    assert found["kind"] == "APIGroupList"
    groups = {group["name"]: group["preferredVersion"]["groupVersion"] for group in found["groups"]}
    for name in ("storage.k8s.io", "coordination.k8s.io", "events.k8s.io", "authorization.k8s.io"):
        assert groups[name] == f"{name}/v1"


async def test_one_group(client: Client) -> None:
    found = (await client.get("/apis/storage.k8s.io")).ok()
    assert (found["kind"], found["name"]) == ("APIGroup", "storage.k8s.io")
    assert {"groupVersion": "storage.k8s.io/v1", "version": "v1"} in found["versions"]


@pytest.mark.parametrize("path", ["/api", "/apis"])
async def test_aggregated_discovery(client: Client, path: str) -> None:
    found = (await client.get(path, accept=AGGREGATED)).ok()
    assert found.headers["Content-Type"].startswith("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscovery")
    assert found["kind"] == "APIGroupDiscoveryList"
    wanted = {"/api": ("", "persistentvolumes"), "/apis": ("storage.k8s.io", "volumeattachments")}[path]
    (group,) = [item for item in found["items"] if item["metadata"].get("name", "") == wanted[0]]
    (version,) = [item for item in group["versions"] if item["version"] == "v1"]
    (item,) = [item for item in version["resources"] if item["resource"] == wanted[1]]
    assert item["scope"] == "Cluster"
    assert [sub["subresource"] for sub in item["subresources"]] == ["status"]


async def test_version(client: Client) -> None:
    found = (await client.get("/version")).ok()
    assert found["major"] == "1"
    assert found["gitVersion"].startswith("v1.")
    assert {"minor", "gitCommit", "goVersion", "platform"} <= set(found.body)


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/readyz/ping"])
async def test_health(client: Client, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status, answer.text) == (200, "ok")


DEFINITIONS = {
    "io.k8s.api.core.v1.PersistentVolumeClaim": "spec",
    "io.k8s.api.core.v1.PersistentVolumeSpec": "csi",
    "io.k8s.api.storage.v1.VolumeAttachment": "status",
    "io.k8s.api.storage.v1.StorageClass": "provisioner",
    "io.k8s.api.storage.v1.CSIStorageCapacity": "nodeTopology",
    "io.k8s.api.coordination.v1.LeaseSpec": "holderIdentity",
    "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": "finalizers",
}


async def test_openapi_2_describes_the_kinds(client: Client) -> None:
    found = (await client.get("/openapi/v2")).ok()
    assert found["swagger"] == "2.0"
    for name, field in DEFINITIONS.items():
        assert field in found["definitions"][name]["properties"], name
    claim = found["definitions"]["io.k8s.api.core.v1.PersistentVolumeClaim"]
    assert claim["x-kubernetes-group-version-kind"] == [{"group": "", "kind": "PersistentVolumeClaim", "version": "v1"}]


async def test_openapi_2_is_told_in_protobuf_form_to_who_asks_for_that(client: Client) -> None:
    accept = {"Accept": "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"}
    async with client.session.get(f"{client.url}/openapi/v2", headers=accept) as answer:
        raw = await answer.read()
        assert answer.status == 200
        assert "proto-openapi.spec.v2" in answer.headers["Content-Type"]
    document = fields(raw)
    assert document[1] == [b"2.0"]
    definitions = {fields(each)[1][0].decode(): fields(fields(each)[2][0]) for each in fields(document[9][0])[1]}
    for name, field in DEFINITIONS.items():
        properties = [fields(each)[1][0].decode() for each in fields(definitions[name][25][0])[1]]
        assert field in properties, name
    claim = definitions["io.k8s.api.core.v1.PersistentVolumeClaim"]
    extensions = {fields(each)[1][0].decode(): fields(fields(each)[2][0])[2][0] for each in claim[31]}
    kinds = yaml.safe_load(extensions["x-kubernetes-group-version-kind"])
    assert kinds == [{"group": "", "kind": "PersistentVolumeClaim", "version": "v1"}]
    patched = {fields(each)[1][0].decode(): fields(fields(each)[2][0]) for each in fields(document[8][0])[2]}
    assert 8 in patched["/api/v1/namespaces/{name}"]


def fields(raw: bytes) -> dict[int, list[bytes]]:
    """Field number → contents, of the fields that have a length."""
    found: dict[int, list[bytes]] = {}
    position = 0
    while position < len(raw):
        tag, position = varint(raw, position)
        size, after = varint(raw, position)
        if tag & 7 == 2:
            found.setdefault(tag >> 3, []).append(raw[after : after + size])
            after += size
        position = after
    return found


def varint(raw: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("api/v1", "io.k8s.api.core.v1.PersistentVolume"),
        ("apis/storage.k8s.io/v1", "io.k8s.api.storage.v1.VolumeAttachment"),
        ("apis/coordination.k8s.io/v1", "io.k8s.api.coordination.v1.Lease"),
    ],
)
async def test_openapi_3_describes_each_version(client: Client, group: str, name: str) -> None:
    index = (await client.get("/openapi/v3")).ok()
    path = index["paths"][group]["serverRelativeURL"]
    assert path.startswith(f"/openapi/v3/{group}")
    document = (await client.get(path)).ok()
    assert document["openapi"].startswith("3.")
    schema = document["components"]["schemas"][name]
    assert set(schema["properties"]) >= {"apiVersion", "kind", "metadata", "spec"}
    assert any(name.rpartition(".")[2].lower() in route for route in document["paths"])


async def test_lists_merge_as_openapi_says(client: Client) -> None:
    found = (await client.get("/openapi/v2")).ok()
    status = found["definitions"]["io.k8s.api.core.v1.PersistentVolumeClaimStatus"]["properties"]
    assert status["conditions"]["x-kubernetes-patch-merge-key"] == "type"
    assert status["conditions"]["x-kubernetes-list-map-keys"] == ["type"]


ASKED: list[dict[str, Any]] = [
    {"resourceAttributes": {"verb": "get", "resource": "persistentvolumes"}},
    {"resourceAttributes": {"verb": "create", "group": "storage.k8s.io", "resource": "volumeattachments"}},
    {"resourceAttributes": {"verb": "patch", "resource": "pods", "subresource": "status", "namespace": "default"}},
    {"nonResourceAttributes": {"verb": "get", "path": "/version"}},
]


@pytest.mark.parametrize("spec", ASKED)
async def test_administrator_may_everything(client: Client, spec: dict[str, Any]) -> None:
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}
    answer = (await client.post(REVIEWS, body)).ok(201)
    assert answer["kind"] == "SelfSubjectAccessReview"
    assert answer["spec"] == spec
    assert answer["status"]["allowed"] is True


async def test_review_of_nothing_is_invalid(client: Client) -> None:
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {}}
    answer = (await client.post(REVIEWS, body)).refused(422, "Invalid")
    assert "exactly one of nonResourceAttributes or resourceAttributes must be specified" in answer["message"]


async def test_who_is_asking(client: Client) -> None:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = (await client.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", body)).ok(201)
    assert "system:masters" in answer["status"]["userInfo"]["groups"]


async def test_root_lists_paths(client: Client) -> None:
    found = (await client.get("/")).ok()
    assert {"/api", "/apis", "/openapi/v3", "/version", "/readyz"} <= set(found["paths"])
