"""`make test-peers`: programs that were not written here meet what was; one line a peer says what ran, or why not.

Peers that come from the package index live in an environment of their own, named on the command line, and must run.
The others are looked for where variables say, and are skipped with the reason.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from tests.peers.drivers import hostpath, sanity, sidecars
from tests.peers.kubectl import kubectl
from tests.peers.outcome import NotRunError, Outcome, PeerFailedError
from tests.peers.restart import restart
from tests.peers.world import Server, run

Peer = Callable[[Path], Awaitable[str]]
CLIENTS = {
    "kubernetes-asyncio": "asynchronous.py",
    "kubernetes": "official.py",
    "lightkube": "light.py",
    "kopf": "small_operator.py",
}


async def client(python: str, script: str, folder: Path) -> str:
    """One program on an embedded API server; what it says it did."""
    async with Server.running(folder) as server:
        text = await run(python, Path(__file__).parent / "clients" / script, server.kubeconfig, timeout_s=90)
    return text.strip().rpartition("\n")[2]


def peers(python: str) -> dict[str, Peer]:
    """Name → what is to be done."""
    clients: dict[str, Peer] = {name: partial(client, python, script) for name, script in CLIENTS.items()}
    return {
        **clients,
        "kubectl": kubectl,
        "csi-sanity": sanity,
        "hostpath driver": hostpath,
        "Go sidecars": sidecars,
        "restart": restart,
    }


async def meet(name: str, peer: Peer) -> Outcome:
    """One peer, from its start to its line."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="peer-") as folder:
        try:
            text = await peer(Path(folder))
        except NotRunError as error:
            return Outcome(peer=name, state="not run", text=str(error))
        except PeerFailedError as error:
            return Outcome(peer=name, state="FAILED", text=str(error))
    return Outcome(peer=name, state="ran", text=text, seconds=time.monotonic() - began)


async def main(python: str, wanted: list[str]) -> int:
    """Every peer, one after the other; 1 if one failed."""
    failed = 0
    for name, peer in peers(python).items():
        if wanted and name not in wanted:
            continue
        outcome = await meet(name, peer)
        print(outcome, flush=True)
        failed += outcome.state == "FAILED"
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1], sys.argv[2:])))
