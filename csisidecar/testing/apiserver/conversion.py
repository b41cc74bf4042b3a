"""The same objects under two names: core/v1 Events and events.k8s.io/v1 Events.

Source: kubernetes/kubernetes, pkg/apis/events/v1/conversion.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from csisidecar.testing.apiserver.kinds import KindSpec

_STORED_NAME = {
    "regarding": "involvedObject",
    "note": "message",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
    "reportingController": "reportingComponent",
}
_SERVED_NAME = {stored: served for served, stored in _STORED_NAME.items()}


def is_converted(spec: KindSpec) -> bool:
    """Whether objects of `spec` are stored under other field names."""
    return spec.group == "events.k8s.io"


def to_storage(spec: KindSpec, content: dict[str, Any]) -> dict[str, Any]:
    """`content` with the field names it is stored under."""
    if not is_converted(spec):
        return content
    return {_STORED_NAME.get(key, key): value for key, value in content.items()}


def from_storage(spec: KindSpec, content: dict[str, Any]) -> dict[str, Any]:
    """`content` with the field names `spec` shows."""
    if not is_converted(spec):
        return content
    return {_SERVED_NAME.get(key, key): value for key, value in content.items()}
