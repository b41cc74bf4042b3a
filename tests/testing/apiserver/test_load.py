"""Many watches, many objects, clients that misbehave: the server answers the others all the same."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from csisidecar.testing.apiserver import FakeAPIServer
from tests.testing.apiserver.conftest import CORE, Client, volume

if TYPE_CHECKING:
    import aiohttp

PVS = f"{CORE}/persistentvolumes"


async def test_a_thousand_open_watches_all_hear_of_a_change(api: FakeAPIServer, client: Client) -> None:
    asyncio.get_running_loop().set_debug(False)  # a traceback kept for each of 3,000 tasks takes ten times as long
    port = int(api.url.rpartition(":")[2])
    request = f"GET {PVS}?watch=1&resourceVersion={api.store.revision} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    streams = []
    for _ in range(1000):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        streams.append((reader, writer))
    for reader, _ in streams:
        await reader.readuntil(b"\r\n\r\n")
    assert api.open_watches("persistentvolumes") == 1000
    await client.post(PVS, volume())
    for reader, _ in streams:
        await reader.readline()
        assert b'"ADDED"' in await reader.readline()
    for _, writer in streams:
        writer.close()
    async with asyncio.timeout(10):
        while api.open_watches("persistentvolumes"):
            await asyncio.sleep(0.05)


async def test_half_sent_requests_hold_up_nobody(api: FakeAPIServer, client: Client) -> None:
    port = int(api.url.rpartition(":")[2])
    writers = []
    for text in (
        "GET /api",
        f"POST {PVS} HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{{",
        "\x00\x01\x02\r\n\r\n",
    ):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(text.encode())
        writers.append(writer)
    await asyncio.sleep(0.05)
    assert (await client.post(PVS, volume())).status == 201
    for writer in writers:
        writer.close()


async def test_server_stops_promptly_with_everything_open(session: aiohttp.ClientSession) -> None:
    loop = asyncio.get_running_loop()
    async with FakeAPIServer(trouble=["get:*:halfopen"]) as api:
        client = Client(api.url, session)
        watch = client.watch(PVS)
        await watch.__aenter__()
        port = int(api.url.rpartition(":")[2])
        _, half = await asyncio.open_connection("127.0.0.1", port)
        half.write(b"GET /api")
        _, held = await asyncio.open_connection("127.0.0.1", port)
        held.write(f"GET {PVS}/x HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await asyncio.sleep(0.05)
        before = loop.time()
    assert loop.time() - before < 3
    await watch.__aexit__()
    for writer in (half, held):
        writer.close()


async def test_slow_reader_falls_behind_alone(api: FakeAPIServer, client: Client) -> None:
    api.store.table(api.store.kinds.by_plural("persistentvolumes")).history = 50
    port = int(api.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    query = f"watch=1&resourceVersion={api.store.revision}"
    writer.write(f"GET {PVS}?{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    body = volume()
    body["metadata"]["annotations"] = {"pad": "x" * 200_000}
    await client.post(PVS, body)
    for number in range(200):
        api.objects.load([{**body, "metadata": {**body["metadata"], "labels": {"n": str(number)}}}])
        await asyncio.sleep(0)
    assert (await client.get(f"{PVS}/pv-1")).meta["labels"] == {"n": "199"}
    text = await reader.read(-1)
    assert text.rstrip().endswith(b"0") or b'"ERROR"' in text
    assert b"too old resource version" in text
    writer.close()
