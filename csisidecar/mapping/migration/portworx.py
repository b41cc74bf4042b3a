"""Portworx: one secret, named by annotations of the volume or parameters of the class, serves every call.

Source: csi-translation-lib `plugins/portworx.go`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from csisidecar.mapping import secrets
from csisidecar.mapping.migration.contract import InTreeSource, InTreeVolume, Migration, given
from csisidecar.mapping.migration.parameters import ClassRules

if TYPE_CHECKING:
    from collections.abc import Mapping

DRIVER = "pxd.portworx.com"
SECRET_NAME = "openstorage.io/auth-secret-name"  # noqa: S105 - key of an annotation and of a parameter
SECRET_NAMESPACE = "openstorage.io/auth-secret-namespace"  # noqa: S105 - as above

_SECRET_FIELDS = (
    "controllerPublishSecretRef",
    "nodeStageSecretRef",
    "nodePublishSecretRef",
    "controllerExpandSecretRef",
    "nodeExpandSecretRef",
)
_PAIRS = (
    secrets.PROVISIONER,
    secrets.CONTROLLER_PUBLISH,
    secrets.NODE_PUBLISH,
    secrets.NODE_STAGE,
    secrets.CONTROLLER_EXPAND,
    secrets.NODE_EXPAND,
)


def _to_csi(volume: InTreeVolume) -> dict[str, Any]:
    source, annotations = volume.source, volume.annotations
    csi = {"driver": DRIVER, "volumeHandle": source.get("volumeID") or ""} | given(fsType=source.get("fsType"))
    if SECRET_NAME in annotations and SECRET_NAMESPACE in annotations:
        ref = given(name=annotations[SECRET_NAME], namespace=annotations[SECRET_NAMESPACE])
        csi |= {field: dict(ref) for field in _SECRET_FIELDS}
    return csi


def _to_in_tree(csi: Mapping[str, Any]) -> InTreeSource:
    optional = given(fsType=csi.get("fsType"), readOnly=csi.get("readOnly"))
    return InTreeSource(fields={"volumeID": csi.get("volumeHandle") or ""} | optional)


PORTWORX = Migration(
    driver=DRIVER,
    in_tree_name="kubernetes.io/portworx-volume",
    source_field="portworxVolume",
    to_csi=_to_csi,
    to_in_tree=_to_in_tree,
    class_rules=ClassRules(
        renamed={
            SECRET_NAME: tuple(pair.name_key for pair in _PAIRS),
            SECRET_NAMESPACE: tuple(pair.namespace_key for pair in _PAIRS),
        },
        provisioner=DRIVER,
    ),
)
