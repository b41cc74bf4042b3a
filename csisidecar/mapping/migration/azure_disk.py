"""Azure Disk: only managed disks can move; classes keep `fstype`, which the driver reads itself.

Source: csi-translation-lib `plugins/azure_disk.go`; azuredisk-csi-driver `docs/driver-parameters.md`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from csisidecar.errors import UnusableObjectError
from csisidecar.mapping.migration.contract import InTreeSource, InTreeVolume, Migration, given
from csisidecar.mapping.migration.parameters import ClassRules

if TYPE_CHECKING:
    from collections.abc import Mapping

DRIVER = "disk.csi.azure.com"
ZONE_KEY = "topology.disk.csi.azure.com/zone"
MANAGED = "Managed"

_MANAGED_URI = re.compile(r".*/subscriptions/(?:.*)/resourceGroups/(?:.*)/providers/Microsoft.Compute/disks/(.+)")
_BLOB_URI = re.compile(r"http(?:.*)://(?:.*)/vhds/(.+)")


def _to_csi(volume: InTreeVolume) -> dict[str, Any]:
    source = volume.source
    # The API server writes Shared where nothing was said, so such volumes are refused too.
    kind = source.get("kind")
    if kind is not None and kind.lower() != MANAGED.lower():
        raise UnusableObjectError(f"kind({kind}) is not supported in csi migration")
    attributes = {"kind": MANAGED}
    for field, attribute in (("cachingMode", "cachingmode"), ("fsType", "fstype")):
        if source.get(field) is not None:
            attributes[attribute] = source[field]
    return {
        "driver": DRIVER,
        "volumeHandle": source.get("diskURI") or "",
        "volumeAttributes": attributes,
    } | given(readOnly=source.get("readOnly"), fsType=source.get("fsType"))


def _to_in_tree(csi: Mapping[str, Any]) -> InTreeSource:
    uri = csi.get("volumeHandle") or ""
    attributes = {key.lower(): value for key, value in sorted((csi.get("volumeAttributes") or {}).items()) if value}
    fields = {
        "diskName": _read_disk_name(uri),
        "diskURI": uri,
        "kind": MANAGED,
        "fsType": attributes.get("fstype") or csi.get("fsType") or "",
        "readOnly": csi.get("readOnly") or False,
    }
    return InTreeSource(fields=fields | given(cachingMode=attributes.get("cachingmode")))


def _read_disk_name(uri: str) -> str:
    is_blob = len(uri) > 4 and uri[:4].lower() == "http"
    pattern = _BLOB_URI if is_blob else _MANAGED_URI
    found = pattern.search(uri)
    if found is None:
        raise UnusableObjectError(f"could not get disk name from {uri}, correct format: {pattern.pattern}")
    return found[1]


AZURE_DISK = Migration(
    driver=DRIVER,
    in_tree_name="kubernetes.io/azure-disk",
    source_field="azureDisk",
    to_csi=_to_csi,
    to_in_tree=_to_in_tree,
    # In regions without zones the in-tree plugin counted fault domains ("0", "1"); the driver calls all of them "".
    class_rules=ClassRules(zone_key=ZONE_KEY, reads_zones=True, blanks_numbered_zones=True),
)
