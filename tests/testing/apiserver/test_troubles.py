"""Orders for trouble, struck by a real client over a real socket."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from csisidecar.errors import ConfigError
from csisidecar.testing.apiserver import FakeAPIServer, Trouble
from tests.testing.apiserver.conftest import CORE, STORAGE, Client, attachment, claim, volume

PVS = f"{CORE}/persistentvolumes"
PVCS = f"{CORE}/namespaces/default/persistentvolumeclaims"
VAS = f"{STORAGE}/volumeattachments"


@pytest.mark.parametrize(
    "text",
    [
        "watch:persistentvolumeclaims:stall",
        "list:persistentvolumes:gonex2",
        "patch:volumeattachments/status:conflictx3@1",
        "*:*:throttle=2",
        "create:persistentvolumes:lostx1",
        "get:nodes:error=503x1@2.5s",
        "list:persistentvolumes:stale=5",
    ],
)
async def test_orders_read_and_write_back(text: str) -> None:
    assert str(Trouble.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "watch", "watch:x:nope", "jump:x:drop", "get:x:error", "get:x:delay", "get:x:drop@1.5"]
)
async def test_what_is_no_order_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="--trouble"):
        Trouble.parse(text)


async def test_conflict_counts_down(api: FakeAPIServer, client: Client) -> None:
    await client.post(PVCS, claim())
    api.trouble.add("patch:persistentvolumeclaims:conflictx2@1")
    statuses = [(await client.merge(f"{PVCS}/c-1", {"metadata": {"labels": {"n": str(n)}}})).status for n in range(4)]
    assert statuses == [200, 409, 409, 200]


async def test_subresource_orders_leave_the_resource_alone(api: FakeAPIServer, client: Client) -> None:
    await client.post(VAS, attachment())
    api.trouble.add("patch:volumeattachments/status:error=500")
    assert (await client.merge(f"{VAS}/va-1", {"metadata": {"labels": {"a": "b"}}})).status == 200
    answer = await client.merge(f"{VAS}/va-1/status", {"status": {"attached": True}})
    assert (answer.status, answer["kind"]) == (500, "Status")


async def test_throttle_says_when_to_come_back(api: FakeAPIServer, client: Client) -> None:
    api.trouble.add("get:*:throttle=7x1")
    answer = await client.get(f"{PVS}/x")
    assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
    assert answer["details"]["retryAfterSeconds"] == 7
    assert (await client.get(f"{PVS}/x")).status == 404


async def test_gone_list(api: FakeAPIServer, client: Client) -> None:
    api.trouble.add("list:persistentvolumes:gonex1")
    assert (await client.get(PVS)).status == 410
    assert (await client.get(PVS)).status == 200


async def test_gone_watch_in_both_shapes(api: FakeAPIServer, client: Client) -> None:
    api.trouble.add("watch:persistentvolumes:gonex1")
    assert (await client.get(PVS, watch="1")).status == 410
    async with client.watch(PVS) as watch:
        api.trouble.add("watch:persistentvolumes:gone-eventx1")
        lines = await watch.rest()
    assert lines[-1]["type"] == "ERROR"
    assert lines[-1]["object"]["code"] == 410


async def test_drop_closes_without_an_answer(api: FakeAPIServer, client: Client) -> None:
    api.trouble.add("create:persistentvolumes:dropx1")
    with pytest.raises(aiohttp.ClientError):
        await client.post(PVS, volume())
    assert api.objects.list("persistentvolumes") == []
    assert api.audit.of("persistentvolumes", verb="create")[-1].code == 0


async def test_lost_answer_leaves_the_write_done(api: FakeAPIServer, client: Client) -> None:
    api.trouble.add("create:persistentvolumes:lostx1")
    with pytest.raises(aiohttp.ClientError):
        await client.post(PVS, volume())
    assert api.objects.get("persistentvolumes", "pv-1") is not None


async def test_delay(api: FakeAPIServer, client: Client) -> None:
    api.trouble.add("get:*:delay=0.3x1")
    loop = asyncio.get_running_loop()
    before = loop.time()
    await client.get(f"{PVS}/x")
    assert loop.time() - before >= 0.29


async def test_halfopen_never_answers_until_taken_back(api: FakeAPIServer, client: Client) -> None:
    order = api.trouble.add("create:persistentvolumes:halfopen")

    async def asked() -> str:
        try:
            await client.post(PVS, volume())
        except aiohttp.ClientError:
            return "dropped"
        return "answered"

    async with asyncio.TaskGroup() as group:
        task = group.create_task(asked())
        await asyncio.sleep(0.3)
        assert not task.done()
        api.trouble.remove(order)
    assert task.result() == "dropped"


async def test_stall_silences_a_watch_that_is_open(api: FakeAPIServer, client: Client) -> None:
    async with client.watch(PVS, allowWatchBookmarks="true") as watch:
        assert (await watch.next())["type"] == "BOOKMARK"
        order = api.trouble.add("watch:persistentvolumes:stall")
        await client.post(PVS, volume())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.6):
                await watch.next()
        api.trouble.remove(order)
        assert await watch.take(1) == [("ADDED", "pv-1")]


async def test_cut_breaks_a_line_in_the_middle(api: FakeAPIServer, client: Client) -> None:
    api.trouble.add("watch:persistentvolumes:cutx1@1")
    async with client.watch(PVS) as watch:
        await client.post(PVS, volume("a"))
        assert await watch.take(1) == [("ADDED", "a")]
        await client.post(PVS, volume("b"))
        with pytest.raises(aiohttp.ClientPayloadError):
            await watch.response.content.read()


async def test_close_ends_a_watch_in_order(api: FakeAPIServer, client: Client) -> None:
    async with client.watch(PVS) as watch:
        api.trouble.add("watch:persistentvolumes:closex1")
        assert await watch.rest() == []
    async with client.watch(PVS) as watch:
        await client.post(PVS, volume())
        assert await watch.take(1) == [("ADDED", "pv-1")]


async def test_events_are_lost_and_reordered(api: FakeAPIServer, client: Client) -> None:
    api.trouble.add("watch:persistentvolumes:losex1@1")
    api.trouble.add("watch:persistentvolumes:reorderx1@2")
    async with client.watch(PVS) as watch:
        for name in "abcde":
            await client.post(PVS, volume(name))
        assert [name for _, name in await watch.take(4)] == ["a", "c", "e", "d"]


async def test_stale_list_answers_an_older_state(api: FakeAPIServer, client: Client) -> None:
    for name in "abc":
        await client.post(PVS, volume(name))
    api.trouble.add("list:persistentvolumes:stale=2x1")
    old = await client.get(PVS)
    new = await client.get(PVS)
    assert [item["metadata"]["name"] for item in old["items"]] == ["a"]
    assert len(new["items"]) == 3
    assert int(old.meta["resourceVersion"]) < int(new.meta["resourceVersion"])


async def test_orders_over_http(api: FakeAPIServer, client: Client) -> None:
    path = "/_csisidecar/trouble"
    made = await client.post(path, "get:*:error=503x1")
    assert made.status == 201
    assert (await client.get(f"{PVS}/x")).status == 503
    shown = (await client.get(path)).body
    assert shown == [{"number": shown[0]["number"], "order": "get:*:error=503x1", "struck": 1, "spent": True}]
    bad = await client.request("POST", path, raw=b"nonsense")
    assert bad.status == 400
    assert (await client.delete(f"{path}/{shown[0]['number']}")).body == []
    await client.request("POST", path, raw=b"get:*:drop\nlist:*:drop")
    assert len(api.trouble) == 2
    await client.delete(path)
    assert (await client.get(f"{PVS}/x")).status == 404


async def test_stall_silences_a_watch_from_its_first_line(api: FakeAPIServer, client: Client) -> None:
    await client.post(PVS, volume())
    order = api.trouble.add("watch:persistentvolumes:stallx1")
    async with client.watch(PVS) as stalled, client.watch(PVS) as other:
        assert await other.take(1) == [("ADDED", "pv-1")]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await stalled.next()
        api.trouble.remove(order)
        assert await stalled.take(1) == [("ADDED", "pv-1")]


async def test_cut_in_the_middle_of_a_streamed_list(api: FakeAPIServer, client: Client) -> None:
    for name in "abc":
        await client.post(PVS, volume(name))
    api.trouble.add("watch:persistentvolumes:cutx1@2")
    async with client.watch(PVS, sendInitialEvents="true", resourceVersionMatch="NotOlderThan") as watch:
        assert await watch.take(2) == [("ADDED", "a"), ("ADDED", "b")]
        with pytest.raises(aiohttp.ClientPayloadError):
            await watch.response.content.read()


async def test_orders_given_at_the_start_count_seconds_from_there(session: aiohttp.ClientSession) -> None:
    async with FakeAPIServer(trouble=["watch:persistentvolumes:closex1@0.3s", "get:*:error=500@30s"]) as api:
        client = Client(api.url, session)
        async with client.watch(PVS) as watch, asyncio.timeout(5):
            assert await watch.rest() == []
        assert (await client.get(f"{PVS}/x")).status == 404
