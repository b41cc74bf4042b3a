"""PATCH in three types: what each does, what it refuses, and what it never touches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.apiserver.client import ATTACHMENTS, CORE, STORAGE, VOLUMES, attachment, claim, config_map, pod, with_meta

if TYPE_CHECKING:
    from tests.apiserver.client import Answer, Client
    from tests.apiserver.conftest import Server

REJECTED = "the server rejected our request due to an error in our request"


async def _map(server: Server, **data: str) -> Answer:
    labelled = with_meta(config_map("m", **data), labels={"a": "1"}, finalizers=["x.example.com/a", "x.example.com/b"])
    return (await server.client.post(server.maps, labelled)).ok(201)


async def test_merge_patch_sets_changes_and_removes(server: Server, client: Client) -> None:
    await _map(server, keep="1", change="1", drop="1")
    changed = (await client.merge(f"{server.maps}/m", {"data": {"change": "2", "drop": None, "new": "1"}})).ok()
    assert changed["data"] == {"keep": "1", "change": "2", "new": "1"}


async def test_merge_patch_replaces_lists(server: Server, client: Client) -> None:
    await _map(server)
    changed = (await client.merge(f"{server.maps}/m", {"metadata": {"finalizers": ["x.example.com/c"]}})).ok()
    assert changed.meta["finalizers"] == ["x.example.com/c"]


async def test_merge_patch_with_null_removes_a_map(server: Server, client: Client) -> None:
    await _map(server, a="1")
    changed = (await client.merge(f"{server.maps}/m", {"data": None, "metadata": {"labels": None}})).ok()
    assert "data" not in changed.body
    assert "labels" not in changed.meta


async def test_patch_of_a_missing_object_is_not_found(server: Server, client: Client) -> None:
    (await client.merge(f"{server.maps}/none", {})).refused(404, "NotFound")
    (await client.json_patch(f"{ATTACHMENTS}/{server.name()}/status", [])).refused(404, "NotFound")


async def test_patch_with_a_stale_revision_is_a_conflict(server: Server, client: Client) -> None:
    made = await _map(server)
    (await client.merge(f"{server.maps}/m", {"data": {"a": "1"}})).ok()
    stale = {"metadata": {"resourceVersion": made.revision}, "data": {"a": "2"}}
    (await client.merge(f"{server.maps}/m", stale)).refused(409, "Conflict")


async def test_patch_with_the_present_revision_holds(server: Server, client: Client) -> None:
    made = await _map(server)
    (await client.merge(f"{server.maps}/m", {"metadata": {"resourceVersion": made.revision}, "data": {"a": "2"}})).ok()


async def test_patch_of_the_name_is_refused(server: Server, client: Client) -> None:
    await _map(server)
    answer = (await client.merge(f"{server.maps}/m", {"metadata": {"name": "n"}})).refused(400, "BadRequest")
    assert answer["message"] == "the name of the object (n) does not match the name on the URL (m)"


async def test_patch_of_the_uid_is_refused(server: Server, client: Client) -> None:
    await _map(server)
    answer = await client.merge(f"{server.maps}/m", {"metadata": {"uid": "other"}})
    answer.refused(422, "Invalid")
    assert set(answer.causes) == {'metadata.uid: Invalid value: "other": field is immutable'}


async def test_patch_that_changes_nothing_keeps_the_revision(server: Server, client: Client) -> None:
    made = await _map(server, a="1")
    assert (await client.merge(f"{server.maps}/m", {"data": {"a": "1"}})).ok().revision == made.revision
    assert (await client.json_patch(f"{server.maps}/m", [])).ok().revision == made.revision


async def test_patch_to_status_leaves_the_spec(server: Server, client: Client) -> None:
    made = (await client.post(ATTACHMENTS, attachment(server.name()))).ok(201)
    patch = {"spec": {"nodeName": "other"}, "status": {"attached": True}}
    changed = (await client.merge(f"{ATTACHMENTS}/{server.name()}/status", patch)).ok()
    assert (changed["spec"], changed["status"]) == (made["spec"], {"attached": True})


async def test_patch_to_the_object_leaves_the_status(server: Server, client: Client) -> None:
    (await client.post(ATTACHMENTS, attachment(server.name()))).ok(201)
    patch = {"metadata": {"labels": {"a": "b"}}, "status": {"attached": True}}
    changed = (await client.merge(f"{ATTACHMENTS}/{server.name()}", patch)).ok()
    assert (changed.meta["labels"], changed["status"]) == ({"a": "b"}, {"attached": False})


async def test_patch_with_a_revision_that_is_no_number_fails(server: Server, client: Client) -> None:
    await _map(server)
    answer = (await client.merge(f"{server.maps}/m", {"metadata": {"resourceVersion": "abc"}})).refused(500, "")
    assert answer["message"] == 'strconv.ParseUint: parsing "abc": invalid syntax'


async def test_patch_that_replaces_everything_needs_a_name(server: Server, client: Client) -> None:
    await _map(server)
    operations = [{"op": "replace", "path": "", "value": {"data": {"a": "2"}}}]
    answer = (await client.json_patch(f"{server.maps}/m", operations)).refused(400, "BadRequest")
    assert answer["message"].endswith("was undeterminable: name must be provided")


async def test_status_quantities_are_not_negative(server: Server, client: Client) -> None:
    (await client.post(server.claims, claim("c"))).ok(201)
    answer = await client.merge(f"{server.claims}/c/status", {"status": {"capacity": {"storage": "-1"}}})
    assert answer.refused(422, "Invalid").causes == [
        "status.capacity[storage]: Invalid value: -1: must be a valid resource quantity"
    ]


async def test_dry_run_patch_changes_nothing(server: Server, client: Client) -> None:
    made = await _map(server, a="1")
    assert (await client.merge(f"{server.maps}/m", {"data": {"a": "2"}}, dryRun="All")).ok()["data"] == {"a": "2"}
    assert (await client.get(f"{server.maps}/m")).body == made.body


JSON_PATCHES: dict[str, tuple[list[dict[str, Any]], dict[str, str]]] = {
    "add": ([{"op": "add", "path": "/data/b", "value": "2"}], {"a": "1", "b": "2"}),
    "add over": ([{"op": "add", "path": "/data/a", "value": "2"}], {"a": "2"}),
    "replace": ([{"op": "replace", "path": "/data/a", "value": "2"}], {"a": "2"}),
    "replace missing": ([{"op": "replace", "path": "/data/b", "value": "2"}], {"a": "1", "b": "2"}),
    "remove": ([{"op": "add", "path": "/data/b", "value": "2"}, {"op": "remove", "path": "/data/a"}], {"b": "2"}),
    "copy": ([{"op": "copy", "from": "/data/a", "path": "/data/b"}], {"a": "1", "b": "1"}),
    "copy missing": ([{"op": "copy", "from": "/data/none", "path": "/data/b"}], {"a": "1", "b": ""}),
    "move": ([{"op": "move", "from": "/data/a", "path": "/data/b"}], {"b": "1"}),
    "escaped slash": ([{"op": "copy", "from": "/metadata/labels/a", "path": "/data/x.y"}], {"a": "1", "x.y": "1"}),
    "test holds": (
        [{"op": "test", "path": "/data/a", "value": "1"}, {"op": "add", "path": "/data/b", "value": "2"}],
        {"a": "1", "b": "2"},
    ),
    "test null of a missing path": (
        [{"op": "test", "path": "/data/b", "value": None}, {"op": "add", "path": "/data/b", "value": "2"}],
        {"a": "1", "b": "2"},
    ),
    "test without a value of a missing path": ([{"op": "test", "path": "/data/b"}], {"a": "1"}),
}


@pytest.mark.parametrize(("operations", "data"), list(JSON_PATCHES.values()), ids=list(JSON_PATCHES))
async def test_json_patch(server: Server, client: Client, operations: Any, data: dict[str, str]) -> None:
    await _map(server, a="1")
    assert (await client.json_patch(f"{server.maps}/m", operations)).ok()["data"] == data


BROKEN_PATCHES: dict[str, list[dict[str, Any]]] = {
    "test fails": [{"op": "test", "path": "/data/a", "value": "2"}],
    "test of another type": [{"op": "test", "path": "/data/a", "value": 1}],
    "test null of something": [{"op": "test", "path": "/data/a", "value": None}],
    "test under a missing parent": [{"op": "test", "path": "/none/a", "value": "x"}],
    "remove missing": [{"op": "remove", "path": "/data/none"}],
    "add under a missing parent": [{"op": "add", "path": "/none/a/b", "value": "x"}],
    "index behind the end": [{"op": "add", "path": "/metadata/finalizers/9", "value": "x.example.com/c"}],
    "remove behind the end": [{"op": "remove", "path": "/metadata/finalizers/2"}],
    "unknown operation": [{"op": "frob", "path": "/data/a"}],
    "no path": [{"op": "remove"}],
    "move from nowhere": [{"op": "move", "from": "/data/none", "path": "/data/b"}],
}


@pytest.mark.parametrize("operations", list(BROKEN_PATCHES.values()), ids=list(BROKEN_PATCHES))
async def test_json_patch_that_cannot_be_applied_changes_nothing(
    server: Server, client: Client, operations: Any
) -> None:
    made = await _map(server, a="1")
    first = {"op": "add", "path": "/data/first", "value": "x"}
    answer = (await client.json_patch(f"{server.maps}/m", [first, *operations])).refused(422, "Invalid")
    assert answer["message"] == REJECTED
    assert (await client.get(f"{server.maps}/m")).body == made.body


async def test_finalizer_added_and_removed_with_a_test(server: Server, client: Client) -> None:
    """What a controller does: each step holds only while nobody else changed the list."""
    (await client.post(ATTACHMENTS, attachment(server.name()))).ok(201)
    url = f"{ATTACHMENTS}/{server.name()}"
    first = [
        {"op": "test", "path": "/metadata/finalizers", "value": None},
        {"op": "add", "path": "/metadata/finalizers", "value": ["x.example.com/a"]},
    ]
    assert (await client.json_patch(url, first)).ok().meta["finalizers"] == ["x.example.com/a"]
    (await client.json_patch(url, first)).refused(422, "Invalid")
    second = [
        {"op": "test", "path": "/metadata/finalizers", "value": ["x.example.com/a"]},
        {"op": "add", "path": "/metadata/finalizers/-", "value": "x.example.com/b"},
    ]
    assert (await client.json_patch(url, second)).ok().meta["finalizers"] == ["x.example.com/a", "x.example.com/b"]
    third = [
        {"op": "test", "path": "/metadata/finalizers/0", "value": "x.example.com/a"},
        {"op": "remove", "path": "/metadata/finalizers/0"},
    ]
    assert (await client.json_patch(url, third)).ok().meta["finalizers"] == ["x.example.com/b"]
    (await client.json_patch(url, third)).refused(422, "Invalid")


async def test_json_patch_inserts_into_lists(server: Server, client: Client) -> None:
    await _map(server)
    operations = [
        {"op": "add", "path": "/metadata/finalizers/0", "value": "x.example.com/0"},
        {"op": "add", "path": "/metadata/finalizers/-", "value": "x.example.com/z"},
    ]
    changed = (await client.json_patch(f"{server.maps}/m", operations)).ok()
    assert [item[-1] for item in changed.meta["finalizers"]] == ["0", "a", "b", "z"]


async def test_json_patch_that_is_no_list_is_a_bad_request(server: Server, client: Client) -> None:
    await _map(server)
    answer = (await client.json_patch(f"{server.maps}/m", {"op": "remove"})).refused(400, "BadRequest")
    assert "cannot unmarshal object" in answer["message"]


async def test_json_patch_has_a_limit_of_operations(server: Server, client: Client) -> None:
    await _map(server, a="1")
    many = [{"op": "test", "path": "/data/a", "value": "1"}] * 10_001
    answer = (await client.json_patch(f"{server.maps}/m", many)).refused(413, "RequestEntityTooLarge")
    assert "The allowed maximum operations in a JSON patch is 10000, got 10001" in answer["message"]


@pytest.mark.parametrize("raw", [b"", b"{", b"[", b'"text"', b"nonsense"])
async def test_unreadable_patches_are_bad_requests(server: Server, client: Client, raw: bytes) -> None:
    await _map(server)
    answer = await client.request("PATCH", f"{server.maps}/m", raw=raw, content_type="application/merge-patch+json")
    answer.refused(400, "BadRequest")


async def test_patched_object_of_the_wrong_shape_is_invalid(server: Server, client: Client) -> None:
    await _map(server)
    answer = (await client.merge(f"{server.maps}/m", {"data": {"a": ["list"]}})).refused(422, "Invalid")
    assert "patch: Invalid value: " in answer["message"]
    assert "cannot unmarshal array into Go struct field ConfigMap.data of type string" in answer["message"]


@pytest.mark.parametrize("media", ["application/json", "application/x-frob", "text/plain"])
async def test_other_patch_types_are_unsupported(server: Server, client: Client, media: str) -> None:
    await _map(server)
    answer = await client.request("PATCH", f"{server.maps}/m", {}, content_type=media)
    answer.refused(415, "UnsupportedMediaType")


async def test_unknown_field_in_a_strict_patch_is_refused(server: Server, client: Client) -> None:
    (await client.post(server.claims, claim("c"))).ok(201)
    answer = await client.merge(f"{server.claims}/c", {"spec": {"frob": 1}}, fieldValidation="Strict")
    assert answer.status in {400, 422}
    assert 'unknown field "spec.frob"' in answer["message"]


async def test_strategic_patch_adds_to_finalizers(server: Server, client: Client) -> None:
    await _map(server)
    changed = await client.strategic(f"{server.maps}/m", {"metadata": {"finalizers": ["x.example.com/c"]}})
    assert sorted(changed.ok().meta["finalizers"]) == ["x.example.com/a", "x.example.com/b", "x.example.com/c"]


async def test_strategic_patch_takes_from_primitive_lists(server: Server, client: Client) -> None:
    await _map(server)
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["x.example.com/a"]}}
    assert (await client.strategic(f"{server.maps}/m", patch)).ok().meta["finalizers"] == ["x.example.com/b"]


async def test_strategic_patch_merges_keyed_lists(server: Server, client: Client) -> None:
    (await client.post(server.claims, claim("c"))).ok(201)
    url = f"{server.claims}/c/status"
    for kind, status in (("Resizing", "True"), ("FileSystemResizePending", "True"), ("Resizing", "False")):
        patch = {"status": {"conditions": [{"type": kind, "status": status}]}}
        changed = (await client.strategic(url, patch)).ok()
    found = {item["type"]: item["status"] for item in changed["status"]["conditions"]}
    assert found == {"Resizing": "False", "FileSystemResizePending": "True"}


async def test_strategic_patch_puts_new_items_first(server: Server, client: Client) -> None:
    nodes = f"{STORAGE}/csinodes"
    body = {"metadata": {"name": server.name()}, "spec": {"drivers": [{"name": "a", "nodeID": "n"}]}}
    (await client.post(nodes, body)).ok(201)
    patch = {"spec": {"drivers": [{"name": "b", "nodeID": "n"}]}}
    changed = (await client.strategic(f"{nodes}/{server.name()}", patch)).ok()
    assert [driver["name"] for driver in changed["spec"]["drivers"]] == ["b", "a"]
    await client.delete(f"{nodes}/{server.name()}")


async def test_strategic_patch_orders_as_told(server: Server, client: Client) -> None:
    nodes = f"{STORAGE}/csinodes"
    drivers = [{"name": name, "nodeID": "n"} for name in "abc"]
    (await client.post(nodes, {"metadata": {"name": server.name()}, "spec": {"drivers": drivers}})).ok(201)
    order = [{"name": name} for name in "cab"]
    changed = (await client.strategic(f"{nodes}/{server.name()}", {"spec": {"$setElementOrder/drivers": order}})).ok()
    assert [driver["name"] for driver in changed["spec"]["drivers"]] == ["c", "a", "b"]
    await client.delete(f"{nodes}/{server.name()}")


async def test_strategic_patch_deletes_keyed_items(server: Server, client: Client) -> None:
    nodes = f"{STORAGE}/csinodes"
    drivers = [{"name": name, "nodeID": "n"} for name in "ab"]
    (await client.post(nodes, {"metadata": {"name": server.name()}, "spec": {"drivers": drivers}})).ok(201)
    patch = {"spec": {"drivers": [{"name": "a", "$patch": "delete"}]}}
    changed = (await client.strategic(f"{nodes}/{server.name()}", patch)).ok()
    assert [driver["name"] for driver in changed["spec"]["drivers"]] == ["b"]
    await client.delete(f"{nodes}/{server.name()}")


async def test_strategic_patch_replaces_when_told(server: Server, client: Client) -> None:
    await _map(server, a="1", b="2")
    changed = (await client.strategic(f"{server.maps}/m", {"data": {"$patch": "replace", "c": "3"}})).ok()
    assert changed["data"] == {"c": "3"}


async def test_strategic_patch_deletes_when_told(server: Server, client: Client) -> None:
    await _map(server, a="1")
    changed = (await client.strategic(f"{server.maps}/m", {"data": {"$patch": "delete"}})).ok()
    assert "data" not in changed.body


async def test_strategic_patch_replaces_plain_lists(server: Server, client: Client) -> None:
    (await client.post(VOLUMES, {**_volume(server.name())})).ok(201)
    url = f"{VOLUMES}/{server.name()}"
    (await client.strategic(url, {"spec": {"mountOptions": ["a", "b"]}})).ok()
    changed = (await client.strategic(url, {"spec": {"mountOptions": ["c"]}})).ok()
    assert changed["spec"]["mountOptions"] == ["c"]


def _volume(name: str) -> dict[str, Any]:
    from tests.apiserver.client import volume

    return volume(name)


async def test_strategic_patch_without_the_merge_key_fails(server: Server, client: Client) -> None:
    (await client.post(server.pods, pod("p"))).ok(201)
    answer = await client.strategic(f"{server.pods}/p", {"spec": {"containers": [{"image": "x"}]}})
    assert answer.status >= 400
    assert "does not contain declared merge key: name" in answer["message"]


async def test_strategic_patch_with_an_unknown_directive_fails(server: Server, client: Client) -> None:
    await _map(server, a="1")
    answer = await client.strategic(f"{server.maps}/m", {"data": {"$patch": "frob"}})
    assert answer.status >= 400
    assert "frob" in answer["message"]


async def test_retain_keys_drops_the_others(server: Server, client: Client) -> None:
    volumes = [{"name": "v", "emptyDir": {}}]
    body = {
        "metadata": {"name": "p"},
        "spec": {"template": _template(volumes), "selector": {"matchLabels": {"a": "b"}}},
    }
    path = f"/apis/apps/v1/namespaces/{server.unique}/deployments"
    (await client.post(path, body)).ok(201)
    swap = {"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}
    patch = {"spec": {"template": {"spec": {"volumes": [swap]}}}}
    changed = (await client.strategic(f"{path}/p", patch)).ok()
    (found,) = changed["spec"]["template"]["spec"]["volumes"]
    assert set(found) == {"name", "hostPath"}


def _template(volumes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "main", "image": "busybox:1"}], "volumes": volumes},
    }


async def test_force_belongs_to_apply(server: Server, client: Client) -> None:
    await _map(server)
    answer = (await client.merge(f"{server.maps}/m", {}, force="true")).refused(422, "Invalid")
    assert answer["message"] == (
        'PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch'
    )


async def test_long_field_manager_is_refused(server: Server, client: Client) -> None:
    await _map(server)
    answer = (await client.merge(f"{server.maps}/m", {}, fieldManager="x" * 129)).refused(422, "Invalid")
    assert answer["message"] == (
        'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Too long: may not be more than 128 bytes'
    )


async def test_node_status_patch_keeps_the_spec(server: Server, client: Client) -> None:
    nodes = f"{CORE}/nodes"
    (await client.post(nodes, {"metadata": {"name": server.name()}})).ok(201)
    volumes = [{"name": "kubernetes.io/csi/d^h", "devicePath": ""}]
    changed = await client.merge(f"{nodes}/{server.name()}/status", {"status": {"volumesAttached": volumes}})
    assert changed.ok()["status"]["volumesAttached"] == volumes
    await client.delete(f"{nodes}/{server.name()}")
