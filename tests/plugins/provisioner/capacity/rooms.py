"""A world with storage capacity in it: nodes, classes, a driver that knows its room, ways to look at the objects."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from csisidecar.config import CapacitySettings, ProvisionerSettings, RateConfig
from tests.plugins.provisioner.world import CAPABILITIES, DRIVER, GIB, World

if TYPE_CHECKING:
    from collections.abc import Callable

PLACES = frozenset({"CONTROLLER_SERVICE", "VOLUME_ACCESSIBILITY_CONSTRAINTS"})
LATE_MODE = "WaitForFirstConsumer"
LATE = {"volumeBindingMode": LATE_MODE}
NO_CEILING = RateConfig()
LABELS = {"csi.storage.k8s.io/drivername": DRIVER, "csi.storage.k8s.io/managed-by": "external-provisioner"}


def room_world(*, zones: str = "abc", plugin: frozenset[str] = PLACES, **capacity: Any) -> World:
    given_ = {"namespace": "team", "ownerref_level": -1, "rate": NO_CEILING, **capacity}
    world = World(
        settings=ProvisionerSettings(capacity=CapacitySettings(**given_), retry_interval_max_s=8),
        controller=CAPABILITIES | {"GET_CAPACITY"},
        plugin_capabilities=plugin,
        topology={"zone": "a"},
    )
    world.driver.settings = replace(
        world.driver.settings, places=tuple({"zone": zone} for zone in zones), total_bytes=100 * GIB
    )
    return world


def add_node(world: World, name: str, keys: tuple[str, ...] | None = ("zone",), **labels: str) -> None:
    world.api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
    driver: dict[str, Any] = {"name": DRIVER, "nodeID": name}
    if keys is not None:
        driver["topologyKeys"] = list(keys)
    body = {"metadata": {"name": name}, "spec": {"drivers": [driver]}}
    world.api.create({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", **body})


def rooms(world: World) -> dict[tuple[str, str], str]:
    """Class and segment → capacity; fails on two objects for one."""
    found: dict[tuple[str, str], str] = {}
    for obj in world.api.list("csistoragecapacities"):
        labels = (obj.get("nodeTopology") or {}).get("matchLabels") or {}
        key = (obj["storageClassName"], ",".join(f"{k}={v}" for k, v in sorted(labels.items())))
        assert key not in found
        found[key] = obj["capacity"]
    return found


def asked(world: World) -> int:
    return len(world.calls("GetCapacity"))


def room_writes(world: World) -> list[str]:
    return [line.split()[0] for line in world.writes() if line.endswith("csistoragecapacities")]


def pod(name: str, owner: dict[str, Any] | None) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": name, "namespace": "team"}
    if owner is not None:
        meta["ownerReferences"] = [owner]
    spec = {"containers": [{"name": "main", "image": "none"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def relabel(zone: str) -> Callable[[dict[str, Any]], None]:
    return lambda obj: obj["metadata"]["labels"].update(zone=zone)


def quiet_world(*, zones: str = "ab", classes: tuple[str, ...] = ("fast",), **more: Any) -> World:
    """A node in each zone, and a poll so rare that all that happens is due to changes."""
    world = room_world(zones=zones, **{"poll_interval_s": 7200.0, **more})
    for number, zone in enumerate(zones, 1):
        add_node(world, f"n{number}", zone=zone)
    for name in classes:
        add_kind(world, name)
    return world


def add_kind(world: World, name: str, **more: Any) -> None:
    """A class that GetCapacity tells by its parameters, which is all that a driver sees of it."""
    world.add_class(name, **{"parameters": {"kind": name}, **LATE, **more})


def nudge(world: World, class_name: str = "fast") -> None:
    """Have the class's objects refreshed, by a change that means nothing."""

    def change(obj: dict[str, Any]) -> None:
        obj["allowVolumeExpansion"] = not obj.get("allowVolumeExpansion")

    world.api.edit("storageclasses", class_name, change)


def asked_about(world: World, since: int = 0) -> list[str]:
    """Class and place of each GetCapacity, sorted; without the first `since` of them."""
    found = []
    for call in world.calls("GetCapacity")[since:]:
        place = call.accessible_topology.segments if call.accessible_topology else {}
        found.append(f"{call.parameters['kind']}@{','.join(value for _, value in sorted(place.items()))}")
    return sorted(found)


def names(world: World) -> set[str]:
    return {obj["metadata"]["name"] for obj in world.api.list("csistoragecapacities")}


def load_room(world: World, name: str, class_name: str = "fast", zone: str = "a", **more: Any) -> None:
    """An object as it may be found; `more`: labels, and fields of the object, None for none."""
    meta = {"name": name, "namespace": "team", "labels": more.pop("labels", LABELS)}
    head = {"apiVersion": "storage.k8s.io/v1", "kind": "CSIStorageCapacity", "metadata": meta}
    body = {"storageClassName": class_name, "nodeTopology": {"matchLabels": {"zone": zone}}, **more}
    world.api.load([{**head, **{field: value for field, value in body.items() if value is not None}}])


def gauges(world: World) -> tuple[float, float, float]:
    """Goal, current, obsolete."""
    goal, current, obsolete = (
        world.numbers.gauges[f"csistoragecapacities_{name}",]()
        for name in ("desired_goal", "desired_current", "obsolete")
    )
    return goal, current, obsolete
