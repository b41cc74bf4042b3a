"""Objects that are refused, with the words of the real server."""

from __future__ import annotations

import io
from typing import Any

import pytest

from tests.testing.apiserver.conftest import CORE, STORAGE, Client, attachment, claim, storage_class, volume

PVS = f"{CORE}/persistentvolumes"
PVCS = f"{CORE}/namespaces/default/persistentvolumeclaims"
VAS = f"{STORAGE}/volumeattachments"
CLASSES = f"{STORAGE}/storageclasses"


async def test_attach_error_over_1024_bytes_is_invalid(client: Client) -> None:
    await client.post(VAS, attachment())
    for field in ("attachError", "detachError"):
        fits = await client.merge(f"{VAS}/va-1/status", {"status": {field: {"message": "x" * 1024}}})
        assert fits.status == 200
        answer = await client.merge(f"{VAS}/va-1/status", {"status": {field: {"message": "é" * 513}}})
        assert answer.status == 422
        assert answer["message"] == (
            f'VolumeAttachment.storage.k8s.io "va-1" is invalid: status.{field}.message: Too long: may not be more '
            "than 262144 bytes"
        )
        assert answer["details"]["causes"] == [
            {
                "reason": "FieldValueTooLong",
                "message": "Too long: may not be more than 262144 bytes",
                "field": f"status.{field}.message",
            }
        ]


async def test_attachment_metadata_over_256_kib_is_invalid(client: Client) -> None:
    await client.post(VAS, attachment())
    url = f"{VAS}/va-1/status"
    fits = {"attached": True, "attachmentMetadata": {"k": "x" * (256 * 1024 - 1)}}
    assert (await client.merge(url, {"status": fits})).status == 200
    answer = await client.merge(url, {"status": {"attachmentMetadata": {"k": "x" * 256 * 1024}}})
    assert answer.status == 422
    assert "status.attachmentMetadata: Too long" in answer["message"]


async def test_negative_error_code_is_invalid(client: Client) -> None:
    await client.post(VAS, attachment())
    answer = await client.merge(f"{VAS}/va-1/status", {"status": {"attachError": {"errorCode": -1}}})
    assert answer.status == 422
    assert (
        "status.attachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive"
        in answer["message"]
    )


@pytest.mark.parametrize("name", ["UPPER", "under_score", "-dash", "dot.", "a" * 254, "a..b", "sp ace"])
async def test_illegal_names_are_invalid(client: Client, name: str) -> None:
    answer = await client.post(PVS, volume(name))
    assert answer.status == 422
    assert answer["details"]["causes"][0]["field"] == "metadata.name"


async def test_object_without_a_name_is_invalid(client: Client) -> None:
    answer = await client.post(PVS, volume(""))
    assert answer.status == 422
    assert answer["message"] == (
        'PersistentVolume "" is invalid: metadata.name: Required value: name or generateName is required'
    )


@pytest.mark.parametrize(
    ("spec", "cause"),
    [
        (
            {"nodeAffinity": {"required": {"nodeSelectorTerms": []}}},
            "spec.nodeAffinity.required.nodeSelectorTerms: Required value",
        ),
        ({"nodeAffinity": {}}, "spec.nodeAffinity.required: Required value"),
        (
            {
                "nodeAffinity": {
                    "required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In"}]}]}
                }
            },
            "matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
        ),
        ({"accessModes": []}, "spec.accessModes: Required value"),
        ({"accessModes": ["Sometimes"]}, 'spec.accessModes: Unsupported value: "Sometimes"'),
        ({"capacity": None}, "spec.capacity: Required value"),
        ({"capacity": {"storage": "0"}}, 'spec.capacity[storage]: Invalid value: "0": must be greater than zero'),
        ({"csi": None}, "spec: Required value: must specify a volume type"),
        ({"csi": {"driver": "d", "volumeHandle": ""}}, "spec.csi.volumeHandle: Required value"),
        ({"hostPath": {"path": "/x"}}, "may not specify more than 1 volume type"),
        ({"persistentVolumeReclaimPolicy": "Burn"}, 'spec.persistentVolumeReclaimPolicy: Unsupported value: "Burn"'),
        ({"volumeMode": "Tape"}, 'spec.volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem"'),
    ],
)
async def test_illegal_volumes(client: Client, spec: dict[str, Any], cause: str) -> None:
    answer = await client.post(PVS, volume(**spec))
    assert answer.status == 422
    assert answer["reason"] == "Invalid"
    assert cause in answer["message"]


async def test_volume_source_is_immutable(client: Client) -> None:
    await client.post(PVS, volume())
    answer = await client.merge(f"{PVS}/pv-1", {"spec": {"csi": {"volumeHandle": "other"}}})
    assert answer.status == 422
    assert (
        "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"
        in answer["message"]
    )
    assert (await client.merge(f"{PVS}/pv-1", {"spec": {"capacity": {"storage": "2Gi"}}})).status == 200


async def test_claim_spec_is_immutable_but_for_the_size_of_a_bound_one(client: Client) -> None:
    await client.post(PVCS, claim(storageClassName="a"))
    url = f"{PVCS}/c-1"
    answer = await client.merge(url, {"spec": {"accessModes": ["ReadWriteMany"]}})
    assert answer.status == 422
    assert "spec: Forbidden: spec is immutable after creation except resources.requests" in answer["message"]
    assert (await client.merge(url, {"spec": {"resources": {"requests": {"storage": "2Gi"}}}})).status == 422
    assert (await client.merge(url, {"spec": {"volumeName": "pv-1"}})).status == 200
    assert (await client.merge(url, {"spec": {"volumeName": "pv-2"}})).status == 422
    bound = {"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}
    assert (await client.merge(f"{url}/status", bound)).status == 200
    refused = await client.merge(url, {"spec": {"resources": {"requests": {"storage": "2Gi"}}}})
    assert refused.status == 403
    assert "only dynamically provisioned pvc can be resized" in refused["message"]
    await client.post(CLASSES, storage_class("a", allowVolumeExpansion=True))
    assert (await client.merge(url, {"spec": {"resources": {"requests": {"storage": "2Gi"}}}})).status == 200
    smaller = await client.merge(url, {"spec": {"resources": {"requests": {"storage": "1Gi"}}}})
    assert smaller.status == 422
    assert "field can not be less than status.capacity" in smaller["message"]


@pytest.mark.parametrize(
    ("spec", "cause"),
    [
        ({"accessModes": []}, "spec.accessModes: Required value: at least 1 access mode is required"),
        ({"resources": {}}, "spec.resources[storage]: Required value"),
        ({"dataSourceRef": {"kind": "Bucket", "name": "b"}}, "must be 'PersistentVolumeClaim' when referencing"),
        ({"selector": {"matchLabels": {"a b": "c"}}}, 'spec.selector.matchLabels: Invalid value: "a b"'),
    ],
)
async def test_illegal_claims(client: Client, spec: dict[str, Any], cause: str) -> None:
    answer = await client.post(PVCS, claim(**spec))
    assert answer.status == 422
    assert cause in answer["message"]


async def test_attachment_spec_is_immutable(client: Client) -> None:
    await client.post(VAS, attachment())
    answer = await client.merge(f"{VAS}/va-1", {"spec": {"nodeName": "n-2"}})
    assert answer.status == 422
    assert "field is immutable" in answer["message"]


async def test_inline_attachments(client: Client) -> None:
    body = attachment()
    inline = {"accessModes": ["ReadWriteOnce"], "csi": {"driver": "d", "volumeHandle": "h"}}
    body["spec"]["source"] = {"inlineVolumeSpec": inline}
    assert (await client.post(VAS, body)).status == 201
    body["metadata"]["name"] = "both"
    body["spec"]["source"]["persistentVolumeName"] = "pv-1"
    answer = await client.post(VAS, body)
    assert "must specify exactly one of inlineVolumeSpec and persistentVolumeName" in answer["message"]


async def test_class_parameters_and_provisioner_do_not_change(client: Client) -> None:
    await client.post(CLASSES, storage_class(parameters={"a": "b"}))
    answer = await client.merge(f"{CLASSES}/fast", {"parameters": {"a": "c"}})
    assert 'parameters: Invalid value: {"a":"c"}: field is immutable' in answer["message"]
    answer = await client.merge(f"{CLASSES}/fast", {"provisioner": "other"})
    assert answer.status == 422
    assert (await client.merge(f"{CLASSES}/fast", {"allowVolumeExpansion": True})).status == 200


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({"labels": {"a b": "c"}}, "metadata.labels"),
        ({"labels": {"a": "x" * 64}}, "metadata.labels"),
        ({"annotations": {"a": "x" * 300_000}}, "metadata.annotations"),
        ({"finalizers": ["unqualified"]}, "metadata.finalizers"),
        ({"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}, "metadata.ownerReferences"),
    ],
)
async def test_illegal_metadata(client: Client, metadata: dict[str, Any], field: str) -> None:
    body = volume()
    body["metadata"] |= metadata
    answer = await client.post(PVS, body)
    assert answer.status == 422
    assert field in answer["message"]


async def test_unknown_fields_are_dropped_warned_about_or_refused(client: Client) -> None:
    body = volume(colour="blue")
    answer = await client.post(PVS, body, fieldValidation="Strict")
    assert answer.status == 400
    assert answer["message"] == (
        'PersistentVolume in version "v1" cannot be handled as a PersistentVolume: strict decoding error: '
        'unknown field "spec.colour"'
    )
    answer = await client.post(PVS, body)
    assert answer.status == 201
    assert answer.headers["Warning"] == '299 - "unknown field \\"spec.colour\\""'
    assert "colour" not in answer["spec"]
    body["metadata"]["name"] = "other"
    assert "Warning" not in (await client.post(PVS, body, fieldValidation="Ignore")).headers


@pytest.mark.parametrize(
    "body",
    [
        {"spec": {"accessModes": "ReadWriteOnce"}},
        {"spec": {"capacity": {"storage": "much"}}},
        {"spec": 5},
        {"metadata": "x"},
        {"metadata": {"labels": {"a": 1}}},
        {"metadata": {"name": 7}},
        {"apiVersion": "v2"},
        {"kind": "Pod"},
        {"spec": {"csi": []}},
    ],
)
async def test_wrong_types_are_bad_requests(client: Client, body: dict[str, Any]) -> None:
    answer = await client.post(PVS, {**volume(), **body})
    assert answer.status == 400
    assert answer["reason"] == "BadRequest"


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"5", b"\xff\xfe", b'{"a":' * 5000, b"NaN"])
async def test_unreadable_bodies_are_bad_requests(client: Client, raw: bytes) -> None:
    answer = await client.request("POST", PVS, raw=raw)
    assert answer.status == 400
    assert answer["kind"] == "Status"


async def test_huge_bodies_are_refused(client: Client) -> None:
    body = io.BytesIO(b'{"metadata":{"annotations":{"a":"' + b"x" * 4_000_000 + b'"}}}')
    async with client.session.post(client.url + PVS, data=body, headers={"Content-Type": "application/json"}) as answer:
        assert answer.status == 413
        assert (await answer.json())["reason"] == "RequestEntityTooLarge"


async def test_protobuf_bodies_of_custom_resources_are_unsupported(client: Client) -> None:
    path = "/apis/snapshot.storage.k8s.io/v1/namespaces/default/volumesnapshots"
    answer = await client.request("POST", path, raw=b"k8s\x00", content_type="application/vnd.kubernetes.protobuf")
    assert answer.status == 415
    assert answer["reason"] == "UnsupportedMediaType"
    answer = await client.request("POST", PVS, raw=b"k8s\x00", content_type="application/cbor")
    assert answer.status == 415


async def test_custom_resources_are_pruned_and_their_required_fields_checked(client: Client) -> None:
    path = "/apis/snapshot.storage.k8s.io/v1/namespaces/default/volumesnapshots"
    body: dict[str, Any] = {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": "s", "labels": {}},
        "spec": {"source": {"persistentVolumeClaimName": "c-1", "colour": "blue"}},
    }
    answer = await client.post(path, body)
    assert answer["spec"] == {"source": {"persistentVolumeClaimName": "c-1"}}
    assert "status" not in answer.body
    assert answer.headers["Warning"] == '299 - "unknown field \\"spec.source.colour\\""'
    body["spec"] = {}
    answer = await client.post(path, body)
    assert answer.status == 422
    assert answer["message"] == 'VolumeSnapshot.snapshot.storage.k8s.io "s" is invalid: spec.source: Required value'
    assert (await client.merge(f"{path}/s", {"spec": {"source": None}})).status == 422


async def test_yaml_bodies_are_read(client: Client) -> None:
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {when: '2020-01-01', n: 'yes'}\n"
    answer = await client.request(
        "POST", f"{CORE}/namespaces/default/configmaps", raw=text, content_type="application/yaml"
    )
    assert answer.status == 201
    assert answer["data"] == {"when": "2020-01-01", "n": "yes"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nothings", 404),
        ("GET", "/apis/none.example.com/v1/things", 404),
        ("GET", "/nowhere", 404),
        ("POST", f"{PVS}/pv-1", 405),
        ("POST", PVCS.replace("namespaces/default/", ""), 405),
        ("PUT", PVS, 405),
        ("DELETE", f"{CORE}/namespaces", 405),
        ("GET", f"{PVS}/pv-1/nothing", 404),
    ],
)
async def test_paths_and_methods_that_are_not_served(client: Client, method: str, path: str, status: int) -> None:
    body = volume() if method in {"POST", "PUT"} else None
    assert (await client.request(method, path, body)).status == status
