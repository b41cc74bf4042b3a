"""One record a request, kept in memory (bounded) and written as lines of JSON."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import IO, TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType


@dataclass(kw_only=True)
class AuditRecord:
    """What one request was and how it ended. A watch is recorded when its answer begins."""

    time: str
    """Wall clock at the start, RFC 3339 with microseconds."""
    verb: str
    resource: str
    """``volumeattachments.storage.k8s.io/status``; empty for requests that are about no resource."""
    namespace: str = ""
    name: str = ""
    code: int = 0
    """HTTP status; 0 when no answer was given."""
    user: str = ""
    user_agent: str = ""
    watch: bool = False
    duration_ms: float = 0.0
    """For a watch: how long until it ended, 0 while it is open."""
    path: str = ""
    query: dict[str, str] = field(default_factory=dict)
    body: Any = None
    """The request body as JSON, if there was one; kept in memory only."""


class AuditLog:
    """The newest records in memory, all of them in the file."""

    def __init__(self, path: Path | None = None, *, keep: int = 20_000, bodies: bool = True) -> None:
        self.records: deque[AuditRecord] = deque(maxlen=keep)
        self.bodies = bodies
        self._path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            self._file = self._path.open("a", encoding="utf-8", buffering=1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def add(self, record: AuditRecord) -> None:
        """Keep and write one record."""
        self.records.append(record)
        if self._file is not None:
            shown = asdict(record)
            del shown["body"]
            self._file.write(json.dumps(shown, separators=(",", ":")) + "\n")

    def __iter__(self) -> Iterator[AuditRecord]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def clear(self) -> None:
        """Forget what is in memory; the file keeps everything."""
        self.records.clear()

    def of(self, resource: str = "", *, verb: str = "", watch: bool | None = None) -> list[AuditRecord]:
        """Records about a plural (with or without group and subresource), by verb."""
        return [
            record
            for record in self.records
            if (not resource or resource in {record.resource, record.resource.partition(".")[0]})
            and (not verb or record.verb == verb)
            and (watch is None or record.watch == watch)
        ]
