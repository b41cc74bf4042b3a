"""kubernetes-asyncio: typed, watch and dynamic."""

# mypy: ignore-errors
# Runs in the environment of the peers, which mypy does not look into.

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version

from kubernetes_asyncio import client, config, watch
from kubernetes_asyncio.client.api_client import ApiClient
from kubernetes_asyncio.dynamic import DynamicClient
from steps import CLAIM, DRIVER, refused, step, summary


async def typed(api: ApiClient) -> None:
    core, storage = client.CoreV1Api(api), client.StorageV1Api(api)
    with step("create a typed PersistentVolume with a CSI source"):
        source = client.V1CSIPersistentVolumeSource(driver=DRIVER, volume_handle="h")
        spec = client.V1PersistentVolumeSpec(
            access_modes=["ReadWriteOnce"], capacity={"storage": "1Gi"}, csi=source, storage_class_name="s"
        )
        made = await core.create_persistent_volume(
            client.V1PersistentVolume(metadata=client.V1ObjectMeta(name="async"), spec=spec)
        )
        assert made.status.phase == "Pending"
        assert made.metadata.finalizers == ["kubernetes.io/pv-protection"]
    with step("create a VolumeAttachment and write its status"):
        attachment = client.V1VolumeAttachment(
            metadata=client.V1ObjectMeta(name="async"),
            spec=client.V1VolumeAttachmentSpec(
                attacher=DRIVER,
                node_name="n1",
                source=client.V1VolumeAttachmentSource(persistent_volume_name="async"),
            ),
        )
        made = await storage.create_volume_attachment(attachment)
        assert made.status.attached is False
        made = await storage.patch_volume_attachment_status("async", {"status": {"attached": True}})
        assert made.status.attached is True
    with step("three patch types"):
        operations = [{"op": "add", "path": "/metadata/labels", "value": {"json": "1"}}]
        await core.patch_persistent_volume("async", operations)
        await core.patch_persistent_volume(
            "async", {"metadata": {"labels": {"merge": "1"}}}, _content_type="application/merge-patch+json"
        )
        made = await core.patch_persistent_volume("async", {"metadata": {"labels": {"strategic": "1"}}})
        assert set(made.metadata.labels) == {"json", "merge", "strategic"}
    with step("a conflict raises 409"):
        stale = await core.read_persistent_volume("async")
        await core.patch_persistent_volume("async", {"metadata": {"labels": {"newer": "1"}}})
        with refused(client.ApiException, lambda error: error.status == 409):
            await core.replace_persistent_volume("async", stale)
    with step("Lease with micro times"):
        lease = client.V1Lease(
            metadata=client.V1ObjectMeta(name="async"),
            spec=client.V1LeaseSpec(holder_identity="me", lease_duration_seconds=15),
        )
        made = await client.CoordinationV1Api(api).create_namespaced_lease("default", lease)
        assert made.spec.holder_identity == "me"
        await client.CoordinationV1Api(api).delete_namespaced_lease("async", "default")


async def watching(api: ApiClient) -> None:
    storage = client.StorageV1Api(api)
    with step("watch typed objects"):
        seen = []
        async with watch.Watch() as watcher:
            async for event in watcher.stream(storage.list_volume_attachment, timeout_seconds=5):
                seen.append((event["type"], event["object"].metadata.name))
                if len(seen) == 1:
                    await storage.delete_volume_attachment("async")
                if event["type"] == "DELETED":
                    break
        assert seen == [("ADDED", "async"), ("DELETED", "async")], seen


async def dynamically(api: ApiClient) -> None:
    with step("dynamic client: discovery, create, get, delete"):
        found = await DynamicClient(api)
        claims = await found.resources.get(api_version="v1", kind="PersistentVolumeClaim")
        await claims.create(body=CLAIM, namespace="default")
        got = await claims.get(name=CLAIM["metadata"]["name"], namespace="default")
        assert got.status.phase == "Pending"
        await claims.delete(name=CLAIM["metadata"]["name"], namespace="default")
    with step("dynamic client: a ReferenceGrant"):
        grants = await found.resources.get(api_version="gateway.networking.k8s.io/v1beta1", kind="ReferenceGrant")
        body = {
            "apiVersion": "gateway.networking.k8s.io/v1beta1",
            "kind": "ReferenceGrant",
            "metadata": {"name": "async"},
            "spec": {
                "from": [{"group": "", "kind": "PersistentVolumeClaim", "namespace": "far"}],
                "to": [{"group": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot"}],
            },
        }
        await grants.create(body=body, namespace="default")
        await grants.delete(name="async", namespace="default")


async def main() -> None:
    await config.load_kube_config(sys.argv[1])
    async with ApiClient() as api:
        await typed(api)
        await watching(api)
        await dynamically(api)
        with step("delete what is left"):
            await client.CoreV1Api(api).delete_persistent_volume("async")
    summary("kubernetes-asyncio", version("kubernetes_asyncio"))


if __name__ == "__main__":
    asyncio.run(main())
