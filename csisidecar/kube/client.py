"""One method per API verb, JSON in and out; every failure is a KubeError. Never retries, never caches.

Each request has a deadline of its own. Requests other than watches wait for the rate limiter, if there is one;
each successful write is told to `on_write`, so that the runtime knows which version its stores must have seen.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from csisidecar.errors import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    KubeError,
    NotFoundError,
    ThrottledError,
    UnreachableError,
)
from csisidecar.kube.session import NO_HEADERS

if TYPE_CHECKING:
    from csisidecar.kube.limiter import RateLimiter
    from csisidecar.kube.permissions import Permissions
    from csisidecar.kube.resources import Resource
    from csisidecar.kube.session import KubeSession, Response

encode = msgspec.json.encode
"""An object as the JSON that is sent."""

_EXCERPT = 200
_CLASSES: dict[int, type[KubeError]] = {
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidError,
    429: ThrottledError,
}
_REFUSED = (
    "the API server does not accept our credentials (401 Unauthorized): check --kubeconfig or the service account"
)


class PatchType(Enum):
    """How a patch body is meant; the value is its content type."""

    MERGE = "application/merge-patch+json"
    JSON = "application/json-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Write:
    """A successful write of ours, as the server answered it."""

    resource: Resource
    namespace: str
    name: str
    uid: str
    resource_version: str
    """Version after the write; empty when the answer to a delete did not carry the object."""
    removed: bool
    """Whether the object is gone: deleted, or its last finalizer taken off while it was being deleted."""


class _Keep(Enum):
    """The mark for "as it is" in `derive`."""

    KEEP = 0


class _StatusDetails(msgspec.Struct, rename="camel"):
    uid: str = ""
    retry_after_seconds: float = 0


class _Status(msgspec.Struct):
    kind: str = ""
    message: str = ""
    reason: str = ""
    details: _StatusDetails | None = None


def decode_error(
    status: int,
    body: bytes | msgspec.Raw,
    *,
    headers: Mapping[str, str] = NO_HEADERS,
    verb: str = "",
    resource: str = "",
    name: str = "",
) -> KubeError:
    """The error for an answer that is no success, or for the Status object of a watch's ERROR event.

    The text is the Status's message; an answer that is no Status (a proxy's page, say) is quoted in short.
    """
    parsed = _parse_status(body)
    retry_after_s = _retry_after(headers, parsed)
    kind = _CLASSES.get(status, KubeError)
    if status == 409 and parsed.reason == "AlreadyExists":
        kind = AlreadyExistsError
    elif status == 429:
        retry_after_s = 1.0 if retry_after_s is None else retry_after_s
    elif status == 503 and retry_after_s is not None:
        kind = ThrottledError
    message = parsed.message or f"the API server answered {status}: {_excerpt(bytes(body))}"
    if status == 401:
        message = _REFUSED
    return kind(
        message,
        verb=verb,
        resource=resource,
        name=name,
        status=status,
        reason=parsed.reason,
        retry_after_s=retry_after_s,
    )


class KubeClient:
    """The API server's verbs for one user of one session.

    Args:
        session: where requests go.
        limiter: ceiling for requests other than watches; None for no ceiling.
        on_write: told of each successful write before the caller is; must not raise.
        request_timeout_s: deadline of each request that is no watch, from when it is sent.
        permissions: told how each write ended.
        guard: asked right before each request that is no watch; what it raises is raised instead of sending.
    """

    def __init__(
        self,
        session: KubeSession,
        *,
        limiter: RateLimiter | None = None,
        on_write: Callable[[Write], None] | None = None,
        request_timeout_s: float = 60.0,
        permissions: Permissions | None = None,
        guard: Callable[[], None] | None = None,
    ) -> None:
        self._session = session
        self._limiter = limiter
        self._on_write = on_write
        self._request_timeout_s = request_timeout_s
        self._permissions = permissions
        self._guard = guard

    def derive(
        self,
        *,
        limiter: RateLimiter | _Keep | None = _Keep.KEEP,
        on_write: Callable[[Write], None] | _Keep | None = _Keep.KEEP,
        permissions: Permissions | _Keep | None = _Keep.KEEP,
        guard: Callable[[], None] | _Keep | None = _Keep.KEEP,
    ) -> KubeClient:
        """A client of the same session with another limiter or other observers of writes; what is not given stays."""
        return KubeClient(
            self._session,
            limiter=self._limiter if isinstance(limiter, _Keep) else limiter,
            on_write=self._on_write if isinstance(on_write, _Keep) else on_write,
            request_timeout_s=self._request_timeout_s,
            permissions=self._permissions if isinstance(permissions, _Keep) else permissions,
            guard=self._guard if isinstance(guard, _Keep) else guard,
        )

    async def get(self, resource: Resource, name: str, *, namespace: str = "") -> dict[str, Any]:
        """The object as it is now."""
        call = _Call("get", resource, namespace, name)
        return _decode(await self._send("GET", call), call)

    async def list_page(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        limit: int = 500,
        continue_token: str = "",
        resource_version: str = "",
        resource_version_match: str = "",
        label_selector: str = "",
        field_selector: str = "",
    ) -> bytes:
        """One page of a list as the server sent it; `limit` 0 asks for everything at once."""
        query = _query(
            limit=str(limit) if limit else "",
            # The server takes selectors and versions from the token and refuses some of them next to it.
            resourceVersion="" if continue_token else resource_version,
            resourceVersionMatch="" if continue_token else resource_version_match,
            labelSelector=label_selector,
            fieldSelector=field_selector,
            **{"continue": continue_token},
        )
        return (await self._send("GET", _Call("list", resource, namespace), query=query)).body

    @asynccontextmanager
    async def _open_watch(
        self, call: _Call, query: Sequence[tuple[str, str]], idle_timeout_s: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        try:
            async with self._session.stream(call.path(), query=query, idle_timeout_s=idle_timeout_s) as answer:
                if answer.status != 200:
                    raise call.error(answer.status, await answer.read(), answer.headers)
                yield answer.lines()
        except UnreachableError as error:
            call.label(error)
            raise

    def watch(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        resource_version: str = "",
        resource_version_match: str = "",
        send_initial_events: bool = False,
        bookmarks: bool = True,
        timeout_s: float = 300,
        idle_timeout_s: float,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The lines of a watch. Opening it raises KubeError; a break or a silence raises UnreachableError.

        Args:
            resource: what to watch.
            namespace: only there; empty for all.
            resource_version: version after which to begin; empty for what the server has now.
            resource_version_match: `NotOlderThan` with `send_initial_events`.
            send_initial_events: whether the present objects come first, ended by a marked bookmark.
            bookmarks: whether the server may tell versions without changes.
            timeout_s: when the server is asked to end the watch.
            idle_timeout_s: longest silence.
            label_selector: only objects with these labels.
            field_selector: only objects with these fields.
        """
        query = _query(
            watch="true",
            allowWatchBookmarks="true" if bookmarks else "",
            resourceVersion=resource_version,
            resourceVersionMatch=resource_version_match,
            sendInitialEvents="true" if send_initial_events else "",
            timeoutSeconds=str(max(1, round(timeout_s))),
            labelSelector=label_selector,
            fieldSelector=field_selector,
        )
        return self._open_watch(_Call("watch", resource, namespace), query, idle_timeout_s)

    async def create(self, resource: Resource, body: Mapping[str, Any], *, namespace: str = "") -> dict[str, Any]:
        """The object as stored; raises AlreadyExistsError when its name is taken."""
        name = str((body.get("metadata") or {}).get("name") or "")
        call = _Call("create", resource, namespace, name, collection=True)
        return await self._write("POST", call, body)

    async def update(self, resource: Resource, body: Mapping[str, Any]) -> dict[str, Any]:
        """PUT of a whole object as it was just read; raises ConflictError when it changed since."""
        meta = body.get("metadata") or {}
        call = _Call("update", resource, str(meta.get("namespace") or ""), str(meta.get("name") or ""))
        return await self._write("PUT", call, body)

    async def patch(
        self,
        resource: Resource,
        name: str,
        body: Mapping[str, Any] | Sequence[Any],
        *,
        namespace: str = "",
        subresource: str = "",
        patch_type: PatchType = PatchType.MERGE,
    ) -> dict[str, Any]:
        """The object after the patch; a sequence is sent as a JSON patch, a mapping as `patch_type`."""
        if not isinstance(body, Mapping):
            patch_type = PatchType.JSON
        call = _Call("patch", resource, namespace, name, subresource)
        return await self._write("PATCH", call, body, patch_type.value)

    async def delete(self, resource: Resource, name: str, *, namespace: str = "", uid: str = "") -> dict[str, Any]:
        """The server's answer: the object, or a Status. With `uid` only that very object (else ConflictError)."""
        call = _Call("delete", resource, namespace, name)
        options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if uid:
            options["preconditions"] = {"uid": uid}
        return await self._write("DELETE", call, options)

    async def raw_get(self, path: str) -> dict[str, Any]:
        """The JSON at any path, such as ``/version``."""
        call = _Call("get", None, name=path)
        return _decode(await self._send("GET", call, path=path), call)

    async def _write(
        self, method: str, call: _Call, body: Any, content_type: str = "application/json"
    ) -> dict[str, Any]:
        try:
            response = await self._send(method, call, body=encode(body), headers={"Content-Type": content_type})
        except KubeError as error:
            if self._permissions is not None:
                self._permissions.answered(call.verb, call.resource_name, error)
            raise
        if self._permissions is not None:
            self._permissions.answered(call.verb, call.resource_name, None)
        answer = _decode(response, call)
        if self._on_write is not None and call.resource is not None:
            self._on_write(_as_write(call, call.resource, answer))
        return answer

    async def _send(
        self,
        method: str,
        call: _Call,
        *,
        path: str = "",
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes | None = None,
    ) -> Response:
        path = path or call.path()
        if self._limiter is not None:
            await self._limiter.wait()
        if self._guard is not None:
            self._guard()
        try:
            answer = await self._session.request(
                method, path, query=query, headers=headers, body=body, timeout_s=self._request_timeout_s
            )
        except UnreachableError as error:
            call.label(error)
            raise
        if not 200 <= answer.status < 300:
            raise call.error(answer.status, answer.body, answer.headers)
        return answer


class _Call:
    """What one request is about: its path, and the words for its errors."""

    def __init__(
        self,
        verb: str,
        resource: Resource | None,
        namespace: str = "",
        name: str = "",
        subresource: str = "",
        *,
        collection: bool = False,
    ) -> None:
        self.verb = verb
        self.resource = resource
        self.namespace = namespace
        self.name = name
        self.subresource = subresource
        self._on_collection = collection or verb in ("list", "watch")

    @property
    def resource_name(self) -> str:
        if self.resource is None:
            return ""
        return f"{self.resource.full_name}/{self.subresource}" if self.subresource else self.resource.full_name

    @property
    def _object_name(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace and self.name else self.name

    def path(self) -> str:
        if self.resource is None:
            return self.name
        if self._on_collection:
            return self.resource.path(namespace=self._segment(self.namespace, "namespace", may_be_empty=True))
        if self.resource.namespaced and not self.namespace:
            raise self._invalid(f"a request for one of the {self.resource.plural} needs a namespace")
        return self.resource.path(
            namespace=self._segment(self.namespace, "namespace", may_be_empty=not self.resource.namespaced),
            name=self._segment(self.name, "name"),
            subresource=self.subresource,
        )

    def error(self, status: int, body: bytes, headers: Mapping[str, str]) -> KubeError:
        return decode_error(
            status, body, headers=headers, verb=self.verb, resource=self.resource_name, name=self._object_name
        )

    def label(self, error: KubeError) -> None:
        """Say in an error of the session, which knows no resources, what the request was about."""
        if not error.verb:
            error.verb, error.resource, error.name = self.verb, self.resource_name, self._object_name

    def _segment(self, text: str, what: str, *, may_be_empty: bool = False) -> str:
        # Names come from objects that users write; none of them may become another path.
        # Source: Kubernetes apimachinery pkg/api/validation/path/name.go, IsValidPathSegmentName.
        if (not text and not may_be_empty) or text in (".", "..") or "/" in text or "%" in text:
            raise self._invalid(f"invalid {what} {text!r} in a request for {self.resource_name}")
        return quote(text, safe=":")

    def _invalid(self, message: str) -> InvalidError:
        return InvalidError(message, verb=self.verb, resource=self.resource_name, name=self._object_name)


def _query(**values: str) -> list[tuple[str, str]]:
    return [(name, value) for name, value in values.items() if value]


def _decode(answer: Response, call: _Call) -> dict[str, Any]:
    try:
        return msgspec.json.decode(answer.body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        text = f"the API server's answer is no JSON object ({error}): {_excerpt(answer.body)}"
        failure = KubeError(text, status=answer.status)
        call.label(failure)
        raise failure from error


def _as_write(call: _Call, resource: Resource, answer: Mapping[str, Any]) -> Write:
    meta = answer.get("metadata") or {}
    if call.verb == "delete" and answer.get("kind") == "Status":
        details = answer.get("details") or {}
        uid, version, removed = str(details.get("uid") or ""), "", True
    else:
        uid, version = str(meta.get("uid") or ""), str(meta.get("resourceVersion") or "")
        doomed = call.verb == "delete" or bool(meta.get("deletionTimestamp"))
        removed = doomed and not meta.get("finalizers")
    return Write(
        resource=resource,
        namespace=call.namespace or str(meta.get("namespace") or ""),
        name=call.name or str(meta.get("name") or ""),
        uid=uid,
        resource_version=version,
        removed=removed,
    )


def _parse_status(body: bytes | msgspec.Raw) -> _Status:
    try:
        status = msgspec.json.decode(body, type=_Status, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Status()
    return status if status.kind == "Status" else _Status()


def _retry_after(headers: Mapping[str, str], status: _Status) -> float | None:
    value = headers.get("Retry-After") or headers.get("retry-after") or ""
    if re.fullmatch(r"[0-9]{1,6}(\.[0-9]+)?", value.strip()):
        return float(value)
    if status.details is not None and status.details.retry_after_seconds > 0:
        return float(status.details.retry_after_seconds)
    return None


def _excerpt(body: bytes) -> str:
    text = " ".join(body[: 4 * _EXCERPT].decode("utf-8", "replace").split())
    return (text[:_EXCERPT] + "…" if len(text) > _EXCERPT else text) or "an empty body"
