"""PUT: whole objects replaced, spec and status apart, and writers that collide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.apiserver.client import (
    ATTACHMENTS,
    CLASSES,
    CORE,
    VOLUMES,
    attachment,
    claim,
    config_map,
    pod,
    storage_class,
    volume,
    with_meta,
)

if TYPE_CHECKING:
    from tests.apiserver.client import Client
    from tests.apiserver.conftest import Server

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


async def test_update_replaces_the_whole_object(server: Server, client: Client) -> None:
    made = (await client.post(server.maps, with_meta(config_map("m", a="1", b="2"), labels={"x": "y"}))).ok(201)
    body = {**made.body, "data": {"a": "3"}}
    del body["metadata"]["labels"]
    changed = (await client.put(f"{server.maps}/m", body)).ok()
    assert changed["data"] == {"a": "3"}
    assert "labels" not in changed.meta
    assert int(changed.revision) > int(made.revision)
    assert changed.meta["uid"] == made.meta["uid"]


async def test_stale_update_is_a_conflict(server: Server, client: Client) -> None:
    made = (await client.post(ATTACHMENTS, attachment(server.name()))).ok(201)
    url = f"{ATTACHMENTS}/{server.name()}"
    (await client.merge(url, {"metadata": {"labels": {"a": "b"}}})).ok()
    answer = (await client.put(url, made.body)).refused(409, "Conflict")
    assert answer["message"] == (
        f'Operation cannot be fulfilled on volumeattachments.storage.k8s.io "{server.name()}": {MODIFIED}'
    )
    assert answer["details"] == {"name": server.name(), "group": "storage.k8s.io", "kind": "volumeattachments"}


async def test_unchanged_update_keeps_the_revision(server: Server, client: Client) -> None:
    made = (await client.post(server.maps, config_map("m", a="1"))).ok(201)
    assert (await client.put(f"{server.maps}/m", made.body)).ok().revision == made.revision


@pytest.mark.parametrize("kind", ["volume", "claim", "map"])
async def test_update_without_a_revision_overwrites(server: Server, client: Client, kind: str) -> None:
    path, body = {
        "volume": (VOLUMES, volume(server.name())),
        "claim": (server.claims, claim(server.name(), storageClassName="a")),
        "map": (server.maps, config_map(server.name())),
    }[kind]
    (await client.post(path, body)).ok(201)
    changed = (await client.put(f"{path}/{server.name()}", with_meta(body, labels={"a": "b"}))).ok()
    assert changed.meta["labels"] == {"a": "b"}


@pytest.mark.parametrize("kind", ["attachment", "lease", "capacity"])
async def test_update_without_a_revision_is_invalid(server: Server, client: Client, kind: str) -> None:
    path, body, resource = {
        "attachment": (ATTACHMENTS, attachment(server.name()), "volumeattachments.storage.k8s.io"),
        "lease": (server.leases, {"metadata": {"name": server.name()}, "spec": {}}, "leases.coordination.k8s.io"),
        "capacity": (
            server.capacities,
            {"metadata": {"name": server.name()}, "storageClassName": "a"},
            "csistoragecapacities.storage.k8s.io",
        ),
    }[kind]
    (await client.post(path, body)).ok(201)
    answer = (await client.put(f"{path}/{server.name()}", body)).refused(422, "Invalid")
    assert answer["message"] == (
        f'{resource} "{server.name()}" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for '
        "an update"
    )


async def test_other_name_in_the_body_is_refused(server: Server, client: Client) -> None:
    (await client.post(server.maps, config_map("m"))).ok(201)
    answer = (await client.put(f"{server.maps}/m", config_map("other"))).refused(400, "BadRequest")
    assert answer["message"] == "the name of the object (other) does not match the name on the URL (m)"


async def test_body_without_a_name_is_refused(server: Server, client: Client) -> None:
    (await client.post(server.maps, config_map("m"))).ok(201)
    answer = (await client.put(f"{server.maps}/m", {"metadata": {}, "data": {}})).refused(400, "BadRequest")
    assert answer["message"] == ("the name of the object (m based on URL) was undeterminable: name must be provided")


async def test_update_of_another_incarnation_is_a_conflict(server: Server, client: Client) -> None:
    made = (await client.post(server.maps, config_map("m"))).ok(201)
    (await client.delete(f"{server.maps}/m")).ok()
    (await client.post(server.maps, config_map("m"))).ok(201)
    body = with_meta(config_map("m"), uid=made.meta["uid"])
    answer = (await client.put(f"{server.maps}/m", body)).refused(409, "Conflict")
    assert f"Precondition failed: UID in precondition: {made.meta['uid']}, UID in object meta: " in answer["message"]


async def test_server_metadata_does_not_change(server: Server, client: Client) -> None:
    made = (await client.post(server.maps, config_map("m"))).ok(201)
    body = with_meta(config_map("m", a="1"), creationTimestamp=None, generation=9)
    changed = (await client.put(f"{server.maps}/m", body)).ok()
    assert changed.meta["creationTimestamp"] == made.meta["creationTimestamp"]
    assert changed.meta["uid"] == made.meta["uid"]
    assert changed.meta.get("generation") == made.meta.get("generation")


async def test_dry_run_update_changes_nothing(server: Server, client: Client) -> None:
    made = (await client.post(server.maps, config_map("m", a="1"))).ok(201)
    answer = (await client.put(f"{server.maps}/m", config_map("m", a="2"), dryRun="All")).ok()
    assert answer["data"] == {"a": "2"}
    assert (await client.get(f"{server.maps}/m")).body == made.body


async def test_status_is_left_alone_by_a_write_to_the_object(server: Server, client: Client) -> None:
    made = (await client.post(VOLUMES, volume(server.name()))).ok(201)
    body = with_meta(made.body, labels={"a": "b"}) | {"status": {"phase": "Failed", "message": "mine"}}
    changed = (await client.put(f"{VOLUMES}/{server.name()}", body)).ok()
    assert changed["status"] == made["status"]
    assert changed.meta["labels"] == {"a": "b"}


async def test_spec_is_left_alone_by_a_write_to_the_status(server: Server, client: Client) -> None:
    made = (await client.post(VOLUMES, volume(server.name()))).ok(201)
    body = {**made.body, "spec": {**made["spec"], "persistentVolumeReclaimPolicy": "Delete"}}
    body["status"] = {"phase": "Released"}
    changed = (await client.put(f"{VOLUMES}/{server.name()}/status", body)).ok()
    assert changed["spec"] == made["spec"]
    assert changed["status"]["phase"] == "Released"


async def test_status_of_an_attachment_keeps_its_metadata(server: Server, client: Client) -> None:
    made = (await client.post(ATTACHMENTS, attachment(server.name()))).ok(201)
    body = with_meta(made.body, annotations={"a": "b"}, finalizers=["x.example.com/y"]) | {"status": {"attached": True}}
    changed = (await client.put(f"{ATTACHMENTS}/{server.name()}/status", body)).ok()
    assert changed["status"] == {"attached": True}
    assert "annotations" not in changed.meta
    assert "finalizers" not in changed.meta


async def test_status_of_a_claim_may_carry_labels(server: Server, client: Client) -> None:
    made = (await client.post(server.claims, claim("c"))).ok(201)
    body = with_meta(made.body, labels={"a": "b"}) | {"status": {"phase": "Lost"}}
    changed = (await client.put(f"{server.claims}/c/status", body)).ok()
    assert (changed["status"]["phase"], changed.meta["labels"]) == ("Lost", {"a": "b"})


async def test_status_is_read_by_its_own_path(server: Server, client: Client) -> None:
    made = (await client.post(server.claims, claim("c"))).ok(201)
    assert (await client.get(f"{server.claims}/c/status")).ok().body == made.body


async def test_phase_change_notes_its_time(server: Server, client: Client) -> None:
    made = (await client.post(VOLUMES, volume(server.name()))).ok(201)
    assert made["status"]["lastPhaseTransitionTime"]
    url = f"{VOLUMES}/{server.name()}/status"
    long_ago = {"phase": "Bound", "lastPhaseTransitionTime": "2001-01-01T00:00:00Z"}
    changed = (await client.put(url, {**made.body, "status": long_ago})).ok()
    assert changed["status"] == long_ago


async def test_data_of_an_immutable_map_does_not_change(server: Server, client: Client) -> None:
    (await client.post(server.maps, {**config_map("m", a="1"), "immutable": True})).ok(201)
    answer = (await client.merge(f"{server.maps}/m", {"data": {"a": "2"}})).refused(422, "Invalid")
    assert answer.causes == ["data: Forbidden: field is immutable when `immutable` is set"]


IMMUTABLE: dict[str, tuple[str, dict[str, Any], str]] = {
    "volume source": (
        "volume",
        {"spec": {"csi": {"volumeHandle": "other"}}},
        "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation",
    ),
    "volume mode": (
        "volume",
        {"spec": {"volumeMode": "Block"}},
        'volumeMode: Invalid value: "Block": field is immutable',
    ),
    "claim modes": (
        "claim",
        {"spec": {"accessModes": ["ReadWriteMany"]}},
        (
            "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName "
            "for bound claims"
        ),
    ),
    "claim size": (
        "claim",
        {"spec": {"resources": {"requests": {"storage": "2Gi"}}}},
        (
            "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName "
            "for bound claims"
        ),
    ),
    "class parameters": (
        "class",
        {"parameters": {"a": "c"}},
        'parameters: Invalid value: {"a":"c"}: field is immutable',
    ),
    "class provisioner": ("class", {"provisioner": "x"}, 'provisioner: Invalid value: "x": field is immutable'),
    "class policy": (
        "class",
        {"reclaimPolicy": "Retain"},
        'reclaimPolicy: Invalid value: "Retain": field is immutable',
    ),
    "class binding": (
        "class",
        {"volumeBindingMode": "WaitForFirstConsumer"},
        'volumeBindingMode: Invalid value: "WaitForFirstConsumer": field is immutable',
    ),
    "attachment": ("attachment", {"spec": {"nodeName": "other"}}, "spec: Invalid value: "),
    "driver": (
        "driver",
        {"spec": {"attachRequired": False}},
        "spec.attachedRequired: Invalid value: false: field is immutable",
    ),
    "driver modes": (
        "driver",
        {"spec": {"volumeLifecycleModes": ["Ephemeral"]}},
        'spec.volumeLifecycleModes: Invalid value: ["Ephemeral"]: field is immutable',
    ),
    "capacity class": (
        "capacity",
        {"storageClassName": "other"},
        'storageClassName: Invalid value: "other": field is immutable',
    ),
    "attributes": (
        "attributes",
        {"parameters": {"a": "c"}},
        "parameters: Forbidden: updates to parameters are forbidden.",
    ),
    "attributes driver": (
        "attributes",
        {"driverName": "other"},
        "driverName: Forbidden: updates to driverName are forbidden.",
    ),
    "secret type": ("secret", {"type": "other"}, 'type: Invalid value: "other": field is immutable'),
    "node of a driver": (
        "csinode",
        {"spec": {"drivers": [{"name": "d", "nodeID": "other"}]}},
        "spec.drivers: Invalid value: ",
    ),
    "pod": ("pod", {"spec": {"nodeName": "n2"}}, "spec: Forbidden: pod updates may not change fields other than "),
}


@pytest.mark.parametrize(("kind", "patch", "cause"), list(IMMUTABLE.values()), ids=list(IMMUTABLE))
async def test_immutable_fields(server: Server, client: Client, kind: str, patch: Any, cause: str) -> None:
    name = server.name()
    storage = "/apis/storage.k8s.io/v1"
    path, body = {
        "volume": (VOLUMES, volume(name)),
        "claim": (server.claims, claim(name, storageClassName="a")),
        "class": (CLASSES, storage_class(name, parameters={"a": "b"})),
        "attachment": (ATTACHMENTS, attachment(name)),
        "driver": (f"{storage}/csidrivers", {"metadata": {"name": name}, "spec": {}}),
        "capacity": (server.capacities, {"metadata": {"name": name}, "storageClassName": "a"}),
        "attributes": (
            f"{storage}/volumeattributesclasses",
            {"metadata": {"name": name}, "driverName": "d", "parameters": {"a": "b"}},
        ),
        "secret": (f"{server.space}/secrets", {"metadata": {"name": name}}),
        "csinode": (
            f"{storage}/csinodes",
            {"metadata": {"name": name}, "spec": {"drivers": [{"name": "d", "nodeID": "n"}]}},
        ),
        "pod": (server.pods, pod(name, nodeName="n1")),
    }[kind]
    (await client.post(path, body)).ok(201)
    answer = (await client.merge(f"{path}/{name}", patch)).refused(422, "Invalid")
    assert [found for found in answer.causes if found.startswith(cause)], answer.causes
    await client.delete(f"{path}/{name}")


ALLOWED: dict[str, tuple[str, dict[str, Any]]] = {
    "volume size": ("volume", {"spec": {"capacity": {"storage": "2Gi"}}}),
    "volume policy": ("volume", {"spec": {"persistentVolumeReclaimPolicy": "Delete"}}),
    "volume claim": ("volume", {"spec": {"claimRef": {"namespace": "n", "name": "c"}}}),
    "expand secret": ("volume", {"spec": {"csi": {"controllerExpandSecretRef": {"name": "a", "namespace": "b"}}}}),
    "claim volume": ("claim", {"spec": {"volumeName": "v"}}),
    "class expansion": ("class", {"allowVolumeExpansion": True}),
    "class mount options": ("class", {"mountOptions": ["a"]}),
}


@pytest.mark.parametrize(("kind", "patch"), list(ALLOWED.values()), ids=list(ALLOWED))
async def test_fields_that_may_change(server: Server, client: Client, kind: str, patch: Any) -> None:
    name = server.name()
    path, body = {
        "volume": (VOLUMES, volume(name)),
        "claim": (server.claims, claim(name, storageClassName="a")),
        "class": (CLASSES, storage_class(name)),
    }[kind]
    (await client.post(path, body)).ok(201)
    (await client.merge(f"{path}/{name}", patch)).ok()


async def test_claim_gets_its_class_once(server: Server, client: Client) -> None:
    """A class may be filled in on a claim that has none, and stays."""
    (await client.post(server.claims, claim("c"))).ok(201)
    (await client.merge(f"{server.claims}/c", {"spec": {"storageClassName": "late"}})).ok()
    (await client.merge(f"{server.claims}/c", {"spec": {"storageClassName": "other"}})).refused(422, "Invalid")


async def test_bound_claim_may_grow_where_its_class_allows_it(server: Server, client: Client) -> None:
    url = f"{server.claims}/c"
    bigger = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
    bound = {"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}}
    (await client.post(CLASSES, storage_class(server.name("fixed")))).ok(201)
    (await client.post(server.claims, claim("c", storageClassName=server.name("fixed"), volumeName="v"))).ok(201)
    (await client.merge(f"{url}/status", bound)).ok()
    answer = (await client.merge(url, bigger)).refused(403, "Forbidden")
    assert answer["message"] == (
        'persistentvolumeclaims "c" is forbidden: only dynamically provisioned pvc can be resized and the '
        "storageclass that provisions the pvc must support resize"
    )
    (await client.merge(f"{CLASSES}/{server.name('fixed')}", {"allowVolumeExpansion": True})).ok()
    async_growth = await client.merge(url, bigger)
    for _ in range(50):  # the admission plugin hears of the class through a watch
        if async_growth.status == 200:
            break
        async_growth = await client.merge(url, bigger)
    assert async_growth.ok()["spec"]["resources"]["requests"]["storage"] == "2Gi"
    smaller = {"spec": {"resources": {"requests": {"storage": "1Gi"}}}}
    refused = (await client.merge(url, smaller)).refused(422, "Invalid")
    assert refused.causes == ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]


async def test_pod_image_may_change(server: Server, client: Client) -> None:
    (await client.post(server.pods, pod("p", nodeName="n"))).ok(201)
    patch = {"spec": {"containers": [{"name": "main", "image": "busybox:2"}]}}
    changed = (await client.strategic(f"{server.pods}/p", patch)).ok()
    assert changed["spec"]["containers"][0]["image"] == "busybox:2"


async def test_node_name_is_set_by_binding(server: Server, client: Client) -> None:
    (await client.post(server.pods, pod("p"))).ok(201)
    body = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "p"},
        "target": {"kind": "Node", "name": "n1"},
    }
    answer = (await client.post(f"{server.pods}/p/binding", body)).ok(201)
    assert (answer["kind"], answer["status"]) == ("Status", "Success")
    found = (await client.get(f"{server.pods}/p")).ok()
    assert found["spec"]["nodeName"] == "n1"
    assert ("PodScheduled", "True") in [(item["type"], item["status"]) for item in found["status"]["conditions"]]
    (await client.post(f"{server.pods}/p/binding", body)).refused(409, "Conflict")


async def test_events_are_one_kind_under_two_names(server: Server, client: Client) -> None:
    involved = {"kind": "Pod", "namespace": server.unique, "name": "p"}
    body = {"metadata": {"name": "e"}, "involvedObject": involved, "reason": "r", "message": "m", "type": "Normal"}
    made = (await client.post(f"{server.space}/events", body)).ok(201)
    other = f"/apis/events.k8s.io/v1/namespaces/{server.unique}/events/e"
    found = (await client.get(other)).ok()
    assert found.meta["uid"] == made.meta["uid"]
    assert (found["regarding"]["name"], found["note"], found["reason"]) == ("p", "m", "r")
    (await client.merge(f"{server.space}/events/e", {"count": 7})).ok()
    assert (await client.get(other)).ok()["deprecatedCount"] == 7


async def test_object_outside_of_namespaces_is_reported_in_default(server: Server, client: Client) -> None:
    involved = {"kind": "PersistentVolume", "name": "p"}
    body = {"metadata": {"name": server.name()}, "involvedObject": involved, "reason": "r", "type": "Normal"}
    (await client.post(f"{CORE}/namespaces/default/events", body)).ok(201)
    (await client.post(f"{server.space}/events", body)).refused(422, "Invalid")
    await client.delete(f"{CORE}/namespaces/default/events/{server.name()}")
