"""Turns Pods on nodes into VolumeAttachments, and takes them away when the last Pod is gone.

Source: Kubernetes `pkg/controller/volume/attachdetach/reconciler/reconciler.go` (what is attached and when),
`pkg/volume/csi/csi_attacher.go` (getAttachmentName, the object itself).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from csisidecar.demo.controllers.binder import claim_of
from csisidecar.demo.controllers.executor import RETRY
from csisidecar.demo.controllers.protection import PODS_BY_CLAIM
from csisidecar.errors import AlreadyExistsError, NotFoundError
from csisidecar.kube.resources import PODS, VOLUME_ATTACHMENTS, ObjectKey
from csisidecar.runtime import DONE, Controller, Regarding, Result, on_mapped, on_self

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from csisidecar.demo.controllers.views import BinderClaim, BinderVolume, CSIDriver, Pod
    from csisidecar.demo.controllers.world import World
    from csisidecar.kube.objects import Attachment

ATTACHMENTS_BY_VOLUME = "volume"
VOLUMES_BY_DRIVER = "driver"
SHARED_MODES = frozenset({"ReadWriteMany", "ReadOnlyMany"})


def attachment_name(handle: str, driver: str, node: str) -> str:
    """Name of the VolumeAttachment of one volume on one node."""
    digest = hashlib.sha256(f"{handle}{driver}{node}".encode()).hexdigest()
    return f"csi-{digest}"


def build_attachment(volume: BinderVolume, node: str) -> dict[str, Any]:
    """The VolumeAttachment that asks for `volume` on `node`; the volume has a CSI source."""
    source = volume.spec.csi
    if source is None:
        raise ValueError(f"volume {volume.name} has no CSI source")
    return {
        "apiVersion": VOLUME_ATTACHMENTS.api_version,
        "kind": VOLUME_ATTACHMENTS.kind,
        "metadata": {"name": attachment_name(source.volume_handle, source.driver, node)},
        "spec": {
            "attacher": source.driver,
            "nodeName": node,
            "source": {"persistentVolumeName": volume.name},
        },
    }


@dataclass(frozen=True, kw_only=True)
class AttachPlan:
    """What to do for one volume."""

    attach: tuple[str, ...] = ()
    """Nodes that need an attachment and may have one now."""
    detach: tuple[Attachment, ...] = ()
    """Attachments that nobody needs any more."""
    blocked: tuple[str, ...] = ()
    """Nodes that must wait until the volume has left another node."""


def plan_attachments(
    volume: BinderVolume, *, wanted: Collection[str], existing: Sequence[Attachment], attachable: bool
) -> AttachPlan:
    """What `volume` needs.

    Args:
        volume: the volume.
        wanted: nodes whose Pods use it.
        existing: its VolumeAttachments, also those that somebody else made.
        attachable: whether its driver wants VolumeAttachments at all.
    """
    source = volume.spec.csi
    if source is None:
        return AttachPlan()
    ours = [a for a in existing if a.name == attachment_name(source.volume_handle, source.driver, a.spec.node_name)]
    detach = tuple(a for a in ours if a.spec.node_name not in wanted and not a.is_deleting)
    if not attachable:
        return AttachPlan(detach=detach)
    occupied = {a.spec.node_name for a in ours}
    missing = tuple(node for node in sorted(wanted) if node not in occupied)
    modes = volume.spec.access_modes or ()
    if modes and not SHARED_MODES.intersection(modes):
        # One node at a time: also a volume that is just leaving keeps others waiting.
        allowed = missing[:1] if not occupied else ()
        return AttachPlan(attach=allowed, detach=detach, blocked=missing[len(allowed) :])
    return AttachPlan(attach=missing, detach=detach)


class AttachDetach:
    """One volume: the VolumeAttachments that its Pods need, and no others of ours."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def reconcile(self, key: ObjectKey) -> Result:
        """Create and delete VolumeAttachments as the Pods ask for."""
        world = self._world
        volume = world.volumes.get(key)
        if volume is None or volume.spec.csi is None:
            return DONE
        users = list(self._users(volume))
        plan = plan_attachments(
            volume,
            wanted={pod.node_name for pod in users},
            existing=world.attachments.by_index(ATTACHMENTS_BY_VOLUME, volume.name),
            attachable=is_attachable(world, volume.spec.csi.driver),
        )
        for attachment in plan.detach:
            try:
                await world.kube.delete(VOLUME_ATTACHMENTS, attachment.name, uid=attachment.uid)
            except NotFoundError:
                continue
        for node in plan.attach:
            try:
                await world.kube.create(VOLUME_ATTACHMENTS, build_attachment(volume, node))
            except AlreadyExistsError:
                continue
        self._tell(volume, users, plan)
        return DONE

    def _users(self, volume: BinderVolume) -> Iterable[Pod]:
        """Pods that are on a node and not over, and use the claim that is bound to `volume`."""
        for key in claim_of(volume):
            claim = self._world.claims.get(key)
            ref = volume.spec.claim_ref
            if claim is None or ref is None or claim.uid != ref.uid or claim.spec.volume_name != volume.name:
                continue
            for pod in self._world.pods.by_index(PODS_BY_CLAIM, key):
                if pod.node_name and not pod.is_over:
                    yield pod

    def _tell(self, volume: BinderVolume, users: Iterable[Pod], plan: AttachPlan) -> None:
        """Events on the Pods whose volume is not there: the driver's error, or another node has it."""
        found = {a.spec.node_name: a for a in self._world.attachments.by_index(ATTACHMENTS_BY_VOLUME, volume.name)}
        for pod in users:
            attachment = found.get(pod.node_name)
            error = attachment.status.attach_error if attachment is not None and attachment.status else None
            regarding = Regarding.of(PODS, pod)
            if pod.node_name in plan.blocked:
                message = f'Multi-Attach error for volume "{volume.name}" Volume is already used by another node'
                self._world.events.event(regarding, "Warning", "FailedAttachVolume", message)
            elif error is not None and attachment is not None and not attachment.is_attached:
                message = f'AttachVolume.Attach failed for volume "{volume.name}" : {error.message}'
                self._world.events.event(regarding, "Warning", "FailedAttachVolume", message)


def is_attachable(world: World, driver: str) -> bool:
    """Whether the driver wants VolumeAttachments: yes, unless its CSIDriver object says otherwise."""
    found = world.drivers.find(driver)
    return found is None or found.spec.attach_required is not False


def add_indexes(world: World) -> None:
    """The indexes by which attachments and volumes are found."""
    world.attachments.add_index(ATTACHMENTS_BY_VOLUME, lambda a: (a.volume_name,) if a.volume_name else ())
    world.volumes.add_index(VOLUMES_BY_DRIVER, lambda v: (v.spec.csi.driver,) if v.spec.csi is not None else ())


def build(world: World) -> Sequence[Controller[ObjectKey]]:
    """The one controller of this file."""

    def volumes_of_pod(pod: Pod) -> Iterable[ObjectKey]:
        for name in pod.claim_names:
            claim = world.claims.find(name, pod.namespace)
            if claim is not None and claim.spec.volume_name:
                yield ObjectKey("", claim.spec.volume_name)

    def volume_of_claim(claim: BinderClaim) -> Iterable[ObjectKey]:
        if claim.spec.volume_name:
            yield ObjectKey("", claim.spec.volume_name)

    def volume_of_attachment(attachment: Attachment) -> Iterable[ObjectKey]:
        if attachment.volume_name:
            yield ObjectKey("", attachment.volume_name)

    def volumes_of_driver(driver: CSIDriver) -> Iterable[ObjectKey]:
        for volume in world.volumes.by_index(VOLUMES_BY_DRIVER, driver.name):
            yield volume.key

    return (
        Controller(
            name="demo-attach-detach",
            reconciler=AttachDetach(world),
            triggers=[
                on_self(world.volumes),
                on_mapped(world.pods, volumes_of_pod, deletes=True),
                on_mapped(world.claims, volume_of_claim),
                on_mapped(world.attachments, volume_of_attachment, deletes=True),
                on_mapped(world.drivers, volumes_of_driver, deletes=True),
            ],
            backoff=RETRY,
        ),
    )
