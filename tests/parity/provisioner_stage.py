"""One play of a provisioner: a real API server, the embedded driver on a socket, one provisioner as a process.

What is compared is what it leaves: the calls of the driver, PersistentVolumes, finalizers and annotations of the
objects around them, and Events. UIDs, the driver's ids, times and the provisioner's own identity are replaced by what
they stand for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from csisidecar.errors import AlreadyExistsError, KubeError, NotFoundError
from csisidecar.kube import (
    EVENTS,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    REFERENCE_GRANTS,
    SECRETS,
    STORAGE_CLASSES,
    VOLUME_ATTACHMENTS,
    VOLUME_ATTRIBUTES_CLASSES,
    VOLUME_SNAPSHOT_CONTENTS,
    VOLUME_SNAPSHOTS,
    Resource,
)
from csisidecar.testing.driver import DriverSettings, FakeDriver, MemoryBackend, VolumeRecord
from csisidecar.testing.driver.records import SnapshotRecord
from csisidecar.testing.driver.world import make_id
from tests.parity.stage import _process

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from csisidecar.kube import KubeClient

Object = dict[str, Any]

NAMESPACE = "default"
LIMIT_S = 20.0
QUIET_S = 0.8
IDENTITY = "storage.kubernetes.io/csiProvisionerIdentity"
CRDS = Resource(
    group="apiextensions.k8s.io",
    version="v1",
    plural="customresourcedefinitions",
    kind="CustomResourceDefinition",
    namespaced=False,
)
KINDS: Mapping[str, Resource] = {
    resource.kind: resource
    for resource in (
        VOLUME_ATTACHMENTS,
        PERSISTENT_VOLUME_CLAIMS,
        PERSISTENT_VOLUMES,
        STORAGE_CLASSES,
        SECRETS,
        VOLUME_ATTRIBUTES_CLASSES,
        VOLUME_SNAPSHOTS,
        VOLUME_SNAPSHOT_CONTENTS,
        REFERENCE_GRANTS,
    )
}
_APPENDED = re.compile(r" \((?:first: .*; )?\d+ attempts since .*; next in about .*\)$", re.DOTALL)


@dataclass(kw_only=True)
class Protocol:
    """What one provisioner did in one play."""

    calls: list[Object] = field(default_factory=list)
    """Distinct requests of CreateVolume and DeleteVolume, in the order they first came."""
    objects: dict[str, Object] = field(default_factory=dict)
    """Kind and name → what a provisioner may write of it."""
    events: set[tuple[str, str, str, str]] = field(default_factory=set)
    """Object, type, reason, message."""


@dataclass(frozen=True, kw_only=True)
class Play:
    """One behavior to compare."""

    name: str
    rows: tuple[str, ...]
    """Rows of the catalogue that it plays."""
    objects: tuple[Object, ...]
    """What there is before the provisioner starts."""
    act: Callable[[Stage], Awaitable[None]]
    """What happens after; ends when what is to be seen was there."""
    driver: DriverSettings = field(default_factory=lambda: DriverSettings(name="csi.test.io"))
    trouble: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    finalizers: bool = True
    """Whether finalizers of claims and snapshots are compared at the end."""


@dataclass(kw_only=True)
class Stage:
    """Where a play acts."""

    kube: KubeClient
    driver: FakeDriver

    async def create(self, obj: Object) -> None:
        """Put an object into the cluster, with the status it is given."""
        resource = KINDS[obj["kind"]]
        namespace = obj["metadata"].get("namespace", NAMESPACE) if resource.namespaced else ""
        obj = json.loads(json.dumps(obj))
        reference = obj.get("spec", {}).get("volumeSnapshotRef", {})
        if "name" in reference and "uid" not in reference:
            snapshot = await self.kube.get(VOLUME_SNAPSHOTS, reference["name"], namespace=reference["namespace"])
            reference["uid"] = snapshot["metadata"]["uid"]
        await self.kube.create(resource, {"apiVersion": resource.api_version, **obj}, namespace=namespace)
        if "status" in obj:
            change = {"status": obj["status"]}
            name = obj["metadata"]["name"]
            await self.kube.patch(resource, name, change, namespace=namespace, subresource="status")

    async def list(self, kind: str) -> list[Object]:
        """Every object of a kind."""
        items: list[Object] = json.loads(await self.kube.list_page(KINDS[kind]))["items"]
        return items

    async def until(self, check: Callable[[], Awaitable[bool]]) -> None:
        """Wait for `check`, for a bounded time; a play that never gets there shows in the comparison."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIMIT_S):
                while not await check():
                    await asyncio.sleep(0.1)

    async def claim(self, name: str = "data") -> Object:
        """A claim as it is now."""
        return await self.kube.get(PERSISTENT_VOLUME_CLAIMS, name, namespace=NAMESPACE)

    async def find_volume(self, name: str = "data") -> Object:
        """The PersistentVolume of a claim, empty when there is none."""
        for volume in await self.list("PersistentVolume"):
            if volume["spec"].get("claimRef", {}).get("name") == name:
                return volume
        return {}

    async def bind(self, name: str = "data") -> None:
        """What the binder does once the PersistentVolume is there."""
        volume = (await self.find_volume(name))["metadata"]["name"]
        await self.kube.patch(PERSISTENT_VOLUME_CLAIMS, name, {"spec": {"volumeName": volume}}, namespace=NAMESPACE)
        bound = {"status": {"phase": "Bound"}}
        where = {"namespace": NAMESPACE, "subresource": "status"}
        await self.kube.patch(PERSISTENT_VOLUME_CLAIMS, name, bound, **where)  # type: ignore[arg-type]
        await self.kube.patch(PERSISTENT_VOLUMES, volume, bound, subresource="status")

    async def release(self, name: str = "data") -> None:
        """What the binder does once the claim is gone."""
        volume = (await self.find_volume(name))["metadata"]["name"]
        released = {"status": {"phase": "Released"}}
        await self.kube.patch(PERSISTENT_VOLUMES, volume, released, subresource="status")

    async def has_event(self, reason: str, count: int = 1) -> bool:
        """Whether an Event of that reason was told so often."""
        listed = json.loads(await self.kube.list_page(EVENTS))["items"]
        return sum(item.get("count") or 1 for item in listed if item.get("reason") == reason) >= count


async def install_kinds(kube: KubeClient) -> None:
    """The kinds that are no part of the API server: snapshots, their contents, grants."""
    for resource in (VOLUME_SNAPSHOTS, VOLUME_SNAPSHOT_CONTENTS, REFERENCE_GRANTS):
        version = {
            "name": resource.version,
            "served": True,
            "storage": True,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            "subresources": {"status": {}} if resource is not REFERENCE_GRANTS else {},
        }
        meta = {
            "name": resource.full_name,
            "annotations": {"api-approved.kubernetes.io": "unapproved, only for a test of this repository"},
        }
        spec = {
            "group": resource.group,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "names": {
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
            },
            "versions": [version],
        }
        with contextlib.suppress(AlreadyExistsError):
            await kube.create(CRDS, {"apiVersion": CRDS.api_version, "kind": CRDS.kind, "metadata": meta, "spec": spec})
    for resource in (VOLUME_SNAPSHOTS, VOLUME_SNAPSHOT_CONTENTS, REFERENCE_GRANTS):
        async with asyncio.timeout(LIMIT_S):
            while True:
                try:
                    await kube.list_page(resource)
                    break
                except KubeError:
                    await asyncio.sleep(0.2)


async def perform(play: Play, kube: KubeClient, command: Sequence[str], kubeconfig: Path, folder: Path) -> Protocol:
    """`play` with one provisioner, from an empty cluster to an empty cluster."""
    backend = MemoryBackend()
    await backend.save(VolumeRecord(id="vol-old", name="old", capacity_bytes=1 << 20, block=False))
    await backend.save(
        SnapshotRecord(
            id="snap-1", name="snap", source_volume_id="vol-old", size_bytes=1 << 20, block=False, created_s=0.0
        )
    )
    driver = FakeDriver(play.driver, backend=backend, trouble=play.trouble)
    stage = Stage(kube=kube, driver=driver)
    async with driver.serving(folder / "csi.sock") as endpoint:
        try:
            for obj in play.objects:
                await stage.create(obj)
            words = [
                *command,
                f"--csi-address={endpoint}",
                f"--kubeconfig={kubeconfig}",
                "--timeout=3s",
                "--kube-api-qps=50",
                "--kube-api-burst=50",
                "--snapshot-orphan-sweep-interval=0",
                *play.flags,
            ]
            async with _process(words, folder / "log"):
                await play.act(stage)
                await _quiet(stage)
                return await _look(stage, play)
        finally:
            await _clear(kube)


def differences(ours: Protocol, theirs: Protocol) -> list[str]:
    """What differs, a line each; our Events may go on after the text of theirs."""
    found = []
    if ours.calls != theirs.calls:
        found += [f"calls: ours {_text(ours.calls)}", f"calls: Go   {_text(theirs.calls)}"]
    for key in sorted(ours.objects.keys() | theirs.objects.keys()):
        mine, go = ours.objects.get(key), theirs.objects.get(key)
        if mine != go:
            found += [f"{key}: ours {_text(mine)}", f"{key}: Go   {_text(go)}"]
    found += [f"event: only ours {event}" for event in sorted(ours.events) if not _has(theirs.events, event, ours=True)]
    found += [
        f"event: only Go's {event}" for event in sorted(theirs.events) if not _has(ours.events, event, ours=False)
    ]
    return found


def _has(events: set[tuple[str, str, str, str]], wanted: tuple[str, str, str, str], *, ours: bool) -> bool:
    for event in events:
        longer, shorter = (wanted, event) if ours else (event, wanted)
        if event[:3] == wanted[:3] and longer[3].startswith(shorter[3]):
            return True
    return False


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


async def _look(stage: Stage, play: Play) -> Protocol:
    """What there is now, in words that do not differ from run to run."""
    protocol = Protocol()
    words: dict[str, str] = {}
    for claim in await stage.list("PersistentVolumeClaim"):
        words[claim["metadata"]["uid"]] = f"<uid of {claim['metadata']['name']}>"
        bare = claim["metadata"]["uid"].replace("-", "")
        words[f"-{bare[:10]}"] = f"-<short uid of {claim['metadata']['name']}>"
    for call in stage.driver.ledger:
        if call.method == "CreateVolume":
            words[make_id("vol", call.request.name)] = f"<volume {call.request.name}>"

    def plain(value: Any) -> Any:
        text = json.dumps(value)
        for secret, word in words.items():
            text = text.replace(secret, word)
        for secret, word in words.items():
            text = text.replace(secret, word)
        return json.loads(text)

    for call in stage.driver.ledger:
        if call.method in ("CreateVolume", "DeleteVolume"):
            request = plain({"method": call.method, **call.request.to_dict()})
            if request not in protocol.calls:
                protocol.calls.append(request)
    for volume in await stage.list("PersistentVolume"):
        meta, spec = volume["metadata"], volume["spec"]
        spec.get("claimRef", {}).pop("resourceVersion", None)
        attributes = spec.get("csi", {}).get("volumeAttributes", {})
        if IDENTITY in attributes:
            attributes[IDENTITY] = "<identity>"
        said = {
            "annotations": meta.get("annotations", {}),
            "finalizers": meta.get("finalizers", []),
            "labels": meta.get("labels", {}),
            "deleted": "deletionTimestamp" in meta,
            "spec": spec,
        }
        protocol.objects[plain(f"PersistentVolume/{meta['name']}")] = plain(said)
    for kind in ("PersistentVolumeClaim", "VolumeSnapshot"):
        for item in await stage.list(kind):
            meta = item["metadata"]
            said = {"annotations": meta.get("annotations", {})}
            if play.finalizers:
                said["finalizers"] = meta.get("finalizers", [])
            protocol.objects[f"{kind}/{meta['namespace']}/{meta['name']}"] = plain(said)
    for event in json.loads(await stage.kube.list_page(EVENTS))["items"]:
        about = event["involvedObject"]
        if about["kind"] in ("PersistentVolumeClaim", "PersistentVolume"):
            message = _APPENDED.sub("", event["message"])
            who = plain(f"{about['kind']}/{about['name']}")
            protocol.events.add((who, event["type"], event["reason"], plain(message)))
    return protocol


async def _quiet(stage: Stage) -> None:
    """Wait until the driver has been left alone for a while; bounded, as a failing provisioner never rests."""
    seen, still_s, waited_s = -1, 0.0, 0.0
    while still_s < QUIET_S and waited_s < 2 * QUIET_S:
        await asyncio.sleep(0.1)
        now = len(stage.driver.ledger)
        still_s = still_s + 0.1 if now == seen else 0.0
        seen, waited_s = now, waited_s + 0.1


async def _clear(kube: KubeClient) -> None:
    """Take away everything that plays make; nobody is at work any more."""
    for resource in (*KINDS.values(), EVENTS):
        for item in json.loads(await kube.list_page(resource))["items"]:
            name, namespace = item["metadata"]["name"], item["metadata"].get("namespace", "")
            if resource is SECRETS and item.get("type") != "Opaque":
                continue
            bare = {"metadata": {"finalizers": None}}
            with contextlib.suppress(NotFoundError):
                if item["metadata"].get("finalizers"):
                    await kube.patch(resource, name, bare, namespace=namespace)
                await kube.delete(resource, name, namespace=namespace)
            with contextlib.suppress(KubeError):
                await kube.patch(resource, name, bare, namespace=namespace)
