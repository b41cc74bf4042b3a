"""Where a Pod runs, as far as its volumes decide it: pure rules and the small controller around them.

Resources, taints, affinity between Pods and priorities are not looked at.
Source: Kubernetes `pkg/scheduler/framework/plugins/volumebinding/binder.go` (FindPodVolumes, BindPodVolumes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from csisidecar.backoff import Backoff
from csisidecar.clock import left_s
from csisidecar.demo.controllers.binder import BY_CLAIM, FREE_BY_CLASS, claim_of
from csisidecar.demo.controllers.binding import BIND_COMPLETED, SELECTED_NODE, reserve
from csisidecar.demo.controllers.executor import RETRY
from csisidecar.demo.controllers.matching import admits, find_match, is_reachable
from csisidecar.demo.controllers.plan import NOTHING, Draft, Note, Plan
from csisidecar.demo.controllers.protection import PODS_BY_CLAIM
from csisidecar.errors import ConflictError, NotFoundError
from csisidecar.kube.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, ObjectKey, Resource
from csisidecar.runtime import DONE, Controller, Result, on_mapped, on_self

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from csisidecar.demo.controllers.views import BinderClaim, BinderClass, BinderVolume, Pod, WorkerNode
    from csisidecar.demo.controllers.world import World

SCHEDULER = "default-scheduler"
UNSCHEDULED = "unscheduled"
PREPARE_AGAIN = Backoff(start_s=1.0, max_s=10.0)
"""Source: Kubernetes `pkg/scheduler/backend/queue/scheduling_queue.go`, DefaultPodInitialBackoffDuration."""


@dataclass(frozen=True, kw_only=True)
class Demand:
    """One claim of the Pod, with all that could serve it."""

    name: str
    claim: BinderClaim | None
    volume: BinderVolume | None = None
    """The volume it is bound to."""
    candidates: Collection[BinderVolume] = ()
    """Volumes that an unbound claim could get."""
    storage_class: BinderClass | None = None

    @property
    def is_bound(self) -> bool:
        """Whether claim and volume are bound for good."""
        return (
            self.claim is not None
            and bool(self.claim.spec.volume_name)
            and BIND_COMPLETED in self.claim.annotations
            and self.volume is not None
        )

    def fits(self, node: WorkerNode) -> bool:
        """Whether the claim's volume can be used on `node`, or be found or made for it."""
        if self.is_bound and self.volume is not None:
            return is_reachable(self.volume, node)
        if self.claim is None or self.storage_class is None:
            return False
        if find_match(self.claim, self.candidates, node=node) is not None:
            return True
        return not self.storage_class.provisioner.startswith("kubernetes.io/") and admits(self.storage_class, node)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Where the Pod goes, or what has to happen first."""

    node: str = ""
    """Bind the Pod to this node now; empty: not yet."""
    plan: Plan = NOTHING


def decide(
    pod: Pod, demands: Sequence[Demand], nodes: Iterable[WorkerNode], *, load: Mapping[str, int] | None = None
) -> Decision:
    """What the scheduler does with `pod`.

    Args:
        pod: a Pod without a node.
        demands: its claims.
        nodes: all nodes.
        load: node → Pods on it; the emptiest fitting node is taken, by name among equals.
    """
    for demand in demands:
        if demand.claim is None:
            return _wait(f'persistentvolumeclaim "{demand.name}" not found')
        if demand.claim.is_deleting:
            return _wait(f'persistentvolumeclaim "{demand.name}" is being deleted')
        if demand.claim.phase == "Lost":
            return _wait(f'persistentvolumeclaim "{demand.name}" bound to non-existent persistentvolume')
    open_demands = [d for d in demands if not d.is_bound]
    if any(d.storage_class is None or not d.storage_class.waits_for_consumer for d in open_demands):
        return _wait("pod has unbound immediate PersistentVolumeClaims")
    everywhere = [n for n in nodes if not n.spec.unschedulable and not n.is_deleting and _wants(pod, n)]
    fitting = [n for n in everywhere if all(d.fits(n) for d in demands)]
    if not fitting:
        return _wait(f"0/{len(everywhere)} nodes are available: volumes and nodes do not fit")
    chosen = {d.claim.annotations.get(SELECTED_NODE) for d in open_demands if d.claim is not None} - {None}
    counts = load or {}
    node = min(fitting, key=lambda n: (n.name not in chosen, counts.get(n.name, 0), n.name))
    if not open_demands:
        return Decision(node=node.name)
    return Decision(plan=_prepare(open_demands, node))


def _wants(pod: Pod, node: WorkerNode) -> bool:
    return all(node.labels.get(key) == value for key, value in (pod.spec.node_selector or {}).items())


def _prepare(demands: Iterable[Demand], node: WorkerNode) -> Plan:
    """Reserve an existing volume for each claim, or tell its provisioner the node."""
    draft = Draft()
    taken: set[str] = set()
    for demand in demands:
        claim = demand.claim
        if claim is None:
            continue
        free = [v for v in demand.candidates if v.name not in taken]
        volume = find_match(claim, free, node=node)
        if volume is not None:
            taken.add(volume.name)
            body = reserve(volume, claim)
            if body is not None:
                draft.add(PERSISTENT_VOLUMES, volume, body)
        elif claim.annotations.get(SELECTED_NODE) != node.name:
            annotations = {SELECTED_NODE: node.name}
            draft.add(PERSISTENT_VOLUME_CLAIMS, claim, {"metadata": {"annotations": annotations}})
    return draft.done()


def _wait(message: str) -> Decision:
    return Decision(plan=Plan(note=Note(type="Warning", reason="FailedScheduling", message=message)))


class Scheduler:
    """One Pod without a node: prepares its volumes, then binds it.

    A Pod whose claim lost the node it was given is prepared again after a pause that grows, as the real scheduler's.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._prepared: dict[ObjectKey, tuple[int, float]] = {}
        """How often the claims of a Pod were given a node, and when they may be again, in monotonic time."""

    async def reconcile(self, key: ObjectKey) -> Result:
        """Bring the Pod one step nearer to its node."""
        world = self._world
        pod = world.pods.get(key)
        if pod is None or not _is_ours(pod):
            self._prepared.pop(key, None)
            return DONE
        load: dict[str, int] = {}
        for other in world.pods.values():
            load[other.node_name] = load.get(other.node_name, 0) + 1
        demands = [self._demand(ObjectKey(key.namespace, name)) for name in pod.claim_names]
        decision = decide(pod, demands, world.nodes.values(), load=load)
        gives_node = any(patch.resource is PERSISTENT_VOLUME_CLAIMS for patch in decision.plan.patches)
        now_s = world.clock.monotonic()
        count, next_s = self._prepared.get(key, (0, now_s))
        if gives_node and (pause_s := left_s(next_s, now_s)):
            return Result.again(pause_s)
        await world.executor.carry_out(decision.plan, resource=PODS, about=pod)
        if gives_node:
            self._prepared[key] = (count + 1, now_s + PREPARE_AGAIN.delay_s(count + 1))
        if decision.node:
            await self._bind(pod, decision.node)
        return DONE

    def _demand(self, key: ObjectKey) -> Demand:
        world = self._world
        claim = world.claims.get(key)
        if claim is None:
            return Demand(name=key.name, claim=None)
        if claim.spec.volume_name:
            return Demand(name=key.name, claim=claim, volume=world.volumes.find(claim.spec.volume_name))
        return Demand(
            name=key.name,
            claim=claim,
            candidates=(
                *world.volumes.by_index(BY_CLAIM, key),
                *world.volumes.by_index(FREE_BY_CLASS, claim.class_name),
            ),
            storage_class=world.classes.find(claim.class_name),
        )

    async def _bind(self, pod: Pod, node: str) -> None:
        """Give the Pod its node through the binding subresource, the only way a real API server allows."""
        binding = Resource(group="", version="v1", plural=f"pods/{pod.name}/binding", kind="Binding", namespaced=True)
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            await self._world.kube.create(binding, body, namespace=pod.namespace)
        except (ConflictError, NotFoundError):
            return  # it has a node already, or it is gone


def _is_ours(pod: Pod) -> bool:
    return not pod.node_name and not pod.is_deleting and not pod.is_over and pod.spec.scheduler_name in ("", SCHEDULER)


def add_indexes(world: World) -> None:
    """Pods by the claims they use, and those that wait for a node."""
    world.pods.add_index(PODS_BY_CLAIM, lambda pod: tuple(ObjectKey(pod.namespace, n) for n in pod.claim_names))
    world.pods.add_index(UNSCHEDULED, lambda pod: (True,) if _is_ours(pod) else ())


def build(world: World) -> Sequence[Controller[ObjectKey]]:
    """The one controller of this file."""

    def pods_of_claim(claim: BinderClaim) -> Iterable[ObjectKey]:
        for pod in world.pods.by_index(PODS_BY_CLAIM, claim.key):
            yield pod.key

    def pods_of_volume(volume: BinderVolume) -> Iterable[ObjectKey]:
        for key in claim_of(volume):
            for pod in world.pods.by_index(PODS_BY_CLAIM, key):
                yield pod.key

    def waiting_pods(_: object) -> Iterable[ObjectKey]:
        for pod in world.pods.by_index(UNSCHEDULED, True):
            yield pod.key

    return (
        Controller(
            name="demo-scheduler",
            reconciler=Scheduler(world),
            triggers=[
                on_self(world.pods, when=lambda change: change.new is not None and _is_ours(change.new)),
                on_mapped(world.claims, pods_of_claim),
                on_mapped(world.volumes, pods_of_volume),
                on_mapped(world.nodes, waiting_pods),
                on_mapped(world.classes, waiting_pods),
            ],
            backoff=RETRY,
        ),
    )
