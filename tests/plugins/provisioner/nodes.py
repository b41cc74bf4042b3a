"""What the tests of one provisioner a node share: such a provisioner's world, and a look at a claim's owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from csisidecar.config import CapacitySettings, NodeSettings, ProvisionerSettings
from csisidecar.csi import NodeInfo
from csisidecar.plugins.provisioner.node_local import OwnerReconciler
from tests.plugins.provisioner.world import CAPABILITIES, DRIVER, World

if TYPE_CHECKING:
    from collections.abc import Mapping

SELECTED = "volume.kubernetes.io/selected-node"
PLACES = frozenset({"CONTROLLER_SERVICE", "VOLUME_ACCESSIBILITY_CONSTRAINTS"})
NOW = {"volumeBindingMode": "Immediate"}
LATE = {"volumeBindingMode": "WaitForFirstConsumer"}
KEY = "topology.test/node"


def node_world(
    name: str,
    of: World | None = None,
    *,
    places: bool = True,
    segments: Mapping[str, str] | None = None,
    capacity: CapacitySettings | None = None,
    can_tell_room: bool = True,
    driver_name: str = DRIVER,
    strict: bool = False,
    **node: Any,
) -> World:
    """The provisioner of one node; `of` is another whose API server it shares.

    Args:
        name: of the node.
        of: the world of another node.
        places: whether the driver ties volumes to places.
        segments: what it says about this node's place; the node's name under `KEY` when not given.
        capacity: publishing it.
        can_tell_room: whether the driver has GetCapacity.
        driver_name: of the driver.
        strict: `--strict-topology`.
        node: fields of NodeSettings.
    """
    settings = ProvisionerSettings(
        node=NodeSettings(name=name, **{"base_delay_s": 0.2, "max_delay_s": 2.0, **node}),
        capacity=capacity,
        retry_interval_max_s=4,
        strict_topology=strict,
    )
    if segments is None:
        segments = {KEY: name} if places else {}
    world = World(
        settings=settings,
        driver_name=driver_name,
        plugin_capabilities=PLACES if places else frozenset({"CONTROLLER_SERVICE"}),
        controller=CAPABILITIES | ({"GET_CAPACITY"} if can_tell_room else set()),
        topology=segments,
        node=NodeInfo(node_id=f"id-{name}", segments=segments or None),
    )
    if of is not None:
        world.clock, world.wire, world.api = of.clock, of.wire, of.api
    return world


def owner(world: World, name: str = "data") -> str | None:
    """The node that the claim says it is on."""
    claim = world.api.get("persistentvolumeclaims", name, "team")
    assert claim is not None
    found: str | None = claim["metadata"].get("annotations", {}).get(SELECTED)
    return found


def give(world: World, node: str, name: str = "data") -> None:
    """Somebody writes that the claim is this node's."""

    def select(obj: dict[str, Any]) -> None:
        obj["metadata"].setdefault("annotations", {})[SELECTED] = node

    world.api.edit("persistentvolumeclaims", name, select, "team")


def is_bidding(world: World, uid: str) -> bool:
    """Whether the node at work remembers anything about taking the claim."""
    (taker,) = (each for each in world.controllers if each.name == "nodeowner")
    reconciler = taker._reconciler
    assert isinstance(reconciler, OwnerReconciler)
    return reconciler.is_bidding(uid)


def puts(world: World) -> int:
    """How often a claim was written."""
    return world.writes().count("update persistentvolumeclaims")


def where_allowed(node: str) -> dict[str, Any]:
    """A class's allowedTopologies that name one node."""
    return {"allowedTopologies": [{"matchLabelExpressions": [{"key": KEY, "values": [node]}]}]}


def affinity_to(node: str, operator: str = "In") -> dict[str, Any]:
    """The part of a PV's spec that ties it to a node."""
    expression = {"key": KEY, "operator": operator, "values": [node]}
    return {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}}
