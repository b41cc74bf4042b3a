"""Peers on the CSI side: csi-sanity against our driver, the hostpath driver under our modes, the Go sidecars."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from tests.peers import life
from tests.peers.outcome import PeerFailedError
from tests.peers.world import Server, find_binary, ours, process, run, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

OURS, THEIRS = "directories.csi.demo", "hostpath.csi.k8s.io"
NODE = "demo-node"
VOLUMES = 5
_COUNTS = re.compile(r"(\d+) Passed \| (\d+) Failed \| (\d+) Pending \| (\d+) Skipped")
_SKIP = re.compile(r"^  \[SKIPPED\] (?!in )(.+)", re.MULTILINE)


@asynccontextmanager
async def our_driver(folder: Path, *flags: str | Path) -> AsyncIterator[Path]:
    """`csisidecar demo-driver`; its socket."""
    path = folder / "csi.sock"
    async with ours(folder, "driver", "demo-driver", "--endpoint", path, "--nodes", NODE, *flags):
        await until(path.exists, "demo-driver's socket")
        yield path


async def sanity(folder: Path) -> str:
    """Counts and skips of csi-sanity.

    Raises:
        NotRunError: CSI_SANITY names no binary.
        PeerFailedError: a spec failed.
    """
    binary = find_binary("csi-sanity", "CSI_SANITY")
    mutable = folder / "mutable.yaml"
    mutable.write_text("tier: gold\n")
    flags = ("--mutable-parameters", "tier", "--attach-limit", "3", "--topology", "zone=a")
    async with our_driver(folder, *flags) as path:
        text = await run(
            binary,
            f"--csi.endpoint={path}",
            f"--csi.mountdir={folder / 'mount'}",
            f"--csi.stagingdir={folder / 'staging'}",
            f"--csi.testvolumemutableparameters={mutable}",
            "--csi.testnodevolumeattachlimit",
            "--ginkgo.no-color",
            "--ginkgo.v",
            timeout_s=120,
        )
    counts = _COUNTS.search(text)
    if counts is None or counts[2] != "0":
        raise PeerFailedError(f"csi-sanity: {text[-1500:]}")
    skips: dict[str, int] = {}
    for reason in _SKIP.findall(text):
        skips[reason] = skips.get(reason, 0) + 1
    shown = "; ".join(f"{count} skipped: {reason}" for reason, count in skips.items())
    return f"{counts[1]} passed, {counts[2]} failed, {counts[3]} pending in the suite itself; {shown}"


async def hostpath(folder: Path) -> str:
    """The public hostpath driver carries volumes under both of our modes.

    Raises:
        NotRunError: HOSTPATHPLUGIN names no binary.
        PeerFailedError: a life did not end well.
    """
    binary = find_binary("hostpathplugin", "HOSTPATHPLUGIN", "CSI_SIDECARS", "KUBEBUILDER_ASSETS")
    path = folder / "csi.sock"
    words = ("--endpoint", f"unix://{path}", "--statedir", folder / "state", "--nodeid", NODE)
    driver = process(
        "hostpathplugin", binary, *words, "--enable-attach=true", "--enable-topology=false", log=folder / "hostpath.log"
    )
    async with Server.running(folder) as server, driver:
        await until(path.exists, "hostpathplugin's socket")
        await life.furnish(server, THEIRS, NODE)
        sidecar = ("run", "--mode=all", "--csi-address", path, "--kubeconfig", server.kubeconfig, "--http-endpoint=")
        async with _controllers(server), ours(folder, "sidecar", *sidecar):
            await life.begin(server, VOLUMES)
            await life.in_use(server, VOLUMES)
            await life.end(server, VOLUMES)
    left = [item.name for item in (folder / "state").iterdir() if item.is_dir()]
    if left:
        raise PeerFailedError(f"the driver still has volumes: {left}")
    return f"{VOLUMES} volumes provisioned, attached, detached and deleted by csisidecar run --mode=all"


async def sidecars(folder: Path) -> str:
    """The Go sidecars carry volumes on our API server and driver; nothing is changed but the kubeconfig.

    Raises:
        NotRunError: CSI_SIDECARS has not both.
        PeerFailedError: a life did not end well.
    """
    binaries = [find_binary(name, "CSI_SIDECARS") for name in ("csi-attacher", "csi-provisioner")]
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(Server.running(folder))
        path = await stack.enter_async_context(our_driver(folder))
        await life.furnish(server, OURS, NODE)
        await stack.enter_async_context(_controllers(server))
        for binary in binaries:
            words = (binary, f"--csi-address={path}", f"--kubeconfig={server.kubeconfig}", "--leader-election", "--v=2")
            extra = ("--leader-election-namespace=default",)
            await stack.enter_async_context(process(binary.name, *words, *extra, log=folder / f"{binary.name}.log"))
        await life.begin(server, VOLUMES)
        await life.in_use(server, VOLUMES)
        await life.end(server, VOLUMES)
    versions = [(await run(binary, "--version")).rpartition("/")[2].strip() for binary in binaries]
    return f"{VOLUMES} volumes provisioned, attached, detached and deleted by {', '.join(versions)}"


@asynccontextmanager
async def _controllers(server: Server) -> AsyncIterator[None]:
    async with ours(server.folder, "controllers", "demo-controllers", "--kubeconfig", server.kubeconfig):
        yield
