"""Server-side apply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from csisidecar.testing.apiserver.patching import merge_patch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from csisidecar.testing.apiserver.kinds import KindSpec
    from csisidecar.testing.apiserver.registry import Registry, WriteOptions
    from csisidecar.testing.apiserver.store import Stored


def apply(
    registry: Registry,
    spec: KindSpec,
    namespace: str,
    name: str,
    patch: Mapping[str, Any],
    options: WriteOptions,
    *,
    force: bool,
    subresource: str,
) -> tuple[Stored, bool]:
    """Make the object as `patch` says; whether it was created."""
    if registry.store.table(spec).get(namespace, name) is None:
        body = {**patch, "metadata": {**(patch.get("metadata") or {}), "name": name}}
        return registry.create(spec, namespace, body, options), True
    return registry.patch(
        spec, namespace, name, lambda current: merge_patch(current, patch), subresource=subresource, options=options
    ), False
