"""Server-side apply: ownership, conflicts, and fields nobody wants any more."""

from __future__ import annotations

from typing import Any

from tests.testing.apiserver.conftest import CORE, Client, volume

MAPS = f"{CORE}/namespaces/default/configmaps"
PVS = f"{CORE}/persistentvolumes"


def config(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data}


async def test_apply_creates_and_owns_what_it_says(client: Client) -> None:
    answer = await client.apply(f"{MAPS}/c", config(a="1"))
    assert answer.status == 201
    entry = answer.meta["managedFields"][0]
    assert (entry["manager"], entry["operation"]) == ("me", "Apply")
    assert entry["fieldsV1"] == {"f:data": {"f:a": {}}}
    again = await client.apply(f"{MAPS}/c", config(a="1"))
    assert again.status == 200
    assert again.meta["resourceVersion"] == answer.meta["resourceVersion"]


async def test_fields_left_out_of_the_next_apply_go(client: Client) -> None:
    await client.apply(f"{MAPS}/c", config(a="1", b="2"))
    answer = await client.apply(f"{MAPS}/c", config(a="1"))
    assert answer["data"] == {"a": "1"}


async def test_fields_of_others_stay(client: Client) -> None:
    await client.apply(f"{MAPS}/c", config(a="1"))
    await client.apply(f"{MAPS}/c", config(b="2"), manager="you")
    answer = await client.apply(f"{MAPS}/c", config(c="3"))
    assert answer["data"] == {"b": "2", "c": "3"}


async def test_other_value_for_an_owned_field_is_a_conflict_unless_forced(client: Client) -> None:
    await client.apply(f"{MAPS}/c", config(a="1"))
    answer = await client.apply(f"{MAPS}/c", config(a="2"), manager="you")
    assert answer.status == 409
    assert answer["message"] == 'Apply failed with 1 conflict: conflict with "me": .data.a'
    assert answer["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "me"', "field": ".data.a"}
    ]
    forced = await client.apply(f"{MAPS}/c", config(a="2"), manager="you", force="true")
    assert forced["data"] == {"a": "2"}
    assert [entry["manager"] for entry in forced.meta["managedFields"]] == ["you"]
    assert (await client.apply(f"{MAPS}/c", config(a="2"))).status == 200


async def test_plain_writes_take_ownership(client: Client) -> None:
    await client.apply(f"{MAPS}/c", config(a="1", b="2"))
    await client.merge(f"{MAPS}/c", {"data": {"a": "9"}}, fieldManager="editor")
    answer = await client.apply(f"{MAPS}/c", config(a="1", b="2"))
    assert answer.status == 409
    assert 'conflict with "editor" using v1' in answer["message"]


async def test_object_made_before_the_first_apply_keeps_its_fields(client: Client) -> None:
    await client.post(MAPS, config(a="1"))
    answer = await client.apply(f"{MAPS}/c", config(a="2"))
    assert answer.status == 409
    assert 'conflict with "before-first-apply" using v1' in answer["message"]
    answer = await client.apply(f"{MAPS}/c", config(b="2"))
    assert answer["data"] == {"a": "1", "b": "2"}


async def test_finalizers_are_owned_one_by_one(client: Client) -> None:
    await client.post(PVS, volume())
    url = f"{PVS}/pv-1"
    body = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"finalizers": ["example.com/a"]}}
    answer = await client.apply(url, body)
    assert answer.status == 200, answer.text
    assert answer.meta["finalizers"] == ["kubernetes.io/pv-protection", "example.com/a"]
    body["metadata"] = {}
    answer = await client.apply(url, body)
    assert answer.meta["finalizers"] == ["kubernetes.io/pv-protection"]


async def test_keyed_lists_merge_by_key(client: Client) -> None:
    nodes = f"{CORE}/nodes"
    await client.post(nodes, {"metadata": {"name": "n"}})

    def body(**statuses: str) -> dict[str, Any]:
        conditions = [{"type": kind, "status": status} for kind, status in statuses.items()]
        return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {"conditions": conditions}}

    await client.apply(f"{nodes}/n/status", body(Ready="True"))
    answer = await client.apply(f"{nodes}/n/status", body(Disk="False"), manager="you")
    assert [item["type"] for item in answer["status"]["conditions"]] == ["Ready", "Disk"]
    answer = await client.apply(f"{nodes}/n/status", body(), manager="you")
    assert [item["type"] for item in answer["status"]["conditions"]] == ["Ready"]


async def test_apply_needs_a_manager_and_a_kind(client: Client) -> None:
    answer = await client.apply(f"{MAPS}/c", {"metadata": {"name": "c"}})
    assert answer.status == 400
    answer = await client.apply(f"{MAPS}/c", {**config(), "metadata": {"name": "other"}})
    assert answer.status == 400
