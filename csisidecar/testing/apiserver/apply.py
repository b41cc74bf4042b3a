"""Server-side apply: who owns which field, whose values win, what goes when nobody wants it any more.

Ownership is kept from the first apply on; what was there before then belongs to ``before-first-apply``, as on a
real server for objects without managedFields.

Source: Kubernetes documentation, "Server-Side Apply"; kubernetes/apimachinery, pkg/util/managedfields.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from csisidecar.clock import rfc3339
from csisidecar.testing.apiserver.fieldsets import (
    Path,
    decode_fields,
    encode_fields,
    item_element,
    paths_of,
    remove_at,
    shown,
    value_at,
)
from csisidecar.testing.apiserver.schema import FieldType, StructType, field_of, inner, root_type
from csisidecar.testing.apiserver.status import Refusal, bad_request, invalid_options, required

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from csisidecar.testing.apiserver.kinds import KindSpec
    from csisidecar.testing.apiserver.registry import Registry, WriteOptions
    from csisidecar.testing.apiserver.store import Stored

Content = dict[str, Any]
_BEFORE = "before-first-apply"


@dataclass(frozen=True, kw_only=True)
class Owner:
    """One entry of managedFields, its fields as a set."""

    manager: str
    operation: str
    api_version: str
    time: str
    subresource: str = ""
    fields: frozenset[Path] = field(default_factory=frozenset)

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> Owner:
        """From an entry of managedFields."""
        return cls(
            manager=entry.get("manager", ""),
            operation=entry.get("operation", ""),
            api_version=entry.get("apiVersion", ""),
            time=entry.get("time", ""),
            subresource=entry.get("subresource", ""),
            fields=frozenset(decode_fields(entry.get("fieldsV1") or {})),
        )

    def entry(self) -> Content:
        """As an entry of managedFields."""
        made: Content = {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": encode_fields(self.fields),
        }
        if self.subresource:
            made["subresource"] = self.subresource
        return made

    @property
    def identity(self) -> tuple[str, str, str]:
        """What makes two entries the same."""
        return self.manager, self.operation, self.subresource


def apply(
    registry: Registry,
    spec: KindSpec,
    namespace: str,
    name: str,
    config: Mapping[str, Any],
    options: WriteOptions,
    *,
    force: bool,
    subresource: str,
) -> tuple[Stored, bool]:
    """Make the object as `config` says and note who said so; whether it was created.

    Raises:
        Refusal: 409 for a field somebody else set to another value, unless forced; or as other writes.
    """
    _check(config, name, options)
    root = root_type(spec)
    body: Content = copy.deepcopy(dict(config))
    body["metadata"] = {**(body.get("metadata") or {}), "name": name}
    me = Owner(
        manager=options.field_manager,
        operation="Apply",
        api_version=spec.api_version,
        time=rfc3339(registry.clock.now()),
        subresource=subresource,
        fields=frozenset(_writable(spec, paths_of(_read(registry, spec, body, options), root), subresource)),
    )
    if registry.store.table(spec).get(namespace, name) is None:
        body["metadata"]["managedFields"] = [me.entry()]
        return registry.create(spec, namespace, body, options), True

    def change(current: Content) -> Content:
        owners = [Owner.read(entry) for entry in current["metadata"].pop("managedFields", ())]
        if not owners:
            owned = frozenset(_writable(spec, paths_of(current, root), ""))
            owners = [replace(me, manager=_BEFORE, operation="Update", subresource="", fields=owned)]
        mine = next((owner for owner in owners if owner.identity == me.identity), None)
        others = [owner for owner in owners if owner.identity != me.identity]
        others = _settle_conflicts(current, body, me, others, force=force)
        merged: Content = _merge(current, body, root)
        kept_by_others = frozenset().union(*(owner.fields for owner in others))
        gone = (mine.fields if mine is not None else frozenset()) - me.fields - kept_by_others
        for path in sorted(gone, key=len):  # a whole item before its keys, or it could not be found
            if not _covers_others(path, kept_by_others | me.fields):
                remove_at(merged, path)
        now = me
        if mine is not None and mine.fields == me.fields and merged == current:
            now = mine
        merged["metadata"]["managedFields"] = [owner.entry() for owner in (*others, now) if owner.fields]
        return merged

    written = replace(options, is_apply=True)
    return registry.patch(spec, namespace, name, change, subresource=subresource, options=written), False


def note_update(spec: KindSpec, content: Content, old: Content, *, manager: str, now: str, subresource: str) -> None:
    """Move ownership of what a plain write changed to its writer; objects nobody applied are left alone."""
    entries = old["metadata"].get("managedFields")
    if not entries:
        return
    root = root_type(spec)
    before, after = paths_of(old, root), paths_of(content, root)
    changed = frozenset(path for path in after if value_at(content, path) != value_at(old, path))
    removed = before - after
    owners = []
    me = Owner(
        manager=manager or "unknown",
        operation="Update",
        api_version=spec.api_version,
        time=now,
        subresource=subresource,
    )
    mine: frozenset[Path] = frozenset()
    for entry in entries:
        owner = Owner.read(entry)
        if owner.identity == me.identity:
            mine = owner.fields
            continue
        owners.append(replace(owner, fields=owner.fields - changed - removed))
    own = (mine - removed) | changed
    if own:
        owners.append(replace(me, fields=own))
    content["metadata"]["managedFields"] = [owner.entry() for owner in owners if owner.fields]


def _check(config: Mapping[str, Any], name: str, options: WriteOptions) -> None:
    if not options.field_manager:
        cause = required("fieldManager", "is required for apply patch")
        raise invalid_options("PatchOptions", "meta.k8s.io", [cause])
    meta = config.get("metadata") or {}
    if not isinstance(meta, dict):
        raise bad_request("metadata must be an object")
    if meta.get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    if meta.get("name", name) != name:
        raise bad_request(f"the name of the object ({meta['name']}) does not match the name on the URL ({name})")
    for key in ("apiVersion", "kind"):
        if not config.get(key):
            raise bad_request("invalid object type: /, Kind=")


def _read(registry: Registry, spec: KindSpec, config: Mapping[str, Any], options: WriteOptions) -> Content:
    """The config as typed content, but only what it says itself."""
    typed = registry.normalizer.read(spec, config, options.field_validation, options.warnings)
    return {key: _only(typed[key], config[key]) for key in typed if key in config}


def _only(typed: Any, said: Any) -> Any:
    """`typed` without the parts that typing added."""
    if isinstance(typed, dict) and isinstance(said, dict):
        return {key: _only(value, said[key]) for key, value in typed.items() if key in said}
    if isinstance(typed, list) and isinstance(said, list) and len(typed) == len(said):
        return [_only(left, right) for left, right in zip(typed, said, strict=True)]
    return typed


def _writable(spec: KindSpec, paths: set[Path], subresource: str) -> set[Path]:
    if subresource == "status":
        return {path for path in paths if path[0] == "f:status"}
    return {path for path in paths if not (spec.status and path[0] == "f:status")}


def _settle_conflicts(
    current: Content, config: Mapping[str, Any], me: Owner, others: Sequence[Owner], *, force: bool
) -> list[Owner]:
    """The other owners after this apply: without what it takes from them."""
    settled, causes = [], []
    for other in others:
        taken = frozenset(
            path
            for path in me.fields & other.fields
            if not path[-1].startswith(("k:", "v:")) and value_at(current, path) != value_at(config, path)
        )
        causes += [(other, path) for path in sorted(taken)]
        settled.append(replace(other, fields=other.fields - taken))
    if causes and not force:
        raise _conflicts(causes)
    return settled


def _conflicts(causes: Sequence[tuple[Owner, Path]]) -> Refusal:
    by_owner: dict[str, list[str]] = {}
    for owner, path in causes:
        text = f'"{owner.manager}"'
        if owner.subresource:
            text += f' with subresource "{owner.subresource}"'
        if owner.operation == "Update":
            text += f" using {owner.api_version}"
            if owner.time:
                text += f" at {owner.time}"
        by_owner.setdefault(text, []).append(shown(path))
    count = len(causes)
    parts = []
    for text, paths in by_owner.items():
        if len(paths) == 1:
            parts.append(f"conflict with {text}: {paths[0]}")
        else:
            parts.append("\n- ".join([f"conflicts with {text}:", *paths]))
    return Refusal(
        409,
        "Conflict",
        f"Apply failed with {count} conflict{'s' if count > 1 else ''}: " + "\n".join(parts),
        details={
            "causes": [
                {"reason": "FieldManagerConflict", "message": f"conflict with {text}", "field": path}
                for text, paths in by_owner.items()
                for path in paths
            ]
        },
    )


def _covers_others(path: Path, kept: frozenset[Path]) -> bool:
    return any(other[: len(path)] == path for other in kept if len(other) > len(path))


def _merge(current: Any, config: Any, owner: StructType | None) -> Any:
    result: Content = dict(current)
    for key, value in config.items():
        result[key] = _merge_value(current.get(key), value, _field(owner, key))
    return result


_META_FIELD = FieldType(name="metadata", shape="struct", item="ObjectMeta")


def _field(owner: StructType | None, key: str) -> FieldType | None:
    if owner is None and key == "metadata":
        return _META_FIELD
    return field_of(owner, key)


def _merge_value(current: Any, value: Any, field_type: FieldType | None) -> Any:
    atomic = field_type is not None and field_type.atomic
    if isinstance(value, dict) and isinstance(current, dict) and not atomic:
        return _merge(current, value, inner(field_type))
    if isinstance(value, list) and isinstance(current, list) and field_type is not None and not atomic:
        if field_type.is_set:
            return [*current, *(item for item in value if item not in current)]
        if field_type.list_keys:
            return _merge_items(current, value, field_type)
    return value


def _merge_items(current: list[Any], items: list[Any], field_type: FieldType) -> list[Any]:
    result = list(current)
    places = {item_element(item, field_type): index for index, item in enumerate(result)}
    for item in items:
        index = places.get(item_element(item, field_type))
        if index is None:
            result.append(item)
        else:
            result[index] = _merge(result[index], item, inner(field_type))
    return result
