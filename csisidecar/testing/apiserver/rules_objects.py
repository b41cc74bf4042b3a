"""Which Leases, Secrets, ConfigMaps, Events and Pods are refused: what users of this server can meet, not more.

Source: kubernetes/kubernetes, pkg/apis/core/validation and pkg/apis/coordination/validation.
"""

from __future__ import annotations

import re
from typing import Any

from csisidecar.testing.apiserver.rules_names import immutable
from csisidecar.testing.apiserver.status import Cause, duplicate, forbidden_field, invalid, required, too_long

Content = dict[str, Any]

_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")


_CONFIG_KEY_RULE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    "'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)


_SECRET_KEYS = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
}


_MAX_SECRET_BYTES = 1024 * 1024


def check_lease(content: Content) -> list[Cause]:
    """What is wrong with a Lease."""
    spec = content["spec"]
    causes = []
    duration = spec.get("leaseDurationSeconds")
    if duration is not None and duration <= 0:
        causes.append(invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"))
    transitions = spec.get("leaseTransitions")
    if transitions is not None and transitions < 0:
        causes.append(invalid("spec.leaseTransitions", transitions, "must be greater than or equal to 0"))
    return causes


def check_secret(content: Content) -> list[Cause]:
    """What is wrong with a Secret."""
    data = content.get("data", {})
    causes = [invalid(f"data[{key}]", key, _CONFIG_KEY_RULE) for key in data if not _CONFIG_KEY.fullmatch(key)]
    if sum(len(value) * 3 // 4 for value in data.values()) > _MAX_SECRET_BYTES:
        causes.append(too_long("data", _MAX_SECRET_BYTES))
    needed = _SECRET_KEYS.get(content.get("type", ""), ())
    return causes + [required(f"data[{key}]") for key in needed if key not in data]


def check_secret_change(content: Content, old: Content) -> list[Cause]:
    """What may not change of a Secret."""
    causes = []
    if content.get("type") != old.get("type"):
        causes.append(immutable("type", content.get("type")))
    return causes + check_config_map_change(content, old)


def check_config_map_change(content: Content, old: Content) -> list[Cause]:
    """What may not change of a ConfigMap, or of a Secret's data, once it is immutable."""
    if not old.get("immutable"):
        return []
    detail = "field is immutable when `immutable` is set"
    causes = [] if content.get("immutable") else [forbidden_field("immutable", detail)]
    return causes + [
        forbidden_field(field, detail)
        for field in ("data", "binaryData")
        if content.get(field, {}) != old.get(field, {})
    ]


def check_event(content: Content) -> list[Cause]:
    """What is wrong with an Event."""
    involved = content.get("involvedObject", {}).get("namespace", "")
    namespace = content["metadata"].get("namespace", "")
    if involved != namespace and not (involved == "" and namespace == "default"):
        return [invalid("involvedObject.namespace", involved, "does not match event.namespace")]
    return []


def check_pod(content: Content) -> list[Cause]:
    """What is wrong with a Pod."""
    spec = content["spec"]
    causes = []
    if not spec.get("containers"):
        causes.append(required("spec.containers"))
    for index, container in enumerate(spec.get("containers") or ()):
        if not container.get("name"):
            causes.append(required(f"spec.containers[{index}].name"))
    volumes = [volume.get("name", "") for volume in spec.get("volumes", ())]
    for index, name in enumerate(volumes):
        if name in volumes[:index]:
            causes.append(duplicate(f"spec.volumes[{index}].name", name))
    return causes


def check_pod_change(content: Content, old: Content) -> list[Cause]:
    """What may not change of a Pod."""
    mutable = {"activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates"}

    def fixed(spec: Content) -> Content:
        kept = {key: value for key, value in spec.items() if key not in mutable}
        for group in ("containers", "initContainers"):
            if group in kept:
                kept[group] = [{k: v for k, v in item.items() if k != "image"} for item in kept[group]]
        return kept

    if fixed(content["spec"]) != fixed(old["spec"]):
        return [
            forbidden_field(
                "spec",
                "pod updates may not change fields other than `spec.containers[*].image`,"
                "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to "
                "existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
                "previously negative)",
            )
        ]
    return []
