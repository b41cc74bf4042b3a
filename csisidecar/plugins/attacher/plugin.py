"""The attacher as a plugin: stores asked for, controllers returned. Capabilities and settings are read here only.

Below `build` there is no question left of which driver or which flags: they are which objects exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from csisidecar.backoff import Backoff
from csisidecar.config import AttacherSettings, PluginSettings
from csisidecar.errors import ConfigError
from csisidecar.kube import CSI_NODES, PERSISTENT_VOLUMES, Attachment, CSINode, ObjectKey, Volume
from csisidecar.kube.objects import compact_volume
from csisidecar.plugins.attacher import names
from csisidecar.plugins.attacher.attachments import AttachmentReconciler
from csisidecar.plugins.attacher.changes import (
    NodeIdChanged,
    OwnAttachmentChanged,
    VolumeMayBeGivenBack,
    is_pending_attach,
)
from csisidecar.plugins.attacher.drift import DriftReconciler, Sightings
from csisidecar.plugins.attacher.history import Histories
from csisidecar.plugins.attacher.late import LOOK_EVERY_S, Lateness, LateReconciler
from csisidecar.plugins.attacher.publish_request import PublishRequests
from csisidecar.plugins.attacher.report import Report, grpc_code, no_code, plain_text
from csisidecar.plugins.attacher.stores import AttachmentStores
from csisidecar.plugins.attacher.trivial import TrivialReconciler
from csisidecar.plugins.attacher.volumes import VolumeReconciler
from csisidecar.plugins.attachment_store import attachments
from csisidecar.plugins.life_metrics import LifeMetrics
from csisidecar.runtime import Controller, at_start, every, on_mapped, on_self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from csisidecar.plugin import PluginContext
    from csisidecar.runtime import Reconciler, Store, Trigger

_BY_NODE = "by node"

_NEEDED_FOR_DRIFT = ("LIST_VOLUMES", "LIST_VOLUMES_PUBLISHED_NODES")


class Attacher:
    """Attaches and detaches the volumes of one driver.

    Needs, cluster-wide: list, watch and patch of persistentvolumes and volumeattachments, patch of
    volumeattachments/status, list and watch of csinodes, get of the secrets that volumes name; Events if wanted.
    """

    def __init__(self, settings: AttacherSettings) -> None:
        self._settings = settings

    @property
    def name(self) -> str:
        """``attacher``."""
        return "attacher"

    def lease_name(self, driver_name: str) -> str:
        """The Go attacher's name for its Lease, so that both cannot lead at once."""
        return names.lease_name(driver_name)

    def build(self, ctx: PluginContext) -> Sequence[Controller[Any]]:
        """Controllers that attach, or for a driver without PUBLISH_UNPUBLISH_VOLUME one that only says so."""
        attaches = ctx.driver.has_plugin("CONTROLLER_SERVICE") and ctx.driver.has_controller("PUBLISH_UNPUBLISH_VOLUME")
        return self._build_real(ctx) if attaches else [self._build_trivial(ctx)]

    def _build_real(self, ctx: PluginContext) -> list[Controller[Any]]:
        driver, settings = ctx.driver.name, self._settings
        finalizer = names.finalizer_name(driver)
        stores = AttachmentStores(
            attachments=attachments(ctx),
            volumes=ctx.stores.get(PERSISTENT_VOLUMES, Volume, compact=compact_volume),
            nodes=ctx.stores.get(CSI_NODES, CSINode),
        )
        stores.attachments.add_index(_BY_NODE, _node_names)
        may_be_given_back = VolumeMayBeGivenBack(driver=driver, finalizer=finalizer)

        def waiting_on(node: CSINode) -> list[ObjectKey]:
            on_node = stores.attachments.by_index(_BY_NODE, node.name)
            return [found.key for found in on_node if found.is_deleting or is_pending_attach(found)]

        def pending_detaches() -> list[str | None]:
            own = _own(stores.attachments, driver)
            return [a.metadata.deletion_timestamp for a in own if a.is_deleting and finalizer in a.finalizers]

        metrics, histories, sightings = LifeMetrics(ctx.metrics, ctx.clock), Histories(), Sightings()
        metrics.watch_pending("detach", pending_detaches)
        lateness: Lateness | None = None
        if settings.volume_attachment_timeout_s > 0:
            lateness = Lateness(
                driver=driver,
                finalizer=finalizer,
                timeout_s=settings.volume_attachment_timeout_s,
                attachments=stores.attachments,
                volumes=stores.volumes,
                histories=histories,
                events=ctx.events,
                metrics=metrics,
                clock=ctx.clock,
            )
        text_of = lateness.error_text if lateness is not None else plain_text
        report = self._build_report(ctx, stores.attachments, metrics, histories, text_of)
        attach = AttachmentReconciler(
            driver=driver,
            finalizer=finalizer,
            csi=ctx.csi,
            kube=ctx.kube,
            stores=stores,
            requests=PublishRequests.for_driver(ctx.driver, default_fstype=settings.default_fstype),
            sightings=sightings,
            report=report,
            timeout_s=settings.timeout_s,
        )
        give_back = VolumeReconciler(
            may_be_given_back=may_be_given_back,
            kube=ctx.kube,
            volumes=stores.volumes,
            attachments=stores.attachments,
            clock=ctx.clock,
        )
        attachment_controller = self._attachment_controller(
            attach,
            [
                on_self(stores.attachments, when=OwnAttachmentChanged(driver, finalizer), deletes=True),
                on_mapped(stores.nodes, waiting_on, when=NodeIdChanged(driver)),
            ],
        )
        controllers: list[Controller[Any]] = [
            attachment_controller,
            self._controller(
                "volumes",
                "csi-attacher-pv",
                give_back,
                [
                    on_self(stores.volumes, when=may_be_given_back),
                    on_mapped(stores.attachments, _volume_keys, only_deletes=True),
                ],
            ),
        ]
        if lateness is not None:
            controllers.append(self._build_late(ctx, stores.attachments, lateness))
        if all(ctx.driver.has_controller(needed) for needed in _NEEDED_FOR_DRIFT):
            drift = DriftReconciler(
                driver=driver,
                csi=ctx.csi,
                stores=stores,
                sightings=sightings,
                offer=attachment_controller.requeue,
                timeout_s=settings.timeout_s,
                max_entries=settings.max_entries,
                pause_s=settings.reconcile_sync_s,
            )
            controllers.append(self._build_drift(drift))
        return controllers

    def _build_late(self, ctx: PluginContext, store: Store[Attachment], lateness: Lateness) -> Controller[ObjectKey]:
        return Controller(
            name="attacher/late",
            reconciler=LateReconciler(lateness=lateness, attachments=store, kube=ctx.kube, clock=ctx.clock),
            triggers=[every(min(LOOK_EVERY_S, self._settings.volume_attachment_timeout_s), lateness.to_tell)],
            workers=1,
            backoff=self._backoff(),
        )

    def _build_drift(self, reconciler: DriftReconciler) -> Controller[str]:
        pause_s = self._settings.reconcile_sync_s
        return Controller(
            name="attacher/drift",
            reconciler=reconciler,
            triggers=[at_start(lambda: ("ListVolumes",))],
            workers=1,
            backoff=Backoff(start_s=pause_s, max_s=pause_s),
        )

    def _backoff(self) -> Backoff:
        return Backoff(start_s=self._settings.retry_interval_start_s, max_s=self._settings.retry_interval_max_s)

    def _build_trivial(self, ctx: PluginContext) -> Controller[ObjectKey]:
        driver, store = ctx.driver.name, attachments(ctx)
        report = self._build_report(ctx, store, LifeMetrics(ctx.metrics, ctx.clock), Histories(), plain_text)
        mark = TrivialReconciler(driver=driver, kube=ctx.kube, attachments=store, report=report)
        changed = OwnAttachmentChanged(driver, names.finalizer_name(driver))
        return self._attachment_controller(mark, [on_self(store, when=changed, deletes=True)])

    def _build_report(
        self,
        ctx: PluginContext,
        store: Store[Attachment],
        metrics: LifeMetrics,
        histories: Histories,
        text_of: Callable[[Attachment, Exception], str],
    ) -> Report:
        def pending_attaches() -> list[str | None]:
            own = _own(store, ctx.driver.name)
            return [a.metadata.creation_timestamp for a in own if is_pending_attach(a)]

        metrics.watch_pending("attach", pending_attaches)
        return Report(
            kube=ctx.kube,
            events=ctx.events,
            clock=ctx.clock,
            metrics=metrics,
            code_of=grpc_code if self._settings.error_codes else no_code,
            text_of=text_of,
            histories=histories,
        )

    def _attachment_controller(
        self, reconciler: Reconciler[ObjectKey], triggers: Sequence[Trigger[ObjectKey]]
    ) -> Controller[ObjectKey]:
        return self._controller("attachments", "csi-attacher-va", reconciler, triggers)

    def _controller(
        self, name: str, queue_name: str, reconciler: Reconciler[ObjectKey], triggers: Sequence[Trigger[ObjectKey]]
    ) -> Controller[ObjectKey]:
        settings = self._settings
        return Controller(
            name=f"attacher/{name}",
            reconciler=reconciler,
            triggers=triggers,
            workers=settings.worker_threads,
            backoff=self._backoff(),
            resync_s=settings.resync_s,
            queue_name=queue_name,
        )


def factory(settings: PluginSettings) -> Attacher:
    """What the entry point names; raises ConfigError for settings of another plugin."""
    if not isinstance(settings, AttacherSettings):
        raise ConfigError(f"the attacher needs AttacherSettings, not {type(settings).__name__}")
    return Attacher(settings)


def _own(store: Store[Attachment], driver: str) -> Iterable[Attachment]:
    return (found for found in store.values() if found.spec.attacher == driver)


def _node_names(attachment: Attachment) -> tuple[str, ...]:
    """Nodes of an attachment, for the index; what is kept of a foreign one names none."""
    return (attachment.spec.node_name,) if attachment.spec.node_name else ()


def _volume_keys(attachment: Attachment) -> tuple[ObjectKey, ...]:
    return (ObjectKey("", attachment.volume_name),) if attachment.volume_name else ()
