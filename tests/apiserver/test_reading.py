"""GET of one object and of collections: revisions, pages, and the ways of asking for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.apiserver.client import ATTACHMENTS, CORE, METADATA_LIST, STORAGE, TABLE, VOLUMES, config_map, volume

if TYPE_CHECKING:
    from tests.apiserver.client import Client
    from tests.apiserver.conftest import Server

FAR = "999999999999"


async def test_missing_object_is_not_found(server: Server, client: Client) -> None:
    answer = (await client.get(f"{ATTACHMENTS}/{server.name()}")).refused(404, "NotFound")
    assert answer["message"] == f'volumeattachments.storage.k8s.io "{server.name()}" not found'
    assert answer["details"] == {"name": server.name(), "group": "storage.k8s.io", "kind": "volumeattachments"}
    assert answer["metadata"] == {}


async def test_missing_core_object_has_no_group(server: Server, client: Client) -> None:
    answer = (await client.get(f"{server.claims}/none")).refused(404, "NotFound")
    assert answer["message"] == 'persistentvolumeclaims "none" not found'
    assert answer["details"] == {"name": "none", "kind": "persistentvolumeclaims"}


async def test_list_is_sorted_by_name_and_items_carry_no_kind(server: Server, client: Client) -> None:
    for name in ("b", "a", "c"):
        await client.post(server.maps, config_map(name))
    found = (await client.get(server.maps)).ok()
    assert found.names == ["a", "b", "c"]
    assert (found["kind"], found["apiVersion"]) == ("ConfigMapList", "v1")
    assert not {"kind", "apiVersion"} & set(found["items"][0])
    assert set(found.meta) == {"resourceVersion"}


async def test_list_of_nothing_is_an_empty_list(server: Server, client: Client) -> None:
    found = (await client.get(server.claims)).ok()
    assert found["items"] == []
    assert int(found.revision) > 0


async def test_list_of_a_namespace_that_never_was_is_empty(server: Server, client: Client) -> None:
    assert (await client.get(f"{CORE}/namespaces/{server.name('none')}/configmaps")).ok()["items"] == []


async def test_list_over_all_namespaces(server: Server, client: Client) -> None:
    await server.fill(1)
    found = (await client.get(f"{CORE}/configmaps", fieldSelector=f"metadata.namespace={server.unique}")).ok()
    assert found.names == ["m0"]


async def test_list_revision_is_not_older_than_its_newest_object(server: Server, client: Client) -> None:
    last = (await server.fill(2))[-1]
    assert int((await client.get(server.maps)).revision) >= int(last.revision)


async def test_pages_cover_the_list_and_show_one_revision(server: Server, client: Client) -> None:
    await server.fill(7)
    names, token, revisions, left = [], "", set(), []
    while True:
        query = {"limit": 3, **({"continue_": token} if token else {})}
        page = (await client.get(server.maps, **query)).ok()
        names += page.names
        revisions.add(page.revision)
        left.append(page.meta.get("remainingItemCount"))
        token = page.meta.get("continue", "")
        if not token:
            break
        await client.post(server.maps, config_map(f"m{len(names)}later"))
    assert names == [f"m{number}" for number in range(7)]
    assert len(revisions) == 1
    assert left == [4, 1, None]


async def test_limit_that_is_not_reached_gives_no_token(server: Server, client: Client) -> None:
    await server.fill(2)
    assert set((await client.get(server.maps, limit=2)).ok().meta) == {"resourceVersion"}


async def test_pages_with_a_selector_do_not_count_the_rest(server: Server, client: Client) -> None:
    for number in range(4):
        body = config_map(f"m{number}")
        body["metadata"]["labels"] = {"side": "even" if number % 2 == 0 else "odd"}
        await client.post(server.maps, body)
    page = (await client.get(server.maps, limit=1, labelSelector="side=even")).ok()
    assert page.names == ["m0"]
    assert "remainingItemCount" not in page.meta
    rest = (await client.get(server.maps, limit=5, labelSelector="side=even", continue_=page.meta["continue"])).ok()
    assert rest.names == ["m2"]


async def test_page_after_compaction_is_gone_and_offers_the_rest(server: Server, client: Client) -> None:
    await server.fill(3)
    token = (await client.get(server.maps, limit=1)).meta["continue"]
    await client.post(server.maps, config_map("m9"))
    await server.compact()
    answer = (await client.get(server.maps, limit=1, continue_=token)).refused(410, "Expired")
    assert "The provided continue parameter is too old to display a consistent list result" in answer["message"]
    rest = (await client.get(server.maps, continue_=answer.meta["continue"])).ok()
    assert rest.names == ["m1", "m2", "m9"]


@pytest.mark.parametrize("token", ["nonsense", "e30", "%%%"])
async def test_unreadable_token_is_a_bad_request(server: Server, client: Client, token: str) -> None:
    answer = (await client.get(server.maps, limit=1, continue_=token)).refused(400, "BadRequest")
    assert "continue key is not valid" in answer["message"]


async def test_token_and_revision_do_not_go_together(server: Server, client: Client) -> None:
    await server.fill(2)
    page = await client.get(server.maps, limit=1)
    answer = await client.get(server.maps, limit=1, continue_=page.meta["continue"], resourceVersion=page.revision)
    answer.refused(400, "BadRequest")
    assert answer["message"] == "specifying resource version is not allowed when using continue"


async def test_exact_revision_shows_the_past(server: Server, client: Client) -> None:
    made = await server.fill(2)
    await client.delete(f"{server.maps}/m0")
    query: dict[str, Any] = {"resourceVersion": made[1].revision, "resourceVersionMatch": "Exact"}
    found = (await client.get(server.maps, **query)).ok()
    assert found.names == ["m0", "m1"]
    assert found.revision == made[1].revision


async def test_exact_revision_that_was_compacted_is_gone(server: Server, client: Client) -> None:
    made = await server.fill(2)
    await client.post(server.maps, config_map("later"))
    await server.compact()
    query: dict[str, Any] = {"resourceVersion": made[0].revision, "resourceVersionMatch": "Exact"}
    answer = (await client.get(server.maps, **query)).refused(410, "Expired")
    assert "too old" in answer["message"] or "compacted" in answer["message"]


async def test_not_older_than_gives_the_present(server: Server, client: Client) -> None:
    made = await server.fill(3)
    query: dict[str, Any] = {"resourceVersion": made[0].revision, "resourceVersionMatch": "NotOlderThan"}
    assert (await client.get(server.maps, **query)).ok().names == ["m0", "m1", "m2"]


@pytest.mark.parametrize(
    ("query", "cause"),
    [
        (
            {"resourceVersionMatch": "Exact"},
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            {"resourceVersionMatch": "Exact", "resourceVersion": "0"},
            'resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"',
        ),
        (
            {"resourceVersionMatch": "Roughly", "resourceVersion": "1"},
            'resourceVersionMatch: Unsupported value: "Roughly": supported values: "Exact", "NotOlderThan", ""',
        ),
        (
            {"sendInitialEvents": "true"},
            "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
        ),
    ],
)
async def test_list_options_that_make_no_sense_are_invalid(
    server: Server, client: Client, query: dict[str, str], cause: str
) -> None:
    answer = (await client.get(server.maps, **query)).refused(422, "Invalid")
    assert answer.causes == [cause]
    assert answer["message"] == f'ListOptions.meta.k8s.io "" is invalid: {cause}'


async def test_list_of_the_future_times_out(server: Server, client: Client) -> None:
    answer = (await client.get(VOLUMES, resourceVersion=FAR)).refused(504, "Timeout")
    assert answer["message"].startswith(f"Timeout: Too large resource version: {FAR}, current: ")
    assert answer["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    assert answer["details"]["retryAfterSeconds"] == 1


@pytest.mark.parametrize("revision", ["x", "-1", "1.5", "99999999999999999999999"])
async def test_revision_that_is_no_number_is_refused(server: Server, client: Client, revision: str) -> None:
    answer = await client.get(VOLUMES, resourceVersion=revision)
    assert answer.status in {400, 422}
    assert f'parsing "{revision}"' in answer["message"]


async def test_revision_zero_gives_everything_whatever_the_limit(server: Server, client: Client) -> None:
    for suffix in "abc":
        (await client.post(VOLUMES, volume(server.name(suffix)))).ok(201)
    fields = {"limit": 1, "resourceVersion": "0"}
    # The cache of the real server may lag behind; one that has seen the third volume has seen all.
    found = await client.eventually(f"{VOLUMES}?resourceVersion=0", lambda page: server.name("c") in page.names)
    assert {server.name(suffix) for suffix in "abc"} <= set(found.names)
    assert len((await client.get(VOLUMES, **fields)).ok().names) >= 3


async def test_get_takes_a_revision_that_has_been(server: Server, client: Client) -> None:
    made = (await server.fill(1))[0]
    for revision in ("0", made.revision):
        assert (await client.get(f"{server.maps}/m0", resourceVersion=revision)).ok().meta["name"] == "m0"


@pytest.mark.parametrize("limit", ["many", "1.5"])
async def test_limit_that_is_no_number_is_a_bad_request(server: Server, client: Client, limit: str) -> None:
    answer = (await client.get(server.maps, limit=limit)).refused(400, "BadRequest")
    assert f'parsing "{limit}": invalid syntax' in answer["message"]


async def test_metadata_only_lists(server: Server, client: Client) -> None:
    await server.fill(2)
    found = (await client.get(server.maps, accept=METADATA_LIST)).ok()
    assert (found["kind"], found["apiVersion"]) == ("PartialObjectMetadataList", "meta.k8s.io/v1")
    assert set(found["items"][0]) <= {"kind", "apiVersion", "metadata"}
    assert found.names == ["m0", "m1"]


async def test_metadata_of_one_object(server: Server, client: Client) -> None:
    await server.fill(1)
    accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    found = (await client.get(f"{server.maps}/m0", accept=accept)).ok()
    assert (found["kind"], found.meta["name"]) == ("PartialObjectMetadata", "m0")
    assert "data" not in found.body


@pytest.mark.parametrize(
    ("path", "columns"),
    [
        (
            VOLUMES,
            (
                "Name, Capacity, Access Modes, Reclaim Policy, Status, Claim, StorageClass, VolumeAttributesClass, "
                "Reason, Age, VolumeMode"
            ),
        ),
        (
            f"{CORE}/persistentvolumeclaims",
            "Name, Status, Volume, Capacity, Access Modes, StorageClass, VolumeAttributesClass, Age, VolumeMode",
        ),
        (ATTACHMENTS, "Name, Attacher, PV, Node, Attached, Age"),
        (
            f"{STORAGE}/storageclasses",
            "Name, Provisioner, ReclaimPolicy, VolumeBindingMode, AllowVolumeExpansion, Age",
        ),
        (f"{STORAGE}/csinodes", "Name, Drivers, Age"),
        (
            f"{STORAGE}/csidrivers",
            "Name, AttachRequired, PodInfoOnMount, StorageCapacity, TokenRequests, RequiresRepublish, Modes, Age",
        ),
        (f"{STORAGE}/csistoragecapacities", "Name, Created At"),
        (f"{STORAGE}/volumeattributesclasses", "Name, DriverName, Age"),
        ("/apis/coordination.k8s.io/v1/leases", "Name, Holder, Age"),
        (f"{CORE}/secrets", "Name, Type, Data, Age"),
        (f"{CORE}/configmaps", "Name, Data, Age"),
        (f"{CORE}/namespaces", "Name, Status, Age"),
        (
            f"{CORE}/pods",
            "Name, Ready, Status, Restarts, Age, IP, Node, Nominated Node, Readiness Gates",
        ),
        (
            f"{CORE}/nodes",
            "Name, Status, Roles, Age, Version, Internal-IP, External-IP, OS-Image, Kernel-Version, Container-Runtime",
        ),
        (
            f"{CORE}/events",
            "Last Seen, Type, Reason, Object, Subobject, Source, Message, First Seen, Count, Name",
        ),
    ],
)
async def test_tables_have_the_columns_of_the_kind(client: Client, path: str, columns: str) -> None:
    found = (await client.get(path, accept=TABLE)).ok()
    assert (found["kind"], found["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert ", ".join(column["name"] for column in found["columnDefinitions"]) == columns


async def test_table_rows_show_cells_and_metadata(server: Server, client: Client) -> None:
    body = volume(server.name(), storageClassName="fast", claimRef={"namespace": "ns", "name": "c"})
    (await client.post(VOLUMES, body)).ok(201)
    found = (await client.get(f"{VOLUMES}/{server.name()}", accept=TABLE)).ok()
    (row,) = found["rows"]
    cells = row["cells"]
    assert cells[:7] == [server.name(), "1Gi", "RWO", "Retain", "Pending", "ns/c", "fast"]
    assert cells[7:9] == ["<unset>", ""]
    assert cells[10] == "Filesystem"
    assert row["object"]["kind"] == "PartialObjectMetadata"
    assert row["object"]["metadata"]["name"] == server.name()


@pytest.mark.parametrize(("include", "kind"), [("Object", "ConfigMap"), ("Metadata", "PartialObjectMetadata")])
async def test_table_rows_carry_what_is_asked_for(server: Server, client: Client, include: str, kind: str) -> None:
    await server.fill(1)
    found = (await client.get(server.maps, accept=TABLE, includeObject=include)).ok()
    assert found["rows"][0]["object"]["kind"] == kind


async def test_table_rows_without_objects(server: Server, client: Client) -> None:
    await server.fill(1)
    found = (await client.get(server.maps, accept=TABLE, includeObject="None")).ok()
    assert found["rows"][0].get("object") is None


async def test_yaml_answers(server: Server, client: Client) -> None:
    await server.fill(1)
    found = (await client.get(f"{server.maps}/m0", accept="application/yaml")).ok()
    assert found.headers["Content-Type"].startswith("application/yaml")
    assert "kind: ConfigMap" in found.text.splitlines()


async def test_unknown_accept_is_not_acceptable(server: Server, client: Client) -> None:
    answer = (await client.get(server.maps, accept="text/html")).refused(406, "NotAcceptable")
    assert answer["message"].startswith("406: Not Acceptable")
    assert "application/json, application/yaml" in answer["message"]


async def test_other_media_falls_back_to_json_when_allowed(server: Server, client: Client) -> None:
    found = (await client.get(server.maps, accept="text/html, application/json")).ok()
    assert found.headers["Content-Type"].startswith("application/json")
