"""JSON merge patch and JSON patch, as the API server's libraries apply them.

Source: RFC 7396, RFC 6902; evanphx/json-patch v4, which differs from the RFC in what `test` says of a missing path.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from csisidecar.testing.apiserver.status import bad_request, patch_failed, too_large_entity

MAX_OPERATIONS = 10_000
_MISSING = object()


def merge_patch(current: Any, patch: Any) -> Any:
    """`current` changed by an RFC 7396 patch; neither is modified."""
    if not isinstance(patch, Mapping):
        return patch
    result: dict[str, Any] = dict(current) if isinstance(current, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def json_patch(current: dict[str, Any], operations: Any) -> dict[str, Any]:
    """`current` changed by an RFC 6902 patch; the document is modified in place and returned.

    A `test` for null holds where the path is missing, as long as its parent is there.

    Raises:
        Refusal: 400 for what is no patch, 413 for too many operations, 422 for one that cannot be applied.
    """
    if not isinstance(operations, list):
        raise bad_request(
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"
        )
    if len(operations) > MAX_OPERATIONS:
        raise too_large_entity(
            f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}"
        )
    document: Any = current
    for operation in operations:
        if not isinstance(operation, dict):
            raise bad_request("error decoding patch: an operation is no object")
        document = _apply(document, operation)
    if not isinstance(document, dict):
        raise patch_failed()
    return document


def _apply(document: Any, operation: dict[str, Any]) -> Any:
    act = _OPERATIONS.get(operation.get("op", ""))
    path = operation.get("path")
    if act is None or not isinstance(path, str):
        raise patch_failed()
    try:
        return act(document, operation, path)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise patch_failed() from error


def _steps(path: str) -> list[str]:
    if path and not path.startswith("/"):
        raise ValueError(path)
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _parent(document: Any, steps: list[str]) -> Any:
    for step in steps[:-1]:
        document = document[_index(step, len(document))] if isinstance(document, list) else document[step]
    if not isinstance(document, dict | list):
        raise TypeError(type(document))
    return document


def _index(step: str, length: int) -> int:
    index = int(step)
    if index < -length or index >= length:
        raise IndexError(step)
    return index


def _look(document: Any, path: str) -> Any:
    steps = _steps(path)
    if not steps:
        return document
    parent = _parent(document, steps)
    if isinstance(parent, list):
        return parent[_index(steps[-1], len(parent))]
    return parent.get(steps[-1], _MISSING)


def _add(document: Any, operation: dict[str, Any], path: str) -> Any:
    return _insert(document, path, operation.get("value"))


def _insert(document: Any, path: str, value: Any) -> Any:
    steps = _steps(path)
    if not steps:
        return value
    parent, last = _parent(document, steps), steps[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif last == "-":
        parent.append(value)
    else:
        index = int(last)
        if index < 0:
            index += len(parent) + 1
        if not 0 <= index <= len(parent):
            raise IndexError(last)
        parent.insert(index, value)
    return document


def _remove(document: Any, _: dict[str, Any], path: str) -> Any:
    steps = _steps(path)
    if not steps:
        raise ValueError(path)
    parent, last = _parent(document, steps), steps[-1]
    if isinstance(parent, list):
        del parent[_index(last, len(parent))]
    else:
        del parent[last]
    return document


def _replace(document: Any, operation: dict[str, Any], path: str) -> Any:
    steps = _steps(path)
    if not steps:
        return operation.get("value")
    parent, last = _parent(document, steps), steps[-1]
    if isinstance(parent, list):
        parent[_index(last, len(parent))] = operation.get("value")
    else:
        # The library of the real server replaces what is not there, as long as the parent is.
        parent[last] = operation.get("value")
    return document


def _copy(document: Any, operation: dict[str, Any], path: str) -> Any:
    value = _look(document, operation["from"])
    # The library of the real server copies a key that is not there as null.
    return _insert(document, path, None if value is _MISSING else json.loads(json.dumps(value)))


def _move(document: Any, operation: dict[str, Any], path: str) -> Any:
    value = _look(document, operation["from"])
    if value is _MISSING:
        raise KeyError(operation["from"])
    return _insert(_remove(document, operation, operation["from"]), path, value)


def _test(document: Any, operation: dict[str, Any], path: str) -> Any:
    found, wanted = _look(document, path), operation.get("value")
    if (wanted is None and found in (_MISSING, None)) or (found is not _MISSING and _same(found, wanted)):
        return document
    raise ValueError(path)


def _same(left: Any, right: Any) -> bool:
    """JSON equality: Python's, but true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)


_OPERATIONS: dict[str, Callable[[Any, dict[str, Any], str], Any]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "copy": _copy,
    "move": _move,
    "test": _test,
}
