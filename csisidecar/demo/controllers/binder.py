"""Binds claims and volumes: reads the stores, asks `binding.py` what to do, and does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from csisidecar.demo.controllers.binding import plan_claim, plan_volume
from csisidecar.demo.controllers.executor import RETRY
from csisidecar.demo.controllers.views import BinderClaim, BinderClass, BinderVolume
from csisidecar.errors import NotFoundError
from csisidecar.kube.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, ObjectKey
from csisidecar.runtime import DONE, Controller, Result, on_mapped, on_self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from csisidecar.demo.controllers.world import World

BY_CLAIM = "claim"
"""Volumes by the namespace and name their claimRef gives."""
FREE_BY_CLASS = "free-by-class"
"""Volumes without a claimRef, by class."""
UNBOUND_BY_CLASS = "unbound-by-class"
"""Claims that no volume name was written to, by class."""
BY_VOLUME = "volume"
"""Claims by `spec.volumeName`."""


def claim_of(volume: BinderVolume) -> tuple[ObjectKey, ...]:
    """The key of the claim that the volume's claimRef names."""
    ref = volume.spec.claim_ref
    return (ObjectKey(ref.namespace, ref.name),) if ref is not None else ()


def _class_if_free(volume: BinderVolume) -> tuple[str, ...]:
    return (volume.class_name,) if volume.spec.claim_ref is None else ()


def _class_if_unbound(claim: BinderClaim) -> tuple[str, ...]:
    return (claim.class_name,) if not claim.spec.volume_name else ()


def _named_volume(claim: BinderClaim) -> tuple[str, ...]:
    return (claim.spec.volume_name,) if claim.spec.volume_name else ()


def add_indexes(world: World) -> None:
    """The indexes that the controllers of this folder look things up by."""
    world.volumes.add_index(BY_CLAIM, claim_of)
    world.volumes.add_index(FREE_BY_CLASS, _class_if_free)
    world.claims.add_index(UNBOUND_BY_CLASS, _class_if_unbound)
    world.claims.add_index(BY_VOLUME, _named_volume)


class ClaimBinder:
    """One claim: hand it to its provisioner, bind it, or say that its volume is lost."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def reconcile(self, key: ObjectKey) -> Result:
        """Bring the claim one plan forward."""
        world = self._world
        claim = world.claims.get(key)
        if claim is None:
            return DONE
        candidates = [
            *world.volumes.by_index(BY_CLAIM, key),
            *world.volumes.by_index(FREE_BY_CLASS, claim.class_name),
        ]
        named = world.volumes.find(claim.spec.volume_name) if claim.spec.volume_name else None
        if claim.spec.volume_name and named is None:
            named = await self._fetch_volume(claim.spec.volume_name)
        plan = plan_claim(
            claim,
            named=named,
            candidates=candidates,
            storage_class=world.classes.find(claim.class_name) if claim.class_name else None,
            default_class=find_default_class(world.classes.values()),
        )
        await world.executor.carry_out(plan, resource=PERSISTENT_VOLUME_CLAIMS, about=claim)
        return DONE

    async def _fetch_volume(self, name: str) -> BinderVolume | None:
        """The volume from the API server: a claim is called lost only when the server itself says so."""
        try:
            return msgspec.convert(await self._world.kube.get(PERSISTENT_VOLUMES, name), BinderVolume)
        except NotFoundError:
            return None


class VolumeBinder:
    """One volume: its phase, and what to do when its claim is gone or went elsewhere."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def reconcile(self, key: ObjectKey) -> Result:
        """Bring the volume one plan forward."""
        volume = self._world.volumes.get(key)
        if volume is None:
            return DONE
        plan = plan_volume(volume, await self._claim(volume))
        await self._world.executor.carry_out(plan, resource=PERSISTENT_VOLUMES, about=volume)
        return DONE

    async def _claim(self, volume: BinderVolume) -> BinderClaim | None:
        """The claim that the volume is reserved for.

        The two stores are filled by two watches, and the volume's may be ahead. Only the API server's own word
        may release a volume, because a released volume is deleted with its data.
        """
        ref = volume.spec.claim_ref
        if ref is None or not ref.uid:
            return None
        claim = self._world.claims.find(ref.name, ref.namespace)
        if claim is not None and claim.uid == ref.uid:
            return claim
        if volume.phase == "Released":
            return None
        try:
            live = await self._world.kube.get(PERSISTENT_VOLUME_CLAIMS, ref.name, namespace=ref.namespace)
        except NotFoundError:
            return None
        return msgspec.convert(live, BinderClaim)


def find_default_class(classes: Iterable[BinderClass]) -> BinderClass | None:
    """The default class: the newest of those marked so, by name among equals."""
    marked = sorted((c for c in classes if c.is_default), key=lambda c: c.name)
    return max(marked, key=lambda c: c.metadata.creation_timestamp or "", default=None)


def build(world: World) -> Sequence[Controller[ObjectKey]]:
    """The binder's two controllers."""

    def waiting_claims(volume: BinderVolume) -> Iterable[ObjectKey]:
        yield from claim_of(volume)
        for claim in world.claims.by_index(BY_VOLUME, volume.name):
            yield claim.key
        if volume.spec.claim_ref is None:
            for claim in world.claims.by_index(UNBOUND_BY_CLASS, volume.class_name):
                yield claim.key

    def claims_of_class(storage_class: BinderClass) -> Iterable[ObjectKey]:
        names = (storage_class.name, "") if storage_class.is_default else (storage_class.name,)
        for name in names:
            for claim in world.claims.by_index(UNBOUND_BY_CLASS, name):
                yield claim.key

    def volumes_of(claim: BinderClaim) -> Iterable[ObjectKey]:
        for volume in world.volumes.by_index(BY_CLAIM, claim.key):
            yield volume.key

    return (
        Controller(
            name="demo-claim-binder",
            reconciler=ClaimBinder(world),
            triggers=[
                on_self(world.claims),
                on_mapped(world.volumes, waiting_claims, deletes=True),
                on_mapped(world.classes, claims_of_class),
            ],
            backoff=RETRY,
        ),
        Controller(
            name="demo-volume-binder",
            reconciler=VolumeBinder(world),
            triggers=[on_self(world.volumes), on_mapped(world.claims, volumes_of, deletes=True)],
            backoff=RETRY,
        ),
    )
