"""Watches: where they begin, what they show, how they end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.testing.apiserver import FakeAPIServer
from tests.testing.apiserver.conftest import CORE, STORAGE, Client, attachment, claim, volume

if TYPE_CHECKING:
    import aiohttp

PVS = f"{CORE}/persistentvolumes"
PVCS = f"{CORE}/namespaces/default/persistentvolumeclaims"
VAS = f"{STORAGE}/volumeattachments"


async def revision(client: Client, path: str = PVS) -> str:
    found: str = (await client.get(path)).meta["resourceVersion"]
    return found


async def test_watch_from_a_revision_shows_what_came_after(client: Client) -> None:
    await client.post(VAS, attachment("old"))
    start = await revision(client, VAS)
    await client.post(VAS, attachment())
    async with client.watch(VAS, resourceVersion=start) as watch:
        await client.merge(f"{VAS}/va-1", {"metadata": {"labels": {"a": "b"}}})
        await client.delete(f"{VAS}/va-1")
        lines = [await watch.next() for _ in range(3)]
    assert [line["type"] for line in lines] == ["ADDED", "MODIFIED", "DELETED"]
    assert lines[0]["object"]["kind"] == "VolumeAttachment"
    revisions = [int(line["object"]["metadata"]["resourceVersion"]) for line in lines]
    assert revisions == sorted(set(revisions))
    assert revisions[0] > int(start)


@pytest.mark.parametrize("query", [{}, {"resourceVersion": "0"}])
async def test_watch_without_a_revision_begins_with_the_present(client: Client, query: dict[str, str]) -> None:
    await client.post(PVS, volume("a"))
    await client.post(PVS, volume("b"))
    async with client.watch(PVS, **query) as watch:
        assert await watch.take(2) == [("ADDED", "a"), ("ADDED", "b")]
        await client.post(PVS, volume("c"))
        assert await watch.take(1) == [("ADDED", "c")]


async def test_streamed_list_ends_with_a_marked_bookmark(client: Client) -> None:
    await client.post(PVS, volume())
    async with client.watch(
        PVS, sendInitialEvents="true", resourceVersionMatch="NotOlderThan", allowWatchBookmarks="true"
    ) as watch:
        assert await watch.take(1) == [("ADDED", "pv-1")]
        mark = await watch.next()
        assert mark["type"] == "BOOKMARK"
        assert mark["object"]["kind"] == "PersistentVolume"
        assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert mark["object"]["metadata"]["resourceVersion"] == await revision(client)
        await client.post(PVS, volume("next"))
        assert await watch.take(1) == [("ADDED", "next")]


async def test_streamed_list_of_nothing_is_the_bookmark_alone(client: Client) -> None:
    async with client.watch(
        PVS, sendInitialEvents="true", resourceVersionMatch="NotOlderThan", allowWatchBookmarks="true"
    ) as watch:
        mark = await watch.next()
        assert "k8s.io/initial-events-end" in mark["object"]["metadata"]["annotations"]


async def test_streamed_list_needs_the_match(client: Client) -> None:
    answer = await client.get(PVS, watch="1", sendInitialEvents="true")
    assert answer.status == 422
    assert "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan" in answer["message"]


async def test_bookmarks_come_only_when_asked_for(client: Client) -> None:
    start = await revision(client)
    async with (
        client.watch(PVS, resourceVersion=start, allowWatchBookmarks="true") as asked,
        client.watch(PVS, resourceVersion=start, timeoutSeconds=1) as silent,
    ):
        await client.post(PVCS, claim())
        now = await revision(client)
        line = await asked.next()
        while line["object"]["metadata"]["resourceVersion"] != now:
            line = await asked.next()
        assert line["type"] == "BOOKMARK"
        assert await silent.rest() == []


async def test_watch_ends_after_its_timeout(client: Client) -> None:
    loop = asyncio.get_running_loop()
    before = loop.time()
    async with client.watch(PVS, timeoutSeconds=1) as watch:
        assert await watch.rest() == []
    assert 0.9 < loop.time() - before < 3


async def test_forgotten_revision_is_an_error_line_and_never_a_gap(client: Client, api: FakeAPIServer) -> None:
    await client.post(PVS, volume("a"))
    start = await revision(client)
    await client.post(PVS, volume("b"))
    api.compact()
    async with client.watch(PVS, resourceVersion=start) as watch:
        assert watch.status == 200
        lines = await watch.rest()
    assert [line["type"] for line in lines] == ["ERROR"]
    status = lines[0]["object"]
    assert (status["code"], status["reason"]) == (410, "Expired")
    assert status["message"].startswith("too old resource version: ")
    async with client.watch(PVS, resourceVersion=await revision(client)) as watch:
        await client.post(PVS, volume("c"))
        assert await watch.take(1) == [("ADDED", "c")]


async def test_compaction_forgets_quiet_kinds_too(client: Client, api: FakeAPIServer) -> None:
    await client.post(VAS, attachment())
    start = await revision(client, VAS)
    await client.post(PVS, volume())
    api.compact()
    for path in (VAS, f"{STORAGE}/csinodes"):
        async with client.watch(path, resourceVersion=start) as watch:
            assert [line["object"]["code"] for line in await watch.rest()] == [410]


async def test_bounded_history_forgets_by_itself(session: aiohttp.ClientSession) -> None:
    async with FakeAPIServer(history=10) as api:
        client = Client(api.url, session)
        start = await revision(client)
        for number in range(25):
            await client.post(PVS, volume(f"v-{number}"))
        async with client.watch(PVS, resourceVersion=start) as watch:
            assert [line["type"] for line in await watch.rest()] == ["ERROR"]


async def test_selector_turns_changes_into_arrivals_and_departures(client: Client) -> None:
    await client.post(VAS, attachment())
    start = await revision(client, VAS)
    async with client.watch(VAS, resourceVersion=start, labelSelector="mine=yes") as watch:
        for value in ("no", "yes", "yes", "no"):
            await client.merge(f"{VAS}/va-1", {"metadata": {"labels": {"mine": value, "n": value * 2}}})
            await client.merge(f"{VAS}/va-1", {"metadata": {"annotations": {"at": str(value)}}})
        lines = [await watch.next() for _ in range(3)]
    assert [line["type"] for line in lines] == ["ADDED", "MODIFIED", "DELETED"]


async def test_watch_of_one_namespace_and_of_one_name(client: Client) -> None:
    start = await revision(client)
    system = f"{CORE}/namespaces/kube-system/persistentvolumeclaims"
    async with (
        client.watch(system, resourceVersion=start) as of_namespace,
        client.watch(PVCS, resourceVersion=start, fieldSelector="metadata.name=b") as of_name,
    ):
        for name in ("a", "b"):
            await client.post(PVCS, claim(name))
            await client.post(system, claim(f"{name}-system"))
        assert await of_namespace.take(2) == [("ADDED", "a-system"), ("ADDED", "b-system")]
        assert await of_name.take(1) == [("ADDED", "b")]


async def test_many_watches_see_the_same_bytes_once_encoded(client: Client, api: FakeAPIServer) -> None:
    start = await revision(client)

    async def first(count: int) -> list[tuple[str, str]]:
        async with client.watch(PVS, resourceVersion=start) as watch:
            return await watch.take(count)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(first(20)) for _ in range(20)]
        for number in range(20):
            await client.post(PVS, volume(f"v-{number:02}"))
    assert all(task.result() == tasks[0].result() for task in tasks)
    assert len(api.store.tables["persistentvolumes"].log[-1].lines) == 1


async def test_open_watches_are_counted_and_end_with_their_client(client: Client, api: FakeAPIServer) -> None:
    async with client.watch(PVS, allowWatchBookmarks="true"):
        assert api.open_watches("persistentvolumes") == 1
        assert api.open_watches("volumeattachments") == 0
    async with asyncio.timeout(5):
        while api.open_watches("persistentvolumes"):
            await asyncio.sleep(0.01)


async def test_server_that_stops_ends_its_watches(session: aiohttp.ClientSession) -> None:
    async with FakeAPIServer() as api:
        watch = Client(api.url, session).watch(PVS)
        await watch.__aenter__()
    assert await watch.rest() == []
    await watch.__aexit__()


async def test_table_watch_sends_rows(client: Client) -> None:
    await client.post(PVS, volume())
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    url, query = client.url + PVS, {"watch": "1", "timeoutSeconds": "1"}
    async with client.session.get(url, params=query, headers=accept) as response:
        text = await response.text()
    assert '"kind":"Table"' in text
    assert '"cells":["pv-1"' in text


async def test_revision_that_is_no_number_is_refused(client: Client) -> None:
    answer: Any = await client.get(PVS, watch="1", resourceVersion="abc")
    assert answer.status == 500
    assert answer["kind"] == "Status"
