"""How objects are shown: whole, as metadata only, or as rows of a Table; one by one, as a list, as a watch line.

Source: Kubernetes API concepts, "Receiving resources as Tables" and "Metadata-only".
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from csisidecar.testing.apiserver import tables
from csisidecar.testing.apiserver.conversion import from_storage, is_converted
from csisidecar.testing.apiserver.store import Change, Stored, encode, type_prefix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from csisidecar.testing.apiserver.kinds import KindSpec

ListMeta = dict[str, Any]


class Answer(Protocol):
    """One way of showing objects of one kind."""

    def one(self, stored: Stored) -> bytes:
        """A single object."""
        ...

    def many(self, stored: Sequence[Stored], meta: ListMeta) -> bytes:
        """A list with its metadata."""
        ...

    def line(self, kind: str, stored: Stored) -> bytes:
        """A watch line about one object."""
        ...

    def change(self, kind: str, change: Change) -> bytes:
        """A watch line about a change, shared between watchers where that pays."""
        ...

    def bookmark(self, revision: int, *, initial_end: bool = False) -> bytes:
        """A watch line that only moves the resourceVersion on."""
        ...


def whole(spec: KindSpec, stored: Stored) -> bytes:
    """One object with apiVersion and kind as `spec` names them."""
    if is_converted(spec):
        content = from_storage(spec, stored.content())
        return encode({"kind": spec.kind, "apiVersion": spec.api_version, **content})
    return type_prefix(spec) + stored.raw[1:]


class WholeObjects:
    """Objects as they are; lists and watch lines are joined from stored bytes."""

    def __init__(self, spec: KindSpec) -> None:
        self.spec = spec
        self.prefix = type_prefix(spec)
        self.converted = is_converted(spec)

    def one(self, stored: Stored) -> bytes:
        """A single object."""
        return whole(self.spec, stored) if self.converted else self.prefix + stored.raw[1:]

    def many(self, stored: Sequence[Stored], meta: ListMeta) -> bytes:
        """A list; items of built-in kinds carry no apiVersion and kind, as from the real server."""
        if self.converted:
            items = b",".join(encode(from_storage(self.spec, item.content())) for item in stored)
        elif self.spec.custom:
            items = b",".join(self.prefix + item.raw[1:] for item in stored)
        else:
            items = b",".join(item.raw for item in stored)
        if self.spec.custom:
            meta = {"continue": "", **meta}
        head = {"kind": self.spec.list_kind, "apiVersion": self.spec.api_version, "metadata": meta}
        return b'%s,"items":[%s]}\n' % (encode(head)[:-1], items)

    def line(self, kind: str, stored: Stored) -> bytes:
        """A watch line about one object."""
        return b'{"type":"%s","object":%s}\n' % (kind.encode(), self.one(stored))

    def change(self, kind: str, change: Change) -> bytes:
        """A watch line, encoded once for all watchers."""
        if self.converted:
            return self.line(kind, change.now)
        return change.line(kind, self.prefix)

    def bookmark(self, revision: int, *, initial_end: bool = False) -> bytes:
        """A bookmark in the shape of the kind."""
        meta: dict[str, Any] = {"resourceVersion": str(revision)}
        if initial_end:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        shown = {"kind": self.spec.kind, "apiVersion": self.spec.api_version, "metadata": meta}
        return b'{"type":"BOOKMARK","object":%s}\n' % encode(shown)


class MetadataOnly:
    """Objects as PartialObjectMetadata."""

    def __init__(self, spec: KindSpec) -> None:
        self.spec = spec

    @staticmethod
    def _partial(stored: Stored) -> dict[str, Any]:
        return {
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": json.loads(stored.raw)["metadata"],
        }

    def one(self, stored: Stored) -> bytes:
        """A single object."""
        return encode(self._partial(stored))

    def many(self, stored: Sequence[Stored], meta: ListMeta) -> bytes:
        """A PartialObjectMetadataList."""
        items = [self._partial(item) for item in stored]
        return encode(
            {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "items": items}
        )

    def line(self, kind: str, stored: Stored) -> bytes:
        """A watch line about one object."""
        return b'{"type":"%s","object":%s}\n' % (kind.encode(), self.one(stored))

    def change(self, kind: str, change: Change) -> bytes:
        """A watch line about a change."""
        return self.line(kind, change.now)

    def bookmark(self, revision: int, *, initial_end: bool = False) -> bytes:
        """A bookmark."""
        meta: dict[str, Any] = {"resourceVersion": str(revision)}
        if initial_end:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        shown = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta}
        return b'{"type":"BOOKMARK","object":%s}\n' % encode(shown)


class Rows:
    """Objects as rows of a Table; `include` is Metadata, Object or None."""

    def __init__(self, spec: KindSpec, now: str, include: str = "Metadata") -> None:
        self.spec = spec
        self.now = now
        self.include = include
        self.with_heading = True

    def _row(self, stored: Stored) -> dict[str, Any]:
        content = stored.content()
        row: dict[str, Any] = {"cells": tables.cells(self.spec, content, self.now)}
        if self.include == "Object":
            row["object"] = json.loads(whole(self.spec, stored))
        elif self.include != "None":
            row["object"] = {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": content["metadata"],
            }
        return row

    def _table(self, rows: list[dict[str, Any]], meta: ListMeta, *, heading: bool = True) -> bytes:
        return encode(
            {
                "kind": "Table",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": meta,
                "columnDefinitions": tables.columns(self.spec) if heading else None,
                "rows": rows,
            }
        )

    def one(self, stored: Stored) -> bytes:
        """A Table with one row."""
        return self._table([self._row(stored)], {"resourceVersion": str(stored.revision)})

    def many(self, stored: Sequence[Stored], meta: ListMeta) -> bytes:
        """A Table with one row an object."""
        return self._table([self._row(item) for item in stored], meta)

    def line(self, kind: str, stored: Stored) -> bytes:
        """A watch line with a Table of one row; only the first of a watch carries the headings."""
        heading, self.with_heading = self.with_heading, False
        table = self._table([self._row(stored)], {"resourceVersion": str(stored.revision)}, heading=heading)
        return b'{"type":"%s","object":%s}\n' % (kind.encode(), table)

    def change(self, kind: str, change: Change) -> bytes:
        """A watch line about a change."""
        return self.line(kind, change.now)

    def bookmark(self, revision: int, *, initial_end: bool = False) -> bytes:
        """A bookmark: a Table without rows."""
        meta: dict[str, Any] = {"resourceVersion": str(revision)}
        if initial_end:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        return b'{"type":"BOOKMARK","object":%s}\n' % self._table([], meta, heading=False)
