"""A small world to attach in: an API server in memory, a scripted driver, and the attacher at work on both.

Everything between is real: client, informers, controllers, Events, CSI over an in-memory channel. Time is virtual.
"""

from __future__ import annotations

import asyncio
import copy
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from csisidecar.config import AttacherSettings
from csisidecar.csi import (
    ControllerBase,
    ControllerPublishVolumeRequest,
    ControllerPublishVolumeResponse,
    ControllerUnpublishVolumeRequest,
    ControllerUnpublishVolumeResponse,
    CSIClient,
    DriverChannel,
    DriverInfo,
    ListVolumesRequest,
    ListVolumesResponse,
    ListVolumesResponseEntry,
    ListVolumesResponseVolumeStatus,
    Volume,
)
from csisidecar.errors import StatusCode, UnreachableError
from csisidecar.kube import KubeClient
from csisidecar.kube.session import NO_HEADERS, Response
from csisidecar.plugin import PluginContext
from csisidecar.plugins.attacher import Attacher
from csisidecar.runtime import EventRecorder, Host, Stores, note_write
from csisidecar.testing.apiserver.patching import json_patch, merge_patch
from csisidecar.testing.apiserver.status import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from csisidecar.clock import Clock
    from csisidecar.csi.client import CallObserver
    from csisidecar.kube import KubeSession
    from csisidecar.plugin import Metrics

DRIVER = "csi.test.io"
FINALIZER = "external-attacher/csi-test-io"
NODE_ID = "csi.alpha.kubernetes.io/node-id"
START = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)

Object = dict[str, Any]


class LoopClock:
    """The loop's time, also as a wall clock that begins at `START`."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic())


@dataclass(frozen=True)
class Request:
    """One request that is no list and no watch."""

    method: str
    path: str
    body: Any
    at: float

    @property
    def short(self) -> str:
        return f"{self.method} {'/'.join(self.path.split('/')[4 if self.path.startswith('/apis') else 3 :])}"


@dataclass
class Trouble:
    method: str
    path_end: str
    status: int
    message: str
    times: int
    headers: dict[str, str]


class SmallAPI:
    """Claims to behave like the API server for patches, finalizers, status isolation, lists and watches.

    A session for `KubeClient`: no sockets. `lag_s` delays what watches tell.
    """

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.requests: list[Request] = []
        self.troubles: list[Trouble] = []
        self.order: list[str] = []
        self.lag_s = 0.0
        self.revision = 1
        self._log: list[tuple[int, str, str, Object]] = []
        self._changed = asyncio.Event()
        self._uids = 0

    # ---- what tests do

    def put(self, obj: Object) -> Object:
        """Create or replace, as a person or another controller would."""
        path = path_of(obj)
        old = self.objects.get(path)
        obj = copy.deepcopy(obj)
        meta = obj["metadata"]
        if old is None:
            self._uids += 1
            meta.setdefault("uid", f"uid-{self._uids}")
            meta.setdefault("creationTimestamp", stamp())
            if obj["kind"] == "VolumeAttachment":
                obj.setdefault("status", {"attached": False})
        self._commit(path, "ADDED" if old is None else "MODIFIED", obj)
        return obj

    def edit(self, path: str, change: Callable[[Object], None]) -> None:
        obj = copy.deepcopy(self.objects[path])
        change(obj)
        self._settle(path, obj)

    def delete(self, path: str) -> None:
        def mark(obj: Object) -> None:
            obj["metadata"]["deletionTimestamp"] = stamp()

        self.edit(path, mark)

    def refuse(
        self, method: str, path_end: str, status: int, message: str, *, times: int = 1, retry_after_s: int = 0
    ) -> None:
        """Answer the next `times` fitting requests with `status`; with 0 do the work and lose the answer."""
        headers = {"Retry-After": str(retry_after_s)} if retry_after_s else {}
        self.troubles.append(Trouble(method, path_end, status, message, times, headers))

    def states(self, path: str) -> list[Object]:
        """Every state that the object at `path` was in."""
        return [obj for _, key, _, obj in self._log if key == path]

    def writes(self) -> list[str]:
        return [r.short for r in self.requests if r.method != "GET" and "/events" not in r.path]

    def events(self) -> list[tuple[str, str, str, int]]:
        """Type, reason, message, count of each Event."""
        found = [o for o in self.objects.values() if o["kind"] == "Event"]
        return [(o["type"], o["reason"], o["message"], o["count"]) for o in found]

    # ---- the session

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes | None = None,
        timeout_s: float,
    ) -> Response:
        await asyncio.sleep(0)
        given: Any = json.loads(body) if body else None
        self.requests.append(Request(method, path, given, asyncio.get_running_loop().time()))
        for trouble in self.troubles:
            if trouble.method == method and path.endswith(trouble.path_end) and trouble.times:
                trouble.times -= 1
                if trouble.status == 0:
                    self._act(method, path, given)
                    raise UnreachableError(trouble.message)
                return answer(trouble.status, {"kind": "Status", "message": trouble.message}, trouble.headers)
        return self._act(method, path, given)

    def _act(self, method: str, path: str, given: Any) -> Response:
        if method == "POST":
            given["metadata"]["namespace"] = path.split("/")[-2]
            return answer(201, self.put({**given, "apiVersion": "v1"}))
        target = path.removesuffix("/status")
        found = self.objects.get(target)
        if found is None:
            plural, name = target.split("/")[-2:]
            group = ".storage.k8s.io" if "storage.k8s.io" in target else ""
            return answer(404, {"kind": "Status", "message": f'{plural}{group} "{name}" not found'})
        if method == "GET":
            return answer(200, found)
        return self._patch(target, found, given, is_status=path != target)

    def _patch(self, path: str, found: Object, given: Any, *, is_status: bool) -> Response:
        base = copy.deepcopy(found)
        try:
            new = json_patch(base, given) if isinstance(given, list) else merge_patch(base, given)
        except Refusal as refusal:
            return answer(422, {"kind": "Status", "message": str(refusal) or "the patch does not apply"})
        if new["metadata"].get("uid") != found["metadata"]["uid"]:
            return answer(422, {"kind": "Status", "message": "metadata.uid: field is immutable"})
        for error in ("attachError", "detachError"):
            if len(((new.get("status") or {}).get(error) or {}).get("message", "").encode()) > 1024:
                return answer(422, {"kind": "Status", "message": f"status.{error}.message: too long"})
        if is_status:
            new = {**found, "status": new.get("status")}
        elif found["kind"] != "Event":
            new = {**new, "status": found.get("status")}
        added = set(new["metadata"].get("finalizers") or ()) - set(found["metadata"].get("finalizers") or ())
        if added and found["metadata"].get("deletionTimestamp"):
            return answer(422, {"kind": "Status", "message": "no new finalizers can be added if the object is deleted"})
        return answer(200, self._settle(path, new))

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] = NO_HEADERS,
        idle_timeout_s: float,
    ) -> AsyncIterator[Stream]:
        asked = dict(query)
        yield Stream(self._lines(path, asked, idle_timeout_s))

    async def _lines(self, path: str, asked: Mapping[str, str], idle_timeout_s: float) -> AsyncIterator[bytes]:
        seen = int(asked.get("resourceVersion") or 0)
        if asked.get("sendInitialEvents"):
            seen = self.revision
            for key, obj in list(self.objects.items()):
                if key.rpartition("/")[0] == path:
                    yield line("ADDED", obj)
            mark = {"resourceVersion": str(seen), "annotations": {"k8s.io/initial-events-end": "true"}}
            yield line("BOOKMARK", {"metadata": mark})
        end = asyncio.get_running_loop().time() + float(asked["timeoutSeconds"])
        while True:
            for revision, key, kind, obj in list(self._log):
                if revision > seen:
                    seen = revision
                    if key.rpartition("/")[0] == path:
                        if self.lag_s:
                            await asyncio.sleep(self.lag_s)
                        yield line(kind, obj)
            if seen < self.revision:
                continue
            self._changed.clear()
            try:
                async with asyncio.timeout_at(end):
                    await self._changed.wait()
            except TimeoutError:
                return

    # ---- committing

    def _settle(self, path: str, obj: Object) -> Object:
        """Keep a changed object, or let it go when it is deleted and nothing holds it."""
        meta = obj["metadata"]
        if not meta.get("finalizers"):
            meta.pop("finalizers", None)
        if meta.get("deletionTimestamp") and not meta.get("finalizers"):
            return self._commit(path, "DELETED", obj)
        if obj == self.objects.get(path):
            return obj
        return self._commit(path, "MODIFIED", obj)

    def _commit(self, path: str, kind: str, obj: Object) -> Object:
        self.revision += 1
        obj["metadata"]["resourceVersion"] = str(self.revision)
        if kind == "DELETED":
            self.objects.pop(path, None)
        else:
            self.objects[path] = obj
        self._log.append((self.revision, path, kind, copy.deepcopy(obj)))
        self.order.append(f"{kind} {path.split('/')[-1]}")
        self._changed.set()
        self._changed = asyncio.Event()
        return obj


class Stream:
    def __init__(self, lines: AsyncIterator[bytes]) -> None:
        self._lines = lines
        self.status = 200
        self.headers: Mapping[str, str] = {}

    def lines(self) -> AsyncIterator[bytes]:
        return self._lines

    async def read(self) -> bytes:
        return b""


def answer(status: int, body: Object, headers: Mapping[str, str] = NO_HEADERS) -> Response:
    return Response(status=status, headers=headers, body=json.dumps(body).encode())


def line(kind: str, obj: Object) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode()


def stamp() -> str:
    return LoopClock().now().strftime("%Y-%m-%dT%H:%M:%SZ")


_PLURALS = {
    "VolumeAttachment": "/apis/storage.k8s.io/v1/volumeattachments",
    "CSINode": "/apis/storage.k8s.io/v1/csinodes",
    "PersistentVolume": "/api/v1/persistentvolumes",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "Event": "/api/v1/namespaces/{}/events",
}


def path_of(obj: Object) -> str:
    meta = obj["metadata"]
    return f"{_PLURALS[obj['kind']].format(meta.get('namespace'))}/{meta['name']}"


VA = "/apis/storage.k8s.io/v1/volumeattachments/va1"
PV = "/api/v1/persistentvolumes/pv1"
NODE = "/apis/storage.k8s.io/v1/csinodes/node1"


# ---- builders


def attachment(name: str = "va1", *, pv: str | None = "pv1", attacher: str = DRIVER, **more: Any) -> Object:
    """`more`: finalizers, annotations, deleted, status, inline."""
    source: Object = {} if pv is None else {"persistentVolumeName": pv}
    if more.get("inline") is not None:
        source["inlineVolumeSpec"] = more["inline"]
    obj: Object = {
        "kind": "VolumeAttachment",
        "metadata": {"name": name},
        "spec": {"attacher": attacher, "nodeName": "node1", "source": source},
    }
    return _common(obj, more)


def volume(name: str = "pv1", **more: Any) -> Object:
    """`more`: finalizers, annotations, labels, deleted, csi (fields of the source), spec (replaces all of it)."""
    spec = more.get("spec") or {
        "accessModes": ["ReadWriteOnce"],
        "csi": {"driver": DRIVER, "volumeHandle": f"handle-{name}", **more.get("csi", {})},
    }
    return _common({"kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}, more)


def node(name: str = "node1", *, driver: str | None = DRIVER, node_id: str = "nodeID1") -> Object:
    drivers = [{"name": driver, "nodeID": node_id}] if driver else []
    return {"kind": "CSINode", "metadata": {"name": name}, "spec": {"drivers": drivers}}


def secret(data: Mapping[str, str], name: str = "s", namespace: str = "ns") -> Object:
    return {"kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "data": dict(data)}


def _common(obj: Object, more: Mapping[str, Any]) -> Object:
    meta = obj["metadata"]
    for key in ("finalizers", "annotations", "labels"):
        if more.get(key):
            meta[key] = more[key]
    if more.get("deleted"):
        meta["deletionTimestamp"] = more["deleted"] if isinstance(more["deleted"], str) else "2026-11-21T11:00:00Z"
    if "status" in more:
        obj["status"] = more["status"]
    return obj


# ---- the driver


@dataclass
class Answer:
    """What the driver does with one call: waits, then fails or works. Failing after the work: `late`."""

    code: StatusCode = StatusCode.OK
    message: str = ""
    delay_s: float = 0.0
    late: bool = False
    context: dict[str, str] = field(default_factory=dict)


class ScriptedDriver(ControllerBase):
    """Keeps what is published where; each call takes the next `Answer` of its script, then plain success."""

    def __init__(self) -> None:
        self.publish: list[Answer] = []
        self.unpublish: list[Answer] = []
        self.lists: list[Answer] = []
        self.pages: dict[str, ListVolumesResponse] = {}
        """Token → page; without any, one page of what is published."""
        self.asked: list[tuple[float, ListVolumesRequest]] = []
        """When ListVolumes was called, and how."""
        self.published: set[tuple[str, str]] = set()
        self.requests: list[ControllerPublishVolumeRequest | ControllerUnpublishVolumeRequest] = []
        self.times: list[float] = []
        self.before: Callable[[], None] = lambda: None
        """Called at the start of each call: what the rest of the world does meanwhile."""

    async def controller_publish_volume(
        self, message: ControllerPublishVolumeRequest
    ) -> ControllerPublishVolumeResponse:
        script = self.publish.pop(0) if self.publish else Answer(context={"devicePath": "/dev/h1"})
        await self._act(message, script, lambda: self.published.add((message.volume_id, message.node_id)))
        return ControllerPublishVolumeResponse(publish_context=script.context)

    async def controller_unpublish_volume(
        self, message: ControllerUnpublishVolumeRequest
    ) -> ControllerUnpublishVolumeResponse:
        script = self.unpublish.pop(0) if self.unpublish else Answer()
        await self._act(message, script, lambda: self.published.discard((message.volume_id, message.node_id)))
        return ControllerUnpublishVolumeResponse()

    async def list_volumes(self, message: ListVolumesRequest) -> ListVolumesResponse:
        script = self.lists.pop(0) if self.lists else Answer()
        self.asked.append((asyncio.get_running_loop().time(), message))
        page = self.pages.get(message.starting_token)
        if page is None:
            page = page_of(self.published)
        if script.delay_s:
            await asyncio.sleep(script.delay_s)
        if script.code is not StatusCode.OK:
            raise GRPCError(Status(int(script.code)), script.message)
        return page

    async def _act(
        self,
        request: ControllerPublishVolumeRequest | ControllerUnpublishVolumeRequest,
        script: Answer,
        work: Callable[[], None],
    ) -> None:
        self.requests.append(request)
        self.times.append(asyncio.get_running_loop().time())
        self.before()
        if script.code is StatusCode.OK or script.late:
            work()
        if script.delay_s:
            await asyncio.sleep(script.delay_s)
        if script.code is not StatusCode.OK:
            raise GRPCError(Status(int(script.code)), script.message)

    @property
    def calls(self) -> list[str]:
        """``publish`` or ``unpublish`` of each call, in order."""
        return ["publish" if isinstance(r, ControllerPublishVolumeRequest) else "unpublish" for r in self.requests]


def page_of(published: Iterable[tuple[str, str]], next_token: str = "") -> ListVolumesResponse:
    """One page with an entry for each pair of handle and node; a node that is empty stands for none."""
    entries = [
        ListVolumesResponseEntry(
            volume=Volume(volume_id=handle),
            status=ListVolumesResponseVolumeStatus(published_node_ids=[node_id] if node_id else []),
        )
        for handle, node_id in sorted(published)
    ]
    return ListVolumesResponse(entries=entries, next_token=next_token)


class Numbers:
    """Metrics kept as plain numbers: counters and histogram observations by name and labels, gauges to read."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, ...], list[float]] = {}
        self.gauges: dict[tuple[str, ...], Callable[[], float]] = {}

    def counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Series:
        return Series(self, name)

    def histogram(self, name: str, help_text: str, labels: Sequence[str] = (), *, buckets: Sequence[float]) -> Series:
        return Series(self, name)

    def gauge(self, name: str, help_text: str, labels: Sequence[str], read: Callable[[], float], *values: str) -> None:
        self.gauges[name, *values] = read

    def call_done(self, method: str, code: StatusCode, seconds: float, migrated: str | None = None) -> None:
        self.seen.setdefault(("call", method.rpartition("/")[2], str(migrated)), []).append(seconds)


class Series:
    def __init__(self, numbers: Numbers, name: str) -> None:
        self._numbers = numbers
        self._name = name

    def inc(self, *labels: str, by: float = 1.0) -> None:
        self._numbers.seen.setdefault((self._name, *labels), []).append(by)

    def observe(self, value: float, *labels: str) -> None:
        self._numbers.seen.setdefault((self._name, *labels), []).append(value)


# ---- all of it

REAL = frozenset({"PUBLISH_UNPUBLISH_VOLUME"})
LISTING = REAL | {"LIST_VOLUMES", "LIST_VOLUMES_PUBLISHED_NODES"}


@asynccontextmanager
async def at_work(
    plugin: Attacher,
    session: KubeSession,
    channel: DriverChannel,
    info: DriverInfo,
    metrics: Metrics,
    clock: Clock,
    observer: CallObserver | None = None,
) -> AsyncIterator[None]:
    """`plugin` built and running on these peers, from when its stores are synced to the end of the block."""
    client = KubeClient(session, on_write=note_write)
    stores = Stores(client.derive(on_write=None), clock=clock)
    events = EventRecorder(client.derive(on_write=None), component="csi-attacher", clock=clock)
    context = PluginContext(
        driver=info,
        csi=CSIClient(channel, observer=observer),
        kube=client,
        stores=stores,
        events=events,
        metrics=metrics,
        clock=clock,
    )
    controllers = plugin.build(context)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(stores.run()), group.create_task(events.run())]
        while stores.unsynced():
            await asyncio.sleep(0.001)
        host = Host(stores=stores, clock=clock)
        tasks += [group.create_task(controller.run(host)) for controller in controllers]
        yield
        for task in tasks:
            task.cancel()


class World:
    """What a test arranges, lets run, and looks at."""

    def __init__(
        self, *objects: Object, capabilities: frozenset[str] = REAL, driver_name: str = DRIVER, **settings: Any
    ) -> None:
        self.api = SmallAPI()
        self.driver = ScriptedDriver()
        self.numbers = Numbers()
        self.settings = AttacherSettings(**{"timeout_s": 15.0, **settings})
        self.capabilities = capabilities
        self.driver_name = driver_name
        self.plugin_capabilities = frozenset({"CONTROLLER_SERVICE"})
        for obj in objects:
            self.api.put(obj)

    @property
    def va(self) -> Object:
        return self.api.objects[VA]

    @property
    def pv(self) -> Object:
        return self.api.objects[PV]

    @property
    def status(self) -> Object:
        found: Object = self.va["status"]
        return found

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The attacher at work, stores synced."""
        channel = DriverChannel.in_memory([self.driver])
        await channel.connect()
        info = DriverInfo(
            name=self.driver_name,
            plugin_capabilities=self.plugin_capabilities,
            controller_capabilities=self.capabilities,
        )
        try:
            plugin, numbers = Attacher(self.settings), self.numbers
            async with at_work(plugin, self.api, channel, info, numbers, LoopClock(), observer=numbers):
                yield
        finally:
            channel.close()

    async def run(self, seconds: float = 0.5) -> None:
        """Let the attacher work for so long."""
        async with self.running():
            await asyncio.sleep(seconds)
