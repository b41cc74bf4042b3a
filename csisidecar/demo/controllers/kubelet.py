"""Pods on nodes: Running once their volumes are attached, gone once they are deleted. No container is ever started.

Source: Kubernetes `pkg/kubelet/volumemanager` (a Pod waits for its volumes) and `pkg/kubelet/status/status_manager.go`
(the kubelet ends a deletion with a grace period of 0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from csisidecar.clock import rfc3339
from csisidecar.demo.controllers.attachdetach import attachment_name, is_attachable
from csisidecar.demo.controllers.binder import claim_of
from csisidecar.demo.controllers.binding import BIND_COMPLETED
from csisidecar.demo.controllers.executor import RETRY
from csisidecar.demo.controllers.protection import PODS_BY_CLAIM, claims_of
from csisidecar.errors import ConflictError, NotFoundError
from csisidecar.kube import decode_error, encode
from csisidecar.kube.resources import PODS, ObjectKey
from csisidecar.runtime import DONE, Controller, Regarding, Result, on_mapped, on_self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from csisidecar.demo.controllers.views import BinderClaim, BinderVolume, Pod
    from csisidecar.demo.controllers.world import World
    from csisidecar.kube.objects import Attachment

REQUEST_TIMEOUT_S = 30.0


def build_running_status(pod: Pod, moment: str) -> dict[str, Any]:
    """The status of a Pod whose containers run since `moment`."""
    condition_types = ("Initialized", "PodReadyToStartContainers", "ContainersReady", "Ready", "PodScheduled")
    return {
        "phase": "Running",
        "startTime": moment,
        "conditions": [{"type": t, "status": "True", "lastTransitionTime": moment} for t in condition_types],
        "containerStatuses": [
            {
                "name": container.name,
                "image": container.image,
                "imageID": "",
                "ready": True,
                "started": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": moment}},
            }
            for container in pod.spec.containers or ()
        ],
    }


class Kubelet:
    """One Pod on a node: what its kubelet would do."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def reconcile(self, key: ObjectKey) -> Result:
        """Start the Pod when its volumes are there, end it when it is deleted."""
        pod = self._world.pods.get(key)
        if pod is None or not pod.node_name:
            return DONE
        try:
            if pod.is_deleting:
                await self._end(pod)
            elif pod.status.phase in ("", "Pending") and self._has_volumes(pod):
                status = build_running_status(pod, rfc3339(self._world.clock.now()))
                await self._world.kube.patch(
                    PODS, pod.name, {"status": status}, namespace=pod.namespace, subresource="status"
                )
                self._tell(pod)
        except (NotFoundError, ConflictError):
            return DONE  # the Pod is gone, or another one has its name: that one has a key of its own
        return DONE

    async def _end(self, pod: Pod) -> None:
        """Delete the Pod without grace, which only a kubelet should ever do.

        Raises:
            KubeError: the API server refused or did not answer.
        """
        options = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": pod.uid},
        }
        answer = await self._world.session.request(
            "DELETE",
            PODS.path(namespace=pod.namespace, name=pod.name),
            headers={"Content-Type": "application/json"},
            body=encode(options),
            timeout_s=REQUEST_TIMEOUT_S,
        )
        if not 200 <= answer.status < 300:
            raise decode_error(
                answer.status, answer.body, headers=answer.headers, verb="delete", resource="pods", name=str(pod.key)
            )

    def _tell(self, pod: Pod) -> None:
        """The Event that people look for when a Pod starts with volumes."""
        claims = [self._world.claims.get(key) for key in claims_of(pod)]
        names = ", ".join(f'"{claim.spec.volume_name}"' for claim in claims if claim is not None)
        if names:
            message = f"AttachVolume.Attach succeeded for volume {names} "
            self._world.events.event(Regarding.of(PODS, pod), "Normal", "SuccessfulAttachVolume", message)

    def _has_volumes(self, pod: Pod) -> bool:
        return all(self._is_usable(key, pod.node_name) for key in claims_of(pod))

    def _is_usable(self, key: ObjectKey, node: str) -> bool:
        world = self._world
        claim = world.claims.get(key)
        if claim is None or BIND_COMPLETED not in claim.annotations:
            return False
        volume = world.volumes.find(claim.spec.volume_name)
        if volume is None:
            return False
        source = volume.spec.csi
        if source is None or not is_attachable(world, source.driver):
            return True
        attachment = world.attachments.find(attachment_name(source.volume_handle, source.driver, node))
        return attachment is not None and attachment.is_attached and not attachment.is_deleting


def build(world: World) -> Sequence[Controller[ObjectKey]]:
    """The one controller of this file."""

    def pods_of_attachment(attachment: Attachment) -> Iterable[ObjectKey]:
        volume = world.volumes.find(attachment.volume_name) if attachment.volume_name else None
        if volume is not None and volume.spec.claim_ref is not None:
            ref = volume.spec.claim_ref
            yield from pods_using(ObjectKey(ref.namespace, ref.name))

    def pods_of_claim(claim: BinderClaim) -> Iterable[ObjectKey]:
        yield from pods_using(claim.key)

    def pods_of_volume(volume: BinderVolume) -> Iterable[ObjectKey]:
        for key in claim_of(volume):
            yield from pods_using(key)

    def pods_using(key: ObjectKey) -> Iterable[ObjectKey]:
        for pod in world.pods.by_index(PODS_BY_CLAIM, key):
            yield pod.key

    return (
        Controller(
            name="demo-kubelet",
            reconciler=Kubelet(world),
            triggers=[
                on_self(world.pods, when=lambda change: change.new is not None and bool(change.new.node_name)),
                on_mapped(world.attachments, pods_of_attachment),
                on_mapped(world.claims, pods_of_claim),
                on_mapped(world.volumes, pods_of_volume),
            ],
            backoff=RETRY,
        ),
    )
