"""DELETE: finalizers, preconditions, propagation, grace, and many at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.apiserver.client import ATTACHMENTS, CORE, VOLUMES, attachment, claim, config_map, pod, volume, with_meta

if TYPE_CHECKING:
    from tests.apiserver.client import Client
    from tests.apiserver.conftest import Server

HELD = "x.example.com/held"


async def test_delete_answers_with_the_last_state(server: Server, client: Client) -> None:
    made = (await client.post(ATTACHMENTS, attachment(server.name()))).ok(201)
    gone = (await client.delete(f"{ATTACHMENTS}/{server.name()}")).ok()
    assert (gone["kind"], gone.meta["uid"]) == ("VolumeAttachment", made.meta["uid"])
    (await client.get(f"{ATTACHMENTS}/{server.name()}")).refused(404, "NotFound")


@pytest.mark.parametrize("kind", ["configmaps", "secrets"])
async def test_delete_answers_with_a_status_for_plain_kinds(server: Server, client: Client, kind: str) -> None:
    path = f"{server.space}/{kind}"
    made = (await client.post(path, {"metadata": {"name": "m"}})).ok(201)
    answer = (await client.delete(f"{path}/m")).ok()
    assert (answer["kind"], answer["status"]) == ("Status", "Success")
    assert answer["details"] == {"name": "m", "kind": kind, "uid": made.meta["uid"]}


async def test_lease_answers_with_a_status(server: Server, client: Client) -> None:
    (await client.post(server.leases, {"metadata": {"name": "l"}, "spec": {}})).ok(201)
    assert (await client.delete(f"{server.leases}/l")).ok()["status"] == "Success"


async def test_missing_object_is_not_found(server: Server, client: Client) -> None:
    (await client.delete(f"{VOLUMES}/{server.name()}")).refused(404, "NotFound")


async def test_finalizers_hold_the_object(server: Server, client: Client) -> None:
    url = f"{server.maps}/m"
    (await client.post(server.maps, with_meta(config_map("m"), finalizers=[HELD]))).ok(201)
    marked = (await client.delete(url)).ok()
    assert marked.meta["deletionTimestamp"].endswith("Z")
    assert marked.meta["deletionGracePeriodSeconds"] == 0
    again = (await client.delete(url)).ok()
    assert again.meta["deletionTimestamp"] == marked.meta["deletionTimestamp"]
    assert again.revision == marked.revision
    (await client.json_patch(url, [{"op": "remove", "path": "/metadata/finalizers/0"}])).ok()
    (await client.get(url)).refused(404, "NotFound")


async def test_object_on_its_way_out_may_change(server: Server, client: Client) -> None:
    (await client.post(server.maps, with_meta(config_map("m"), finalizers=[HELD]))).ok(201)
    (await client.delete(f"{server.maps}/m")).ok()
    changed = (await client.merge(f"{server.maps}/m", {"data": {"a": "1"}, "metadata": {"labels": {"a": "b"}}})).ok()
    assert (changed["data"], changed.meta["labels"]) == ({"a": "1"}, {"a": "b"})


async def test_object_on_its_way_out_gets_no_new_finalizer(server: Server, client: Client) -> None:
    (await client.post(server.maps, with_meta(config_map("m"), finalizers=[HELD]))).ok(201)
    (await client.delete(f"{server.maps}/m")).ok()
    patch = {"metadata": {"finalizers": [HELD, "x.example.com/new"]}}
    answer = (await client.merge(f"{server.maps}/m", patch)).refused(422, "Invalid")
    assert set(answer.causes) == {
        (
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new "
            'finalizers []string{"x.example.com/new"}'
        )
    }


async def test_deletion_cannot_be_taken_back(server: Server, client: Client) -> None:
    (await client.post(server.maps, with_meta(config_map("m"), finalizers=[HELD]))).ok(201)
    marked = (await client.delete(f"{server.maps}/m")).ok()
    changed = await client.merge(f"{server.maps}/m", {"metadata": {"deletionTimestamp": None, "labels": {"a": "b"}}})
    assert changed.ok().meta["deletionTimestamp"] == marked.meta["deletionTimestamp"]


async def test_name_is_taken_until_the_object_is_gone(server: Server, client: Client) -> None:
    (await client.post(ATTACHMENTS, with_meta(attachment(server.name()), finalizers=[HELD]))).ok(201)
    (await client.delete(f"{ATTACHMENTS}/{server.name()}")).ok()
    answer = (await client.post(ATTACHMENTS, attachment(server.name()))).refused(409, "AlreadyExists")
    assert answer["message"] == (
        f'object is being deleted: volumeattachments.storage.k8s.io "{server.name()}" already exists'
    )


async def test_last_finalizer_removed_by_put_ends_the_object(server: Server, client: Client) -> None:
    (await client.post(VOLUMES, volume(server.name()))).ok(201)
    marked = (await client.delete(f"{VOLUMES}/{server.name()}")).ok()
    body = marked.body
    del body["metadata"]["finalizers"]
    (await client.put(f"{VOLUMES}/{server.name()}", body)).ok()
    (await client.get(f"{VOLUMES}/{server.name()}")).refused(404, "NotFound")


async def test_status_write_does_not_end_the_object(server: Server, client: Client) -> None:
    (await client.post(ATTACHMENTS, with_meta(attachment(server.name()), finalizers=[HELD]))).ok(201)
    (await client.delete(f"{ATTACHMENTS}/{server.name()}")).ok()
    (await client.merge(f"{ATTACHMENTS}/{server.name()}/status", {"status": {"attached": True}})).ok()
    assert (await client.get(f"{ATTACHMENTS}/{server.name()}")).ok()["status"] == {"attached": True}


async def test_uid_precondition(server: Server, client: Client) -> None:
    made = (await client.post(ATTACHMENTS, attachment(server.name()))).ok(201)
    url = f"{ATTACHMENTS}/{server.name()}"
    answer = (await client.delete(url, {"preconditions": {"uid": "other"}})).refused(409, "Conflict")
    assert answer["message"] == (
        f'Operation cannot be fulfilled on VolumeAttachment.storage.k8s.io "{server.name()}": the UID in the '
        f"precondition (other) does not match the UID in record ({made.meta['uid']}). The object might have been "
        "deleted and then recreated"
    )
    (await client.delete(url, {"preconditions": {"uid": made.meta["uid"]}})).ok()


async def test_revision_precondition(server: Server, client: Client) -> None:
    made = (await client.post(server.maps, config_map("m"))).ok(201)
    answer = await client.delete(f"{server.maps}/m", {"preconditions": {"resourceVersion": "1"}})
    answer.refused(409, "Conflict")
    assert (
        "the ResourceVersion in the precondition (1) does not match the ResourceVersion in record" in answer["message"]
    )
    (await client.delete(f"{server.maps}/m", {"preconditions": {"resourceVersion": made.revision}})).ok()


async def test_dry_run_deletes_nothing(server: Server, client: Client) -> None:
    (await client.post(server.maps, config_map("m"))).ok(201)
    (await client.delete(f"{server.maps}/m", dryRun="All")).ok()
    (await client.delete(f"{server.maps}/m", {"dryRun": ["All"]})).ok()
    (await client.get(f"{server.maps}/m")).ok()


OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "policy": (
        {"propagationPolicy": "Sometimes"},
        (
            'propagationPolicy: Unsupported value: "Sometimes": supported values: "Foreground", "Background", '
            '"Orphan", "nil"'
        ),
    ),
    "both": (
        {"propagationPolicy": "Orphan", "orphanDependents": True},
        'propagationPolicy: Invalid value: "Orphan": orphanDependents and deletionPropagation cannot be both set',
    ),
    "dry run": ({"dryRun": ["x"]}, 'dryRun: Unsupported value: ["x"]: supported values: "All"'),
}


@pytest.mark.parametrize(("options", "cause"), list(OPTIONS.values()), ids=list(OPTIONS))
async def test_illegal_options(server: Server, client: Client, options: dict[str, Any], cause: str) -> None:
    (await client.post(server.maps, config_map("m"))).ok(201)
    answer = (await client.delete(f"{server.maps}/m", options)).refused(422, "Invalid")
    assert answer["message"] == f'DeleteOptions.meta.k8s.io "" is invalid: {cause}'
    (await client.get(f"{server.maps}/m")).ok()


async def test_unreadable_options_are_a_bad_request(server: Server, client: Client) -> None:
    (await client.post(server.maps, config_map("m"))).ok(201)
    (await client.request("DELETE", f"{server.maps}/m", raw=b"{")).refused(400, "BadRequest")
    (await client.get(f"{server.maps}/m")).ok()


async def test_orphan_and_foreground_add_their_finalizer(server: Server, client: Client) -> None:
    for policy, finalizer in (("Orphan", "orphan"), ("Foreground", "foregroundDeletion")):
        name = server.name(policy.lower())
        (await client.post(ATTACHMENTS, with_meta(attachment(name), finalizers=[HELD]))).ok(201)
        marked = (await client.delete(f"{ATTACHMENTS}/{name}", {"propagationPolicy": policy})).ok()
        assert sorted(marked.meta["finalizers"]) == sorted([finalizer, HELD])
        assert marked.meta["deletionTimestamp"]


async def test_policy_may_come_by_query(server: Server, client: Client) -> None:
    (await client.post(ATTACHMENTS, with_meta(attachment(server.name()), finalizers=[HELD]))).ok(201)
    marked = (await client.delete(f"{ATTACHMENTS}/{server.name()}", propagationPolicy="Foreground")).ok()
    assert "foregroundDeletion" in marked.meta["finalizers"]


async def test_background_leaves_no_finalizer(server: Server, client: Client) -> None:
    (await client.post(ATTACHMENTS, attachment(server.name()))).ok(201)
    (await client.delete(f"{ATTACHMENTS}/{server.name()}", {"propagationPolicy": "Background"})).ok()
    (await client.get(f"{ATTACHMENTS}/{server.name()}")).refused(404, "NotFound")


async def test_pod_on_a_node_ends_gracefully(server: Server, client: Client) -> None:
    url = f"{server.pods}/p"
    (await client.post(server.pods, pod("p", nodeName="n1"))).ok(201)
    marked = (await client.delete(url)).ok()
    assert marked.meta["deletionGracePeriodSeconds"] == 30
    shorter = (await client.delete(url, {"gracePeriodSeconds": 5})).ok()
    assert shorter.meta["deletionGracePeriodSeconds"] == 5
    longer = (await client.delete(url, {"gracePeriodSeconds": 60})).ok()
    assert longer.meta["deletionGracePeriodSeconds"] == 5
    (await client.delete(url, {"gracePeriodSeconds": 0})).ok()
    (await client.get(url)).refused(404, "NotFound")


async def test_pod_without_a_node_goes_at_once(server: Server, client: Client) -> None:
    (await client.post(server.pods, pod("p"))).ok(201)
    (await client.delete(f"{server.pods}/p")).ok()
    (await client.get(f"{server.pods}/p")).refused(404, "NotFound")


async def test_protected_claim_waits(server: Server, client: Client) -> None:
    (await client.post(server.claims, claim("c"))).ok(201)
    marked = (await client.delete(f"{server.claims}/c")).ok()
    assert marked.meta["finalizers"] == ["kubernetes.io/pvc-protection"]
    assert (await client.get(f"{server.claims}/c")).ok().meta["deletionTimestamp"]


async def test_delete_collection_takes_what_a_selector_names(server: Server, client: Client) -> None:
    for name, side in (("a", "x"), ("b", "y"), ("c", "x")):
        (await client.post(server.maps, with_meta(config_map(name), labels={"side": side}))).ok(201)
    gone = (await client.delete(server.maps, labelSelector="side=x")).ok()
    assert (gone["kind"], gone.names) == ("ConfigMapList", ["a", "c"])
    assert (await client.get(server.maps)).names == ["b"]


async def test_delete_collection_marks_what_is_held(server: Server, client: Client) -> None:
    (await client.post(server.maps, config_map("free"))).ok(201)
    (await client.post(server.maps, with_meta(config_map("held"), finalizers=[HELD]))).ok(201)
    (await client.delete(server.maps)).ok()
    left = (await client.get(server.maps)).ok()
    assert left.names == ["held"]
    assert left["items"][0]["metadata"]["deletionTimestamp"]


async def test_delete_collection_of_nothing(server: Server, client: Client) -> None:
    assert (await client.delete(server.maps)).ok()["items"] == []


async def test_namespaces_have_no_delete_collection(client: Client) -> None:
    (await client.delete(f"{CORE}/namespaces")).refused(405, "MethodNotAllowed")


async def test_default_namespace_stays(client: Client) -> None:
    answer = (await client.delete(f"{CORE}/namespaces/default")).refused(403, "Forbidden")
    assert answer["message"] == 'namespaces "default" is forbidden: this namespace may not be deleted'


async def test_namespace_on_its_way_out_takes_no_more(server: Server, client: Client) -> None:
    # Held open by an object of its own, so that no controller can end it while the test looks.
    (await client.post(server.maps, with_meta(config_map("m"), finalizers=[HELD]))).ok(201)
    marked = (await client.delete(server.space)).ok()
    assert marked["status"]["phase"] == "Terminating"
    answer = (await client.post(server.maps, config_map("late"))).refused(403, "Forbidden")
    assert answer["message"] == (
        f'configmaps "late" is forbidden: unable to create new content in namespace {server.unique} because it is '
        "being terminated"
    )
    assert answer["details"]["causes"] == [
        {
            "reason": "NamespaceTerminating",
            "message": f"namespace {server.unique} is being terminated",
            "field": "metadata.namespace",
        }
    ]
    (await client.merge(f"{server.maps}/m", {"data": {"still": "here"}})).ok()
    await client.merge(f"{server.maps}/m", {"metadata": {"finalizers": None}})
