"""Bodies in protobuf, as typed Go clients send them."""

from __future__ import annotations

import pytest

from tests.testing.apiserver.conftest import CORE, Client

MEDIA = "application/vnd.kubernetes.protobuf"


def number(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def part(field: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return number(field << 3) + number(value)
    raw = value.encode() if isinstance(value, str) else value
    return number(field << 3 | 2) + number(len(raw)) + raw


def envelope(kind: str, content: bytes, api_version: str = "v1") -> bytes:
    return b"k8s\x00" + part(1, part(1, api_version) + part(2, kind)) + part(2, content)


def meta(name: str) -> bytes:
    label = part(11, part(1, "a") + part(2, "b"))
    return part(1, part(1, name) + label)


async def test_maps_bytes_and_strings(client: Client) -> None:
    data = part(2, part(1, "key") + part(2, b"\x00\xff"))
    body = envelope("Secret", meta("s") + data + part(3, "x/y"))
    answer = await client.request("POST", f"{CORE}/namespaces/default/secrets", raw=body, content_type=MEDIA)
    assert answer.status == 201, answer.text
    assert answer["data"] == {"key": "AP8="}
    assert answer["type"] == "x/y"
    assert answer.meta["labels"] == {"a": "b"}


async def test_nested_inline_and_quantities(client: Client) -> None:
    csi = part(1, "d.example.com") + part(2, "handle") + part(3, 1)
    capacity = part(1, part(1, "storage") + part(2, part(1, "3Gi")))
    spec = capacity + part(2, part(22, csi)) + part(3, "ReadWriteOnce")
    body = envelope("PersistentVolume", meta("pv") + part(2, spec))
    answer = await client.request("POST", f"{CORE}/persistentvolumes", raw=body, content_type=MEDIA)
    assert answer.status == 201, answer.text
    assert answer["spec"]["capacity"] == {"storage": "3Gi"}
    assert answer["spec"]["csi"] == {"driver": "d.example.com", "volumeHandle": "handle", "readOnly": True}


async def test_times_and_leases(client: Client) -> None:
    moment = part(1, 1_700_000_000) + part(2, 5_000)
    spec = part(1, "me") + part(2, 15) + part(4, moment)
    body = envelope("Lease", meta("l") + part(2, spec), "coordination.k8s.io/v1")
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    answer = await client.request("POST", path, raw=body, content_type=MEDIA)
    assert answer["spec"] == {
        "holderIdentity": "me",
        "leaseDurationSeconds": 15,
        "renewTime": "2023-11-14T22:13:20.000005Z",
    }


async def test_delete_options(client: Client) -> None:
    await client.post(f"{CORE}/namespaces/default/configmaps", {"metadata": {"name": "c"}})
    body = envelope("DeleteOptions", part(2, part(1, "other-uid")))
    path = f"{CORE}/namespaces/default/configmaps/c"
    answer = await client.request("DELETE", path, raw=body, content_type=MEDIA)
    assert answer.status == 409


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"k8s",
        b"{}",
        b"k8s\x00\xff",
        b"k8s\x00\x12\xff\xff\xff\x7f",
        b"k8s\x00" + part(2, part(1, 7)),
        b"k8s\x00\x0b",
    ],
)
async def test_broken_messages_are_bad_requests(client: Client, raw: bytes) -> None:
    answer = await client.request("POST", f"{CORE}/persistentvolumes", raw=raw, content_type=MEDIA)
    assert answer.status == 400
    assert answer["kind"] == "Status"
