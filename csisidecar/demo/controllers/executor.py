"""Carries a plan out: one merge patch after the other, each bound to the version that was judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from csisidecar.backoff import Backoff
from csisidecar.errors import ConflictError, NotFoundError, RetryAfter

if TYPE_CHECKING:
    from csisidecar.demo.controllers.plan import Patch, Plan
    from csisidecar.kube import KubeClient
    from csisidecar.kube.objects import KubeObject
    from csisidecar.kube.resources import ObjectKey, Resource
    from csisidecar.runtime import EventRecorder

RETRY = Backoff(start_s=0.05, max_s=5.0, jitter=0.2)
"""Retries of failed requests."""
CONFLICT_S = 0.05
"""Conflicts with other writers are ordinary here and no failures; the next look has the newer object."""


class Executor:
    """Makes the writes and shows the Events that the rules decided on."""

    def __init__(self, kube: KubeClient, events: EventRecorder) -> None:
        self._kube = kube
        self._events = events

    async def carry_out(self, plan: Plan, *, resource: Resource, about: KubeObject) -> None:
        """Make the writes of `plan` in order, then show its Event on the object `about`.

        An object that is gone needs nothing more, so a 404 ends the plan quietly.

        Raises:
            RetryAfter: an object moved on since it was read; nothing after that write was made.
            KubeError: a write failed; the ones before it are done and the next plan leaves them out.
        """
        seen: dict[tuple[Resource, ObjectKey], str] = {}
        try:
            for patch in plan.patches:
                await self._write(patch, seen)
        except NotFoundError:
            return
        except ConflictError as error:
            raise RetryAfter(CONFLICT_S, str(error)) from error
        if plan.note is not None:
            from csisidecar.runtime import Regarding

            note = plan.note
            self._events.event(Regarding.of(resource, about), note.type, note.reason, note.message)

    async def _write(self, patch: Patch, seen: dict[tuple[Resource, ObjectKey], str]) -> None:
        which = (patch.resource, patch.key)
        version = seen.get(which, patch.resource_version)
        metadata = {**patch.body.get("metadata", {}), "resourceVersion": version}
        answer = await self._kube.patch(
            patch.resource,
            patch.key.name,
            {**patch.body, "metadata": metadata},
            namespace=patch.key.namespace,
            subresource=patch.subresource,
        )
        seen[which] = answer["metadata"]["resourceVersion"]
