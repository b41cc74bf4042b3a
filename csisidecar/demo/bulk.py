"""Many volumes at once: 200 lives phase by phase, and thousands of objects that lie still."""

from __future__ import annotations

import asyncio
import copy
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from csisidecar.demo.props import CLASS, NAMESPACE, build_claim, build_pod
from csisidecar.errors import NotFoundError
from csisidecar.kube import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, VOLUME_ATTACHMENTS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from csisidecar.demo.observer import Observer
    from csisidecar.kube import KubeClient, Resource

PARALLEL = 20


@dataclass(kw_only=True)
class Phases:
    """How long each phase of many lives took, from its first request to the last volume."""

    count: int
    seconds: dict[str, float] = field(default_factory=dict)
    """Phase → seconds."""

    def rates(self) -> dict[str, float]:
        """Phase → volumes a second."""
        return {phase: self.count / seconds for phase, seconds in self.seconds.items()}


async def live_many(
    client: KubeClient,
    observer: Observer,
    *,
    count: int,
    timeout_s: float,
    prefix: str = "many",
    storage_class: str = CLASS,
) -> Phases:
    """Provision, attach, detach and delete `count` volumes, all of them at once in each phase.

    Raises:
        TimeoutError: a phase took longer than `timeout_s`; its message says how far it came.
    """
    names = [f"{prefix}-{number:05d}" for number in range(count)]
    phases = Phases(count=count)

    def bound() -> int:
        wanted = set(names)
        return sum(1 for claim in observer.claims.values() if claim.phase == "Bound" and claim.name in wanted)

    def ours() -> set[str]:
        wanted = set(names)
        return {c.spec.volume_name for c in observer.claims.values() if c.name in wanted and c.spec.volume_name}

    async def measure(phase: str, act: Awaitable[None], reached: Callable[[], int]) -> None:
        began = time.monotonic()
        await act
        try:
            await observer.until(lambda: reached() >= count, timeout_s)
        except TimeoutError:
            raise TimeoutError(f"{phase}: {reached()} of {count} after {timeout_s:g} s") from None
        phases.seconds[phase] = time.monotonic() - began

    async def create_claim(name: str) -> None:
        body = build_claim(name, size="1Mi", storage_class=storage_class)
        await client.create(PERSISTENT_VOLUME_CLAIMS, body, namespace=NAMESPACE)

    async def create_pod(name: str) -> None:
        await client.create(PODS, build_pod(name, name), namespace=NAMESPACE)

    await measure("provision", each(names, create_claim), bound)
    volumes = ours()

    def attached() -> int:
        return sum(1 for a in observer.attachments.values() if a.volume_name in volumes and a.is_attached)

    def detached() -> int:
        return count - sum(1 for a in observer.attachments.values() if a.volume_name in volumes)

    def gone() -> int:
        return count - sum(1 for volume in observer.volumes.values() if volume.name in volumes)

    await measure("attach", each(names, create_pod), attached)
    await measure("detach", each(names, lambda n: _delete(client, PODS, n, NAMESPACE)), detached)
    await measure("delete", each(names, lambda n: _delete(client, PERSISTENT_VOLUME_CLAIMS, n, NAMESPACE)), gone)
    return phases


async def clone_many(client: KubeClient, template: Mapping[str, Any], *, count: int, prefix: str = "still") -> None:
    """Create `count` volumes that are bound and attached, as copies of one that really is.

    They keep its handle: the driver has that one published, so nobody finds an attachment to mend.

    Args:
        client: where to create; no controller may be at work there.
        template: the ``claim``, ``volume`` and ``attachment`` of the volume to copy.
        count: how many.
        prefix: of the copies' names.
    """

    async def clone(number: int) -> None:
        name = f"{prefix}-{number:05d}"
        claim = _copy(template["claim"], name)
        claim["spec"]["volumeName"] = name
        made = await client.create(PERSISTENT_VOLUME_CLAIMS, claim, namespace=NAMESPACE)
        volume = _copy(template["volume"], name)
        volume["spec"]["claimRef"] = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": NAMESPACE,
            "name": name,
            "uid": made["metadata"]["uid"],
        }
        await client.create(PERSISTENT_VOLUMES, volume)
        attachment = _copy(template["attachment"], name)
        attachment["spec"]["source"] = {"persistentVolumeName": name}
        await client.create(VOLUME_ATTACHMENTS, attachment)
        for resource, source, namespace in (
            (PERSISTENT_VOLUMES, "volume", ""),
            (VOLUME_ATTACHMENTS, "attachment", ""),
            (PERSISTENT_VOLUME_CLAIMS, "claim", NAMESPACE),
        ):
            status = {"status": template[source]["status"]}
            await client.patch(resource, name, status, namespace=namespace, subresource="status")

    await each(range(count), clone)


async def remove_clones(client: KubeClient, *, count: int, prefix: str = "still") -> None:
    """Take away what `clone_many` made, finalizers first; no driver is asked."""

    async def remove(number: int) -> None:
        name = f"{prefix}-{number:05d}"
        for resource, namespace in (
            (VOLUME_ATTACHMENTS, ""),
            (PERSISTENT_VOLUMES, ""),
            (PERSISTENT_VOLUME_CLAIMS, NAMESPACE),
        ):
            await strip_and_delete(client, resource, name, namespace)

    await each(range(count), remove)


async def strip_and_delete(client: KubeClient, resource: Resource, name: str, namespace: str = "") -> None:
    """Delete an object whatever its finalizers say; nothing happens if it is gone."""
    try:
        await client.patch(resource, name, {"metadata": {"finalizers": None}}, namespace=namespace)
    except NotFoundError:
        return
    await _delete(client, resource, name, namespace)


async def each(items: Iterable[Any], act: Callable[[Any], Awaitable[None]], *, parallel: int = PARALLEL) -> None:
    """`act` on every item, `parallel` at a time."""
    waiting = iter(items)

    async def work() -> None:
        for item in waiting:
            await act(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(parallel):
            group.create_task(work())


async def _delete(client: KubeClient, resource: Resource, name: str, namespace: str = "") -> None:
    try:
        await client.delete(resource, name, namespace=namespace)
    except NotFoundError:
        return


def _copy(template: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A new object like `template`, without what the server gives."""
    body = copy.deepcopy(dict(template))
    kept = ("labels", "annotations", "finalizers", "namespace")
    body["metadata"] = {"name": name} | {key: body["metadata"][key] for key in kept if key in body["metadata"]}
    body.pop("status", None)
    return body
