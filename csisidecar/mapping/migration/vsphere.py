"""vSphere: volumes are known by their path in-tree, so the driver is asked to answer with that path.

Source: csi-translation-lib `plugins/vsphere_volume.go`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from csisidecar.mapping.migration.contract import InTreeSource, InTreeVolume, Migration, given
from csisidecar.mapping.migration.parameters import FS_TYPE, ClassRules
from csisidecar.mapping.migration.topology import ZonesAndRegions

if TYPE_CHECKING:
    from collections.abc import Mapping

DRIVER = "csi.vsphere.vmware.com"
ZONE_KEY = "topology.csi.vmware.com/zone"
REGION_KEY = "topology.csi.vmware.com/region"

_POLICY = "storagepolicyname"
_PATH_ATTRIBUTE = "initialvolumefilepath"

_SUFFIXED = (
    "datastore",
    "diskformat",
    "hostfailurestotolerate",
    "forceprovisioning",
    "cachereservation",
    "diskstripes",
    "objectspacereservation",
    "iopslimit",
)
"""Parameters that the driver takes only from migrated classes, under names of their own."""


def _to_csi(volume: InTreeVolume) -> dict[str, Any]:
    source = volume.source
    optional = given(fsType=source.get("fsType"), volumeAttributes=given(**{_POLICY: source.get("storagePolicyName")}))
    return {"driver": DRIVER, "volumeHandle": source.get("volumePath") or ""} | optional


def _to_in_tree(csi: Mapping[str, Any]) -> InTreeSource:
    path = (csi.get("volumeAttributes") or {}).get(_PATH_ATTRIBUTE, "")
    return InTreeSource(fields={"volumePath": path} | given(fsType=csi.get("fsType")))


VSPHERE = Migration(
    driver=DRIVER,
    in_tree_name="kubernetes.io/vsphere-volume",
    source_field="vsphereVolume",
    to_csi=_to_csi,
    to_in_tree=_to_in_tree,
    class_rules=ClassRules(
        renamed=FS_TYPE | {_POLICY: (_POLICY,)} | {name: (f"{name}-migrationparam",) for name in _SUFFIXED},
        # Without it the driver does not answer with the path, and the volume could not be told in-tree.
        added={"csimigration": "true"},
        drops_unknown=True,
        zone_key=ZONE_KEY,
    ),
    topology=ZonesAndRegions(ZONE_KEY, REGION_KEY),
)
