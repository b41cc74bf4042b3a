"""Which topology segments a driver's nodes form; a segment is a term of sorted (key, value) pairs, each key once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from csisidecar.plugins.provisioner.topology import Term, normalize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from csisidecar.kube import CSINode, Node
    from csisidecar.runtime import Change, Store


logger = logging.getLogger(__name__)

_SHOWN_NODES = 10


class Segments(Protocol):
    """Where the segments come from."""

    @property
    def current(self) -> frozenset[Term]:
        """The segments that are known."""
        ...

    def look(self) -> frozenset[Term]:
        """The segments as they are now, known or not; for those who follow nothing."""
        ...


class FixedSegment:
    """The one segment of the node that this process works for."""

    def __init__(self, segments: Mapping[str, str]) -> None:
        self.current = frozenset({normalize(segments.items())})

    def look(self) -> frozenset[Term]:
        """It never changes."""
        return self.current


class ClusterSegments:
    """The segments of all nodes on which the driver is registered.

    A node counts when its CSINode names the driver, and its Node has a label for each of the driver's keys; a driver
    without keys gives the one empty segment, which is everywhere. Nodes without keys beside others with keys are a
    mistake of the driver: room everywhere stands beside the room of each place then. This is warned of.

    Source: external-provisioner `pkg/capacity/topology/nodes.go`.
    """

    def __init__(self, driver_name: str, csi_nodes: Store[CSINode], nodes: Store[Node]) -> None:
        self._driver_name = driver_name
        self._csi_nodes = csi_nodes
        self._nodes = nodes
        self._current: frozenset[Term] | None = None
        self._told: Sequence[str] = ()

    @property
    def current(self) -> frozenset[Term]:
        """The segments as of the last `refresh`; the first look is one."""
        if self._current is None:
            self._current = self.look()
        return self._current

    def refresh(self) -> frozenset[Term]:
        """Look again; the segments that came or went."""
        before, self._current = self.current, self.look()
        self._tell_of_keyless()
        return before ^ self._current

    def _tell_of_keyless(self) -> None:
        """Warn of nodes without keys among nodes with keys, once for as long as they are the same."""
        keyless, has_keys = [], False
        for csi_node in self._csi_nodes.values():
            entry = csi_node.find_driver(self._driver_name)
            if entry is None or self._nodes.find(csi_node.name) is None:
                continue
            if entry.topology_keys:
                has_keys = True
            else:
                keyless.append(csi_node.name)
        found = sorted(keyless) if has_keys else []
        if found and found != self._told:
            more = f" and {len(found) - _SHOWN_NODES} more" if len(found) > _SHOWN_NODES else ""
            logger.warning(
                "the driver registered without topology keys on some nodes and with keys on others; its capacity object"
                " without keys holds for every node",
                extra={"driver": self._driver_name, "nodes": ", ".join(found[:_SHOWN_NODES]) + more},
            )
        self._told = found

    def look(self) -> frozenset[Term]:
        """What the nodes say now."""
        found = set()
        for csi_node in self._csi_nodes.values():
            entry, node = csi_node.find_driver(self._driver_name), self._nodes.find(csi_node.name)
            if entry is None or node is None:
                continue
            labels, keys = node.labels, set(entry.topology_keys or ())
            if all(key in labels for key in keys):
                found.add(normalize((key, labels[key]) for key in keys))
        return frozenset(found)

    def may_change_with_node(self, change: Change[Node]) -> bool:
        """Whether a Node's change may change segments."""
        return change.old is None or change.new is None or change.old.labels != change.new.labels

    def may_change_with_csi_node(self, change: Change[CSINode]) -> bool:
        """Whether a CSINode's change may change segments."""
        if change.old is None or change.new is None:
            return True
        before, after = (each.find_driver(self._driver_name) for each in (change.old, change.new))
        if before is None or after is None:
            return before is not after
        return set(before.topology_keys or ()) != set(after.topology_keys or ())
