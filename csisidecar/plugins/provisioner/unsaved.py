"""UnsavedReconciler: a volume that exists and whose PV could not be stored; tried again until it is.

It never calls CreateVolume: the volume is there, only the cluster does not know it yet.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from csisidecar.errors import KubeError, ThrottledError
from csisidecar.kube import PERSISTENT_VOLUME_CLAIMS
from csisidecar.plugins.provisioner.history import with_history
from csisidecar.plugins.provisioner.outcome import ProvisionError
from csisidecar.plugins.provisioner.saving import BY_UID
from csisidecar.runtime import DONE, Regarding, Result, current_attempt

if TYPE_CHECKING:
    from csisidecar.kube import Claim
    from csisidecar.plugin import PluginContext
    from csisidecar.plugins.provisioner.memory import CreatedVolume, Memory
    from csisidecar.plugins.provisioner.saving import VolumeSaver
    from csisidecar.runtime import Store

logger = logging.getLogger(__name__)


class UnsavedReconciler:
    """Key: the name of the PV to store."""

    def __init__(self, ctx: PluginContext, memory: Memory, claims: Store[Claim], saver: VolumeSaver) -> None:
        self._ctx = ctx
        self._memory = memory
        self._claims = claims
        self._saver = saver

    async def reconcile(self, name: str) -> Result:
        """Store the PV called `name`, if it is among the unsaved."""
        created = self._memory.unsaved.get(name)
        if created is None:
            return DONE
        wait_s = self._memory.retry_save_at_s.get(name, 0.0) - self._ctx.clock.monotonic()
        if wait_s > 0:
            return Result.again(wait_s)
        try:
            await self._saver.save(created)
        except ThrottledError:
            raise
        except (KubeError, ProvisionError) as error:
            self._tell(created, error)
            if name in self._memory.unsaved:
                raise
        return DONE

    def _tell(self, created: CreatedVolume, error: KubeError | ProvisionError) -> None:
        """Say on the claim, if it is still there, why it has no volume yet."""
        text = str(error)
        if isinstance(error, KubeError):
            text = f"error saving PersistentVolume {created.plan.draft.name} of a provisioned volume: {error}"
        for claim in self._claims.by_index(BY_UID, created.claim.uid):
            self._ctx.events.event(
                Regarding.of(PERSISTENT_VOLUME_CLAIMS, claim),
                "Warning",
                "ProvisioningFailed",
                with_history(text, current_attempt(), self._memory.first_error(claim.uid, text, says_why=True)),
            )
