"""Which CSIStorageCapacity objects should exist, which do, and which work a change asks for. Awaits nothing.

An object stands for an item, a class in a segment. The items that should exist are all segments times all relevant
classes; an item that should not, or has two objects, loses the ones that are too many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from csisidecar.kube import KubeObject, Metadata, View
from csisidecar.plugins.provisioner.topology import Term, normalize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from csisidecar.kube import StorageClass
    from csisidecar.plugins.provisioner.capacity.segments import Segments
    from csisidecar.runtime import Change, Store

DRIVER_LABEL = "csi.storage.k8s.io/drivername"
MANAGER_LABEL = "csi.storage.k8s.io/managed-by"

BY_ITEM = "by item"
"""Index of the store of CSIStorageCapacity objects."""


class OwnerReference(View, frozen=True):
    """One of `metadata.ownerReferences`."""

    controller: bool | None = None


class OwnedMetadata(Metadata, frozen=True):
    """Metadata with its owners."""

    owner_references: tuple[OwnerReference, ...] | None = None


class LabelSelector(View, frozen=True):
    """A label selector."""

    match_labels: dict[str, str] | None = None
    match_expressions: list[dict[str, Any]] | None = None


class Room(KubeObject, frozen=True):
    """A CSIStorageCapacity object."""

    metadata: OwnedMetadata
    storage_class_name: str = ""
    node_topology: LabelSelector | None = None
    capacity: str | int | float | None = None
    maximum_volume_size: str | int | float | None = None

    @property
    def has_controller(self) -> bool:
        """Whether somebody controls the object; nobody else can as well."""
        return any(each.controller for each in self.metadata.owner_references or ())


class Item(NamedTuple):
    """What one object is about; the key of the work queue."""

    class_name: str
    segment: Term | None
    name: str = ""
    """Of an object that says nothing about any segment."""

    def __str__(self) -> str:
        where = ",".join(f"{key}={value}" for key, value in self.segment or ())
        return f"{self.class_name}@{where or self.name or 'everywhere'}"


def item_of(room: Room) -> Item:
    """What the object is about; an empty and an absent map of labels are the same."""
    selector = room.node_topology
    if selector is None or selector.match_expressions:
        return Item(room.storage_class_name, None, room.name)
    return Item(room.storage_class_name, normalize((selector.match_labels or {}).items()))


class Catalog:
    """The items that should exist, and the objects that do.

    Args:
        driver_name: whose classes count.
        segments: the segments now.
        classes: every StorageClass.
        rooms: the objects that carry our labels.
        for_immediate_binding: whether classes that bind at once count.

    Source: external-provisioner `pkg/capacity/capacity.go`.
    """

    def __init__(
        self,
        driver_name: str,
        segments: Segments,
        classes: Store[StorageClass],
        rooms: Store[Room],
        *,
        for_immediate_binding: bool,
    ) -> None:
        self._driver_name = driver_name
        self._segments = segments
        self._classes = classes
        self._rooms = rooms
        self._for_immediate_binding = for_immediate_binding
        rooms.add_index(BY_ITEM, lambda room: (item_of(room),))

    def is_relevant(self, storage_class: StorageClass | None) -> bool:
        """Whether anybody wants to know the room for this class."""
        if storage_class is None or storage_class.provisioner != self._driver_name:
            return False
        return self._for_immediate_binding or storage_class.volume_binding_mode != "Immediate"

    def find_class(self, item: Item) -> StorageClass | None:
        """The class of an item that should exist, None for one that should not."""
        storage_class = self._classes.find(item.class_name)
        wanted = item.segment in self._segments.current and self.is_relevant(storage_class)
        return storage_class if wanted else None

    def rooms_of(self, item: Item) -> Sequence[Room]:
        """The objects about the item, the one to keep first: the eldest."""
        found = self._rooms.by_index(BY_ITEM, item)
        return sorted(found, key=lambda room: (room.metadata.creation_timestamp or "", room.name))

    def items(self) -> list[Item]:
        """Every item that should exist."""
        return self.items_in(sorted(self._segments.current))

    def items_in(self, segments: Iterable[Term]) -> list[Item]:
        """One item a relevant class in each of the segments, whether or not they are known."""
        relevant = sorted(self._relevant())
        return [Item(name, segment) for segment in segments for name in relevant]

    def items_of_class(self, class_name: str) -> list[Item]:
        """One item a known segment; and those of objects that exist for the class."""
        known = [Item(class_name, segment) for segment in self._segments.current]
        other = [item for item, _ in self._existing() if item.class_name == class_name]
        return list(dict.fromkeys([*known, *other]))

    def wanted_of_class(self, class_name: str) -> list[Item]:
        """Those items of the class that should exist."""
        if not self.is_relevant(self._classes.find(class_name)):
            return []
        return [Item(class_name, segment) for segment in self._segments.current]

    def misfits(self) -> list[Item]:
        """Items of objects that should not exist, or that are too many."""
        return [item for item, count in self._existing() if count > 1 or self.find_class(item) is None]

    def class_matters(self, change: Change[StorageClass]) -> bool:
        """Whether a class's change asks for work."""
        if change.is_resync:
            return False
        return self.is_relevant(change.old) or self.is_relevant(change.new)

    def room_matters(self, change: Change[Room]) -> bool:
        """Whether an object's change asks for work: it should not be there, it is one too many, or it is missed.

        What it says is not looked at: a value that somebody else wrote is corrected at the next poll.
        """
        item = item_of(change.obj)
        is_wanted, count = self.find_class(item) is not None, len(self.rooms_of(item))
        if change.new is None:
            return is_wanted and count == 0
        return not is_wanted or count > 1

    # Whoever does not lead tells the numbers too, while nobody there keeps the segments up to date.

    def goal(self) -> int:
        """How many objects there should be."""
        return len(self._segments.look()) * len(self._relevant())

    def reached(self) -> int:
        """How many of them there are."""
        segments, relevant = self._segments.look(), self._relevant()
        return sum(item.segment in segments and item.class_name in relevant for item, _ in self._existing())

    def obsolete(self) -> int:
        """How many objects are about no item that should exist; duplicates do not count."""
        segments, relevant = self._segments.look(), self._relevant()
        return sum(
            count for item, count in self._existing() if item.segment not in segments or item.class_name not in relevant
        )

    def _relevant(self) -> frozenset[str]:
        return frozenset(each.name for each in self._classes.values() if self.is_relevant(each))

    def _existing(self) -> Iterable[tuple[Item, int]]:
        """The items that objects are about, and how many; there may be tens of thousands."""
        return cast("dict[Item, int]", self._rooms.count_by_index(BY_ITEM)).items()


class RoomNews(Protocol):
    """What those who make and delete volumes tell about the room that is left."""

    def volume_made(self, class_name: str, affinity: Mapping[str, Any] | None) -> None:
        """A volume was made, usable where its `nodeAffinity` says."""
        ...

    def volume_refused(self, class_name: str) -> None:
        """The driver was asked for a volume and did not make it."""
        ...

    def volume_deleted(self, affinity: Mapping[str, Any] | None) -> None:
        """A volume was deleted."""
        ...


class SilentNews:
    """Nobody wants to know."""

    def volume_made(self, class_name: str, affinity: Mapping[str, Any] | None) -> None:
        """Do nothing."""

    def volume_refused(self, class_name: str) -> None:
        """Do nothing."""

    def volume_deleted(self, affinity: Mapping[str, Any] | None) -> None:
        """Do nothing."""


class QueuedNews:
    """Has the objects refreshed that the news is about.

    Source: external-provisioner `pkg/capacity/provision.go`.
    """

    def __init__(self, catalog: Catalog, refresh: Callable[[Item], None]) -> None:
        self._catalog = catalog
        self._refresh = refresh

    def volume_made(self, class_name: str, affinity: Mapping[str, Any] | None) -> None:
        """Refresh its segments for every class; without an affinity its class everywhere."""
        if affinity:
            self.volume_deleted(affinity)
        else:
            self.volume_refused(class_name)

    def volume_refused(self, class_name: str) -> None:
        """Refresh its class everywhere."""
        for item in self._catalog.wanted_of_class(class_name):
            self._refresh(item)

    def volume_deleted(self, affinity: Mapping[str, Any] | None) -> None:
        """Refresh its segments for every class; without an affinity nothing, the poll will see it."""
        for item in self._catalog.items_in(segments_of(affinity)):
            if self._catalog.find_class(item) is not None:
                self._refresh(item)


def segments_of(affinity: Mapping[str, Any] | None) -> list[Term]:
    """The segments that an affinity names exactly; terms that say anything else are left out."""
    found = []
    for term in ((affinity or {}).get("required") or {}).get("nodeSelectorTerms") or ():
        expressions = term.get("matchExpressions") or ()
        plain = all(each.get("operator") == "In" and len(each.get("values") or ()) == 1 for each in expressions)
        if plain and expressions and not term.get("matchFields"):
            found.append(normalize((each["key"], each["values"][0]) for each in expressions))
    return found
