"""Watches: where they begin, what they show, and how they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.apiserver.client import ATTACHMENTS, CORE, STORAGE, TABLE, VOLUMES, attachment, config_map, volume

if TYPE_CHECKING:
    from tests.apiserver.client import Client
    from tests.apiserver.conftest import Server

STREAM: dict[str, Any] = {
    "sendInitialEvents": "true",
    "resourceVersionMatch": "NotOlderThan",
    "allowWatchBookmarks": "true",
}


async def test_watch_from_a_revision_shows_what_came_after(server: Server, client: Client) -> None:
    made = await server.fill(2)
    async with client.watch(server.maps, resourceVersion=made[0].revision) as watch:
        assert watch.status == 200
        assert watch.response.headers["Content-Type"].startswith("application/json")
        assert await watch.take(1) == [("ADDED", "m1")]
        await client.merge(f"{server.maps}/m1", {"data": {"a": "b"}})
        await client.delete(f"{server.maps}/m0")
        await client.post(server.maps, config_map("m2"))
        assert await watch.take(3) == [("MODIFIED", "m1"), ("DELETED", "m0"), ("ADDED", "m2")]


async def test_watch_lines_carry_whole_objects_with_their_kind(server: Server, client: Client) -> None:
    async with client.watch(ATTACHMENTS, fieldSelector=f"metadata.name={server.name()}") as watch:
        made = (await client.post(ATTACHMENTS, attachment(server.name()))).ok(201)
        assert await watch.next() == {"type": "ADDED", "object": made.body}


@pytest.mark.parametrize("revision", ["", "0"])
async def test_watch_without_a_revision_begins_with_the_present(server: Server, client: Client, revision: str) -> None:
    for suffix in "ab":
        (await client.post(VOLUMES, volume(server.name(suffix)))).ok(201)
    await client.eventually(f"{VOLUMES}?resourceVersion=0", lambda page: server.name("b") in page.names)
    query = {"resourceVersion": revision} if revision else {}
    async with client.watch(VOLUMES, **query) as watch:
        seen: list[str] = []
        while not {server.name("a"), server.name("b")} <= set(seen):
            line = await watch.next()
            assert line["type"] == "ADDED"
            seen.append(line["object"]["metadata"]["name"])
        await client.post(VOLUMES, volume(server.name("c")))
        while ("ADDED", server.name("c")) not in await watch.take(1):
            pass


async def test_deleted_line_carries_the_last_state_and_a_new_revision(server: Server, client: Client) -> None:
    made = (await server.fill(1))[0]
    async with client.watch(server.maps, resourceVersion=made.revision) as watch:
        await client.delete(f"{server.maps}/m0")
        line = await watch.next()
    assert line["type"] == "DELETED"
    assert line["object"]["metadata"]["uid"] == made.meta["uid"]
    assert int(line["object"]["metadata"]["resourceVersion"]) > int(made.revision)


async def test_streamed_list_ends_with_a_marked_bookmark(server: Server, client: Client) -> None:
    made = await server.fill(2)
    async with client.watch(server.maps, **STREAM) as watch:
        assert await watch.take(2) == [("ADDED", "m0"), ("ADDED", "m1")]
        mark = await watch.next()
        assert mark["type"] == "BOOKMARK"
        assert mark["object"]["kind"] == "ConfigMap"
        assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert int(mark["object"]["metadata"]["resourceVersion"]) >= int(made[1].revision)
        await client.post(server.maps, config_map("m2"))
        while (line := await watch.next())["type"] == "BOOKMARK":
            pass
        assert (line["type"], line["object"]["metadata"]["name"]) == ("ADDED", "m2")


async def test_streamed_list_through_the_cache(server: Server, client: Client) -> None:
    (await client.post(ATTACHMENTS, attachment(server.name()))).ok(201)
    async with client.watch(ATTACHMENTS, fieldSelector=f"metadata.name={server.name()}", **STREAM) as watch:
        assert await watch.take(1) == [("ADDED", server.name())]
        mark = await watch.next()
        assert mark["type"] == "BOOKMARK"
        assert mark["object"]["kind"] == "VolumeAttachment"
        assert mark["object"]["apiVersion"] == "storage.k8s.io/v1"
        assert mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true"


async def test_streamed_list_of_nothing_is_the_bookmark_alone(server: Server, client: Client) -> None:
    async with client.watch(server.claims, **STREAM) as watch:
        mark = await watch.next()
        assert (mark["type"], mark["object"]["kind"]) == ("BOOKMARK", "PersistentVolumeClaim")


async def test_watch_that_wants_no_initial_events_begins_now(server: Server, client: Client) -> None:
    await server.fill(1)
    query = {"sendInitialEvents": "false", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    async with client.watch(server.maps, **query) as watch:
        await client.post(server.maps, config_map("m1"))
        while (line := await watch.next())["type"] == "BOOKMARK":
            pass
        assert line["object"]["metadata"]["name"] == "m1"


@pytest.mark.parametrize(
    ("query", "cause"),
    [
        (
            {"sendInitialEvents": "true"},
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (
            {"resourceVersionMatch": "NotOlderThan"},
            (
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents "
                "is provided"
            ),
        ),
    ],
)
async def test_watch_options_that_do_not_go_together_are_invalid(
    server: Server, client: Client, query: dict[str, str], cause: str
) -> None:
    answer = (await client.get(server.maps, watch="true", **query)).refused(422, "Invalid")
    assert answer.causes[0] == cause


async def test_streamed_list_of_an_exact_revision_is_invalid(server: Server, client: Client) -> None:
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "Exact", "resourceVersion": "1"}
    (await client.get(server.maps, watch="true", **query)).refused(422, "Invalid")


async def test_watch_ends_after_its_timeout(server: Server, client: Client) -> None:
    made = await server.fill(1)
    async with client.watch(server.maps, resourceVersion=made[0].revision, timeoutSeconds=1) as watch:
        assert await watch.rest() == []


async def test_forgotten_revision_is_an_error_line(server: Server, client: Client) -> None:
    made = await server.fill(3)
    await server.compact()
    async with client.watch(server.maps, resourceVersion=made[0].revision) as watch:
        line = await watch.next()
    assert line["type"] == "ERROR"
    status = line["object"]
    assert (status["kind"], status["code"], status["status"]) == ("Status", 410, "Failure")
    assert status["reason"] in {"Expired", "Gone"}
    assert "too old" in status["message"]


async def test_watch_from_the_newest_revision_survives_compaction(server: Server, client: Client) -> None:
    await server.fill(2)
    await server.compact()
    revision = (await client.get(server.maps)).revision
    async with client.watch(server.maps, resourceVersion=revision) as watch:
        await client.post(server.maps, config_map("next"))
        assert await watch.take(1) == [("ADDED", "next")]


@pytest.mark.parametrize("revision", ["x", "-1"])
async def test_revision_that_is_no_number_is_refused(server: Server, client: Client, revision: str) -> None:
    answer = await client.get(VOLUMES, watch="true", resourceVersion=revision)
    assert answer.status in {400, 500}  # the watch cache passes on what it could not read
    assert f'parsing "{revision}"' in answer.text.replace("\\", "")


async def test_label_selector_turns_changes_into_arrivals_and_departures(server: Server, client: Client) -> None:
    revision = (await client.get(server.maps)).revision
    async with client.watch(server.maps, resourceVersion=revision, labelSelector="shown=yes") as watch:
        await client.post(server.maps, config_map("hidden"))
        await client.merge(f"{server.maps}/hidden", {"metadata": {"labels": {"shown": "yes"}}})
        await client.merge(f"{server.maps}/hidden", {"data": {"a": "1"}})
        await client.merge(f"{server.maps}/hidden", {"metadata": {"labels": {"shown": "no"}}})
        await client.merge(f"{server.maps}/hidden", {"data": {"a": "2"}})
        await client.merge(f"{server.maps}/hidden", {"metadata": {"labels": {"shown": "yes"}}})
        assert [kind for kind, _ in await watch.take(4)] == ["ADDED", "MODIFIED", "DELETED", "ADDED"]


async def test_watch_of_one_object_by_field(server: Server, client: Client) -> None:
    revision = (await client.get(server.maps)).revision
    async with client.watch(server.maps, resourceVersion=revision, fieldSelector="metadata.name=m1") as watch:
        await server.fill(3)
        await client.delete(f"{server.maps}/m1")
        assert await watch.take(2) == [("ADDED", "m1"), ("DELETED", "m1")]


async def test_watch_of_one_object_by_path(server: Server, client: Client) -> None:
    made = await server.fill(2)
    path = server.maps.replace(CORE, f"{CORE}/watch")
    async with client.watch(f"{path}/m1", resourceVersion=made[1].revision) as watch:
        await client.merge(f"{server.maps}/m0", {"data": {"a": "1"}})
        await client.merge(f"{server.maps}/m1", {"data": {"a": "1"}})
        assert await watch.take(1) == [("MODIFIED", "m1")]


async def test_get_of_one_object_is_never_a_watch(server: Server, client: Client) -> None:
    await server.fill(1)
    assert (await client.get(f"{server.maps}/m0", watch="true")).ok()["kind"] == "ConfigMap"


async def test_watch_of_a_namespace_sees_no_other(server: Server, client: Client) -> None:
    revision = (await client.get(server.maps)).revision
    async with client.watch(server.maps, resourceVersion=revision) as watch:
        await client.post(f"{CORE}/namespaces/default/configmaps", config_map(server.name()))
        await client.post(server.maps, config_map("mine"))
        assert await watch.take(1) == [("ADDED", "mine")]
    await client.delete(f"{CORE}/namespaces/default/configmaps/{server.name()}")


async def test_bookmark_before_the_timeout_moves_the_revision_on(server: Server, client: Client) -> None:
    """A real server sends one about two seconds before a watch ends, so that its reader can go on from there."""
    query: dict[str, Any] = {"allowWatchBookmarks": "true", "timeoutSeconds": 4, "fieldSelector": "metadata.name=none"}
    revision = (await client.get(ATTACHMENTS)).revision
    async with client.watch(ATTACHMENTS, resourceVersion=revision, **query) as watch:
        made = (await client.post(ATTACHMENTS, attachment(server.name()))).ok(201)
        lines = await watch.rest()
    assert {line["type"] for line in lines} == {"BOOKMARK"}
    assert lines[-1]["object"]["kind"] == "VolumeAttachment"
    assert int(lines[-1]["object"]["metadata"]["resourceVersion"]) >= int(made.revision)


async def test_no_bookmarks_unless_asked_for(server: Server, client: Client) -> None:
    revision = (await client.get(f"{STORAGE}/csidrivers")).revision
    async with client.watch(f"{STORAGE}/csidrivers", resourceVersion=revision, timeoutSeconds=1) as watch:
        assert await watch.rest() == []


async def test_table_watch_sends_rows(server: Server, client: Client) -> None:
    made = await server.fill(1)
    async with client.watch(server.maps, accept=TABLE, resourceVersion=made[0].revision) as watch:
        await client.post(server.maps, config_map("m1", a="b"))
        first = await watch.next()
        await client.post(server.maps, config_map("m2"))
        second = await watch.next()
    assert (first["type"], first["object"]["kind"]) == ("ADDED", "Table")
    assert first["object"]["rows"][0]["cells"][:2] == ["m1", 1]
    assert [column["name"] for column in first["object"]["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert not second["object"]["columnDefinitions"]


async def test_status_write_is_one_change(server: Server, client: Client) -> None:
    made = (await client.post(ATTACHMENTS, attachment(server.name()))).ok(201)
    query = {"resourceVersion": made.revision, "fieldSelector": f"metadata.name={server.name()}"}
    async with client.watch(ATTACHMENTS, **query) as watch:
        await client.merge(f"{ATTACHMENTS}/{server.name()}/status", {"status": {"attached": True}})
        line = await watch.next()
        assert (line["type"], line["object"]["status"]) == ("MODIFIED", {"attached": True})


async def test_write_that_changes_nothing_is_not_shown(server: Server, client: Client) -> None:
    made = (await client.post(server.maps, config_map("m", a="b"))).ok(201)
    async with client.watch(server.maps, resourceVersion=made.revision) as watch:
        same = (await client.merge(f"{server.maps}/m", {"data": {"a": "b"}})).ok()
        assert same.revision == made.revision
        await client.post(server.maps, config_map("next"))
        assert await watch.take(1) == [("ADDED", "next")]
