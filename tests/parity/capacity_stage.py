"""The stage of capacity and of node deployment: provisioners as processes, one a node or one for all, step by step.

A play lives once and is looked at after each of its steps: which CSIStorageCapacity objects there are and whether they
are the ones of before, what the drivers were asked since the last look, and what claims, volumes and Events say. Names
that the API server makes up, UIDs and how often a thing was repeated are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import aiohttp

from csisidecar.errors import KubeError
from csisidecar.kube import (
    CSI_NODES,
    CSI_STORAGE_CAPACITIES,
    EVENTS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    STORAGE_CLASSES,
    Resource,
)
from csisidecar.testing.driver import DriverSettings, FakeDriver, MemoryBackend, VolumeRecord
from tests.envtest.control_plane import free_ports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from csisidecar.csi import GetCapacityRequest, GetCapacityResponse
    from csisidecar.kube import KubeClient

Object = dict[str, Any]
Seen = dict[str, list[str]]
"""Subject → what there is to see of it, a line each, sorted."""

NAMESPACE = "default"
IDENTITY = "storage.kubernetes.io/csiProvisionerIdentity"
LIMIT_S = 12.0
QUIET_S = 0.4
WORKLOADS = [
    Resource(group="apps", version="v1", plural=f"{kind.lower()}s", kind=kind, namespaced=True)
    for kind in ("ReplicaSet", "Deployment")
]
KINDS: Mapping[str, Resource] = {
    each.kind: each
    for each in (
        CSI_STORAGE_CAPACITIES,
        PERSISTENT_VOLUME_CLAIMS,
        PERSISTENT_VOLUMES,
        STORAGE_CLASSES,
        CSI_NODES,
        NODES,
        PODS,
        *WORKLOADS,
        EVENTS,
    )
}
CHANGING = ("CSIStorageCapacity", "PersistentVolumeClaim", "PersistentVolume")
"""Kinds that a provisioner writes."""
_APPENDED = re.compile(r" \((?:first: .*; )?\d+ attempts since .*; next in about .*\)$", re.DOTALL)
_NUMBERS = re.compile(r"^\d+-\d+")
_GAUGE = re.compile(r"^csistoragecapacities_(\w+) (\S+)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that happens, and the look after it."""

    name: str
    rows: tuple[str, ...]
    """Rows of the catalogue that it plays."""
    act: Callable[[Stage], Awaitable[None]]
    """Ends when what is to be seen was there."""
    about: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name of a claim or volume → rows that it plays by itself."""


@dataclass(frozen=True, kw_only=True)
class Play:
    """One life of a provisioner, or of one a node."""

    name: str
    steps: tuple[Step, ...]
    objects: tuple[Object, ...]
    """What there is before the provisioner starts."""
    driver: DriverSettings
    volumes: tuple[str, ...] = ()
    """Ids of volumes that the driver has from before."""
    trouble: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=lambda: {"NAMESPACE": NAMESPACE, "POD_NAME": "pod"})
    nodes: Mapping[str, Mapping[str, str]] | None = None
    """Node → segments of its own driver, for node deployment; None: one provisioner for all."""
    subjects: tuple[str, ...] = ("rooms", "asked", "made", "gauges", "ended")
    """What is compared."""
    polls: bool = False
    """Whether the driver is asked all the time."""
    anybody: bool = False
    """Whether it does not matter which node does it; how often it is done does."""


class RoomDriver(FakeDriver):
    """The embedded driver; tells its room as a play says, or as it is."""

    tells: Callable[[GetCapacityRequest], Awaitable[GetCapacityResponse]] | None = None

    async def answer(self, stream: Any, name: str, work: Any) -> None:
        """As the embedded driver does."""
        await super().answer(stream, name, self.tells if name == "GetCapacity" and self.tells else work)


@dataclass(kw_only=True)
class Stage:
    """Where a play acts."""

    kube: KubeClient
    drivers: dict[str, RoomDriver]
    """Node → its driver; one of an empty name without node deployment."""
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    ports: list[int] = field(default_factory=list)
    told: dict[str, int] = field(default_factory=dict)
    """Node → how much of its driver's ledger was looked at."""
    before: dict[str, str] = field(default_factory=dict)
    """UID of each capacity object → its version at the last look."""

    @property
    def driver(self) -> RoomDriver:
        """The only driver, or the first node's."""
        return next(iter(self.drivers.values()))

    async def create(self, *objects: Object) -> None:
        """Put objects into the cluster, with the status they are given."""
        for given in objects:
            obj: Object = json.loads(json.dumps(given))
            resource = KINDS[obj["kind"]]
            where = NAMESPACE if resource.namespaced else ""
            if "claimRef" in obj.get("spec", {}):
                source = obj["spec"]["claimRef"]
                bound = await self.kube.get(PERSISTENT_VOLUME_CLAIMS, source["name"], namespace=NAMESPACE)
                source["uid"] = bound["metadata"]["uid"]
            await self.kube.create(resource, {"apiVersion": resource.api_version, **obj}, namespace=where)
            if "status" in obj:
                change, name = {"status": obj["status"]}, obj["metadata"]["name"]
                await self.kube.patch(resource, name, change, namespace=where, subresource="status")

    async def edit(self, kind: str, name: str, change: Object) -> None:
        """Merge `change` into an object."""
        resource = KINDS[kind]
        await self.kube.patch(resource, name, change, namespace=NAMESPACE if resource.namespaced else "")

    async def delete(self, kind: str, name: str) -> None:
        """Ask for the deletion of an object."""
        resource = KINDS[kind]
        await self.kube.delete(resource, name, namespace=NAMESPACE if resource.namespaced else "")

    async def found(self, kind: str) -> list[Object]:
        """Every object of a kind."""
        items: list[Object] = json.loads(await self.kube.list_page(KINDS[kind]))["items"]
        return items

    async def versions(self) -> dict[str, str]:
        """UID of each capacity object → its version."""
        found = await self.found("CSIStorageCapacity")
        return {each["metadata"]["uid"]: each["metadata"]["resourceVersion"] for each in found}

    async def room(self, item: str) -> Object:
        """One of the objects about a class in a segment, as in ``fast@zone=a``."""
        return next(each for each in await self.found("CSIStorageCapacity") if item_of(each) == item)

    async def until(self, check: Callable[[], Awaitable[bool]]) -> None:
        """Wait for `check`, for a bounded time; a step that never gets there shows in the comparison."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIMIT_S):
                while not await check():
                    if all(each.returncode is not None for each in self.processes.values()):
                        return
                    await asyncio.sleep(0.1)

    async def shows(self, *items: str) -> None:
        """Wait until the objects are about exactly these; a capacity may follow, as in ``fast@zone=a 1Gi``."""

        async def done() -> bool:
            found = await self.found("CSIStorageCapacity")
            texts = [item_of(each) for each in found]
            exact = [f"{item_of(each)} {each.get('capacity')}" for each in found]
            return len(found) == len(items) and all(item in (*texts, *exact) for item in items)

        await self.until(done)

    async def hears(self, method: str, count: int = 1) -> None:
        """Wait until the drivers were called so often since the last look."""

        async def done() -> bool:
            return len([call for _, call in self.news() if call.method == method]) >= count

        await self.until(done)

    async def tells(self, text: str) -> None:
        """Wait until an Event has `text` in it."""

        async def done() -> bool:
            return any(text in f"{each.get('reason')} {each.get('message')}" for each in await self.found("Event"))

        await self.until(done)

    async def volume_of(self, claim: str) -> Object:
        """Wait for the PersistentVolume of a claim, saved and told of; empty when it does not come."""
        found: Object = {}

        async def done() -> bool:
            for each in await self.found("PersistentVolume"):
                if each["spec"].get("claimRef", {}).get("name") == claim:
                    found.update(each)
            return bool(found)

        await self.until(done)
        return found

    def news(self) -> list[tuple[str, Any]]:
        """Node and call of what the drivers were asked since the last look."""
        return [
            (node, call) for node, driver in self.drivers.items() for call in list(driver.ledger)[self.told[node] :]
        ]

    def forget(self) -> None:
        """What the drivers were asked until now is looked at."""
        self.told = {node: len(driver.ledger) for node, driver in self.drivers.items()}

    async def quiet(self, *, polls: bool) -> None:
        """Wait until nothing has moved for a while; bounded, as a failing provisioner never rests."""
        seen, still_s, waited_s = "", 0.0, 0.0
        while still_s < QUIET_S and waited_s < 3 * QUIET_S:
            await asyncio.sleep(0.1)
            versions = [each["metadata"]["resourceVersion"] for kind in CHANGING for each in await self.found(kind)]
            now = f"{versions} {0 if polls else len(self.news())}"
            still_s = still_s + 0.1 if now == seen else 0.0
            seen, waited_s = now, waited_s + 0.1


async def play_each(
    plays: Sequence[Play],
    kube: KubeClient,
    commands: Sequence[Sequence[str]],
    kubeconfig: Path,
    folder: Path,
    only: str,
) -> AsyncIterator[tuple[str, Sequence[str], list[str]]]:
    """Each step's name, its rows, and what differed; `only` picks plays."""
    for play in plays:
        if only in play.name:
            ours, theirs = [await perform(play, kube, words, kubeconfig, folder) for words in commands]
            for step, mine, go in zip(play.steps, ours, theirs, strict=True):
                left = differences(mine, go)
                for name, rows in step.about.items():
                    word = re.compile(rf"(?<![\w-]){name}(?![\w-])")
                    yield f"{play.name}: {name}", rows, [line for line in left if word.search(line)]
                    left = [line for line in left if not word.search(line)]
                yield f"{play.name}: {step.name}", step.rows, left


async def perform(
    play: Play, kube: KubeClient, command: Sequence[str], kubeconfig: Path, folder: Path
) -> Sequence[Seen]:
    """`play` with one kind of provisioner, from an empty cluster to an empty cluster; what was seen after each step."""
    places = play.nodes if play.nodes is not None else {"": play.driver.topology}
    drivers = {}
    for node, topology in places.items():
        backend = MemoryBackend()
        for volume in play.volumes:
            await backend.save(VolumeRecord(id=volume, name=volume, capacity_bytes=1 << 20, block=False))
        settings = replace(play.driver, topology=topology, node_id=node or play.driver.node_id)
        drivers[node] = RoomDriver(settings, backend=backend, trouble=play.trouble)
    stage = Stage(kube=kube, drivers=drivers, ports=free_ports(len(drivers)))
    stage.forget()
    seen: list[Seen] = []
    try:
        await stage.create(*play.objects)
        stage.before = await stage.versions()
        async with AsyncExitStack() as stack:
            for (node, driver), port in zip(drivers.items(), stage.ports, strict=True):
                endpoint = await stack.enter_async_context(driver.serving(folder / f"{port}.sock"))
                words = [
                    "env",
                    *(f"{name}={value}" for name, value in {**play.variables, "NODE_NAME": node}.items()),
                    *command,
                    f"--csi-address={endpoint}",
                    f"--kubeconfig={kubeconfig}",
                    f"--http-endpoint=127.0.0.1:{port}",
                    "--timeout=3s",
                    "--retry-interval-start=300ms",
                    "--retry-interval-max=1s",
                    "--kube-api-qps=100",
                    "--kube-api-burst=100",
                    *(("--node-deployment",) if node else ()),
                    *play.flags,
                ]
                stage.processes[node] = await stack.enter_async_context(_process(words, folder / "log"))
            for step in play.steps:
                await step.act(stage)
                await stage.quiet(polls=play.polls)
                seen.append(await look(stage, play))
    finally:
        await _clear(stage)
    return seen


def differences(ours: Seen, theirs: Seen) -> list[str]:
    """What only one of the two has, a line each."""
    found = []
    for subject in ours:
        mine, go = ours[subject], theirs[subject]
        if subject == "events":
            # What ours says goes on after Go's text.
            mine = [next((line for line in go if each.startswith(line)), each) for each in mine]
        found += [f"{subject}: only ours {line}" for line in mine if line not in go]
        found += [f"{subject}: only Go's {line}" for line in go if line not in mine]
        if sorted(set(mine)) == sorted(set(go)) and len(mine) != len(go):
            found.append(f"{subject}: ours {len(mine)} lines, Go's {len(go)}")
    return found


async def look(stage: Stage, play: Play) -> Seen:
    """What there is now, in words that do not differ from run to run."""
    claims = await stage.found("PersistentVolumeClaim")
    words = {each["metadata"]["uid"]: f"<{each['metadata']['name']}>" for each in claims}
    seen: Seen = {subject: [] for subject in play.subjects}

    def say(subject: str, *parts: Any) -> None:
        line = " ".join(each if isinstance(each, str) else json.dumps(each, sort_keys=True) for each in parts)
        for secret, word in words.items():
            line = line.replace(secret, word)
        if play.anybody:
            line = re.sub(r"\bn\d\b", "n?", line)
        if subject in seen:
            seen[subject].append(line)

    pods = {each["metadata"]["uid"] for each in await stage.found("Pod")}
    for each in await stage.found("CSIStorageCapacity"):
        say("rooms", *_room_words(each, stage.before, pods))
    stage.before = await stage.versions()
    for node, call in stage.news():
        subject = "asked" if call.method == "GetCapacity" else "made"
        if call.method in ("GetCapacity", "CreateVolume", "DeleteVolume"):
            say(subject, node, call.method, call.request.to_dict())
    stage.forget()
    for subject in ("asked", "made"):
        if subject in seen and not play.anybody:
            seen[subject] = sorted(set(seen[subject]))
    for each in claims:
        meta = each["metadata"]
        say("claims", meta["name"], meta.get("annotations", {}), meta.get("finalizers", []))
    for each in await stage.found("PersistentVolume"):
        meta = each["metadata"]
        gone = "being deleted" if "deletionTimestamp" in meta else "there"
        identity = _NUMBERS.sub("#", each["spec"]["csi"].get("volumeAttributes", {}).get(IDENTITY, ""))
        where = _sorted_terms(each["spec"].get("nodeAffinity", {}))
        say("volumes", meta["name"], gone, meta.get("finalizers", []), where, identity)
    for each in await stage.found("Event"):
        about = each["involvedObject"]
        if about["kind"] in ("PersistentVolumeClaim", "PersistentVolume"):
            say("events", about["name"], each["type"], each["reason"], _APPENDED.sub("", each["message"]))
    if "events" in seen:
        seen["events"] = sorted(set(seen["events"]))
    for node, process in stage.processes.items():
        say("ended", f"{node} {process.returncode}" if process.returncode is None else f"{node} ended by itself")
    if "gauges" in seen:
        seen["gauges"] = await _gauges(stage)
    return {subject: sorted(lines) for subject, lines in seen.items()}


def item_of(room: Object) -> str:
    """What a CSIStorageCapacity object is about, as in ``fast@zone=a``."""
    labels = (room.get("nodeTopology") or {}).get("matchLabels") or {}
    place = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return f"{room.get('storageClassName')}@{place or 'everywhere'}"


def _room_words(room: Object, before: Mapping[str, str], pods: set[str]) -> list[str]:
    meta = room["metadata"]
    name = "csisc-…" if meta["name"].startswith("csisc-") else re.sub(r"^dup-.*", "dup-…", meta["name"])
    age = "new"
    if meta["uid"] in before:
        age = "as before" if before[meta["uid"]] == meta["resourceVersion"] else "rewritten"
    owners = [{**each, "uid": "of a pod" if each["uid"] in pods else "…"} for each in meta.get("ownerReferences", [])]
    return [
        item_of(room),
        f"{room.get('capacity')} of {room.get('maximumVolumeSize')}",
        json.dumps(room.get("nodeTopology"), sort_keys=True),
        name,
        age,
        json.dumps([meta.get("labels", {}), owners, meta.get("finalizers", [])], sort_keys=True),
    ]


def _sorted_terms(affinity: Object) -> Object:
    """Go writes the keys of a place in the order of a map."""
    for term in affinity.get("required", {}).get("nodeSelectorTerms", []):
        term.get("matchExpressions", []).sort(key=lambda each: str(each["key"]))
    return affinity


async def _gauges(stage: Stage) -> list[str]:
    found = []
    async with aiohttp.ClientSession() as session:
        for port in stage.ports:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                wait = aiohttp.ClientTimeout(total=2)
                async with session.get(f"http://127.0.0.1:{port}/metrics", timeout=wait) as answer:
                    found += [f"{name} {float(value):g}" for name, value in _GAUGE.findall(await answer.text())]
    return found


@asynccontextmanager
async def _process(words: Sequence[str], log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(*words, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _clear(stage: Stage) -> None:
    """Take away everything that plays make; nobody is at work any more."""
    for kind, resource in KINDS.items():
        for item in await stage.found(kind):
            meta = item["metadata"]
            where = {"namespace": meta.get("namespace", "")}
            with contextlib.suppress(KubeError):
                await stage.kube.delete(resource, meta["name"], **where)
            with contextlib.suppress(KubeError):
                if meta.get("finalizers") or kind in ("PersistentVolumeClaim", "PersistentVolume"):
                    bare = {"metadata": {"finalizers": None}}
                    await stage.kube.patch(resource, meta["name"], bare, **where)
