"""The stand-ins against the embedded API server over real sockets; the test plays the CSI sidecars."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.demo.controllers import ControllersOptions, serve
from csisidecar.demo.controllers.attachdetach import attachment_name
from csisidecar.demo.props import build_claim, build_class, build_csi_driver, build_node, build_pod
from csisidecar.runtime import background
from csisidecar.testing.apiserver import FakeAPIServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

DRIVER = "demo.csi"
Object = dict[str, Any]


class Cluster:
    """An API server with the stand-ins at work."""

    def __init__(self, server: FakeAPIServer) -> None:
        self.server = server
        self.objects = server.objects

    def get(self, plural: str, name: str) -> Object | None:
        namespace = "default" if plural in ("persistentvolumeclaims", "pods") else ""
        return self.objects.get(plural, name, namespace)

    def claim(self, name: str = "data") -> Object:
        return self.get("persistentvolumeclaims", name) or {"metadata": {}, "status": {}, "spec": {}}

    def pod(self, name: str = "app") -> Object:
        return self.get("pods", name) or {"metadata": {}, "status": {}, "spec": {}}

    def volume(self, name: str = "pv") -> Object:
        return self.get("persistentvolumes", name) or {"metadata": {}, "status": {}, "spec": {}}

    def annotations(self, name: str = "data") -> dict[str, str]:
        return dict(self.claim(name)["metadata"].get("annotations", {}))

    def attachments(self) -> list[Object]:
        return self.objects.list("volumeattachments")

    def events(self, reason: str) -> list[Object]:
        return [e for e in self.objects.list("events") if e["reason"] == reason]

    def provision(self, claim: str = "data", name: str = "pv", **spec: Any) -> None:
        """Save a PersistentVolume for a claim as the provisioner does."""
        found = self.claim(claim)
        reference = {"kind": "PersistentVolumeClaim", "namespace": "default", "name": claim}
        self.add_volume(name, claimRef={**reference, "uid": found["metadata"]["uid"]}, **spec)

    def add_volume(self, name: str = "pv", **spec: Any) -> None:
        body = {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "64Mi"},
            "storageClassName": "demo",
            "persistentVolumeReclaimPolicy": "Delete",
            "csi": {"driver": DRIVER, "volumeHandle": f"handle-{name}"},
            **spec,
        }
        meta = {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": DRIVER}}
        self.objects.create({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": meta, "spec": body})

    def attach(self, *, attached: bool = True, error: str = "") -> None:
        """Answer the only VolumeAttachment as the attacher does."""
        name = self.attachments()[0]["metadata"]["name"]
        status: Object = {"attached": attached}
        if error:
            status["attachError"] = {"message": error, "time": "2026-01-01T00:00:00Z"}
        self.objects.edit("volumeattachments", name, lambda o: o.update(status=status), subresource="status")

    async def until(self, holds: Callable[[], object], what: str = "") -> None:
        try:
            async with asyncio.timeout(10):
                while not holds():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            pytest.fail(f"never came true: {what or holds}")

    async def settled(self) -> None:
        """Wait until the server's revision stands still."""
        last, still = -1, 0
        while still < 10:
            now = self.server.store.revision
            still = still + 1 if now == last else 0
            last = now
            await asyncio.sleep(0.02)

    async def bound(self, name: str = "data") -> None:
        await self.until(lambda: self.claim(name)["status"].get("phase") == "Bound", f"{name} Bound")


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with FakeAPIServer() as server:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        server.objects.create(build_node("n1"))
        server.objects.create(build_class("demo", DRIVER))
        server.objects.create(build_class("demo-wait", DRIVER, mode="WaitForFirstConsumer"))
        ready = asyncio.Event()
        options = ControllersOptions(kubeconfig=str(tmp_path / "kubeconfig"))
        async with background(serve(options, on_ready=ready.set), name="controllers"):
            await ready.wait()
            yield Cluster(server)


async def test_claim_is_handed_over_bound_used_and_freed(cluster: Cluster) -> None:
    cluster.objects.create(build_claim("data"))
    await cluster.until(lambda: cluster.annotations().get("volume.kubernetes.io/storage-provisioner") == DRIVER)
    assert cluster.annotations()["volume.beta.kubernetes.io/storage-provisioner"] == DRIVER
    await cluster.until(lambda: cluster.events("ExternalProvisioning"))

    cluster.provision()
    await cluster.bound()
    assert cluster.claim()["spec"]["volumeName"] == "pv"
    assert cluster.annotations()["pv.kubernetes.io/bind-completed"] == "yes"
    assert cluster.claim()["status"]["capacity"] == {"storage": "64Mi"}
    assert cluster.volume()["status"]["phase"] == "Bound"

    cluster.objects.create(build_pod("app", "data"))
    await cluster.until(cluster.attachments)
    attachment = cluster.attachments()[0]
    assert attachment["metadata"]["name"] == attachment_name("handle-pv", DRIVER, "n1")
    assert attachment["spec"] == {"attacher": DRIVER, "nodeName": "n1", "source": {"persistentVolumeName": "pv"}}
    await cluster.settled()
    assert cluster.pod()["status"]["phase"] == "Pending"
    cluster.attach()
    await cluster.until(lambda: cluster.pod()["status"]["phase"] == "Running")

    cluster.objects.delete("pods", "app", "default")
    await cluster.until(lambda: not cluster.attachments())
    assert cluster.get("pods", "app") is None

    cluster.objects.delete("persistentvolumeclaims", "data", "default")
    await cluster.until(lambda: cluster.volume()["status"].get("phase") == "Released")
    assert cluster.get("persistentvolumeclaims", "data") is None
    conflicts = [r for r in cluster.server.audit if r.code == 409 and r.resource != "events"]
    assert conflicts == [], "one plan's writes must build on each other"


async def test_used_claim_is_not_removed_before_its_pod(cluster: Cluster) -> None:
    cluster.objects.create(build_claim("data"))
    cluster.provision()
    await cluster.bound()
    cluster.objects.create(build_pod("app", "data"))
    await cluster.until(cluster.attachments)
    cluster.objects.delete("persistentvolumeclaims", "data", "default")
    await cluster.settled()
    assert "deletionTimestamp" in cluster.claim()["metadata"]
    assert cluster.volume()["status"]["phase"] == "Bound"
    cluster.objects.delete("pods", "app", "default")
    await cluster.until(lambda: cluster.get("persistentvolumeclaims", "data") is None)


async def test_bound_volume_is_not_removed_before_its_claim(cluster: Cluster) -> None:
    cluster.objects.create(build_claim("data"))
    cluster.provision()
    await cluster.bound()
    cluster.objects.delete("persistentvolumes", "pv")
    await cluster.settled()
    assert cluster.get("persistentvolumes", "pv") is not None
    cluster.objects.delete("persistentvolumeclaims", "data", "default")
    await cluster.until(lambda: cluster.get("persistentvolumes", "pv") is None)


async def test_delayed_claim_waits_for_its_pod_and_gets_the_pods_node(cluster: Cluster) -> None:
    cluster.objects.create(build_claim("data", storage_class="demo-wait"))
    await cluster.until(lambda: cluster.events("WaitForFirstConsumer"))
    assert cluster.annotations() == {}
    cluster.objects.create(build_pod("app", "data"))
    await cluster.until(lambda: "volume.kubernetes.io/storage-provisioner" in cluster.annotations())
    assert cluster.annotations()["volume.kubernetes.io/selected-node"] == "n1"
    assert "nodeName" not in cluster.pod()["spec"]
    cluster.provision(storageClassName="demo-wait")
    await cluster.until(lambda: cluster.pod()["spec"].get("nodeName") == "n1")
    await cluster.until(cluster.attachments)


async def test_claim_that_is_given_back_gets_its_next_node_after_a_pause(cluster: Cluster) -> None:
    selected = "volume.kubernetes.io/selected-node"
    cluster.objects.create(build_claim("data", storage_class="demo-wait"))
    cluster.objects.create(build_pod("app", "data"))
    await cluster.until(lambda: selected in cluster.annotations())
    cluster.objects.edit(
        "persistentvolumeclaims", "data", lambda claim: claim["metadata"]["annotations"].pop(selected), "default"
    )
    await cluster.settled()
    assert selected not in cluster.annotations()
    await cluster.until(lambda: selected in cluster.annotations())


async def test_free_volume_is_bound_without_a_provisioner(cluster: Cluster) -> None:
    cluster.add_volume("small", capacity={"storage": "1Mi"}, storageClassName="")
    cluster.add_volume("fits", storageClassName="")
    await cluster.until(lambda: cluster.volume("fits")["status"].get("phase") == "Available")
    cluster.objects.create(build_claim("data", storage_class=""))
    await cluster.bound()
    assert cluster.claim()["spec"]["volumeName"] == "fits"
    assert cluster.volume("fits")["spec"]["claimRef"]["uid"] == cluster.claim()["metadata"]["uid"]
    assert cluster.volume("small")["status"]["phase"] == "Available"


async def test_claim_that_came_before_the_volume_is_bound_when_the_volume_comes(cluster: Cluster) -> None:
    cluster.objects.create(build_claim("data", storage_class=""))
    await cluster.until(lambda: cluster.events("FailedBinding"))
    cluster.add_volume(storageClassName="")
    await cluster.bound()


async def test_claim_without_its_volume_is_lost(cluster: Cluster) -> None:
    cluster.objects.create(build_claim("data"))
    cluster.provision()
    await cluster.bound()
    cluster.objects.edit("persistentvolumes", "pv", lambda o: o["metadata"].pop("finalizers"))
    cluster.objects.delete("persistentvolumes", "pv")
    await cluster.until(lambda: cluster.claim()["status"]["phase"] == "Lost")


async def test_retained_volume_stays_released_when_a_claim_of_the_same_name_returns(cluster: Cluster) -> None:
    cluster.objects.create(build_claim("data"))
    cluster.provision(persistentVolumeReclaimPolicy="Retain")
    await cluster.bound()
    cluster.objects.delete("persistentvolumeclaims", "data", "default")
    await cluster.until(lambda: cluster.volume()["status"]["phase"] == "Released")
    cluster.objects.create(build_claim("data"))
    await cluster.until(lambda: "volume.kubernetes.io/storage-provisioner" in cluster.annotations())
    await cluster.settled()
    assert cluster.volume()["status"]["phase"] == "Released"
    assert "volumeName" not in cluster.claim()["spec"]


async def test_attach_error_is_told_to_the_pod(cluster: Cluster) -> None:
    cluster.objects.create(build_claim("data"))
    cluster.provision()
    cluster.objects.create(build_pod("app", "data"))
    await cluster.until(cluster.attachments)
    cluster.attach(attached=False, error="no such disk")
    await cluster.until(lambda: cluster.events("FailedAttachVolume"))
    event = cluster.events("FailedAttachVolume")[0]
    assert "no such disk" in event["message"]
    assert event["involvedObject"]["name"] == "app"
    assert cluster.pod()["status"]["phase"] == "Pending"


async def test_driver_that_needs_no_attachment_gets_none(cluster: Cluster) -> None:
    driver = build_csi_driver(DRIVER)
    driver["spec"]["attachRequired"] = False
    cluster.objects.create(driver)
    await cluster.settled()
    cluster.objects.create(build_claim("data"))
    cluster.provision()
    cluster.objects.create(build_pod("app", "data"))
    await cluster.until(lambda: cluster.pod()["status"]["phase"] == "Running")
    assert cluster.attachments() == []


async def test_pods_are_left_alone_where_real_kubelets_run(tmp_path: Path) -> None:
    async with FakeAPIServer() as server:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        server.objects.create(build_node("n1"))
        cluster = Cluster(server)
        cluster.objects.create(build_pod("app", "data"))
        ready = asyncio.Event()
        options = ControllersOptions(kubeconfig=str(tmp_path / "kubeconfig"), pods=False)
        async with background(serve(options, on_ready=ready.set), name="controllers"):
            await ready.wait()
            await cluster.settled()
        assert "nodeName" not in cluster.pod()["spec"]
