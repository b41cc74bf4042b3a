"""The life of one object: the rules every create, update and delete goes through, whatever its kind.

In-process callers and HTTP handlers meet here. Each method runs without an `await`, so a write sees and leaves a
consistent store.

Source: kubernetes/apiserver, pkg/registry/generic/registry/store.go and pkg/registry/rest.
"""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from csisidecar.clock import Clock, rfc3339
from csisidecar.testing.apiserver import admission, validation
from csisidecar.testing.apiserver.apply import note_update
from csisidecar.testing.apiserver.conversion import from_storage, to_storage
from csisidecar.testing.apiserver.schema import Normalizer
from csisidecar.testing.apiserver.status import (
    Refusal,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    invalid_object,
    invalid_options,
    invalid_patch,
    no_revision,
    not_found,
    required,
    unsupported,
)
from csisidecar.testing.apiserver.store import Store, Stored, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from csisidecar.testing.apiserver.kinds import KindSpec

Content = dict[str, Any]
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_MAX_GENERATED_LENGTH = 63
_SERVER_METADATA = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
_MAX_NAME_TRIES = 8


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How a write is asked for."""

    dry_run: bool = False
    field_manager: str = ""
    field_validation: str = ""
    """Strict, Warn or Ignore: what unknown fields lead to; empty is Warn."""
    is_apply: bool = False
    """The writer keeps managedFields itself."""
    warnings: list[str] = field(default_factory=list)
    """Filled with what the answer's Warning headers say."""


@dataclass(frozen=True, kw_only=True)
class DeleteOptions:
    """How a removal is asked for."""

    dry_run: bool = False
    uid: str = ""
    resource_version: str = ""
    grace_s: int | None = None
    propagation: str = ""
    wants_accepted: bool = False
    """Asked to cascade in the old way, which is answered with 202 while the object stays."""

    @classmethod
    def read(cls, body: Mapping[str, Any], query: Mapping[str, str]) -> DeleteOptions:
        """From a DeleteOptions body, or from the query when there is no body.

        Raises:
            Refusal: 400 or 422, an option is not legal.
        """
        given = dict(body)
        if body.get("kind", "DeleteOptions") != "DeleteOptions":
            raise bad_request(f'no kind "{body["kind"]}" is registered for version "{body.get("apiVersion", "")}"')
        for name in ("propagationPolicy", "gracePeriodSeconds", "orphanDependents", "dryRun"):
            if not body and name in query:
                given[name] = query[name]
        return cls._checked(given)

    @classmethod
    def _checked(cls, given: Mapping[str, Any]) -> DeleteOptions:
        causes = []
        policy = given.get("propagationPolicy") or ""
        orphan = given.get("orphanDependents")
        if policy and orphan is not None:
            detail = "orphanDependents and deletionPropagation cannot be both set"
            causes.append(invalid("propagationPolicy", policy, detail))
        elif policy not in {"", "Foreground", "Background", "Orphan"}:
            causes.append(unsupported("propagationPolicy", policy, ["Foreground", "Background", "Orphan", "nil"]))
        if orphan is not None and not policy:
            policy = "Orphan" if str(orphan).lower() in {"true", "1"} else "Background"
        dry = given.get("dryRun") or []
        dry = [dry] if isinstance(dry, str) else dry
        causes += [unsupported("dryRun", dry, ["All"]) for value in dry if value != "All"][:1]
        if causes:
            raise invalid_options("DeleteOptions", "meta.k8s.io", causes)
        preconditions = given.get("preconditions") or {}
        grace = given.get("gracePeriodSeconds")
        try:
            grace_s = None if grace is None else int(grace)
        except (TypeError, ValueError) as error:
            where = "Go struct field DeleteOptions.gracePeriodSeconds of type int64"
            raise bad_request(f"json: cannot unmarshal string into {where}") from error
        return cls(
            dry_run=bool(dry),
            uid=preconditions.get("uid") or "",
            resource_version=preconditions.get("resourceVersion") or "",
            grace_s=grace_s,
            propagation=policy,
            wants_accepted=orphan is not None and policy == "Background",
        )


class Registry:
    """Every write to one store."""

    def __init__(self, store: Store, clock: Clock, gates: Collection[str] | None = None) -> None:
        self.gates = gates
        """Feature gates that are on; None drops nothing that a gate would hide."""
        self.store = store
        self.clock = clock
        self.normalizer = Normalizer()

    def get(self, spec: KindSpec, namespace: str, name: str) -> Stored:
        """The present state.

        Raises:
            Refusal: 404.
        """
        found = self.store.table(spec).get(namespace, name)
        if found is None:
            raise not_found(spec, name)
        return found

    def create(
        self, spec: KindSpec, namespace: str, body: Mapping[str, Any], options: WriteOptions | None = None
    ) -> Stored:
        """Store a new object and return it as stored.

        Raises:
            Refusal: 400, 403, 404, 409 or 422, as the real server words it.
        """
        options = options or WriteOptions()
        table = self.store.table(spec)
        content = self._content(spec, body, options)
        meta = content["metadata"]
        self._place(spec, meta, namespace)
        self._require_namespace(spec, namespace, meta.get("name", ""))
        generated = not meta.get("name") and meta.get("generateName")
        if not meta.get("name") and not generated:
            raise invalid_object(spec, "", [required("metadata.name", "name or generateName is required")])
        for field_name in (*_SERVER_METADATA, "selfLink"):
            if field_name != "generation":
                meta.pop(field_name, None)
        if meta.pop("resourceVersion", "") not in {"", "0"}:
            raise Refusal(500, "", "resourceVersion should not be set on objects to be created")
        now = self.clock.now()
        meta["uid"] = str(uuid.uuid4())
        meta["creationTimestamp"] = rfc3339(now)
        admission.prepare_create(spec, content, rfc3339(now), self.gates)
        admission.admit_create(spec, content, self.store)
        if generated:
            meta["name"] = self._free_name(table, namespace, str(meta["generateName"]))
        name = str(meta["name"])
        causes = validation.validate_create(spec, content)
        if causes:
            raise invalid_object(spec, name, causes)
        existing = table.get(namespace, name)
        if existing is not None:
            deleting = b'"deletionTimestamp":' in existing.raw and "deletionTimestamp" in existing.content()["metadata"]
            raise already_exists(spec, name, deleting=deleting)
        if options.dry_run:
            return Stored(table.key(namespace, name), content, 0, table.selectable)
        return self.store.put(table, content)

    def update(
        self,
        spec: KindSpec,
        namespace: str,
        name: str,
        body: Mapping[str, Any],
        *,
        subresource: str = "",
        options: WriteOptions | None = None,
    ) -> tuple[Stored, bool]:
        """Replace an object, or its status; the result and whether it was created.

        Raises:
            Refusal: 400, 403, 404, 409 or 422, as the real server words it.
        """
        options = options or WriteOptions()
        content = self._content(spec, body, options)
        meta = content["metadata"]
        given_name = meta.get("name", "")
        if not given_name:
            raise bad_request(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
        if given_name != name:
            raise bad_request(f"the name of the object ({given_name}) does not match the name on the URL ({name})")
        self._place(spec, meta, namespace)
        before = self.store.table(spec).get(namespace, name)
        if before is None:
            if not spec.create_on_update or subresource:
                raise not_found(spec, name)
            if meta.get("uid"):
                raise conflict(
                    spec, name, f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: "
                )
            meta.pop("resourceVersion", None)
            return self.create(spec, namespace, content, options), True
        if meta.get("resourceVersion") in {None, "", "0"}:
            if not spec.unconditional_update:
                raise no_revision(spec, name)
            meta["resourceVersion"] = str(before.revision)
        return self._replace(spec, before, content, subresource, options), False

    def patch(
        self,
        spec: KindSpec,
        namespace: str,
        name: str,
        change: Callable[[Content], Mapping[str, Any]],
        *,
        subresource: str = "",
        options: WriteOptions | None = None,
    ) -> Stored:
        """Replace an object by what `change` makes of its present state (with apiVersion and kind).

        Raises:
            Refusal: 400, 403, 404, 409 or 422, as the real server words it.
        """
        options = options or WriteOptions()
        before = self.get(spec, namespace, name)
        current: Content = {"kind": spec.kind, "apiVersion": spec.api_version, **from_storage(spec, before.content())}
        changed = change(current)
        try:
            content = self._content(spec, changed, options)
        except Refusal as refusal:
            if refusal.code != 400:
                raise
            raise invalid_patch(changed, refusal.message) from refusal
        meta = content["metadata"]
        if meta.setdefault("uid", before.uid) != before.uid:
            raise invalid_object(spec, name, [invalid("metadata.uid", meta["uid"], "field is immutable")])
        if not meta.get("name"):
            raise bad_request(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
        if meta["name"] != name:
            raise bad_request(f"the name of the object ({meta['name']}) does not match the name on the URL ({name})")
        self._place(spec, meta, namespace)
        meta.setdefault("resourceVersion", str(before.revision))
        return self._replace(spec, before, content, subresource, options)

    def delete(
        self, spec: KindSpec, namespace: str, name: str, options: DeleteOptions | None = None
    ) -> tuple[Stored, bool]:
        """Remove an object or mark it for removal; its last state and whether it is gone.

        Raises:
            Refusal: 404, or 409 for a precondition that does not hold.
        """
        options = options or DeleteOptions()
        table = self.store.table(spec)
        before = self.get(spec, namespace, name)
        self._check_preconditions(spec, before, options)
        content = before.content()
        meta = content["metadata"]
        if spec.plural == "namespaces" and not spec.group and name in {"default", "kube-system", "kube-public"}:
            raise forbidden(spec, name, "this namespace may not be deleted")
        self._add_propagation_finalizer(meta, options.propagation)
        grace_s = admission.grace_period_s(spec, content, options.grace_s)
        waits = bool(meta.get("finalizers")) or grace_s > 0 or admission.has_spec_finalizers(spec, content)
        if not waits:
            if options.dry_run:
                return before, True
            if spec.storage_name == "pods":
                self._mark(spec, content, 0)
            return self.store.remove(table, before, content), True
        self._mark(spec, content, grace_s)
        content = self._pruned(content)
        if options.dry_run or content == before.content():
            return Stored(before.key, content, before.revision, table.selectable), False
        return self.store.put(table, content), False

    def finish(self, spec: KindSpec, before: Stored, content: Content) -> Stored:
        """Write `content` and remove the object at once if nothing holds it any more."""
        table = self.store.table(spec)
        meta = content["metadata"]
        held = meta.get("finalizers") or admission.has_spec_finalizers(spec, content)
        if meta.get("deletionTimestamp") and not held and not meta.get("deletionGracePeriodSeconds"):
            return self.store.remove(table, before, content)
        return self.store.put(table, content)

    def _replace(
        self, spec: KindSpec, before: Stored, content: Content, subresource: str, options: WriteOptions
    ) -> Stored:
        old = before.content()
        meta, old_meta = content["metadata"], old["metadata"]
        name = before.name
        given_uid = meta.get("uid") or before.uid
        if given_uid != before.uid:
            why = f"Precondition failed: UID in precondition: {given_uid}, UID in object meta: {before.uid}"
            raise conflict(spec, name, why)
        if meta.get("resourceVersion") != old_meta["resourceVersion"]:
            raise _stale(spec, name, str(meta.get("resourceVersion")))
        causes = validation.validate_metadata_update(meta, old_meta)
        for key in _SERVER_METADATA:
            if key in old_meta:
                meta[key] = old_meta[key]
            else:
                meta.pop(key, None)
        content = admission.keep_apart(spec, content, old, subresource)
        admission.prepare_update(spec, content, old, rfc3339(self.clock.now()))
        admission.admit_update(spec, content, old, self.store)
        causes += validation.validate_update(spec, content, old, subresource)
        if causes:
            raise invalid_object(spec, name, causes)
        if "managedFields" in old_meta and not options.is_apply:
            content["metadata"]["managedFields"] = old_meta["managedFields"]
            note_update(
                spec,
                content,
                old,
                manager=options.field_manager,
                now=rfc3339(self.clock.now()),
                subresource=subresource,
            )
        content = self._pruned(content)
        if content == old:
            return before
        self._count_generation(spec, content, old)
        if options.dry_run:
            return Stored(before.key, content, before.revision, self.store.table(spec).selectable)
        return self.finish(spec, before, content)

    def _content(self, spec: KindSpec, body: Mapping[str, Any], options: WriteOptions) -> Content:
        content = self.normalizer.read(spec, body, options.field_validation, options.warnings)
        return to_storage(spec, content)

    @staticmethod
    def _pruned(content: Content) -> Content:
        meta = content["metadata"]
        for key in ("labels", "annotations", "finalizers", "ownerReferences", "managedFields"):
            if key in meta and not meta[key]:
                del meta[key]
        return content

    @staticmethod
    def _place(spec: KindSpec, meta: Content, namespace: str) -> None:
        if not spec.namespaced:
            meta.pop("namespace", None)
            return
        if meta.get("namespace", namespace) != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        meta["namespace"] = namespace

    def _require_namespace(self, spec: KindSpec, namespace: str, name: str) -> None:
        if not spec.namespaced:
            return
        namespaces = self.store.kinds.by_plural("namespaces")
        found = self.store.table(namespaces).get("", namespace)
        if found is None:
            raise not_found(namespaces, namespace)
        if b'"deletionTimestamp":' not in found.raw or "deletionTimestamp" not in found.content()["metadata"]:
            return
        why = f"unable to create new content in namespace {namespace} because it is being terminated"
        refusal = forbidden(spec, name, why)
        refusal.details = {
            **(refusal.details or {}),
            "causes": [
                {
                    "reason": "NamespaceTerminating",
                    "message": f"namespace {namespace} is being terminated",
                    "field": "metadata.namespace",
                }
            ],
        }
        raise refusal

    def _free_name(self, table: Table, namespace: str, base: str) -> str:
        name = ""
        for _ in range(_MAX_NAME_TRIES):
            suffix = "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(5))
            name = base[: _MAX_GENERATED_LENGTH - 5] + suffix
            if table.get(namespace, name) is None:
                break
        return name

    @staticmethod
    def _check_preconditions(spec: KindSpec, before: Stored, options: DeleteOptions) -> None:
        if options.uid and options.uid != before.uid:
            why = (
                f"the UID in the precondition ({options.uid}) does not match the UID in record ({before.uid}). "
                "The object might have been deleted and then recreated"
            )
            raise conflict(spec, before.name, why, is_kind=True)
        if options.resource_version and options.resource_version != str(before.revision):
            why = (
                f"the ResourceVersion in the precondition ({options.resource_version}) does not match the "
                f"ResourceVersion in record ({before.revision}). The object might have been modified"
            )
            raise conflict(spec, before.name, why, is_kind=True)

    @staticmethod
    def _add_propagation_finalizer(meta: Content, propagation: str) -> None:
        wanted = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(propagation)
        if not propagation:
            return
        others = [f for f in meta.get("finalizers") or [] if f not in {"foregroundDeletion", "orphan"}]
        meta["finalizers"] = [*others, wanted] if wanted else others

    def _mark(self, spec: KindSpec, content: Content, grace_s: int) -> None:
        meta = content["metadata"]
        moment = self.clock.now() + timedelta(seconds=grace_s)
        already = meta.get("deletionGracePeriodSeconds")
        if "deletionTimestamp" in meta and (already or 0) <= grace_s:
            return
        meta["deletionTimestamp"] = rfc3339(moment)
        meta["deletionGracePeriodSeconds"] = grace_s
        if "generation" in meta:
            meta["generation"] += 1
        admission.mark_deleted(spec, content)

    @staticmethod
    def _count_generation(spec: KindSpec, content: Content, old: Content) -> None:
        if not admission.counts_generation(spec):
            return
        left = {k: v for k, v in content.items() if k not in {"metadata", "status"}}
        right = {k: v for k, v in old.items() if k not in {"metadata", "status"}}
        if left != right:
            content["metadata"]["generation"] = int(old["metadata"].get("generation", 0)) + 1


def _stale(spec: KindSpec, name: str, given: str) -> Refusal:
    """The answer to a resourceVersion that is not the present one; a real server fails over one that is no number."""
    if not given.isdecimal():
        return Refusal(500, "", f'strconv.ParseUint: parsing "{given}": invalid syntax')
    return conflict(spec, name)


def collection_targets(stored: Sequence[Stored]) -> list[tuple[str, str]]:
    """Namespace and name of each, for a deletecollection that survives changes made by itself."""
    return [(item.namespace, item.name) for item in stored]


__all__ = ["DeleteOptions", "Refusal", "Registry", "WriteOptions", "collection_targets"]
