"""CSIStorageCapacity objects: how much room a driver has for each class in each segment, for the scheduler to read.

`segments` says which segments there are, `catalog` which objects should exist, `publisher` makes one of them so,
`owner` finds whom they go with, `controllers` puts it together. The claims and volumes only say what they did.
"""

from __future__ import annotations

from csisidecar.plugins.provisioner.capacity.catalog import Room, RoomNews, SilentNews
from csisidecar.plugins.provisioner.capacity.controllers import CENTRAL_MANAGER, build_capacity

__all__ = ["CENTRAL_MANAGER", "Room", "RoomNews", "SilentNews", "build_capacity"]
