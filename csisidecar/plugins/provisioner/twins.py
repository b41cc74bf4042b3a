"""One provisioner a node, and what speaks against it: a second one for the same node, a place that is none.

Two for one node do each claim twice: CreateVolume, which is idempotent, and the PV, of which the first is kept.
Each PV names the process that made it, and that is how the other one shows.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from csisidecar.errors import UnsupportedDriverError
from csisidecar.plugins.provisioner import names
from csisidecar.runtime import DONE, Result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from csisidecar.kube import Volume
    from csisidecar.plugins.provisioner.memory import Memory
    from csisidecar.runtime import Store

logger = logging.getLogger(__name__)

_LABEL = r"(?=.{1,63}$)[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
_DOMAIN = r"(?=[^/]{1,253}/)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*/"
_KEY = re.compile(rf"({_DOMAIN})?{_LABEL}")
_VALUE = re.compile(rf"({_LABEL})?")


class TwinReconciler:
    """Key: the name of a PV that another provisioner of our node made while we run; each such one is told once."""

    def __init__(
        self, volumes: Store[Volume], memory: Memory, *, driver_name: str, node_name: str, identity: str
    ) -> None:
        self._volumes = volumes
        self._memory = memory
        self._node_name = node_name
        self._identity = identity
        self._started_ms = int(identity.partition("-")[0])
        self._of_this_node = re.compile(rf"(\d+)-\d+-{re.escape(driver_name)}-{re.escape(node_name)}")
        self._told: set[str] = set()

    def is_by_twin(self, volume: Volume) -> bool:
        """Whether the PV was made by a provisioner of our node that lives at the same time as we do.

        That is one that started after us, or one that made the very volume we are making. Those who were here
        before us, ourselves before a restart among them, are neither.
        """
        identity = _maker_of(volume)
        if identity == self._identity:
            return False
        found = self._of_this_node.fullmatch(identity)
        if found is None:
            return False
        claim = volume.spec.claim_ref
        ours_too = volume.name in self._memory.unsaved or (claim is not None and claim.uid in self._memory.in_progress)
        return ours_too or int(found[1]) > self._started_ms

    async def reconcile(self, name: str) -> Result:
        """Say that there is another one."""
        volume = self._volumes.find(name)
        identity = _maker_of(volume) if volume is not None else ""
        if identity and identity not in self._told:
            self._told.add(identity)
            logger.warning(
                "Another provisioner works for this node: each claim is done twice. Only one may have this NODE_NAME",
                extra={"node": self._node_name, "other": identity, "own": self._identity, "volume": name},
            )
        return DONE


def _maker_of(volume: Volume) -> str:
    """Identity of the process that made the PV; empty when it does not say."""
    attributes = volume.spec.csi.volume_attributes if volume.spec.csi is not None else None
    return (attributes or {}).get(names.IDENTITY_ATTRIBUTE, "")


def check_segments(driver_name: str, node_name: str, segments: Mapping[str, str]) -> None:
    """Look at what the driver says about the place of our node; one that it does not tell is warned of.

    Raises:
        UnsupportedDriverError: no node can have these labels, so no PV with them could be stored.
    """
    if not segments:
        logger.warning(
            "The driver ties volumes to places, but NodeGetInfo names none for this node; claims fail until it does",
            extra={"driver": driver_name, "node": node_name},
        )
    for key, value in segments.items():
        if not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
            raise UnsupportedDriverError(
                f"CSI driver {driver_name}: NodeGetInfo says that node {node_name} is at {key!r}: {value!r}, which is"
                " no label of Kubernetes, so that no volume there could be stored; the driver must name its topology"
                " in keys and values of labels"
            )
