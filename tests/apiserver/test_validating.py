"""Objects that are refused with 422: which field, why, and in which words.

The words are the real server's, whole, so lines are long.
"""

# ruff: noqa: E501 - a text that is compared to the letter stays in one piece

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.apiserver.client import (
    ATTACHMENTS,
    CLASSES,
    CORE,
    STORAGE,
    VOLUMES,
    attachment,
    claim,
    storage_class,
    volume,
    with_meta,
)

if TYPE_CHECKING:
    from tests.apiserver.client import Client
    from tests.apiserver.conftest import Server

SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
NAME = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
NAME_PART = f"name part {NAME}"
LABEL_KEY = f"a valid label key {NAME} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
LABEL_VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def _ids(cases: list[Any]) -> list[str]:
    return [case[-1][0].partition(":")[0] for case in cases]


NAMES: list[tuple[str, list[str]]] = [
    ("UPPER", [f'metadata.name: Invalid value: "UPPER": {SUBDOMAIN}']),
    ("under_score", [f'metadata.name: Invalid value: "under_score": {SUBDOMAIN}']),
    ("-dash", [f'metadata.name: Invalid value: "-dash": {SUBDOMAIN}']),
    ("dot.", [f'metadata.name: Invalid value: "dot.": {SUBDOMAIN}']),
    ("a" * 254, [f'metadata.name: Invalid value: "{"a" * 254}": must be no more than 253 characters']),
    ("a..b", [f'metadata.name: Invalid value: "a..b": {SUBDOMAIN}']),
    ("sp ace", [f'metadata.name: Invalid value: "sp ace": {SUBDOMAIN}']),
    ("", ["metadata.name: Required value: name or generateName is required"]),
]


@pytest.mark.parametrize(("name", "causes"), NAMES)
async def test_names(client: Client, name: str, causes: list[str]) -> None:
    answer = (await client.post(VOLUMES, volume(name), dryRun="All")).refused(422, "Invalid")
    assert answer.causes == causes
    assert answer["message"] == f'PersistentVolume "{name}" is invalid: {causes[0]}'
    assert answer["details"].get("name", "") == name
    assert answer["details"]["kind"] == "PersistentVolume"


@pytest.mark.parametrize(
    ("name", "rule"), [("UPPER", LABEL), ("with.dot", "must not contain dots"), ("-dash", LABEL), ("a_b", LABEL)]
)
async def test_namespace_names_are_labels(client: Client, name: str, rule: str) -> None:
    answer = await client.post(f"{CORE}/namespaces", {"metadata": {"name": name}}, dryRun="All")
    assert answer.refused(422, "Invalid").causes[0] == f'metadata.name: Invalid value: "{name}": {rule}'


METADATA: list[tuple[dict[str, Any], list[str]]] = [
    ({"labels": {"a b": "c"}}, [f'metadata.labels: Invalid value: "a b": {NAME_PART}']),
    ({"labels": {"a": "c d"}}, [f'metadata.labels: Invalid value: "c d": {LABEL_VALUE}']),
    ({"labels": {"a": "x" * 64}}, [f'metadata.labels: Invalid value: "{"x" * 64}": must be no more than 63 bytes']),
    (
        {"labels": {"a" * 64: "x"}},
        [f'metadata.labels: Invalid value: "{"a" * 64}": name part must be no more than 63 bytes'],
    ),
    ({"labels": {"x/y/z": "x"}}, [f'metadata.labels: Invalid value: "x/y/z": {LABEL_KEY}']),
    ({"labels": {"/z": "x"}}, ['metadata.labels: Invalid value: "/z": prefix part must be non-empty']),
    (
        {"labels": {"": "x"}},
        [
            'metadata.labels: Invalid value: "": name part must be non-empty',
            f'metadata.labels: Invalid value: "": {NAME_PART}',
        ],
    ),
    ({"labels": {"Bad_Prefix/z": "x"}}, [f'metadata.labels: Invalid value: "Bad_Prefix/z": prefix part {SUBDOMAIN}']),
    ({"annotations": {"a b": "c"}}, [f'metadata.annotations: Invalid value: "a b": {NAME_PART}']),
    (
        {"finalizers": ["a"]},
        [
            'metadata.finalizers[0]: Invalid value: "a": name is neither a standard finalizer name nor is it fully qualified'
        ],
    ),
    ({"finalizers": ["a b/c"]}, [f'metadata.finalizers: Invalid value: "a b/c": prefix part {SUBDOMAIN}']),
    (
        {"finalizers": ["orphan", "foregroundDeletion"]},
        [
            'metadata.finalizers: Invalid value: ["orphan","foregroundDeletion"]: finalizer orphan and foregroundDeletion cannot be both set'
        ],
    ),
    (
        {"finalizers": [""]},
        [
            'metadata.finalizers: Invalid value: "": name part must be non-empty',
            f'metadata.finalizers: Invalid value: "": {NAME_PART}',
            'metadata.finalizers[0]: Invalid value: "": name is neither a standard finalizer name nor is it fully qualified',
        ],
    ),
    (
        {"ownerReferences": [{}]},
        [
            'metadata.ownerReferences.apiVersion: Invalid value: "": version must not be empty',
            'metadata.ownerReferences.kind: Invalid value: "": must not be empty',
            'metadata.ownerReferences.name: Invalid value: "": must not be empty',
            'metadata.ownerReferences.uid: Invalid value: "": must not be empty',
        ],
    ),
    (
        {
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": True},
                {"apiVersion": "v1", "kind": "Pod", "name": "q", "uid": "u2", "controller": True},
            ]
        },
        [
            'metadata.ownerReferences: Invalid value: [{"apiVersion":"v1","kind":"Pod","name":"p","uid":"u","controller":true},{"apiVersion":"v1","kind":"Pod","name":"q","uid":"u2","controller":true}]: Only one reference can have Controller set to true. Found "true" in references for Pod/p and Pod/q'
        ],
    ),
    (
        {"ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "p", "uid": "u"}]},
        [
            'metadata.ownerReferences: Invalid value: {"apiVersion":"v1","kind":"Event","name":"p","uid":"u"}: /v1, Kind=Event is disallowed from being an owner'
        ],
    ),
    ({"generateName": "Bad_"}, [f'metadata.generateName: Invalid value: "Bad_": {SUBDOMAIN}']),
]


@pytest.mark.parametrize(("metadata", "causes"), METADATA, ids=_ids(METADATA))
async def test_metadata(server: Server, client: Client, metadata: dict[str, Any], causes: list[str]) -> None:
    body = with_meta(attachment(server.name()), **metadata)
    answer = (await client.post(ATTACHMENTS, body, dryRun="All")).refused(422, "Invalid")
    assert answer.causes == causes


async def test_annotations_have_a_limit(server: Server, client: Client) -> None:
    body = with_meta(attachment(server.name()), annotations={"k": "x" * 256 * 1024})
    answer = (await client.post(ATTACHMENTS, body)).refused(422, "Invalid")
    assert answer.causes[0] == "metadata.annotations: Too long: may not be more than 262144 bytes"
    (await client.post(ATTACHMENTS, with_meta(body, annotations={"k": "x" * (256 * 1024 - 1)}))).ok(201)


VOLUME_SPECS: list[tuple[dict[str, Any], list[str]]] = [
    (
        {"nodeAffinity": {"required": {"nodeSelectorTerms": []}}},
        ["spec.nodeAffinity.required.nodeSelectorTerms: Required value: must have at least one node selector term"],
    ),
    ({"nodeAffinity": {}}, ["spec.nodeAffinity.required: Required value: must specify required node constraints"]),
    (
        {"nodeAffinity": {"required": {}}},
        ["spec.nodeAffinity.required.nodeSelectorTerms: Required value: must have at least one node selector term"],
    ),
    (
        {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In"}]}]}}},
        [
            "spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
        ],
    ),
    (
        {
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["x"]}]}]
                }
            }
        },
        [
            "spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        ],
    ),
    (
        {
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["x", "y"]}]}]
                }
            }
        },
        [
            "spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'"
        ],
    ),
    (
        {
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Near", "values": ["x"]}]}]
                }
            }
        },
        [
            'spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].operator: Invalid value: "Near": not a valid selector operator'
        ],
    ),
    (
        {
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "a b", "operator": "In", "values": ["x"]}]}]
                }
            }
        },
        [f'spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: Invalid value: "a b": {NAME_PART}'],
    ),
    (
        {
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "", "operator": "In", "values": ["x"]}]}]
                }
            }
        },
        [
            'spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: Invalid value: "": name part must be non-empty',
            f'spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: Invalid value: "": {NAME_PART}',
        ],
    ),
    (
        {
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [{"matchFields": [{"key": "spec.x", "operator": "In", "values": ["x"]}]}]
                }
            }
        },
        [
            'spec.nodeAffinity.required.nodeSelectorTerms[0].matchFields[0].key: Invalid value: "spec.x": not a valid field selector key'
        ],
    ),
    ({"accessModes": []}, ["spec.accessModes: Required value"]),
    (
        {"accessModes": ["Sometimes"]},
        [
            'spec.accessModes: Unsupported value: "Sometimes": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"'
        ],
    ),
    (
        {"accessModes": ["ReadWriteOncePod", "ReadWriteOnce"]},
        ["spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"],
    ),
    (
        {"capacity": None},
        ["spec.capacity: Required value", 'spec.capacity: Unsupported value: null: supported values: "storage"'],
    ),
    ({"capacity": {"storage": "0"}}, ['spec.capacity[storage]: Invalid value: "0": must be greater than zero']),
    (
        {"capacity": {"storage": "-1Gi"}},
        [
            "spec.capacity[storage]: Invalid value: -1073741824: must be a valid resource quantity",
            'spec.capacity[storage]: Invalid value: "-1Gi": must be greater than zero',
        ],
    ),
    ({"capacity": {"cpu": "1"}}, ['spec.capacity: Unsupported value: {"cpu":"1"}: supported values: "storage"']),
    (
        {"capacity": {"storage": "1Gi", "cpu": "1"}},
        ['spec.capacity: Unsupported value: {"cpu":"1","storage":"1Gi"}: supported values: "storage"'],
    ),
    ({"csi": None}, ["spec: Required value: must specify a volume type"]),
    ({"csi": {"driver": "d", "volumeHandle": ""}}, ["spec.csi.volumeHandle: Required value"]),
    ({"csi": {"driver": "", "volumeHandle": "h"}}, ["spec.csi.driver: Required value"]),
    ({"csi": {}}, ["spec.csi.driver: Required value", "spec.csi.volumeHandle: Required value"]),
    (
        {"csi": {"driver": "Bad_Name", "volumeHandle": "h"}},
        [f'spec.csi.driver: Invalid value: "Bad_Name": {SUBDOMAIN}'],
    ),
    ({"csi": {"driver": "d" * 64, "volumeHandle": "h"}}, ["spec.csi.driver: Too long: may not be more than 63 bytes"]),
    (
        {"csi": {"driver": "d", "volumeHandle": "h", "controllerPublishSecretRef": {"name": "a"}}},
        ["spec.csi.controllerPublishSecretRef.namespace: Required value"],
    ),
    (
        {"csi": {"driver": "d", "volumeHandle": "h", "controllerExpandSecretRef": {}}},
        [
            "spec.csi.controllerExpandSecretRef.name: Required value",
            "spec.csi.controllerExpandSecretRef.namespace: Required value",
        ],
    ),
    ({"hostPath": {"path": "/x"}}, ["spec.csi: Forbidden: may not specify more than 1 volume type"]),
    (
        {"csi": None, "hostPath": {"path": "/x/../y"}},
        ["spec.hostPath.path: Invalid value: \"/x/../y\": must not contain '..'"],
    ),
    ({"csi": None, "hostPath": {}}, ["spec.hostPath.path: Required value"]),
    (
        {"persistentVolumeReclaimPolicy": "Burn"},
        [
            'spec.persistentVolumeReclaimPolicy: Unsupported value: "Burn": supported values: "Delete", "Recycle", "Retain"'
        ],
    ),
    ({"volumeMode": "Tape"}, ['spec.volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem"']),
    ({"storageClassName": "Bad Name"}, [f'spec.storageClassName: Invalid value: "Bad Name": {SUBDOMAIN}']),
    (
        {"volumeAttributesClassName": "Bad Name"},
        [f'spec.volumeAttributesClassName: Invalid value: "Bad Name": {SUBDOMAIN}'],
    ),
    (
        {"volumeAttributesClassName": ""},
        ["spec.volumeAttributesClassName: Required value: an empty string is disallowed"],
    ),
    (
        {"csi": None, "local": {"path": "/x"}},
        ["spec.nodeAffinity: Required value: Local volume requires node affinity"],
    ),
]


@pytest.mark.parametrize(("spec", "causes"), VOLUME_SPECS, ids=_ids(VOLUME_SPECS))
async def test_volumes(client: Client, server: Server, spec: dict[str, Any], causes: list[str]) -> None:
    answer = (await client.post(VOLUMES, volume(server.name(), **spec), dryRun="All")).refused(422, "Invalid")
    assert answer.causes == causes
    shown = causes[0] if len(causes) == 1 else f"[{', '.join(causes)}]"
    assert answer["message"] == f'PersistentVolume "{server.name()}" is invalid: {shown}'


CLAIM_SPECS: list[tuple[dict[str, Any], list[str]]] = [
    ({"accessModes": []}, ["spec.accessModes: Required value: at least 1 access mode is required"]),
    ({"resources": {}}, ["spec.resources[storage]: Required value"]),
    (
        {"resources": {"requests": {"storage": "0"}}},
        ['spec.resources[storage]: Invalid value: "0": must be greater than zero'],
    ),
    (
        {"resources": {"requests": {"storage": "-5"}}},
        ['spec.resources[storage]: Invalid value: "-5": must be greater than zero'],
    ),
    (
        {"dataSource": {"kind": "PersistentVolumeClaim"}},
        ["spec.dataSource.name: Required value", "spec.dataSourceRef.name: Required value"],
    ),
    (
        {"dataSourceRef": {"kind": "Pop", "name": "s"}},
        [
            "spec.dataSource: Invalid value: \"Pop\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            "spec.dataSourceRef: Invalid value: \"Pop\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
        ],
    ),
    (
        {
            "dataSource": {"kind": "PersistentVolumeClaim", "name": "a"},
            "dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "b"},
        },
        ["spec: Invalid value: {}: must match dataSourceRef"],
    ),
    (
        {
            "dataSource": {"kind": "PersistentVolumeClaim", "name": "a"},
            "dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "a", "namespace": "n"},
        },
        ["spec: Invalid value: {}: may not be specified when dataSourceRef.namespace is specified"],
    ),
    (
        {"dataSourceRef": {"apiGroup": "a b", "kind": "X", "name": "b"}},
        [
            f'spec.dataSource.apiGroup: Invalid value: "a b": {SUBDOMAIN}',
            f'spec.dataSourceRef.apiGroup: Invalid value: "a b": {SUBDOMAIN}',
        ],
    ),
    ({"volumeMode": "Tape"}, ['spec.volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem"']),
    ({"storageClassName": "Bad Name"}, [f'spec.storageClassName: Invalid value: "Bad Name": {SUBDOMAIN}']),
    (
        {"volumeAttributesClassName": "Bad Name"},
        [f'spec.volumeAttributesClassName: Invalid value: "Bad Name": {SUBDOMAIN}'],
    ),
    ({"selector": {"matchLabels": {"a b": "c"}}}, [f'spec.selector.matchLabels: Invalid value: "a b": {NAME_PART}']),
    (
        {"selector": {"matchExpressions": [{"key": "a", "operator": "Foo"}]}},
        ['spec.selector.matchExpressions[0].operator: Invalid value: "Foo": not a valid selector operator'],
    ),
]


@pytest.mark.parametrize(("spec", "causes"), CLAIM_SPECS, ids=_ids(CLAIM_SPECS))
async def test_claims(client: Client, server: Server, spec: dict[str, Any], causes: list[str]) -> None:
    answer = (await client.post(server.claims, claim("c", **spec), dryRun="All")).refused(422, "Invalid")
    assert answer.causes == causes


ATTACHMENT_SPECS: list[tuple[dict[str, Any], list[str]]] = [
    ({"attacher": ""}, ["spec.attacher: Required value"]),
    ({"attacher": "Bad_Name"}, [f'spec.attacher: Invalid value: "Bad_Name": {SUBDOMAIN}']),
    ({"attacher": "d" * 64}, ["spec.attacher: Too long: may not be more than 63 bytes"]),
    ({"nodeName": ""}, [f'spec.nodeName: Invalid value: "": {SUBDOMAIN}']),
    ({"nodeName": "Bad Name"}, [f'spec.nodeName: Invalid value: "Bad Name": {SUBDOMAIN}']),
    (
        {"source": {}},
        ["spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"],
    ),
    (
        {"source": {"persistentVolumeName": ""}},
        [
            "spec.source.persistentVolumeName: Required value: must specify non empty persistentVolumeName",
            f'spec.source.persistentVolumeName: Invalid value: "": {SUBDOMAIN}',
        ],
    ),
    (
        {"source": {"persistentVolumeName": "Bad Name"}},
        [f'spec.source.persistentVolumeName: Invalid value: "Bad Name": {SUBDOMAIN}'],
    ),
    (
        {
            "source": {
                "persistentVolumeName": "x",
                "inlineVolumeSpec": {
                    "capacity": {"storage": "1Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "csi": {"driver": "d.example.com", "volumeHandle": "h"},
                },
            }
        },
        ["spec.source: Forbidden: must specify exactly one of inlineVolumeSpec and persistentVolumeName"],
    ),
    (
        {
            "source": {
                "inlineVolumeSpec": {
                    "capacity": {"storage": "1Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "csi": {"driver": "d.example.com", "volumeHandle": "h"},
                }
            }
        },
        ["spec.source.inlineVolumeSpec.capacity: Forbidden: may not be specified in the context of inline volumes"],
    ),
    (
        {"source": {"inlineVolumeSpec": {"accessModes": ["ReadWriteOnce"]}}},
        [
            "spec.source.inlineVolumeSpec.csi: Required value: has to be specified in the context of inline volumes",
            "spec.source.inlineVolumeSpec: Required value: must specify a volume type",
        ],
    ),
    (
        {"source": {"inlineVolumeSpec": {"csi": {"driver": "d", "volumeHandle": "h"}}}},
        ["spec.source.inlineVolumeSpec.accessModes: Required value"],
    ),
    (
        {"source": {"inlineVolumeSpec": {"accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}}},
        ["spec.source.inlineVolumeSpec.csi: Required value: has to be specified in the context of inline volumes"],
    ),
    (
        {
            "source": {
                "inlineVolumeSpec": {
                    "accessModes": ["ReadWriteOnce"],
                    "csi": {"driver": "d", "volumeHandle": "h"},
                    "claimRef": {"name": "x"},
                    "storageClassName": "x",
                    "mountOptions": ["a"],
                    "volumeMode": "Block",
                    "persistentVolumeReclaimPolicy": "Delete",
                }
            }
        },
        [
            "spec.source.inlineVolumeSpec.claimRef: Forbidden: may not be specified in the context of inline volumes",
            "spec.source.inlineVolumeSpec.persistentVolumeReclaimPolicy: Forbidden: may only be Retain in the context of inline volumes",
            "spec.source.inlineVolumeSpec.storageClassName: Forbidden: may not be specified in the context of inline volumes",
            "spec.source.inlineVolumeSpec.volumeMode: Forbidden: may not specify volumeMode other than Filesystem in the context of inline volumes",
        ],
    ),
]


@pytest.mark.parametrize(("spec", "causes"), ATTACHMENT_SPECS, ids=_ids(ATTACHMENT_SPECS))
async def test_attachments(client: Client, server: Server, spec: dict[str, Any], causes: list[str]) -> None:
    answer = (await client.post(ATTACHMENTS, attachment(server.name(), **spec), dryRun="All")).refused(422, "Invalid")
    assert answer.causes == causes
    assert answer["details"]["group"] == "storage.k8s.io"


@pytest.mark.parametrize("field", ["attachError", "detachError"])
async def test_error_of_an_attachment_has_a_limit_of_1024_bytes(server: Server, client: Client, field: str) -> None:
    (await client.post(ATTACHMENTS, attachment(server.name()))).ok(201)
    url = f"{ATTACHMENTS}/{server.name()}/status"
    (await client.merge(url, {"status": {field: {"message": "x" * 1024}}})).ok()
    answer = (await client.merge(url, {"status": {field: {"message": "é" * 513}}})).refused(422, "Invalid")
    # The number is the real server's own slip: it refuses over 1024 bytes and names another limit.
    assert answer.causes == [f"status.{field}.message: Too long: may not be more than 262144 bytes"]


async def test_error_code_of_an_attachment_is_not_negative(server: Server, client: Client) -> None:
    (await client.post(ATTACHMENTS, attachment(server.name()))).ok(201)
    patch = {"status": {"attachError": {"errorCode": -1}}}
    answer = (await client.merge(f"{ATTACHMENTS}/{server.name()}/status", patch)).refused(422, "Invalid")
    assert answer.causes == [
        "status.attachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive"
    ]


async def test_metadata_of_an_attachment_has_a_limit_of_256_kib(server: Server, client: Client) -> None:
    (await client.post(ATTACHMENTS, attachment(server.name()))).ok(201)
    url = f"{ATTACHMENTS}/{server.name()}/status"
    patch = {"status": {"attachmentMetadata": {"k": "x" * 256 * 1024}}}
    answer = (await client.merge(url, patch)).refused(422, "Invalid")
    assert answer.causes == ["status.attachmentMetadata: Too long: may not be more than 262144 bytes"]
    (await client.merge(url, {"status": {"attachmentMetadata": {"k": "x" * (256 * 1024 - 1)}}})).ok()


CLASS_FIELDS: list[tuple[dict[str, Any], list[str]]] = [
    ({"provisioner": ""}, ["provisioner: Required value"]),
    ({"provisioner": "Bad Name"}, [f'provisioner: Invalid value: "bad name": {NAME_PART}']),
    ({"provisioner": "a/b/c"}, [f'provisioner: Invalid value: "a/b/c": {LABEL_KEY}']),
    (
        {"reclaimPolicy": "Recycle"},
        ['reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"'],
    ),
    ({"reclaimPolicy": "Burn"}, ['reclaimPolicy: Unsupported value: "Burn": supported values: "Delete", "Retain"']),
    (
        {"volumeBindingMode": "Later"},
        ['volumeBindingMode: Unsupported value: "Later": supported values: "Immediate", "WaitForFirstConsumer"'],
    ),
    (
        {"volumeBindingMode": ""},
        ['volumeBindingMode: Unsupported value: "": supported values: "Immediate", "WaitForFirstConsumer"'],
    ),
    ({"parameters": {"": "x"}}, ['parameters: Invalid value: "": field can not be empty.']),
    (
        {"allowedTopologies": [{"matchLabelExpressions": [{"key": "a", "values": []}]}]},
        ["allowedTopologies[0].matchLabelExpressions[0].values: Required value"],
    ),
    (
        {"allowedTopologies": [{"matchLabelExpressions": [{"key": "a b", "values": ["x"]}]}]},
        [f'allowedTopologies[0].matchLabelExpressions[0].key: Invalid value: "a b": {NAME_PART}'],
    ),
    (
        {"allowedTopologies": [{"matchLabelExpressions": [{"key": "a", "values": ["x", "x"]}]}]},
        ['allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: "x"'],
    ),
    (
        {
            "allowedTopologies": [
                {"matchLabelExpressions": [{"key": "a", "values": ["x"]}, {"key": "a", "values": ["y"]}]}
            ]
        },
        ['allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: "a"'],
    ),
    ({"allowedTopologies": [{}]}, ['allowedTopologies[0].matchLabelExpressions: Duplicate value: ""']),
    (
        {
            "allowedTopologies": [
                {"matchLabelExpressions": [{"key": "a", "values": ["x"]}]},
                {"matchLabelExpressions": [{"key": "a", "values": ["x"]}]},
            ]
        },
        ['allowedTopologies[1].matchLabelExpressions: Duplicate value: ""'],
    ),
]


@pytest.mark.parametrize(("fields", "causes"), CLASS_FIELDS, ids=_ids(CLASS_FIELDS))
async def test_classes(client: Client, server: Server, fields: dict[str, Any], causes: list[str]) -> None:
    answer = (await client.post(CLASSES, storage_class(server.name(), **fields), dryRun="All")).refused(422, "Invalid")
    assert answer.causes == causes


@pytest.mark.parametrize(
    ("parameters", "cause"),
    [
        ({"a": "x" * 300_000}, "parameters: Too long: may not be more than 262144 bytes"),
        ({str(number): "x" for number in range(513)}, "parameters: Too long: may not be more than 512 bytes"),
    ],
    ids=["bytes", "count"],
)
async def test_parameters_have_limits(server: Server, client: Client, parameters: dict[str, str], cause: str) -> None:
    answer = await client.post(CLASSES, storage_class(server.name(), parameters=parameters))
    assert answer.refused(422, "Invalid").causes == [cause]


OTHERS: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("CSIDriver", "Bad_Name", {"spec": {}}, [f'metadata.name: Invalid value: "Bad_Name": {SUBDOMAIN}']),
    (
        "CSIDriver",
        "d",
        {"spec": {"fsGroupPolicy": "X"}},
        ['spec.fsGroupPolicy: Unsupported value: "X": supported values: "File", "None", "ReadWriteOnceWithFSType"'],
    ),
    (
        "CSIDriver",
        "d",
        {"spec": {"volumeLifecycleModes": ["X"]}},
        ['spec.volumeLifecycleModes: Unsupported value: "X": supported values: "Persistent", "Ephemeral"'],
    ),
    (
        "CSIDriver",
        "d",
        {"spec": {"tokenRequests": [{"audience": "a"}, {"audience": "a"}]}},
        ['spec.tokenRequests[1].audience: Duplicate value: "a"'],
    ),
    (
        "CSIDriver",
        "d",
        {"spec": {"tokenRequests": [{"audience": "a", "expirationSeconds": 1}]}},
        ["spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes"],
    ),
    ("CSIDriver", "UPPER", {"spec": {}}, [f'metadata.name: Invalid value: "UPPER": {SUBDOMAIN}']),
    (
        "CSIDriver",
        "d",
        {"spec": {"nodeAllocatableUpdatePeriodSeconds": 5}},
        ["spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 5: must be greater than or equal to 10 seconds"],
    ),
    ("CSINode", "n1", {"spec": {"drivers": [{"name": "a", "nodeID": ""}]}}, ["spec.drivers[0].nodeID: Required value"]),
    ("CSINode", "n1", {"spec": {"drivers": [{"name": "", "nodeID": "x"}]}}, ["spec.drivers[0].name: Required value"]),
    (
        "CSINode",
        "n1",
        {"spec": {"drivers": [{"name": "a", "nodeID": "x"}, {"name": "a", "nodeID": "y"}]}},
        ['spec.drivers[1].name: Duplicate value: "a"'],
    ),
    (
        "CSINode",
        "n1",
        {"spec": {"drivers": [{"name": "a", "nodeID": "x", "allocatable": {"count": -1}}]}},
        ["spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0"],
    ),
    (
        "CSINode",
        "n1",
        {"spec": {"drivers": [{"name": "a", "nodeID": "x", "topologyKeys": ["a b"]}]}},
        [f'spec.drivers[0]: Invalid value: "a b": {NAME_PART}'],
    ),
    (
        "CSINode",
        "n1",
        {"spec": {"drivers": [{"name": "a", "nodeID": "x", "topologyKeys": ["a", "a"]}]}},
        ['spec.drivers[0]: Duplicate value: "a"'],
    ),
    (
        "CSINode",
        "n1",
        {"spec": {"drivers": [{"name": "a", "nodeID": "x" * 300}]}},
        [f'spec.drivers[0].nodeID: Invalid value: "{"x" * 300}": must be 256 characters or less'],
    ),
    (
        "CSINode",
        "n1",
        {"spec": {"drivers": [{"name": "Bad_Name", "nodeID": "x"}]}},
        [f'spec.drivers[0].name: Invalid value: "Bad_Name": {SUBDOMAIN}'],
    ),
    (
        "CSINode",
        "n1",
        {"spec": {"drivers": [{"name": "a", "nodeID": "x", "topologyKeys": [""]}]}},
        [
            "spec.drivers[0]: Required value",
            'spec.drivers[0]: Invalid value: "": name part must be non-empty',
            f'spec.drivers[0]: Invalid value: "": {NAME_PART}',
        ],
    ),
    ("CSIStorageCapacity", "cap-1", {}, [f'storageClassName: Invalid value: "": {SUBDOMAIN}']),
    (
        "CSIStorageCapacity",
        "cap-1",
        {"storageClassName": "Bad Name"},
        [f'storageClassName: Invalid value: "Bad Name": {SUBDOMAIN}'],
    ),
    (
        "CSIStorageCapacity",
        "cap-1",
        {"storageClassName": "x", "capacity": "-1"},
        ['capacity: Invalid value: "-1": must be greater than or equal to 0'],
    ),
    (
        "CSIStorageCapacity",
        "cap-1",
        {"storageClassName": "x", "nodeTopology": {"matchLabels": {"a b": "c"}}},
        [f'nodeTopology.matchLabels: Invalid value: "a b": {NAME_PART}'],
    ),
    (
        "VolumeAttributesClass",
        "v1",
        {},
        ["driverName: Required value", "parameters: Required value: must contain at least one key/value pair"],
    ),
    (
        "VolumeAttributesClass",
        "v1",
        {"driverName": "d"},
        ["parameters: Required value: must contain at least one key/value pair"],
    ),
    (
        "VolumeAttributesClass",
        "v1",
        {"driverName": "d", "parameters": {}},
        ["parameters: Required value: must contain at least one key/value pair"],
    ),
    (
        "VolumeAttributesClass",
        "v1",
        {"driverName": "d", "parameters": {"": "b"}},
        ['parameters: Invalid value: "": field can not be empty.'],
    ),
    (
        "VolumeAttributesClass",
        "v1",
        {"driverName": "d" * 64, "parameters": {"a": "b"}},
        [f'driverName: Invalid value: "{"d" * 64}": name part must be no more than 63 bytes'],
    ),
    (
        "Lease",
        "l1",
        {"spec": {"leaseDurationSeconds": 0}},
        ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
    ),
    (
        "Lease",
        "l1",
        {"spec": {"leaseDurationSeconds": -1}},
        ["spec.leaseDurationSeconds: Invalid value: -1: must be greater than 0"],
    ),
    (
        "Lease",
        "l1",
        {"spec": {"leaseTransitions": -1}},
        ["spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0"],
    ),
]


@pytest.mark.parametrize(
    ("kind", "name", "fields", "causes"), OTHERS, ids=[f"{case[0]}-{case[-1][0].partition(':')[0]}" for case in OTHERS]
)
async def test_other_kinds(
    client: Client, server: Server, kind: str, name: str, fields: dict[str, Any], causes: list[str]
) -> None:
    path = {
        "CSIDriver": f"{STORAGE}/csidrivers",
        "CSINode": f"{STORAGE}/csinodes",
        "CSIStorageCapacity": server.capacities,
        "VolumeAttributesClass": f"{STORAGE}/volumeattributesclasses",
        "Lease": server.leases,
    }[kind]
    answer = (await client.post(path, {"metadata": {"name": name}, **fields}, dryRun="All")).refused(422, "Invalid")
    assert answer.causes == causes


@pytest.mark.parametrize(
    ("kind", "data", "causes"),
    [
        ("kubernetes.io/tls", {}, ["data[tls.crt]: Required value", "data[tls.key]: Required value"]),
        (
            "Opaque",
            {"a b": "eA=="},
            [
                (
                    "data[a b]: Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', '_' "
                    "or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                )
            ],
        ),
    ],
)
async def test_secrets(server: Server, client: Client, kind: str, data: dict[str, str], causes: list[str]) -> None:
    body = {"metadata": {"name": "s"}, "type": kind, "data": data}
    assert (await client.post(f"{server.space}/secrets", body)).refused(422, "Invalid").causes == causes


async def test_events_of_the_new_kind_need_their_time(server: Server, client: Client) -> None:
    body = {
        "metadata": {"name": "e"},
        "regarding": {"kind": "Pod", "namespace": server.unique, "name": "p"},
        "reason": "r",
        "note": "n",
        "type": "Normal",
    }
    answer = await client.post(f"/apis/events.k8s.io/v1/namespaces/{server.unique}/events", body)
    assert answer.refused(422, "Invalid").causes == ["eventTime: Required value"]


async def test_pod_needs_a_container(server: Server, client: Client) -> None:
    answer = await client.post(server.pods, {"metadata": {"name": "p"}, "spec": {}})
    assert "spec.containers: Required value" in answer.refused(422, "Invalid").causes


async def test_inline_volume_must_be_csi(server: Server, client: Client) -> None:
    source = {"inlineVolumeSpec": {"accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}}
    answer = await client.post(ATTACHMENTS, attachment(server.name(), source=source))
    field = "spec.source.inlineVolumeSpec.csi"
    assert f"{field}: Required value: has to be specified in the context of inline volumes" in answer.causes


async def test_claim_of_a_volume_may_be_told_by_name(server: Server, client: Client) -> None:
    """Legal at the edge: a PV that names its claim, with the longest driver name."""
    csi = {"driver": "d" * 63, "volumeHandle": "h"}
    (await client.post(VOLUMES, volume(server.name(), csi=csi, claimRef={"name": "c", "namespace": "n"}))).ok(201)
