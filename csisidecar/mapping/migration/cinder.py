"""OpenStack Cinder: the plainest of the seven; a region cannot be told from a zone, so none is.

Source: csi-translation-lib `plugins/openstack_cinder.go`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from csisidecar.mapping.migration.contract import InTreeSource, InTreeVolume, Migration, given
from csisidecar.mapping.migration.parameters import FS_TYPE, ClassRules
from csisidecar.mapping.migration.topology import Zones

if TYPE_CHECKING:
    from collections.abc import Mapping

DRIVER = "cinder.csi.openstack.org"
ZONE_KEY = "topology.cinder.csi.openstack.org/zone"


def _to_csi(volume: InTreeVolume) -> dict[str, Any]:
    source = volume.source
    optional = given(readOnly=source.get("readOnly"), fsType=source.get("fsType"))
    return {"driver": DRIVER, "volumeHandle": source.get("volumeID") or ""} | optional


def _to_in_tree(csi: Mapping[str, Any]) -> InTreeSource:
    optional = given(fsType=csi.get("fsType"), readOnly=csi.get("readOnly"))
    return InTreeSource(fields={"volumeID": csi.get("volumeHandle") or ""} | optional)


CINDER = Migration(
    driver=DRIVER,
    in_tree_name="kubernetes.io/cinder",
    source_field="cinder",
    to_csi=_to_csi,
    to_in_tree=_to_in_tree,
    class_rules=ClassRules(renamed=FS_TYPE, zone_key=ZONE_KEY),
    topology=Zones(ZONE_KEY),
)
