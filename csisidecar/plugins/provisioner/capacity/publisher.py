"""RoomReconciler: one item, a class in a segment → GetCapacity → its CSIStorageCapacity object."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from csisidecar.csi import GetCapacityRequest, Topology
from csisidecar.errors import ConflictError, NotFoundError, UnusableObjectError
from csisidecar.kube import CSI_STORAGE_CAPACITIES, quantity
from csisidecar.plugins.provisioner.capacity.catalog import DRIVER_LABEL, MANAGER_LABEL
from csisidecar.runtime import DONE, Result

if TYPE_CHECKING:
    from csisidecar.csi import CSIClient, GetCapacityResponse
    from csisidecar.kube import KubeClient, StorageClass
    from csisidecar.plugins.provisioner.capacity.catalog import Catalog, Item, Room
    from csisidecar.plugins.provisioner.capacity.owner import OwnerLookup

logger = logging.getLogger(__name__)


class RoomReconciler:
    """Key: the item.

    Guarantees: an error of the driver changes no object; at most one object an item is left; objects are never
    adopted from, or given to, another manager.

    Args:
        kube: the client of the lane for capacity, with a ceiling of its own.
        csi: the driver.
        catalog: what should be and what is.
        owner: whom the objects belong to.
        namespace: where they are.
        driver_name: for their label.
        manager: who manages them, for their label.
        timeout_s: of GetCapacity.

    Source: external-provisioner `pkg/capacity/capacity.go`, syncCapacity.
    """

    def __init__(
        self,
        kube: KubeClient,
        csi: CSIClient,
        catalog: Catalog,
        owner: OwnerLookup,
        *,
        namespace: str,
        driver_name: str,
        manager: str,
        timeout_s: float,
    ) -> None:
        self._kube = kube
        self._csi = csi
        self._catalog = catalog
        self._owner = owner
        self._namespace = namespace
        self._labels = {DRIVER_LABEL: driver_name, MANAGER_LABEL: manager}
        self._timeout_s = timeout_s

    async def reconcile(self, item: Item) -> Result:
        """Make the item's object say what the driver says now, or delete it."""
        rooms = self._catalog.rooms_of(item)
        storage_class = self._catalog.find_class(item)
        for room in rooms[1:] if storage_class is not None else rooms:
            await self._delete(room)
        if storage_class is None:
            return DONE
        owner = await self._owner.find()
        answer = await self._ask(item, storage_class)
        if self._catalog.find_class(item) is None:
            return Result.again(0.0)
        rooms = self._catalog.rooms_of(item)
        if not rooms:
            await self._kube.create(CSI_STORAGE_CAPACITIES, self._build(item, answer, owner), namespace=self._namespace)
        elif not says(rooms[0], answer, owner):
            await self._update(rooms[0], answer, owner)
        return DONE

    async def _ask(self, item: Item, storage_class: StorageClass) -> GetCapacityResponse:
        """What the driver says; raises CSIError, and UnusableObjectError for an amount that makes no sense."""
        place = Topology(segments=dict(item.segment)) if item.segment else None
        answer = await self._csi.get_capacity(
            # The class's parameters as they are, also those that CreateVolume does not get.
            GetCapacityRequest(parameters=dict(storage_class.parameters or {}), accessible_topology=place),
            timeout_s=self._timeout_s,
        )
        for name, amount in (
            ("available_capacity", answer.available_capacity),
            ("maximum_volume_size", answer.maximum_volume_size or 0),
        ):
            if amount < 0:
                raise UnusableObjectError(f"the CSI driver answered GetCapacity with {name} {amount} for {item}")
        return answer

    def _build(self, item: Item, answer: GetCapacityResponse, owner: dict[str, Any] | None) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            "generateName": "csisc-",
            "namespace": self._namespace,
            "labels": dict(self._labels),
        }
        if owner is not None:
            metadata["ownerReferences"] = [owner]
        body = {
            "apiVersion": CSI_STORAGE_CAPACITIES.api_version,
            "kind": CSI_STORAGE_CAPACITIES.kind,
            "metadata": metadata,
            "nodeTopology": {"matchLabels": dict(item.segment or ())} if item.segment else {},
            "storageClassName": item.class_name,
        }
        _set_amounts(body, answer)
        return body

    async def _update(self, room: Room, answer: GetCapacityResponse, owner: dict[str, Any] | None) -> None:
        live = await self._kube.get(CSI_STORAGE_CAPACITIES, room.name, namespace=self._namespace)
        if live["metadata"].get("uid") != room.uid:
            raise UnusableObjectError(f"CSIStorageCapacity {room.name} was replaced by another object of that name")
        _set_amounts(live, answer)
        if owner is not None and not room.is_controlled_by(owner["uid"]):
            live["metadata"]["ownerReferences"] = [*(live["metadata"].get("ownerReferences") or ()), owner]
        await self._kube.update(CSI_STORAGE_CAPACITIES, live)

    async def _delete(self, room: Room) -> None:
        try:
            await self._kube.delete(CSI_STORAGE_CAPACITIES, room.name, namespace=self._namespace, uid=room.uid)
        except (NotFoundError, ConflictError):
            # Gone, or another object by now.
            return
        logger.info("storage capacity object deleted", extra={"object": room.name, "class": room.storage_class_name})


def _set_amounts(body: dict[str, Any], answer: GetCapacityResponse) -> None:
    body["capacity"] = quantity.to_text(answer.available_capacity)
    body.pop("maximumVolumeSize", None)
    if answer.maximum_volume_size is not None:
        body["maximumVolumeSize"] = quantity.to_text(answer.maximum_volume_size)


def says(room: Room, answer: GetCapacityResponse, owner: dict[str, Any] | None) -> bool:
    """Whether the object says what the driver says and belongs to the owner, if there is one."""
    return (
        _bytes(room.capacity) == answer.available_capacity
        and _bytes(room.maximum_volume_size) == answer.maximum_volume_size
        and (owner is None or room.is_controlled_by(owner["uid"]))
    )


def _bytes(amount: str | float | None) -> int | None:
    try:
        return None if amount is None else quantity.parse(amount)
    except ValueError:
        return None
