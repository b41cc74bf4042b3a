"""Watches the cluster for the story: waits until something is so, and explains why it is not.

What it waits for comes from its own watches, so the wait costs no requests; what the story then claims is read
from the API server again with `live`.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from csisidecar.demo.controllers.views import BinderClaim, BinderVolume, Pod
from csisidecar.errors import NotFoundError
from csisidecar.kube import (
    EVENTS,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    VOLUME_ATTACHMENTS,
    Attachment,
    KubeObject,
    ObjectRef,
)
from csisidecar.runtime import Stores

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from csisidecar.clock import Clock
    from csisidecar.kube import KubeClient, Resource

T = TypeVar("T")

LOOK_AGAIN_S = 0.1
"""How often a wait is looked at without a change of the cluster: the driver's directory tells nobody."""


class Happening(KubeObject, frozen=True):
    """An Event object."""

    involved_object: ObjectRef = msgspec.field(default_factory=ObjectRef)
    type: str = ""
    reason: str = ""
    message: str = ""


class Observer:
    """The cluster as the story sees it; use `opened`."""

    def __init__(self, client: KubeClient, clock: Clock) -> None:
        self._client = client
        self._stores = Stores(client, clock=clock)
        self.claims = self._stores.get(PERSISTENT_VOLUME_CLAIMS, BinderClaim)
        self.volumes = self._stores.get(PERSISTENT_VOLUMES, BinderVolume)
        self.attachments = self._stores.get(VOLUME_ATTACHMENTS, Attachment)
        self.pods = self._stores.get(PODS, Pod)
        self.events = self._stores.get(EVENTS, Happening)
        self._changed = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def opened(cls, client: KubeClient, clock: Clock) -> AsyncIterator[Observer]:
        """An observer that has seen everything there is."""
        observer = cls(client, clock)
        stores = (observer.claims, observer.volumes, observer.attachments, observer.pods, observer.events)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(observer._stores.run(), name="story stores")
            try:
                for store in stores:
                    await store.synced()
                    store.subscribe(lambda _: observer._changed.set())
                yield observer
            finally:
                task.cancel()

    async def until(self, find: Callable[[], T | bool | None], timeout_s: float) -> T:
        """What `find` gives, as soon as it is neither None nor False; looked at after each change.

        Raises:
            TimeoutError: it was not so within `timeout_s`.
        """
        async with asyncio.timeout(timeout_s):
            while True:
                self._changed.clear()
                found = find()
                if found is not None and found is not False:
                    return found  # type: ignore[return-value]  # True stands for "it is so" and is not used
                try:
                    async with asyncio.timeout(LOOK_AGAIN_S):
                        await self._changed.wait()
                except TimeoutError:
                    continue

    async def live(self, resource: Resource, name: str, namespace: str = "") -> dict[str, Any] | None:
        """The object as the API server has it now, None when there is none."""
        try:
            return await self._client.get(resource, name, namespace=namespace)
        except NotFoundError:
            return None

    def complaints(self) -> list[str]:
        """What the cluster says went wrong: attach and detach errors, then warning Events, newest last."""
        found = []
        for attachment in self.attachments.values():
            status = attachment.status
            for kind in ("attach_error", "detach_error"):
                error = getattr(status, kind, None)
                if error is not None:
                    words = kind.split("_")
                    field = f"{words[0]}{words[1].title()}"
                    found.append(f"VolumeAttachment {attachment.name} has status.{field}:\n{error.message}")
        warnings = [event for event in self.events.values() if event.type == "Warning"]
        for event in sorted(warnings, key=lambda e: (e.metadata.creation_timestamp or "", e.name))[-5:]:
            about = event.involved_object
            found.append(f"Event {event.reason} of {about.kind} {about.name}:\n{event.message}")
        return found
