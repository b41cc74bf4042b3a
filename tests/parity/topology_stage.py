"""Scenes of topology: nodes of a real API server, claims on them, one run of a provisioner that decides them all.

Each claim is a play of its own, with a class of its own; sharing the run saves two starts of a process a play. What
is compared of a claim is what the driver was asked for it, the selected node that it is left with, the affinity of
its volume, and its Events.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from csisidecar.csi import Topology
from csisidecar.errors import NotFoundError
from csisidecar.kube import CSI_NODES, EVENTS, NODES, PERSISTENT_VOLUME_CLAIMS
from csisidecar.testing.driver import DriverSettings, FakeDriver
from tests.parity.provisioner_stage import _APPENDED, NAMESPACE, Object, Protocol, Stage, _clear
from tests.parity.stage import _process

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    import betterproto2
    import grpclib.server

    from csisidecar.kube import KubeClient

DRIVER = "places.csi.test"
OTHER_DRIVER = "other.csi.test"
SELECTED = "volume.kubernetes.io/selected-node"
PLUGIN = frozenset({"CONTROLLER_SERVICE", "VOLUME_ACCESSIBILITY_CONSTRAINTS"})
SILENCE = "SILENCE"
"""No answer."""
LIMIT_S = 45.0
_FIRST = re.compile(r" \(first: (.*); \d+ attempts since [^()]*\)$", re.DOTALL)
NOTICE_S = 0.7
"""How long a provisioner is given to hear of a change of the cluster, or to say one thing more."""


def has_volume(protocol: Protocol) -> bool:
    """Whether the claim has its PersistentVolume, and an Event says so."""
    return "volume" in protocol.objects and _has_event(protocol, "ProvisioningSucceeded")


def has_failed(protocol: Protocol) -> bool:
    """Whether an Event tells of a failure."""
    return _has_event(protocol, "ProvisioningFailed")


def has_tried(protocol: Protocol) -> bool:
    """Whether the driver was asked."""
    return bool(protocol.calls)


def is_given_up(protocol: Protocol) -> bool:
    """Whether the claim failed and has no selected node any more."""
    return has_failed(protocol) and not protocol.objects["claim"]["node"]


def is_idle(protocol: Protocol) -> bool:
    """Whether nothing was done; what comes late still shows, as there is a pause before the last look."""
    return not protocol.calls and not protocol.events


def _has_event(protocol: Protocol, reason: str) -> bool:
    return any(event[2] == reason for event in protocol.events)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One claim: a play."""

    name: str
    rows: tuple[str, ...]
    """Rows of the catalogue that it plays."""
    claim: str = ""
    """The claim's name, where it matters; else it is made of the case's."""
    node: str = ""
    """The selected node."""
    annotation: str = SELECTED
    """Where the selected node stands."""
    waits: bool = False
    """Whether the class binds at the first consumer."""
    allowed: Sequence[Mapping[str, str]] | None = None
    """Key → values with commas between them, of each term of allowedTopologies."""
    first: str = ""
    """How the first CreateVolume ends, if not well: a status of gRPC, or SILENCE; with commas, the first ones."""
    places: Sequence[Mapping[str, str]] | None = None
    """Where the driver says that the volume is; None: in the first preferred place."""
    asks: tuple[str, ...] | None = None
    """Different requirements in the order they came, as `show` writes them."""
    either: bool = False
    """Whether any one of `asks` will do, the same at each call; then ours need not be Go's."""
    requests: int = 0
    """How many different requirements come, where `asks` would be long."""
    says: str = ""
    """Part of an Event."""
    ends: Callable[[Protocol], bool] = has_volume

    @property
    def claim_name(self) -> str:
        """The name of the claim, and of its class."""
        return self.claim or self.name.replace(" ", "-").replace(",", "").lower()

    def to_objects(self, driver: str = DRIVER, provisioner: str = DRIVER) -> tuple[Object, Object]:
        """Class and claim; `provisioner` stands in the class."""
        parameters = {"first": self.first} | ({"places": json.dumps(self.places)} if self.places is not None else {})
        storage_class: Object = {
            "kind": "StorageClass",
            "metadata": {"name": self.claim_name},
            "provisioner": provisioner,
            "volumeBindingMode": "WaitForFirstConsumer" if self.waits else "Immediate",
            "parameters": {key: value for key, value in parameters.items() if value},
        }
        if self.allowed is not None:
            storage_class["allowedTopologies"] = to_allowed(self.allowed)
        annotations = {"volume.kubernetes.io/storage-provisioner": driver}
        if self.node:
            annotations[self.annotation] = self.node
        claim = {
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": self.claim_name, "namespace": NAMESPACE, "annotations": annotations},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": self.claim_name,
                "resources": {"requests": {"storage": "1Mi"}},
            },
        }
        return storage_class, claim


async def _look_on(_stage: PlaceStage) -> None:
    """Nothing happens but what the provisioner does."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Claims that one run of a provisioner decides."""

    name: str
    labels: Mapping[str, Mapping[str, str]]
    """Node → its labels."""
    keys: Mapping[str, Sequence[str] | None]
    """CSINode → topology keys of the driver; None: only another driver is there."""
    cases: tuple[Case, ...]
    flags: tuple[str, ...] = ()
    driver: str = DRIVER
    provisioner: str = DRIVER
    """What the classes name; the in-tree plugin, if they are left from it."""
    plugin_capabilities: frozenset[str] = PLUGIN
    act: Callable[[PlaceStage], Awaitable[None]] = _look_on
    """What happens to the cluster meanwhile. First calls that end badly do so when it is over, or says `go_on`."""


@dataclass(kw_only=True)
class PlaceStage:
    """Where a scene acts."""

    kube: KubeClient
    driver: ScriptedDriver
    cases: tuple[Case, ...]
    stage: Stage

    async def add_node(self, name: str, labels: Mapping[str, str]) -> None:
        """A Node."""
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": dict(labels)}}
        await self.kube.create(NODES, node)

    async def register(self, name: str, keys: Sequence[str] | None) -> None:
        """A CSINode with the driver's keys, or one with another driver only."""
        driver = (
            {"name": self.driver.settings.name, "topologyKeys": list(keys)}
            if keys is not None
            else {"name": OTHER_DRIVER}
        )
        with contextlib.suppress(NotFoundError):
            await self.kube.delete(CSI_NODES, name)
        spec = {"drivers": [{"nodeID": name, **driver}]}
        csi_node = {"apiVersion": CSI_NODES.api_version, "kind": CSI_NODES.kind, "metadata": {"name": name}}
        await self.kube.create(CSI_NODES, {**csi_node, "spec": spec})

    async def label(self, name: str, labels: Mapping[str, str | None]) -> None:
        """Change labels of a Node; None takes one away."""
        await self.kube.patch(NODES, name, {"metadata": {"labels": dict(labels)}})

    async def touch(self, name: str) -> None:
        """What a node that starts again writes of itself: nothing about its place."""
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "started"}
        await self.kube.patch(NODES, name, {"status": {"conditions": [ready]}}, subresource="status")
        await self.kube.patch(CSI_NODES, name, {"metadata": {"annotations": {"started": "again"}}})

    async def select(self, claim: str, node: str | None) -> None:
        """What the scheduler does; None takes the node off."""
        change = {"metadata": {"annotations": {SELECTED: node}}}
        await self.kube.patch(PERSISTENT_VOLUME_CLAIMS, claim, change, namespace=NAMESPACE)

    async def until(self, check: Callable[[Case, Protocol], bool]) -> None:
        """Wait until `check` holds for every claim, for a bounded time; what is missing then shows."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIMIT_S):
                while True:
                    seen = await self.look()
                    if all(check(case, seen[case.claim_name]) for case in self.cases):
                        return
                    await asyncio.sleep(0.3)

    async def until_called(self) -> None:
        """Wait until the driver has the first call for every claim that is to end badly."""
        await self.until(lambda case, protocol: bool(protocol.calls) or not case.first)

    async def notice(self) -> None:
        """Leave the provisioner time to hear of what changed."""
        await asyncio.sleep(NOTICE_S)

    async def look(self) -> dict[str, Protocol]:
        """Claim → what was done about it until now."""
        claims = {item["metadata"]["name"]: item for item in await self.stage.list("PersistentVolumeClaim")}
        volumes = {item["spec"]["claimRef"]["name"]: item for item in await self.stage.list("PersistentVolume")}
        events = json.loads(await self.kube.list_page(EVENTS, namespace=NAMESPACE))["items"]
        return {
            case.claim_name: self._protocol(claims[case.claim_name], volumes.get(case.claim_name), events)
            for case in self.cases
        }

    def _protocol(self, claim: Object, volume: Object | None, events: Sequence[Object]) -> Protocol:
        meta, protocol = claim["metadata"], Protocol()
        for call in self.driver.calls("CreateVolume"):
            if call.request.name == f"pvc-{meta['uid']}":
                asked = _asked(call.request)
                if protocol.calls[-1:] != [asked]:
                    protocol.calls.append(asked)
        protocol.objects["claim"] = {"node": meta["annotations"].get(SELECTED, "")}
        if volume is not None:
            labels = volume["metadata"].get("labels", {})
            protocol.objects["volume"] = {"affinity": _affinity(volume), "labels": labels}
        for event in events:
            if event["involvedObject"].get("uid") == meta["uid"]:
                # Ours tells of several failures in one Event, Go in one each.
                for text in (_APPENDED.sub("", event["message"]), *_FIRST.findall(event["message"])):
                    said = text.replace(meta["uid"], "<uid>")
                    protocol.events.add((meta["name"], event["type"], event["reason"], said))
        return protocol


class ScriptedDriver(FakeDriver):
    """A driver that treats each claim as the parameters of its class say; see `Case`."""

    def __init__(self, settings: DriverSettings) -> None:
        super().__init__(settings)
        self.go_on = asyncio.Event()
        """Whether first calls that are to end badly do so now; they are held until then."""

    async def answer(
        self,
        stream: grpclib.server.Stream[Any, Any],
        name: str,
        work: Callable[[Any], Awaitable[betterproto2.Message]],
    ) -> None:
        """See `FakeDriver`."""

        async def create(request: Any) -> Any:
            told = request.parameters
            count = sum(call.request.name == request.name for call in self.calls("CreateVolume"))
            ends = told["first"].split(",") if "first" in told else []
            if count <= len(ends):
                await (asyncio.Event() if ends[count - 1] == SILENCE else self.go_on).wait()
                raise GRPCError(Status[ends[count - 1]], "as told")
            reply: Any = await work(request)
            asked = request.accessibility_requirements
            places = [dict(place.segments) for place in asked.preferred[:1]] if asked else []
            places = json.loads(told["places"]) if "places" in told else places
            reply.volume.accessible_topology = [Topology(segments=place) for place in places]
            return reply

        await super().answer(stream, name, create if name == "CreateVolume" else work)


def to_allowed(terms: Sequence[Mapping[str, str]]) -> list[Object]:
    """allowedTopologies as a class has them."""
    return [
        {"matchLabelExpressions": [{"key": key, "values": values.split(",")} for key, values in term.items()]}
        for term in terms
    ]


def show(asked: Object) -> str:
    """Requirements in short: values of each place in the order of keys, requisite before preferred."""
    if not asked:
        return "nothing"
    return " | ".join(
        " ".join(",".join(value for _, value in sorted(place.items())) for place in asked[part])
        for part in ("requisite", "preferred")
    )


async def perform(
    scene: Scene, kube: KubeClient, words: Sequence[str], kubeconfig: Path, folder: Path
) -> dict[str, Protocol]:
    """`scene` with one provisioner, from an empty cluster to an empty cluster: what was done about each claim."""
    driver = ScriptedDriver(
        DriverSettings(
            name=scene.driver,
            plugin_capabilities=scene.plugin_capabilities,
            controller_capabilities=frozenset({"CREATE_DELETE_VOLUME"}),
        )
    )
    stage = PlaceStage(kube=kube, driver=driver, cases=scene.cases, stage=Stage(kube=kube, driver=driver))
    async with driver.serving(folder / "csi.sock") as endpoint:
        try:
            for name, labels in scene.labels.items():
                await stage.add_node(name, labels)
            for name, keys in scene.keys.items():
                await stage.register(name, keys)
            for case in scene.cases:
                for obj in case.to_objects(scene.driver, scene.provisioner):
                    await stage.stage.create(obj)
            flags = (f"--csi-address={endpoint}", f"--kubeconfig={kubeconfig}", "--timeout=60s", *scene.flags)
            async with _process([*words, *flags, "--kube-api-qps=100", "--kube-api-burst=200"], folder / "log"):
                await scene.act(stage)
                driver.go_on.set()
                await stage.until(lambda case, protocol: case.ends(protocol))
                await stage.notice()
                return await stage.look()
        finally:
            await _clear(kube)
            for resource in (NODES, CSI_NODES):
                for item in json.loads(await kube.list_page(resource))["items"]:
                    await kube.delete(resource, item["metadata"]["name"])


def surprises(case: Case, protocol: Protocol) -> list[str]:
    """Where one provisioner did not do what the case says; without this, two that do nothing would agree."""
    found, asked = [], tuple(show(call) for call in protocol.calls)
    if case.asks is not None and not (len(asked) == 1 and asked[0] in case.asks if case.either else asked == case.asks):
        found.append(f"asked for {asked}, not for {case.asks}")
    if case.requests and len(asked) != case.requests:
        found.append(f"asked for {asked}, not for {case.requests} in all")
    if case.says and not any(case.says in event[3] for event in protocol.events):
        found.append(f'no Event says "{case.says}"')
    if not case.ends(protocol):
        found.append(f"never got to {case.ends.__name__}: {protocol.objects}, {sorted(protocol.events)}")
    return found


def _asked(request: Any) -> Object:
    asked = request.accessibility_requirements
    if asked is None:
        return {}
    return {
        "requisite": [dict(place.segments) for place in asked.requisite],
        "preferred": [dict(place.segments) for place in asked.preferred],
    }


def _affinity(volume: Object) -> Any:
    """The affinity; requirements within a term have no order."""
    affinity = volume["spec"].get("nodeAffinity")
    for term in (affinity or {}).get("required", {}).get("nodeSelectorTerms", ()):
        term.get("matchExpressions", []).sort(key=lambda expression: str(expression["key"]))
    return affinity
