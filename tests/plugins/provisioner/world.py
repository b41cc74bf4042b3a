"""A small world to provision in: the embedded API server's rules without sockets, the embedded driver, virtual time.

Everything between is real: client, informers, controllers, Events, CSI over an in-memory channel.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from csisidecar.config import ProvisionerSettings
from csisidecar.csi import CSIClient, DriverInfo, NodeInfo
from csisidecar.errors import UnreachableError
from csisidecar.kube import KubeClient
from csisidecar.kube.session import NO_HEADERS, Response
from csisidecar.plugin import PluginContext
from csisidecar.plugins.provisioner import Provisioner
from csisidecar.runtime import EventRecorder, Host, Stores, note_write
from csisidecar.testing.apiserver.answers import WholeObjects
from csisidecar.testing.apiserver.fake import Objects
from csisidecar.testing.apiserver.kinds import Kinds
from csisidecar.testing.apiserver.listing import ListOptions, page
from csisidecar.testing.apiserver.patching import json_patch, merge_patch
from csisidecar.testing.apiserver.registry import DeleteOptions, Registry
from csisidecar.testing.apiserver.requests import Target, find_target
from csisidecar.testing.apiserver.status import Refusal
from csisidecar.testing.apiserver.store import Store
from csisidecar.testing.apiserver.troubles import Troubles
from csisidecar.testing.apiserver.watching import Watch
from csisidecar.testing.driver import DriverSettings, FakeDriver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

Object = dict[str, Any]

DRIVER = "csi.test.io"
FINALIZER = "external-provisioner.volume.kubernetes.io/finalizer"
START = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
GIB = 1024**3
CAPABILITIES = frozenset({"CREATE_DELETE_VOLUME", "PUBLISH_UNPUBLISH_VOLUME"})


def claim_ref(uid: str, name: str = "data") -> Object:
    """What a PV says about its claim."""
    return {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": "team", "name": name, "uid": uid}


class LoopClock:
    """The loop's time, also as a wall clock that begins at `START`."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic())


@dataclass
class Trouble:
    """The next `times` requests of `verb` on `plural` get `status` (0: no answer); `applied`: after the work."""

    verb: str
    plural: str
    status: int
    message: str
    times: int
    retry_after_s: int = 0
    applied: bool = False


class MemoryAPI:
    """A session for `KubeClient` over the embedded API server's registry: its rules, no sockets."""

    def __init__(self, clock: LoopClock) -> None:
        self.clock = clock
        self.store = Store(Kinds(()))
        self.registry = Registry(self.store, clock)
        self.objects = Objects(self.registry)
        self.requests: list[tuple[str, str, Any]] = []
        """Verb, ``plural`` or ``plural/name``, body; without lists and watches."""
        self.troubles: list[Trouble] = []
        self.served = ["StorageClass", "VolumeAttributesClass"]
        """What discovery of storage.k8s.io/v1 lists."""
        self.blind: set[str] = set()
        """Plurals whose watches tell nothing new while they are in here."""

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
        if path == "/apis/storage.k8s.io/v1":
            self.requests.append(("get", path, None))
            kinds = [{"kind": kind} for kind in self.served]
            return Response(status=200, headers={}, body=json.dumps({"resources": kinds}).encode())
        target = find_target(self.store.kinds, method, path, dict(query))
        assert target is not None, path
        given = json.loads(body) if body else None
        name = target.name or (given or {}).get("metadata", {}).get("name", "")
        if target.verb != "list":
            self.requests.append((target.verb, f"{target.spec.plural}/{name}", given))
        trouble = self._strike(target)
        if trouble is not None and not trouble.applied:
            return self._disturb(trouble)
        try:
            answer = self._list(target, dict(query)) if target.verb == "list" else self._answer(target, given)
        except Refusal as refusal:
            return Response(status=refusal.code, headers={}, body=json.dumps(refusal.body()).encode())
        return answer if trouble is None else self._disturb(trouble)

    def _strike(self, target: Target) -> Trouble | None:
        for trouble in self.troubles:
            if (trouble.verb, trouble.plural) == (target.verb, target.spec.plural) and trouble.times:
                trouble.times -= 1
                return trouble
        return None

    def _disturb(self, trouble: Trouble) -> Response:
        if trouble.status == 0:
            raise UnreachableError(trouble.message)
        headers = {"Retry-After": str(trouble.retry_after_s)} if trouble.retry_after_s else {}
        status = {"kind": "Status", "apiVersion": "v1", "message": trouble.message, "code": trouble.status}
        return Response(status=trouble.status, headers=headers, body=json.dumps(status).encode())

    def _list(self, target: Target, query: Mapping[str, str]) -> Response:
        options = ListOptions.read(query, target.spec, self.store.table(target.spec).selectable)
        found = page(self.store, target.spec, target.namespace, options)
        return Response(status=200, headers={}, body=WholeObjects(target.spec).many(found.items, found.meta()))

    def _answer(self, target: Target, given: Any) -> Response:
        spec, namespace, name = target.spec, target.namespace, target.name
        status = 200
        if target.verb == "get":
            stored = self.registry.get(spec, namespace, name)
        elif target.verb == "create":
            stored, status = self.registry.create(spec, namespace, given), 201
        elif target.verb == "update":
            stored, _ = self.registry.update(spec, namespace, name, given)
        elif target.verb == "delete":
            stored, gone = self.registry.delete(spec, namespace, name, DeleteOptions.read(given, {}))
            if gone and not spec.returns_deleted:
                details = {"name": name, "uid": stored.uid}
                body = {"kind": "Status", "apiVersion": "v1", "status": "Success", "details": details}
                return Response(status=200, headers={}, body=json.dumps(body).encode())
        else:
            change = json_patch if isinstance(given, list) else merge_patch
            stored = self.registry.patch(spec, namespace, name, lambda current: change(current, given))
        return Response(status=status, headers={}, body=WholeObjects(spec).one(stored))

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] = NO_HEADERS,
        idle_timeout_s: float,
    ) -> AsyncIterator[_Stream]:
        asked = dict(query)
        target = find_target(self.store.kinds, "GET", path, asked)
        assert target is not None
        lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        task = asyncio.current_task()
        assert task is not None
        async with asyncio.TaskGroup() as group:
            follower = group.create_task(self._follow(target, asked, lines))
            try:
                yield _Stream(lines, lambda: target.spec.plural in self.blind)
            finally:
                follower.cancel()

    async def _follow(self, target: Target, asked: Mapping[str, str], lines: asyncio.Queue[bytes | None]) -> None:
        table = self.store.table(target.spec)
        options = ListOptions.read({**asked, "watch": "true"}, target.spec, table.selectable)

        async def write(data: bytes) -> None:
            for line in data.splitlines():
                lines.put_nowait(line)

        watch = Watch(
            store=self.store,
            table=table,
            namespace=target.namespace,
            options=options,
            answer=WholeObjects(target.spec),
            write=write,
            clock=self.clock,
            troubles=Troubles(self.clock),
            resource=target.resource,
            bookmark_every_s=20.0,
            timeout_s=options.timeout_s or 300.0,
            is_closing=lambda: False,
        )
        await watch.run()
        lines.put_nowait(None)


class _Stream:
    def __init__(self, queue: asyncio.Queue[bytes | None], is_blind: Callable[[], bool]) -> None:
        self._queue = queue
        self._is_blind = is_blind
        self.status = 200
        self.headers: Mapping[str, str] = {}

    async def lines(self) -> AsyncIterator[bytes]:
        while (line := await self._queue.get()) is not None:
            while self._is_blind():
                await asyncio.sleep(0.01)
            yield line

    async def read(self) -> bytes:
        return b""


class Numbers:
    """Metrics kept as plain numbers: counters and histogram observations by name and labels, gauges to read."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, ...], list[float]] = {}
        self.shapes: dict[str, tuple[tuple[str, ...], tuple[float, ...]]] = {}
        self.gauges: dict[tuple[str, ...], Callable[[], float]] = {}

    def counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> _Series:
        self.shapes[name] = (tuple(labels), ())
        return _Series(self, name)

    def histogram(self, name: str, help_text: str, labels: Sequence[str] = (), *, buckets: Sequence[float]) -> _Series:
        self.shapes[name] = (tuple(labels), tuple(buckets))
        return _Series(self, name)

    def gauge(self, name: str, help_text: str, labels: Sequence[str], read: Callable[[], float], *values: str) -> None:
        self.gauges[name, *values] = read

    def total(self, name: str, *labels: str) -> float:
        return sum(self.seen.get((name, *labels), ()))


class _Series:
    def __init__(self, numbers: Numbers, name: str) -> None:
        self._numbers = numbers
        self._name = name

    def inc(self, *labels: str, by: float = 1.0) -> None:
        self._numbers.seen.setdefault((self._name, *labels), []).append(by)

    def observe(self, value: float, *labels: str) -> None:
        self._numbers.seen.setdefault((self._name, *labels), []).append(value)


@dataclass(kw_only=True)
class World:
    """What a test arranges, lets run, and looks at."""

    settings: ProvisionerSettings = field(default_factory=ProvisionerSettings)
    driver_name: str = DRIVER
    controller: frozenset[str] = CAPABILITIES
    plugin_capabilities: frozenset[str] = frozenset({"CONTROLLER_SERVICE"})
    topology: Mapping[str, str] = field(default_factory=dict)
    node: NodeInfo | None = None

    def __post_init__(self) -> None:
        self.clock = LoopClock()
        self.wire = MemoryAPI(self.clock)
        self.api = self.wire.objects
        self.driver = FakeDriver(
            DriverSettings(
                name=self.driver_name,
                controller_capabilities=self.controller,
                plugin_capabilities=self.plugin_capabilities,
                topology=self.topology,
            )
        )
        self.numbers = Numbers()
        self.plugin = Provisioner(self.settings)
        for name in ("default", "team"):
            self.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    # ---- arranging

    def refuse(
        self,
        verb: str,
        plural: str,
        status: int,
        message: str = "out of order",
        *,
        times: int = 1,
        retry_after_s: int = 0,
        applied: bool = False,
    ) -> None:
        self.wire.troubles.append(Trouble(verb, plural, status, message, times, retry_after_s, applied))

    def add_class(self, name: str = "fast", *, provisioner: str = "", **more: Any) -> Object:
        body = {"provisioner": provisioner or self.driver_name, "reclaimPolicy": "Delete", **more}
        meta = {"name": name}
        return self.api.create({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": meta, **body})

    def add_claim(self, name: str = "data", **more: Any) -> str:
        """`more`: annotations (added to ours), provisioner, size, and fields of the spec. The result is the UID."""
        annotations = {
            "volume.kubernetes.io/storage-provisioner": more.pop("provisioner", self.driver_name),
            **more.pop("annotations", {}),
        }
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "fast",
            "resources": {"requests": {"storage": more.pop("size", "1Gi")}},
            **more,
        }
        meta = {"name": name, "namespace": "team", "annotations": annotations}
        made = self.api.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec})
        return str(made["metadata"]["uid"])

    def bind(self, uid: str, name: str = "data") -> None:
        """What the binder does once the PV is there."""

        def claim(obj: Object) -> None:
            obj["spec"]["volumeName"] = f"pvc-{uid}"

        self.api.edit("persistentvolumeclaims", name, claim, "team")
        self.set_phase("persistentvolumeclaims", name, "Bound", "team")
        self.set_phase("persistentvolumes", f"pvc-{uid}", "Bound")

    def set_phase(self, plural: str, name: str, phase: str, namespace: str = "") -> None:
        def change(obj: Object) -> None:
            obj.setdefault("status", {})["phase"] = phase

        self.api.edit(plural, name, change, namespace, subresource="status")

    def drop_claim(self, name: str = "data") -> None:
        """Deletes the claim at once, as when nothing protects it."""

        def release(obj: Object) -> None:
            obj["metadata"]["finalizers"] = []

        self.api.edit("persistentvolumeclaims", name, release, "team")
        self.api.delete("persistentvolumeclaims", name, "team")

    def unprotect(self, name: str) -> None:
        """What the PV protection controller does for a volume that is not bound."""

        def change(obj: Object) -> None:
            kept = [entry for entry in obj["metadata"].get("finalizers", []) if entry != "kubernetes.io/pv-protection"]
            obj["metadata"]["finalizers"] = kept

        with suppress(Refusal):
            self.api.edit("persistentvolumes", name, change)

    def add_volume(self, name: str, *, phase: str = "Released", policy: str = "Delete", **more: Any) -> None:
        """A PV as it may be found; `more`: annotations, finalizers, spec (merged)."""
        spec = {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": policy,
            "volumeMode": "Filesystem",
            "csi": {"driver": self.driver_name, "volumeHandle": f"handle-{name}"},
            **more.get("spec", {}),
        }
        meta = {
            "name": name,
            "annotations": more.get("annotations", {"pv.kubernetes.io/provisioned-by": self.driver_name}),
        }
        if finalizers := more.get("finalizers", [FINALIZER]):
            # No API server stores an empty list.
            meta["finalizers"] = finalizers
        spec = {field: value for field, value in spec.items() if value is not None}
        obj = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": meta, "spec": spec}
        self.api.load([{**obj, "status": {"phase": phase}}])

    # ---- looking

    def volume(self, uid: str) -> Object:
        found = self.api.get("persistentvolumes", f"pvc-{uid}")
        assert found is not None
        return found

    def events(self) -> list[tuple[str, str, str]]:
        """Type, reason, message of each Event, oldest first."""
        found = sorted(self.api.list("events"), key=lambda obj: int(obj["metadata"]["resourceVersion"]))
        return [(obj["type"], obj["reason"], obj["message"]) for obj in found]

    def warnings(self) -> list[str]:
        return [message for kind, _, message in self.events() if kind == "Warning"]

    def writes(self) -> list[str]:
        """Requests that are no list, watch or get, in order."""
        return [f"{verb} {what.split('/')[0]}" for verb, what, _ in self.wire.requests if verb != "get"]

    def calls(self, method: str = "CreateVolume") -> list[Any]:
        """The requests of every call of one RPC."""
        return [call.request for call in self.driver.calls(method)]

    # ---- running

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The provisioner at work, stores synced; entering again is a new reign of the same process."""
        channel = self.driver.channel()
        await channel.connect()
        info = DriverInfo(
            name=self.driver_name,
            plugin_capabilities=self.plugin_capabilities,
            controller_capabilities=self.controller,
            node=self.node,
        )
        client = KubeClient(self.wire, on_write=note_write)
        quiet = client.derive(on_write=None)
        stores = Stores(quiet, clock=self.clock)
        events = EventRecorder(quiet, component="csi-provisioner", clock=self.clock)
        context = PluginContext(
            driver=info,
            csi=CSIClient(channel),
            kube=client,
            stores=stores,
            events=events,
            metrics=self.numbers,
            clock=self.clock,
        )
        try:
            controllers = self.plugin.build(context)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(stores.run()), group.create_task(events.run())]
                while stores.unsynced():
                    await asyncio.sleep(0.001)
                host = self.host = Host(stores=stores, clock=self.clock)
                self.controllers = controllers
                self.tasks = [group.create_task(controller.run(host)) for controller in controllers]
                tasks += self.tasks
                yield
                for task in tasks:
                    task.cancel()
        finally:
            channel.close()

    async def drain(self, seconds: float) -> bool:
        """What a stop does: no new work, and what was begun gets so long to end; whether that was enough."""
        for controller in self.controllers:
            controller.drain()
        _, late = await asyncio.wait(self.tasks, timeout=seconds)
        return not late

    async def run(self, seconds: float = 0.5) -> None:
        """Let the provisioner work for so long."""
        async with self.running():
            await asyncio.sleep(seconds)
