"""One request from its first byte to its audit line: who, what, may they, what goes wrong, the answer.

What the verbs do to resources is in `verbs`; what the server says about itself in `discovery` and `openapi`.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from typing import TYPE_CHECKING, Any

import yaml
from aiohttp import web

from csisidecar.clock import Clock, rfc3339_micro
from csisidecar.errors import ConfigError
from csisidecar.testing.apiserver import discovery, openapi, openapi_protobuf
from csisidecar.testing.apiserver.audit import AuditLog, AuditRecord
from csisidecar.testing.apiserver.rbac import ADMIN, ANONYMOUS, Question, Roles, User, denial
from csisidecar.testing.apiserver.requests import Form, Target, find_target, negotiate
from csisidecar.testing.apiserver.status import (
    Refusal,
    conflict,
    expired,
    forbidden,
    internal_error,
    no_such_path,
    server_error,
    too_large_entity,
    too_many_requests,
    unauthorized,
)
from csisidecar.testing.apiserver.store import encode
from csisidecar.testing.apiserver.verbs import Call, Verbs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from csisidecar.testing.apiserver.registry import Registry
    from csisidecar.testing.apiserver.troubles import Trouble, Troubles

_LOG = logging.getLogger(__name__)
_WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_HEALTH = frozenset({"/healthz", "/readyz", "/livez"})
_TROUBLE_PATH = "/_csisidecar/trouble"
_COMPACT_PATH = "/_csisidecar/compact"
_DISCOVERY_SHAPES = {"APIGroupDiscoveryList": "apidiscovery.k8s.io"}


class Handler:
    """Answers every request of one server."""

    def __init__(
        self,
        registry: Registry,
        *,
        clock: Clock,
        roles: Roles,
        troubles: Troubles,
        audit: AuditLog,
        token: str,
        is_token_required: bool,
        bookmark_every_s: float,
        host: str,
    ) -> None:
        self.registry = registry
        self.clock = clock
        self.roles = roles
        self.troubles = troubles
        self.audit = audit
        self.host = host
        self._token = token
        self._is_token_required = is_token_required
        self._closing = asyncio.Event()
        self._waiting: set[asyncio.Event] = set()
        self.verbs = Verbs(
            registry,
            clock=clock,
            troubles=troubles,
            roles=roles,
            bookmark_every_s=bookmark_every_s,
            is_closing=self._closing.is_set,
        )
        troubles.on_change = self.wake

    def wake(self) -> None:
        """Let everything that waits look again."""
        for table in self.registry.store.tables.values():
            table.wake()
        for event in self._waiting:
            event.set()

    def close(self) -> None:
        """End open watches and whatever an order holds back."""
        self._closing.set()
        self.wake()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request."""
        started = self.clock.monotonic()
        record = AuditRecord(
            time=rfc3339_micro(self.clock.now()),
            verb=request.method.lower(),
            resource="",
            path=request.path,
            user_agent=request.headers.get("User-Agent", ""),
            query=dict(request.query),
        )
        call = Call(request=request, record=record)
        try:
            response = await self._guarded(call)
        finally:
            record.duration_ms = round((self.clock.monotonic() - started) * 1000, 3)
            if not call.is_recorded and not request.path.startswith("/_csisidecar/"):
                self.audit.add(record)
        return response

    async def _guarded(self, call: Call) -> web.StreamResponse:
        try:
            response = await self._answer(call)
        except Refusal as refusal:
            response = self._refused(refusal)
        except web.HTTPRequestEntityTooLarge:
            response = self._refused(too_large_entity("Request entity too large: limit is 3145728"))
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - the one attempt a request is; a client must get an answer
            _LOG.exception("request failed", extra={"method": call.request.method, "path": call.request.path})
            response = self._refused(internal_error(f"{type(error).__name__}: {error}"))
        if not call.is_dropped:
            call.record.code = response.status
        for text in call.warnings:
            quoted = text.replace("\\", "\\\\").replace('"', '\\"')
            if not response.prepared:
                response.headers.add("Warning", f'299 - "{quoted}"')
        return response

    @staticmethod
    def _refused(refusal: Refusal) -> web.Response:
        body = encode(refusal.body()) + b"\n"
        return web.Response(
            status=refusal.code, body=body, content_type="application/json", headers=refusal.headers or None
        )

    async def _answer(self, call: Call) -> web.StreamResponse:
        request = call.request
        path = request.path
        if path.startswith("/_csisidecar/"):
            return await self._control(request)
        if path in _HEALTH or path.startswith(("/healthz/", "/readyz/", "/livez/")):
            return web.Response(text="ok")
        user = self._user(request)
        call.user = user
        call.record.user = user.name
        target = find_target(self.registry.store.kinds, request.method, path, request.query)
        if target is None:
            question = Question(verb=request.method.lower(), path=path)
            if not self.roles.allows(user, question):
                why = denial(user, question)
                raise Refusal(403, "Forbidden", f"forbidden: {why}", details={})
            return self._about_server(request)
        record = call.record
        record.verb, record.resource = target.verb, target.resource
        record.namespace, record.name, record.watch = target.namespace, target.name, target.verb == "watch"
        trouble = self._strike(target)
        if trouble is not None:
            disturbed = await self._disturb(call, target, trouble)
            if disturbed is not None:
                return disturbed
        self._authorize(user, target)
        call.record_now = lambda: self._record_watch(call)
        response = await self.verbs.answer(call, target, trouble)
        if trouble is not None and trouble.kind == "lost":
            return self._drop(call)
        return response

    def _record_watch(self, call: Call) -> None:
        call.is_recorded = True
        call.record.code = 200
        self.audit.add(call.record)

    def _user(self, request: web.BaseRequest) -> User:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else ""
        if given and self._token and hmac.compare_digest(given.encode(), self._token.encode()):
            return User.named(ADMIN)
        if self.roles.enforced:
            return User.named(given or ANONYMOUS)
        if self._is_token_required:
            raise unauthorized()
        return User.named(ADMIN)

    def _authorize(self, user: User, target: Target) -> None:
        if not self.roles.enforced:
            return
        name = target.name
        question = Question(
            verb=target.verb,
            group=target.spec.group,
            resource=target.rbac_resource,
            namespace=target.namespace if target.spec.namespaced else "",
            name=name,
        )
        if not self.roles.allows(user, question):
            raise forbidden(target.spec, name, denial(user, question))

    def _strike(self, target: Target) -> Trouble | None:
        if not len(self.troubles):
            return None
        kinds = {"drop", "delay", "halfopen", "conflict", "gone", "throttle", "error"}
        if target.verb in _WRITES:
            kinds.add("lost")
        if target.verb == "list":
            kinds.add("stale")
        return self.troubles.strike(target.verb, target.resource, frozenset(kinds))

    async def _disturb(self, call: Call, target: Target, trouble: Trouble) -> web.StreamResponse | None:
        """Carry out an order before the request; None lets the request go on."""
        kind = trouble.kind
        if kind == "drop":
            return self._drop(call)
        if kind == "delay":
            await self._wait(trouble, trouble.argument or 0.0)
        elif kind == "halfopen":
            await self._wait(trouble, None)
            return self._drop(call)
        elif kind == "conflict":
            raise conflict(target.spec, target.name)
        elif kind == "gone":
            raise expired("too old resource version: 1 (2)")
        elif kind == "throttle":
            raise too_many_requests(int(trouble.argument or 1))
        elif kind == "error":
            raise server_error(int(trouble.argument or 500))
        return None

    async def _wait(self, trouble: Trouble, seconds: float | None) -> None:
        """Until the time is up, the order is taken back, or the server stops."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            async with asyncio.timeout(seconds):
                while self.troubles.holds(trouble) and not self._closing.is_set():
                    event.clear()
                    await event.wait()
        except TimeoutError:
            return
        finally:
            self._waiting.discard(event)

    @staticmethod
    def _drop(call: Call) -> web.Response:
        """Break the connection off without an answer."""
        call.is_dropped = True
        transport = call.request.transport
        if transport is not None:
            transport.abort()
        return web.Response()

    async def _control(self, request: web.BaseRequest) -> web.Response:
        """Orders for external programs; no part of the Kubernetes API."""
        path = request.path.rstrip("/")
        if path == _COMPACT_PATH and request.method == "POST":
            self.registry.store.compact(int(request.query.get("keep", "0")))
            return web.json_response({"revision": self.registry.store.revision})
        if not path.startswith(_TROUBLE_PATH):
            return _not_found()
        number = path.removeprefix(_TROUBLE_PATH).strip("/")
        if request.method == "POST":
            added = [self.troubles.add(order) for order in _orders(await request.text(), self.troubles)]
            return web.json_response([_shown(trouble) for trouble in added], status=201)
        if request.method == "DELETE":
            if not number:
                self.troubles.clear()
            for trouble in list(self.troubles):
                if str(trouble.number) == number:
                    self.troubles.remove(trouble)
        return web.json_response([_shown(trouble) for trouble in self.troubles])

    def _about_server(self, request: web.BaseRequest) -> web.Response:
        path = request.path.rstrip("/") or "/"
        if request.method not in {"GET", "HEAD"}:
            return _not_found()
        kinds = self.registry.store.kinds
        if path in {"/api", "/apis"}:
            form = negotiate(request.headers.get("Accept", ""), shapes=_DISCOVERY_SHAPES)
            if form.shape and form.version in {"v2", "v2beta1"}:
                body = discovery.aggregated(kinds, core=path == "/api", version=form.version)
                media = f"application/json;g=apidiscovery.k8s.io;v={form.version};as=APIGroupDiscoveryList"
                return web.Response(body=encode(body), headers={"Content-Type": media})
            return _json(discovery.core_versions(self.host) if path == "/api" else discovery.group_list(kinds))
        if path == "/version":
            return _json(discovery.VERSION)
        if path == "/openapi/v2":
            document_v2 = openapi.v2(kinds)
            if openapi_protobuf.is_asked_for(request.headers.get("Accept", "")):
                served_as = {"Content-Type": openapi_protobuf.MEDIA_TYPE}
                return web.Response(body=openapi_protobuf.encode(document_v2), headers=served_as)
            return web.Response(body=encode(document_v2), content_type="application/json")
        if path == "/openapi/v3":
            return _json(openapi.v3_index(kinds))
        if path.startswith("/openapi/v3/"):
            document = openapi.v3(kinds, path.removeprefix("/openapi/v3/"))
            return _not_found() if document is None else web.Response(body=document, content_type="application/json")
        if path == "/":
            return _json(
                {
                    "paths": [
                        "/api",
                        "/api/v1",
                        "/apis",
                        "/healthz",
                        "/livez",
                        "/openapi/v2",
                        "/openapi/v3",
                        "/readyz",
                        "/version",
                    ]
                }
            )
        parts = [part for part in path.split("/") if part]
        versions = kinds.groups()
        if len(parts) > 2 and parts[0] == "api" and parts[1] in versions[""]:
            raise no_such_path()
        if len(parts) > 3 and parts[0] == "apis" and parts[1] in versions:
            raise no_such_path()
        found = self._discovered([part for part in path.split("/") if part])
        return _not_found() if found is None else _json(found)

    def _discovered(self, parts: list[str]) -> dict[str, Any] | None:
        kinds = self.registry.store.kinds
        if len(parts) == 2 and parts[0] == "api":
            return discovery.resource_list(kinds, "", parts[1])
        if len(parts) == 2 and parts[0] == "apis":
            return discovery.group(kinds, parts[1])
        if len(parts) == 3 and parts[0] == "apis":
            return discovery.resource_list(kinds, parts[1], parts[2])
        return None


def _json(value: Mapping[str, Any]) -> web.Response:
    return web.Response(body=encode(value), content_type="application/json")


def _not_found() -> web.Response:
    return web.Response(status=404, text="404 page not found\n")


def _orders(text: str, troubles: Troubles) -> list[str]:
    """The orders in a POST: plain lines, a JSON string, a JSON list, or ``{"order": …}``."""
    text = text.strip()
    try:
        value = json.loads(text) if text[:1] in {"[", "{", '"'} else text.splitlines()
    except ValueError as error:
        raise Refusal(400, "BadRequest", f"no JSON: {error}") from error
    if isinstance(value, dict):
        value = value.get("order", "")
    orders = [value] if isinstance(value, str) else [str(item) for item in value]
    try:
        for order in orders:
            troubles.parse(order)
    except ConfigError as error:
        raise Refusal(400, "BadRequest", str(error)) from error
    return orders


def _shown(trouble: Trouble) -> dict[str, Any]:
    return {"number": trouble.number, "order": str(trouble), "struck": trouble.struck, "spent": trouble.is_spent}


def render(body: bytes, form: Form) -> tuple[bytes, str]:
    """A JSON body in the form asked for, with its content type."""
    if form.media == "application/yaml":
        return yaml.safe_dump(json.loads(body), sort_keys=False).encode(), form.media
    return body, "application/json"
