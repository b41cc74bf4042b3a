"""Lists: order, pages, revisions, selectors, forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.testing.apiserver.conftest import CORE, Client, claim, volume

if TYPE_CHECKING:
    from csisidecar.testing.apiserver import FakeAPIServer

PVS = f"{CORE}/persistentvolumes"
PVCS = f"{CORE}/persistentvolumeclaims"


async def fill(client: Client, count: int = 5) -> None:
    for number in range(count):
        body = volume(f"pv-{number}")
        body["metadata"]["labels"] = {"parity": ("even", "odd")[number % 2], "n": str(number)}
        await client.post(PVS, body)


def names(answer: object) -> list[str]:
    return [item["metadata"]["name"] for item in answer["items"]]  # type: ignore[index]


async def test_list_is_sorted_and_items_carry_no_kind(client: Client) -> None:
    for name in ("c", "a", "b"):
        await client.post(PVS, volume(name))
    answer = await client.get(PVS)
    assert answer["kind"] == "PersistentVolumeList"
    assert names(answer) == ["a", "b", "c"]
    assert "kind" not in answer["items"][0]
    assert int(answer.meta["resourceVersion"]) >= int(answer["items"][2]["metadata"]["resourceVersion"])


async def test_items_of_custom_resources_carry_their_kind(client: Client) -> None:
    path = "/apis/snapshot.storage.k8s.io/v1/namespaces/default/volumesnapshots"
    body = {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": "s"},
        "spec": {"source": {"persistentVolumeClaimName": "c"}},
    }
    made = await client.post(path, body)
    assert made.meta["generation"] == 1
    item = (await client.get(path))["items"][0]
    assert (item["apiVersion"], item["kind"]) == ("snapshot.storage.k8s.io/v1", "VolumeSnapshot")


async def test_pages_show_one_revision(client: Client) -> None:
    await fill(client)
    first = await client.get(PVS, limit=2)
    assert names(first) == ["pv-0", "pv-1"]
    assert first.meta["remainingItemCount"] == 3
    await client.post(PVS, volume("pv-25"))
    await client.merge(f"{PVS}/pv-3", {"metadata": {"labels": {"new": "yes"}}})
    second = await client.get(PVS, limit=2, continue_=first.meta["continue"])
    assert names(second) == ["pv-2", "pv-3"]
    assert "new" not in second["items"][1]["metadata"]["labels"]
    assert second.meta["resourceVersion"] == first.meta["resourceVersion"]
    third = await client.get(PVS, limit=2, continue_=second.meta["continue"])
    assert names(third) == ["pv-4"]
    assert "continue" not in third.meta


async def test_page_after_compaction_is_gone_and_offers_the_rest(client: Client, api: FakeAPIServer) -> None:
    await fill(client)
    first = await client.get(PVS, limit=2)
    await client.post(PVS, volume("pv-25"))
    api.compact()
    answer = await client.get(PVS, limit=2, continue_=first.meta["continue"])
    assert answer.status == 410
    assert answer["reason"] == "Expired"
    assert answer["message"].startswith("The provided continue parameter is too old to display a consistent list")
    rest = await client.get(PVS, continue_=answer.meta["continue"])
    assert names(rest) == ["pv-2", "pv-25", "pv-3", "pv-4"]


async def test_exact_revision_shows_the_past(client: Client, api: FakeAPIServer) -> None:
    await fill(client, 2)
    then = (await client.get(PVS)).meta["resourceVersion"]
    await client.post(PVS, volume("pv-9"))
    await client.merge(f"{PVS}/pv-0", {"metadata": {"finalizers": None}})
    await client.delete(f"{PVS}/pv-0")
    past = await client.get(PVS, resourceVersion=then, resourceVersionMatch="Exact")
    assert names(past) == ["pv-0", "pv-1"]
    assert names(await client.get(PVS, resourceVersion=then, resourceVersionMatch="NotOlderThan")) == ["pv-1", "pv-9"]
    api.compact()
    gone = await client.get(PVS, resourceVersion=then, resourceVersionMatch="Exact")
    assert gone.status == 410


async def test_list_of_any_state_ignores_the_limit(client: Client) -> None:
    await fill(client)
    answer = await client.get(PVS, limit=2, resourceVersion=0)
    assert len(answer["items"]) == 5
    assert "continue" not in answer.meta


async def test_revision_of_the_future_times_out(client: Client) -> None:
    answer = await client.get(PVS, resourceVersion=10**9)
    assert answer.status == 504
    assert answer["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("parity=even", ["pv-0", "pv-2", "pv-4"]),
        ("parity==odd", ["pv-1", "pv-3"]),
        ("parity!=odd", ["pv-0", "pv-2", "pv-4", "pv-9"]),
        ("n in (0,1)", ["pv-0", "pv-1"]),
        ("n notin (0, 1),parity", ["pv-2", "pv-3", "pv-4"]),
        ("!parity", ["pv-9"]),
        ("parity,n=3", ["pv-3"]),
        ("n>2", ["pv-3", "pv-4"]),
        ("n<1", ["pv-0"]),
    ],
)
async def test_label_selectors(client: Client, selector: str, expected: list[str]) -> None:
    await fill(client)
    await client.post(PVS, volume("pv-9"))
    assert names(await client.get(PVS, labelSelector=selector)) == expected


async def test_field_selectors(client: Client) -> None:
    await fill(client, 3)
    assert names(await client.get(PVS, fieldSelector="metadata.name=pv-1")) == ["pv-1"]
    assert names(await client.get(PVS, fieldSelector="metadata.name!=pv-1")) == ["pv-0", "pv-2"]
    await client.post(f"{CORE}/namespaces/kube-system/persistentvolumeclaims", claim())
    assert names(await client.get(PVCS, fieldSelector="metadata.namespace=kube-system")) == ["c-1"]
    assert names(await client.get(PVCS, fieldSelector="metadata.namespace=default")) == []
    secrets = f"{CORE}/namespaces/default/secrets"
    await client.post(secrets, {"metadata": {"name": "s"}, "type": "x/y"})
    assert names(await client.get(secrets, fieldSelector="type=x/y,metadata.name=s")) == ["s"]


@pytest.mark.parametrize(
    "query",
    [
        {"labelSelector": "a=b=c"},
        {"labelSelector": "a in b"},
        {"labelSelector": "~"},
        {"fieldSelector": "spec.nope=1"},
        {"fieldSelector": "x"},
        {"limit": "many"},
        {"resourceVersion": "abc"},
        {"continue": "???"},
    ],
)
async def test_unreadable_queries_are_refused(client: Client, query: dict[str, str]) -> None:
    answer = await client.get(PVS, **{f"{key}_": value for key, value in query.items()})
    assert answer.status == 400
    assert answer["kind"] == "Status"


@pytest.mark.parametrize(
    "query",
    [
        {"resourceVersionMatch": "Exact"},
        {"resourceVersionMatch": "Other", "resourceVersion": "1"},
        {"resourceVersionMatch": "Exact", "resourceVersion": "0"},
        {"sendInitialEvents": "true"},
    ],
)
async def test_options_that_do_not_go_together_are_invalid(client: Client, query: dict[str, str]) -> None:
    assert (await client.get(PVS, **query)).status == 422


async def test_table_has_the_columns_kubectl_shows(client: Client) -> None:
    await fill(client, 1)
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    answer = await client.request("GET", PVS, headers={"Accept": accept})
    assert answer["kind"] == "Table"
    heads = [column["name"] for column in answer["columnDefinitions"]]
    assert heads[:5] == ["Name", "Capacity", "Access Modes", "Reclaim Policy", "Status"]
    row = answer["rows"][0]
    assert row["cells"][:5] == ["pv-0", "1Gi", "RWO", "Retain", "Pending"]
    assert row["object"]["kind"] == "PartialObjectMetadata"
    assert len(row["cells"]) == len(heads)


async def test_metadata_only_lists(client: Client) -> None:
    await fill(client, 1)
    accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    answer = await client.request("GET", PVS, headers={"Accept": accept})
    assert answer["kind"] == "PartialObjectMetadataList"
    assert set(answer["items"][0]) == {"kind", "apiVersion", "metadata"}


async def test_protobuf_accept_gets_json_and_others_are_not_acceptable(client: Client) -> None:
    accept = "application/vnd.kubernetes.protobuf,application/json"
    assert (await client.request("GET", PVS, headers={"Accept": accept}))["kind"] == "PersistentVolumeList"
    answer = await client.request("GET", PVS, headers={"Accept": "text/html"})
    assert answer.status == 406
    text = (await client.request("GET", PVS, headers={"Accept": "application/yaml"})).text
    assert "kind: PersistentVolumeList" in text
