"""The official `kubernetes` client: typed, watch, dynamic, and its leader election."""

# mypy: ignore-errors
# Runs in the environment of the peers, which mypy does not look into.

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Any

from kubernetes import client, config, dynamic, watch
from steps import CLAIM, CLASS, DRIVER, refused, step, summary


def typed() -> None:
    core, storage = client.CoreV1Api(), client.StorageV1Api()
    with step("create a typed StorageClass"):
        made = storage.create_storage_class(
            client.V1StorageClass(metadata=client.V1ObjectMeta(name="official"), provisioner=DRIVER)
        )
        assert (made.reclaim_policy, made.volume_binding_mode) == ("Delete", "Immediate")
    with step("create, read, patch, replace and list claims"):
        spec = client.V1PersistentVolumeClaimSpec(
            access_modes=["ReadWriteOnce"],
            storage_class_name="official",
            resources=client.V1VolumeResourceRequirements(requests={"storage": "1Gi"}),
        )
        body = client.V1PersistentVolumeClaim(metadata=client.V1ObjectMeta(name="c"), spec=spec)
        claim = core.create_namespaced_persistent_volume_claim("default", body)
        assert claim.status.phase == "Pending"
        claim = core.patch_namespaced_persistent_volume_claim("c", "default", {"metadata": {"labels": {"a": "b"}}})
        claim.metadata.annotations = {"c": "d"}
        claim = core.replace_namespaced_persistent_volume_claim("c", "default", claim)
        assert claim.metadata.labels == {"a": "b"}
        assert claim.metadata.annotations == {"c": "d"}
        found = core.list_namespaced_persistent_volume_claim("default", label_selector="a=b")
        assert [item.metadata.name for item in found.items] == ["c"]
    with step("write the status of a claim"):
        claim = core.patch_namespaced_persistent_volume_claim_status("c", "default", {"status": {"phase": "Lost"}})
        assert claim.status.phase == "Lost"

    def is_missing(error: Any) -> bool:
        return '"reason":"NotFound"' in error.body

    with step("a missing object raises 404 with the reason"), refused(client.ApiException, is_missing):
        core.read_persistent_volume("none")
    with step("pages of a list"):
        for number in range(5):
            body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name=f"m{number}", labels={"page": "yes"}))
            core.create_namespaced_config_map("default", body)
        page = core.list_namespaced_config_map("default", label_selector="page=yes", limit=3)
        rest = core.list_namespaced_config_map(
            "default", label_selector="page=yes", limit=3, _continue=page.metadata._continue
        )
        assert len(page.items) + len(rest.items) == 5


def watching() -> None:
    core = client.CoreV1Api()
    with step("watch typed objects from a list on"):
        listed = core.list_namespaced_config_map("default")
        core.patch_namespaced_config_map("m0", "default", {"data": {"a": "b"}})
        core.delete_namespaced_config_map("m1", "default")
        seen = []
        for event in watch.Watch().stream(
            core.list_namespaced_config_map,
            "default",
            resource_version=listed.metadata.resource_version,
            timeout_seconds=5,
        ):
            seen.append((event["type"], event["object"].metadata.name))
            if len(seen) == 2:
                break
        assert seen == [("MODIFIED", "m0"), ("DELETED", "m1")]


def dynamically() -> None:
    found = dynamic.DynamicClient(client.ApiClient())
    with step("dynamic client: discovery, server-side apply, delete"):
        claims = found.resources.get(api_version="v1", kind="PersistentVolumeClaim")
        applied = claims.server_side_apply(body=CLAIM, field_manager="peer", namespace="default")
        assert applied.metadata.name == CLAIM["metadata"]["name"]
        assert claims.get(name=CLAIM["metadata"]["name"], namespace="default").status.phase == "Pending"
        claims.delete(name=CLAIM["metadata"]["name"], namespace="default")
    with step("dynamic client: a snapshot class, a kind it has no model for"):
        classes = found.resources.get(api_version="snapshot.storage.k8s.io/v1", kind="VolumeSnapshotClass")
        made = classes.create(
            body={
                "apiVersion": "snapshot.storage.k8s.io/v1",
                "kind": "VolumeSnapshotClass",
                "metadata": {"name": "official"},
                "driver": DRIVER,
                "deletionPolicy": "Delete",
            }
        )
        assert made.metadata.generation == 1
        classes.delete(name="official")
    with step("dynamic client: a class"):
        classes = found.resources.get(api_version="storage.k8s.io/v1", kind="StorageClass")
        classes.create(body=CLASS)
        classes.patch(
            name=CLASS["metadata"]["name"],
            body={"allowVolumeExpansion": True},
            content_type="application/merge-patch+json",
        )
        classes.delete(name=CLASS["metadata"]["name"])


def access() -> None:
    with step("SelfSubjectAccessReview"):
        attributes = client.V1ResourceAttributes(verb="get", resource="persistentvolumes")
        review = client.V1SelfSubjectAccessReview(
            spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
        )
        assert client.AuthorizationV1Api().create_self_subject_access_review(review).status.allowed
    with step("version and API groups"):
        assert client.VersionApi().get_code().major == "1"
        assert "storage.k8s.io" in [group.name for group in client.ApisApi().get_api_versions().groups]
    with step("delete what is left"):
        core = client.CoreV1Api()
        core.delete_collection_namespaced_config_map("default", label_selector="page=yes")
        core.delete_namespaced_persistent_volume_claim("c", "default")
        client.StorageV1Api().delete_storage_class("official")


if __name__ == "__main__":
    config.load_kube_config(sys.argv[1])
    typed()
    watching()
    dynamically()
    access()
    summary("kubernetes", version("kubernetes"))
