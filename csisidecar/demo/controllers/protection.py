"""Keeps claims that Pods use, and volumes that claims use, from vanishing: the two protection finalizers.

Source: Kubernetes `pkg/controller/volume/pvcprotection/pvc_protection_controller.go` and
`pkg/controller/volume/pvprotection/pv_protection_controller.go`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from csisidecar.demo.controllers.executor import CONFLICT_S, RETRY
from csisidecar.demo.controllers.views import Pod  # noqa: TC001 - msgspec resolves field types when it decodes
from csisidecar.errors import ConflictError, InvalidError, NotFoundError, RetryAfter
from csisidecar.kube import add_finalizer, remove_finalizer
from csisidecar.kube.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, ObjectKey, Resource
from csisidecar.runtime import DONE, Controller, Result, on_mapped, on_self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from csisidecar.demo.controllers.world import World
    from csisidecar.kube import KubeClient
    from csisidecar.kube.objects import KubeObject

CLAIM_PROTECTION = "kubernetes.io/pvc-protection"
VOLUME_PROTECTION = "kubernetes.io/pv-protection"
PODS_BY_CLAIM = "claim"


def claims_of(pod: Pod) -> tuple[ObjectKey, ...]:
    """Keys of the claims that `pod` uses."""
    return tuple(ObjectKey(pod.namespace, name) for name in pod.claim_names)


def is_user(pod: Pod, claim_name: str) -> bool:
    """Whether `pod` holds the claim: only scheduled Pods do, a kubelet refuses a claim that is being deleted."""
    return bool(pod.node_name) and claim_name in pod.claim_names


async def _put_on(kube: KubeClient, resource: Resource, obj: KubeObject, finalizer: str) -> None:
    await _patch(kube, resource, obj, add_finalizer(obj.finalizers, finalizer))


async def _take_off(kube: KubeClient, resource: Resource, obj: KubeObject, finalizer: str) -> None:
    await _patch(kube, resource, obj, remove_finalizer(obj.finalizers, finalizer))


async def _patch(kube: KubeClient, resource: Resource, obj: KubeObject, patch: Sequence[Any]) -> None:
    """Change the finalizers.

    Raises:
        RetryAfter: somebody else changed them meanwhile, which other finalizers' owners often do just then.
    """
    try:
        await kube.patch(resource, obj.name, patch, namespace=obj.namespace)
    except NotFoundError:
        return
    except (ConflictError, InvalidError) as error:
        raise RetryAfter(CONFLICT_S, str(error)) from error


class ClaimProtection:
    """One claim: the finalizer is on while it lives, and comes off once it is deleted and unused."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def reconcile(self, key: ObjectKey) -> Result:
        """Add or remove the finalizer where that is due."""
        claim = self._world.claims.get(key)
        if claim is None:
            return DONE
        if not claim.is_deleting:
            if CLAIM_PROTECTION not in claim.finalizers:
                await _put_on(self._world.kube, PERSISTENT_VOLUME_CLAIMS, claim, CLAIM_PROTECTION)
            return DONE
        if CLAIM_PROTECTION not in claim.finalizers:
            return DONE
        known = self._world.pods.by_index(PODS_BY_CLAIM, key)
        if any(is_user(pod, key.name) for pod in known) or await self._is_used(key):
            return DONE
        await _take_off(self._world.kube, PERSISTENT_VOLUME_CLAIMS, claim, CLAIM_PROTECTION)
        return DONE

    async def _is_used(self, key: ObjectKey) -> bool:
        """What the API server itself says: the Pods' store may be behind the claims'."""
        token = ""
        while True:
            page = msgspec.json.decode(
                await self._world.kube.list_page(PODS, namespace=key.namespace, continue_token=token), type=_PodList
            )
            if any(is_user(pod, key.name) for pod in page.items or ()):
                return True
            token = page.metadata.token
            if not token:
                return False


class VolumeProtection:
    """One volume: the finalizer is on while it lives, and comes off once it is deleted and not bound."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def reconcile(self, key: ObjectKey) -> Result:
        """Add or remove the finalizer where that is due."""
        volume = self._world.volumes.get(key)
        if volume is None:
            return DONE
        if not volume.is_deleting:
            if VOLUME_PROTECTION not in volume.finalizers:
                await _put_on(self._world.kube, PERSISTENT_VOLUMES, volume, VOLUME_PROTECTION)
        elif VOLUME_PROTECTION in volume.finalizers and volume.phase != "Bound":
            await _take_off(self._world.kube, PERSISTENT_VOLUMES, volume, VOLUME_PROTECTION)
        return DONE


class _ListMeta(msgspec.Struct):
    token: str = msgspec.field(default="", name="continue")


class _PodList(msgspec.Struct):
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)
    items: list[Pod] | None = None


def build(world: World) -> Sequence[Controller[ObjectKey]]:
    """The two protection controllers."""

    def used_claims(pod: Pod) -> Iterable[ObjectKey]:
        return claims_of(pod)

    return (
        Controller(
            name="demo-claim-protection",
            reconciler=ClaimProtection(world),
            triggers=[on_self(world.claims), on_mapped(world.pods, used_claims, deletes=True)],
            backoff=RETRY,
        ),
        Controller(
            name="demo-volume-protection",
            reconciler=VolumeProtection(world),
            triggers=[on_self(world.volumes)],
            backoff=RETRY,
        ),
    )
