"""What makes a controller look at a key: changes of stored objects, mapped to keys, or the passing of time.

A trigger is inert until its controller connects it. Connecting offers every stored object once, as if it were
new, and every change from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from csisidecar.kube.objects import KubeObject
from csisidecar.runtime.store import Change, Store

T = TypeVar("T", bound=KubeObject)
K = TypeVar("K", bound=Hashable)
K_co = TypeVar("K_co", bound=Hashable, covariant=True)

Predicate = Callable[[Change[T]], bool]
"""Whether a change is worth looking at; pure."""


class Trigger(Protocol[K_co]):
    """A source of keys."""

    @property
    def store(self) -> Store[Any] | None:
        """The store whose changes fire it, None for time."""
        ...

    @property
    def interval_s(self) -> float:
        """Seconds between two firings by time, 0 for changes."""
        ...

    def keys(self, change: Change[Any]) -> Iterable[K_co]:
        """Keys to offer for one change."""
        ...

    def all_keys(self) -> Iterable[K_co]:
        """Keys to offer when the controller starts, at each resync, or when the interval is over."""
        ...


@dataclass(frozen=True, kw_only=True)
class StoreTrigger(Generic[T, K]):
    """Changes of one store's objects → keys."""

    store: Store[T]
    keys_of: Callable[[T], Iterable[K]]
    when: Predicate[T] | None = None
    deletes: bool = False
    only_deletes: bool = False
    interval_s: float = 0.0

    def keys(self, change: Change[T]) -> Iterable[K]:
        """Keys of the changed object, none when the change does not count."""
        if change.new is None:
            if not self.deletes:
                return ()
        elif self.only_deletes:
            return ()
        if self.when is not None and not self.when(change):
            return ()
        found = list(self.keys_of(change.obj))
        if change.old is not None and change.new is not None and not change.is_resync:
            found += [key for key in self.keys_of(change.old) if key not in found]
        return found

    def all_keys(self) -> Iterable[K]:
        """Keys of every stored object, offered as unchanged."""
        if self.only_deletes:
            return
        for obj in self.store.values():
            yield from self.keys(Change(obj, obj))


@dataclass(frozen=True, kw_only=True)
class TimeTrigger(Generic[K]):
    """The passing of time → keys."""

    interval_s: float
    make_keys: Callable[[], Iterable[K]]
    store: None = None

    def keys(self, change: Change[Any]) -> Iterable[K]:
        """Nothing: time knows no changes."""
        del change
        return ()

    def all_keys(self) -> Iterable[K]:
        """The keys of this moment."""
        return self.make_keys()


def on_self(store: Store[T], *, when: Predicate[T] | None = None, deletes: bool = False) -> StoreTrigger[T, Any]:
    """Look at an object's own key when it appears or changes; with `deletes` also when it goes."""
    return StoreTrigger(store=store, keys_of=lambda obj: (obj.key,), when=when, deletes=deletes)


def on_mapped(
    store: Store[T],
    keys_of: Callable[[T], Iterable[K]],
    *,
    when: Predicate[T] | None = None,
    deletes: bool = False,
    only_deletes: bool = False,
) -> StoreTrigger[T, K]:
    """Look at the keys that `keys_of` gives for an object when it appears or changes.

    A change that moves an object from some keys to others offers both. `only_deletes` fires when it goes, and
    then alone.
    """
    return StoreTrigger(
        store=store, keys_of=keys_of, when=when, deletes=deletes or only_deletes, only_deletes=only_deletes
    )


def at_start(keys: Callable[[], Iterable[K]]) -> TimeTrigger[K]:
    """Look at the keys that `keys` gives when the controller starts; for work that says itself when it is due again."""
    return TimeTrigger(interval_s=0.0, make_keys=keys)


def every(seconds: float, keys: Callable[[], Iterable[K]]) -> TimeTrigger[K]:
    """Look at the keys that `keys` gives, when the controller starts and each `seconds` after that."""
    return TimeTrigger(interval_s=seconds, make_keys=keys)
