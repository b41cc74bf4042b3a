"""Which fields a body sets: as sets of paths, and as the FieldsV1 form that managedFields carry.

A path is a tuple of elements: ``f:name`` a field, ``k:{…}`` an item of a keyed list, ``v:…`` a member of a set.

Source: Kubernetes documentation, "Server-Side Apply"; kubernetes-sigs/structured-merge-diff, fieldpath.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from csisidecar.testing.apiserver.schema import META, FieldType, StructType, field_of, inner

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Path = tuple[str, ...]
_MISSING: Any = object()
_NOT_TRACKED_METADATA = (
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "generation",
    "managedFields",
    "resourceVersion",
)


def paths_of(content: Mapping[str, Any], root: StructType | None) -> set[Path]:
    """Every field that `content` sets, but for apiVersion, kind and what the server sets."""
    found: set[Path] = set()
    for key, value in content.items():
        if key in {"apiVersion", "kind"}:
            continue
        if key == "metadata":
            tracked = {name: item for name, item in value.items() if name not in _NOT_TRACKED_METADATA}
            _walk_map(tracked, META, ("f:metadata",), found, is_root=True)
        else:
            _walk(value, field_of(root, key), (f"f:{key}",), found)
    return found


def _walk(value: Any, field: FieldType | None, path: Path, found: set[Path]) -> None:
    if isinstance(value, dict) and not (field is not None and field.atomic):
        _walk_map(value, inner(field) if field is None or field.shape == "struct" else None, path, found)
    elif isinstance(value, list) and field is not None and field.is_set:
        found.update((*path, member_element(item)) for item in value)
    elif isinstance(value, list) and field is not None and field.list_keys and not field.atomic:
        for item in value:
            at = (*path, item_element(item, field))
            found.add(at)
            for key, part in item.items():
                _walk(part, field_of(inner(field), key), (*at, f"f:{key}"), found)
    else:
        found.add(path)


def _walk_map(
    value: Mapping[str, Any], owner: StructType | None, path: Path, found: set[Path], *, is_root: bool = False
) -> None:
    if not value and not is_root:
        found.add(path)
    for key, part in value.items():
        _walk(part, field_of(owner, key), (*path, f"f:{key}"), found)


def member_element(item: Any) -> str:
    """The element that names a member of a set."""
    return f"v:{json.dumps(item, separators=(',', ':'), sort_keys=True)}"


def item_element(item: Mapping[str, Any], field: FieldType) -> str:
    """The element that names an item of a keyed list."""
    keys = {key: item[key] for key in field.list_keys if key in item}
    return f"k:{json.dumps(keys, separators=(',', ':'), sort_keys=True)}"


def encode_fields(paths: Iterable[Path]) -> dict[str, Any]:
    """Paths as FieldsV1."""
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        node = tree
        for element in path:
            node = node.setdefault(element, {})
        node["."] = {}
    return _trimmed(tree)


def _trimmed(tree: dict[str, Any]) -> dict[str, Any]:
    """Leaves are empty maps; the dot is kept only where a member of the set has members below it."""
    trimmed = {}
    for key, node in tree.items():
        if key == ".":
            continue
        below = _trimmed(node)
        trimmed[key] = {".": {}, **below} if "." in node and below else below
    return trimmed


def decode_fields(tree: Mapping[str, Any]) -> set[Path]:
    """The paths of a FieldsV1."""
    found: set[Path] = set()

    def visit(node: Mapping[str, Any], path: Path) -> None:
        children = [key for key in node if key != "."]
        if path and ("." in node or not children):
            found.add(path)
        for key in children:
            visit(node[key] or {}, (*path, key))

    visit(tree, ())
    return found


def value_at(content: Any, path: Path) -> Any:
    """What is at a path; a marker equal only to itself where there is nothing."""
    for element in path:
        content = _step(content, element)
        if content is _MISSING:
            return _MISSING
    return content


def _step(content: Any, element: str) -> Any:
    kind, _, text = element.partition(":")
    if kind == "f":
        return content.get(text, _MISSING) if isinstance(content, dict) else _MISSING
    if not isinstance(content, list):
        return _MISSING
    wanted = json.loads(text)
    for item in content:
        if kind == "v" and item == wanted:
            return item
        if kind == "k" and isinstance(item, dict) and all(item.get(key) == value for key, value in wanted.items()):
            return item
    return _MISSING


def remove_at(content: Any, path: Path) -> None:
    """Take what is at a path out of `content`, and what that leaves empty above it."""
    if len(path) > 1:
        below = _step(content, path[0])
        if below is _MISSING:
            return
        remove_at(below, path[1:])
        if below in ({}, []) and path[0].startswith("f:"):
            del content[path[0][2:]]
        return
    found = _step(content, path[0])
    if found is _MISSING:
        return
    if path[0].startswith("f:"):
        del content[path[0][2:]]
    else:
        content.remove(found)


def shown(path: Path) -> str:
    """A path as conflicts name it: ``.spec.containers[name="c"].image``."""
    text = ""
    for element in path:
        kind, _, value = element.partition(":")
        if kind == "f":
            text += f".{value}"
        elif kind == "v":
            text += f"[={value}]"
        else:
            keys = json.loads(value)
            text += f"[{','.join(f'{key}={json.dumps(item)}' for key, item in keys.items())}]"
    return text
