"""Keeps one store equal to the server: watcher → store → subscribers. And the registry that shares informers.

An informer is started once per resource, selector and view, whoever asks; it knows no plugin and no key.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from csisidecar.errors import KubeError, NotFoundError
from csisidecar.kube import ObjectKey, encode
from csisidecar.kube.objects import KubeObject
from csisidecar.runtime.memory import release_free_memory
from csisidecar.runtime.store import Store, StoreWriter
from csisidecar.runtime.watcher import EventType, Watcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from csisidecar.clock import Clock
    from csisidecar.kube import KubeClient, Resource, Write
    from csisidecar.runtime.watcher import WatchEvent

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=KubeObject)

_BREATH = 100
"""Events handled before other tasks get a turn: about half a millisecond of work."""


class Informer(Generic[T]):
    """One watcher feeding one store."""

    def __init__(
        self, watcher: Watcher[T], store: Store[T], view: type[T], compact: Callable[[T], T] | None = None
    ) -> None:
        self.watcher = watcher
        self.store = store
        self._view = view
        self._compact = compact
        self._writer = StoreWriter(store)

    async def run(self) -> None:
        """Follow the server until cancelled."""
        handled = 0
        async with aclosing(self.watcher.events()) as events:
            async for event in events:
                self._handle(event)
                handled += 1
                if handled % _BREATH == 0:
                    await asyncio.sleep(0)

    def _handle(self, event: WatchEvent[T]) -> None:
        # From the store's change to the last subscriber there is no await: no reader sees one without the other.
        writer = self._writer
        change = None
        match event.type:
            case EventType.INIT:
                writer.begin_list()
            case EventType.INIT_APPLY | EventType.APPLY if event.obj is not None:
                change = writer.apply(self._compact(event.obj) if self._compact else event.obj)
            case EventType.DELETE if event.obj is not None:
                change = writer.delete(event.obj.key)
            case EventType.DELETE if event.key is not None:
                change = writer.delete(event.key)
            case EventType.MALFORMED if event.key is not None:
                writer.keep(event.key)
            case EventType.INIT_DONE:
                for gone in writer.end_list():
                    writer.publish(gone)
            case _:
                pass
        if change is not None:
            writer.publish(change)
        if event.resource_version:
            writer.advance(event.resource_version)
        elif event.type is EventType.DELETE:
            writer.advance("")

    async def refresh(self, client: KubeClient, key: ObjectKey) -> None:
        """Read one object from the server and repair the store with it; the watch will tell the same later.

        Raises:
            KubeError: the API server did not answer or refused.
        """
        try:
            raw = await client.get(self.store.resource, key.name, namespace=key.namespace)
        except NotFoundError:
            change = self._writer.delete(key)
        else:
            obj = msgspec.json.decode(encode(raw), type=self._view)
            change = self._writer.apply(self._compact(obj) if self._compact else obj)
        if change is not None:
            self._writer.publish(change)


@dataclass(frozen=True, slots=True)
class _Request:
    resource: Resource
    view: type[Any]
    namespace: str
    label_selector: str
    field_selector: str
    compact: Callable[[Any], Any] | None


class Stores:
    """The stores of one process: equal requests share one store and one watch."""

    def __init__(self, client: KubeClient, *, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._informers: dict[_Request, Informer[Any]] = {}
        self._unstarted: list[Informer[Any]] = []
        self._wake = asyncio.Event()

    def get(
        self,
        resource: Resource,
        view: type[T],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        compact: Callable[[T], T] | None = None,
    ) -> Store[T]:
        """The store of `resource` as `view`; asking for it is what makes it watched.

        Args:
            resource: what to watch.
            view: the fields to keep.
            namespace: only this namespace; empty: all.
            label_selector: only objects with these labels.
            field_selector: only objects with these fields.
            compact: makes a fresh view smaller; requests share a watch only if theirs are equal.
        """
        request = _Request(resource, view, namespace, label_selector, field_selector, compact)
        found = self._informers.get(request)
        if found is None:
            watcher = Watcher(
                self._client,
                resource,
                view,
                clock=self._clock,
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
            )
            found = self._informers[request] = Informer(watcher, Store(resource), view, compact)
            self._unstarted.append(found)
            self._wake.set()
        return found.store

    async def run(self) -> None:
        """Run an informer for every store that was asked for, and for each asked for later; until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tidy_up(), name="stores memory")
            while True:
                while self._unstarted:
                    informer = self._unstarted.pop()
                    group.create_task(informer.run(), name=f"informer {informer.store.resource.full_name}")
                self._wake.clear()
                await self._wake.wait()

    async def _tidy_up(self) -> None:
        await self.synced()
        release_free_memory()

    async def synced(self) -> None:
        """Wait for the first list of every store that was asked for, also meanwhile."""
        while waiting := [i.store for i in self._informers.values() if not i.store.is_synced]:
            await waiting[0].synced()

    def unsynced(self) -> list[str]:
        """One line for each store whose first list is not complete: what it waits for."""
        return [
            f"{i.store.resource.full_name}: {i.watcher.status}"
            for i in self._informers.values()
            if not i.store.is_synced
        ]

    def troubled(self) -> list[str]:
        """One line for each store that cannot follow the server right now."""
        return [i.watcher.status for i in self._informers.values() if not i.watcher.is_healthy]

    def has_seen(self, write: Write) -> bool:
        """Whether every store of the written resource has caught up with the write."""
        return all(store.has_seen(write) for store in self._of(write.resource))

    def when_seen(self, write: Write, then: Callable[[], None]) -> None:
        """Call `then` each time a store of the written resource has caught up with the write."""
        for store in self._of(write.resource):
            if not store.has_seen(write):
                store.when_seen(write, then)

    async def refresh(self, write: Write) -> None:
        """Repair the stores with a live read of the written object; an API that does not answer is left alone."""
        key = ObjectKey(write.namespace, write.name)
        for informer in self._informers.values():
            if informer.store.resource == write.resource and not informer.store.has_seen(write):
                try:
                    await informer.refresh(self._client, key)
                except KubeError as error:
                    logger.info("cannot read back own write", extra={"object": str(key), "error": str(error)})

    def _of(self, resource: Resource) -> list[Store[Any]]:
        return [i.store for i in self._informers.values() if i.store.resource == resource]
