"""GCE PD: handles that name project and zone or region, which in-tree volumes do not know.

A handle made here says UNSPECIFIED for the project, and for the zone unless a label tells it. The driver takes
such handles; it never lists them, so whoever compares completes them from a node id first.

Source: csi-translation-lib `plugins/gce_pd.go`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from csisidecar.errors import UnusableObjectError
from csisidecar.mapping.migration.contract import InTreeSource, InTreeVolume, Migration, given
from csisidecar.mapping.migration.parameters import FS_TYPE, ClassRules
from csisidecar.mapping.migration.texts import read_partition
from csisidecar.mapping.migration.topology import BETA_ZONE, DELIMITER, ZONE, Zones, one_region

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DRIVER = "pd.csi.storage.gke.io"
ZONE_KEY = "topology.gke.io/zone"
UNSPECIFIED = "UNSPECIFIED"

_PARTS = 6
"""projects, {project}, zones or regions, {zone or region}, disks or instances, {name}."""


def _handle(project: str, kind: str, place: str, disk: str) -> str:
    return f"projects/{project}/{kind}/{place}/disks/{disk}"


def _to_csi(volume: InTreeVolume) -> dict[str, Any]:
    source, labels = volume.source, volume.labels
    zones = (labels.get(BETA_ZONE) or labels.get(ZONE) or UNSPECIFIED).split(DELIMITER)
    kind, place = "zones", zones[0]
    if len(zones) > 1:
        try:
            kind, place = "regions", read_region(zones)
        except UnusableObjectError as error:
            raise UnusableObjectError(f"failed to get region from zones: {error}") from error
    return {
        "driver": DRIVER,
        "volumeHandle": _handle(UNSPECIFIED, kind, place, source.get("pdName") or ""),
        "volumeAttributes": {"partition": str(source.get("partition") or "")},
    } | given(readOnly=source.get("readOnly"), fsType=source.get("fsType"))


def _to_in_tree(csi: Mapping[str, Any]) -> InTreeSource:
    parts = (csi.get("volumeHandle") or "").split("/")
    if len(parts) < _PARTS:
        raise UnusableObjectError(
            f"failed to get id components.Got: {len(parts)}, wanted {_PARTS} components or more. "
        )
    partition = 0
    text = (csi.get("volumeAttributes") or {}).get("partition")
    if text:
        partition = read_partition(text, refusal="Failed to convert partition")
    optional = given(fsType=csi.get("fsType"), partition=partition, readOnly=csi.get("readOnly"))
    return InTreeSource(fields={"pdName": parts[5]} | optional)


def _access_modes(modes: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """One mode that the driver can take.

    The in-tree plugin never looked at the modes and attached a disk to one node for writing, whatever they were;
    the driver refuses ReadWriteMany and mixtures.
    """
    if modes is None:
        return None
    is_only_read = "ReadOnlyMany" in modes and not {"ReadWriteOnce", "ReadWriteMany"} & set(modes)
    return ("ReadOnlyMany",) if is_only_read else ("ReadWriteOnce",)


def _complete_handle(handle: str, node_id: str) -> str:
    parts = handle.split("/")
    if len(parts) < _PARTS:
        raise UnusableObjectError(
            f"volume handle has wrong number of elements; got {len(parts)}, wanted {_PARTS} or more"
        )
    _, project, kind, place, _, disk = parts[:_PARTS]
    if project != UNSPECIFIED:
        return handle
    node = node_id.split("/")
    if len(node) < _PARTS:
        raise UnusableObjectError(f"node handle has wrong number of elements; got {len(node)}, wanted {_PARTS} or more")
    node_project, node_zone = node[1], node[3]
    if kind not in ("zones", "regions"):
        raise UnusableObjectError(f"expected volume handle to have zones or regions regionality value, got: {kind}")
    if place == UNSPECIFIED:
        place = node_zone if kind == "zones" else _region_of_node(node_zone)
    return _handle(node_project, kind, place, disk)


def _region_of_node(zone: str) -> str:
    try:
        return _region_of(zone)
    except UnusableObjectError as error:
        raise UnusableObjectError(f"failed to get region from zone {zone}: {error}") from error


def _region_of(zone: str) -> str:
    parts = zone.split("-")
    if len(parts) != 3:
        raise UnusableObjectError(f"zone in unexpected format, expected: {{locale}}-{{region}}-{{zone}}, got: {zone}")
    return "-".join(parts[:2])


def read_region(zones: Sequence[str]) -> str:
    """The region of `zones`.

    Raises:
        UnusableObjectError: not zones of three parts, none, or of several regions.
    """
    return one_region(zones, _region_of)


GCE_PD = Migration(
    driver=DRIVER,
    in_tree_name="kubernetes.io/gce-pd",
    source_field="gcePersistentDisk",
    to_csi=_to_csi,
    to_in_tree=_to_in_tree,
    class_rules=ClassRules(renamed=FS_TYPE, zone_key=ZONE_KEY, reads_zones=True),
    topology=Zones(ZONE_KEY, read_region),
    access_modes_to_csi=_access_modes,
    complete_handle=_complete_handle,
)
