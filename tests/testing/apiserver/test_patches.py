"""The patch types over HTTP: what they change, and how they fail."""

from __future__ import annotations

from typing import Any

import pytest

from tests.testing.apiserver.conftest import CORE, STORAGE, Client, attachment, volume

PVS = f"{CORE}/persistentvolumes"
VAS = f"{STORAGE}/volumeattachments"
NODES = f"{CORE}/nodes"
SNAPSHOT = {"source": {"persistentVolumeClaimName": "c-1"}}


async def test_merge_patch_sets_and_removes(client: Client) -> None:
    await client.post(PVS, volume())
    answer = await client.merge(f"{PVS}/pv-1", {"metadata": {"labels": {"a": "1", "b": "2"}}})
    assert answer.meta["labels"] == {"a": "1", "b": "2"}
    answer = await client.merge(f"{PVS}/pv-1", {"metadata": {"labels": {"a": None}}})
    assert answer.meta["labels"] == {"b": "2"}
    answer = await client.merge(f"{PVS}/pv-1", {"metadata": {"labels": None}})
    assert "labels" not in answer.meta


async def test_patch_with_a_stale_revision_is_a_conflict(client: Client) -> None:
    await client.post(PVS, volume())
    answer = await client.merge(f"{PVS}/pv-1", {"metadata": {"resourceVersion": "1", "labels": {"a": "b"}}})
    assert answer.status == 409


async def test_json_patch_that_tests_for_absence_holds_once(client: Client) -> None:
    await client.post(VAS, attachment())
    patch: list[dict[str, Any]] = [
        {"op": "test", "path": "/metadata/finalizers", "value": None},
        {"op": "add", "path": "/metadata/finalizers", "value": ["external-attacher/d"]},
    ]
    answer = await client.json_patch(f"{VAS}/va-1", patch)
    assert answer.status == 200
    assert answer.meta["finalizers"] == ["external-attacher/d"]
    again = await client.json_patch(f"{VAS}/va-1", patch)
    assert again.status == 422
    assert again.body == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "the server rejected our request due to an error in our request",
        "reason": "Invalid",
        "details": {},
        "code": 422,
    }


async def test_json_patch_operations(client: Client) -> None:
    await client.post(PVS, volume())
    patch = [
        {"op": "test", "path": "/metadata/finalizers/0", "value": "kubernetes.io/pv-protection"},
        {"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/b"},
        {"op": "add", "path": "/metadata/finalizers/0", "value": "example.com/a"},
        {"op": "remove", "path": "/metadata/finalizers/1"},
        {"op": "add", "path": "/metadata/labels", "value": {}},
        {"op": "add", "path": "/metadata/labels/x~1y", "value": "1"},
        {"op": "copy", "from": "/metadata/labels/x~1y", "path": "/metadata/labels/z"},
        {"op": "move", "from": "/metadata/labels/z", "path": "/metadata/labels/w"},
        {"op": "replace", "path": "/spec/persistentVolumeReclaimPolicy", "value": "Delete"},
    ]
    answer = await client.json_patch(f"{PVS}/pv-1", patch)
    assert answer.status == 200, answer.text
    assert answer.meta["finalizers"] == ["example.com/a", "example.com/b"]
    assert answer.meta["labels"] == {"x/y": "1", "w": "1"}
    assert answer["spec"]["persistentVolumeReclaimPolicy"] == "Delete"


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/metadata/labels/none"},
        {"op": "replace", "path": "/none/none", "value": 1},
        {"op": "add", "path": "/metadata/finalizers/9", "value": "example.com/x"},
        {"op": "test", "path": "/metadata/name", "value": "other"},
        {"op": "test", "path": "/none/none", "value": None},
        {"op": "jump", "path": "/metadata"},
        {"op": "add"},
        {"op": "move", "from": "/none", "path": "/metadata/labels"},
    ],
)
async def test_json_patch_that_cannot_be_applied_changes_nothing(client: Client, operation: dict[str, Any]) -> None:
    before = (await client.post(PVS, volume())).body
    answer = await client.json_patch(
        f"{PVS}/pv-1", [{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}, operation]
    )
    assert answer.status == 422
    assert (await client.get(f"{PVS}/pv-1")).body == before


async def test_strategic_patch_adds_to_finalizers_as_a_set(client: Client) -> None:
    await client.post(PVS, volume())
    url = f"{PVS}/pv-1"
    answer = await client.strategic(
        url,
        {
            "metadata": {
                "finalizers": ["example.com/f"],
                "$setElementOrder/finalizers": ["kubernetes.io/pv-protection", "example.com/f"],
            }
        },
    )
    assert answer.meta["finalizers"] == ["kubernetes.io/pv-protection", "example.com/f"]
    answer = await client.strategic(
        url,
        {
            "metadata": {
                "$deleteFromPrimitiveList/finalizers": ["example.com/f"],
                "$setElementOrder/finalizers": ["kubernetes.io/pv-protection"],
            }
        },
    )
    assert answer.meta["finalizers"] == ["kubernetes.io/pv-protection"]


async def test_strategic_patch_merges_keyed_lists(client: Client) -> None:
    conditions = [{"type": "Ready", "status": "False"}, {"type": "DiskPressure", "status": "False"}]
    await client.post(NODES, {"metadata": {"name": "n"}, "status": {"conditions": conditions}})
    answer = await client.strategic(
        f"{NODES}/n/status",
        {"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "$patch": "delete"}]}},
    )
    assert [(item["type"], item["status"]) for item in answer["status"]["conditions"]] == [("Ready", "True")]
    answer = await client.strategic(
        f"{NODES}/n/status", {"status": {"conditions": [{"$patch": "replace"}, {"type": "New", "status": "True"}]}}
    )
    assert [item["type"] for item in answer["status"]["conditions"]] == ["New"]


async def test_strategic_patch_replaces_maps_and_plain_lists(client: Client) -> None:
    await client.post(PVS, volume())
    url = f"{PVS}/pv-1"
    await client.strategic(url, {"metadata": {"labels": {"a": "1"}}})
    answer = await client.strategic(url, {"metadata": {"labels": {"$patch": "replace", "b": "2"}}})
    assert answer.meta["labels"] == {"b": "2"}
    answer = await client.strategic(url, {"spec": {"accessModes": ["ReadOnlyMany"]}})
    assert answer["spec"]["accessModes"] == ["ReadOnlyMany"]


async def test_items_without_their_merge_key_are_refused(client: Client) -> None:
    await client.post(NODES, {"metadata": {"name": "n"}})
    answer = await client.strategic(f"{NODES}/n/status", {"status": {"conditions": [{"status": "True"}]}})
    assert answer.status == 500
    assert answer["message"] == "map: map[status:True] does not contain declared merge key: type"


async def test_custom_resources_take_no_strategic_patch(client: Client) -> None:
    path = "/apis/snapshot.storage.k8s.io/v1/namespaces/default/volumesnapshots"
    body = {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": "s"},
        "spec": SNAPSHOT,
    }
    await client.post(path, body)
    answer = await client.strategic(f"{path}/s", {"metadata": {"labels": {"a": "b"}}})
    assert answer.status == 415
    assert (await client.merge(f"{path}/s", {"spec": {"volumeSnapshotClassName": "x"}})).meta["generation"] == 2


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/vnd.kubernetes.protobuf"])
async def test_other_patch_types_are_unsupported(client: Client, content_type: str) -> None:
    await client.post(PVS, volume())
    answer = await client.request("PATCH", f"{PVS}/pv-1", {}, content_type=content_type)
    assert answer.status == 415
    assert answer["reason"] == "UnsupportedMediaType"


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"x"', b"\xff"])
async def test_unreadable_patches_are_bad_requests(client: Client, body: bytes) -> None:
    await client.post(PVS, volume())
    answer = await client.request("PATCH", f"{PVS}/pv-1", raw=body, content_type="application/merge-patch+json")
    assert answer.status == 400
    assert answer["kind"] == "Status"


async def test_patch_that_leaves_no_object_of_the_kind_is_invalid(client: Client) -> None:
    made = (await client.post(PVS, volume())).body
    for change in ({"kind": "Pod"}, {"apiVersion": "v2"}, {"spec": 5}):
        answer = await client.merge(f"{PVS}/pv-1", change)
        assert answer.status == 422
        assert answer["message"].startswith(' "" is invalid: patch: Invalid value: ')
    answer = await client.merge(f"{PVS}/pv-1", {"metadata": {"uid": "other"}})
    assert (answer.status, answer["details"]["causes"][0]["field"]) == (422, "metadata.uid")
    assert (await client.get(f"{PVS}/pv-1")).body == made


async def test_patch_of_a_missing_object_is_not_found(client: Client) -> None:
    assert (await client.merge(f"{PVS}/x", {})).status == 404
