"""In-tree volumes, classes and handles ↔ those of the CSI drivers that took over; pure functions.

Belongs here: what a StorageClass, a PersistentVolume and a volume handle of the seven in-tree plugins mean to their
drivers, and back. Does not: whether an object is anybody's to handle; that is each plugin's. One module a plugin
says what differs, `translate` does the rest.
"""

from __future__ import annotations

from csisidecar.mapping.migration.contract import Migration
from csisidecar.mapping.migration.translate import (
    MIGRATIONS,
    class_to_csi,
    class_view_to_csi,
    complete_handle,
    find_by_driver,
    find_by_in_tree_name,
    find_by_volume,
    view_to_csi,
    volume_to_csi,
    volume_to_in_tree,
)

__all__ = [
    "MIGRATIONS",
    "Migration",
    "class_to_csi",
    "class_view_to_csi",
    "complete_handle",
    "find_by_driver",
    "find_by_in_tree_name",
    "find_by_volume",
    "view_to_csi",
    "volume_to_csi",
    "volume_to_in_tree",
]
