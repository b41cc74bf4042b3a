"""Objects that survive a restart: every change as one line in a journal, rewritten whole at each start.

A line is in the file before the answer leaves, so an end by force loses nothing that was answered. A last line cut
in the middle is dropped. History is not kept: after a restart older revisions give 410.
"""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any, Self

from csisidecar.errors import ConfigError
from csisidecar.testing.apiserver.store import Change, Store, Stored, Table, encode

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_NAME = "objects.jsonl"


class Journal:
    """The journal of one store, open as long as the block."""

    def __init__(self, directory: Path, store: Store) -> None:
        self._path = directory / _NAME
        self._store = store
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._load()
            self._rewrite()
            self._file = self._path.open("ab", buffering=0)
        except OSError as error:
            raise ConfigError(f"--data {self._path.parent}: {error.strerror}") from error
        self._store.on_change.append(self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.on_change.remove(self._note)
        if self._file is not None:
            self._file.close()
            self._file = None

    def _note(self, table: Table, change: Change) -> None:
        if self._file is None:
            return
        head = encode([table.spec.storage_name, change.revision, change.kind == "DELETED"])
        self._file.write(b'{"change":%s,"content":%s}\n' % (head, change.now.raw))

    def _load(self) -> None:
        if not self._path.exists():
            return
        states: dict[tuple[str, str, str], tuple[int, dict[str, Any]]] = {}
        newest = self._store.revision
        for line in self._path.read_bytes().split(b"\n"):
            try:
                entry = json.loads(line) if line else None
            except ValueError:
                continue
            if entry is None:
                continue
            name, revision, gone = entry["change"]
            newest = max(newest, revision)
            content = entry["content"]
            if content is None:
                continue
            key = (name, content["metadata"].get("namespace", ""), content["metadata"]["name"])
            if gone:
                states.pop(key, None)
            else:
                states[key] = (revision, content)
        self._store.revision = self._store.compacted = newest
        for (name, _, _), (revision, content) in sorted(states.items(), key=lambda item: item[1][0]):
            self._restore(name, revision, content)

    def _restore(self, name: str, revision: int, content: dict[str, Any]) -> None:
        try:
            table = self._store.table(self._store.kinds.by_plural(name))
        except KeyError as error:
            raise ConfigError(f"--data {self._path.parent}: holds objects of {name}, which is not served") from error
        key = table.key(content["metadata"].get("namespace", ""), content["metadata"]["name"])
        table.restore(Stored(key, content, revision, table.selectable), self._store.revision)

    def _rewrite(self) -> None:
        temporary = self._path.with_suffix(".new")
        temporary.touch(mode=0o600)
        with temporary.open("wb") as file:
            head = encode(["", self._store.revision, False])
            file.write(b'{"change":%s,"content":null}\n' % head)
            for table in self._store.tables.values():
                for stored in table.range():
                    line = encode([table.spec.storage_name, stored.revision, False])
                    file.write(b'{"change":%s,"content":%s}\n' % (line, stored.raw))
        temporary.replace(self._path)
