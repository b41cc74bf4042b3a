"""Three small clusters that the tests of places share, written down by hand, and how requirements read in a test.

The page of parity describes the same three, so that a stranger can recompute every row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from csisidecar.config import ProvisionerSettings
from csisidecar.plugins.provisioner.topology import Requirements, Term, find_requirements
from tests.plugins.provisioner.world import DRIVER, World

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from csisidecar.plugins.provisioner.topology import Cluster

SELECTED = "volume.kubernetes.io/selected-node"
PLACES = frozenset({"CONTROLLER_SERVICE", "VOLUME_ACCESSIBILITY_CONSTRAINTS"})


@dataclass(frozen=True)
class Drawn:
    """A cluster written down: node → keys in its CSINode, node → labels of its Node."""

    keys: Mapping[str, Sequence[str]]
    labels: Mapping[str, Mapping[str, str]]

    def find_keys(self, node: str) -> Sequence[str] | None:
        return self.keys.get(node)

    def all_keys(self) -> Iterable[Sequence[str]]:
        return list(self.keys.values())

    def find_labels(self, node: str) -> Mapping[str, str] | None:
        return self.labels.get(node)

    def all_labels(self) -> Iterable[Mapping[str, str]]:
        return list(self.labels.values())


A = Drawn(
    keys=dict.fromkeys(("n1", "n2", "n3", "n4"), ("zone",)),
    labels={"n1": {"zone": "b"}, "n2": {"zone": "a"}, "n3": {"zone": "c"}, "n4": {"zone": "a"}},
)
B = Drawn(
    keys=dict.fromkeys(("n1", "n2", "n3"), ("zone", "rack")),
    labels={
        "n1": {"zone": "z2", "rack": "r1"},
        "n2": {"zone": "z1", "rack": "r1"},
        "n3": {"zone": "z1", "rack": "r2"},
    },
)
C = Drawn(
    keys={"n1": ("zone",), "n2": ("zone", "rack")},
    labels={"n1": {"zone": "z1"}, "n2": {"zone": "z1", "rack": "r1"}, "n5": {"zone": "z9", "rack": "r9"}},
)


def selector(**values: str) -> dict[str, Any]:
    """``zone="a,b"``: one entry of allowedTopologies, in which every keyword must match one of its values."""
    return {"matchLabelExpressions": [{"key": key, "values": text.split(",")} for key, text in values.items()]}


def find(
    cluster: Cluster,
    name: str = "claim",
    *,
    node: str = "",
    allowed: Sequence[Mapping[str, Any]] | None = None,
    strict: bool = False,
    immediate: bool = True,
) -> Requirements | None:
    """The requirements, with the flags as they are unless told otherwise."""
    return find_requirements(
        cluster,
        claim_name=name,
        class_name="fast",
        allowed_topologies=allowed,
        selected_node=node,
        strict=strict,
        immediate=immediate,
    )


def shown(requirements: Requirements | None) -> tuple[str, str] | None:
    """Requisite and preferred as ``r1,z1 r1,z2``: values only, in the order of their keys."""

    def text(terms: Sequence[Term]) -> str:
        return " ".join(",".join(value for _, value in term) for term in terms)

    return None if requirements is None else (text(requirements.requisite), text(requirements.preferred))


def asked(call: Any) -> tuple[str, str] | None:
    """The same of one CreateVolume request."""
    requirement = call.accessibility_requirements

    def text(places: Any) -> str:
        return " ".join(",".join(value for _, value in sorted(place.segments.items())) for place in places)

    return None if requirement is None else (text(requirement.requisite), text(requirement.preferred))


def build_world(cluster: Drawn, **settings: Any) -> World:
    """A world to provision in with the nodes of `cluster`, and a driver that has all of their places."""
    world = World(settings=ProvisionerSettings(retry_interval_max_s=4, **settings), plugin_capabilities=PLACES)
    everywhere = tuple(dict(labels) for labels in cluster.labels.values())
    world.driver.settings = replace(world.driver.settings, places=everywhere)
    for name, labels in cluster.labels.items():
        add_node(world, name, labels)
    for name, keys in cluster.keys.items():
        add_csi_node(world, name, keys)
    return world


def add_node(world: World, name: str, labels: Mapping[str, str]) -> None:
    """The Node."""
    world.api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": dict(labels)}})


def add_csi_node(world: World, name: str, keys: Sequence[str]) -> None:
    """What the kubelet writes once the driver has registered."""
    body = {"metadata": {"name": name}, "spec": {"drivers": [registration(name, keys)]}}
    world.api.create({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", **body})


def registration(node: str, keys: Sequence[str]) -> dict[str, Any]:
    """The driver's entry in the CSINode."""
    return {"name": DRIVER, "nodeID": node, "topologyKeys": list(keys)}


def register(world: World, node: str, keys: Sequence[str] | None) -> None:
    """Take the driver's entry away, and unless `keys` is None put one with them there; an entry does not change."""
    world.api.edit("csinodes", node, lambda obj: obj["spec"].update(drivers=[]))
    if keys is not None:
        world.api.edit("csinodes", node, lambda obj: obj["spec"].update(drivers=[registration(node, keys)]))


def label(world: World, node: str, labels: Mapping[str, str]) -> None:
    """Give the Node these labels and no others."""
    world.api.edit("nodes", node, lambda obj: obj["metadata"].update(labels=dict(labels)))


def select(world: World, node: str) -> None:
    """What the scheduler does."""
    world.api.edit(
        "persistentvolumeclaims", "data", lambda obj: obj["metadata"]["annotations"].update({SELECTED: node}), "team"
    )


def selected_node(world: World) -> str | None:
    """The node that the claim names now."""
    claim = world.api.get("persistentvolumeclaims", "data", "team")
    assert claim is not None
    node: str | None = claim["metadata"].get("annotations", {}).get(SELECTED)
    return node
