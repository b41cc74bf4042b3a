"""What a URL and a method ask for: verb, kind, namespace, name, subresource; and in which form the answer goes.

Source: kubernetes/apiserver, pkg/endpoints/request/requestinfo.go; Kubernetes API concepts, "Resource URIs".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from csisidecar.testing.apiserver.status import not_acceptable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from csisidecar.testing.apiserver.kinds import Kinds, KindSpec

_METHOD_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get", "HEAD": "get"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What one request is about."""

    verb: str
    spec: KindSpec
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def resource(self) -> str:
        """``volumeattachments.storage.k8s.io/status``."""
        return f"{self.spec.resource}/{self.subresource}" if self.subresource else self.spec.resource

    @property
    def rbac_resource(self) -> str:
        """``volumeattachments/status``."""
        return f"{self.spec.plural}/{self.subresource}" if self.subresource else self.spec.plural


def find_target(kinds: Kinds, method: str, path: str, query: Mapping[str, str]) -> Target | None:
    """The target of a resource request; None for any other path."""
    parts = [part for part in path.split("/") if part]
    if len(parts) >= 3 and parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    watch_path = rest[0] == "watch" and len(rest) > 1
    if watch_path:
        rest = rest[1:]
    namespace = ""
    if (
        rest[0] == "namespaces"
        and len(rest) >= 3
        and not (group == "" and rest[2] in {"status", "finalize"} and len(rest) == 3)
    ):
        namespace, rest = rest[1], rest[2:]
    spec = kinds.find(group, version, rest[0])
    if spec is None or (namespace and not spec.namespaced) or len(rest) > 3:
        return None
    name = rest[1] if len(rest) > 1 else ""
    if name and spec.namespaced and not namespace:
        return None
    verb = _verb(method, name, watch=query.get("watch", "false").lower() in {"true", "1", ""})
    return Target(
        verb="watch" if watch_path and verb in {"get", "list"} else verb,
        spec=spec,
        namespace=namespace,
        name=name,
        subresource=rest[2] if len(rest) > 2 else "",
    )


def _verb(method: str, name: str, *, watch: bool) -> str:
    verb = _METHOD_VERBS.get(method, method.lower())
    if not name:
        if verb == "get" and watch:
            return "watch"
        return {"get": "list", "delete": "deletecollection"}.get(verb, verb)
    return verb


@dataclass(frozen=True, slots=True)
class Form:
    """How an answer is written."""

    media: str = "application/json"
    shape: str = ""
    """"" for the object itself, Table, PartialObjectMetadata, or an aggregated discovery version."""
    version: str = ""


JSON, YAML = "application/json", "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
READABLE = (JSON, YAML)
_ENTRY = re.compile(r"\s*([^;,\s]+)\s*((?:;[^,]*)?)")


def negotiate(accept: str, *, shapes: Mapping[str, str] | None = None) -> Form:
    """The form an Accept header asks for; `shapes` are the known values of ``as`` and their group.

    Protobuf is never written: who asks for it gets JSON, as the content type then says.

    Raises:
        Refusal: 406, nothing acceptable.
    """
    if not accept:
        return Form()
    fallback: Form | None = None
    for entry in accept.split(","):
        found = _ENTRY.match(entry)
        if not found:
            continue
        media = found[1].lower()
        parameters = dict(part.strip().partition("=")[::2] for part in found[2].split(";") if part.strip())
        shape = parameters.get("as", "")
        if shape:
            if media in {JSON, "application/*", "*/*"} and (shapes or {}).get(shape) == parameters.get("g"):
                return Form(JSON, shape, parameters.get("v", "v1"))
            continue
        if media in {JSON, "*/*", "application/*"}:
            return Form()
        if media in {YAML, "application/x-yaml"}:
            return Form(YAML)
        if media == PROTOBUF:
            fallback = Form()
    if fallback is None:
        raise not_acceptable(READABLE)
    return fallback
