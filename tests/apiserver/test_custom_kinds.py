"""A kind that the server does not know by itself: a CustomResourceDefinition there, a declaration here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.apiserver.client import TABLE

if TYPE_CHECKING:
    from tests.apiserver.client import Client, Object


def widget(name: str, **spec: object) -> Object:
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec}


async def test_life(client: Client, widgets: str) -> None:
    made = (await client.post(widgets, widget("w", size=1, deep={"a": [1, {"b": None}]}))).ok(201)
    assert made["spec"]["size"] == 1
    assert made["spec"]["deep"]["a"][0] == 1
    changed = (await client.merge(f"{widgets}/w", {"spec": {"size": 2}})).ok()
    assert changed["spec"]["size"] == 2
    (await client.delete(f"{widgets}/w")).ok()
    (await client.get(f"{widgets}/w")).refused(404, "NotFound")


async def test_items_carry_their_kind(client: Client, widgets: str) -> None:
    (await client.post(widgets, widget("w"))).ok(201)
    found = (await client.get(widgets)).ok()
    assert found["kind"] == "WidgetList"
    assert (found["items"][0]["kind"], found["items"][0]["apiVersion"]) == ("Widget", "example.com/v1")


async def test_generation_counts_changes_of_the_spec(client: Client, widgets: str) -> None:
    made = (await client.post(widgets, widget("w", size=1))).ok(201)
    assert made.meta["generation"] == 1
    assert (await client.merge(f"{widgets}/w", {"metadata": {"labels": {"a": "b"}}})).ok().meta["generation"] == 1
    assert (await client.merge(f"{widgets}/w/status", {"status": {"x": 1}})).ok().meta["generation"] == 1
    assert (await client.merge(f"{widgets}/w", {"spec": {"size": 2}})).ok().meta["generation"] == 2


async def test_status_is_apart(client: Client, widgets: str) -> None:
    made = (await client.post(widgets, {**widget("w"), "status": {"x": 1}})).ok(201)
    assert "status" not in made.body
    assert (await client.merge(f"{widgets}/w", {"status": {"x": 2}})).ok().body.get("status") is None
    changed = await client.merge(f"{widgets}/w/status", {"status": {"x": 3}, "spec": {"size": 9}})
    assert changed.ok()["status"] == {"x": 3}
    assert changed.body.get("spec", {}).get("size") is None


async def test_strategic_patch_is_unsupported(client: Client, widgets: str) -> None:
    (await client.post(widgets, widget("w"))).ok(201)
    answer = await client.strategic(f"{widgets}/w", {"spec": {"size": 2}})
    answer.refused(415, "UnsupportedMediaType")


async def test_update_needs_a_revision(client: Client, widgets: str) -> None:
    (await client.post(widgets, widget("w"))).ok(201)
    answer = (await client.put(f"{widgets}/w", widget("w", size=2))).refused(422, "Invalid")
    assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in answer["message"]


async def test_body_needs_kind_and_version(client: Client, widgets: str) -> None:
    (await client.post(widgets, {"metadata": {"name": "w"}})).refused(400, "BadRequest")


async def test_declared_columns_are_shown(client: Client, widgets: str) -> None:
    (await client.post(widgets, widget("w", size=3))).ok(201)
    found = (await client.get(widgets, accept=TABLE)).ok()
    assert [column["name"] for column in found["columnDefinitions"]] == ["Name", "Size", "Age"]
    assert found["rows"][0]["cells"][:2] == ["w", 3]


async def test_watch_shows_them(client: Client, widgets: str) -> None:
    revision = (await client.get(widgets)).revision
    async with client.watch(widgets, resourceVersion=revision) as watch:
        await client.post(widgets, widget("w"))
        line = await watch.next()
    assert (line["type"], line["object"]["kind"]) == ("ADDED", "Widget")


async def test_discovery_names_them(client: Client, widgets: str) -> None:
    found = (await client.get("/apis/example.com/v1")).ok()
    (item,) = [item for item in found["resources"] if item["name"] == "widgets"]
    assert (item["kind"], item["shortNames"]) == ("Widget", ["wd"])


async def test_apply_owns_fields(client: Client, widgets: str) -> None:
    made = (await client.apply(f"{widgets}/w", widget("w", size=1))).ok(201)
    (entry,) = made.meta["managedFields"]
    assert entry["fieldsV1"]["f:spec"]["f:size"] == {}
