"""POST: what the server adds, what it refuses, and what it leaves out."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.apiserver.client import (
    ATTACHMENTS,
    CLASSES,
    CORE,
    DRIVER,
    STORAGE,
    VOLUMES,
    attachment,
    claim,
    config_map,
    pod,
    storage_class,
    volume,
    with_meta,
)

if TYPE_CHECKING:
    from tests.apiserver.client import Client
    from tests.apiserver.conftest import Server

SUFFIX = r"[bcdfghjklmnpqrstvwxz2456789]{5}"


async def test_server_sets_its_own_metadata(server: Server, client: Client) -> None:
    claimed = {"uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z", "deletionTimestamp": "2001-01-01T00:00:00Z"}
    made = (await client.post(ATTACHMENTS, with_meta(attachment(server.name()), **claimed))).ok(201)
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", made.meta["uid"])
    age = datetime.now(UTC) - datetime.fromisoformat(made.meta["creationTimestamp"])
    assert abs(age.total_seconds()) < 60
    assert made.meta["creationTimestamp"].endswith("Z")
    assert "deletionTimestamp" not in made.meta
    assert made.revision.isdecimal()
    assert "selfLink" not in made.meta
    assert "namespace" not in made.meta


async def test_answer_carries_kind_and_version_and_equals_a_get(server: Server, client: Client) -> None:
    made = (await client.post(server.claims, claim("c"))).ok(201)
    assert (made["apiVersion"], made["kind"]) == ("v1", "PersistentVolumeClaim")
    assert made.meta["namespace"] == server.unique
    assert (await client.get(f"{server.claims}/c")).body == made.body


async def test_revisions_grow(server: Server) -> None:
    revisions = [int(made.revision) for made in await server.fill(3)]
    assert revisions == sorted(set(revisions))


async def test_kind_and_version_may_be_left_out_for_built_in_kinds(server: Server, client: Client) -> None:
    (await client.post(server.maps, {"metadata": {"name": "bare"}, "data": {"a": "b"}})).ok(201)


@pytest.mark.parametrize("url", ["volumes", "attachments", "claims", "maps"])
async def test_taken_name_is_already_exists(server: Server, client: Client, url: str) -> None:
    name = server.name()
    path, body, resource = {
        "volumes": (VOLUMES, volume(name), "persistentvolumes"),
        "attachments": (ATTACHMENTS, attachment(name), "volumeattachments.storage.k8s.io"),
        "claims": (server.claims, claim(name), "persistentvolumeclaims"),
        "maps": (server.maps, config_map(name), "configmaps"),
    }[url]
    (await client.post(path, body)).ok(201)
    answer = (await client.post(path, body)).refused(409, "AlreadyExists")
    assert answer["message"] == f'{resource} "{name}" already exists'
    assert answer["details"]["name"] == name
    assert answer["details"]["kind"] == resource.partition(".")[0]


async def test_generated_names_differ_and_follow_the_alphabet(server: Server, client: Client) -> None:
    body = {"metadata": {"generateName": "made-"}}
    names = [(await client.post(server.maps, body)).ok(201).meta["name"] for _ in range(5)]
    assert len(set(names)) == 5
    assert all(re.fullmatch(f"made-{SUFFIX}", name) for name in names)


async def test_long_generate_name_is_cut(server: Server, client: Client) -> None:
    made = (await client.post(server.maps, {"metadata": {"generateName": "x" * 70}})).ok(201)
    assert re.fullmatch(f"x{{58}}{SUFFIX}", made.meta["name"])


async def test_name_wins_over_generate_name(server: Server, client: Client) -> None:
    made = (await client.post(server.maps, {"metadata": {"generateName": "made-", "name": "given"}})).ok(201)
    assert made.meta["name"] == "given"


async def test_object_needs_a_name(server: Server, client: Client) -> None:
    answer = (await client.post(server.claims, claim())).refused(422, "Invalid")
    assert answer["message"] == (
        'PersistentVolumeClaim "" is invalid: metadata.name: Required value: name or generateName is required'
    )


async def test_dry_run_answers_and_stores_nothing(server: Server, client: Client) -> None:
    before = (await client.get(server.maps)).revision
    made = (await client.post(server.maps, config_map("dry", a="b"), dryRun="All")).ok(201)
    assert made.meta["uid"]
    assert "resourceVersion" not in made.meta
    (await client.get(f"{server.maps}/dry")).refused(404, "NotFound")
    if not server.is_real:  # other tests write to the real one
        assert (await client.get(server.maps)).revision == before


async def test_dry_run_is_validated_like_any_other(server: Server, client: Client) -> None:
    (await client.post(VOLUMES, volume(server.name(), capacity=None), dryRun="All")).refused(422, "Invalid")


async def test_unknown_dry_run_is_refused(server: Server, client: Client) -> None:
    answer = (await client.post(server.maps, config_map("m"), dryRun="Some")).refused(422, "Invalid")
    assert answer["message"] == (
        'CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["Some"]: supported values: "All"'
    )


async def test_resource_version_may_not_be_given(server: Server, client: Client) -> None:
    answer = await client.post(server.maps, with_meta(config_map("m"), resourceVersion="12"))
    assert answer.status >= 400
    assert answer["message"] == "resourceVersion should not be set on objects to be created"


async def test_missing_namespace_is_not_found(server: Server, client: Client) -> None:
    answer = await client.post(f"{CORE}/namespaces/{server.name('none')}/persistentvolumeclaims", claim("c"))
    answer.refused(404, "NotFound")
    assert answer["message"] == f'namespaces "{server.name("none")}" not found'


async def test_other_namespace_in_the_body_is_refused(server: Server, client: Client) -> None:
    answer = await client.post(server.claims, with_meta(claim("c"), namespace="other"))
    answer.refused(400, "BadRequest")
    assert answer["message"] == (
        "the namespace of the provided object does not match the namespace sent on the request"
    )


async def test_other_kind_in_the_body_is_refused(server: Server, client: Client) -> None:
    answer = (await client.post(VOLUMES, claim(server.name()))).refused(400, "BadRequest")
    assert 'PersistentVolumeClaim in version "v1" cannot be handled as a PersistentVolume' in answer["message"]


async def test_status_is_dropped_and_begins_anew(server: Server, client: Client) -> None:
    pv = {**volume(server.name()), "status": {"phase": "Bound", "message": "mine"}}
    made = (await client.post(VOLUMES, pv)).ok(201)
    assert made["status"]["phase"] == "Pending"
    assert "message" not in made["status"]
    pvc = {**claim("c"), "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}
    assert (await client.post(server.claims, pvc)).ok(201)["status"] == {"phase": "Pending"}
    va = {**attachment(server.name()), "status": {"attached": True}}
    assert (await client.post(ATTACHMENTS, va)).ok(201)["status"] == {"attached": False}


async def test_node_keeps_the_status_it_is_created_with(server: Server, client: Client) -> None:
    body = {"metadata": {"name": server.name()}, "status": {"capacity": {"cpu": "2"}}}
    made = (await client.post(f"{CORE}/nodes", body)).ok(201)
    assert made["status"]["capacity"] == {"cpu": "2"}
    assert made["status"]["allocatable"] == {"cpu": "2"}
    await client.delete(f"{CORE}/nodes/{server.name()}")


async def test_claims_and_volumes_are_protected(server: Server, client: Client) -> None:
    made = (await client.post(VOLUMES, with_meta(volume(server.name()), finalizers=["a.example.com/b"]))).ok(201)
    assert sorted(made.meta["finalizers"]) == ["a.example.com/b", "kubernetes.io/pv-protection"]
    made = (await client.post(server.claims, claim("c"))).ok(201)
    assert made.meta["finalizers"] == ["kubernetes.io/pvc-protection"]


@pytest.mark.parametrize(
    ("body", "added"),
    [
        (volume(), {"persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"}),
        (claim(), {"volumeMode": "Filesystem"}),
    ],
    ids=["volume", "claim"],
)
async def test_spec_defaults(server: Server, client: Client, body: Any, added: dict[str, Any]) -> None:
    path = VOLUMES if body["kind"] == "PersistentVolume" else server.claims
    made = (await client.post(path, with_meta(body, name=server.name()))).ok(201)
    assert made["spec"] == body["spec"] | added


async def test_class_defaults(server: Server, client: Client) -> None:
    made = (await client.post(CLASSES, storage_class(server.name()))).ok(201)
    assert (made["reclaimPolicy"], made["volumeBindingMode"]) == ("Delete", "Immediate")
    assert "spec" not in made.body


async def test_driver_defaults(server: Server, client: Client) -> None:
    made = (await client.post(f"{STORAGE}/csidrivers", {"metadata": {"name": server.name()}, "spec": {}})).ok(201)
    expected = {
        "attachRequired": True,
        "podInfoOnMount": False,
        "volumeLifecycleModes": ["Persistent"],
        "storageCapacity": False,
        "fsGroupPolicy": "ReadWriteOnceWithFSType",
        "requiresRepublish": False,
        "seLinuxMount": False,
    }
    assert {key: value for key, value in made["spec"].items() if key in expected} == expected


async def test_secret_strings_become_data(server: Server, client: Client) -> None:
    made = (await client.post(f"{server.space}/secrets", {"metadata": {"name": "s"}, "stringData": {"a": "b"}})).ok(201)
    assert (made["type"], made["data"]) == ("Opaque", {"a": "Yg=="})
    assert "stringData" not in made.body


async def test_pod_defaults(server: Server, client: Client) -> None:
    made = (await client.post(server.pods, pod("p"))).ok(201)
    spec = made["spec"]
    assert (spec["restartPolicy"], spec["dnsPolicy"], spec["schedulerName"]) == (
        "Always",
        "ClusterFirst",
        "default-scheduler",
    )
    assert spec["terminationGracePeriodSeconds"] == 30
    assert spec["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert made["status"]["phase"] == "Pending"


async def test_claim_without_a_class_gets_the_default_one(server: Server, client: Client) -> None:
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    (await client.post(CLASSES, with_meta(storage_class(server.name("default")), annotations=default))).ok(201)
    try:
        # The admission plugin reads classes through a watch of its own.
        await _until_default(server, client)
        assert "storageClassName" in (await client.post(server.claims, claim("none"))).ok(201)["spec"]
        made = (await client.post(server.claims, claim("empty", storageClassName=""))).ok(201)
        assert made["spec"]["storageClassName"] == ""
        made = (await client.post(server.claims, claim("named", storageClassName="other"))).ok(201)
        assert made["spec"]["storageClassName"] == "other"
    finally:
        await client.delete(f"{CLASSES}/{server.name('default')}")


async def _until_default(server: Server, client: Client) -> None:
    for number in range(50):
        made = await client.post(server.claims, claim(f"probe-{number}"), dryRun="All")
        if "storageClassName" in made["spec"]:
            return
    pytest.fail("no default class was filled in")


SNAPSHOT = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"}
CLONE = {"kind": "PersistentVolumeClaim", "name": "c"}
POPULATOR = {"apiGroup": "pop.example.com", "kind": "Filler", "name": "f"}


@pytest.mark.parametrize(
    ("given", "source", "reference"),
    [
        ({"dataSource": SNAPSHOT}, SNAPSHOT, SNAPSHOT),
        ({"dataSourceRef": SNAPSHOT}, SNAPSHOT, SNAPSHOT),
        ({"dataSource": CLONE}, CLONE | {"apiGroup": None}, CLONE | {"apiGroup": None}),
        ({"dataSourceRef": POPULATOR}, POPULATOR, POPULATOR),
        ({"dataSource": POPULATOR}, None, None),
        ({"dataSource": {"kind": "Bucket", "name": "b"}}, None, None),
        ({"dataSourceRef": SNAPSHOT | {"namespace": "far"}}, None, SNAPSHOT | {"namespace": "far"}),
    ],
    ids=["snapshot", "snapshot-ref", "clone", "populator-ref", "populator", "unknown", "other-namespace"],
)
async def test_data_source_and_reference_mirror_each_other(
    server: Server, client: Client, given: dict[str, Any], source: Any, reference: Any
) -> None:
    made = (await client.post(server.claims, claim("c", **given))).ok(201)
    assert (made["spec"].get("dataSource"), made["spec"].get("dataSourceRef")) == (source, reference)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("1Gi", "1Gi"),
        ("1024Mi", "1Gi"),
        ("1000M", "1G"),
        ("0.5Gi", "512Mi"),
        (1073741824, "1073741824"),
        ("1500M", "1500M"),
        ("1e3", "1e3"),
        ("1.5Gi", "1536Mi"),
        ("2048", "2048"),
        ("1.5", "1500m"),
        ("0.1Gi", "107374182400m"),
    ],
)
async def test_quantities_are_stored_in_canonical_form(server: Server, client: Client, given: Any, stored: str) -> None:
    body = claim("c", resources={"requests": {"storage": given}})
    assert (await client.post(server.claims, body)).ok(201)["spec"]["resources"]["requests"]["storage"] == stored


async def test_times_are_stored_in_utc(server: Server, client: Client) -> None:
    spec = {"holderIdentity": "a", "renewTime": "2026-01-01T02:00:00.123456+02:00"}
    made = (await client.post(server.leases, {"metadata": {"name": "l"}, "spec": spec})).ok(201)
    assert made["spec"]["renewTime"] == "2026-01-01T00:00:00.123456Z"


async def test_unset_times_of_events_are_null(server: Server, client: Client) -> None:
    involved = {"kind": "Pod", "namespace": server.unique, "name": "p"}
    body = {"metadata": {"name": "e"}, "involvedObject": involved, "reason": "r", "message": "m", "type": "Normal"}
    made = (await client.post(f"{server.space}/events", body)).ok(201)
    assert [made.body[key] for key in ("firstTimestamp", "lastTimestamp", "eventTime")] == [None] * 3


async def test_inline_attachment_is_taken(server: Server, client: Client) -> None:
    source = {"inlineVolumeSpec": {"accessModes": ["ReadWriteOnce"], "csi": {"driver": DRIVER, "volumeHandle": "h"}}}
    made = (await client.post(ATTACHMENTS, attachment(server.name(), source=source))).ok(201)
    assert made["spec"]["source"]["inlineVolumeSpec"]["csi"] == {"driver": DRIVER, "volumeHandle": "h"}


@pytest.mark.parametrize("mode", ["", "Warn"])
async def test_unknown_fields_are_dropped_with_a_warning(server: Server, client: Client, mode: str) -> None:
    query = {"fieldValidation": mode} if mode else {}
    made = (await client.post(VOLUMES, volume(server.name(), frob=1), **query)).ok(201)
    assert "frob" not in made["spec"]
    assert 'unknown field \\"spec.frob\\"' in made.headers["Warning"]


async def test_unknown_fields_are_dropped_in_silence_when_asked(server: Server, client: Client) -> None:
    made = (await client.post(VOLUMES, volume(server.name(), frob=1), fieldValidation="Ignore")).ok(201)
    assert "frob" not in made["spec"]
    assert "Warning" not in made.headers


async def test_unknown_fields_are_refused_when_strict(server: Server, client: Client) -> None:
    body = volume(server.name(), frob=1, csi={"driver": "d", "volumeHandle": "h", "bar": 2})
    answer = (await client.post(VOLUMES, body, fieldValidation="Strict")).refused(400, "BadRequest")
    assert answer["message"] == (
        'PersistentVolume in version "v1" cannot be handled as a PersistentVolume: strict decoding error: '
        'unknown field "spec.csi.bar", unknown field "spec.frob"'
    )


async def test_duplicate_fields_are_refused_when_strict(server: Server, client: Client) -> None:
    raw = b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{"k":"1","k":"2"}}'
    answer = await client.request("POST", server.maps, raw=raw, fieldValidation="Strict")
    answer.refused(400, "BadRequest")
    assert 'strict decoding error: duplicate field "data.k"' in answer["message"]
    assert (await client.request("POST", server.maps, raw=raw)).ok(201)["data"] == {"k": "2"}


async def test_namespace_begins_active_with_its_label(server: Server, client: Client) -> None:
    found = (await client.get(server.space)).ok()
    assert found["status"] == {"phase": "Active"}
    assert found["spec"] == {"finalizers": ["kubernetes"]}
    assert found.meta["labels"] == {"kubernetes.io/metadata.name": server.unique}


async def test_lease_put_creates(server: Server, client: Client) -> None:
    body = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}}
    (await client.put(f"{server.leases}/l", body)).ok(201)
    assert (await client.get(f"{server.leases}/l")).ok()["spec"]["holderIdentity"] == "a"


async def test_put_of_a_missing_claim_is_not_found(server: Server, client: Client) -> None:
    (await client.put(f"{server.claims}/none", claim("none"))).refused(404, "NotFound")


async def test_long_names_are_taken_whole(server: Server, client: Client) -> None:
    name = (server.name() + "-" + "x" * 253)[:253]
    assert (await client.post(ATTACHMENTS, attachment(name))).ok(201).meta["name"] == name
