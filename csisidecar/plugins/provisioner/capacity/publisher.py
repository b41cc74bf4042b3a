"""RoomReconciler: one item, a class in a segment → GetCapacity → its CSIStorageCapacity object.

What the driver answers is written as it is; what makes no sense is told once and not written. An object keeps the
controller it has: an owner that is gone takes its objects along, and they are made anew for the present one. Objects
that another process wants are the business of `rivals`.
"""

from __future__ import annotations

import logging
from itertools import islice
from typing import TYPE_CHECKING, Any

from csisidecar.csi import GetCapacityRequest, Topology
from csisidecar.errors import ConflictError, KubeError, NotFoundError, RetryAfter, UnusableObjectError
from csisidecar.kube import CSI_STORAGE_CAPACITIES, quantity
from csisidecar.plugins.provisioner.capacity.catalog import DRIVER_LABEL, MANAGER_LABEL
from csisidecar.plugins.provisioner.capacity.rivals import about
from csisidecar.runtime import DONE, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from csisidecar.backoff import Backoff
    from csisidecar.csi import CSIClient, GetCapacityResponse
    from csisidecar.kube import KubeClient, StorageClass
    from csisidecar.plugins.provisioner.capacity.catalog import Catalog, Item, Room
    from csisidecar.plugins.provisioner.capacity.owner import Owner, OwnerLookup
    from csisidecar.plugins.provisioner.capacity.rivals import Rivals

logger = logging.getLogger(__name__)

NAMED = 10
"""Items of a kind of nonsense that the log names."""


class RoomReconciler:
    """Key: the item.

    Guarantees: an error of the driver changes no object; at most one object an item is left; objects are never
    adopted from, or given to, another manager; a reference to an owner is written again only after that was looked up
    again.

    Args:
        kube: the client of the lane for capacity, with a ceiling of its own.
        csi: the driver.
        catalog: what should be and what is.
        owner: whom the objects belong to.
        rivals: who else manages them.
        namespace: where they are.
        driver_name: for their label.
        manager: who manages them, for their label.
        timeout_s: of GetCapacity.
        backoff: of answers that make no sense.

    Source: external-provisioner `pkg/capacity/capacity.go`, syncCapacity.
    """

    def __init__(
        self,
        kube: KubeClient,
        csi: CSIClient,
        catalog: Catalog,
        owner: OwnerLookup,
        rivals: Rivals,
        *,
        namespace: str,
        driver_name: str,
        manager: str,
        timeout_s: float,
        backoff: Backoff,
    ) -> None:
        self._kube = kube
        self._csi = csi
        self._catalog = catalog
        self._owner = owner
        self._rivals = rivals
        self._namespace = namespace
        self._driver_name = driver_name
        self._labels = {DRIVER_LABEL: driver_name, MANAGER_LABEL: manager}
        self._timeout_s = timeout_s
        self._backoff = backoff
        self._given: dict[Item, int] = {}
        """Number of the lookup whose owner the item's object was seen with."""
        self._nonsense: dict[Item, tuple[int, str]] = {}
        """How often in a row the driver's answer made no sense, and which kind of nonsense was told."""

    def begin_anew(self) -> None:
        """Somebody else was at work meanwhile, who is no rival, and may have cleared items that we remember."""
        self._rivals.forget()
        for table in (self._given, self._nonsense):
            for item in [item for item in table if self._catalog.find_class(item) is None]:
                del table[item]

    async def reconcile(self, item: Item) -> Result:
        """Make the item's object say what the driver says now, or delete it."""
        rooms = self._catalog.rooms_of(item)
        storage_class = self._catalog.find_class(item)
        if storage_class is None:
            return await self._clear(item, rooms)
        failed = [error for room in rooms[1:] if (error := await self._try_delete(room)) is not None]
        result = await self._refresh(item, storage_class, rooms)
        if failed:
            raise failed[0]
        return result

    async def _refresh(self, item: Item, storage_class: StorageClass, rooms: Sequence[Room]) -> Result:
        """Ask the driver, and write the eldest object or a first one."""
        pause_s = self._rivals.pause_before_making_s(item, rooms[0] if rooms else None)
        if pause_s > 0:
            return Result.again(pause_s)
        owner = await self._find_owner(item, rooms)
        answer = await self._ask(item, storage_class)
        if self._catalog.find_class(item) is None:
            return Result.again(0.0)
        rooms = self._catalog.rooms_of(item)
        if not rooms:
            body = self._build(item, answer, owner)
            made = await self._create(body)
            self._rivals.has(item, str(made["metadata"].get("uid") or ""))
        elif not says(rooms[0], answer, owner):
            await self._update(rooms[0], answer, owner)
        self._given[item] = owner.number
        return DONE

    async def _try_delete(self, room: Room) -> KubeError | None:
        """Delete one object too many; what fails keeps the one that stays from nothing."""
        try:
            await self._delete(room)
        except KubeError as error:
            return error
        return None

    async def _clear(self, item: Item, rooms: Sequence[Room]) -> Result:
        """Delete the objects of an item that should not exist, but not somebody else's over and over."""
        self._given.pop(item, None)
        self._nonsense.pop(item, None)
        pause_s = self._rivals.pause_before_clearing_s(item, rooms)
        if pause_s > 0:
            return Result.again(pause_s)
        for room in rooms:
            await self._delete(room)
            self._rivals.was_cleared(item, room)
        self._rivals.let_go(item)
        return DONE

    async def _find_owner(self, item: Item, rooms: Sequence[Room]) -> Owner:
        owner = await self._owner.find()
        if owner.number and self._given.get(item) == owner.number and not (rooms and rooms[0].has_controller):
            # The object had this owner, and lost it or is gone: that owner may be gone, too.
            return await self._owner.find(newer_than=owner.number)
        return owner

    async def _ask(self, item: Item, storage_class: StorageClass) -> GetCapacityResponse:
        """What the driver says; raises CSIError, and RetryAfter for an amount that makes no sense."""
        place = Topology(segments=dict(item.segment)) if item.segment else None
        answer = await self._csi.get_capacity(
            # The class's parameters as they are, also those that CreateVolume does not get.
            GetCapacityRequest(parameters=dict(storage_class.parameters or {}), accessible_topology=place),
            timeout_s=self._timeout_s,
        )
        count, told = self._nonsense.get(item, (0, ""))
        kind, text = _find_fault(answer)
        if not kind:
            self._nonsense.pop(item, None)
            return answer
        if kind != told:
            self._tell_nonsense(item, kind, text)
        self._nonsense[item] = (count + 1, kind)
        if answer.available_capacity < 0 or (answer.maximum_volume_size or 0) < 0:
            raise RetryAfter(self._backoff.delay_s(count + 1), text)
        return answer

    def _tell_nonsense(self, item: Item, kind: str, text: str) -> None:
        """Name a few items, and then that there are more: a driver that is wrong is mostly wrong everywhere."""
        alike = islice((each for each in self._nonsense.values() if each[1] == kind), NAMED + 1)
        named = sum(1 for _ in alike)
        if named < NAMED:
            logger.warning(
                "the driver's answer to GetCapacity makes no sense",
                extra={"driver": self._driver_name, **about(item), "answer": text},
            )
        elif named == NAMED:
            logger.warning(
                "the driver's answers to GetCapacity make no sense for more classes and segments, which are not named",
                extra={"driver": self._driver_name, "answer": kind},
            )

    def _build(self, item: Item, answer: GetCapacityResponse, owner: Owner) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            "generateName": "csisc-",
            "namespace": self._namespace,
            "labels": dict(self._labels),
        }
        if owner.reference is not None:
            metadata["ownerReferences"] = [owner.reference]
        body = {
            "apiVersion": CSI_STORAGE_CAPACITIES.api_version,
            "kind": CSI_STORAGE_CAPACITIES.kind,
            "metadata": metadata,
            "nodeTopology": {"matchLabels": dict(item.segment or ())} if item.segment else {},
            "storageClassName": item.class_name,
        }
        _set_amounts(body, answer)
        return body

    async def _create(self, body: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self._kube.create(CSI_STORAGE_CAPACITIES, body, namespace=self._namespace)
        except NotFoundError as error:
            # The kind is there, as it is watched; what else a create can miss is the namespace.
            raise UnusableObjectError(
                f"CSIStorageCapacity cannot be made in namespace {self._namespace!r}: {error}; the variable NAMESPACE"
                " must name the Pod's own, from its field metadata.namespace"
            ) from error

    async def _update(self, room: Room, answer: GetCapacityResponse, owner: Owner) -> None:
        live = await self._kube.get(CSI_STORAGE_CAPACITIES, room.name, namespace=self._namespace)
        if live["metadata"].get("uid") != room.uid:
            raise UnusableObjectError(f"CSIStorageCapacity {room.name} was replaced by another object of that name")
        _set_amounts(live, answer)
        owners = live["metadata"].get("ownerReferences") or ()
        if owner.reference is not None and not any(each.get("controller") for each in owners):
            # The API server takes one controller an object, and nobody's is taken away.
            live["metadata"]["ownerReferences"] = [*owners, owner.reference]
        await self._kube.update(CSI_STORAGE_CAPACITIES, live)

    async def _delete(self, room: Room) -> None:
        if room.is_deleting:
            # Deleted already, and held by somebody's finalizer.
            return
        try:
            await self._kube.delete(CSI_STORAGE_CAPACITIES, room.name, namespace=self._namespace, uid=room.uid)
        except (NotFoundError, ConflictError):
            # Gone, or another object by now.
            return
        logger.info("storage capacity object deleted", extra={"object": room.name, "class": room.storage_class_name})


def _find_fault(answer: GetCapacityResponse) -> tuple[str, str]:
    """Which kind of nonsense the answer is, and in full; two empty texts when it makes sense.

    The kind stays the same while the driver's room changes, so that people are told once.
    """
    free, largest = answer.available_capacity, answer.maximum_volume_size
    if free < 0 or (largest is not None and largest < 0):
        kind = "available_capacity is negative" if free < 0 else "maximum_volume_size is negative"
        return kind, f"{kind} ({free if free < 0 else largest}): nothing is written, the driver must be corrected"
    if largest == 0 and free > 0:
        kind = "maximum_volume_size is 0"
        return kind, (
            f"{kind} while {free} bytes are free: the scheduler will place no volume there; a driver without a limit "
            "must leave it out"
        )
    return "", ""


def _set_amounts(body: dict[str, Any], answer: GetCapacityResponse) -> None:
    body["capacity"] = quantity.to_text(answer.available_capacity)
    body.pop("maximumVolumeSize", None)
    if answer.maximum_volume_size is not None:
        body["maximumVolumeSize"] = quantity.to_text(answer.maximum_volume_size)


def says(room: Room, answer: GetCapacityResponse, owner: Owner) -> bool:
    """Whether the object says what the driver says and has a controller, if it is to have one."""
    return (
        _bytes(room.capacity) == answer.available_capacity
        and _bytes(room.maximum_volume_size) == answer.maximum_volume_size
        and (owner.reference is None or room.has_controller)
    )


def _bytes(amount: str | float | None) -> int | None:
    try:
        return None if amount is None else quantity.parse(amount)
    except ValueError:
        return None
