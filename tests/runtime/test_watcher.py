"""The watcher keeps a store equal to the server, whatever the server does to lists and watches."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csisidecar.clock import SystemClock
from csisidecar.kube.objects import KubeObject
from csisidecar.runtime import Change, Informer, Store, Stores, Watcher
from tests.runtime.tiny_api import THINGS, TinyAPI
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.looptime


@asynccontextmanager
async def following(api: TinyAPI) -> AsyncIterator[Informer[KubeObject]]:
    store: Store[KubeObject] = Store(THINGS)
    informer = Informer(Watcher(api, THINGS, KubeObject, clock=SystemClock()), store, KubeObject)  # type: ignore[arg-type]
    task = asyncio.create_task(informer.run())
    try:
        yield informer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def names(store: Store[KubeObject]) -> set[str]:
    return {obj.name for obj in store.values()}


def healthy(informer: Informer[KubeObject]) -> bool:
    return informer.watcher.is_healthy


async def test_streamed_list_then_one_watch() -> None:
    api = TinyAPI()
    api.put("a")
    async with following(api) as informer:
        await informer.store.synced()
        api.put("b")
        await asyncio.sleep(1)
        assert names(informer.store) == {"a", "b"}
    assert api.requests == ["stream", "watch 101"]


@pytest.mark.parity("R-API-02")
async def test_server_without_streamed_lists_is_paged() -> None:
    api = TinyAPI()
    api.streams_lists = False
    for number in range(1100):
        api.put(f"t{number:04}")
    async with following(api) as informer:
        await informer.store.synced()
        assert len(informer.store) == 1100
    assert api.requests[:4] == ["stream", "list", "list 500", "list 1000"]


async def test_expired_continue_token_starts_the_list_over_in_one_answer() -> None:
    api = TinyAPI()
    api.streams_lists = False
    for number in range(1100):
        api.put(f"t{number:04}")
    api.trouble.extend(["", "", "gone-token"])
    async with following(api) as informer:
        await informer.store.synced()
        assert len(informer.store) == 1100
    assert api.page_size_seen == [500, 500, 0]


async def test_streamed_list_that_does_not_come_through_is_followed_by_pages() -> None:
    api = TinyAPI()
    api.put("a")
    api.trouble.append("stall")
    async with following(api) as informer:
        await asyncio.sleep(35)
        assert names(informer.store) == {"a"}
    assert api.requests[:2] == ["stream", "list"]


async def test_deletion_missed_while_listing_again_is_told() -> None:
    api = TinyAPI()
    api.put("a")
    api.put("b")
    changes: list[Change[KubeObject]] = []
    async with following(api) as informer:
        await informer.store.synced()
        informer.store.subscribe(changes.append)
        api.trouble.append("gone")
        api.objects.pop("a")
        api.compact()
        await asyncio.sleep(100)
        assert names(informer.store) == {"b"}
    assert [(c.obj.name, c.new) for c in changes] == [("a", None)]


@pytest.mark.parity("R-API-04")
async def test_expired_version_as_error_event_lists_again() -> None:
    api = TinyAPI()
    api.put("a")
    async with following(api) as informer:
        await informer.store.synced()
        await asyncio.sleep(1)
        api.objects.pop("a")
        api.compact()
        api.trouble.append("gone-event")
        await asyncio.sleep(60)
        assert names(informer.store) == set()
    assert api.requests.count("stream") == 2


@pytest.mark.parity("R-API-03")
async def test_watch_that_falls_silent_is_replaced_by_a_list_within_a_minute() -> None:
    api = TinyAPI()
    api.trouble.extend(["", "stall", "stall", "stall"])
    async with following(api) as informer:
        await informer.store.synced()
        await asyncio.sleep(1)
        api.put("born-in-silence")
        await asyncio.sleep(58)
        assert names(informer.store) == {"born-in-silence"}
    assert "list" in api.requests


async def test_quiet_watch_ended_by_the_server_is_resumed_not_listed() -> None:
    api = TinyAPI()
    async with following(api) as informer:
        await informer.store.synced()
        await asyncio.sleep(600)
    assert api.requests.count("stream") == 1
    assert "list" not in api.requests
    assert len(api.requests) < 20


async def test_server_that_ends_every_watch_at_once_is_not_asked_in_a_loop() -> None:
    api = TinyAPI()
    async with following(api) as informer:
        await informer.store.synced()
        await asyncio.sleep(1)
        api.trouble.extend(["close"] * 1000)
        before = len(api.requests)
        await asyncio.sleep(600)
        assert len(api.requests) - before < 60


async def test_quiet_watch_after_a_failed_one_is_healthy_as_soon_as_it_stands() -> None:
    api = TinyAPI()
    async with following(api) as informer:
        await informer.store.synced()
        await asyncio.sleep(1)
        api.trouble.extend(["unreachable"])
        api.compact()
        while healthy(informer):
            await asyncio.sleep(0.1)
        assert "connection refused" in informer.watcher.status
        await asyncio.sleep(3)
        assert healthy(informer)
        assert informer.watcher.status == "watching"


async def test_retry_after_is_obeyed() -> None:
    api = TinyAPI()
    api.trouble.append("throttled")
    began = asyncio.get_running_loop().time()
    async with following(api) as informer:
        await informer.store.synced()
        waited = asyncio.get_running_loop().time() - began
    assert 7.0 <= waited < 7.5


async def test_line_cut_in_the_middle_loses_nothing() -> None:
    api = TinyAPI()
    async with following(api) as informer:
        api.trouble.extend(["", "cut"])
        await informer.store.synced()
        await asyncio.sleep(1)
        api.put("a")
        api.put("b")
        await asyncio.sleep(10)
        assert names(informer.store) == {"a", "b"}


async def test_malformed_object_is_left_out_and_the_others_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    api = TinyAPI()
    api.put("good")
    api.put("bad", finalizers="not-a-list")
    async with following(api) as informer:
        await informer.store.synced()
        api.put("bad2", annotations=[1])
        api.put("good2")
        await asyncio.sleep(1)
        assert names(informer.store) == {"good", "good2"}
    assert any("bad" in json.dumps(record.__dict__, default=str) for record in caplog.records)


@pytest.mark.parametrize("streams", [True, False], ids=["streamed", "paged"])
async def test_object_that_became_malformed_is_not_taken_for_gone(streams: bool) -> None:
    api = TinyAPI()
    api.streams_lists = streams
    api.put("a")
    changes: list[Change[KubeObject]] = []
    async with following(api) as informer:
        await informer.store.synced()
        informer.store.subscribe(changes.append)
        api.put("a", finalizers="not-a-list")
        api.compact()
        await asyncio.sleep(100)
        assert names(informer.store) == {"a"}
        assert changes == []
        api.drop("a")
        await asyncio.sleep(1)
        assert names(informer.store) == set()


async def test_older_version_of_an_object_never_replaces_a_newer_one() -> None:
    api = TinyAPI()
    old = api.put("a")
    api.put("a", annotations={"new": "1"})
    async with following(api) as informer:
        await informer.store.synced()
        stale = TinyAPI()
        stale.objects["a"] = old
        await informer.refresh(stale, informer.store.get(next(iter(informer.store.values())).key).key)  # type: ignore[arg-type,union-attr]
        assert informer.store.find("a").annotations == {"new": "1"}  # type: ignore[union-attr]


async def test_equal_requests_share_one_watch() -> None:
    api = TinyAPI()
    api.put("a")
    stores = Stores(api, clock=SystemClock())  # type: ignore[arg-type]
    first = stores.get(THINGS, KubeObject)
    assert stores.get(THINGS, KubeObject) is first
    task = asyncio.create_task(stores.run())
    await first.synced()
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert api.requests == ["stream", "watch 101"]


ORDERS = ["", "", "gone", "throttled", "unreachable", "stall", "close", "cut", "gone-event"]
STEPS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from("abcd")),
    st.tuples(st.just("drop"), st.sampled_from("abcd")),
    st.tuples(st.just("compact"), st.just("")),
    st.tuples(st.just("trouble"), st.sampled_from(ORDERS)),
    st.tuples(st.just("sleep"), st.sampled_from(["0", "1", "40", "90"])),
)


@given(st.lists(STEPS, max_size=40), st.booleans())
@settings(max_examples=60, deadline=None)
def test_store_equals_the_server_after_any_script_of_trouble(steps: list[tuple[str, str]], streams: bool) -> None:
    async def play() -> None:
        api = TinyAPI()
        api.streams_lists = streams
        replayed: dict[str, str] = {}

        def replay(change: Change[KubeObject]) -> None:
            if change.new is None:
                del replayed[change.obj.name]
            else:
                replayed[change.obj.name] = change.obj.resource_version

        async with following(api) as informer:
            informer.store.subscribe(replay)
            for kind, argument in steps:
                if kind == "put":
                    api.put(argument)
                elif kind == "drop" and argument in api.objects:
                    api.drop(argument)
                elif kind == "compact":
                    api.compact()
                elif kind == "trouble":
                    api.trouble.append(argument)
                elif kind == "sleep":
                    await asyncio.sleep(float(argument))
            api.trouble.clear()
            await asyncio.sleep(200)
            wanted = {name: obj["metadata"]["resourceVersion"] for name, obj in api.objects.items()}
            assert {obj.name: obj.resource_version for obj in informer.store.values()} == wanted
            assert replayed == wanted

    run_virtual(play())
