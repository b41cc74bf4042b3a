"""Label and field selectors: what they keep and what cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.apiserver.client import ATTACHMENTS, CORE, VOLUMES, config_map, pod

if TYPE_CHECKING:
    from tests.apiserver.client import Client
    from tests.apiserver.conftest import Server

LABELS = {
    "plain": {},
    "east": {"zone": "east", "tier": "1"},
    "west": {"zone": "west", "tier": "2", "example.com/gold": ""},
}


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("", ["east", "plain", "west"]),
        ("zone", ["east", "west"]),
        ("!zone", ["plain"]),
        ("zone=east", ["east"]),
        ("zone==east", ["east"]),
        ("zone!=east", ["plain", "west"]),
        ("zone in (east,west)", ["east", "west"]),
        ("zone in (east)", ["east"]),
        ("zone notin (east)", ["plain", "west"]),
        ("zone,tier=2", ["west"]),
        ("zone = east , tier = 1", ["east"]),
        ("example.com/gold", ["west"]),
        ("example.com/gold=", ["west"]),
        ("tier>1", ["west"]),
        ("tier<2", ["east"]),
        ("zone in (),tier", []),
        ("zone=", []),
    ],
)
async def test_label_selectors(server: Server, client: Client, selector: str, names: list[str]) -> None:
    for name, labels in LABELS.items():
        body = config_map(name)
        body["metadata"]["labels"] = labels
        (await client.post(server.maps, body)).ok(201)
    assert (await client.get(server.maps, labelSelector=selector)).ok().names == names


@pytest.mark.parametrize(
    "selector", ["zone in east", "a b", "=x", "zone=(", "zone=a b", "bad key!", "x/y/z=a", "tier>x"]
)
async def test_unreadable_label_selectors_are_bad_requests(server: Server, client: Client, selector: str) -> None:
    (await client.get(server.maps, labelSelector=selector)).refused(400, "BadRequest")


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("metadata.name=a", ["a"]),
        ("metadata.name!=a", ["b"]),
        ("metadata.name==b", ["b"]),
        ("metadata.name=none", []),
        ("spec.nodeName=n1", ["a"]),
        ("spec.nodeName=", ["b"]),
        ("status.phase=Pending,spec.nodeName!=n1", ["b"]),
        ("spec.restartPolicy=Always", ["a", "b"]),
    ],
)
async def test_field_selectors(server: Server, client: Client, selector: str, names: list[str]) -> None:
    (await client.post(server.pods, pod("a", nodeName="n1"))).ok(201)
    (await client.post(server.pods, pod("b"))).ok(201)
    assert (await client.get(server.pods, fieldSelector=selector)).ok().names == names


async def test_events_are_found_by_what_they_are_about(server: Server, client: Client) -> None:
    events = f"{server.space}/events"
    for number, name in enumerate(("p", "q")):
        involved = {"kind": "Pod", "namespace": server.unique, "name": name, "uid": f"u{number}"}
        body = {"metadata": {"name": f"e{number}"}, "involvedObject": involved, "reason": "r", "type": "Normal"}
        (await client.post(events, body)).ok(201)
    for selector in ("involvedObject.name=p", "involvedObject.uid=u0,reason=r", "involvedObject.name=p,type=Normal"):
        assert (await client.get(events, fieldSelector=selector)).ok().names == ["e0"]


async def test_secrets_are_found_by_type(server: Server, client: Client) -> None:
    secrets = f"{server.space}/secrets"
    (await client.post(secrets, {"metadata": {"name": "s"}, "type": "example.com/t"})).ok(201)
    assert (await client.get(secrets, fieldSelector="type=example.com/t")).ok().names == ["s"]
    assert (await client.get(secrets, fieldSelector="type=Opaque")).ok().names == []


@pytest.mark.parametrize("path", [VOLUMES, ATTACHMENTS, f"{CORE}/pods"])
async def test_unknown_fields_are_bad_requests(client: Client, path: str) -> None:
    answer = (await client.get(path, fieldSelector="spec.frob=x")).refused(400, "BadRequest")
    assert "field label not supported" in answer["message"] or "is not a known field selector" in answer["message"]


async def test_unreadable_field_selector_is_a_bad_request(server: Server, client: Client) -> None:
    answer = (await client.get(server.maps, fieldSelector="nonsense")).refused(400, "BadRequest")
    assert answer["message"].endswith("invalid selector: 'nonsense'; can't understand 'nonsense'")
