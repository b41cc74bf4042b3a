"""The provisioner as a plugin: which stores it asks for, which controllers it is made of."""

from __future__ import annotations

import random
from dataclasses import fields
from typing import TYPE_CHECKING

from csisidecar.backoff import Backoff
from csisidecar.config import PluginSettings, ProvisionerSettings
from csisidecar.errors import ConfigError
from csisidecar.kube import (
    CSI_NODES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    REFERENCE_GRANTS,
    SECRETS,
    STORAGE_CLASSES,
    VOLUME_ATTRIBUTES_CLASSES,
    VOLUME_SNAPSHOT_CONTENTS,
    VOLUME_SNAPSHOTS,
    Claim,
    CSINode,
    Grant,
    Node,
    StorageClass,
    Volume,
    compact_claim,
    compact_volume,
)
from csisidecar.plugins.attachment_store import attachments
from csisidecar.plugins.life_metrics import LifeMetrics
from csisidecar.plugins.provisioner import eligibility, names
from csisidecar.plugins.provisioner.attributes import AttributesReader
from csisidecar.plugins.provisioner.capacity import CENTRAL_MANAGER, SilentNews, build_capacity
from csisidecar.plugins.provisioner.claims import ClaimReconciler
from csisidecar.plugins.provisioner.memory import Memory
from csisidecar.plugins.provisioner.metrics import ProvisionerMetrics
from csisidecar.plugins.provisioner.node_local import OwnerReconciler, Whose, judge_owner, manager_name
from csisidecar.plugins.provisioner.planning import BY_NAMESPACE, Planner
from csisidecar.plugins.provisioner.protection import SourceProtection
from csisidecar.plugins.provisioner.saving import BY_UID, VolumeSaver
from csisidecar.plugins.provisioner.sources import SourceReader
from csisidecar.plugins.provisioner.topology import OneNode, StoredCluster
from csisidecar.plugins.provisioner.twins import TwinReconciler, check_segments
from csisidecar.plugins.provisioner.unprotect import unprotecting_controllers
from csisidecar.plugins.provisioner.unsaved import UnsavedController, UnsavedReconciler
from csisidecar.plugins.provisioner.volumes import VolumeReconciler
from csisidecar.plugins.provisioner.waits import LOOK_AGAIN_S, Awaited, WaitReconciler
from csisidecar.runtime import Controller, at_start, every, on_mapped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from csisidecar.kube import Attachment
    from csisidecar.plugin import PluginContext
    from csisidecar.plugins.provisioner.capacity import RoomNews
    from csisidecar.plugins.provisioner.topology import Cluster
    from csisidecar.runtime import Change, Store, Trigger

WAITING_BY_CLASS = "waiting by class"
"""Index of the claim store: class name → claims of ours without a volume."""

READ_LIVE = frozenset({SECRETS, VOLUME_ATTRIBUTES_CLASSES, VOLUME_SNAPSHOTS, VOLUME_SNAPSHOT_CONTENTS})
"""What no watch tells about."""


class Provisioner:
    """Makes volumes for claims and deletes them after their PVs were released."""

    name = "provisioner"

    def __init__(self, settings: ProvisionerSettings) -> None:
        self.settings = settings
        self._memory = Memory()
        self._identity = ""

    @property
    def needs_node_info(self) -> bool:
        """Whether the driver's node service is to be asked where it is."""
        return self.settings.node is not None

    def lease_name(self, driver_name: str) -> str | None:
        """The Go provisioner's Lease, so that both cannot lead at once; none where each node has its provisioner."""
        node = self.settings.node
        return None if node is not None and not node.elected else names.lease_name(driver_name)

    def build(self, ctx: PluginContext) -> Sequence[Controller[Any]]:
        """One controller for claims, one for volumes, one for PVs that could not be stored."""
        settings, memory = self.settings, self._memory
        if not self._identity:
            stamp_ms = int(ctx.clock.now().timestamp() * 1000)
            self._identity = f"{stamp_ms}-{random.randint(0, 9999)}-{ctx.driver.name}"  # noqa: S311 - a label, no secret
            if settings.node is not None:
                self._identity += f"-{settings.node.name}"
        segments = self._find_segments(ctx)
        claims = ctx.stores.get(PERSISTENT_VOLUME_CLAIMS, Claim, compact=compact_claim)
        claims.add_index(BY_UID, lambda claim: (claim.uid,))
        claims.add_index(WAITING_BY_CLASS, _class_waited_for(ctx.driver.name))
        volumes = ctx.stores.get(PERSISTENT_VOLUMES, Volume, compact=compact_volume)
        classes = ctx.stores.get(STORAGE_CLASSES, StorageClass)
        attached = attachments(ctx) if ctx.driver.has_controller("PUBLISH_UNPUBLISH_VOLUME") else None

        metrics, life = ProvisionerMetrics(ctx.metrics), LifeMetrics(ctx.metrics, ctx.clock)
        life.watch_pending("provision", _pending_claims(memory, claims))
        life.watch_pending("delete", _pending_volumes(memory, volumes))

        backoff = Backoff(start_s=settings.retry_interval_start_s, max_s=settings.retry_interval_max_s)
        saver = VolumeSaver(ctx, settings, memory, claims, life)
        unsaved = UnsavedController(
            UnsavedReconciler(ctx, memory, claims, saver),
            triggers=[every(settings.retry_interval_max_s, lambda: list(memory.unsaved))],
            backoff=backoff,
            # A stop waits for claims in flight, whose volumes may yet have to be saved; their keys name no volume.
            claims_in_flight=lambda: claim_controller.in_flight,
        )
        cluster = self._find_cluster(ctx)
        grants = self._find_grants(ctx)
        protection = SourceProtection(ctx.kube)
        publishers, room = self._build_capacity(ctx, classes, backoff)
        takers = self._build_takers(ctx, claims, classes, volumes, cluster, backoff)
        claim_controller: Controller[str] = Controller(
            name="claims",
            reconciler=ClaimReconciler(
                ctx,
                settings,
                memory,
                claims=claims,
                classes=classes,
                volumes=volumes,
                saver=saver,
                save_later=unsaved.requeue,
                planner=Planner(
                    ctx,
                    settings,
                    memory.waits,
                    sources=SourceReader(
                        ctx.kube,
                        claims,
                        memory.waits,
                        prevent_mode_conversion=settings.prevent_volume_mode_conversion,
                    ),
                    protection=protection,
                    attributes=AttributesReader(
                        ctx.kube,
                        memory.waits,
                        driver_name=ctx.driver.name,
                        gate=settings.volume_attributes_class,
                    ),
                    grants=grants,
                    cluster=cluster,
                ),
                protection=protection,
                metrics=metrics,
                life=life,
                identity=self._identity,
                has_topology=cluster is not None,
                room=room,
                whose=self._judge_owner(cluster),
                take=takers[0].requeue if takers else _no_one,
            ),
            triggers=[
                on_mapped(claims, lambda claim: (claim.uid,), when=_claim_matters(memory), deletes=True),
                on_mapped(classes, _claims_waiting_in(claims), when=_has_changed),
                *_wake_when_changed(memory, claims, volumes, grants),
                # A claim that is gone from the store fires no trigger; what may be running for it does not wait
                # for luck, and one that went while another process led is to be forgotten.
                every(settings.retry_interval_max_s, _gone_but_known(claims, memory)),
            ],
            workers=settings.worker_threads,
            backoff=backoff,
            resync_s=settings.resync_s,
        )
        own_names = names.own_names(ctx.driver.name)
        volume_controller: Controller[str] = Controller(
            name="volumes",
            reconciler=VolumeReconciler(
                ctx,
                settings,
                memory,
                claims=claims,
                classes=classes,
                volumes=volumes,
                attachments=attached,
                metrics=metrics,
                life=life,
                room=room,
                segments=segments,
            ),
            triggers=[
                on_mapped(
                    volumes,
                    lambda volume: (volume.name,),
                    when=lambda change: change.new is not None and eligibility.needs_attention(change.new, own_names),
                ),
                *_wake_when_detached(attached, volumes),
                # As for claims: one that went while another process led is to be forgotten.
                at_start(lambda: [name for name in memory.volumes_seen if volumes.find(name) is None]),
            ],
            workers=settings.worker_threads,
            backoff=backoff,
            resync_s=settings.resync_s,
        )
        looks: Controller[Awaited] = Controller(
            name="awaited",
            reconciler=WaitReconciler(ctx.kube, memory.waits, claim_controller.requeue),
            triggers=[every(LOOK_AGAIN_S, lambda: memory.waits.objects(READ_LIVE))],
            workers=1,
            backoff=backoff,
        )
        return [
            claim_controller,
            volume_controller,
            unsaved,
            looks,
            *unprotecting_controllers(ctx, settings, memory, claims, backoff),
            *publishers,
            *takers,
            *self._build_twins(ctx, volumes, backoff),
        ]

    def _find_segments(self, ctx: PluginContext) -> Mapping[str, str] | None:
        """Where our node is; None where volumes of all nodes are ours, or the driver does not say.

        Raises:
            ConfigError: nobody asked the driver's node service.
        """
        if self.settings.node is None:
            return None
        if ctx.driver.node is None:
            raise ConfigError("--node-deployment needs what the driver's node service says; a Sidecar asks for it")
        return ctx.driver.node.segments

    def _judge_owner(self, cluster: Cluster | None) -> Callable[[Claim, StorageClass | None], Whose]:
        node = self.settings.node
        if node is None:
            return lambda _claim, _class: Whose.OURS
        return lambda claim, storage_class: judge_owner(claim, storage_class, node, cluster, self.settings)

    def _build_takers(
        self,
        ctx: PluginContext,
        claims: Store[Claim],
        classes: Store[StorageClass],
        volumes: Store[Volume],
        cluster: Cluster | None,
        backoff: Backoff,
    ) -> Sequence[Controller[str]]:
        """The controller that takes claims for our node, where each node has its provisioner."""
        if self.settings.node is None:
            return ()
        reconciler = OwnerReconciler(
            ctx,
            self.settings,
            self.settings.node,
            claims=claims,
            classes=classes,
            volumes=volumes,
            cluster=cluster,
            segments=self._find_segments(ctx),
        )
        settled = on_mapped(
            claims,
            lambda claim: (claim.uid,),
            when=lambda change: (
                (change.new is None or bool(change.new.spec.volume_name)) and reconciler.is_bidding(change.obj.uid)
            ),
            deletes=True,
        )
        return (
            Controller(
                name="nodeowner",
                reconciler=reconciler,
                triggers=[settled, at_start(reconciler.remembered)],
                workers=self.settings.worker_threads,
                backoff=backoff,
            ),
        )

    def _build_twins(self, ctx: PluginContext, volumes: Store[Volume], backoff: Backoff) -> Sequence[Controller[str]]:
        """The controller that tells of a second provisioner for our node, where each node has its provisioner."""
        node = self.settings.node
        if node is None:
            return ()
        twins = TwinReconciler(
            volumes, self._memory, driver_name=ctx.driver.name, node_name=node.name, identity=self._identity
        )
        found = on_mapped(
            volumes,
            lambda volume: (volume.name,),
            # What was there before us, and what only changes, somebody made earlier, whatever his clock said.
            when=lambda change: change.old is None and change.new is not None and twins.is_by_twin(change.new),
        )
        return (Controller(name="nodetwins", reconciler=twins, triggers=[found], workers=1, backoff=backoff),)

    def _build_capacity(
        self, ctx: PluginContext, classes: Store[StorageClass], backoff: Backoff
    ) -> tuple[Sequence[Controller[Any]], RoomNews]:
        if self.settings.capacity is None:
            return (), SilentNews()
        node = self.settings.node
        return build_capacity(
            ctx,
            self.settings.capacity,
            classes,
            backoff=backoff,
            timeout_s=self.settings.timeout_s,
            manager=CENTRAL_MANAGER if node is None else manager_name(node.name),
            node_segments=None if node is None else self._find_segments(ctx) or {},
        )

    def _find_grants(self, ctx: PluginContext) -> Store[Grant] | None:
        """ReferenceGrants, where sources may be in other namespaces; without, nobody needs that kind to exist."""
        if not self.settings.cross_namespace_data_source:
            return None
        grants = ctx.stores.get(REFERENCE_GRANTS, Grant)
        grants.add_index(BY_NAMESPACE, lambda grant: (grant.namespace,))
        return grants

    def _find_cluster(self, ctx: PluginContext) -> Cluster | None:
        """The nodes, where the driver says that volumes are not usable everywhere and nobody turned that off.

        Raises:
            UnsupportedDriverError: the driver's place of our node can be no label of it.
        """
        if not (self.settings.topology and ctx.driver.has_plugin("VOLUME_ACCESSIBILITY_CONSTRAINTS")):
            return None
        if self.settings.node is not None:
            segments = self._find_segments(ctx) or {}
            check_segments(ctx.driver.name, self.settings.node.name, segments)
            return OneNode(name=self.settings.node.name, segments=segments)
        return StoredCluster(ctx.driver.name, ctx.stores.get(CSI_NODES, CSINode), ctx.stores.get(NODES, Node))


def _no_one(uid: str) -> None:
    """Takes no claim: every claim is ours already."""
    del uid


def _pending_claims(memory: Memory, claims: Store[Claim]) -> Callable[[], Sequence[str]]:
    """When the claims were first looked at that still wait; another process may have served some meanwhile."""

    def waits(uid: str) -> bool:
        stored = claims.by_index(BY_UID, uid)
        return not stored[0].spec.volume_name if stored else uid in memory.in_progress

    return lambda: [seen_at for uid, seen_at in memory.claims_seen.items() if waits(uid)]


def _pending_volumes(memory: Memory, volumes: Store[Volume]) -> Callable[[], Sequence[str]]:
    """The same of volumes that are to be deleted."""

    def waits(name: str) -> bool:
        volume = volumes.find(name)
        return volume is not None and eligibility.should_delete(volume)

    return lambda: [seen_at for name, seen_at in memory.volumes_seen.items() if waits(name)]


def _class_waited_for(driver_name: str) -> Callable[[Claim], Sequence[str]]:
    def class_of(claim: Claim) -> Sequence[str]:
        waits = not claim.spec.volume_name and eligibility.is_claim_ours(claim, driver_name)
        return (claim.class_name,) if waits else ()

    return class_of


def _claims_waiting_in(claims: Store[Claim]) -> Callable[[StorageClass], Sequence[str]]:
    return lambda storage_class: [claim.uid for claim in claims.by_index(WAITING_BY_CLASS, storage_class.name)]


def _has_changed(change: Change[Any]) -> bool:
    return not change.is_resync


def _wake_when_changed(
    memory: Memory, claims: Store[Claim], volumes: Store[Volume], grants: Store[Grant] | None
) -> Sequence[Trigger[str]]:
    """Claims that wait for a source claim, its volume or a grant, when that changes."""

    def for_claim(claim: Claim) -> Sequence[str]:
        return memory.waits.waiting_for(Awaited(PERSISTENT_VOLUME_CLAIMS, claim.namespace, claim.name))

    def for_volume(volume: Volume) -> Sequence[str]:
        return memory.waits.waiting_for(Awaited(PERSISTENT_VOLUMES, "", volume.name))

    def for_grant(grant: Grant) -> Sequence[str]:
        return memory.waits.waiting_for(Awaited(REFERENCE_GRANTS, grant.namespace, ""))

    triggers: list[Trigger[str]] = [
        on_mapped(claims, for_claim, when=_has_changed),
        on_mapped(volumes, for_volume, when=_has_changed),
    ]
    if grants is not None:
        triggers.append(on_mapped(grants, for_grant, when=_has_changed))
    return triggers


def _claim_matters(memory: Memory) -> Callable[[Change[Claim]], bool]:
    def matters(change: Change[Claim]) -> bool:
        if change.new is None:
            # Deletion hurries nothing: what may be running goes on at its own pace.
            return change.obj.uid not in memory.in_progress
        if change.new.uid in memory.in_progress or not change.new.spec.volume_name:
            return True
        return change.old is None or change.old.uid != change.new.uid or not change.old.spec.volume_name

    return matters


def _gone_but_known(claims: Store[Claim], memory: Memory) -> Callable[[], Sequence[str]]:
    return lambda: [uid for uid in memory.claims() if not claims.by_index(BY_UID, uid)]


def _wake_when_detached(attached: Store[Attachment] | None, volumes: Store[Volume]) -> Sequence[Trigger[str]]:
    if attached is None:
        return ()

    def released(attachment: Attachment) -> Sequence[str]:
        volume = volumes.find(attachment.volume_name)
        return (volume.name,) if volume is not None and eligibility.should_delete(volume) else ()

    return (on_mapped(attached, released, only_deletes=True),)


def factory(settings: PluginSettings) -> Provisioner:
    """The provisioner for the entry point ``provisioner``; plain settings get its own defaults for the rest."""
    if not isinstance(settings, ProvisionerSettings):
        settings = ProvisionerSettings(**{f.name: getattr(settings, f.name) for f in fields(PluginSettings)})
    return Provisioner(settings)
