"""OpenAPI documents made from the table of fields: enough for kubectl to validate, apply, diff and explain.

Source: Kubernetes documentation, "OpenAPI v3"; kubernetes/kubernetes, api/openapi-spec.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from csisidecar.testing.apiserver import discovery
from csisidecar.testing.apiserver.schema import STRUCTS, FieldType, StructType, root_type
from csisidecar.testing.apiserver.store import encode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from csisidecar.testing.apiserver.kinds import Kinds, KindSpec

Content = dict[str, Any]
_INFO = {"title": "Kubernetes", "version": "v1.36.0"}
_META_PACKAGE = "io.k8s.apimachinery.pkg.apis.meta.v1"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_SCALARS: dict[str, Content] = {
    "s": {"type": "string"},
    "i": {"type": "integer", "format": "int64"},
    "f": {"type": "number", "format": "double"},
    "b": {"type": "boolean"},
    "B": {"type": "string", "format": "byte"},
    "x": {"type": "object"},
}
_NAMED = {"q": _QUANTITY, "t": f"{_META_PACKAGE}.Time", "u": f"{_META_PACKAGE}.MicroTime", "I": _INT_OR_STRING}
_WRITE_PARAMETERS = ("dryRun", "fieldManager", "fieldValidation")


def group_version_path(spec: KindSpec) -> str:
    """``api/v1`` or ``apis/GROUP/VERSION``."""
    return f"apis/{spec.group}/{spec.version}" if spec.group else f"api/{spec.version}"


def v2(kinds: Kinds) -> Content:
    """GET /openapi/v2."""
    specs = list(kinds)
    return {
        "swagger": "2.0",
        "info": _INFO,
        "paths": _paths(specs, _v2_parameter),
        "definitions": _schemas(specs, "#/definitions/", is_v3=False),
    }


def v3_index(kinds: Kinds) -> Content:
    """GET /openapi/v3."""
    paths = {}
    for path in dict.fromkeys(group_version_path(spec) for spec in kinds):
        digest = hashlib.sha256(v3(kinds, path) or b"").hexdigest().upper()
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
    return {"paths": paths}


def v3(kinds: Kinds, path: str) -> bytes | None:
    """GET /openapi/v3/PATH; None when there is no such group and version."""
    specs = [spec for spec in kinds if group_version_path(spec) == path]
    if not specs:
        return None
    return encode(
        {
            "openapi": "3.0.0",
            "info": _INFO,
            "paths": _paths(specs, _v3_parameter),
            "components": {"schemas": _schemas(specs, "#/components/schemas/", is_v3=True)},
        }
    )


def _v2_parameter(name: str) -> Content:
    return {"name": name, "in": "query", "type": "string", "uniqueItems": True}


def _v3_parameter(name: str) -> Content:
    return {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}


def _paths(specs: Iterable[KindSpec], parameter: Any) -> Content:
    paths: Content = {}
    for spec in specs:
        root = f"/{group_version_path(spec)}"
        base = f"{root}/namespaces/{{namespace}}/{spec.plural}" if spec.namespaced else f"{root}/{spec.plural}"
        collection = {
            method: _operation(spec, action, parameter)
            for method, action, verb in (("get", "list", "list"), ("post", "post", "create"))
            if verb in spec.verbs
        }
        paths[base] = collection
        if "get" in spec.verbs:
            item = {method: _operation(spec, method, parameter) for method in ("get", "put", "patch", "delete")}
            paths[f"{base}/{{name}}"] = item
            if "status" in discovery.subresources(spec):
                paths[f"{base}/{{name}}/status"] = {method: item[method] for method in ("get", "put", "patch")}
    return paths


def _operation(spec: KindSpec, action: str, parameter: Any) -> Content:
    writes = action in {"post", "put", "patch"}
    names = (*_WRITE_PARAMETERS, *(("force",) if action == "patch" else ())) if writes else ()
    if action == "delete":
        names = ("dryRun",)
    return {
        "operationId": f"{action}{spec.group.replace('.', '')}{spec.version}{spec.kind}",
        "parameters": [parameter(name) for name in names],
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _kind(spec),
    }


def _kind(spec: KindSpec) -> Content:
    return {"group": spec.group, "kind": spec.kind, "version": spec.version}


def _package(struct: StructType) -> str:
    group, _, version = struct.package.partition("/")
    if "." in group:
        return ".".join([*reversed(group.split(".")), version])
    return _META_PACKAGE if group == "meta" else f"io.k8s.api.{group}.{version}"


def _name(struct: StructType) -> str:
    return f"{_package(struct)}.{struct.name}"


def _custom_name(spec: KindSpec) -> str:
    return ".".join([*reversed(spec.group.split(".")), spec.version, spec.kind])


def _schemas(specs: Iterable[KindSpec], prefix: str, *, is_v3: bool) -> Content:
    made: Content = {
        _QUANTITY: {"type": "string"} if not is_v3 else {"oneOf": [{"type": "string"}, {"type": "number"}]},
        _INT_OR_STRING: {"type": "string", "format": "int-or-string"}
        if not is_v3
        else {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
        f"{_META_PACKAGE}.Time": {"type": "string", "format": "date-time"},
        f"{_META_PACKAGE}.MicroTime": {"type": "string", "format": "date-time"},
    }
    waiting: list[StructType] = [STRUCTS["ObjectMeta"]]
    for spec in specs:
        root = root_type(spec)
        if root is None:
            made[_custom_name(spec)] = _free_root(spec, prefix, is_v3=is_v3)
            continue
        shown = _struct(root, prefix, is_v3=is_v3)
        shown["properties"] = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, **shown["properties"]}
        known = made.get(_name(root), {}).get("x-kubernetes-group-version-kind", [])
        shown["x-kubernetes-group-version-kind"] = [*known, _kind(spec)]
        made[_name(root)] = shown
        waiting += _below(root)
    while waiting:
        struct = waiting.pop()
        if _name(struct) not in made:
            made[_name(struct)] = _struct(struct, prefix, is_v3=is_v3)
            waiting += _below(struct)
    return made


def _below(struct: StructType) -> list[StructType]:
    return [STRUCTS[field.item] for field in struct.fields.values() if field.has_structs]


def _struct(struct: StructType, prefix: str, *, is_v3: bool) -> Content:
    shown: Content = {
        "type": "object",
        "properties": {name: _property(field, prefix, is_v3=is_v3) for name, field in struct.fields.items()},
    }
    if struct.name == "LabelSelector":
        shown["x-kubernetes-map-type"] = "atomic"
    return shown


def _property(field: FieldType, prefix: str, *, is_v3: bool) -> Content:
    item = _item(field.item, prefix, is_v3=is_v3)
    if field.shape in {"scalar", "struct"}:
        return item
    if field.shape == "map":
        return {"type": "object", "additionalProperties": item}
    shown: Content = {"type": "array", "items": item}
    if field.merge_key is not None:
        shown["x-kubernetes-patch-strategy"] = "merge,retainKeys" if field.retain_keys else "merge"
        if field.merge_key:
            shown["x-kubernetes-patch-merge-key"] = field.merge_key
    if field.atomic:
        shown["x-kubernetes-list-type"] = "atomic"
    elif field.is_set:
        shown["x-kubernetes-list-type"] = "set"
    elif field.list_keys:
        shown["x-kubernetes-list-type"] = "map"
        shown["x-kubernetes-list-map-keys"] = list(field.list_keys)
    return shown


def _item(item: str, prefix: str, *, is_v3: bool) -> Content:
    if item in _SCALARS:
        return dict(_SCALARS[item])
    name = _NAMED.get(item) or _name(STRUCTS[item])
    reference = {"$ref": prefix + name}
    return {"allOf": [reference]} if is_v3 else reference


def _free_root(spec: KindSpec, prefix: str, *, is_v3: bool) -> Content:
    return {
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": _item("ObjectMeta", prefix, is_v3=is_v3),
            "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
        "x-kubernetes-preserve-unknown-fields": True,
        "x-kubernetes-group-version-kind": [_kind(spec)],
    }
