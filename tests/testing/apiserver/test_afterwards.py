"""What follows from a write without being asked for: garbage collection, namespaces that end, journals."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from csisidecar.testing.apiserver import FakeAPIServer
from tests.testing.apiserver.conftest import CORE, Client, claim, volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import aiohttp

MAPS = f"{CORE}/namespaces/default/configmaps"
PVCS = f"{CORE}/namespaces/default/persistentvolumeclaims"


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.01)


def owned(name: str, owner: dict[str, Any], **more: Any) -> dict[str, Any]:
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }
    return {"metadata": {"name": name, "ownerReferences": [{**reference, **more}]}}


async def owner(client: Client, name: str = "owner") -> dict[str, Any]:
    made: dict[str, Any] = (await client.post(MAPS, {"metadata": {"name": name}})).body
    return made


def names(api: FakeAPIServer) -> list[str]:
    return [item["metadata"]["name"] for item in api.objects.list("configmaps")]


async def test_dependents_go_with_their_owner(api: FakeAPIServer, client: Client) -> None:
    first = await owner(client)
    second = (await client.post(MAPS, owned("child", first))).body
    await client.post(MAPS, owned("grandchild", second))
    await client.delete(f"{MAPS}/owner")
    await until(lambda: names(api) == [])


async def test_dependent_with_another_owner_stays(api: FakeAPIServer, client: Client) -> None:
    first, second = await owner(client), await owner(client, "other")
    body = owned("child", first)
    body["metadata"]["ownerReferences"] += owned("x", second)["metadata"]["ownerReferences"]
    await client.post(MAPS, body)
    await client.delete(f"{MAPS}/owner")

    def references() -> int:
        child = api.objects.get("configmaps", "child", "default")
        return len(child["metadata"]["ownerReferences"]) if child else 0

    await until(lambda: references() == 1)


async def test_orphans_are_let_go(api: FakeAPIServer, client: Client) -> None:
    await client.post(MAPS, owned("child", await owner(client)))
    await client.delete(f"{MAPS}/owner", {"propagationPolicy": "Orphan"})
    await until(lambda: names(api) == ["child"])
    child = api.objects.get("configmaps", "child", "default")
    assert child is not None
    assert "ownerReferences" not in child["metadata"]


async def test_foreground_waits_for_blocking_dependents(api: FakeAPIServer, client: Client) -> None:
    body = owned("child", await owner(client), blockOwnerDeletion=True)
    body["metadata"]["finalizers"] = ["example.com/hold"]
    await client.post(MAPS, body)
    answer = await client.delete(f"{MAPS}/owner", {"propagationPolicy": "Foreground"})
    assert answer.status == 200
    assert answer.meta["finalizers"] == ["foregroundDeletion"]
    await asyncio.sleep(0.05)
    assert names(api) == ["child", "owner"]
    await client.merge(f"{MAPS}/child", {"metadata": {"finalizers": None}})
    await until(lambda: names(api) == [])


async def test_object_of_an_owner_that_never_was_goes(api: FakeAPIServer, client: Client) -> None:
    await client.post(MAPS, owned("child", {"metadata": {"name": "ghost", "uid": "0-0"}}))
    await until(lambda: names(api) == [])
    foreign = owned("child", {"metadata": {"name": "ghost", "uid": "0-0"}}, apiVersion="example.com/v1", kind="Thing")
    await client.post(MAPS, foreign)
    await asyncio.sleep(0.05)
    assert names(api) == ["child"]


async def test_namespace_ends_with_its_content_and_refuses_more(api: FakeAPIServer, client: Client) -> None:
    await client.post(f"{CORE}/namespaces", {"metadata": {"name": "tmp"}})
    path = f"{CORE}/namespaces/tmp/persistentvolumeclaims"
    await client.post(path, claim())
    answer = await client.delete(f"{CORE}/namespaces/tmp")
    assert answer["status"]["phase"] == "Terminating"
    refused = await client.post(path, claim("late"))
    assert refused.status == 403
    assert refused["message"] == (
        'persistentvolumeclaims "late" is forbidden: unable to create new content in namespace tmp because it is '
        "being terminated"
    )
    assert refused["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    held = api.objects.get("persistentvolumeclaims", "c-1", "tmp")
    assert held is not None
    assert held["metadata"]["deletionTimestamp"]
    await client.merge(f"{path}/c-1", {"metadata": {"finalizers": None}})
    await until(lambda: api.objects.get("namespaces", "tmp") is None)


async def test_default_namespace_stays(client: Client) -> None:
    answer = await client.delete(f"{CORE}/namespaces/default")
    assert answer.status == 403


async def test_objects_survive_a_restart(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    async with FakeAPIServer(data=tmp_path) as api:
        client = Client(api.url, session)
        await client.post(PVCS, claim("kept"))
        await client.post(PVCS, claim("gone"))
        await client.merge(f"{PVCS}/gone", {"metadata": {"finalizers": None}})
        await client.delete(f"{PVCS}/gone")
        before = (await client.get(f"{PVCS}/kept")).body
        revision = int((await client.get(PVCS)).meta["resourceVersion"])
    with (tmp_path / "objects.jsonl").open("ab") as journal:
        journal.write(b'{"change":["persistentvolu')
    async with FakeAPIServer(data=tmp_path) as api:
        client = Client(api.url, session)
        listed = await client.get(PVCS)
        assert [item["metadata"]["name"] for item in listed["items"]] == ["kept"]
        assert (await client.get(f"{PVCS}/kept")).body == before
        assert int(listed.meta["resourceVersion"]) >= revision
        async with client.watch(PVCS, resourceVersion=2) as watch:
            assert (await watch.next())["object"]["code"] == 410
        assert int((await client.post(PVCS, claim("new"))).meta["resourceVersion"]) > revision


async def test_loaded_objects_are_taken_as_they_are(api: FakeAPIServer, client: Client) -> None:
    count = api.objects.load([{**volume(f"v-{n}"), "status": {"phase": "Bound"}} for n in range(100)])
    assert count == api.objects.count("persistentvolumes") == 100
    items = (await client.get(f"{CORE}/persistentvolumes"))["items"]
    assert {item["status"]["phase"] for item in items} == {"Bound"}
    assert len({item["metadata"]["uid"] for item in items}) == 100
