"""lightkube: typed models, watch, server-side apply, wait, and a generic resource."""

# mypy: ignore-errors
# Runs in the environment of the peers, which mypy does not look into.

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Any

from lightkube import Client, KubeConfig
from lightkube.core.exceptions import ApiError
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.core_v1 import PersistentVolumeClaimSpec, VolumeResourceRequirements
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap, PersistentVolumeClaim, PersistentVolumeClaimStatus
from lightkube.resources.storage_v1 import StorageClass
from lightkube.types import PatchType
from steps import DRIVER, refused, step, summary


def main() -> None:
    client = Client(config=KubeConfig.from_file(sys.argv[1]), field_manager="peer", namespace="default")
    with step("create a typed StorageClass"):
        made = client.create(StorageClass(metadata=ObjectMeta(name="light"), provisioner=DRIVER))
        assert made.reclaimPolicy == "Delete"
    with step("server-side apply of a claim, twice"):
        claim = PersistentVolumeClaim(
            apiVersion="v1",
            kind="PersistentVolumeClaim",
            metadata=ObjectMeta(name="light", namespace="default"),
            spec=PersistentVolumeClaimSpec(
                accessModes=["ReadWriteOnce"],
                storageClassName="light",
                resources=VolumeResourceRequirements(requests={"storage": "1Gi"}),
            ),
        )
        first = client.apply(claim)
        assert client.apply(claim).metadata.resourceVersion == first.metadata.resourceVersion
    with step("patch in three types"):
        client.patch(PersistentVolumeClaim, "light", {"metadata": {"labels": {"a": "1"}}}, patch_type=PatchType.MERGE)
        client.patch(
            PersistentVolumeClaim,
            "light",
            [{"op": "test", "path": "/metadata/labels/a", "value": "1"}],
            patch_type=PatchType.JSON,
        )
        got = client.patch(PersistentVolumeClaim, "light", {"metadata": {"labels": {"b": "2"}}})
        assert got.metadata.labels == {"a": "1", "b": "2"}
    with step("status subresource"):
        got = client.patch(
            PersistentVolumeClaimStatus, "light", {"status": {"phase": "Lost"}}, patch_type=PatchType.MERGE
        )
        assert got.status.phase == "Lost"
    with step("list with selectors and pages"):
        for number in range(5):
            client.create(ConfigMap(metadata=ObjectMeta(name=f"light-{number}", labels={"light": "yes"})))
        names = [item.metadata.name for item in client.list(ConfigMap, labels={"light": "yes"}, chunk_size=2)]
        assert names == [f"light-{number}" for number in range(5)]
    with step("watch"):
        for change, item in client.watch(PersistentVolumeClaim, fields={"metadata.name": "light"}):
            if change == "ADDED":
                client.patch(PersistentVolumeClaim, "light", {"metadata": {"labels": {"watched": "1"}}})
            elif change == "MODIFIED":
                assert item.metadata.labels["watched"] == "1"
                break
    with step("a generic resource"):
        snapshots = create_namespaced_resource("snapshot.storage.k8s.io", "v1", "VolumeSnapshot", "volumesnapshots")
        client.create(
            snapshots(metadata={"name": "light"}, spec={"source": {"persistentVolumeClaimName": "light"}}),
            namespace="default",
        )
        assert client.get(snapshots, "light").spec["source"]["persistentVolumeClaimName"] == "light"
        client.delete(snapshots, "light")

    def is_missing(error: Any) -> bool:
        return bool((error.status.code, error.status.reason) == (404, "NotFound"))

    with step("errors carry the Status"), refused(ApiError, is_missing):
        client.get(PersistentVolumeClaim, "none")
    with step("delete what is left"):
        client.deletecollection(ConfigMap)
        client.delete(PersistentVolumeClaim, "light")
        client.delete(StorageClass, "light")
    summary("lightkube", version("lightkube"))


if __name__ == "__main__":
    main()
