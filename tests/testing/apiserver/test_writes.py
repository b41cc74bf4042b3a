"""Create, get, update and delete as a client sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from csisidecar.testing.apiserver import FakeAPIServer
from tests.testing.apiserver.conftest import CORE, STORAGE, Client, attachment, claim, storage_class, volume

if TYPE_CHECKING:
    import aiohttp

PVS = f"{CORE}/persistentvolumes"
PVCS = f"{CORE}/namespaces/default/persistentvolumeclaims"
VAS = f"{STORAGE}/volumeattachments"


async def test_created_object_has_what_the_server_adds(client: Client) -> None:
    answer = await client.post(PVS, volume())
    assert answer.status == 201
    assert answer["kind"] == "PersistentVolume"
    assert answer["apiVersion"] == "v1"
    assert answer.meta["finalizers"] == ["kubernetes.io/pv-protection"]
    assert answer.meta["uid"]
    assert int(answer.meta["resourceVersion"]) > 0
    assert answer["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert answer["spec"]["volumeMode"] == "Filesystem"
    assert answer["status"]["phase"] == "Pending"
    assert "generation" not in answer.meta
    again = await client.get(f"{PVS}/pv-1")
    assert again.body == answer.body


async def test_taken_name_is_already_exists(client: Client) -> None:
    await client.post(PVS, volume())
    answer = await client.post(PVS, volume())
    assert answer.status == 409
    assert answer.body == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'persistentvolumes "pv-1" already exists',
        "reason": "AlreadyExists",
        "details": {"name": "pv-1", "kind": "persistentvolumes"},
        "code": 409,
    }


async def test_missing_object_is_not_found(client: Client) -> None:
    answer = await client.get(f"{VAS}/x")
    assert answer.status == 404
    assert answer.body == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'volumeattachments.storage.k8s.io "x" not found',
        "reason": "NotFound",
        "details": {"name": "x", "group": "storage.k8s.io", "kind": "volumeattachments"},
        "code": 404,
    }


async def test_stale_update_is_a_conflict(client: Client) -> None:
    first = (await client.post(PVCS, claim())).body
    await client.merge(f"{PVCS}/c-1", {"metadata": {"labels": {"a": "b"}}})
    answer = await client.put(f"{PVCS}/c-1", first)
    assert answer.status == 409
    assert answer["reason"] == "Conflict"
    assert answer["message"] == (
        'Operation cannot be fulfilled on persistentvolumeclaims "c-1": the object has been modified; please apply '
        "your changes to the latest version and try again"
    )


async def test_status_and_spec_are_written_apart(client: Client) -> None:
    await client.post(VAS, {**attachment(), "status": {"attached": True}})
    created = await client.get(f"{VAS}/va-1")
    assert created["status"] == {"attached": False}
    answer = await client.merge(
        f"{VAS}/va-1/status", {"metadata": {"labels": {"a": "b"}}, "status": {"attached": True}}
    )
    assert answer["status"] == {"attached": True}
    assert "labels" not in answer.meta
    answer = await client.merge(f"{VAS}/va-1", {"status": {"attached": False}, "metadata": {"labels": {"c": "d"}}})
    assert answer["status"] == {"attached": True}
    assert answer.meta["labels"] == {"c": "d"}


async def test_volume_status_write_leaves_the_spec(client: Client) -> None:
    await client.post(PVS, volume())
    answer = await client.merge(
        f"{PVS}/pv-1/status", {"spec": {"persistentVolumeReclaimPolicy": "Delete"}, "status": {"phase": "Bound"}}
    )
    assert answer["status"]["phase"] == "Bound"
    assert answer["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


async def test_unchanged_write_keeps_the_resource_version(client: Client) -> None:
    created = (await client.post(PVCS, claim())).body
    answer = await client.put(f"{PVCS}/c-1", created)
    assert answer.body == created


async def test_object_with_finalizers_waits_for_them(client: Client) -> None:
    await client.post(PVCS, claim())
    answer = await client.delete(f"{PVCS}/c-1")
    assert answer.status == 200
    assert answer["kind"] == "PersistentVolumeClaim"
    assert answer.meta["deletionTimestamp"]
    assert answer.meta["deletionGracePeriodSeconds"] == 0
    refused = await client.post(PVCS, claim())
    assert refused["message"] == 'object is being deleted: persistentvolumeclaims "c-1" already exists'
    added = await client.merge(
        f"{PVCS}/c-1", {"metadata": {"finalizers": ["example.com/a", "kubernetes.io/pvc-protection"]}}
    )
    assert added.status == 422
    assert "no new finalizers can be added if the object is being deleted" in added["message"]
    last = await client.merge(f"{PVCS}/c-1", {"metadata": {"finalizers": None}})
    assert last.status == 200
    assert (await client.get(f"{PVCS}/c-1")).status == 404


async def test_delete_preconditions_are_checked(client: Client) -> None:
    made = (await client.post(VAS, attachment())).body
    answer = await client.delete(f"{VAS}/va-1", {"preconditions": {"uid": "other"}})
    assert answer.status == 409
    assert "the UID in the precondition (other) does not match the UID in record" in answer["message"]
    answer = await client.delete(f"{VAS}/va-1", {"preconditions": {"resourceVersion": "1"}})
    assert answer.status == 409
    answer = await client.delete(f"{VAS}/va-1", {"preconditions": {"uid": made["metadata"]["uid"]}})
    assert answer.status == 200
    assert answer["kind"] == "VolumeAttachment"


async def test_delete_of_a_lease_answers_with_a_status(client: Client) -> None:
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {}}
    made = await client.post(leases, lease)
    assert made.status == 201
    answer = await client.delete(f"{leases}/l")
    assert answer["status"] == "Success"
    assert answer["details"] == {
        "name": "l",
        "group": "coordination.k8s.io",
        "kind": "leases",
        "uid": made.meta["uid"],
    }


async def test_lease_update_needs_a_resource_version(client: Client) -> None:
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {}}
    await client.post(leases, lease)
    answer = await client.put(f"{leases}/l", lease)
    assert answer.status == 422
    assert answer["message"] == (
        'leases.coordination.k8s.io "l" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for '
        "an update"
    )


async def test_generated_names_differ(client: Client) -> None:
    body = claim("")
    body["metadata"] = {"generateName": "c-"}
    names = {(await client.post(PVCS, body)).meta["name"] for _ in range(5)}
    assert len(names) == 5
    assert all(name.startswith("c-") and len(name) == 7 for name in names)


async def test_dry_run_stores_nothing(client: Client, api: FakeAPIServer) -> None:
    answer = await client.post(PVS, volume(), dryRun="All")
    assert answer.status == 201
    assert answer.meta["uid"]
    assert "resourceVersion" not in answer.meta
    assert api.objects.get("persistentvolumes", "pv-1") is None
    await client.post(PVS, volume())
    await client.delete(f"{PVS}/pv-1", dryRun="All")
    await client.merge(f"{PVS}/pv-1", {"metadata": {"labels": {"a": "b"}}}, dryRun="All")
    stored = api.objects.get("persistentvolumes", "pv-1")
    assert stored is not None
    assert "deletionTimestamp" not in stored["metadata"]
    assert "labels" not in stored["metadata"]


async def test_claim_without_class_gets_the_default_one(client: Client) -> None:
    classes = f"{STORAGE}/storageclasses"
    assert "storageClassName" not in (await client.post(PVCS, claim("before")))["spec"]
    await client.post(classes, storage_class("fast", default=True))
    await client.post(classes, storage_class("slow"))
    answer = await client.post(PVCS, claim())
    assert answer["spec"]["storageClassName"] == "fast"
    assert (await client.post(PVCS, claim("none", storageClassName="")))["spec"]["storageClassName"] == ""


async def test_data_source_and_reference_mirror_each_other(client: Client) -> None:
    source = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"}
    answer = await client.post(PVCS, claim("a", dataSource=source))
    assert answer["spec"]["dataSourceRef"] == source
    answer = await client.post(PVCS, claim("b", dataSourceRef=source))
    assert answer["spec"]["dataSource"] == source
    answer = await client.post(PVCS, claim("d", dataSource={"apiGroup": "example.com", "kind": "Foo", "name": "f"}))
    assert "dataSource" not in answer["spec"]
    answer = await client.post(PVCS, claim("c", dataSourceRef={**source, "namespace": "other"}))
    assert "dataSource" not in answer["spec"]
    assert "dataSourceRef" not in answer["spec"]


async def test_source_in_another_namespace_needs_its_gate(session: aiohttp.ClientSession) -> None:
    source = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s", "namespace": "other"}
    async with FakeAPIServer(feature_gates=["CrossNamespaceVolumeDataSource"]) as api:
        answer = await Client(api.url, session).post(PVCS, claim(dataSourceRef=source))
    assert answer["spec"]["dataSourceRef"] == source
    assert "dataSource" not in answer["spec"]


async def test_mismatched_names_are_refused(client: Client) -> None:
    await client.post(PVCS, claim())
    answer = await client.put(f"{PVCS}/c-1", claim("other"))
    assert answer.status == 400
    assert answer["message"] == "the name of the object (other) does not match the name on the URL (c-1)"
    body = claim("x")
    body["metadata"]["namespace"] = "kube-system"
    answer = await client.post(PVCS, body)
    assert answer.status == 400
    assert answer["message"] == "the namespace of the provided object does not match the namespace sent on the request"


async def test_missing_namespace_is_not_found(client: Client) -> None:
    answer = await client.post(f"{CORE}/namespaces/nowhere/persistentvolumeclaims", claim())
    assert answer.status == 404
    assert answer["message"] == 'namespaces "nowhere" not found'


async def test_delete_collection_takes_what_a_selector_names(client: Client, api: FakeAPIServer) -> None:
    for name in ("a", "b", "c"):
        body = attachment(name)
        body["metadata"]["labels"] = {"keep": str(name == "c").lower()}
        await client.post(VAS, body)
    answer = await client.delete(VAS, labelSelector="keep=false")
    assert answer.status == 200
    assert [item["metadata"]["name"] for item in api.objects.list("volumeattachments")] == ["c"]


async def test_empty_values_are_not_stored(client: Client) -> None:
    body = volume()
    body["metadata"] |= {"labels": {}, "annotations": None, "finalizers": []}
    body["spec"]["storageClassName"] = ""
    body["spec"]["csi"] |= {"readOnly": False, "volumeAttributes": {}}
    answer = await client.post(PVS, body)
    assert "labels" not in answer.meta
    assert "annotations" not in answer.meta
    assert "storageClassName" not in answer["spec"]
    assert answer["spec"]["csi"] == {"driver": "d.example.com", "volumeHandle": "h-pv-1"}


async def test_pod_bound_to_a_node_ends_gracefully(client: Client) -> None:
    pods = f"{CORE}/namespaces/default/pods"
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}
    await client.post(pods, body)
    bound = await client.post(
        f"{pods}/p/binding", {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n-1"}}
    )
    assert bound.status == 201
    answer = await client.delete(f"{pods}/p")
    assert answer.meta["deletionGracePeriodSeconds"] == 30
    assert (await client.get(f"{pods}/p")).status == 200
    await client.delete(f"{pods}/p", {"gracePeriodSeconds": 0})
    assert (await client.get(f"{pods}/p")).status == 404


async def test_times_are_stored_as_go_writes_them(client: Client) -> None:
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
    spec = {"renewTime": "2026-01-01T02:00:00.500000+02:00", "acquireTime": "2026-01-01T00:00:00.123456Z"}
    made = await client.post(leases, {"metadata": {"name": "l"}, "spec": spec})
    assert made["spec"]["renewTime"] == "2026-01-01T00:00:00.500000Z"
    assert made["spec"]["acquireTime"] == "2026-01-01T00:00:00.123456Z"
    made.meta["creationTimestamp"] = made.meta["creationTimestamp"].replace("Z", "+00:00")
    assert (await client.put(f"{leases}/l", made.body)).status == 200
    wrong = await client.post(leases, {"metadata": {"name": "m"}, "spec": {"renewTime": "soon"}})
    assert wrong.status == 400
