"""What the server tells about itself: groups, versions, resources, its own version.

Source: Kubernetes documentation, "The Kubernetes API", section Discovery; k8s.io/api/apidiscovery/v2.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from csisidecar.testing.apiserver.kinds import Kinds, KindSpec

Content = dict[str, Any]
_SUBRESOURCE_VERBS = ("get", "patch", "update")

VERSION: Content = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.0+csisidecar",
    "gitCommit": "0000000000000000000000000000000000000000",
    "gitTreeState": "clean",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "none",
    "platform": "embedded",
}


def core_versions(address: str) -> Content:
    """GET /api."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def group_list(kinds: Kinds) -> Content:
    """GET /apis."""
    groups = [group(kinds, name) for name in kinds.groups() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_bare(item) for item in groups if item]}


def _bare(item: Content) -> Content:
    return {key: value for key, value in item.items() if key not in {"kind", "apiVersion"}}


def group(kinds: Kinds, name: str) -> Content | None:
    """GET /apis/GROUP; None when there is no such group."""
    versions = kinds.groups().get(name)
    if not versions or not name:
        return None
    shown = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": shown, "preferredVersion": shown[0]}


def resource_list(kinds: Kinds, group_name: str, version: str) -> Content | None:
    """GET /api/v1 or /apis/GROUP/VERSION; None when it is not served."""
    found = [spec for spec in _specs(kinds) if (spec.group, spec.version) == (group_name, version)]
    if not found:
        return None
    resources: list[Content] = []
    for spec in sorted(found, key=lambda item: item.plural):
        resources.append(_resource(spec))
        resources += [
            {
                "name": f"{spec.plural}/{name}",
                "singularName": "",
                "namespaced": spec.namespaced,
                "kind": spec.kind if name != "binding" else "Binding",
                "verbs": list(
                    _SUBRESOURCE_VERBS if name == "status" else ("update",) if name == "finalize" else ("create",)
                ),
            }
            for name in subresources(spec)
        ]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": found[0].api_version,
        "resources": resources,
    }


def subresources(spec: KindSpec) -> tuple[str, ...]:
    """The subresources of a kind."""
    names = ["status"] if spec.status else []
    if spec.storage_name == "namespaces":
        names.append("finalize")
    if spec.storage_name == "pods":
        names.append("binding")
    return tuple(names)


def _specs(kinds: Kinds) -> list[KindSpec]:
    return list(kinds)


def singular(spec: KindSpec) -> str:
    """The singular name."""
    return spec.singular or spec.kind.lower()


def _resource(spec: KindSpec) -> Content:
    shown: Content = {
        "name": spec.plural,
        "singularName": singular(spec),
        "namespaced": spec.namespaced,
        "kind": spec.kind,
        "verbs": list(spec.verbs),
    }
    if spec.short_names:
        shown["shortNames"] = list(spec.short_names)
    if spec.categories:
        shown["categories"] = list(spec.categories)
    if "list" in spec.verbs and not spec.stored_as:
        digest = hashlib.sha256(f"{spec.group}/{spec.version}/{spec.kind}".encode()).digest()
        shown["storageVersionHash"] = base64.b64encode(digest[:8]).decode()
    return shown


def aggregated(kinds: Kinds, *, core: bool, version: str = "v2") -> Content:
    """GET /api or /apis as apidiscovery.k8s.io APIGroupDiscoveryList: everything in one answer."""
    items = []
    for name, versions in kinds.groups().items():
        if bool(name) == core:
            continue
        shown = [
            {"version": item, "resources": _aggregated_resources(kinds, name, item), "freshness": "Current"}
            for item in versions
        ]
        items.append({"metadata": {"name": name} if name else {"creationTimestamp": None}, "versions": shown})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }


def _aggregated_resources(kinds: Kinds, group_name: str, version: str) -> list[Content]:
    resources = []
    for spec in _specs(kinds):
        if (spec.group, spec.version) != (group_name, version):
            continue
        kind = {"group": spec.group, "version": spec.version, "kind": spec.kind}
        shown: Content = {
            "resource": spec.plural,
            "responseKind": kind,
            "scope": "Namespaced" if spec.namespaced else "Cluster",
            "singularResource": singular(spec),
            "verbs": list(spec.verbs),
        }
        if spec.short_names:
            shown["shortNames"] = list(spec.short_names)
        if spec.categories:
            shown["categories"] = list(spec.categories)
        below = [
            {"subresource": name, "responseKind": kind, "verbs": list(_SUBRESOURCE_VERBS)}
            for name in subresources(spec)
        ]
        if below:
            shown["subresources"] = below
        resources.append(shown)
    return resources
