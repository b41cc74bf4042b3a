"""Request bodies that cannot be read, and paths that are not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.apiserver.client import ATTACHMENTS, CORE, STORAGE, VOLUMES, config_map, volume

if TYPE_CHECKING:
    from tests.apiserver.client import Client
    from tests.apiserver.conftest import Server

LEAD = "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: "


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "unexpected end of JSON input"),
        (b"{", "unexpected end of JSON input"),
        (b'{"kind":', "unexpected end of JSON input"),
        (b"nonsense", "invalid character"),
        (b"[1]", "json: cannot unmarshal array into Go value of type struct"),
        (b'"text"', "json: cannot unmarshal string into Go value of type struct"),
        (b"7", "json: cannot unmarshal number into Go value of type struct"),
    ],
)
async def test_unreadable_json_is_a_bad_request(server: Server, client: Client, raw: bytes, reason: str) -> None:
    answer = (await client.request("POST", server.maps, raw=raw)).refused(400, "BadRequest")
    assert answer["message"].startswith(LEAD + reason)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"metadata": "text"}, "json: cannot unmarshal string into Go struct field ConfigMap.metadata of type"),
        ({"metadata": {"name": 7}}, "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.name of"),
        ({"metadata": {"labels": []}}, "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels"),
        ({"data": {"a": 7}}, "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"),
        ({"immutable": "yes"}, "json: cannot unmarshal string into Go struct field ConfigMap.immutable of type bool"),
        ({"binaryData": {"a": "***"}}, "illegal base64 data at input byte 0"),
    ],
)
async def test_wrong_types_are_bad_requests(server: Server, client: Client, body: object, reason: str) -> None:
    answer = (await client.post(server.maps, body)).refused(400, "BadRequest")
    assert answer["message"].startswith(f'ConfigMap in version "v1" cannot be handled as a ConfigMap: {reason}')


async def test_wrong_quantity_is_a_bad_request(server: Server, client: Client) -> None:
    answer = await client.post(VOLUMES, volume(server.name(), capacity={"storage": "lots"}))
    answer.refused(400, "BadRequest")
    assert "quantities must match the regular expression" in answer["message"]


@pytest.mark.parametrize("field", ["renewTime", "acquireTime"])
async def test_wrong_times_are_bad_requests(server: Server, client: Client, field: str) -> None:
    answer = await client.post(server.leases, {"metadata": {"name": "l"}, "spec": {field: "yesterday"}})
    answer.refused(400, "BadRequest")
    assert 'parsing time "yesterday" as "2006-01-02T15:04:05.000000Z07:00"' in answer["message"]


@pytest.mark.parametrize("media", ["text/html", "application/xml", "application/cbor-of-tomorrow"])
async def test_unknown_media_are_unsupported(server: Server, client: Client, media: str) -> None:
    answer = await client.request("POST", server.maps, raw=b"x", content_type=media)
    answer.refused(415, "UnsupportedMediaType")
    assert "the body of the request was in an unknown format - accepted media types include: " in answer["message"]


async def test_yaml_bodies_are_read(server: Server, client: Client) -> None:
    raw = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: '1'}\n"
    made = await client.request("POST", server.maps, raw=raw, content_type="application/yaml")
    assert made.ok(201)["data"] == {"a": "1"}


async def test_broken_yaml_is_a_bad_request(server: Server, client: Client) -> None:
    answer = await client.request("POST", server.maps, raw=b"a: [", content_type="application/yaml")
    answer.refused(400, "BadRequest")


async def test_protobuf_of_a_custom_resource_is_unsupported(server: Server, client: Client, widgets: str) -> None:
    if server.is_real:
        pytest.skip("kube-apiserver 1.36 breaks the connection off: its decoder of custom resources panics")
    answer = await client.request(
        "POST", widgets, raw=b"k8s\x00\x0a\x00", content_type="application/vnd.kubernetes.protobuf"
    )
    answer.refused(415, "UnsupportedMediaType")


async def test_protobuf_is_read_for_built_in_kinds(server: Server, client: Client) -> None:
    """One ConfigMap named m, by hand: Unknown{typeMeta{v1, ConfigMap}, raw{metadata{name: m}}}."""
    raw = b"k8s\x00" + b"\x0a\x0f\x0a\x02v1\x12\x09ConfigMap" + b"\x12\x05\x0a\x03\x0a\x01m"
    made = await client.request(
        "POST", server.maps, raw=raw, content_type="application/vnd.kubernetes.protobuf", accept="application/json"
    )
    assert made.ok(201).meta["name"] == "m"


async def test_broken_protobuf_is_a_bad_request(server: Server, client: Client) -> None:
    answer = await client.request(
        "POST",
        server.maps,
        raw=b"k8s\x00\xff\xff",
        content_type="application/vnd.kubernetes.protobuf",
        accept="application/json",
    )
    answer.refused(400, "BadRequest")


async def test_huge_body_is_refused(server: Server, client: Client) -> None:
    body = config_map("m", a="x" * (4 * 1024 * 1024))
    answer = (await client.post(server.maps, body)).refused(413, "RequestEntityTooLarge")
    assert answer["message"] == "Request entity too large: limit is 3145728"


@pytest.mark.parametrize(
    "path",
    [
        f"{CORE}/frobs",
        f"{CORE}/frobs/x",
        "/apis/storage.k8s.io/v7/storageclasses",
        f"{STORAGE}/frobs",
        f"{VOLUMES}/x/scale",
        f"{ATTACHMENTS}/x/frob",
        f"{CORE}/namespaces/default/persistentvolumes",
        f"{CORE}/persistentvolumeclaims/x",
    ],
)
async def test_paths_in_known_groups_are_not_found(client: Client, path: str) -> None:
    answer = (await client.get(path)).refused(404, "NotFound")
    assert answer["message"] == "the server could not find the requested resource"
    assert answer["details"] == {}


@pytest.mark.parametrize("path", ["/apis/none.example.com/v1/frobs", "/nope", "/apis/none.example.com"])
async def test_other_paths_are_not_found_in_plain_text(client: Client, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status, answer.text) == (404, "404 page not found\n")


async def test_resources_have_no_head(client: Client) -> None:
    assert (await client.request("HEAD", VOLUMES)).status == 405


async def test_what_is_no_http_gets_an_answer_and_leaves_no_trace(
    server: Server, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    (await client.get("/version")).ok()
    answer = await client.request("FROB", VOLUMES)
    assert answer.status in {400, 405}
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", VOLUMES),
        ("PATCH", VOLUMES),
        ("POST", f"{VOLUMES}/x"),
        ("DELETE", f"{CORE}/namespaces"),
        ("POST", f"{CORE}/persistentvolumeclaims"),
        ("DELETE", f"{ATTACHMENTS}/x/status"),
        ("GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
    ],
)
async def test_methods_that_a_path_does_not_have(client: Client, method: str, path: str) -> None:
    answer = await client.request(method, path, {} if method in {"PUT", "PATCH", "POST"} else None)
    answer.refused(405, "MethodNotAllowed")
    assert answer["message"] == "the server does not allow this method on the requested resource"
