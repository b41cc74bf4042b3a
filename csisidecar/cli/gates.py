"""Feature gates of the Go sidecars: which are known, and what a set of them means for the modes that run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from csisidecar.cli.grammar import Notice

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One gate.

    Attributes:
        mode: the mode it belongs to; empty: both.
        default: without the flag.
        alpha: whether ``AllAlpha`` moves it.
    """

    mode: str
    default: bool
    alpha: bool = False


GATES: Mapping[str, Gate] = {
    "MutableCSINodeAllocatableCount": Gate(mode="attacher", default=True),
    "Topology": Gate(mode="provisioner", default=True),
    "VolumeAttributesClass": Gate(mode="provisioner", default=True),
    "CrossNamespaceVolumeDataSource": Gate(mode="provisioner", default=False, alpha=True),
    "ReleaseLeaderElectionOnExit": Gate(mode="", default=False, alpha=True),
}
"""Name → gate. A Lease is always released on a clean stop, so ReleaseLeaderElectionOnExit changes nothing.

Source: kubernetes-csi/external-attacher and external-provisioner, `pkg/features/features.go`.
"""

_GROUPS = frozenset({"AllAlpha", "AllBeta"})


def is_on(name: str, given: Mapping[str, bool]) -> bool:
    """Whether the gate `name` is on; a setting of its own beats AllAlpha."""
    gate = GATES[name]
    if name in given:
        return given[name]
    if gate.alpha and "AllAlpha" in given:
        return given["AllAlpha"]
    return gate.default


def notices(given: Mapping[str, bool], modes: Collection[str]) -> tuple[Notice, ...]:
    """What to warn about: one notice for unknown gates.

    A gate of a mode that does not run counts as unknown, as its Go sidecar would not know it either.
    """
    found = []
    unknown = sorted(
        name
        for name in given
        if name not in _GROUPS and (name not in GATES or (GATES[name].mode and GATES[name].mode not in modes))
    )
    if unknown:
        found.append(Notice(message="Ignored unknown feature gates", fields={"gates": ",".join(unknown)}))
    return tuple(found)
