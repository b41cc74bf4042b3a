"""UnsavedReconciler: a volume that exists and whose PV could not be stored; tried again until it is.

It never calls CreateVolume: the volume is there, only the cluster does not know it yet. A stop tries them once more,
with growing pauses, and names those that are left when it has no more time.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from csisidecar.backoff import Backoff
from csisidecar.errors import KubeError, ThrottledError
from csisidecar.kube import PERSISTENT_VOLUME_CLAIMS
from csisidecar.plugins.provisioner.history import with_history
from csisidecar.plugins.provisioner.outcome import ProvisionError
from csisidecar.plugins.provisioner.saving import BY_UID
from csisidecar.runtime import DONE, Controller, Regarding, Result, current_attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from csisidecar.kube import Claim
    from csisidecar.plugin import PluginContext
    from csisidecar.plugins.provisioner.memory import CreatedVolume, Memory
    from csisidecar.plugins.provisioner.saving import VolumeSaver
    from csisidecar.runtime import Store, Trigger
    from csisidecar.runtime.controller import Host

logger = logging.getLogger(__name__)

SAVE_WORKERS = 4
"""Source: sig-storage-lib-external-provisioner `controller/controller.go`, DefaultThreadiness."""

LAST_TRIES = Backoff(start_s=0.5, max_s=2.0)
"""Between two tries of one PV during a stop; short, as there is little time."""


class UnsavedReconciler:
    """Key: the name of the PV to store; others are of claims in flight, and nothing is done for them."""

    def __init__(self, ctx: PluginContext, memory: Memory, claims: Store[Claim], saver: VolumeSaver) -> None:
        self._ctx = ctx
        self._memory = memory
        self._claims = claims
        self._saver = saver
        self._is_stopping = False
        self._reasons: dict[str, str] = {}
        """Why a PV could not be stored at the last try."""
        self._last_tries: dict[str, int] = {}
        """How often it was tried in vain during the stop."""

    def last_keys(self, in_flight: Iterable[str]) -> Sequence[str]:
        """What a stop must not leave: the unsaved, and the claims in flight, whose volumes may yet be among them.

        Asked of nobody but a stop, so the tries that follow are the last ones.
        """
        self._is_stopping = True
        return [*self._memory.unsaved, *in_flight]

    def tell_left(self) -> None:
        """Name each volume that a stop leaves without a PV: after it nobody else knows the handle."""
        if not self._is_stopping:
            return
        for name, created in self._memory.unsaved.items():
            logger.error(
                "stopped before the PersistentVolume of a volume could be saved; the volume stays in the driver",
                extra={
                    "handle": created.handle,
                    "volume": name,
                    "claim": str(created.claim.key),
                    "error": self._reasons.get(name, "the stop left no time for another try"),
                },
            )

    async def reconcile(self, name: str) -> Result:
        """Store the PV called `name`, if it is among the unsaved."""
        created = self._memory.unsaved.get(name)
        if created is None:
            self._reasons.pop(name, None)
            return DONE
        wait_s = self._memory.retry_save_at_s.get(name, 0.0) - self._ctx.clock.monotonic()
        if wait_s > 0:
            return Result.again(wait_s)
        try:
            await self._saver.save(created)
        except (KubeError, ProvisionError) as error:
            if self._is_stopping:
                self._put_off(created, error)
                return DONE
            if isinstance(error, ThrottledError):
                raise
            self._reasons[name] = str(error)
            self._tell(created, error)
            if name in self._memory.unsaved:
                raise
        if name not in self._memory.unsaved:
            self._reasons.pop(name, None)
        return DONE

    def _put_off(self, created: CreatedVolume, error: KubeError | ProvisionError) -> None:
        """Try again after a longer pause than before; the log has each reason once, not each try."""
        name, text = created.plan.draft.name, str(error)
        count = self._last_tries.get(name, 0) + 1
        if count == 1 or text != self._reasons.get(name):
            self._tell(created, error)
            logger.warning("persistent volume not saved yet, stopping", extra={"volume": name, "error": text})
        self._reasons[name], self._last_tries[name] = text, count
        if name in self._memory.unsaved:
            pause_s = error.retry_after_s if isinstance(error, ThrottledError) else None
            pause_s = pause_s or LAST_TRIES.delay_s(count)
            self._memory.retry_save_at_s[name] = self._ctx.clock.monotonic() + pause_s

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


class UnsavedController(Controller[str]):
    """The queue of the unsaved; when a stop ends it, what is left is told."""

    def __init__(
        self,
        reconciler: UnsavedReconciler,
        *,
        triggers: Sequence[Trigger[str]],
        backoff: Backoff,
        claims_in_flight: Callable[[], Iterable[str]],
    ) -> None:
        super().__init__(
            name="unsavedpvs",
            reconciler=reconciler,
            triggers=triggers,
            workers=SAVE_WORKERS,
            backoff=backoff,
            unfinished=lambda: reconciler.last_keys(claims_in_flight()),
        )
        self._tell_left = reconciler.tell_left

    async def run(self, host: Host) -> None:
        """As every controller."""
        try:
            await super().run(host)
        finally:
            self._tell_left()
