"""`make bench-apiserver`: how fast the embedded API server is with many objects, as its clients see it.

The server is a process of its own; rates are of one client process, so they are a lower bound.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from csisidecar.demo.processes import Program, program
from tests.apiserver.client import ATTACHMENTS, CORE, VOLUMES, attachment, claim, volume
from tests.peers.world import until
from tests.whole.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

CLAIMS = f"{CORE}/namespaces/default/persistentvolumeclaims"
PARALLEL = 16
PAGE = 500


async def main(count: int) -> None:
    """Creates, lists, watches; prints a line each."""
    with tempfile.TemporaryDirectory(prefix="rates-") as name:
        folder, port = Path(name), free_port()
        words = ("demo-apiserver", f"--kubeconfig-out={folder / 'kubeconfig'}", f"--port={port}")
        connector = aiohttp.TCPConnector(limit=PARALLEL)
        async with program("apiserver", *words, log=folder / "log") as server:
            await until((folder / "kubeconfig").exists, "demo-apiserver's kubeconfig")
            base = f"http://127.0.0.1:{port}"
            async with aiohttp.ClientSession(base, connector=connector, read_bufsize=2**22) as session:
                empty = server.memory_bytes()
                await _create(session, server, count)
                print(
                    f"memory: {empty / 2**20:.0f} MiB empty, {server.memory_bytes() / 2**20:.0f} MiB with {3 * count}"
                )
                for path in (VOLUMES, CLAIMS, ATTACHMENTS):
                    await _read(session, server, path, count)


async def _create(session: aiohttp.ClientSession, server: Program, count: int) -> None:
    bodies = (
        (path, make(f"o{number:05}"))
        for path, make in ((VOLUMES, volume), (CLAIMS, claim), (ATTACHMENTS, attachment))
        for number in range(count)
    )
    began, cpu = time.monotonic(), server.cpu_s()
    async with asyncio.TaskGroup() as group:
        for _ in range(PARALLEL):
            group.create_task(_post_all(session, bodies))
    took = time.monotonic() - began
    share = (server.cpu_s() - cpu) / took
    print(f"create: {3 * count} objects in {took:.1f} s, {3 * count / took:.0f}/s; server {share:.0%} of a CPU")


async def _post_all(session: aiohttp.ClientSession, bodies: Iterator[tuple[str, object]]) -> None:
    for path, body in bodies:
        async with session.post(path, json=body) as answer:
            answer.raise_for_status()


async def _read(session: aiohttp.ClientSession, server: Program, path: str, count: int) -> None:
    kind = path.rpartition("/")[2]
    began, cpu = time.monotonic(), server.cpu_s()
    async with session.get(path) as answer:
        size = len(await answer.read())
    whole = time.monotonic() - began
    began, token = time.monotonic(), ""
    while True:
        query = {"limit": str(PAGE), **({"continue": token} if token else {})}
        async with session.get(path, params=query) as answer:
            token = (await answer.json())["metadata"].get("continue", "")
        if not token:
            break
    paged = time.monotonic() - began
    query = {
        "watch": "true",
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    began, lines = time.monotonic(), 0
    async with session.get(path, params=query) as answer:
        async for line in answer.content:
            if b"k8s.io/initial-events-end" in line:
                break
            lines += 1
    streamed = time.monotonic() - began
    print(
        f"{kind}: list of {count} ({size / 2**20:.1f} MiB) {whole:.2f} s, in pages of {PAGE} {paged:.2f} s, streamed "
        f"{streamed:.2f} s ({lines / streamed:.0f} objects/s); server {server.cpu_s() - cpu:.2f} s of CPU for all three"
    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000))
