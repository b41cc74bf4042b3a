"""Azure File: the handle is put together from resource group, storage account, share, volume and namespace.

Source: csi-translation-lib `plugins/azure_file.go`; azurefile-csi-driver `docs/driver-parameters.md`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from csisidecar.errors import UnusableObjectError
from csisidecar.mapping.migration.contract import InTreeSource, InTreeVolume, Migration, given
from csisidecar.mapping.migration.parameters import ClassRules
from csisidecar.mapping.migration.texts import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

DRIVER = "file.csi.azure.com"
RESOURCE_GROUP_ANNOTATION = "kubernetes.io/azure-file-resource-group"

_ACCOUNT_IN_SECRET = re.compile(r"azure-storage-account-(.+)-secret")
_DEFAULT_NAMESPACE = "default"


def _to_csi(volume: InTreeVolume) -> dict[str, Any]:
    source = volume.source
    secret, share = source.get("secretName") or "", source.get("shareName") or ""
    named = _ACCOUNT_IN_SECRET.search(secret)
    account = named[1] if named else secret
    namespace = source.get("secretNamespace")
    if namespace is None:
        namespace = volume.claim_namespace
    if not namespace:
        raise UnusableObjectError("could not find a secret namespace in PersistentVolumeSource or ClaimRef")
    group = volume.annotations.get(RESOURCE_GROUP_ANNOTATION, "")
    return {
        "driver": DRIVER,
        "volumeHandle": "#".join((group, account, share, volume.name, namespace)),
        "volumeAttributes": {"sharename": share},
        "nodeStageSecretRef": given(name=secret, namespace=namespace),
    } | given(readOnly=source.get("readOnly"))


def _to_in_tree(csi: Mapping[str, Any]) -> InTreeSource:
    attributes = {key.lower(): value for key, value in sorted((csi.get("volumeAttributes") or {}).items())}
    share, secret = attributes.get("sharename", ""), attributes.get("secretname", "")
    namespace = attributes.get("secretnamespace", _DEFAULT_NAMESPACE)
    ref = csi.get("nodeStageSecretRef") or {}
    if ref.get("name"):
        secret, namespace = ref["name"], ref.get("namespace") or ""
    group = ""
    if not share or not secret:
        group, account, share_in_handle = _read_handle(csi.get("volumeHandle") or "")
        share = share or share_in_handle
        secret = secret or f"azure-storage-account-{account}-secret"
    return InTreeSource(
        fields={"secretName": secret, "shareName": share, "secretNamespace": namespace}
        | given(readOnly=csi.get("readOnly")),
        annotations={RESOURCE_GROUP_ANNOTATION: group} if group else {},
    )


def _read_handle(handle: str) -> tuple[str, str, str]:
    """Resource group, storage account and share."""
    parts = handle.split("#")
    if len(parts) < 3:
        raise UnusableObjectError(f"error parsing volume id: {quote(handle)}, should at least contain two #")
    return parts[0], parts[1], parts[2]


AZURE_FILE = Migration(
    driver=DRIVER,
    in_tree_name="kubernetes.io/azure-file",
    source_field="azureFile",
    to_csi=_to_csi,
    to_in_tree=_to_in_tree,
    class_rules=ClassRules(),
)
