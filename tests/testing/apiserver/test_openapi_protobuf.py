"""Which form of OpenAPI 2 is told."""

from __future__ import annotations

import pytest

from csisidecar.testing.apiserver import openapi_protobuf

PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        (PROTOBUF, True),
        (f"{PROTOBUF}, application/json", True),
        (f"application/json, {PROTOBUF}", False),
        (f"text/html, {PROTOBUF}", True),
    ],
)
def test_protobuf_is_told_to_who_asks_for_it_first(accept: str, wanted: bool) -> None:
    assert openapi_protobuf.is_asked_for(accept) is wanted
