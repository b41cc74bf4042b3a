"""Says at a source that is being deleted which claim it waits for: one Event a source, then silence.

The finalizers that hold a source carry no driver's name, and each driver's provisioner waits for all claims. Only the
one that is to make the claim's volume says so.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from csisidecar.plugins.provisioner import eligibility, names

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from csisidecar.config import ProvisionerSettings
    from csisidecar.kube import Claim, StorageClass
    from csisidecar.plugin import PluginContext
    from csisidecar.runtime import Regarding, Store

logger = logging.getLogger(__name__)


class HeldSources:
    """Sources whose owners know why they stay.

    Args:
        ctx: who we are, and where Events go.
        settings: which node we are for, if each has its provisioner.
        classes: the cluster's; a claim whose first consumer is missing is addressed to nobody yet but by its class.
        reason: of the Events.
        told: UIDs of sources that were told of; whoever owns it outlives a change of leaders.
    """

    def __init__(
        self,
        ctx: PluginContext,
        settings: ProvisionerSettings,
        classes: Store[StorageClass],
        *,
        reason: str,
        told: set[str],
    ) -> None:
        self._events = ctx.events
        self._driver_name = ctx.driver.name
        self._node = settings.node
        self._classes = classes
        self._reason = reason
        self._told = told

    def is_ours_to_tell(self, claim: Claim, source: Claim | None = None) -> bool:
        """Whether it is for us to say that something waits for `claim`, a clone of `source` if that is given.

        Where each node has its provisioner it is the one of the claim's node.
        """
        if self._node is not None and names.find_selected_node(claim) != self._node.name:
            return False
        if names.find_provisioner(claim) is not None:
            return eligibility.is_claim_ours(claim, self._driver_name)
        # Nobody is to make it yet. Its class says who will be; where that is missing, its source has the same driver.
        for each in (claim, source):
            storage_class = self._classes.find(each.class_name) if each is not None else None
            if storage_class is not None:
                return storage_class.provisioner in names.own_names(self._driver_name)
        return False

    def tell(self, source: Regarding, text: str) -> None:
        """Say on the source what it waits for, unless that was done."""
        if source.uid in self._told:
            return
        self._told.add(source.uid)
        self._events.event(source, "Normal", self._reason, text)
        logger.info(
            "deleted source waits", extra={"kind": source.kind, "key": f"{source.namespace}/{source.name}", "why": text}
        )

    def forget_others(self, uids: Collection[str]) -> None:
        """All sources but these are gone, or free."""
        self._told.intersection_update(uids)


def name_all(claims: Sequence[Claim]) -> str:
    """The first of some claims, and how many more there are."""
    keys = sorted({str(claim.key) for claim in claims})
    return keys[0] if len(keys) == 1 else f"{keys[0]} and {len(keys) - 1} more"
