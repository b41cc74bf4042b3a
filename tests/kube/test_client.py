"""What the client asks for, and what it makes of every kind of answer. The session is a stand-in in memory."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.clock import SystemClock
from csisidecar.config import RateConfig
from csisidecar.errors import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    KubeError,
    LeaseLostError,
    NotFoundError,
    ThrottledError,
    UnreachableError,
)
from csisidecar.kube import (
    EVENTS,
    LEASES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    VOLUME_ATTACHMENTS,
    KubeClient,
    LineReader,
    PatchType,
    RateLimiter,
    Response,
    Write,
    decode_error,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: Any
    limit_s: float


@dataclass
class Stream:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    breaks: bool = False

    def lines(self) -> AsyncIterator[bytes]:
        return LineReader(self._chunk)

    async def read(self) -> bytes:
        return self.body

    async def _chunk(self) -> bytes:
        chunk, self.body = self.body, b""
        if not chunk and self.breaks:
            raise UnreachableError("cut")
        return chunk


class Session:
    """Answers with what it was given, and remembers what was asked."""

    def __init__(self, answer: Any = None, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        body = answer if isinstance(answer, bytes) else json.dumps(answer or {}).encode()
        self.answer = Response(status=status, headers=headers or {}, body=body)
        self.failure: UnreachableError | None = None
        self.breaks = False
        self.asked: list[Asked] = []

    @property
    def last(self) -> Asked:
        return self.asked[-1]

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] = {},
        body: bytes | None = None,
        timeout_s: float,
    ) -> Response:
        self.asked.append(Asked(method, path, dict(query), headers, json.loads(body) if body else None, timeout_s))
        if self.failure is not None:
            raise self.failure
        return self.answer

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] = {},
        idle_timeout_s: float,
    ) -> AsyncIterator[Stream]:
        self.asked.append(Asked("STREAM", path, dict(query), headers, None, idle_timeout_s))
        if self.failure is not None:
            raise self.failure
        yield Stream(self.answer.status, self.answer.body, self.answer.headers, self.breaks)


def status(reason: str, message: str, **details: Any) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "reason": reason, "message": message, "details": details}


async def test_paths_follow_group_namespace_name_and_subresource() -> None:
    session = Session({"metadata": {}})
    client = KubeClient(session, request_timeout_s=7)
    await client.get(PERSISTENT_VOLUMES, "pv-1")
    await client.get(PERSISTENT_VOLUME_CLAIMS, "c", namespace="ns")
    await client.patch(VOLUME_ATTACHMENTS, "csi-1", {"status": {}}, subresource="status")
    await client.create(LEASES, {"metadata": {"name": "x"}}, namespace="ns")
    await client.update(LEASES, {"metadata": {"name": "x", "namespace": "ns"}})
    await client.list_page(PERSISTENT_VOLUME_CLAIMS)
    await client.raw_get("/version")
    assert [(a.method, a.path) for a in session.asked] == [
        ("GET", "/api/v1/persistentvolumes/pv-1"),
        ("GET", "/api/v1/namespaces/ns/persistentvolumeclaims/c"),
        ("PATCH", "/apis/storage.k8s.io/v1/volumeattachments/csi-1/status"),
        ("POST", "/apis/coordination.k8s.io/v1/namespaces/ns/leases"),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/ns/leases/x"),
        ("GET", "/api/v1/persistentvolumeclaims"),
        ("GET", "/version"),
    ]
    assert {a.limit_s for a in session.asked} == {7}


async def test_patch_types_are_content_types_and_a_list_is_a_json_patch() -> None:
    session = Session({"metadata": {}})
    client = KubeClient(session)
    for body, kind in (
        ({"a": 1}, PatchType.MERGE),
        ({"a": 1}, PatchType.STRATEGIC),
        ([{"op": "remove", "path": "/a"}], PatchType.MERGE),
    ):
        await client.patch(PERSISTENT_VOLUMES, "pv", body, patch_type=kind)
    assert [a.headers["Content-Type"] for a in session.asked] == [
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        "application/json-patch+json",
    ]


async def test_list_page_gives_the_raw_body_and_a_token_goes_without_version() -> None:
    session = Session(b'{"items": []}  ')
    client = KubeClient(session)
    body = await client.list_page(PERSISTENT_VOLUMES, resource_version="0", label_selector="a=b", field_selector="c=d")
    assert body == b'{"items": []}  '
    assert session.last.query == {
        "limit": "500",
        "resourceVersion": "0",
        "labelSelector": "a=b",
        "fieldSelector": "c=d",
    }
    await client.list_page(PERSISTENT_VOLUMES, continue_token="t", resource_version="5", limit=0)
    assert session.last.query == {"continue": "t"}


async def test_watch_asks_for_what_was_named_and_gives_lines() -> None:
    session = Session(b'{"type":"ADDED"}\n{"type":"BOOKMARK"}\n')
    client = KubeClient(session)
    opening = client.watch(
        PERSISTENT_VOLUMES,
        resource_version="4",
        resource_version_match="NotOlderThan",
        send_initial_events=True,
        timeout_s=42.4,
        idle_timeout_s=3,
    )
    async with opening as lines:
        assert [line async for line in lines] == [b'{"type":"ADDED"}', b'{"type":"BOOKMARK"}']
    assert session.last.query == {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": "4",
        "resourceVersionMatch": "NotOlderThan",
        "sendInitialEvents": "true",
        "timeoutSeconds": "42",
    }
    assert session.last.limit_s == 3


async def test_watch_that_is_refused_raises_on_opening() -> None:
    session = Session(status("Expired", "too old resource version: 1 (9)"), 410)
    with pytest.raises(GoneError, match="too old") as caught:
        async with KubeClient(session).watch(PERSISTENT_VOLUMES, idle_timeout_s=1):
            pytest.fail("the watch was refused")
    assert (caught.value.verb, caught.value.resource, caught.value.status) == ("watch", "persistentvolumes", 410)


async def test_watch_that_breaks_says_what_was_watched() -> None:
    session = Session(b'{"type":"ADDED"}\n')
    session.breaks = True

    async def read() -> list[bytes]:
        async with KubeClient(session).watch(VOLUME_ATTACHMENTS, idle_timeout_s=1) as lines:
            return [line async for line in lines]

    with pytest.raises(UnreachableError, match="cut") as caught:
        await read()
    assert (caught.value.verb, caught.value.resource) == ("watch", "volumeattachments.storage.k8s.io")


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (403, "Forbidden", ForbiddenError),
        (404, "NotFound", NotFoundError),
        (409, "Conflict", ConflictError),
        (409, "AlreadyExists", AlreadyExistsError),
        (410, "Expired", GoneError),
        (422, "Invalid", InvalidError),
        (429, "TooManyRequests", ThrottledError),
        (500, "InternalError", KubeError),
        (503, "ServiceUnavailable", KubeError),
        (400, "BadRequest", KubeError),
    ],
)
async def test_statuses_become_errors_with_the_servers_text(code: int, reason: str, kind: type[KubeError]) -> None:
    session = Session(status(reason, "the text"), code)
    with pytest.raises(KubeError) as caught:
        await KubeClient(session).patch(VOLUME_ATTACHMENTS, "va", {}, subresource="status")
    error = caught.value
    assert type(error) is kind
    assert str(error) == "the text"
    assert (error.verb, error.resource, error.name) == ("patch", "volumeattachments.storage.k8s.io/status", "va")
    assert (error.status, error.reason) == (code, reason)


async def test_forbidden_request_names_the_missing_rule() -> None:
    with pytest.raises(ForbiddenError) as caught:
        await KubeClient(Session(status("Forbidden", "no"), 403)).patch(
            VOLUME_ATTACHMENTS, "v", {}, subresource="status"
        )
    rule = '{apiGroups: ["storage.k8s.io"], resources: ["volumeattachments/status"], verbs: ["patch"]}'
    assert caught.value.missing_rule == rule


@pytest.mark.parametrize(
    ("code", "headers", "body", "kind", "after_s"),
    [
        (429, {}, {}, ThrottledError, 1.0),
        (429, {"Retry-After": "7"}, {}, ThrottledError, 7.0),
        (429, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, {}, ThrottledError, 1.0),
        (429, {"Retry-After": "nan"}, {}, ThrottledError, 1.0),
        (503, {"Retry-After": "3"}, {}, ThrottledError, 3.0),
        (503, {}, status("ServiceUnavailable", "x", retryAfterSeconds=4), ThrottledError, 4.0),
        (503, {}, {}, KubeError, None),
        (500, {"Retry-After": "3"}, {}, KubeError, 3.0),
    ],
)
def test_servers_wish_to_wait_is_kept(
    code: int, headers: dict[str, str], body: dict[str, Any], kind: type[KubeError], after_s: float | None
) -> None:
    error = decode_error(code, json.dumps(body).encode(), headers=headers)
    assert (type(error), error.retry_after_s) == (kind, after_s)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"404 page not found\n", "answered 404: 404 page not found"),
        (b"", "answered 404: an empty body"),
        (b"\xff\xfe", "answered 404: "),
        (b"<html>" + b"x" * 5000, "…"),
        (b'{"kind": "Other", "message": "no status"}', "no status"),
        (b'{"kind": "Status", "message": 5}', "answered 404"),
        (b'["a"]', "answered 404"),
    ],
)
def test_answers_that_are_no_status_are_quoted_in_short(body: bytes, says: str) -> None:
    text = str(decode_error(404, body))
    assert says in text
    assert len(text) < 300


def test_refused_credentials_are_said_clearly() -> None:
    error = decode_error(401, json.dumps(status("Unauthorized", "Unauthorized")).encode())
    assert "credentials" in str(error)
    assert "--kubeconfig" in str(error)


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b'"x"', b'{"a": '])
async def test_success_without_a_json_object_is_an_error(body: bytes) -> None:
    with pytest.raises(KubeError, match="no JSON object"):
        await KubeClient(Session(body)).get(PERSISTENT_VOLUMES, "pv")


async def test_no_answer_says_what_was_asked() -> None:
    session = Session()
    session.failure = UnreachableError("refused")
    with pytest.raises(UnreachableError, match="refused") as caught:
        await KubeClient(session).delete(PERSISTENT_VOLUME_CLAIMS, "c", namespace="ns")
    assert (caught.value.verb, caught.value.resource, caught.value.name) == ("delete", "persistentvolumeclaims", "ns/c")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../secrets", "a%2fb"])
async def test_name_that_would_be_another_path_is_never_sent(name: str) -> None:
    session = Session({})
    with pytest.raises(InvalidError, match="invalid name"):
        await KubeClient(session).get(PERSISTENT_VOLUMES, name)
    assert session.asked == []


async def test_object_of_a_namespace_is_not_asked_for_without_one() -> None:
    session = Session({})
    with pytest.raises(InvalidError, match="needs a namespace"):
        await KubeClient(session).get(PERSISTENT_VOLUME_CLAIMS, "c")
    assert session.asked == []


async def test_odd_names_are_quoted() -> None:
    session = Session({})
    await KubeClient(session).get(PERSISTENT_VOLUMES, "a b?c#d:e")
    assert session.last.path.endswith("/a%20b%3Fc%23d:e")


def obj(version: str = "9", **meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": "n", "namespace": "ns", "uid": "u", "resourceVersion": version, **meta}}


async def writes_of(answer: dict[str, Any], verb: str) -> list[Write]:
    seen: list[Write] = []
    client = KubeClient(Session(answer), on_write=seen.append)
    if verb == "create":
        await client.create(EVENTS, {"metadata": {"generateName": "n"}}, namespace="ns")
    elif verb == "patch":
        await client.patch(EVENTS, "n", {}, namespace="ns")
    elif verb == "update":
        await client.update(EVENTS, {"metadata": {"name": "n", "namespace": "ns"}})
    else:
        await client.delete(EVENTS, "n", namespace="ns", uid="u")
    return seen


@pytest.mark.parametrize("verb", ["create", "update", "patch"])
async def test_write_is_told_with_the_version_of_the_answer(verb: str) -> None:
    assert await writes_of(obj(), verb) == [
        Write(resource=EVENTS, namespace="ns", name="n", uid="u", resource_version="9", removed=False)
    ]


@pytest.mark.parametrize(
    ("verb", "answer", "removed"),
    [
        ("patch", obj(deletionTimestamp="t", finalizers=["f"]), False),
        ("patch", obj(deletionTimestamp="t", finalizers=[]), True),
        ("patch", obj(deletionTimestamp="t"), True),
        ("delete", obj(), True),
        ("delete", obj(deletionTimestamp="t", finalizers=["f"]), False),
        ("delete", {"kind": "Status", "status": "Success", "details": {"uid": "u"}}, True),
    ],
)
async def test_removal_is_told_when_no_finalizer_holds_the_object(
    verb: str, answer: dict[str, Any], removed: bool
) -> None:
    (write,) = await writes_of(answer, verb)
    assert (write.name, write.uid, write.removed) == ("n", "u", removed)


async def test_reads_and_failures_are_no_writes() -> None:
    seen: list[Write] = []
    client = KubeClient(Session(obj()), on_write=seen.append)
    await client.get(EVENTS, "n", namespace="ns")
    await client.list_page(EVENTS)
    failing = KubeClient(Session(status("Conflict", "x"), 409), on_write=seen.append)
    with pytest.raises(ConflictError):
        await failing.update(EVENTS, obj())
    assert seen == []


async def test_delete_of_one_very_object_carries_its_uid() -> None:
    session = Session(obj())
    await KubeClient(session).delete(PERSISTENT_VOLUMES, "n", uid="u")
    assert session.last.body["preconditions"] == {"uid": "u"}
    await KubeClient(session).delete(PERSISTENT_VOLUMES, "n")
    assert "preconditions" not in session.last.body


async def test_derived_client_shares_the_session_and_changes_only_what_is_given() -> None:
    session, one, two = Session(obj()), list[Write](), list[Write]()
    base = KubeClient(session, on_write=one.append, request_timeout_s=3)
    await base.derive().patch(EVENTS, "n", {}, namespace="ns")
    await base.derive(on_write=two.append).patch(EVENTS, "n", {}, namespace="ns")
    await base.derive(on_write=None).patch(EVENTS, "n", {}, namespace="ns")
    assert (len(one), len(two), len(session.asked)) == (1, 1, 3)
    assert session.last.limit_s == 3


async def test_guarded_client_sends_nothing_once_its_lease_is_over() -> None:
    def guard() -> None:
        raise LeaseLostError("not started")

    session = Session(obj())
    with pytest.raises(LeaseLostError):
        await KubeClient(session, guard=guard).patch(EVENTS, "n", {}, namespace="ns")
    with pytest.raises(LeaseLostError):
        await KubeClient(session).derive(guard=guard).get(EVENTS, "n", namespace="ns")
    assert session.asked == []


@pytest.mark.looptime
async def test_requests_wait_for_the_limiter_and_watches_do_not() -> None:
    limiter = RateLimiter(RateConfig(qps=1, burst=1), SystemClock())
    client = KubeClient(Session(obj()), limiter=limiter)
    loop = asyncio.get_running_loop()
    for _ in range(3):
        await client.get(PERSISTENT_VOLUMES, "n")
    assert loop.time() == pytest.approx(2)
    async with client.watch(PERSISTENT_VOLUMES, idle_timeout_s=1):
        assert loop.time() == pytest.approx(2)
    await client.derive(limiter=None).get(PERSISTENT_VOLUMES, "n")
    assert loop.time() == pytest.approx(2)
