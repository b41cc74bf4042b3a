"""What fields a kind has: reading bodies as a typed server does, and the shape other stories ask for.

Reading drops unknown fields (or refuses them), refuses values of the wrong type, and writes what Go writes:
empty optional values are left out, the parts that are never absent are there.

Source: kubernetes/apimachinery, pkg/runtime/serializer/json and pkg/util/validation; encoding/json of Go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from csisidecar.clock import rfc3339, rfc3339_micro
from csisidecar.testing.apiserver.quantities import canonical
from csisidecar.testing.apiserver.schema_data import TYPES
from csisidecar.testing.apiserver.status import bad_request, invalid_object, required

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from csisidecar.testing.apiserver.kinds import KindSpec

_FIELD = re.compile(r"^(?P<name>[^:]+):(?P<type>[\[{]*\w+[\]}]*)(?P<flags>.*)$")
_FLAGS = re.compile(r"@(?P<merge>\w*)|#(?P<keys>[\w+]+)|(?P<flag>[*!%^~=])")
_QUANTITY = re.compile(r"^[+-]?(\d+(\.\d*)?|\.\d+)(([eE][+-]?\d+)|[numkMGTPE]|[KMGTPE]i)?$")
_MICRO_TIME = re.compile(r"^[^.]+\.\d{6}\D.*$")
_TIME = re.compile(r"^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$")
_TIME_FORM = {"t": "2006-01-02T15:04:05Z07:00", "u": "2006-01-02T15:04:05.000000Z07:00"}
_TIME_LENGTH = {"t": 20, "u": 27}
_SCALARS = frozenset("sifbqtuBIx")
_GO_TYPES = {"s": "string", "i": "int64", "f": "float64", "b": "bool", "B": "[]uint8", "t": "Time", "u": "MicroTime"}
_ZEROS: dict[str, Any] = {"s": "", "i": 0, "f": 0, "b": False}
_DROPPED_WHEN_EMPTY: dict[str, Any] = {"s": "", "i": 0, "b": False}


@dataclass(frozen=True, slots=True)
class FieldType:
    """One field of a struct."""

    name: str
    shape: str
    """``scalar``, ``struct``, ``list`` or ``map``."""
    item: str
    """Scalar letter or struct name of the value, or of the items of a list or map."""
    pointer: bool = False
    always: bool = False
    omit_zero: bool = False
    merge_key: str | None = None
    """Key of a strategically merged list; "" for one merged as a set; None for one replaced whole."""
    retain_keys: bool = False
    atomic: bool = False
    list_keys: tuple[str, ...] = ()
    """What identifies an item for server-side apply; empty for lists replaced whole, and for sets."""
    is_set: bool = False

    @property
    def has_structs(self) -> bool:
        """Whether value or items are structs."""
        return self.item not in _SCALARS


@dataclass(frozen=True, slots=True)
class StructType:
    """One type of the table."""

    name: str
    package: str
    fields: Mapping[str, FieldType]


def _parse() -> dict[str, StructType]:
    types: dict[str, StructType] = {}
    package = name = ""
    fields: dict[str, FieldType] = {}
    for line in TYPES.strip().splitlines():
        if line.startswith("= "):
            package = line[2:]
            continue
        words = line.split()
        if not line.startswith("  "):
            name, fields = words.pop(0), {}
            types[name] = StructType(name, package, fields)
        for word in words:
            made = _field(word)
            fields[made.name] = made
    return types


def _field(word: str) -> FieldType:
    found = _FIELD.match(word)
    if not found:
        raise ValueError(word)
    shown, flags = found["type"], set()
    merge_key: str | None = None
    list_keys: tuple[str, ...] = ()
    for flag in _FLAGS.finditer(found["flags"]):
        if flag["flag"]:
            flags.add(flag["flag"])
        elif flag["keys"]:
            list_keys = tuple(flag["keys"].split("+"))
        else:
            merge_key = flag["merge"]
    shape = {"[": "list", "{": "map"}.get(shown[0], "")
    item = shown.strip("[]{}")
    if not shape:
        shape = "scalar" if item in _SCALARS else "struct"
    return FieldType(
        name=found["name"],
        shape=shape,
        item=item,
        pointer="*" in flags,
        always="!" in flags,
        omit_zero="%" in flags,
        merge_key=merge_key,
        retain_keys="^" in flags,
        atomic="=" in flags,
        list_keys=list_keys or ((merge_key,) if merge_key else ()),
        is_set="~" in flags or merge_key == "",
    )


STRUCTS: Mapping[str, StructType] = _parse()
"""Every type by name."""

META = STRUCTS["ObjectMeta"]


def root_type(spec: KindSpec) -> StructType | None:
    """The type of whole objects of a kind; None when its content is free."""
    if spec.custom:
        struct = STRUCTS.get(spec.kind)
        return struct if struct is not None and struct.package == spec.api_version else None
    if spec.open_content:
        return None
    if spec.group == "events.k8s.io":
        return STRUCTS["EventsEvent"]
    return STRUCTS.get(spec.kind)


class Repeated(dict[str, Any]):
    """A JSON object that named fields twice; the last one counts."""

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        self.names = tuple(dict.fromkeys(name for index, name in enumerate(names) if name in names[:index]))


class _Reading:
    """One body being read: where it is, and what was wrong but survivable."""

    __slots__ = ("head", "is_custom", "missing", "repeated", "unknown")

    def __init__(self, spec: KindSpec) -> None:
        self.unknown: list[str] = []
        self.repeated: list[str] = []
        self.missing: list[str] = []
        """Required fields of a custom resource that are not there."""
        self.is_custom = spec.custom
        self.head = f'{spec.kind} in version "{spec.version}" cannot be handled as a {spec.kind}: '

    def wrong(self, value: object, owner: StructType, path: str, go_type: str) -> Exception:
        where = f"Go struct field {owner.name}.{path} of type {go_type}"
        return bad_request(f"{self.head}json: cannot unmarshal {_json_type(value)} into {where}")

    def struct(self, value: Any, owner: StructType, path: str) -> dict[str, Any]:
        out: dict[str, Any] = {}
        fields = owner.fields
        is_typed = not self.is_custom or owner.package == "meta/v1"
        self.note(value, path)
        for key, item in value.items():
            field = fields.get(key)
            if field is None:
                if not (path == "" and key in {"kind", "apiVersion"}):
                    self.unknown.append(f"{path}.{key}" if path else key)
                continue
            if item is None:
                continue
            read = self.value(item, field, owner, f"{path}.{key}" if path else key)
            if is_typed and not field.always and not field.pointer and _is_empty(read, field):
                continue
            out[key] = read
        if self.is_custom and owner.package not in {"core/v1", "meta/v1"}:
            self.missing += [
                f"{path}.{name}" if path else name
                for name, field in owner.fields.items()
                if field.always and name not in out
            ]
            return out
        for name, field in _never_absent(owner):
            if name not in out:
                out[name] = self.zero(field)
        return out

    def note(self, value: Any, path: str) -> None:
        """Remember which fields came twice."""
        if type(value) is Repeated:
            self.repeated += [f"{path}.{name}" if path else name for name in value.names]

    def zero(self, field: FieldType) -> Any:
        if field.pointer:
            return None
        if field.shape == "struct":
            return self.struct({}, STRUCTS[field.item], "")
        return _ZEROS.get(field.item) if field.shape == "scalar" else None

    def value(self, value: Any, field: FieldType, owner: StructType, path: str) -> Any:
        if field.shape == "scalar":
            return self.scalar(value, field.item, owner, path)
        if field.shape == "struct":
            if not isinstance(value, dict):
                raise self.wrong(value, owner, path, f"v1.{field.item}")
            return self.struct(value, STRUCTS[field.item], path)
        if field.shape == "list":
            if not isinstance(value, list):
                raise self.wrong(value, owner, path, f"[]{_go_type(field.item)}")
            if field.has_structs:
                inner = STRUCTS[field.item]
                for item in value:
                    if not isinstance(item, dict):
                        raise self.wrong(item, owner, path, f"v1.{field.item}")
                return [self.struct(item, inner, f"{path}[{index}]") for index, item in enumerate(value)]
            return [self.scalar(item, field.item, owner, path) for item in value]
        if not isinstance(value, dict):
            raise self.wrong(value, owner, path, f"map[string]{_go_type(field.item)}")
        self.note(value, path)
        if field.has_structs:
            inner = STRUCTS[field.item]
            return {key: self.struct(item, inner, f"{path}.{key}") for key, item in value.items()}
        return {key: self.scalar("" if item is None else item, field.item, owner, path) for key, item in value.items()}

    def scalar(self, value: Any, kind: str, owner: StructType, path: str) -> Any:
        if kind == "s":
            if type(value) is str:
                return value
        elif kind == "i":
            if type(value) is int:
                return value
            if type(value) is float and value.is_integer():
                return int(value)
        elif kind == "b":
            if type(value) is bool:
                return value
        elif kind == "q":
            return self.quantity(value)
        elif kind in "tu":
            return self.time(value, kind)
        elif kind == "I":
            if type(value) in {int, str}:
                return value
        elif kind == "f":
            if type(value) in {int, float}:
                return value
        elif kind == "B":
            return self.base64(value, owner, path)
        else:
            return value
        raise self.wrong(value, owner, path, _GO_TYPES.get(kind, "string"))

    def base64(self, value: Any, owner: StructType, path: str) -> str:
        import base64
        import binascii

        if not isinstance(value, str):
            raise self.wrong(value, owner, path, "[]uint8")
        try:
            base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise bad_request(f"{self.head}illegal base64 data at input byte 0") from error
        return value

    def quantity(self, value: Any) -> str:
        text = str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
        if not _QUANTITY.match(text):
            pattern = "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            raise bad_request(f"{self.head}quantities must match the regular expression {pattern}")
        return canonical(text)

    def time(self, value: Any, kind: str) -> str:
        """A time as Go writes it back: in UTC, to the second, or for MicroTime to the microsecond."""
        if isinstance(value, str):
            if value == "" or (len(value) == _TIME_LENGTH[kind] and value[-1] == "Z" and _TIME.match(value)):
                return value
            if _TIME.match(value) and (kind == "t" or _MICRO_TIME.match(value + "!")):
                try:
                    moment = datetime.fromisoformat(value.upper())
                    return rfc3339(moment) if kind == "t" else rfc3339_micro(moment)
                except (ValueError, OverflowError):
                    pass
        raise bad_request(
            f'{self.head}parsing time "{value}" as "{_TIME_FORM[kind]}": cannot parse "{value}" as "2006"'
        )


def _go_type(item: str) -> str:
    return _GO_TYPES.get(item, "string") if item in _SCALARS else f"v1.{item}"


def _json_type(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return "number"
    return "array" if isinstance(value, list) else "object"


def _is_empty(value: object, field: FieldType) -> bool:
    if field.shape in {"list", "map"}:
        return not value
    if field.shape == "struct":
        return field.omit_zero and not value
    return value == _DROPPED_WHEN_EMPTY.get(field.item) if field.item != "t" else value == ""


_never: dict[str, list[tuple[str, FieldType]]] = {}


def _never_absent(owner: StructType) -> list[tuple[str, FieldType]]:
    found = _never.get(owner.name)
    if found is None:
        found = [
            (name, field)
            for name, field in owner.fields.items()
            if field.always
            or (field.shape == "struct" and not field.pointer and not field.omit_zero)
            # A time that is no pointer is written as null: Go's omitempty does not see that it is empty.
            or (field.item in {"t", "u"} and field.shape == "scalar" and not field.pointer and not field.omit_zero)
        ]
        _never[owner.name] = found
    return found


class Normalizer:
    """Turns a request body into what is stored."""

    def read(
        self, spec: KindSpec, body: Mapping[str, Any], field_validation: str = "", warnings: list[str] | None = None
    ) -> dict[str, Any]:
        """The content of `body` without apiVersion and kind, typed and pruned.

        Raises:
            Refusal: 400, wrong type, wrong kind, or an unknown field when `field_validation` is Strict.
        """
        self._check_type(spec, body)
        reading = _Reading(spec)
        root = root_type(spec)
        if root is not None:
            content = reading.struct(body, root, "")
        else:
            content = {key: value for key, value in body.items() if key not in {"kind", "apiVersion"}}
            meta = content.get("metadata") or {}
            if not isinstance(meta, dict):
                raise reading.wrong(meta, META, "metadata", "v1.ObjectMeta")
            content["metadata"] = reading.struct(meta, META, "metadata")
        if reading.missing:
            raise invalid_object(
                spec, content["metadata"].get("name", ""), [required(path) for path in reading.missing]
            )
        if (reading.unknown or reading.repeated) and field_validation != "Ignore":
            texts = [f'duplicate field "{path}"' for path in reading.repeated]
            texts += [f'unknown field "{path}"' for path in reading.unknown]
            self._report(texts, field_validation, warnings, reading.head)
        return content

    @staticmethod
    def _report(texts: Sequence[str], field_validation: str, warnings: list[str] | None, head: str) -> None:
        if field_validation == "Strict":
            raise bad_request(f"{head}strict decoding error: {', '.join(texts)}")
        if warnings is not None:
            warnings.extend(texts)

    @staticmethod
    def _check_type(spec: KindSpec, body: Mapping[str, Any]) -> None:
        api_version, kind = body.get("apiVersion"), body.get("kind")
        if spec.custom and not kind:
            raise bad_request("Object 'Kind' is missing in the body")
        if api_version and api_version != spec.api_version:
            if spec.custom:
                raise bad_request(
                    f"the API version in the data ({api_version}) does not match the expected API version "
                    f"({spec.api_version})"
                )
            shown = kind or spec.kind
            raise bad_request(
                f'{shown} in version "{str(api_version).rpartition("/")[2]}" cannot be handled as a {spec.kind}: '
                f'no kind "{shown}" is registered for version "{api_version}" in scheme '
                '"pkg/api/legacyscheme/scheme.go:30"'
            )
        if kind and kind != spec.kind:
            raise bad_request(
                f'{kind} in version "{spec.version}" cannot be handled as a {spec.kind}: '
                f"converting (v1.{kind}) to (core.{spec.kind}): unknown conversion"
            )


def field_of(owner: StructType | None, name: str) -> FieldType | None:
    """The field `name` of a type; None when it has none or the content is free."""
    return owner.fields.get(name) if owner is not None else None


def inner(field: FieldType | None) -> StructType | None:
    """The struct a field, or its items, hold; None for scalars and free content."""
    return STRUCTS.get(field.item) if field is not None and field.has_structs else None


def packages() -> Iterator[tuple[str, StructType]]:
    """Every type with its API package."""
    for struct in STRUCTS.values():
        yield struct.package, struct
