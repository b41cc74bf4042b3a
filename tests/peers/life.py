"""A volume's whole life as its user sees it: claim, Pod, and both gone again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from csisidecar.demo.props import build_class, build_csi_driver, build_csi_node, build_node
from tests.apiserver.client import ATTACHMENTS, CLASSES, CORE, STORAGE, VOLUMES, claim, pod

if TYPE_CHECKING:
    from tests.peers.world import Server

CLAIMS = f"{CORE}/namespaces/default/persistentvolumeclaims"
PODS = f"{CORE}/namespaces/default/pods"


async def furnish(server: Server, driver: str, node: str) -> None:
    """A node that has the driver, and a class of it."""
    made = await server.create(f"{CORE}/nodes", build_node(node))
    await server.create(f"{STORAGE}/csinodes", build_csi_node(node, {driver: node}, made["metadata"]["uid"]))
    await server.create(f"{STORAGE}/csidrivers", build_csi_driver(driver))
    await server.create(CLASSES, build_class("peer", driver))


async def begin(server: Server, count: int) -> None:
    """As many claims, each with a Pod that uses it."""
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(_claim_and_pod(server, f"life-{number}"))


async def _claim_and_pod(server: Server, name: str) -> None:
    await server.create(CLAIMS, claim(name, storageClassName="peer"))
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": name}}
    await server.create(PODS, pod(name, volumes=[volume]))


async def in_use(server: Server, count: int, timeout_s: float = 60.0) -> None:
    """Returns once every claim is bound and every volume attached."""
    await server.until(CLAIMS, lambda found: _phases(found) == ["Bound"] * count, f"{count} claims bound", timeout_s)
    await server.until(
        ATTACHMENTS,
        lambda found: [item["status"]["attached"] for item in found] == [True] * count,
        f"{count} volumes attached",
        timeout_s,
    )
    await server.until(PODS, lambda found: _phases(found) == ["Running"] * count, f"{count} Pods running", timeout_s)


async def end(server: Server, count: int, timeout_s: float = 60.0) -> None:
    """Deletes Pods and claims; returns once attachments and volumes are gone too."""
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(server.request("DELETE", f"{PODS}/life-{number}"))
            group.create_task(server.request("DELETE", f"{CLAIMS}/life-{number}"))
    for path in (PODS, ATTACHMENTS, CLAIMS, VOLUMES):
        await server.until(path, lambda found: not found, f"{path} empty", timeout_s)


def _phases(found: list[Any]) -> list[str]:
    return [item.get("status", {}).get("phase", "") for item in found]
