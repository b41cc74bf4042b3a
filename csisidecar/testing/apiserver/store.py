"""Revisions, tables and their logs: every object as encoded bytes, every change once.

An object is kept as the JSON of its content without apiVersion and kind, so a list joins bytes and another
version of the same kind needs only another prefix. Bytes never change once stored, so readers need no copy and no
lock. Nothing here knows what a legal object is.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING, Any

from csisidecar.testing.apiserver.status import too_old

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Sequence

    from csisidecar.testing.apiserver.kinds import Kinds, KindSpec

_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


def encode(value: object) -> bytes:
    """Compact JSON."""
    return _ENCODE(value).encode()


def type_prefix(spec: KindSpec) -> bytes:
    """What turns stored bytes into a whole object: put in place of the opening brace."""
    return encode({"kind": spec.kind, "apiVersion": spec.api_version})[:-1] + b","


class Stored:
    """One state of one object; never changed after it is made."""

    __slots__ = ("fields", "key", "labels", "name", "namespace", "owners", "raw", "revision", "uid")

    def __init__(self, key: str, obj: dict[str, Any], revision: int, selectable: Sequence[str]) -> None:
        meta = obj["metadata"]
        self.key = key
        self.namespace: str = meta.get("namespace", "")
        self.name: str = meta["name"]
        self.uid: str = meta.get("uid", "")
        self.labels: dict[str, str] | None = meta.get("labels") or None
        self.owners: tuple[str, ...] = tuple(ref.get("uid", "") for ref in meta.get("ownerReferences") or ())
        self.fields: tuple[str, ...] = tuple(field_text(obj, path) for path in selectable)
        self.revision = revision
        self.raw = encode(obj)

    def content(self) -> dict[str, Any]:
        """A fresh copy of the object without apiVersion and kind."""
        content: dict[str, Any] = json.loads(self.raw)
        return content


def field_text(obj: dict[str, Any], path: str) -> str:
    """The value at a dotted path as a field selector compares it; empty when absent."""
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if value is None or isinstance(value, dict | list):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


class Change:
    """One committed write: what was there before and what is there now.

    For a removal `now` is the last state under the revision of the removal. Lines are encoded on first use and
    shared by all watchers.
    """

    __slots__ = ("before", "kind", "lines", "now", "revision")

    def __init__(self, kind: str, revision: int, before: Stored | None, now: Stored) -> None:
        self.kind = kind
        self.revision = revision
        self.before = before
        self.now = now
        self.lines: dict[tuple[str, bytes], bytes] = {}

    def line(self, kind: str, prefix: bytes) -> bytes:
        """The watch line that reports this change as `kind`."""
        made = self.lines.get((kind, prefix))
        if made is None:
            made = b'{"type":"%s","object":%s%s}\n' % (kind.encode(), prefix, self.now.raw[1:])
            self.lines[kind, prefix] = made
        return made


class Table:
    """The objects of one kind, sorted by namespace and name, with the log of their changes."""

    def __init__(self, spec: KindSpec, history: int) -> None:
        self.spec = spec
        self.selectable: tuple[str, ...] = tuple(spec.fields)
        self.objects: dict[str, Stored] = {}
        self.keys: list[str] = []
        self.log: list[Change] = []
        self.log_start = 0
        """Sequence number of ``log[0]``; sequence numbers never go back."""
        self.floor = 0
        """Changes after this revision are all in the log."""
        self.last_change = 0
        self.history = history
        self.wakers: set[asyncio.Event] = set()
        self.on_change: list[Callable[[Table, Change], None]] = []

    def key(self, namespace: str, name: str) -> str:
        """Sorts as etcd sorts: by namespace, then name."""
        return f"{namespace}/{name}" if self.spec.namespaced else name

    def get(self, namespace: str, name: str) -> Stored | None:
        """The present state, or None."""
        return self.objects.get(self.key(namespace, name))

    def range(self, namespace: str = "") -> Sequence[Stored]:
        """The present states of one namespace, or of all, in order."""
        return self._within(self.objects, self.keys, namespace)

    def at(self, revision: int, namespace: str = "") -> Sequence[Stored]:
        """The states as they were right after `revision`, in order.

        Raises:
            Refusal: 410, the log no longer reaches back so far.
        """
        if revision >= self.last_change:
            return self.range(namespace)
        if revision < self.floor:
            raise too_old(revision, self.floor)
        objects = dict(self.objects)
        for change in reversed(self.log):
            if change.revision <= revision:
                break
            if change.before is None:
                objects.pop(change.now.key, None)
            else:
                objects[change.now.key] = change.before
        return self._within(objects, sorted(objects), namespace)

    @staticmethod
    def _within(objects: dict[str, Stored], keys: list[str], namespace: str) -> Sequence[Stored]:
        if namespace:
            start, end = bisect_left(keys, f"{namespace}/"), bisect_left(keys, f"{namespace}0")
            keys = keys[start:end]
        return [objects[key] for key in keys]

    def next_after(self, revision: int) -> int:
        """Sequence number of the first change after `revision`.

        Raises:
            Refusal: 410, that change is no longer in the log.
        """
        if revision < self.floor:
            raise too_old(revision, self.floor)
        return self.log_start + bisect_right(self.log, revision, key=lambda change: change.revision)

    def since(self, sequence: int) -> list[Change] | None:
        """Changes from `sequence` on; None when they were forgotten meanwhile."""
        if sequence < self.log_start:
            return None
        return self.log[sequence - self.log_start :]

    def commit(self, change: Change) -> None:
        """Put a change into table and log, and wake the watchers."""
        now = change.now
        if change.kind == "DELETED":
            self.objects.pop(now.key, None)
            index = bisect_left(self.keys, now.key)
            if index < len(self.keys) and self.keys[index] == now.key:
                del self.keys[index]
        else:
            if now.key not in self.objects:
                if self.keys and now.key > self.keys[-1]:
                    self.keys.append(now.key)
                else:
                    insort(self.keys, now.key)
            self.objects[now.key] = now
        self.last_change = change.revision
        self.log.append(change)
        if len(self.log) >= 2 * self.history:
            self.forget(self.history)
        self.wake()
        for told in self.on_change:
            told(self, change)

    def restore(self, stored: Stored, floor: int) -> None:
        """Put a state from an earlier life back, without a change; revisions before `floor` are history unknown."""
        if stored.key not in self.objects:
            insort(self.keys, stored.key)
        self.objects[stored.key] = stored
        self.last_change = self.floor = floor

    def forget(self, keep: int) -> None:
        """Drop all but the newest `keep` changes from the log."""
        drop = len(self.log) - keep
        if drop > 0:
            self.floor = self.log[drop - 1].revision
            del self.log[:drop]
            self.log_start += drop

    def wake(self) -> None:
        """Let every open watch look again."""
        for waker in self.wakers:
            waker.set()


class Store:
    """All tables under one revision counter."""

    def __init__(self, kinds: Kinds, *, history: int = 10_000) -> None:
        self.kinds = kinds
        self.history = history
        self.revision = 1
        self.tables: dict[str, Table] = {}
        self.on_change: list[Callable[[Table, Change], None]] = []

    def table(self, spec: KindSpec) -> Table:
        """The table that holds objects of `spec`."""
        name = spec.storage_name
        table = self.tables.get(name)
        if table is None:
            table = self.tables[name] = Table(self.kinds.by_plural(name), self.history)
            table.on_change = self.on_change
            table.floor = table.last_change = 0 if self.revision == 1 else self.compacted
        return table

    compacted = 0
    """Highest revision that a compaction forgot everywhere."""

    def put(self, table: Table, content: dict[str, Any]) -> Stored:
        """Commit `content` under the next revision; its resourceVersion is set here."""
        self.revision += 1
        meta = content["metadata"]
        meta["resourceVersion"] = str(self.revision)
        key = table.key(meta.get("namespace", ""), meta["name"])
        now = Stored(key, content, self.revision, table.selectable)
        before = table.objects.get(key)
        table.commit(Change("ADDED" if before is None else "MODIFIED", self.revision, before, now))
        return now

    def remove(self, table: Table, before: Stored, content: dict[str, Any] | None = None) -> Stored:
        """Commit the removal of `before`; `content` is its last state if that differs."""
        self.revision += 1
        content = content or before.content()
        content["metadata"]["resourceVersion"] = str(self.revision)
        now = Stored(before.key, content, self.revision, table.selectable)
        table.commit(Change("DELETED", self.revision, before, now))
        return now

    def compact(self, keep: int = 0) -> None:
        """Forget all but the newest `keep` changes of each kind; older revisions give 410 from now on."""
        for table in self.tables.values():
            table.forget(keep)
            if keep == 0:
                table.floor = self.revision
        if keep == 0:
            self.compacted = self.revision

    def load(self, table: Table, contents: Iterable[dict[str, Any]]) -> int:
        """Commit many objects that are known to be legal; how many there were."""
        count = 0
        for content in contents:
            self.put(table, content)
            count += 1
        return count
