"""Refusals as the API server words them: one function a reason, each giving the Status it answers with.

Source: kubernetes/apimachinery, pkg/api/errors/errors.go; Kubernetes API conventions, "Response Status Kind".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from csisidecar.testing.apiserver.kinds import KindSpec


class Refusal(Exception):  # noqa: N818 - an answer, not a fault of the server
    """Ends a request with a Status; `headers` go onto the HTTP answer."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = dict(details) if details is not None else None
        self.headers = dict(headers or {})
        self.metadata = dict(metadata or {})

    def body(self) -> dict[str, Any]:
        """The Status object."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self.metadata,
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details is not None:
            status["details"] = self.details
        status["code"] = self.code
        return status


@dataclass(frozen=True)
class Cause:
    """One thing wrong with one field; `__str__` is the line the message shows."""

    reason: str
    message: str
    field: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def invalid(field: str, value: object, detail: str) -> Cause:
    """The value is not legal."""
    return Cause("FieldValueInvalid", f"Invalid value: {_shown(value)}: {detail}", field)


def required(field: str, detail: str = "") -> Cause:
    """The value is missing."""
    return Cause("FieldValueRequired", f"Required value: {detail}" if detail else "Required value", field)


def forbidden_field(field: str, detail: str) -> Cause:
    """The value may not be there, or may not change."""
    return Cause("FieldValueForbidden", f"Forbidden: {detail}", field)


def unsupported(field: str, value: object, supported: Sequence[str]) -> Cause:
    """The value is none of a closed set."""
    allowed = ", ".join(f'"{item}"' for item in supported)
    return Cause("FieldValueNotSupported", f"Unsupported value: {_shown(value)}: supported values: {allowed}", field)


def too_long(field: str, max_bytes: int) -> Cause:
    """The value has too many bytes."""
    return Cause("FieldValueTooLong", f"Too long: may not be more than {max_bytes} bytes", field)


def duplicate(field: str, value: object) -> Cause:
    """The value is there twice."""
    return Cause("FieldValueDuplicate", f"Duplicate value: {_shown(value)}", field)


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True)


def _about(spec: KindSpec, name: str) -> dict[str, Any]:
    details: dict[str, Any] = {}
    if name:
        details["name"] = name
    if spec.group:
        details["group"] = spec.group
    details["kind"] = spec.plural
    return details


def not_found(spec: KindSpec, name: str) -> Refusal:
    """404 for one object."""
    return Refusal(404, "NotFound", f'{spec.resource} "{name}" not found', details=_about(spec, name))


def no_such_path() -> Refusal:
    """404 for a URL or a kind that is not served."""
    return Refusal(404, "NotFound", "the server could not find the requested resource", details={})


def already_exists(spec: KindSpec, name: str, *, deleting: bool = False) -> Refusal:
    """409 for a name that is taken."""
    lead = "object is being deleted: " if deleting else ""
    return Refusal(409, "AlreadyExists", f'{lead}{spec.resource} "{name}" already exists', details=_about(spec, name))


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(spec: KindSpec, name: str, why: str = MODIFIED, *, is_kind: bool = False) -> Refusal:
    """409 for a stale resourceVersion, or a precondition; that of a DELETE names the kind (`is_kind`)."""
    details = _about(spec, name)
    called = spec.resource
    if is_kind:
        details["kind"] = spec.kind
        called = f"{spec.kind}.{spec.group}" if spec.group else spec.kind
    return Refusal(409, "Conflict", f'Operation cannot be fulfilled on {called} "{name}": {why}', details=details)


def no_revision(spec: KindSpec, name: str) -> Refusal:
    """422 for a PUT without resourceVersion of a kind that needs one."""
    cause = Cause("FieldValueInvalid", "Invalid value: 0: must be specified for an update", "metadata.resourceVersion")
    refusal = invalid_object(spec, name, [cause])
    refusal.message = f'{spec.resource} "{name}" is invalid: {cause}'
    refusal.details = {**(refusal.details or {}), "kind": spec.plural}
    return refusal


def invalid_patch(changed: object, why: str) -> Refusal:
    """422 for a patch whose result is no object of the kind."""
    text = json.dumps(json.dumps(changed, separators=(",", ":"), ensure_ascii=False), ensure_ascii=False)
    cause = Cause("FieldValueInvalid", f"Invalid value: {text}: {why}", "patch")
    return Refusal(
        422,
        "Invalid",
        f' "" is invalid: {cause}',
        details={"causes": [{"reason": cause.reason, "message": cause.message, "field": cause.field}]},
    )


def invalid_object(spec: KindSpec, name: str, causes: Sequence[Cause]) -> Refusal:
    """422 with one cause a field."""
    kind = f"{spec.kind}.{spec.group}" if spec.group else spec.kind
    lines = [str(cause) for cause in causes]
    text = lines[0] if len(lines) == 1 else f"[{', '.join(dict.fromkeys(lines))}]"
    details: dict[str, Any] = {"name": name} if name else {}
    if spec.group:
        details["group"] = spec.group
    if spec.kind:
        details["kind"] = spec.kind
    details["causes"] = [{"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in causes]
    return Refusal(422, "Invalid", f'{kind} "{name}" is invalid: {text}', details=details)


def invalid_options(kind: str, group: str, causes: Sequence[Cause]) -> Refusal:
    """422 for query options or a DeleteOptions body."""
    lines = [str(cause) for cause in causes]
    text = lines[0] if len(lines) == 1 else f"[{', '.join(lines)}]"
    return Refusal(
        422,
        "Invalid",
        f'{kind}.{group} "" is invalid: {text}',
        details={
            "group": group,
            "kind": kind,
            "causes": [{"reason": c.reason, "message": c.message, "field": c.field} for c in causes],
        },
    )


def patch_failed() -> Refusal:
    """422 for a JSON patch that cannot be applied, also for a `test` that does not hold."""
    return Refusal(422, "Invalid", "the server rejected our request due to an error in our request", details={})


def bad_request(message: str) -> Refusal:
    """400."""
    return Refusal(400, "BadRequest", message)


def forbidden(spec: KindSpec, name: str, why: str) -> Refusal:
    """403; `why` follows ``is forbidden:``."""
    subject = f'{spec.resource} "{name}"' if name else f"{spec.resource}"
    return Refusal(403, "Forbidden", f"{subject} is forbidden: {why}", details=_about(spec, name))


def unauthorized() -> Refusal:
    """401."""
    return Refusal(401, "Unauthorized", "Unauthorized")


def method_not_allowed() -> Refusal:
    """405."""
    return Refusal(
        405, "MethodNotAllowed", "the server does not allow this method on the requested resource", details={}
    )


def unsupported_media(accepted: Sequence[str]) -> Refusal:
    """415."""
    types = ", ".join(accepted)
    return Refusal(
        415,
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format - accepted media types include: {types}",
    )


def not_acceptable(accepted: Sequence[str]) -> Refusal:
    """406."""
    return Refusal(
        406, "NotAcceptable", f"406: Not Acceptable\n\nAvailable representations: {', '.join(accepted)}", details={}
    )


def expired(message: str, *, continue_token: str = "") -> Refusal:
    """410 for history that is gone."""
    metadata = {"continue": continue_token} if continue_token else None
    return Refusal(410, "Expired", message, metadata=metadata)


def too_old(asked: int, oldest: int) -> Refusal:
    """410 for a watch or an exact list before the oldest revision kept."""
    return expired(f"too old resource version: {asked} ({oldest})")


def too_large(asked: int, current: int) -> Refusal:
    """504 for a revision that has not happened yet."""
    return Refusal(
        504,
        "Timeout",
        f"Timeout: Too large resource version: {asked}, current: {current}",
        details={
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        },
        headers={"Retry-After": "1"},
    )


def too_many_requests(retry_after_s: int) -> Refusal:
    """429 with Retry-After."""
    return Refusal(
        429,
        "TooManyRequests",
        "The server has received too many requests and has asked us to try again later",
        details={"retryAfterSeconds": retry_after_s},
        headers={"Retry-After": str(retry_after_s)},
    )


def too_large_entity(message: str) -> Refusal:
    """413."""
    return Refusal(413, "RequestEntityTooLarge", message)


def server_error(code: int) -> Refusal:
    """A 5xx as a server or a proxy in front of it gives."""
    texts = {
        500: ("InternalError", "Internal error occurred: etcdserver: request timed out"),
        503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
        504: (
            "Timeout",
            "the server was unable to return a response in the time allotted, but may still be processing the request",
        ),
    }
    reason, message = texts.get(
        code, ("", f"an error on the server has prevented the request from succeeding ({code})")
    )
    return Refusal(code, reason, message, details={})


def internal_error(why: str) -> Refusal:
    """500 for a fault of this server."""
    return Refusal(500, "InternalError", f"Internal error occurred: {why}", details={"causes": [{"message": why}]})


def success(spec: KindSpec, name: str, uid: str) -> dict[str, Any]:
    """The Status a DELETE answers with for kinds that do not return the object."""
    details = _about(spec, name)
    if uid:
        details["uid"] = uid
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
