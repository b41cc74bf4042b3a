"""What every controller of this folder is handed: the client, the stores it may read, and the executor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from csisidecar.demo.controllers.executor import Executor
from csisidecar.demo.controllers.views import BinderClaim, BinderClass, BinderVolume, CSIDriver, Pod, WorkerNode
from csisidecar.kube.objects import Attachment
from csisidecar.kube.resources import (
    CSI_DRIVERS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    STORAGE_CLASSES,
    VOLUME_ATTACHMENTS,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from csisidecar.clock import Clock
    from csisidecar.kube import KubeClient, KubeSession
    from csisidecar.runtime import EventRecorder, Store, Stores


@dataclass(frozen=True, kw_only=True)
class World:
    """The cluster as the stand-ins see it."""

    session: KubeSession
    """For the one request that the client has no words for: a deletion without grace."""
    kube: KubeClient
    events: EventRecorder
    executor: Executor
    clock: Clock
    claims: Store[BinderClaim]
    volumes: Store[BinderVolume]
    classes: Store[BinderClass]
    attachments: Store[Attachment]
    pods: Store[Pod]
    nodes: Store[WorkerNode]
    drivers: Store[CSIDriver]

    @classmethod
    def open(cls, session: KubeSession, kube: KubeClient, stores: Stores, events: EventRecorder, clock: Clock) -> World:
        """Ask for every store that is needed; asking is what makes a resource watched."""
        return cls(
            session=session,
            kube=kube,
            events=events,
            executor=Executor(kube, events),
            clock=clock,
            claims=stores.get(PERSISTENT_VOLUME_CLAIMS, BinderClaim),
            volumes=stores.get(PERSISTENT_VOLUMES, BinderVolume),
            classes=stores.get(STORAGE_CLASSES, BinderClass),
            attachments=stores.get(VOLUME_ATTACHMENTS, Attachment),
            pods=stores.get(PODS, Pod),
            nodes=stores.get(NODES, WorkerNode),
            drivers=stores.get(CSI_DRIVERS, CSIDriver),
        )

    def stores(self) -> Sequence[Store[Any]]:
        """All the stores, to wait for their first lists."""
        return (
            self.claims,
            self.volumes,
            self.classes,
            self.attachments,
            self.pods,
            self.nodes,
            self.drivers,
        )
