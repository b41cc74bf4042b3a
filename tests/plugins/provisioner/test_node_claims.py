"""One provisioner a node: whose a claim is, line by line of what is looked at."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.plugins.provisioner.nodes import KEY, LATE, NOW, SELECTED, give, node_world, owner, puts, where_allowed

if TYPE_CHECKING:
    from tests.plugins.provisioner.world import Object, World

pytestmark = pytest.mark.looptime

EBS, EBS_IN_TREE = "ebs.csi.aws.com", "kubernetes.io/aws-ebs"
NO_BIDS = {"immediate_binding": False}


@pytest.mark.parity("T-NODE-01")
@pytest.mark.parametrize(
    ("selected", "storage_class", "node", "wanted"),
    [
        pytest.param("n1", LATE, {}, 1, id="late-ours", marks=pytest.mark.parity("T-NODE-22")),
        pytest.param("n1", NOW, {}, 1, id="at-once-ours", marks=pytest.mark.parity("T-NODE-23")),
        pytest.param("n1", NOW, NO_BIDS, 1, id="at-once-ours-no-bids", marks=pytest.mark.parity("T-NODE-24")),
        pytest.param(
            "n1",
            {**NOW, **where_allowed("n2")},
            {},
            0,
            id="ours-elsewhere-allowed",
            marks=pytest.mark.parity("T-NODE-25"),
        ),
        pytest.param("n2", LATE, {}, 0, id="late-anothers", marks=pytest.mark.parity("T-NODE-26")),
        pytest.param("n2", NOW, {}, 0, id="at-once-anothers", marks=pytest.mark.parity("T-NODE-27")),
        pytest.param(None, LATE, {}, 0, id="late-free", marks=pytest.mark.parity("T-NODE-28")),
        pytest.param(None, NOW, {}, 1, id="at-once-free", marks=pytest.mark.parity("T-NODE-29")),
        pytest.param("", NOW, {}, 1, id="at-once-empty", marks=pytest.mark.parity("T-NODE-30")),
        pytest.param(None, NOW, NO_BIDS, 0, id="at-once-free-no-bids", marks=pytest.mark.parity("T-NODE-31")),
        pytest.param(
            None, {**NOW, **where_allowed("n1")}, {}, 1, id="allowed-here", marks=pytest.mark.parity("T-NODE-32")
        ),
        pytest.param(
            None, {**NOW, **where_allowed("n2")}, {}, 0, id="allowed-elsewhere", marks=pytest.mark.parity("T-NODE-33")
        ),
    ],
)
async def test_who_provisions(
    selected: str | None, storage_class: dict[str, Any], node: dict[str, Any], wanted: int
) -> None:
    world = node_world("n1", **node)
    world.add_class(**storage_class)
    world.add_claim(annotations={} if selected is None else {SELECTED: selected})
    await world.run(seconds=10)
    assert len(world.calls()) == wanted
    if wanted:
        assert owner(world) == "n1"
        (asked,) = world.calls()
        assert [place.segments for place in asked.accessibility_requirements.requisite] == [{KEY: "n1"}]
        assert puts(world) == (0 if selected else 1)
    else:
        assert world.wire.requests == [] or selected == "n1"
        assert list(world.driver.ledger) == []
        assert (world.events() == []) is (selected != "n1")


@pytest.mark.parity("T-NODE-34")
async def test_allowed_places_count_for_nothing_where_the_driver_has_none() -> None:
    world = node_world("n1", places=False)
    world.add_class(**NOW, **where_allowed("n2"))
    uid = world.add_claim()
    await world.run(seconds=5)
    assert world.volume(uid)
    assert owner(world) == "n1"


@pytest.mark.parity("T-NODE-35")
async def test_class_without_a_binding_mode_is_no_reason_to_take_a_claim() -> None:
    world = node_world("n1")
    body = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "fast"}}
    world.api.load([{**body, "provisioner": world.driver_name, "reclaimPolicy": "Delete"}])
    world.add_claim()
    await world.run(seconds=5)
    assert owner(world) is None
    assert world.wire.requests == []


@pytest.mark.parity("T-NODE-36")
async def test_class_that_does_not_exist_is_told_by_each_node_and_taken_once_it_does() -> None:
    first = node_world("n1")
    second = node_world("n2", first)
    uid = first.add_claim()
    async with first.running(), second.running():
        await asyncio.sleep(3)
        assert set(first.warnings()) != set()
        assert all('storageClass "fast" not found' in text for text in first.warnings())
        assert (puts(first), first.calls(), second.calls()) == (0, [], [])
        first.add_class(**NOW)
        await asyncio.sleep(5)
    assert first.volume(uid)
    assert len(first.calls()) + len(second.calls()) == 1


@pytest.mark.parity("T-NODE-37")
async def test_missing_class_of_another_nodes_claim_is_that_nodes_to_tell() -> None:
    world = node_world("n1")
    world.add_claim(annotations={SELECTED: "n2"})
    await world.run(seconds=5)
    assert world.events() == []
    assert world.wire.requests == []


def bare_claim(world: World, **annotations: str) -> Object:
    """A claim that names no class, addressed to us."""
    body: Object = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
    addressed = {"volume.kubernetes.io/storage-provisioner": world.driver_name, **annotations}
    meta = {"name": "data", "namespace": "team", "annotations": addressed}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return world.api.create({**body, "metadata": meta, "spec": spec})


@pytest.mark.parity("T-QUIRK-14", "T-NODE-38")
async def test_claim_that_names_no_class_is_nobodys_and_ends_no_process() -> None:
    world = node_world("n1")
    world.add_class(**NOW)
    bare_claim(world)
    async with world.running():
        await asyncio.sleep(5)
        assert world.events() == []
        assert world.wire.requests == []
        uid = world.add_claim("other")
        await asyncio.sleep(5)
    assert world.volume(uid)
    assert owner(world, "data") is None


@pytest.mark.parity("T-NODE-39")
async def test_class_named_by_the_beta_annotation_counts() -> None:
    world = node_world("n1")
    world.add_class(**NOW)
    made = bare_claim(world, **{"volume.beta.kubernetes.io/storage-class": "fast"})
    await world.run(seconds=5)
    assert world.volume(made["metadata"]["uid"])
    assert owner(world) == "n1"


@pytest.mark.parity("T-NODE-40")
async def test_claim_that_has_a_volume_is_nobodys() -> None:
    world = node_world("n1")
    world.add_class(**NOW)
    world.add_claim("free", volumeName="somebody-elses")
    world.add_claim("ours", volumeName="another", annotations={SELECTED: "n1"})
    await world.run(seconds=5)
    assert world.wire.requests == []
    assert list(world.driver.ledger) == []


@pytest.mark.parametrize(
    ("provisioner", "annotations", "wanted"),
    [
        pytest.param("other.csi.test", {}, 0, id="anothers", marks=pytest.mark.parity("T-NODE-41")),
        pytest.param(EBS, {}, 1, id="ours", marks=pytest.mark.parity("T-NODE-42")),
        pytest.param(
            EBS_IN_TREE,
            {"volume.beta.kubernetes.io/storage-provisioner": EBS_IN_TREE, "pv.kubernetes.io/migrated-to": EBS},
            1,
            id="migrated-to-ours",
            marks=pytest.mark.parity("T-NODE-43"),
        ),
    ],
)
async def test_claim_is_taken_only_if_it_is_addressed_to_our_driver(
    provisioner: str, annotations: dict[str, str], wanted: int
) -> None:
    world = node_world("n1", driver_name=EBS, places=False)
    world.add_class(provisioner=EBS_IN_TREE if wanted else provisioner, **NOW)
    world.add_claim(provisioner=provisioner, annotations=annotations)
    await world.run(seconds=5)
    assert len(world.calls()) == len(world.calls("GetCapacity")) == wanted
    assert owner(world) == ("n1" if wanted else None)


@pytest.mark.parity("T-NODE-44")
async def test_claim_given_to_our_node_later_is_done_then() -> None:
    world = node_world("n1")
    world.add_class(**LATE)
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(5)
        assert world.wire.requests == []
        give(world, "n1")
        await asyncio.sleep(1)
    assert world.volume(uid)
    assert puts(world) == 0
    assert world.calls("GetCapacity") == []
