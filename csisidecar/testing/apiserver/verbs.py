"""What each verb does to a resource over HTTP: from a target and a body to an answer.

The rules of writing live in `registry`; this file reads options, picks the form of the answer and streams watches.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from csisidecar.clock import Clock, rfc3339
from csisidecar.testing.apiserver import apply, discovery, reviews
from csisidecar.testing.apiserver.answers import Answer, MetadataOnly, Rows, WholeObjects
from csisidecar.testing.apiserver.bodies import (
    APPLY_PATCH,
    JSON_PATCH,
    STRATEGIC_PATCH,
    read_object,
    read_options,
    read_patch,
)
from csisidecar.testing.apiserver.listing import ListOptions, page
from csisidecar.testing.apiserver.patching import json_patch, merge_patch
from csisidecar.testing.apiserver.rbac import Roles, User
from csisidecar.testing.apiserver.registry import DeleteOptions, Registry, WriteOptions, collection_targets
from csisidecar.testing.apiserver.requests import Form, Target, negotiate
from csisidecar.testing.apiserver.schema import root_type
from csisidecar.testing.apiserver.status import (
    Cause,
    Refusal,
    bad_request,
    forbidden_field,
    invalid,
    invalid_options,
    method_not_allowed,
    no_such_path,
    success,
    too_large,
    too_long,
    unsupported,
)
from csisidecar.testing.apiserver.store import Stored, encode
from csisidecar.testing.apiserver.strategic import strategic_patch
from csisidecar.testing.apiserver.watching import CutShort, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from csisidecar.testing.apiserver.audit import AuditRecord
    from csisidecar.testing.apiserver.kinds import KindSpec
    from csisidecar.testing.apiserver.troubles import Trouble, Troubles

_OBJECT_SHAPES = {
    "Table": "meta.k8s.io",
    "PartialObjectMetadata": "meta.k8s.io",
    "PartialObjectMetadataList": "meta.k8s.io",
}
_MIN_WATCH_S = 1800.0
_MAX_MANAGER_BYTES = 128


@dataclass(kw_only=True)
class Call:
    """One request while it is answered."""

    request: web.BaseRequest
    record: AuditRecord
    user: User = field(default_factory=lambda: User(""))
    warnings: list[str] = field(default_factory=list)
    is_dropped: bool = False
    is_recorded: bool = False
    record_now: Callable[[], None] = lambda: None

    async def body(self) -> bytes:
        """The raw body, noted in the record."""
        return await self.request.read()


class Verbs:
    """Every verb on every resource."""

    def __init__(
        self,
        registry: Registry,
        *,
        clock: Clock,
        troubles: Troubles,
        roles: Roles,
        bookmark_every_s: float,
        is_closing: Callable[[], bool],
    ) -> None:
        self.registry = registry
        self.store = registry.store
        self.clock = clock
        self.troubles = troubles
        self.roles = roles
        self.bookmark_every_s = bookmark_every_s
        self.is_closing = is_closing
        self.open_watches: dict[str, int] = {}
        """Storage name → watches open now."""
        self._whole: dict[str, WholeObjects] = {}

    async def answer(self, call: Call, target: Target, trouble: Trouble | None) -> web.StreamResponse:
        """The answer to a request that is allowed.

        Raises:
            Refusal: it is refused.
        """
        self._check(target)
        if call.request.method == "HEAD":
            raise method_not_allowed()
        if target.verb == "watch":
            return await self._watch(call, target)
        if target.verb == "list":
            return self._list(call, target, trouble)
        if target.verb == "get":
            return self._get(call, target)
        query = call.request.query
        if target.verb == "create":
            return await self._create(call, target)
        if target.verb == "update":
            body = read_object(await call.body(), call.request.headers.get("Content-Type", ""), target.spec)
            call.record.body = body
            options = _write_options(query, call)
            stored, created = self.registry.update(
                target.spec, target.namespace, target.name, body, subresource=target.subresource, options=options
            )
            return self._shown(call, target, stored, 201 if created else 200)
        if target.verb == "patch":
            return await self._patch(call, target)
        if target.verb == "delete":
            return await self._delete(call, target)
        return await self._delete_collection(call, target)

    @staticmethod
    def _check(target: Target) -> None:
        spec = target.spec
        if target.subresource:
            if target.subresource not in discovery.subresources(spec):
                raise no_such_path()
            legal = {"binding": {"create"}, "finalize": {"update"}}.get(target.subresource, {"get", "update", "patch"})
            if target.verb not in legal:
                raise method_not_allowed()
            return
        if target.verb not in spec.verbs:
            raise method_not_allowed()
        if target.verb == "create" and (target.name or (spec.namespaced and not target.namespace)):
            raise method_not_allowed()
        if target.verb in {"update", "patch"} and not target.name:
            raise method_not_allowed()
        if target.verb == "deletecollection" and spec.namespaced and not target.namespace:
            raise method_not_allowed()

    def _answerer(self, call: Call, spec: KindSpec) -> tuple[Answer, Form]:
        form = negotiate(call.request.headers.get("Accept", ""), shapes=_OBJECT_SHAPES)
        if form.shape == "Table":
            include = call.request.query.get("includeObject", "Metadata")
            return Rows(spec, rfc3339(self.clock.now()), include), form
        if form.shape:
            return MetadataOnly(spec), form
        return self._plain(spec), form

    def _plain(self, spec: KindSpec) -> WholeObjects:
        key = f"{spec.api_version}/{spec.plural}"
        made = self._whole.get(key)
        if made is None:
            made = self._whole[key] = WholeObjects(spec)
        return made

    def _shown(self, call: Call, target: Target, stored: Stored, status: int) -> web.Response:
        answerer, form = self._answerer(call, target.spec)
        return _response(answerer.one(stored), form, status)

    def _get(self, call: Call, target: Target) -> web.Response:
        asked = call.request.query.get("resourceVersion", "")
        if asked.isdecimal() and int(asked) > self.store.revision:
            raise too_large(int(asked), self.store.revision)
        return self._shown(call, target, self.registry.get(target.spec, target.namespace, target.name), 200)

    def _list(self, call: Call, target: Target, trouble: Trouble | None) -> web.Response:
        table = self.store.table(target.spec)
        options = ListOptions.read(call.request.query, target.spec, table.selectable)
        back = int(trouble.argument or 1) if trouble is not None and trouble.kind == "stale" else 0
        answerer, form = self._answerer(call, target.spec)
        found = page(self.store, target.spec, target.namespace, options, back=back)
        return _response(answerer.many(found.items, found.meta()), form, 200)

    async def _watch(self, call: Call, target: Target) -> web.StreamResponse:
        spec, table = target.spec, self.store.table(target.spec)
        query = {**call.request.query, "watch": "true"}
        options = ListOptions.read(query, spec, table.selectable, name=target.name)
        options.revision()
        answerer, _ = self._answerer(call, spec)
        response = web.StreamResponse(status=200, headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        timeout_s = options.timeout_s or _MIN_WATCH_S * (1 + random.random())  # noqa: S311 - only spreads load
        watch = Watch(
            store=self.store,
            table=table,
            namespace=target.namespace,
            options=options,
            answer=answerer,
            write=response.write,
            clock=self.clock,
            troubles=self.troubles,
            resource=target.resource,
            bookmark_every_s=self.bookmark_every_s,
            timeout_s=timeout_s,
            is_closing=self.is_closing,
        )
        await response.prepare(call.request)
        call.record_now()
        name = spec.storage_name
        self.open_watches[name] = self.open_watches.get(name, 0) + 1
        try:
            await watch.run()
            await response.write_eof()
        except CutShort:
            if call.request.transport is not None:
                call.request.transport.close()
        except ConnectionError:
            pass
        finally:
            self.open_watches[name] -= 1
        return response

    async def _create(self, call: Call, target: Target) -> web.Response:
        content_type = call.request.headers.get("Content-Type", "")
        body = read_object(await call.body(), content_type, target.spec, target.subresource)
        call.record.body = body
        options = _write_options(call.request.query, call)
        if target.subresource == "binding":
            return self._bind(target, body, options)
        if target.spec.verbs == ("create",):
            self.registry.normalizer.read(target.spec, body, options.field_validation, options.warnings)
            made = reviews.answer(target.spec, body, target.namespace, call.user, self.roles)
            return _response(encode(made), Form(), 201)
        stored = self.registry.create(target.spec, target.namespace, body, options)
        call.record.name = stored.name
        return self._shown(call, target, stored, 201)

    def _bind(self, target: Target, body: Mapping[str, Any], options: WriteOptions) -> web.Response:
        """A scheduler's decision: the pod runs on the node from now on."""
        if body["metadata"].get("name") != target.name:
            raise bad_request("name in URL does not match name in Binding object")
        node = (body.get("target") or {}).get("name", "")
        if not node:
            raise bad_request("target.name: Required value")
        before = self.registry.get(target.spec, target.namespace, target.name)
        content = before.content()
        if content["spec"].get("nodeName"):
            raise Refusal(
                409,
                "Conflict",
                f'Operation cannot be fulfilled on pods/binding "{target.name}": pod {target.name} is already '
                f'assigned to node "{content["spec"]["nodeName"]}"',
                details={"name": target.name, "kind": "pods/binding"},
            )
        content["spec"]["nodeName"] = node
        scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": rfc3339(self.clock.now())}
        conditions = content.setdefault("status", {}).setdefault("conditions", [])
        conditions[:] = [item for item in conditions if item.get("type") != "PodScheduled"] + [scheduled]
        if not options.dry_run:
            self.registry.finish(target.spec, before, content)
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
        return _response(encode(status), Form(), 201)

    async def _patch(self, call: Call, target: Target) -> web.Response:
        raw = await call.body()
        media, patch = read_patch(raw, call.request.headers.get("Content-Type", ""), target.spec)
        call.record.body = patch
        options = _write_options(call.request.query, call, is_apply=media == APPLY_PATCH)
        if media == APPLY_PATCH:
            force = call.request.query.get("force", "false").lower() == "true"
            stored, created = apply.apply(
                self.registry,
                target.spec,
                target.namespace,
                target.name,
                patch,
                options,
                force=force,
                subresource=target.subresource,
            )
            return self._shown(call, target, stored, 201 if created else 200)
        root = root_type(target.spec)

        def change(current: dict[str, Any]) -> Mapping[str, Any]:
            if media == JSON_PATCH:
                return json_patch(current, patch)
            if media == STRATEGIC_PATCH:
                return strategic_patch(current, patch, root)
            merged: dict[str, Any] = merge_patch(current, patch)
            return merged

        stored = self.registry.patch(
            target.spec, target.namespace, target.name, change, subresource=target.subresource, options=options
        )
        return self._shown(call, target, stored, 200)

    async def _delete(self, call: Call, target: Target) -> web.Response:
        body = read_options(await call.body(), call.request.headers.get("Content-Type", ""))
        call.record.body = body or None
        options = DeleteOptions.read(body, call.request.query)
        stored, gone = self.registry.delete(target.spec, target.namespace, target.name, options)
        if gone and not target.spec.returns_deleted:
            return _response(encode(success(target.spec, stored.name, stored.uid)), Form(), 200)
        waits = not gone and options.wants_accepted
        return self._shown(call, target, stored, 202 if waits else 200)

    async def _delete_collection(self, call: Call, target: Target) -> web.Response:
        body = read_options(await call.body(), call.request.headers.get("Content-Type", ""))
        options = DeleteOptions.read(body, call.request.query)
        table = self.store.table(target.spec)
        selection = ListOptions.read(call.request.query, target.spec, table.selectable)
        found = page(self.store, target.spec, target.namespace, selection)
        removed = []
        for namespace, name in collection_targets(found.items):
            if table.get(namespace, name) is not None:
                removed.append(self.registry.delete(target.spec, namespace, name, options)[0])
        answerer, form = self._answerer(call, target.spec)
        return _response(answerer.many(removed, {"resourceVersion": str(self.store.revision)}), form, 200)


def _write_options(query: Mapping[str, str], call: Call, *, is_apply: bool = False) -> WriteOptions:
    dry, validation = query.get("dryRun", ""), query.get("fieldValidation", "")
    method = call.request.method
    causes = []
    if dry not in {"", "All"}:
        causes.append(unsupported("dryRun", [dry], ["All"]))
    if method == "PATCH" and not is_apply and "force" in query:
        causes.append(forbidden_field("force", "may not be specified for non-apply patch"))
    causes += _manager_causes(query.get("fieldManager", ""))
    if validation not in {"", "Ignore", "Warn", "Strict"}:
        causes.append(unsupported("fieldValidation", validation, ["", "Ignore", "Strict", "Warn"]))
    if causes:
        kind = {"POST": "CreateOptions", "PUT": "UpdateOptions", "PATCH": "PatchOptions"}[method]
        raise invalid_options(kind, "meta.k8s.io", causes)
    return WriteOptions(
        dry_run=bool(dry),
        field_manager=query.get("fieldManager", "") or ("" if is_apply else call.record.user_agent.partition("/")[0]),
        field_validation=validation,
        warnings=call.warnings,
    )


def _manager_causes(manager: str) -> list[Cause]:
    if len(manager) > _MAX_MANAGER_BYTES:
        return [too_long("fieldManager", _MAX_MANAGER_BYTES)]
    return [
        invalid("fieldManager", manager, f"invalid character U+{ord(letter):04X} (at position {place})")
        for place, letter in enumerate(manager)
        if not letter.isprintable()
    ][:1]


def _response(body: bytes, form: Form, status: int) -> web.Response:
    if form.media == "application/yaml":
        import json

        import yaml

        text = yaml.safe_dump(json.loads(body), sort_keys=False)
        return web.Response(status=status, text=text, content_type=form.media)
    return web.Response(status=status, body=body, content_type="application/json")
