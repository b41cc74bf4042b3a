"""One provisioner a node: whether there is room here for a claim, before a node takes it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.plugins.provisioner.nodes import KEY, NOW, node_world, owner, puts
from tests.plugins.provisioner.world import GIB

pytestmark = pytest.mark.looptime

SOURCE = {"kind": "PersistentVolumeClaim", "name": "source"}
SELECTOR = {"matchLabels": {"a": "b"}}


@pytest.mark.parity("T-NODE-04")
async def test_claim_that_no_node_has_room_for_waits_without_a_call_and_is_taken_when_there_is_room() -> None:
    world = node_world("n1")
    world.driver.settings = replace(world.driver.settings, total_bytes=0)
    world.add_class(**NOW)
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(30)
        assert world.calls() == []
        assert world.events() == []
        assert owner(world) is None
        assert 5 < len(world.calls("GetCapacity")) < 30
        world.driver.settings = replace(world.driver.settings, total_bytes=100 * GIB)
        await asyncio.sleep(5)
    assert world.volume(uid)


@pytest.mark.parity("T-NODE-66")
async def test_waits_for_room_grow_and_then_stay_the_longest() -> None:
    world = node_world("n1", base_delay_s=20.0, max_delay_s=60.0)
    world.driver.settings = replace(world.driver.settings, total_bytes=0)
    world.add_class(**NOW)
    world.add_claim()
    await world.run(seconds=600)
    asked_s = [call.started_s for call in world.driver.calls("GetCapacity")]
    waits_s = [late - early for early, late in zip([0.0, *asked_s], asked_s, strict=False)]
    assert 0 <= waits_s[0] <= 20.1
    assert 20 <= waits_s[1] <= 40.1
    assert all(40 <= wait_s <= 60.1 for wait_s in waits_s[2:])
    assert len(waits_s) >= 10


@pytest.mark.parametrize(
    ("size", "free_bytes", "is_taken"),
    [
        pytest.param("1Gi", GIB, True, id="exact-fit", marks=pytest.mark.parity("T-NODE-67")),
        pytest.param("1Gi", GIB - 1, False, id="a-byte-short", marks=pytest.mark.parity("T-NODE-68")),
    ],
)
async def test_room_is_enough_if_it_is_not_less_than_asked_for(size: str, free_bytes: int, is_taken: bool) -> None:
    world = node_world("n1")
    world.driver.settings = replace(world.driver.settings, total_bytes=free_bytes)
    world.add_class(**NOW)
    world.add_claim(size=size)
    await world.run(seconds=5)
    assert owner(world) == ("n1" if is_taken else None)


@pytest.mark.parity("T-NODE-69")
async def test_largest_volume_is_the_drivers_to_refuse_not_a_reason_to_leave_the_claim() -> None:
    world = node_world("n1")
    world.driver.settings = replace(world.driver.settings, max_volume_bytes=GIB // 2)
    world.add_class(**NOW)
    world.add_claim()
    await world.run(seconds=3)
    assert owner(world) == "n1"
    assert "OutOfRange" in world.warnings()[0]


@pytest.mark.parity("T-NODE-70")
async def test_no_room_is_asked_for_where_no_size_is() -> None:
    """No API server stores such a claim today; what it does with the write is its affair."""
    world = node_world("n1")
    world.add_class(**NOW)
    annotations = {"volume.kubernetes.io/storage-provisioner": world.driver_name}
    meta = {"name": "data", "namespace": "team", "uid": "u-1", "annotations": annotations}
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "resources": {}}
    world.api.load([{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}])
    await world.run(seconds=3)
    assert puts(world) >= 1
    assert world.calls("GetCapacity") == []


@pytest.mark.parity("T-NODE-06")
async def test_room_is_asked_for_with_what_the_volume_would_be() -> None:
    world = node_world("n1")
    world.add_class(parameters={"kind": "ssd", "csi.storage.k8s.io/fstype": "xfs"}, **NOW)
    world.add_claim()
    await world.run(seconds=5)
    (asked,) = world.calls("GetCapacity")
    assert asked.parameters == {"kind": "ssd"}
    assert asked.accessible_topology.segments == {KEY: "n1"}
    assert asked.volume_capabilities[0].mount.fs_type == "xfs"


@pytest.mark.parity("T-NODE-07")
@pytest.mark.parametrize(
    ("can_tell", "trouble", "calls"),
    [
        pytest.param(True, "GetCapacity:Internal=no idea", 1, id="error", marks=pytest.mark.parity("T-NODE-71")),
        pytest.param(
            True, "GetCapacity:Unimplemented=no", 1, id="unimplemented", marks=pytest.mark.parity("T-NODE-72")
        ),
        pytest.param(True, "GetCapacity:hang", 1, id="no-answer", marks=pytest.mark.parity("T-NODE-73")),
        pytest.param(False, "", 0, id="undeclared", marks=pytest.mark.parity("T-NODE-74")),
    ],
)
async def test_driver_that_does_not_tell_its_room_is_asked_for_the_volume(
    can_tell: bool, trouble: str, calls: int
) -> None:
    world = node_world("n1", can_tell_room=can_tell)
    if trouble:
        world.driver.trouble.add(trouble)
    world.add_class(**NOW)
    uid = world.add_claim()
    await world.run(seconds=15)
    assert world.volume(uid)
    assert len(world.calls("GetCapacity")) == calls


@pytest.mark.parametrize(
    ("storage_class", "claim", "told"),
    [
        pytest.param(
            {},
            {"selector": SELECTOR},
            "claim Selector is not supported",
            id="claim",
            marks=pytest.mark.parity("T-NODE-75"),
        ),
        pytest.param(
            {"parameters": {"csi.storage.k8s.io/oops": "x"}},
            {},
            'found unknown parameter key "csi.storage.k8s.io/oops"',
            id="parameters",
            marks=pytest.mark.parity("T-NODE-76"),
        ),
    ],
)
async def test_claim_that_cannot_be_prepared_is_taken_so_that_its_owner_is_told_why(
    storage_class: dict[str, Any], claim: dict[str, Any], told: str
) -> None:
    world = node_world("n1")
    world.add_class(**NOW, **storage_class)
    world.add_claim(**claim)
    await world.run(seconds=5)
    assert owner(world) == "n1"
    assert world.calls("GetCapacity") == world.calls() == []
    assert told in world.warnings()[0]


@pytest.mark.parity("T-NODE-77")
async def test_node_that_does_not_tell_its_place_takes_the_claim_and_fails_it(caplog: pytest.LogCaptureFixture) -> None:
    world = node_world("n1", segments={})
    world.add_class(**NOW)
    world.add_claim()
    await world.run(seconds=5)
    assert owner(world) == "n1"
    assert world.calls("GetCapacity") == world.calls() == []
    assert world.warnings()[0].startswith(
        "error generating accessibility requirements: no topology key found for node n1"
    )
    assert sum("NodeGetInfo names none" in record.message for record in caplog.records) == 1


@pytest.mark.parity("T-NODE-78")
async def test_node_without_room_leaves_source_and_secret_of_a_claim_alone() -> None:
    world = node_world("n1")
    world.controller |= {"CLONE_VOLUME"}
    world.driver.settings = replace(world.driver.settings, total_bytes=0)
    parameters = {
        "csi.storage.k8s.io/provisioner-secret-name": "key",
        "csi.storage.k8s.io/provisioner-secret-namespace": "team",
    }
    world.add_class(parameters=parameters, **NOW)
    world.add_claim("source", volumeName="there", provisioner="")
    world.add_claim(dataSource=SOURCE)
    await world.run(seconds=5)
    assert len(world.calls("GetCapacity")) >= 1
    assert world.wire.requests == []
    source = world.api.get("persistentvolumeclaims", "source", "team")
    assert source is not None
    assert source["metadata"].get("finalizers", []) == ["kubernetes.io/pvc-protection"]


@pytest.mark.parity("T-QUIRK-15", "T-NODE-08")
@pytest.mark.parametrize("is_full", [False, True])
async def test_driver_without_places_takes_claims_too(is_full: bool) -> None:
    world = node_world("n1", places=False)
    if is_full:
        world.driver.settings = replace(world.driver.settings, total_bytes=0)
    world.add_class(**NOW)
    uid = world.add_claim()
    await world.run(seconds=5)
    asked = world.calls("GetCapacity")
    assert [call.accessible_topology for call in asked] == len(asked) * [None]
    assert asked
    if is_full:
        assert (owner(world), puts(world), world.calls()) == (None, 0, [])
    else:
        assert "nodeAffinity" not in world.volume(uid)["spec"]
        assert owner(world) == "n1"
