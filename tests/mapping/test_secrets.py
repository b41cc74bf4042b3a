"""Secret templates: which pair counts, what tokens stand for, and every way to get it wrong."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csisidecar.errors import UnusableObjectError
from csisidecar.kube import SecretRef
from csisidecar.mapping import secrets
from csisidecar.mapping.secrets import SecretPair, SecretTokens, decode_secret, expand, find_secret

TOKENS = SecretTokens(
    pv_name="pvc-1", claim_name="data", claim_namespace="team", annotations={"example.com/name": "mine", "odd": "Bad_"}
)
P = "csi.storage.k8s.io/"


def pair_of(name: str, namespace: str = "ns", kind: str = "provisioner") -> dict[str, str]:
    return {f"{P}{kind}-secret-name": name, f"{P}{kind}-secret-namespace": namespace}


@pytest.mark.parametrize(
    ("pair", "slug"),
    [
        (secrets.PROVISIONER, "provisioner"),
        (secrets.CONTROLLER_PUBLISH, "controller-publish"),
        (secrets.NODE_STAGE, "node-stage"),
        (secrets.NODE_PUBLISH, "node-publish"),
        (secrets.CONTROLLER_EXPAND, "controller-expand"),
        (secrets.NODE_EXPAND, "node-expand"),
        (secrets.CONTROLLER_MODIFY, "controller-modify"),
    ],
)
def test_each_pair_reads_its_own_keys_and_else_the_default_pair(pair: SecretPair, slug: str) -> None:
    default = {f"{P}secret-name": "all", f"{P}secret-namespace": "ns"}
    own = pair_of("own", "ns", slug)
    assert find_secret(pair, own, TOKENS) == SecretRef(name="own", namespace="ns")
    assert find_secret(pair, default, TOKENS) == SecretRef(name="all", namespace="ns")
    assert find_secret(pair, default | own, TOKENS) == SecretRef(name="own", namespace="ns")
    assert find_secret(pair, {}, TOKENS) is None
    others = [other for other in secrets.PAIRS if other is not pair]
    assert all(find_secret(other, own, TOKENS) is None for other in others)


@pytest.mark.parametrize(
    ("pair", "old"),
    [
        (secrets.PROVISIONER, "Provisioner"),
        (secrets.CONTROLLER_PUBLISH, "ControllerPublish"),
        (secrets.NODE_STAGE, "NodeStage"),
        (secrets.NODE_PUBLISH, "NodePublish"),
    ],
)
def test_deprecated_keys_count_for_four_pairs_and_may_be_mixed_by_halves(pair: SecretPair, old: str) -> None:
    both = {f"csi{old}SecretName": "s", f"csi{old}SecretNamespace": "ns"}
    assert find_secret(pair, both, TOKENS) == SecretRef(name="s", namespace="ns")
    mixed = {f"csi{old}SecretName": "s", pair.namespace_key: "other"}
    assert find_secret(pair, mixed, TOKENS) == SecretRef(name="s", namespace="other")
    with pytest.raises(UnusableObjectError, match=f'{old} secrets specified in parameters with both "csi" and'):
        find_secret(pair, {**both, pair.name_key: "t"}, TOKENS)


BROKEN: list[Any] = [
    ({f"{P}provisioner-secret-name": "s"}, "either name and namespace for Provisioner secrets specified"),
    ({f"{P}provisioner-secret-namespace": "s"}, "either name and namespace for Provisioner secrets specified"),
    (pair_of("", "ns"), "Provisioner secrets specified in parameters but value of either namespace or name is empty"),
    (pair_of("s", ""), "Provisioner secrets specified in parameters but value of either namespace or name is empty"),
    (
        {f"{P}secret-name": "s"},
        (
            "failed to get default name and namespace template from params:"
            " either name and namespace for Default secrets specified, Both must be specified"
        ),
    ),
    (pair_of("${pvc.uid}"), 'error resolving value "${pvc.uid}": invalid tokens: ["pvc.uid"]'),
    (pair_of("${b}${a}${b}"), 'error resolving value "${b}${a}${b}": invalid tokens: ["a" "b"]'),
    (pair_of("$1"), 'error resolving value "$1": invalid tokens: ["1"]'),
    (pair_of("s", "${pvc.name}"), 'error resolving value "${pvc.name}": invalid tokens: ["pvc.name"]'),
    (
        pair_of("s", "${pvc.annotations['odd']}"),
        "error resolving value \"${pvc.annotations['odd']}\": invalid tokens: [\"pvc.annotations['odd']\"]",
    ),
    (
        pair_of("${pvc.annotations['none']}"),
        "error resolving value \"${pvc.annotations['none']}\": invalid tokens: [\"pvc.annotations['none']\"]",
    ),
    (pair_of("Upper"), '"Upper" is not a valid secret name'),
    (
        pair_of("${pvc.annotations['odd']}"),
        '"${pvc.annotations[\'odd\']}" resolved to "Bad_" which is not a valid secret name',
    ),
    (pair_of("a" * 254), "is not a valid secret name"),
    (pair_of("s", "a.b"), '"a.b" is not a valid namespace name'),
    (pair_of("s", "a" * 64), "is not a valid namespace name"),
    (pair_of("s", "${pv.name}-"), '"${pv.name}-" resolved to "pvc-1-" which is not a valid namespace name'),
    (pair_of("Bad", "Bad"), '"Bad" is not a valid namespace name'),
]


@pytest.mark.parity("P-CREATE-15")
@pytest.mark.parametrize(("parameters", "text"), BROKEN)
def test_broken_pair_is_an_error_and_no_fallback(parameters: dict[str, str], text: str) -> None:
    if f"{P}secret-name" not in parameters:
        parameters = {**parameters, f"{P}secret-name": "all", f"{P}secret-namespace": "ns"}
    with pytest.raises(UnusableObjectError) as caught:
        find_secret(secrets.PROVISIONER, parameters, TOKENS)
    assert text in str(caught.value)


def test_tokens_stand_for_the_volume_the_claim_and_its_annotations() -> None:
    name = "${pv.name}-${pvc.namespace}.$x${pvc.name}-${pvc.annotations['example.com/name']}".replace("$x", "")
    found = find_secret(secrets.PROVISIONER, pair_of(name, "${pvc.namespace}-x"), TOKENS)
    assert found == SecretRef(name="pvc-1-team.data-mine", namespace="team-x")
    assert find_secret(secrets.PROVISIONER, pair_of("a.b", "a" * 63), TOKENS) is not None


@pytest.mark.parity("P-CREATE-16")
@pytest.mark.parametrize(
    ("template", "result"),
    [
        ("plain", "plain"),
        ("$name-x", "<name>-x"),
        ("${name}x", "<name>x"),
        ("$name_2", "<name_2>"),
        ("${}a", "a"),
        ("a${b", "ab"),
        ("a$", "a$"),
        ("a$.b", "a$.b"),
        ("$$", "<$>"),
        ("$*x", "<*>x"),
        ("${*}x", "<*>x"),
        ("$12", "<1>2"),
        ("${12}", "<12>"),
        ("${", ""),
        ("${a.b['c d']}", "<a.b['c d']>"),
    ],
)
def test_templates_expand_as_in_go(template: str, result: str) -> None:
    assert expand(template, lambda token: f"<{token}>") == result


@given(st.text(alphabet="ab$ {}.*1", max_size=12))
def test_expanding_always_ends_and_keeps_text_without_dollars(text: str) -> None:
    expanded = expand(text, lambda _: "")
    assert "$" in text or expanded == text


def test_secret_values_are_decoded_to_strings() -> None:
    encoded = {"key": base64.b64encode(b"value \xc3\xa9").decode(), "empty": ""}
    assert decode_secret({"data": encoded}) == {"key": "value é", "empty": ""}
    assert decode_secret({}) == {}
    assert decode_secret({"data": None}) == {}


def test_bytes_that_are_no_text_cannot_be_encoded_into_a_message() -> None:
    found = decode_secret({"data": {"key": base64.b64encode(b"\xff\x00").decode()}})
    with pytest.raises(UnicodeEncodeError):
        found["key"].encode()


def test_malformed_secret_is_told_by_key_and_never_by_value() -> None:
    with pytest.raises(UnusableObjectError) as caught:
        decode_secret({"data": {"key": "t0p*secret"}})
    assert str(caught.value) == 'the value of key "key" is not base64'
    assert caught.value.__cause__ is None
