"""The life of one volume in steps: each waits, reads back what it claims, and tells it."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from csisidecar.demo.props import CLASS, NAMESPACE, NODE, build_claim, build_pod
from csisidecar.errors import StatusCode
from csisidecar.kube import (
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    VOLUME_ATTACHMENTS,
    ObjectKey,
    quantity,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from csisidecar.demo.observer import Observer
    from csisidecar.demo.teller import Teller
    from csisidecar.kube import KubeClient
    from csisidecar.testing.driver import FakeDriver, VolumeRecord

T = TypeVar("T")

CLAIM = "demo-data"
POD = "demo-app"
SIZE = "64Mi"
TEXT = b"written by the demo's pod into a volume that csisidecar provisioned and attached\n"


class StepFailed(Exception):  # noqa: N818 - the end of the story, not a fault of the program
    """A step did not happen in time, or what it claims is not so."""

    def __init__(self, step: str, why: str) -> None:
        super().__init__(f"{step}: {why}")
        self.step = step
        self.why = why


@dataclass(kw_only=True)
class VolumeLife:
    """One volume from its claim to nothing; `live_through` is the story."""

    client: KubeClient
    observer: Observer
    driver: FakeDriver
    volumes_directory: Path
    teller: Teller
    step_timeout_s: float
    on_step: Callable[[str], None]
    """Told the name of each step when it begins."""
    step: str = "start"
    claim: dict[str, Any] | None = None
    volume_name: str = ""
    handle: str = ""
    attachment: str = ""

    async def live_through(self) -> None:
        """All steps in their order.

        Raises:
            StepFailed: one did not happen, or could not be verified.
            KubeError: the API server did not answer.
        """
        await self._claim_is_created()
        await self._driver_creates()
        await self._volume_is_saved()
        await self._claim_is_bound()
        await self._pod_is_scheduled()
        await self._volume_is_attached()
        await self._pod_writes()
        await self._pod_is_deleted()
        await self._volume_is_detached()
        await self._claim_is_deleted()
        await self._driver_deletes()
        await self._volume_is_gone()

    @property
    def directory(self) -> Path:
        """Where the driver keeps the volume's bytes."""
        return self.volumes_directory / self.handle

    async def _claim_is_created(self) -> None:
        self._begin("claim created")
        await self.client.create(PERSISTENT_VOLUME_CLAIMS, build_claim(CLAIM, size=SIZE), namespace=NAMESPACE)
        self.claim = await self._read(PERSISTENT_VOLUME_CLAIMS, CLAIM, NAMESPACE)
        self._check(self.claim["status"].get("phase") == "Pending", "the claim is not Pending")
        self.teller.happened("user", f"claim {NAMESPACE}/{CLAIM} created: {SIZE}, class {CLASS}")
        self.teller.verified(f"claim is there, phase Pending, uid {self.claim['metadata']['uid']}")

    async def _driver_creates(self) -> None:
        self._begin("CreateVolume called")
        name = f"pvc-{self._claim['metadata']['uid']}"

        def created() -> VolumeRecord | None:
            # The driver knows a volume before its directory is there; only the answered call says that it is made.
            answered = any(
                call.request.name == name and call.code is StatusCode.OK for call in self.driver.calls("CreateVolume")
            )
            return self.driver.volume_named(name) if answered else None

        record = await self._until(created, f"the driver has no volume {name}")
        self.handle = record.id
        self.teller.happened("driver", f"CreateVolume {name}", [f"→ volume id {record.id}"])
        self._check(record.capacity_bytes >= quantity.parse(SIZE), f"it has only {record.capacity_bytes} bytes")
        self._check(await asyncio.to_thread(self.directory.is_dir), f"{self.directory} is no directory")
        self.teller.verified(f"directory {self.directory.name}/ exists, {record.capacity_bytes:,} bytes granted")

    async def _volume_is_saved(self) -> None:
        self._begin("PersistentVolume saved")
        self.volume_name = f"pvc-{self._claim['metadata']['uid']}"
        key = ObjectKey("", self.volume_name)
        await self._until(lambda: self.observer.volumes.get(key), f"there is no PersistentVolume {key.name}")
        saved = await self._read(PERSISTENT_VOLUMES, self.volume_name)
        spec = saved["spec"]
        self.teller.happened("provisioner", f"PersistentVolume {self.volume_name} saved")
        self._check(spec["csi"]["volumeHandle"] == self.handle, "it has another volume handle")
        self._check(spec["csi"]["driver"] == self.driver.settings.name, "it names another driver")
        self._check(spec["claimRef"]["uid"] == self._claim["metadata"]["uid"], "it is reserved for another claim")
        self._check(spec["persistentVolumeReclaimPolicy"] == "Delete", "it has another reclaim policy")
        size = spec["capacity"]["storage"]
        self.teller.verified(f"handle, driver, claimRef and policy Delete as they should be; capacity {size}")

    async def _claim_is_bound(self) -> None:
        self._begin("claim Bound")
        key = ObjectKey(NAMESPACE, CLAIM)

        def is_bound() -> bool:
            claim = self.observer.claims.get(key)
            return claim is not None and claim.phase == "Bound"

        await self._until(is_bound, "the claim is not Bound")
        claim = await self._read(PERSISTENT_VOLUME_CLAIMS, CLAIM, NAMESPACE)
        volume = await self._read(PERSISTENT_VOLUMES, self.volume_name)
        self.teller.happened("controllers", f"claim Bound to {self.volume_name}")
        self._check(claim["spec"]["volumeName"] == self.volume_name, "the claim names another volume")
        self._check(claim["status"]["phase"] == "Bound", "the claim is not Bound")
        self._check(volume["status"]["phase"] == "Bound", "the volume is not Bound")
        self.teller.verified("claim and PersistentVolume name each other, both are Bound")

    async def _pod_is_scheduled(self) -> None:
        self._begin("pod scheduled")
        await self.client.create(PODS, build_pod(POD, CLAIM), namespace=NAMESPACE)
        self.teller.happened("user", f"pod {NAMESPACE}/{POD} created, it mounts the claim")
        key = ObjectKey(NAMESPACE, POD)

        def node() -> str | None:
            pod = self.observer.pods.get(key)
            return (pod.node_name or None) if pod is not None else None

        chosen = await self._until(node, "the pod has no node")
        pod = await self._read(PODS, POD, NAMESPACE)
        self.teller.happened("controllers", f"pod scheduled to {chosen}")
        self._check(pod["spec"]["nodeName"] == NODE, "it is on another node")
        self.teller.verified(f"spec.nodeName is {NODE}")

    async def _volume_is_attached(self) -> None:
        self._begin("VolumeAttachment attached")

        def attached() -> str | None:
            for attachment in self.observer.attachments.values():
                if attachment.volume_name == self.volume_name:
                    self.attachment = attachment.name
                    return attachment.name if attachment.is_attached else None
            return None

        name = await self._until(attached, "the VolumeAttachment is not attached")
        found = await self._read(VOLUME_ATTACHMENTS, name)
        context = found["status"].get("attachmentMetadata") or {}
        shown = [f"{key}={value}" for key, value in sorted(context.items())]
        self.teller.happened(
            "attacher",
            f"VolumeAttachment {_short(name)} attached",
            [f"publish context: {', '.join(shown) or 'none'}"],
        )
        self._check(found["status"]["attached"] is True, "status.attached is not true")
        self._check(found["spec"]["nodeName"] == NODE, "it is of another node")
        nodes = self.driver.published.get(self.handle, frozenset())
        self._check(len(nodes) == 1, f"the driver has the volume published to {sorted(nodes)}")
        self.teller.verified(f"status.attached is true; the driver has it published to {', '.join(nodes)}")

    async def _pod_writes(self) -> None:
        self._begin("bytes written")
        key = ObjectKey(NAMESPACE, POD)

        def is_running() -> bool:
            pod = self.observer.pods.get(key)
            return pod is not None and pod.status.phase == "Running"

        await self._until(is_running, "the pod is not Running")
        file = self.directory / "hello.txt"
        await asyncio.to_thread(file.write_bytes, TEXT)
        self.teller.happened("pod", f"Running; wrote {len(TEXT)} bytes to /data/{file.name}")
        read = await asyncio.to_thread(file.read_bytes)
        self._check(read == TEXT, "other bytes were read back")
        digest = hashlib.sha256(read).hexdigest()[:16]
        self.teller.verified(f"{len(read)} bytes read back from the driver's directory, sha256 {digest}…")

    async def _pod_is_deleted(self) -> None:
        self._begin("pod deleted")
        await self.client.delete(PODS, POD, namespace=NAMESPACE)
        key = ObjectKey(NAMESPACE, POD)
        await self._until(lambda: self.observer.pods.get(key) is None, "the pod is still there")
        await self._is_gone(PODS, POD, NAMESPACE)
        self.teller.happened("user", f"pod {NAMESPACE}/{POD} deleted")
        self.teller.verified("the pod is gone")

    async def _volume_is_detached(self) -> None:
        self._begin("detached")
        key = ObjectKey("", self.attachment)
        await self._until(lambda: self.observer.attachments.get(key) is None, "the VolumeAttachment is still there")
        self.teller.happened("attacher", f"VolumeAttachment {_short(self.attachment)} detached and gone")
        await self._is_gone(VOLUME_ATTACHMENTS, self.attachment)
        self._check(self.handle not in self.driver.published, "the driver still has it published")
        self._check(await asyncio.to_thread(self.directory.is_dir), "the volume's directory is gone already")
        self.teller.verified("no VolumeAttachment; published to no node; the bytes are still there")

    async def _claim_is_deleted(self) -> None:
        self._begin("claim deleted")
        await self.client.delete(PERSISTENT_VOLUME_CLAIMS, CLAIM, namespace=NAMESPACE)
        key = ObjectKey(NAMESPACE, CLAIM)
        await self._until(lambda: self.observer.claims.get(key) is None, "the claim is still there")
        await self._is_gone(PERSISTENT_VOLUME_CLAIMS, CLAIM, NAMESPACE)
        self.teller.happened("user", f"claim {NAMESPACE}/{CLAIM} deleted")
        self.teller.verified("the claim is gone")

    async def _driver_deletes(self) -> None:
        self._begin("DeleteVolume called")

        def deleted() -> bool:
            return any(
                call.request.volume_id == self.handle and call.code is StatusCode.OK
                for call in self.driver.calls("DeleteVolume")
            )

        await self._until(deleted, "the driver still has the volume")
        self.teller.happened("driver", f"DeleteVolume {self.handle}")
        self._check(self.handle not in self.driver.volumes, "DeleteVolume was answered, yet the volume is there")
        self._check(not await asyncio.to_thread(self.directory.exists), f"{self.directory} is still there")
        self.teller.verified("the driver knows the volume no more, its directory is gone")

    async def _volume_is_gone(self) -> None:
        self._begin("PersistentVolume gone")
        key = ObjectKey("", self.volume_name)
        await self._until(lambda: self.observer.volumes.get(key) is None, "the PersistentVolume is still there")
        await self._is_gone(PERSISTENT_VOLUMES, self.volume_name)
        self.teller.happened("provisioner", f"PersistentVolume {self.volume_name} gone")
        left = await asyncio.to_thread(lambda: sorted(path.name for path in self.volumes_directory.iterdir()))
        self._check(not left, f"the driver's directory still holds {', '.join(left)}")
        self.teller.verified("no PersistentVolume; the driver's directory is empty")

    @property
    def _claim(self) -> dict[str, Any]:
        if self.claim is None:
            raise StepFailed(self.step, "there is no claim yet")
        return self.claim

    def _begin(self, step: str) -> None:
        self.step = step
        self.on_step(step)

    async def _until(self, find: Callable[[], T | bool | None], otherwise: str) -> T:
        try:
            return await self.observer.until(find, self.step_timeout_s)
        except TimeoutError:
            raise StepFailed(self.step, f"{otherwise} after {self.step_timeout_s:g} s") from None

    async def _read(self, resource: Any, name: str, namespace: str = "") -> dict[str, Any]:
        found = await self.observer.live(resource, name, namespace)
        if found is None:
            raise StepFailed(self.step, f"there is no {resource.kind} {name} when read back")
        return found

    async def _is_gone(self, resource: Any, name: str, namespace: str = "") -> None:
        found = await self.observer.live(resource, name, namespace)
        self._check(found is None, f"{resource.kind} {name} is still there when read back")

    def _check(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise StepFailed(self.step, otherwise)


def _short(name: str) -> str:
    """A VolumeAttachment's name without most of its hash."""
    return f"{name[:16]}…" if len(name) > 17 else name
