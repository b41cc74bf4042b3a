"""OpenAPI documents made from the table of fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from csisidecar.testing.apiserver.kinds import Kinds


def v2(kinds: Kinds) -> bytes:
    """GET /openapi/v2."""
    return b'{"swagger":"2.0","info":{"title":"Kubernetes","version":"v1.36.0"},"paths":{},"definitions":{}}'


def v3_index(kinds: Kinds) -> dict[str, Any]:
    """GET /openapi/v3."""
    return {"paths": {}}


def v3(kinds: Kinds, path: str) -> bytes | None:
    """GET /openapi/v3/PATH."""
    return None
