"""Label and field selectors: text → a predicate over stored objects.

Source: kubernetes/apimachinery, pkg/labels/selector.go and pkg/fields/selector.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from csisidecar.testing.apiserver.status import bad_request
from csisidecar.testing.apiserver.store import Stored

if TYPE_CHECKING:
    from csisidecar.testing.apiserver.kinds import KindSpec

Predicate = Callable[[Stored], bool]
_Test = Callable[[dict[str, str]], bool]

_KEY = r"(?:[a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
_KEY_RE = re.compile(_KEY)
_VALUE_RE = re.compile(_VALUE)
_SET = re.compile(r"^(?P<key>[^\s!=<>,()]+)\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)$")
_COMPARE = re.compile(r"^(?P<key>[^\s!=<>,()]+)\s*(?P<op>==|!=|=|<|>)\s*(?P<value>[^\s!=<>,()]*)$")
_EXISTS = re.compile(r"^(?P<no>!?)\s*(?P<key>[^\s!=<>,()]+)$")


def label_predicate(text: str) -> Predicate | None:
    """What `labelSelector=text` keeps; None keeps everything.

    Raises:
        Refusal: 400, the text cannot be read.
    """
    tests = [_label_test(part.strip(), text) for part in _parts(text) if part.strip()]
    if not tests:
        return None

    def matches(stored: Stored) -> bool:
        labels = stored.labels or {}
        return all(test(labels) for test in tests)

    return matches


def _parts(text: str) -> list[str]:
    return re.split(r",(?![^()]*\))", text)


def _label_test(part: str, whole: str) -> _Test:
    if found := _SET.match(part):
        key = _checked_key(found["key"], whole)
        values = frozenset(_checked_value(value.strip(), whole) for value in found["values"].split(","))
        if found["op"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if found := _COMPARE.match(part):
        key, value = _checked_key(found["key"], whole), found["value"]
        if found["op"] in "<>":
            return _ordered(key, found["op"], value, whole)
        _checked_value(value, whole)
        if found["op"] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if found := _EXISTS.match(part):
        key = _checked_key(found["key"], whole)
        if found["no"]:
            return lambda labels: key not in labels
        return lambda labels: key in labels
    raise _unreadable(whole, f"found '{part}', expected: identifier or operator")


def _ordered(key: str, op: str, value: str, whole: str) -> _Test:
    if not re.fullmatch(r"-?\d+", value):
        raise _unreadable(whole, f"for 'Gt', 'Lt' operators, the value must be an integer, \"{value}\" is none")
    bound = int(value)

    def test(labels: dict[str, str]) -> bool:
        have = labels.get(key, "")
        if not re.fullmatch(r"-?\d+", have):
            return False
        return int(have) > bound if op == ">" else int(have) < bound

    return test


def _checked_key(key: str, whole: str) -> str:
    if not _KEY_RE.fullmatch(key):
        raise _unreadable(whole, f'key: Invalid value: "{key}": name part must consist of alphanumeric characters')
    return key


def _checked_value(value: str, whole: str) -> str:
    if not _VALUE_RE.fullmatch(value):
        raise _unreadable(
            whole,
            f'values[0][]: Invalid value: "{value}": a valid label must be an empty string or '
            "consist of alphanumeric characters, '-', '_' or '.'",
        )
    return value


def _unreadable(whole: str, why: str) -> Exception:
    return bad_request(f'unable to parse requirement: {why}: "{whole}"')


def field_predicate(text: str, spec: KindSpec, selectable: Sequence[str]) -> tuple[Predicate | None, str]:
    """What `fieldSelector=text` keeps, and the name it pins ("" for none), which saves a scan.

    Raises:
        Refusal: 400, the text cannot be read or the kind does not know the field.
    """
    tests: list[Predicate] = []
    pinned = ""
    for part in _field_parts(text):
        found = re.match(r"^(?P<path>[^=!]+)(?P<op>!=|==|=)(?P<value>.*)$", part, re.DOTALL)
        if not found:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        path, wanted, negate = found["path"], _unescaped(found["value"]), found["op"] == "!="
        value_of = _field_reader(path, spec, selectable)
        if path == "metadata.name" and not negate:
            pinned = wanted
        tests.append(_field_test(value_of, wanted, negate=negate))
    if not tests:
        return None, ""
    return (lambda stored: all(test(stored) for test in tests)), pinned


def _field_parts(text: str) -> list[str]:
    return [part for part in re.split(r"(?<!\\),", text) if part]


def _unescaped(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value)


def _field_test(value_of: Callable[[Stored], str], wanted: str, *, negate: bool) -> Predicate:
    if negate:
        return lambda stored: value_of(stored) != wanted
    return lambda stored: value_of(stored) == wanted


def _field_reader(path: str, spec: KindSpec, selectable: Sequence[str]) -> Callable[[Stored], str]:
    if path == "metadata.name":
        return lambda stored: stored.name
    if path == "metadata.namespace" and (spec.namespaced or spec.custom):
        return lambda stored: stored.namespace
    if path in selectable:
        index = list(selectable).index(path)
        return lambda stored: stored.fields[index]
    raise bad_request(
        f"field label not supported: {path}"
        if spec.custom
        else f'"{path}" is not a known field selector: only "metadata.name", "metadata.namespace"'
        if not selectable
        else f"field label not supported: {path}"
    )
