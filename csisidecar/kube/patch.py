"""Patch bodies, computed and never sent: JSON patches for finalizers, merge patches from two states.

Each finalizer patch carries a `test` operation, so that it fails instead of undoing what somebody else did
between our read and our write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FINALIZERS = "/metadata/finalizers"


def escape(part: str) -> str:
    """`part` as one step of a JSON pointer (RFC 6901)."""
    return part.replace("~", "~0").replace("/", "~1")


def add_finalizer(finalizers: Sequence[str] | None, finalizer: str) -> list[dict[str, Any]]:
    """A JSON patch that appends `finalizer` to the list as it was read; empty when it is there.

    The whole list is tested. A `test` for null passes only while the list is absent or null: that is how API
    servers read it, stricter readers of RFC 6902 would refuse it.
    """
    old = list(finalizers or ())
    if finalizer in old:
        return []
    if not old:
        return [
            {"op": "test", "path": _FINALIZERS, "value": None},
            {"op": "add", "path": _FINALIZERS, "value": [finalizer]},
        ]
    return [
        {"op": "test", "path": _FINALIZERS, "value": old},
        {"op": "add", "path": f"{_FINALIZERS}/-", "value": finalizer},
    ]


def remove_finalizer(finalizers: Sequence[str] | None, finalizer: str) -> list[dict[str, Any]]:
    """A JSON patch that removes every entry equal to `finalizer`; empty when there is none.

    Each removed place is tested first. Entries are removed from the end, so that earlier places keep their numbers.
    """
    patch: list[dict[str, Any]] = []
    for index in reversed(range(len(finalizers or ()))):
        if finalizers and finalizers[index] == finalizer:
            path = f"{_FINALIZERS}/{index}"
            patch.append({"op": "test", "path": path, "value": finalizer})
            patch.append({"op": "remove", "path": path})
    return patch


def merge(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that turns `before` into `after`; empty when nothing differs.

    What `after` lacks is set to null; lists are replaced whole.
    """
    patch: dict[str, Any] = {name: None for name in before if name not in after}
    for name, value in after.items():
        if name not in before:
            patch[name] = value
        elif before[name] != value:
            old = before[name]
            patch[name] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return patch
