"""Request bodies: bytes and a content type → JSON values, or the refusal a server gives.

Source: kubernetes/apiserver, pkg/endpoints/handlers/create.go and rest.go; limits of
pkg/server/config.go (MaxRequestBodyBytes).
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import yaml

from csisidecar.testing.apiserver import protobuf
from csisidecar.testing.apiserver.requests import JSON, PROTOBUF, YAML
from csisidecar.testing.apiserver.schema import STRUCTS, Repeated, root_type
from csisidecar.testing.apiserver.status import Refusal, bad_request, unsupported_media

if TYPE_CHECKING:
    from csisidecar.testing.apiserver.kinds import KindSpec
    from csisidecar.testing.apiserver.schema import StructType

MAX_BODY_BYTES = 3 * 1024 * 1024
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
_MAX_DEPTH_HINT = "exceeded max depth"


class _YamlLoader(yaml.SafeLoader):
    """YAML as JSON understands it: times stay text."""


_YamlLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def media_type(header: str) -> str:
    """The bare media type of a Content-Type header."""
    return header.partition(";")[0].strip().lower()


def read_object(raw: bytes, content_type: str, spec: KindSpec, subresource: str = "") -> dict[str, Any]:
    """The object a POST or PUT carries.

    Raises:
        Refusal: 415 for a format that is not read, 400 for a body that cannot be.
    """
    media = media_type(content_type)
    root = None if spec.custom else STRUCTS["Binding"] if subresource == "binding" else root_type(spec)
    if media == PROTOBUF and root is not None:
        return _protobuf(raw, root, spec)
    if media not in {"", JSON, YAML}:
        raise unsupported_media((JSON, YAML, PROTOBUF) if root is not None else (JSON, YAML))
    wanted = f"the object provided is unrecognized (must be of type {spec.kind}): "
    value = _yaml(raw, wanted) if "yaml" in media else _json(raw, wanted + "couldn't get version/kind; ")
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise bad_request(
            f"{wanted}couldn't get version/kind; json parse error: json: cannot unmarshal {_named(value)} into Go "
            "value of type struct"
        )
    _check_metadata(value, spec)
    return value


def read_options(raw: bytes, content_type: str) -> dict[str, Any]:
    """The DeleteOptions a DELETE carries; empty without a body.

    Raises:
        Refusal: 415 or 400.
    """
    if not raw.strip():
        return {}
    media = media_type(content_type)
    if media == PROTOBUF:
        return _protobuf(raw, STRUCTS["DeleteOptions"], None)
    if media == "application/cbor":
        raise unsupported_media((JSON, YAML, PROTOBUF))
    value = _yaml(raw, "") if "yaml" in media else _json(raw, "couldn't get version/kind; ")
    if not isinstance(value, dict):
        raise bad_request("DeleteOptions must be an object")
    return value


def read_patch(raw: bytes, content_type: str, spec: KindSpec) -> tuple[str, Any]:
    """Kind of a patch and its content.

    Raises:
        Refusal: 415 for a patch type the kind does not take, 400 for a body that cannot be read.
    """
    media = media_type(content_type)
    allowed = [JSON_PATCH, MERGE_PATCH, *([] if spec.custom else [STRATEGIC_PATCH]), APPLY_PATCH]
    if media not in allowed:
        if spec.custom:
            raise unsupported_media(allowed)
        raise Refusal(415, "UnsupportedMediaType", "415: Unsupported Media Type", details={})
    if media == APPLY_PATCH:
        value = _yaml(raw, "error decoding YAML: ")
        if not isinstance(value, dict):
            raise bad_request("error decoding YAML: the patch is no object")
        return media, value
    value = _json(raw, "error decoding patch: ", json_lead="")
    if media != JSON_PATCH and not isinstance(value, dict):
        raise bad_request(
            f"error decoding patch: json: cannot unmarshal {_named(value)} into Go value of type "
            "map[string]interface {}"
        )
    return media, value


def _check_metadata(value: dict[str, Any], spec: KindSpec) -> None:
    meta = value.setdefault("metadata", {})
    if meta is None:
        value["metadata"] = {}
    elif not isinstance(meta, dict):
        raise bad_request(
            f'{spec.kind} in version "{spec.version}" cannot be handled as a {spec.kind}: json: cannot unmarshal '
            f"{_named(meta)} into Go struct field {spec.kind}.metadata of type v1.ObjectMeta"
        )


def _protobuf(raw: bytes, root: StructType, spec: KindSpec | None) -> dict[str, Any]:
    try:
        value = protobuf.decode(raw, root)
        if not value:
            raise ValueError("empty body")
    except (ValueError, UnicodeDecodeError, struct.error) as error:
        lead = f"the object provided is unrecognized (must be of type {spec.kind}): " if spec is not None else ""
        raise bad_request(f"{lead}couldn't get version/kind; protobuf parse error: {error}") from error
    value.setdefault("metadata", {})
    return value


def _json(raw: bytes, lead: str, json_lead: str = "json parse error: ") -> Any:
    try:
        return json.loads(raw, parse_constant=_no_constant, object_pairs_hook=_object)
    except RecursionError as error:
        raise bad_request(f"{lead}{json_lead}{_MAX_DEPTH_HINT}") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise bad_request(f"{lead}{json_lead}{_reason(error, raw)}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    return made if len(made) == len(pairs) else Repeated(pairs)


def _no_constant(text: str) -> None:
    raise ValueError(f"invalid character '{text[0]}' looking for beginning of value")


def _reason(error: ValueError, raw: bytes) -> str:
    if isinstance(error, json.JSONDecodeError):
        if error.pos >= len(error.doc.rstrip()):
            return "unexpected end of JSON input"
        return f"invalid character '{error.doc[error.pos]}' looking for beginning of value"
    if isinstance(error, UnicodeDecodeError):
        return f"invalid character '{chr(raw[error.start])}' looking for beginning of value"
    return str(error)


def _yaml(raw: bytes, lead: str) -> Any:
    try:
        return yaml.load(raw, Loader=_YamlLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise bad_request(f"{lead}error converting YAML to JSON: {' '.join(str(error).split())}") from error


def _named(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    return {str: "string", int: "number", float: "number", list: "array", dict: "object"}.get(type(value), "null")
