"""What names, labels, selectors and quantities may be, and the words that say so; rules of kinds build on it.

Source: kubernetes/apimachinery, pkg/api/validation, pkg/util/validation and pkg/api/resource.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from csisidecar.testing.apiserver.status import Cause, forbidden_field, invalid, required, too_long

if TYPE_CHECKING:
    from csisidecar.testing.apiserver.kinds import KindSpec

Content = dict[str, Any]

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


_QUALIFIED_PART = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")


_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")


MAX_LABEL, _MAX_SUBDOMAIN = 63, 253


_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)


_NAME_PART_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


_LABEL_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def immutable(field: str, value: object) -> Cause:
    """The value may not change."""
    return invalid(field, value, "field is immutable")


def check_name(spec: KindSpec, name: str, field: str) -> list[Cause]:
    """What is wrong with an object's name, by the rule of its kind."""
    if spec.name_rule == "path":
        bad = [item for item in ("/", "%") if item in name]
        if name in {".", ".."}:
            return [invalid(field, name, f"may not be '{name}'")]
        return [invalid(field, name, f"may not contain '{item}'") for item in bad]
    if spec.name_rule == "label":
        causes = [invalid(field, name, f"must be no more than {MAX_LABEL} characters")] if len(name) > MAX_LABEL else []
        if "." in name:
            return [*causes, invalid(field, name, "must not contain dots")]
        return causes if _LABEL.fullmatch(name) else [*causes, invalid(field, name, _LABEL_RULE)]
    return check_subdomain(name, field)


def check_subdomain(name: str, field: str) -> list[Cause]:
    """What is wrong with a name made of DNS labels."""
    causes = []
    if len(name) > _MAX_SUBDOMAIN:
        causes.append(invalid(field, name, f"must be no more than {_MAX_SUBDOMAIN} characters"))
    if not _SUBDOMAIN.fullmatch(name):
        causes.append(invalid(field, name, _SUBDOMAIN_RULE))
    return causes


def check_qualified(name: str, field: str) -> list[Cause]:
    """What is wrong with the key of a label, an annotation or a topology, or with a finalizer."""
    prefix, slash, last = name.rpartition("/")
    if slash and "/" in prefix:
        return [
            invalid(
                field,
                name,
                f"a valid label key {_NAME_PART_RULE.removeprefix('name part ')} with an optional "
                "DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
            )
        ]
    causes = []
    if slash:
        if not prefix:
            causes.append(invalid(field, name, "prefix part must be non-empty"))
        elif not _SUBDOMAIN.fullmatch(prefix):
            causes.append(invalid(field, name, f"prefix part {_SUBDOMAIN_RULE}"))
    if not last:
        causes.append(invalid(field, name, "name part must be non-empty"))
    elif len(last) > MAX_LABEL:
        causes.append(invalid(field, name, f"name part must be no more than {MAX_LABEL} bytes"))
    if not _QUALIFIED_PART.fullmatch(last):
        causes.append(invalid(field, name, _NAME_PART_RULE))
    return causes


def check_labels(labels: Content, field: str) -> list[Cause]:
    """What is wrong with keys and values of labels."""
    causes: list[Cause] = []
    for key, value in labels.items():
        causes += check_qualified(key, field)
        if len(value) > MAX_LABEL:
            causes.append(invalid(field, value, f"must be no more than {MAX_LABEL} bytes"))
        if not _LABEL_VALUE.fullmatch(value):
            causes.append(invalid(field, value, _LABEL_VALUE_RULE))
    return causes


def check_not_negative(resources: Content, field: str) -> list[Cause]:
    """Which quantities are below zero."""
    return [
        invalid(f"{field}[{name}]", int(quantity_bytes(size)), "must be a valid resource quantity")
        for name, size in resources.items()
        if str(size).startswith("-")
    ]


def check_driver_name(name: str, field: str) -> list[Cause]:
    """What is wrong with a CSI driver's name."""
    if not name:
        return [required(field)]
    causes = []
    if len(name) > MAX_LABEL:
        causes.append(too_long(field, MAX_LABEL))
    if not _SUBDOMAIN.fullmatch(name.lower()):
        causes.append(invalid(field, name, _SUBDOMAIN_RULE))
    return causes


def check_selector(selector: Content | None, at: str) -> list[Cause]:
    """A label selector inside of an object."""
    if not selector:
        return []
    causes = check_labels(selector.get("matchLabels", {}), f"{at}.matchLabels")
    for index, item in enumerate(selector.get("matchExpressions", ())):
        base, operator, values = f"{at}.matchExpressions[{index}]", item.get("operator", ""), item.get("values")
        if operator in {"In", "NotIn"} and not values:
            causes.append(required(f"{base}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in {"Exists", "DoesNotExist"} and values:
            detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            causes.append(forbidden_field(f"{base}.values", detail))
        elif operator not in {"In", "NotIn", "Exists", "DoesNotExist"}:
            causes.append(invalid(f"{base}.operator", operator, "not a valid selector operator"))
        causes += check_qualified(item.get("key", ""), f"{base}.key")
    return causes


_FACTORS = {"": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3} | {
    letter + suffix: float(base) ** power
    for suffix, base in (("", 1000), ("i", 1024))
    for power, letter in enumerate("KMGTPE", 1)
}
_FACTORS["k"] = _FACTORS.pop("K")


def quantity_bytes(quantity: str) -> float:
    """A quantity as a number, close enough to compare sizes."""
    found = re.fullmatch(r"([+-]?[\d.]+(?:[eE][+-]?\d+)?)([A-Za-z]*)", str(quantity))
    return float(found[1]) * _FACTORS.get(found[2], 1.0) if found else 0.0
