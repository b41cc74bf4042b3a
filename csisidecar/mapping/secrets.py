"""StorageClass parameters → which Secret each CSI call gets; Secret object → what the driver is sent.

Parameters hold name and namespace templates, one pair for each kind of call and a default pair. Nothing here
reads a Secret, and no value of one appears in an error.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from csisidecar.errors import UnusableObjectError
from csisidecar.kube import SecretRef

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PREFIX = "csi.storage.k8s.io/"
"""Parameters that begin so are meant for the sidecar; the driver never sees them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SecretPair:
    """The two parameters that name one Secret, with their deprecated spellings where those exist."""

    label: str
    """What messages call the pair, in Go's spelling."""
    name_key: str
    namespace_key: str
    old_name_key: str = ""
    old_namespace_key: str = ""


def _pair(label: str, slug: str, *, has_old_keys: bool = False) -> SecretPair:
    stem = f"{slug}-" if slug else ""
    return SecretPair(
        label=label,
        name_key=f"{PREFIX}{stem}secret-name",
        namespace_key=f"{PREFIX}{stem}secret-namespace",
        old_name_key=f"csi{label}SecretName" if has_old_keys else "",
        old_namespace_key=f"csi{label}SecretNamespace" if has_old_keys else "",
    )


DEFAULT = _pair("Default", "")
PROVISIONER = _pair("Provisioner", "provisioner", has_old_keys=True)
CONTROLLER_PUBLISH = _pair("ControllerPublish", "controller-publish", has_old_keys=True)
NODE_STAGE = _pair("NodeStage", "node-stage", has_old_keys=True)
NODE_PUBLISH = _pair("NodePublish", "node-publish", has_old_keys=True)
CONTROLLER_EXPAND = _pair("ControllerExpand", "controller-expand")
NODE_EXPAND = _pair("NodeExpand", "node-expand")
CONTROLLER_MODIFY = _pair("ControllerModify", "controller-modify")

PAIRS = (
    PROVISIONER,
    CONTROLLER_PUBLISH,
    NODE_STAGE,
    NODE_PUBLISH,
    CONTROLLER_EXPAND,
    NODE_EXPAND,
    CONTROLLER_MODIFY,
)
"""Every pair but the default one, in the order in which their errors are told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SecretTokens:
    """What the tokens of a template stand for.

    A namespace may use only what the claim's owner cannot choose freely: the PV's name and the claim's namespace.
    """

    pv_name: str
    claim_name: str
    claim_namespace: str
    annotations: Mapping[str, str]
    """The claim's annotations; empty when they are not known, as at deletion."""

    def in_namespace(self) -> dict[str, str]:
        """Token → value, for namespace templates."""
        return {"pv.name": self.pv_name, "pvc.namespace": self.claim_namespace}

    def in_name(self) -> dict[str, str]:
        """Token → value, for name templates."""
        found = {f"pvc.annotations['{key}']": value for key, value in self.annotations.items()}
        return found | self.in_namespace() | {"pvc.name": self.claim_name}


def find_secret(pair: SecretPair, parameters: Mapping[str, str], tokens: SecretTokens) -> SecretRef | None:
    """The Secret that `parameters` name for `pair`, else for the default pair; None when they name none.

    A pair that is given but broken is an error and never falls back to the default pair.

    Raises:
        UnusableObjectError: half a pair, an empty value, both spellings of one key, a token that stands for
            nothing, or a result that cannot name a Secret or a namespace.

    Source: external-provisioner `pkg/controller/controller.go`, getSecretReference; Kubernetes CSI documentation,
    "StorageClass Secrets".
    """
    try:
        templates = _find_templates(pair, parameters)
    except UnusableObjectError as error:
        raise UnusableObjectError(f"failed to get name and namespace template from params: {error}") from None
    if templates is None:
        try:
            templates = _find_templates(DEFAULT, parameters)
        except UnusableObjectError as error:
            raise UnusableObjectError(
                f"failed to get default name and namespace template from params: {error}"
            ) from None
    if templates is None:
        return None
    name_template, namespace_template = templates
    namespace = _resolve(namespace_template, tokens.in_namespace(), "namespace name", _is_label)
    name = _resolve(name_template, tokens.in_name(), "secret name", _is_subdomain)
    return SecretRef(name=name, namespace=namespace)


def _find_templates(pair: SecretPair, parameters: Mapping[str, str]) -> tuple[str, str] | None:
    names = [parameters[key] for key in (pair.old_name_key, pair.name_key) if key and key in parameters]
    namespaces = [parameters[k] for k in (pair.old_namespace_key, pair.namespace_key) if k and k in parameters]
    if len(names) > 1 or len(namespaces) > 1:
        raise UnusableObjectError(f'{pair.label} secrets specified in parameters with both "csi" and "{PREFIX}" keys')
    if len(names) != len(namespaces):
        raise UnusableObjectError(
            f"either name and namespace for {pair.label} secrets specified, Both must be specified"
        )
    if not names:
        return None
    if not names[0] or not namespaces[0]:
        raise UnusableObjectError(
            f"{pair.label} secrets specified in parameters but value of either namespace or name is empty"
        )
    return names[0], namespaces[0]


def _resolve(template: str, values: Mapping[str, str], what: str, is_valid: Callable[[str], bool]) -> str:
    unknown: set[str] = set()

    def value_of(token: str) -> str:
        if token not in values:
            unknown.add(token)
        return values.get(token, "")

    resolved = expand(template, value_of)
    if unknown:
        listed = " ".join(_quote(token) for token in sorted(unknown))
        raise UnusableObjectError(f"error resolving value {_quote(template)}: invalid tokens: [{listed}]")
    if not is_valid(resolved):
        said = _quote(template) if resolved == template else f"{_quote(template)} resolved to {_quote(resolved)} which"
        raise UnusableObjectError(f"{said} is not a valid {what}")
    return resolved


_ONE_CHARACTER_TOKENS = frozenset("*#$@!?-0123456789")
_WORD = re.compile(r"[A-Za-z0-9_]+")


def expand(template: str, value_of: Callable[[str], str]) -> str:
    """`template` with each ``${token}`` and ``$token`` replaced, as a shell would.

    ``${}`` vanishes, an unclosed ``${`` loses these two characters, and a ``$`` that nothing follows which could
    begin a token stays.

    Source: Go `os/env.go`, Expand.
    """
    out: list[str] = []
    at = 0
    while (dollar := template.find("$", at)) != -1 and dollar + 1 < len(template):
        out.append(template[at:dollar])
        token, length = _read_token(template[dollar + 1 :])
        if token:
            out.append(value_of(token))
        elif length == 0:
            out.append("$")
        at = dollar + 1 + length
    out.append(template[at:])
    return "".join(out)


def _read_token(text: str) -> tuple[str, int]:
    """The token that `text` begins with and how many characters it takes; an empty token is bad syntax or none."""
    if text[0] == "{":
        if text[2:3] == "}" and text[1] in _ONE_CHARACTER_TOKENS:
            return text[1], 3
        close = text.find("}")
        return (text[1:close], close + 1) if close != -1 else ("", 1)
    if text[0] in _ONE_CHARACTER_TOKENS:
        return text[0], 1
    word = _WORD.match(text)
    return (word[0], word.end()) if word else ("", 0)


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_RE = re.compile(_LABEL)
_SUBDOMAIN_RE = re.compile(rf"{_LABEL}(\.{_LABEL})*")


def _is_label(text: str) -> bool:
    return len(text) <= 63 and _LABEL_RE.fullmatch(text) is not None


def _is_subdomain(text: str) -> bool:
    return len(text) <= 253 and _SUBDOMAIN_RE.fullmatch(text) is not None


def decode_secret(secret: Mapping[str, Any]) -> dict[str, str]:
    """Key → value of a Secret as the API server sends it, as the strings that CSI wants.

    Bytes that are not UTF-8 become lone surrogates; no message can be encoded with them, so the call that gets
    them fails with INTERNAL, as in Go.

    Raises:
        UnusableObjectError: a value is not base64; the message names its key only.
    """
    found = {}
    for key, value in (secret.get("data") or {}).items():
        try:
            found[key] = base64.b64decode(value, validate=True).decode("utf-8", "surrogateescape")
        except (binascii.Error, TypeError, ValueError):
            raise UnusableObjectError(f"the value of key {_quote(key)} is not base64") from None
    return found
