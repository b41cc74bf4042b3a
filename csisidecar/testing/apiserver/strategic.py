"""Strategic merge patch: maps merge, keyed lists merge by key, and directives say the rest.

Source: Kubernetes API conventions, "Strategic Merge Patch"; kubernetes/apimachinery,
pkg/util/strategicpatch/patch.go.
"""

from __future__ import annotations

from typing import Any

from csisidecar.testing.apiserver.schema import FieldType, StructType, field_of, inner
from csisidecar.testing.apiserver.status import Refusal, bad_request

_DIRECTIVE = "$patch"
_DELETE_PRIMITIVES = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"
_RETAIN = "$retainKeys"


def strategic_patch(current: dict[str, Any], patch: Any, root: StructType | None) -> dict[str, Any]:
    """`current` changed by `patch`; neither is modified.

    Raises:
        Refusal: 400, an unknown directive or an item without its merge key.
    """
    if not isinstance(patch, dict):
        raise bad_request("json: cannot unmarshal array into Go value of type map[string]interface {}")
    return _merge_map(current, patch, root, retain=False)


def _failed(message: str) -> Refusal:
    """A real server treats these as its own failure."""
    return Refusal(500, "", message)


def _go_map(value: dict[str, Any]) -> str:
    return f"map[{' '.join(f'{key}:{item}' for key, item in sorted(value.items()))}]"


def _merge_map(
    current: dict[str, Any], patch: dict[str, Any], owner: StructType | None, *, retain: bool
) -> dict[str, Any]:
    patch = dict(patch)
    directive = patch.pop(_DIRECTIVE, None)
    if directive == "replace":
        replaced: dict[str, Any] = _without_directives(patch)
        return replaced
    if directive == "delete":
        return {}
    if directive not in {None, "merge"}:
        raise _failed(f"unknown patch type: {directive} in map: {_go_map({_DIRECTIVE: directive, **patch})}")
    result = dict(current)
    keep = patch.pop(_RETAIN, None)
    if keep is not None:
        if not retain and owner is not None and not isinstance(keep, list):
            raise bad_request("invalid patch format of retainKeys")
        result = {key: value for key, value in result.items() if key in keep}
    orders: dict[str, list[Any]] = {}
    for key, value in patch.items():
        if key.startswith(_DELETE_PRIMITIVES):
            name = key.removeprefix(_DELETE_PRIMITIVES)
            gone = value if isinstance(value, list) else []
            if name in result:
                result[name] = [item for item in result[name] if item not in gone]
        elif key.startswith(_ORDER):
            orders[key.removeprefix(_ORDER)] = value
    for key, value in patch.items():
        if key.startswith((_DELETE_PRIMITIVES, _ORDER)):
            continue
        field = field_of(owner, key)
        merged = _merge_value(result.get(key), value, field)
        if merged is None:
            result.pop(key, None)
        else:
            result[key] = merged
    for key, order in orders.items():
        if isinstance(result.get(key), list):
            field = field_of(owner, key)
            _check_order(patch.get(key), order, field)
            server = current.get(key)
            result[key] = _in_order(result[key], order, server if isinstance(server, list) else [], field)
    return result


def _merge_value(current: Any, value: Any, field: FieldType | None) -> Any:
    if value is None:
        return None
    if isinstance(value, dict):
        if field is not None and field.shape == "map":
            base = current if isinstance(current, dict) else {}
            return _merge_plain(base, value, inner(field))
        base = current if isinstance(current, dict) else {}
        return _merge_map(base, value, inner(field), retain=field is not None and field.retain_keys)
    if isinstance(value, list):
        if field is None or field.merge_key is None:
            return _without_list_directives(value)
        base_list = current if isinstance(current, list) else []
        if field.merge_key == "":
            merged = [*base_list, *(item for item in value if item not in base_list)]
            return _in_order(merged, value, base_list, field)
        return _merge_list(base_list, value, field)
    return value


def _merge_plain(current: dict[str, Any], patch: dict[str, Any], owner: StructType | None) -> dict[str, Any]:
    if patch.get(_DIRECTIVE) == "replace":
        replaced: dict[str, Any] = _without_directives({k: v for k, v in patch.items() if k != _DIRECTIVE})
        return replaced
    if patch.get(_DIRECTIVE) == "delete":
        return {}
    if patch.get(_DIRECTIVE) not in {None, "merge"}:
        raise _failed(f"unknown patch type: {patch[_DIRECTIVE]} in map: {_go_map(patch)}")
    result = dict(current)
    for key, value in patch.items():
        if key == _DIRECTIVE:
            continue
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            base = result.get(key)
            result[key] = _merge_map(base if isinstance(base, dict) else {}, value, owner, retain=False)
        else:
            result[key] = value
    return result


def _merge_list(current: list[Any], patch: list[Any], field: FieldType) -> list[Any]:
    key = str(field.merge_key)
    if any(isinstance(item, dict) and item.get(_DIRECTIVE) == "replace" for item in patch):
        return [item for item in patch if not (isinstance(item, dict) and _DIRECTIVE in item)]
    result = list(current)
    for item in patch:
        if not isinstance(item, dict):
            raise bad_request(f"invalid patch: an item of {field.name} is no object")
        if key not in item:
            raise _failed(f"map: {_go_map(item)} does not contain declared merge key: {key}")
        found = [index for index, have in enumerate(result) if have.get(key) == item[key]]
        if item.get(_DIRECTIVE) == "delete":
            result = [have for have in result if have.get(key) != item[key]]
        elif found:
            result[found[0]] = _merge_map(result[found[0]], item, inner(field), retain=field.retain_keys)
        else:
            result.append(_without_directives(item))
    return _in_order(result, [item for item in patch if item.get(_DIRECTIVE) != "delete"], current, field)


def _identity(item: Any, field: FieldType | None) -> Any:
    key = field.merge_key if field is not None else None
    return item.get(key) if key and isinstance(item, dict) else item


def _in_order(items: list[Any], order: list[Any], server: list[Any], field: FieldType | None) -> list[Any]:
    """`items` in the order a patch wants them; those it does not name keep their place among the server's.

    An item that only the server has comes before the next named item that stands behind it in `server`; where that
    does not say, named items come first.
    """
    wanted = [_identity(item, field) for item in order]
    ranks = [_identity(item, field) for item in server]
    named = sorted(
        (item for item in items if _identity(item, field) in wanted),
        key=lambda item: wanted.index(_identity(item, field)),
    )
    others = [item for item in items if _identity(item, field) not in wanted]
    merged: list[Any] = []
    while named and others:
        left, right = _identity(others[0], field), _identity(named[0], field)
        is_before = left in ranks and right in ranks and ranks.index(left) < ranks.index(right)
        merged.append(others.pop(0) if is_before else named.pop(0))
    return [*merged, *others, *named]


def _check_order(patched: Any, order: Any, field: FieldType | None) -> None:
    """The items a patch carries must come in the order that it gives itself."""
    if not isinstance(patched, list) or not isinstance(order, list):
        return
    left = iter([_identity(item, field) for item in order])
    for item in patched:
        if isinstance(item, dict) and item.get(_DIRECTIVE) == "delete":
            continue
        if _identity(item, field) not in left:
            shown = [" ".join(map(str, part)) for part in (patched, order)]
            raise _failed(f"The order in patch list:\n[{shown[0]}]\n doesn't match {_ORDER[:-1]} list:\n[{shown[1]}]\n")


def _without_directives(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_directives(item)
            for key, item in value.items()
            if not key.startswith(("$patch", _DELETE_PRIMITIVES, _ORDER, _RETAIN)) and item is not None
        }
    return _without_list_directives(value) if isinstance(value, list) else value


def _without_list_directives(items: list[Any]) -> list[Any]:
    return [_without_directives(item) for item in items if not (isinstance(item, dict) and set(item) == {_DIRECTIVE})]
