"""The API server is killed and started again in the middle of 50 volumes' lives: nothing is lost."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from tests.apiserver.client import ATTACHMENTS, VOLUMES
from tests.peers import life
from tests.peers.drivers import NODE, OURS, our_driver
from tests.peers.outcome import PeerFailedError
from tests.peers.world import Server, ours
from tests.whole.processes import free_port

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 50
KINDS = (life.CLAIMS, life.PODS, VOLUMES, ATTACHMENTS)


async def restart(folder: Path) -> str:
    """What was there before and after.

    Raises:
        PeerFailedError: an object is lost, a watch skips changes, or a life does not end.
    """
    port, data = free_port(), folder / "data"
    async with AsyncExitStack() as stack:
        path = await stack.enter_async_context(our_driver(folder))
        async with AsyncExitStack() as first:
            server = await first.enter_async_context(Server.running(folder, "--data", data, port=port))
            await life.furnish(server, OURS, NODE)
            sidecar = ("run", "--mode=all", "--csi-address", path, "--kubeconfig", server.kubeconfig)
            await stack.enter_async_context(ours(folder, "sidecar", *sidecar, "--http-endpoint="))
            words = ("demo-controllers", "--kubeconfig", server.kubeconfig)
            await stack.enter_async_context(ours(folder, "controllers", *words))
            await life.begin(server, COUNT)
            await server.until(ATTACHMENTS, lambda found: len(found) >= COUNT // 5, "a fifth of the attachments")
            revision = (await server.request("GET", VOLUMES))[1]["metadata"]["resourceVersion"]
            before = {kind: _uids(await server.items(kind)) for kind in KINDS}
            await server.kill()
        server = await stack.enter_async_context(Server.running(folder, "--data", data, port=port))
        for kind, uids in before.items():
            lost = uids - _uids(await server.items(kind))
            if lost:
                raise PeerFailedError(f"{kind}: {len(lost)} of {len(uids)} objects are lost")
        went = await _watch(server, revision)
        await life.in_use(server, COUNT, timeout_s=90)
        await life.end(server, COUNT, timeout_s=90)
    counted = ", ".join(f"{len(uids)} {kind.rpartition('/')[2]}" for kind, uids in before.items())
    return f"{COUNT} lives ended well; when the server was killed there were {counted}; a watch from before {went}"


def _uids(found: list[Any]) -> set[str]:
    return {item["metadata"]["uid"] for item in found}


async def _watch(server: Server, revision: str) -> str:
    """A watch from before goes on with what came after, or is told that it cannot."""
    query = {"watch": "true", "resourceVersion": revision, "timeoutSeconds": "3"}
    async with server.session.get(server.url + VOLUMES, params=query) as answer:
        lines = [json.loads(line) async for line in answer.content]
    if answer.status == 410 or (lines and lines[0]["type"] == "ERROR" and lines[0]["object"]["code"] == 410):
        return "is told 410"
    if answer.status != 200 or any(line["type"] == "ERROR" for line in lines):
        raise PeerFailedError(f"a watch from {revision} got {answer.status}: {lines[:1]}")
    seen = {line["object"]["metadata"]["uid"] for line in lines}
    if not seen:
        raise PeerFailedError(f"a watch from {revision} saw nothing of what went on")
    return "goes on"
