"""The attacher as a plugin: stores asked for, controllers returned. Capabilities and settings are read here only.

Below `build` there is no question left of which driver or which flags: they are which objects exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from csisidecar.backoff import Backoff
from csisidecar.config import AttacherSettings, PluginSettings
from csisidecar.errors import ConfigError
from csisidecar.kube import CSI_NODES, PERSISTENT_VOLUMES, Attachment, CSINode, ObjectKey, Volume
from csisidecar.kube.objects import compact_volume
from csisidecar.plugins.attacher import names
from csisidecar.plugins.attacher.attachments import AttachmentReconciler, AttachmentStores
from csisidecar.plugins.attacher.changes import (
    NodeIdChanged,
    OwnAttachmentChanged,
    VolumeMayBeGivenBack,
    is_pending_attach,
)
from csisidecar.plugins.attacher.publish_request import PublishRequests
from csisidecar.plugins.attacher.report import Report, grpc_code, no_code
from csisidecar.plugins.attacher.trivial import TrivialReconciler
from csisidecar.plugins.attacher.volumes import VolumeReconciler
from csisidecar.plugins.attachment_store import attachments
from csisidecar.plugins.life_metrics import LifeMetrics
from csisidecar.runtime import Controller, on_mapped, on_self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from csisidecar.plugin import PluginContext
    from csisidecar.runtime import Reconciler, Store, Trigger

_BY_NODE = "by node"


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

    def build(self, ctx: PluginContext) -> Sequence[Controller[ObjectKey]]:
        """Controllers that attach, or for a driver without PUBLISH_UNPUBLISH_VOLUME one that only says so."""
        attaches = ctx.driver.has_plugin("CONTROLLER_SERVICE") and ctx.driver.has_controller("PUBLISH_UNPUBLISH_VOLUME")
        return self._build_real(ctx) if attaches else [self._build_trivial(ctx)]

    def _build_real(self, ctx: PluginContext) -> list[Controller[ObjectKey]]:
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

        report = self._build_report(ctx, stores.attachments)
        report.metrics.watch_pending("detach", pending_detaches)
        attach = AttachmentReconciler(
            driver=driver,
            finalizer=finalizer,
            csi=ctx.csi,
            kube=ctx.kube,
            stores=stores,
            requests=PublishRequests.for_driver(ctx.driver, default_fstype=settings.default_fstype),
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
        return [
            self._attachment_controller(
                attach,
                [
                    on_self(stores.attachments, when=OwnAttachmentChanged(driver, finalizer), deletes=True),
                    on_mapped(stores.nodes, waiting_on, when=NodeIdChanged(driver)),
                ],
            ),
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

    def _build_trivial(self, ctx: PluginContext) -> Controller[ObjectKey]:
        driver, store = ctx.driver.name, attachments(ctx)
        report = self._build_report(ctx, store)
        mark = TrivialReconciler(driver=driver, kube=ctx.kube, attachments=store, report=report)
        changed = OwnAttachmentChanged(driver, names.finalizer_name(driver))
        return self._attachment_controller(mark, [on_self(store, when=changed, deletes=True)])

    def _build_report(self, ctx: PluginContext, store: Store[Attachment]) -> Report:
        metrics = LifeMetrics(ctx.metrics, ctx.clock)

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
            backoff=Backoff(start_s=settings.retry_interval_start_s, max_s=settings.retry_interval_max_s),
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
