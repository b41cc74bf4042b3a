"""Server-side apply: who owns which field, and what happens to what is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.apiserver.client import Answer, claim, config_map, with_meta

if TYPE_CHECKING:
    from tests.apiserver.client import Client
    from tests.apiserver.conftest import Server


def owners(answer: Answer) -> dict[str, Any]:
    """Manager and operation → what it owns."""
    return {f"{item['manager']}/{item['operation']}": item["fieldsV1"] for item in answer.meta["managedFields"]}


async def test_apply_creates_and_then_changes(server: Server, client: Client) -> None:
    url = f"{server.maps}/m"
    made = (await client.apply(url, config_map("m", a="1"))).ok(201)
    assert made["data"] == {"a": "1"}
    changed = (await client.apply(url, config_map("m", a="2"))).ok()
    assert changed["data"] == {"a": "2"}
    assert changed.meta["uid"] == made.meta["uid"]


async def test_applied_fields_are_owned(server: Server, client: Client) -> None:
    made = (await client.apply(f"{server.maps}/m", with_meta(config_map("m", a="1"), labels={"x": "y"}))).ok(201)
    (entry,) = [item for item in made.meta["managedFields"] if item["manager"] == "me"]
    assert (entry["operation"], entry["apiVersion"], entry["fieldsType"]) == ("Apply", "v1", "FieldsV1")
    assert entry["fieldsV1"] == {"f:data": {"f:a": {}}, "f:metadata": {"f:labels": {"f:x": {}}}}


async def test_fields_left_out_of_the_next_apply_go(server: Server, client: Client) -> None:
    url = f"{server.maps}/m"
    (await client.apply(url, config_map("m", a="1", b="1"))).ok(201)
    assert (await client.apply(url, config_map("m", a="1"))).ok()["data"] == {"a": "1"}


async def test_fields_of_others_stay(server: Server, client: Client) -> None:
    url = f"{server.maps}/m"
    (await client.apply(url, config_map("m", a="1"), manager="one")).ok(201)
    (await client.apply(url, config_map("m", b="1"), manager="two")).ok()
    assert (await client.apply(url, config_map("m"), manager="one")).ok()["data"] == {"b": "1"}


async def test_shared_fields_stay_until_the_last_owner_lets_go(server: Server, client: Client) -> None:
    url = f"{server.maps}/m"
    (await client.apply(url, config_map("m", a="1"), manager="one")).ok(201)
    (await client.apply(url, config_map("m", a="1"), manager="two")).ok()
    assert (await client.apply(url, config_map("m"), manager="one")).ok()["data"] == {"a": "1"}
    assert "data" not in (await client.apply(url, config_map("m"), manager="two")).ok().body


async def test_other_value_for_an_owned_field_is_a_conflict(server: Server, client: Client) -> None:
    url = f"{server.maps}/m"
    (await client.apply(url, config_map("m", a="1"), manager="one")).ok(201)
    answer = (await client.apply(url, config_map("m", a="2"), manager="two")).refused(409, "Conflict")
    assert answer["message"] == 'Apply failed with 1 conflict: conflict with "one": .data.a'
    assert answer["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.a"}
    ]
    assert (await client.get(url))["data"] == {"a": "1"}


async def test_forced_apply_takes_the_field(server: Server, client: Client) -> None:
    url = f"{server.maps}/m"
    (await client.apply(url, config_map("m", a="1"), manager="one")).ok(201)
    forced = (await client.apply(url, config_map("m", a="2"), manager="two", force="true")).ok()
    assert forced["data"] == {"a": "2"}
    assert set(owners(forced)) == {"two/Apply"}


async def test_plain_writes_take_ownership(server: Server, client: Client) -> None:
    url = f"{server.maps}/m"
    (await client.apply(url, config_map("m", a="1"))).ok(201)
    changed = (await client.merge(url, {"data": {"a": "2"}}, fieldManager="editor")).ok()
    assert owners(changed)["editor/Update"] == {"f:data": {"f:a": {}}}
    answer = (await client.apply(url, config_map("m", a="1"))).refused(409, "Conflict")
    assert 'conflict with "editor"' in answer["message"]


async def test_finalizers_are_owned_one_by_one(server: Server, client: Client) -> None:
    url = f"{server.maps}/m"
    bare = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}}
    for manager in ("one", "two"):
        body = with_meta(bare, finalizers=[f"x.example.com/{manager}"])
        applied = await client.apply(url, body, manager=manager)
    assert sorted(applied.ok().meta["finalizers"]) == ["x.example.com/one", "x.example.com/two"]
    left = (await client.apply(url, bare, manager="one")).ok()
    assert left.meta["finalizers"] == ["x.example.com/two"]


async def test_apply_needs_a_manager(server: Server, client: Client) -> None:
    answer = await client.request(
        "PATCH", f"{server.maps}/m", config_map("m"), content_type="application/apply-patch+yaml"
    )
    answer.refused(422, "Invalid")
    assert answer["message"] == (
        'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
    )


async def test_apply_needs_kind_and_version(server: Server, client: Client) -> None:
    answer = await client.apply(f"{server.maps}/m", {"metadata": {"name": "m"}})
    answer.refused(400, "BadRequest")


async def test_applied_managed_fields_are_refused(server: Server, client: Client) -> None:
    body = with_meta(config_map("m"), managedFields=[{"manager": "x", "operation": "Apply"}])
    answer = (await client.apply(f"{server.maps}/m", body)).refused(400, "BadRequest")
    assert "metadata.managedFields must be nil" in answer["message"]


async def test_apply_that_changes_nothing_keeps_the_revision(server: Server, client: Client) -> None:
    url = f"{server.maps}/m"
    made = (await client.apply(url, config_map("m", a="1"))).ok(201)
    assert (await client.apply(url, config_map("m", a="1"))).ok().revision == made.revision


async def test_dry_run_apply_stores_nothing(server: Server, client: Client) -> None:
    (await client.apply(f"{server.maps}/m", config_map("m"), dryRun="All")).ok(201)
    (await client.get(f"{server.maps}/m")).refused(404, "NotFound")


async def test_apply_to_status_owns_the_status_alone(server: Server, client: Client) -> None:
    (await client.post(server.claims, claim("c"))).ok(201)
    body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}, "status": {"phase": "Lost"}}
    changed = (await client.apply(f"{server.claims}/c/status", body)).ok()
    assert changed["status"]["phase"] == "Lost"
    (entry,) = [item for item in changed.meta["managedFields"] if item["manager"] == "me"]
    assert (entry["subresource"], entry["fieldsV1"]) == ("status", {"f:status": {"f:phase": {}}})


async def test_apply_merges_keyed_lists(server: Server, client: Client) -> None:
    (await client.post(server.claims, claim("c"))).ok(201)
    for manager, kind in (("one", "Resizing"), ("two", "FileSystemResizePending")):
        body = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "c"},
            "status": {"conditions": [{"type": kind, "status": "True"}]},
        }
        changed = (await client.apply(f"{server.claims}/c/status", body, manager=manager)).ok()
    assert {item["type"] for item in changed["status"]["conditions"]} == {"Resizing", "FileSystemResizePending"}


async def test_apply_in_yaml(server: Server, client: Client) -> None:
    raw = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m\ndata:\n  a: 'yes'\n"
    answer = await client.request(
        "PATCH", f"{server.maps}/m", raw=raw, content_type="application/apply-patch+yaml", fieldManager="me"
    )
    assert answer.ok(201)["data"] == {"a": "yes"}
