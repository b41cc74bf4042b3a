"""The controllers of storage capacity, put together: segments, objects, and who hears of volumes made and deleted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from csisidecar.errors import ConfigError
from csisidecar.kube import CSI_NODES, CSI_STORAGE_CAPACITIES, NODES, CSINode, Node, build_limiter
from csisidecar.plugins.provisioner.capacity.catalog import (
    DRIVER_LABEL,
    MANAGER_LABEL,
    Catalog,
    Item,
    QueuedNews,
    Room,
    RoomNews,
    item_of,
)
from csisidecar.plugins.provisioner.capacity.owner import OwnerLookup
from csisidecar.plugins.provisioner.capacity.publisher import RoomReconciler
from csisidecar.plugins.provisioner.capacity.rivals import Rivals
from csisidecar.plugins.provisioner.capacity.segments import ClusterSegments, FixedSegment
from csisidecar.runtime import DONE, Controller, at_start, every, on_mapped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from csisidecar.backoff import Backoff
    from csisidecar.config import CapacitySettings
    from csisidecar.kube import StorageClass
    from csisidecar.plugin import PluginContext
    from csisidecar.runtime import Result, Store

logger = logging.getLogger(__name__)

CENTRAL_MANAGER = "external-provisioner"
_ALL = "segments"
_ELECT = "let the same Lease elect one of them (--leader-election), or give each a namespace of its own"
_NAME_NODES = "give each its own NODE_NAME, from the fieldRef spec.nodeName"


def build_capacity(
    ctx: PluginContext,
    settings: CapacitySettings,
    classes: Store[StorageClass],
    *,
    backoff: Backoff,
    timeout_s: float,
    manager: str = CENTRAL_MANAGER,
    node_segments: Mapping[str, str] | None = None,
) -> tuple[Sequence[Controller[Any]], RoomNews]:
    """The controllers, and who is to hear of volumes.

    Args:
        ctx: of the plugin.
        settings: of capacity.
        classes: every StorageClass.
        backoff: of failed items.
        timeout_s: of GetCapacity.
        manager: who manages the objects; no two processes may share one.
        node_segments: the segments of the one node to publish for; None: all nodes.

    Raises:
        ConfigError: nobody said in which namespace the objects go, or which pod this is.
    """
    _check(ctx, settings)
    rooms = ctx.stores.get(
        CSI_STORAGE_CAPACITIES,
        Room,
        namespace=settings.namespace,
        label_selector=f"{DRIVER_LABEL}={ctx.driver.name},{MANAGER_LABEL}={manager}",
    )
    csi_nodes = nodes = None
    if node_segments is None:
        csi_nodes, nodes = ctx.stores.get(CSI_NODES, CSINode), ctx.stores.get(NODES, Node)
        segments: ClusterSegments | FixedSegment = ClusterSegments(ctx.driver.name, csi_nodes, nodes)
    else:
        segments = FixedSegment(node_segments)
        if not node_segments:
            logger.warning(
                "the driver does not say where its node is: the room of this node is published as the room of every"
                " node; publish from one place, or let NodeGetInfo answer with accessible_topology",
                extra={"driver": ctx.driver.name, "manager": manager},
            )
    catalog = Catalog(ctx.driver.name, segments, classes, rooms, for_immediate_binding=settings.for_immediate_binding)
    rivals = Rivals(
        ctx.clock,
        ctx.events,
        driver_name=ctx.driver.name,
        namespace=settings.namespace,
        manager=manager,
        remedy=_ELECT if node_segments is None else _NAME_NODES,
    )
    lane = ctx.kube.derive(limiter=build_limiter(settings.rate, ctx.clock))
    reconciler = RoomReconciler(
        lane,
        ctx.csi,
        catalog,
        OwnerLookup(
            lane,
            namespace=settings.namespace,
            pod_name=settings.pod_name,
            level=settings.ownerref_level,
            driver_name=ctx.driver.name,
            clock=ctx.clock,
            backoff=backoff,
        ),
        rivals,
        namespace=settings.namespace,
        driver_name=ctx.driver.name,
        manager=manager,
        timeout_s=timeout_s,
        backoff=backoff,
    )
    publisher: Controller[Item] = Controller(
        name="csistoragecapacity",
        reconciler=reconciler,
        triggers=[
            at_start(_beginning_anew(reconciler)),
            every(settings.poll_interval_s, lambda: [*catalog.items(), *catalog.misfits()]),
            on_mapped(
                classes, lambda each: catalog.items_of_class(each.name), when=catalog.class_matters, deletes=True
            ),
            on_mapped(rooms, lambda room: (item_of(room),), when=catalog.room_matters, deletes=True),
        ],
        workers=settings.threads,
        backoff=backoff,
    )
    _watch_numbers(ctx, catalog)
    found: list[Controller[Any]] = [publisher]
    if isinstance(segments, ClusterSegments) and csi_nodes is not None and nodes is not None:
        found.insert(0, _segment_controller(segments, catalog, publisher.requeue, csi_nodes, nodes, backoff))
    return found, QueuedNews(catalog, publisher.requeue)


def _check(ctx: PluginContext, settings: CapacitySettings) -> None:
    if not settings.namespace:
        raise ConfigError(
            "--enable-capacity needs the variable NAMESPACE, the pod's field metadata.namespace: the objects go there"
        )
    if settings.ownerref_level >= 0 and not settings.pod_name:
        raise ConfigError(
            f"--capacity-ownerref-level={settings.ownerref_level} needs the variable POD_NAME, the pod's"
            " field metadata.name;"
            " give -1 for objects without an owner"
        )
    if not ctx.driver.has_controller("GET_CAPACITY"):
        logger.warning(
            "the driver does not declare GET_CAPACITY; it is asked all the same", extra={"driver": ctx.driver.name}
        )


def _watch_numbers(ctx: PluginContext, catalog: Catalog) -> None:
    """Gauges with the names of the Go provisioner's."""
    for name, help_text, count in (
        ("desired_goal", "that are supposed to be managed automatically", catalog.goal),
        ("desired_current", "that exist and are supposed to be managed automatically", catalog.reached),
        ("obsolete", "that exist and will be deleted automatically", catalog.obsolete),
    ):
        ctx.metrics.gauge(
            f"csistoragecapacities_{name}", f"Number of CSIStorageCapacity objects {help_text}.", (), count
        )


def _beginning_anew(reconciler: RoomReconciler) -> Callable[[], Sequence[Item]]:
    """Looks at no item, but has what was known before our turn looked through."""

    def begin() -> Sequence[Item]:
        reconciler.begin_anew()
        return ()

    return begin


def _segment_controller(
    segments: ClusterSegments,
    catalog: Catalog,
    refresh: Callable[[Item], None],
    csi_nodes: Store[CSINode],
    nodes: Store[Node],
    backoff: Backoff,
) -> Controller[str]:
    """Looks at all nodes whenever one of them changed in a way that counts; bursts of changes are one look."""
    return Controller(
        name="csitopology",
        reconciler=SegmentReconciler(segments, catalog, refresh),
        triggers=[
            at_start(lambda: (_ALL,)),
            on_mapped(nodes, lambda _: (_ALL,), when=segments.may_change_with_node, deletes=True),
            on_mapped(csi_nodes, lambda _: (_ALL,), when=segments.may_change_with_csi_node, deletes=True),
        ],
        workers=1,
        backoff=backoff,
    )


class SegmentReconciler:
    """Key: always the same; one look at all nodes."""

    def __init__(self, segments: ClusterSegments, catalog: Catalog, refresh: Callable[[Item], None]) -> None:
        self._segments = segments
        self._catalog = catalog
        self._refresh = refresh

    async def reconcile(self, key: str) -> Result:
        """Have the objects of segments looked at that came or went."""
        del key
        for item in self._catalog.items_in(sorted(self._segments.refresh())):
            self._refresh(item)
        return DONE
