"""One play on the stage: a real API server, the embedded driver on a socket, one attacher as a process, a protocol.

The protocol is what can be compared between two attachers: which states objects went through, what the driver was
asked, in which order. Uids, versions and times are left out, and so is how often a thing was repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from csisidecar.csi import redact
from csisidecar.errors import KubeError, NotFoundError
from csisidecar.kube import CSI_NODES, PERSISTENT_VOLUMES, SECRETS, VOLUME_ATTACHMENTS, PatchType
from csisidecar.testing.driver import DriverSettings, FakeDriver, MemoryBackend, VolumeRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from csisidecar.kube import KubeClient, Resource

Object = dict[str, Any]

NAMESPACE = "default"
KINDS: Mapping[str, Resource] = {
    "PersistentVolume": PERSISTENT_VOLUMES,
    "VolumeAttachment": VOLUME_ATTACHMENTS,
    "CSINode": CSI_NODES,
    "Secret": SECRETS,
}
WATCHED = (PERSISTENT_VOLUMES, VOLUME_ATTACHMENTS)
QUIET_S = 0.7
"""How long nothing may happen before a play counts as over."""
LIMIT_S = 25.0


@dataclass(kw_only=True)
class Protocol:
    """What one attacher did in one play."""

    states: dict[str, list[Object]] = field(default_factory=dict)
    """Kind and name → the states that the object went through, ``gone`` last."""
    changes: list[tuple[int, str]] = field(default_factory=list)
    """The same states over all objects with their versions, as they were heard of."""
    order: list[str] = field(default_factory=list)
    """The same in the order of their versions."""
    requests: list[str] = field(default_factory=list)
    """What the driver's controller service was asked."""


@dataclass(kw_only=True)
class Stage:
    """Where a play acts."""

    kube: KubeClient
    driver: FakeDriver
    protocol: Protocol
    present: dict[str, Object] = field(default_factory=dict)

    async def create(self, obj: Object) -> None:
        """Put an object into the cluster, with the status it is given."""
        resource = KINDS[obj["kind"]]
        namespace = NAMESPACE if resource.namespaced else ""
        await self.kube.create(resource, {"apiVersion": resource.api_version, **obj}, namespace=namespace)
        if "status" in obj:
            await self.kube.patch(resource, obj["metadata"]["name"], {"status": obj["status"]}, subresource="status")

    async def edit(self, kind: str, name: str, change: Object) -> None:
        """Merge `change` into an object."""
        await self.kube.patch(KINDS[kind], name, change, patch_type=PatchType.MERGE)

    async def delete(self, kind: str, name: str) -> None:
        """Ask for the deletion of an object."""
        await self.kube.delete(KINDS[kind], name)

    async def until(self, check: Callable[[Stage], bool]) -> None:
        """Wait for `check`, for a bounded time; a play that never gets there shows in the comparison."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIMIT_S):
                while not check(self):
                    await asyncio.sleep(0.05)

    def va(self, name: str = "va1") -> Object:
        """An attachment as it is now, empty when it is gone."""
        return self.present.get(f"VolumeAttachment/{name}", {})

    def is_attached(self, name: str = "va1") -> bool:
        """`status.attached`."""
        return bool(self.va(name).get("status", {}).get("attached"))

    def has_error(self, field_name: str = "attachError", name: str = "va1") -> bool:
        """Whether the status shows an error."""
        return field_name in self.va(name).get("status", {})

    def is_gone(self, kind: str, name: str) -> bool:
        """Whether the object is not there any more."""
        return f"{kind}/{name}" not in self.present


@dataclass(frozen=True, kw_only=True)
class Play:
    """One behavior to compare."""

    name: str
    rows: tuple[str, ...]
    """Rows of the catalogue that it plays."""
    objects: tuple[Object, ...]
    """What there is before the attacher starts; ``{"delete": "Kind/name"}`` asks for a deletion in between."""
    act: Callable[[Stage], Awaitable[None]]
    """What happens after; ends when what is to be seen was there."""
    handles: tuple[str, ...] = ("handle-pv1",)
    block: bool = False
    driver: DriverSettings = field(default_factory=lambda: DriverSettings(name="csi.test.io"))
    trouble: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    counts: bool = False
    """Whether repeated requests are the point."""
    listed: int = 0
    """How many of the first ListVolumes calls are to be compared."""
    sees_order: bool = False
    """Whether the order of changes over several objects is the point."""


async def perform(play: Play, kube: KubeClient, command: Sequence[str], kubeconfig: Path, folder: Path) -> Protocol:
    """`play` with one attacher, from an empty cluster to an empty cluster."""
    backend = MemoryBackend()
    for handle in play.handles:
        await backend.save(VolumeRecord(id=handle, name=handle, capacity_bytes=1 << 20, block=play.block))
    driver = FakeDriver(play.driver, backend=backend, trouble=play.trouble)
    protocol = Protocol()
    stage = Stage(kube=kube, driver=driver, protocol=protocol)
    async with driver.serving(folder / "csi.sock") as endpoint:
        for obj in play.objects:
            if "delete" in obj:
                await stage.delete(*obj["delete"].split("/"))
            else:
                await stage.create(obj)
        try:
            async with asyncio.TaskGroup() as group:
                begun = asyncio.Event()
                recorder = group.create_task(_record(stage, begun))
                await begun.wait()
                words = [
                    *command,
                    f"--csi-address={endpoint}",
                    f"--kubeconfig={kubeconfig}",
                    "--timeout=5s",
                    *play.flags,
                ]
                async with _process(words, folder / "log"):
                    await play.act(stage)
                    await _quiet(stage)
                recorder.cancel()
        finally:
            await _clear(kube)
    protocol.requests = [
        f"{call.method} {redact(call.request)}"
        # Volumes are worked on side by side: only the calls for one volume have an order.
        for call in sorted(driver.ledger, key=lambda call: str(getattr(call.request, "volume_id", "")))
        if call.method in {"ControllerPublishVolume", "ControllerUnpublishVolume"}
    ]
    protocol.requests += [
        f"{call.method} {redact(call.request)}" for call in driver.calls("ListVolumes")[: play.listed]
    ]
    if not play.counts:
        protocol.requests = _without_repeats(protocol.requests)
    if play.sees_order:
        protocol.order = [text for _, text in sorted(protocol.changes)]
    return protocol


def differences(ours: Protocol, theirs: Protocol) -> list[str]:
    """What differs, a line each; empty for the same."""
    found = []
    for key in sorted(ours.states.keys() | theirs.states.keys()):
        mine, go = ours.states.get(key, []), theirs.states.get(key, [])
        if mine != go:
            found += [
                f"{key}: ours {json.dumps(mine, sort_keys=True)}",
                f"{key}: Go   {json.dumps(go, sort_keys=True)}",
            ]
    if ours.requests != theirs.requests:
        found += [f"requests: ours {ours.requests}", f"requests: Go   {theirs.requests}"]
    if ours.order != theirs.order:
        found += [f"order: ours {ours.order}", f"order: Go   {theirs.order}"]
    return found


def _without_repeats(items: Sequence[Any]) -> list[Any]:
    return [item for at, item in enumerate(items) if at == 0 or item != items[at - 1]]


async def _record(stage: Stage, begun: asyncio.Event) -> None:
    changes: asyncio.Queue[tuple[str, Object]] = asyncio.Queue()
    ready = [asyncio.Event() for _ in WATCHED]
    async with asyncio.TaskGroup() as group:
        for resource, event in zip(WATCHED, ready, strict=True):
            group.create_task(_watch(stage.kube, resource, changes, event))
        for event in ready:
            await event.wait()
        begun.set()
        while True:
            kind, obj = await changes.get()
            _note(stage, kind, obj)


async def _watch(
    kube: KubeClient, resource: Resource, changes: asyncio.Queue[tuple[str, Object]], ready: asyncio.Event
) -> None:
    listed = json.loads(await kube.list_page(resource))
    for item in listed["items"]:
        item["kind"] = resource.kind
        changes.put_nowait(("ADDED", item))
    version = listed["metadata"]["resourceVersion"]
    async with kube.watch(resource, resource_version=version, bookmarks=False, idle_timeout_s=120) as lines:
        ready.set()
        async for line in lines:
            event = json.loads(line)
            changes.put_nowait((event["type"], event["object"]))


def _note(stage: Stage, kind: str, obj: Object) -> None:
    key = f"{obj['kind']}/{obj['metadata']['name']}"
    states, version = stage.protocol.states.setdefault(key, []), int(obj["metadata"]["resourceVersion"])
    if kind == "DELETED":
        stage.present.pop(key, None)
        states.append({"gone": True})
        stage.protocol.changes.append((version, f"{key} gone"))
        return
    stage.present[key] = obj
    state = _state(obj)
    if not states or states[-1] != state:
        states.append(state)
        stage.protocol.changes.append((version, f"{key} {json.dumps(state, sort_keys=True)}"))


def _state(obj: Object) -> Object:
    """What an attacher may change of an object, without times."""
    meta = obj["metadata"]
    state: Object = {
        "finalizers": meta.get("finalizers", []),
        "annotations": meta.get("annotations", {}),
        "deleted": "deletionTimestamp" in meta,
    }
    if obj["kind"] == "VolumeAttachment":
        status = json.loads(json.dumps(obj.get("status", {})))
        for error in ("attachError", "detachError"):
            status.get(error, {}).pop("time", None)
        state["status"] = status
    return state


async def _quiet(stage: Stage) -> None:
    """Wait until neither objects nor driver have moved for a while; bounded, as a failing attacher never rests."""
    seen, still_s, waited_s = -1, 0.0, 0.0
    while still_s < QUIET_S and waited_s < 3 * QUIET_S:
        await asyncio.sleep(0.1)
        now = len(stage.driver.ledger) + sum(map(len, stage.protocol.states.values()))
        still_s = still_s + 0.1 if now == seen else 0.0
        seen, waited_s = now, waited_s + 0.1


@asynccontextmanager
async def _process(words: Sequence[str], log: Path) -> AsyncIterator[None]:
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(*words, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _clear(kube: KubeClient) -> None:
    """Take away everything that plays make; nobody is at work any more."""
    for kind in ("VolumeAttachment", "PersistentVolume", "CSINode", "Secret"):
        resource = KINDS[kind]
        namespace = NAMESPACE if resource.namespaced else ""
        for item in json.loads(await kube.list_page(resource, namespace=namespace))["items"]:
            name = item["metadata"]["name"]
            with contextlib.suppress(NotFoundError):
                if item["metadata"].get("finalizers"):
                    await kube.patch(resource, name, {"metadata": {"finalizers": None}}, namespace=namespace)
                await kube.delete(resource, name, namespace=namespace)
            with contextlib.suppress(KubeError):
                await kube.patch(resource, name, {"metadata": {"finalizers": None}}, namespace=namespace)
