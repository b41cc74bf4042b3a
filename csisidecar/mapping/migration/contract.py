"""What one in-tree plugin has to say about its successor: the fields of `Migration`, and what its functions get.

The seven modules beside this one fill it in; `translate` is the only reader. Sources are the JSON objects of the
API, so that what is not named here survives a translation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from csisidecar.mapping.migration.topology import NoTopology, TopologyRule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from csisidecar.mapping.migration.parameters import ClassRules


@dataclass(frozen=True, kw_only=True)
class InTreeVolume:
    """What a plugin may look at in a PersistentVolume with an in-tree source."""

    name: str
    source: Mapping[str, Any]
    """The in-tree source, for example the value of `spec.cinder`."""
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    claim_namespace: str
    """Namespace of `spec.claimRef`, empty when the volume is not bound."""


@dataclass(frozen=True, kw_only=True)
class InTreeSource:
    """An in-tree source made from a CSI one."""

    fields: dict[str, Any]
    annotations: Mapping[str, str] = field(default_factory=dict)
    """What only fits into an annotation of the volume."""


def _keep_modes(modes: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return modes


def _keep_handle(handle: str, _node_id: str) -> str:
    return handle


@dataclass(frozen=True, kw_only=True)
class Migration:
    """An in-tree plugin, the CSI driver that took over, and how the words of one become those of the other."""

    driver: str
    """Name of the CSI driver."""
    in_tree_name: str
    """Name of the plugin, as classes and `pv.kubernetes.io/provisioned-by` have it."""
    source_field: str
    """Field of a volume's `spec` that holds the plugin's source."""
    to_csi: Callable[[InTreeVolume], dict[str, Any]]
    """In-tree source → `spec.csi`; raises UnusableObjectError."""
    to_in_tree: Callable[[Mapping[str, Any]], InTreeSource]
    """`spec.csi` → in-tree source; raises UnusableObjectError."""
    class_rules: ClassRules
    """How a StorageClass is rewritten."""
    topology: TopologyRule = field(default_factory=NoTopology)
    """How node affinity and zone labels are rewritten."""
    access_modes_to_csi: Callable[[tuple[str, ...] | None], tuple[str, ...] | None] = _keep_modes
    """The in-tree volume's access modes → the ones that the driver can take."""
    complete_handle: Callable[[str, str], str] = _keep_handle
    """A handle as translation makes it, and a node id → the handle as the driver itself lists it."""


def given(**fields: Any) -> dict[str, Any]:
    """Only the fields that say something, as the API server writes optional ones."""
    return {name: value for name, value in fields.items() if value}
