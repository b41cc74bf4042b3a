"""The local copy of one resource: many readers, one writer, indexes, and how far it has followed the server.

Reading never waits and never leaves the process. Only the informer that owns a store holds its writer. Stored
objects are immutable views; a reader may keep one, it just gets old.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from csisidecar.kube import ObjectKey
from csisidecar.kube.objects import KubeObject

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from csisidecar.kube import Resource, Write

T = TypeVar("T", bound=KubeObject)


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """One object before and after; `old` is None for a new object, `new` is None for a deleted one.

    A resync offers an object again unchanged: then `old` is `new`.
    """

    old: T | None
    new: T | None

    @property
    def is_resync(self) -> bool:
        """Whether nothing changed and the object is only offered again."""
        return self.old is self.new

    @property
    def obj(self) -> T:
        """The object itself: the newest state that there is."""
        found = self.new if self.new is not None else self.old
        if found is None:
            raise ValueError("a change needs an object before or after it")
        return found


def revision(resource_version: str) -> int:
    """`resource_version` as a number to compare, 0 when the server does not use numbers.

    Source: Kubernetes API concepts, "Resource versions": they compare as decimal numbers since 1.35, and always
    were numbers where etcd stores the objects.
    """
    return int(resource_version) if resource_version.isascii() and resource_version.isdigit() else 0


class _Index(Generic[T]):
    """Value → keys. Most values name one object, so a single key is kept without a set around it."""

    __slots__ = ("_keys", "values_of")

    def __init__(self, values_of: Callable[[T], Iterable[Hashable]]) -> None:
        self.values_of = values_of
        self._keys: dict[Hashable, ObjectKey | set[ObjectKey]] = {}

    def add(self, key: ObjectKey, obj: T) -> None:
        for value in self.values_of(obj):
            found = self._keys.get(value)
            if found is None or found == key:
                self._keys[value] = key
            elif isinstance(found, set):
                found.add(key)
            else:
                self._keys[value] = {found, key}

    def remove(self, key: ObjectKey, obj: T) -> None:
        for value in self.values_of(obj):
            found = self._keys.get(value)
            if found == key:
                del self._keys[value]
            elif isinstance(found, set):
                found.discard(key)
                if not found:
                    del self._keys[value]

    def find(self, value: Hashable) -> Sequence[ObjectKey]:
        found = self._keys.get(value)
        if found is None:
            return ()
        return sorted(found) if isinstance(found, set) else (found,)

    def counts(self) -> dict[Hashable, int]:
        return {value: len(keys) if isinstance(keys, set) else 1 for value, keys in self._keys.items()}


class Store(Generic[T]):
    """Read side of the local copy of one resource."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self._objects: dict[ObjectKey, T] = {}
        self._indexes: dict[str, _Index[T]] = {}
        self._synced = asyncio.Event()
        self._progress = 0
        self._waiting: list[tuple[Write, Callable[[], None]]] = []
        self._subscribers: dict[object, Callable[[Change[T]], None]] = {}

    @property
    def is_synced(self) -> bool:
        """Whether the first list is complete; it stays true while the watch is repaired."""
        return self._synced.is_set()

    async def synced(self) -> None:
        """Wait for the first list."""
        await self._synced.wait()

    def get(self, key: ObjectKey) -> T | None:
        """The object called `key`, or None."""
        return self._objects.get(key)

    def find(self, name: str, namespace: str = "") -> T | None:
        """The object with this name, or None."""
        return self._objects.get(ObjectKey(namespace, name))

    def values(self) -> Iterable[T]:
        """All objects as of now, in no order; safe to keep across an await."""
        return list(self._objects.values())

    def __len__(self) -> int:
        return len(self._objects)

    def add_index(self, name: str, values_of: Callable[[T], Iterable[Hashable]]) -> None:
        """Index objects by the values that `values_of` gives; a name that exists is left as it is."""
        if name in self._indexes:
            return
        index = self._indexes[name] = _Index(values_of)
        for key, obj in self._objects.items():
            index.add(key, obj)

    def by_index(self, name: str, value: Hashable) -> Sequence[T]:
        """Objects for which the index `name` gives `value`, in the order of their keys."""
        return [self._objects[key] for key in self._indexes[name].find(value)]

    def count_by_index(self, name: str) -> dict[Hashable, int]:
        """Every value of the index `name`, and for how many objects it gives that."""
        return self._indexes[name].counts()

    def subscribe(self, listener: Callable[[Change[T]], None]) -> Callable[[], None]:
        """Call `listener` for every change from now on, right after the store has it; the result ends that.

        The listener must not raise and must not wait.
        """
        token = object()
        self._subscribers[token] = listener
        return lambda: self._subscribers.pop(token, None) and None

    def has_seen(self, write: Write) -> bool:
        """Whether this copy is at least as new as one of our own successful writes.

        A watch delivers the changes of a resource in their order, so having come as far as the write's
        resourceVersion means having applied it. A removal has no version to wait for: the object must be gone.
        """
        if write.removed:
            found = self._objects.get(ObjectKey(write.namespace, write.name))
            return found is None or found.uid != write.uid
        return self._progress >= revision(write.resource_version)

    def when_seen(self, write: Write, then: Callable[[], None]) -> None:
        """Call `then` once, as soon as `write` has been seen; at once if it has."""
        if self.has_seen(write):
            then()
        else:
            self._waiting.append((write, then))


class StoreWriter(Generic[T]):
    """Write side of one store; held by the informer alone."""

    def __init__(self, store: Store[T]) -> None:
        self.store = store
        self._listed: set[ObjectKey] | None = None

    def begin_list(self) -> None:
        """A list starts: what it does not name is gone when it ends."""
        self._listed = set()

    def apply(self, obj: T) -> Change[T] | None:
        """Keep `obj` and tell the change; None when the copy already was at that version or past it."""
        store = self.store
        key = obj.key
        old = store._objects.get(key)  # noqa: SLF001 - the writer is the store's other half
        if self._listed is not None:
            self._listed.add(key)
        if old is not None and old.uid == obj.uid:
            if old.resource_version == obj.resource_version:
                return None
            if 0 < revision(obj.resource_version) < revision(old.resource_version):
                return None
        for index in store._indexes.values():  # noqa: SLF001
            if old is not None:
                index.remove(key, old)
            index.add(key, obj)
        store._objects[key] = obj  # noqa: SLF001
        return Change(old, obj)

    def keep(self, key: ObjectKey) -> None:
        """The object called `key` is there, but cannot be read: a list that ends does not drop what is known of it."""
        if self._listed is not None:
            self._listed.add(key)

    def delete(self, key: ObjectKey) -> Change[T] | None:
        """Drop the object called `key` and tell the change; None when it was not there."""
        store = self.store
        old = store._objects.pop(key, None)  # noqa: SLF001
        if self._listed is not None:
            self._listed.discard(key)
        if old is None:
            return None
        for index in store._indexes.values():  # noqa: SLF001
            index.remove(key, old)
        return Change(old, None)

    def end_list(self) -> list[Change[T]]:
        """The list is complete: drop what it did not name, mark the store synced, and tell the deletions."""
        listed, self._listed = self._listed, None
        if listed is None:
            return []
        gone = [key for key in self.store._objects if key not in listed]  # noqa: SLF001
        changes = [change for key in gone if (change := self.delete(key)) is not None]
        self.store._synced.set()  # noqa: SLF001
        return changes

    def publish(self, change: Change[T]) -> None:
        """Tell every subscriber; called with no await after the change was applied."""
        for listener in list(self.store._subscribers.values()):  # noqa: SLF001
            listener(change)

    def advance(self, resource_version: str) -> None:
        """The copy now holds everything up to `resource_version`; whoever waited for that is told."""
        store = self.store
        store._progress = max(store._progress, revision(resource_version))  # noqa: SLF001
        if not store._waiting:  # noqa: SLF001
            return
        waiting, store._waiting = store._waiting, []  # noqa: SLF001
        for write, then in waiting:
            if store.has_seen(write):
                then()
            else:
                store._waiting.append((write, then))  # noqa: SLF001
