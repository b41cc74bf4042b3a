"""One provisioner a node: many of them at once, what they say at the start, and whose volumes are whose."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from csisidecar.clock import SystemClock
from csisidecar.config import CapacitySettings, RateConfig
from csisidecar.csi import CSIClient, handshake
from csisidecar.errors import ConfigError, StartupError, UnsupportedDriverError
from csisidecar.plugins.provisioner.node_local import manager_name
from csisidecar.testing.driver import DriverSettings, FakeDriver
from tests.plugins.provisioner.nodes import KEY, LATE, NOW, SELECTED, affinity_to, node_world, owner, puts
from tests.plugins.provisioner.world import DRIVER, FINALIZER

IDENTITY = "storage.kubernetes.io/csiProvisionerIdentity"


@pytest.mark.parity("T-NODE-13")
@pytest.mark.parametrize(
    ("node", "name"),
    [
        pytest.param("node01", "external-provisioner-node01", id="short", marks=pytest.mark.parity("T-NODE-79")),
        pytest.param(
            "node" + 38 * "a", "external-provisioner-node" + 38 * "a", id="42", marks=pytest.mark.parity("T-NODE-80")
        ),
        pytest.param(
            "node" + 39 * "a", "external-p-53f40b57-node" + 39 * "a", id="43", marks=pytest.mark.parity("T-NODE-81")
        ),
        pytest.param("node" + 48 * "a", "e-53f40b57-node" + 48 * "a", id="52", marks=pytest.mark.parity("T-NODE-82")),
        pytest.param(
            "node" + 49 * "a", "external-provisioner-a3607ff1", id="53", marks=pytest.mark.parity("T-NODE-83")
        ),
        pytest.param(
            "node" + 63 * "a", "external-provisioner-df38e37f", id="67", marks=pytest.mark.parity("T-NODE-84")
        ),
    ],
)
def test_manager_of_capacity_objects_is_named_after_its_node(node: str, name: str) -> None:
    assert manager_name(node) == name
    assert len(name) <= 63


@pytest.mark.parity("T-NODE-02")
@pytest.mark.looptime
async def test_every_claim_of_thirty_is_made_by_one_of_three_nodes_and_the_losers_are_silent() -> None:
    first = node_world("n1")
    worlds = [first, node_world("n2", first), node_world("n3", first)]
    first.add_class(**NOW)
    for number in range(30):
        first.add_claim(f"c{number}")
    async with AsyncExitStack() as stack:
        for world in worlds:
            await stack.enter_async_context(world.running())
        await asyncio.sleep(30)
    made = [call.name for world in worlds for call in world.calls()]
    assert len(made) == len(set(made)) == 30
    assert len(first.api.list("persistentvolumes")) == 30
    puts = [line for line in first.writes() if line == "update persistentvolumeclaims"]
    assert len(puts) >= 30
    for world, name in zip(worlds, ("n1", "n2", "n3"), strict=True):
        mine = {number for number in range(30) if owner(world, f"c{number}") == name}
        assert len(world.calls()) == len(mine)


@pytest.mark.parity("T-NODE-05")
@pytest.mark.looptime
async def test_node_that_ran_out_of_room_gives_the_claim_to_one_that_has_some() -> None:
    first = node_world("n1", can_tell_room=False)
    second = node_world("n2", first, base_delay_s=3.0, max_delay_s=6.0)
    first.driver.settings = replace(first.driver.settings, total_bytes=0)
    first.add_class(**NOW)
    uid = first.add_claim()
    async with first.running():
        await asyncio.sleep(0.5)
        assert len(first.calls()) >= 1
        async with second.running():
            await asyncio.sleep(25)
    assert owner(first) == "n2"
    assert first.volume(uid)
    assert len(second.calls()) == 1


@pytest.mark.parity("T-NODE-85")
@pytest.mark.looptime
@pytest.mark.parametrize("trouble", ["Internal=broken", "DeadlineExceeded=slow", "Aborted=busy"])
async def test_other_failure_keeps_the_claim_on_its_node(trouble: str) -> None:
    first = node_world("n1")
    second = node_world("n2", first)
    first.driver.trouble.add(f"CreateVolume:{trouble} x3")
    first.add_class(**NOW)
    uid = first.add_claim(annotations={SELECTED: "n1"})
    async with first.running(), second.running():
        await asyncio.sleep(20)
    assert first.volume(uid)
    assert len(first.calls()) == 4
    assert (puts(first), list(second.driver.ledger)) == (0, [])


@pytest.mark.parity("T-NODE-86")
@pytest.mark.looptime
async def test_full_node_of_a_driver_without_places_keeps_its_claim() -> None:
    first = node_world("n1", places=False)
    second = node_world("n2", first, places=False)
    first.driver.trouble.add("CreateVolume:ResourceExhausted=full x3")
    first.add_class(**NOW)
    uid = first.add_claim(annotations={SELECTED: "n1"})
    async with first.running(), second.running():
        await asyncio.sleep(20)
    assert first.volume(uid)
    assert (puts(first), list(second.driver.ledger)) == (0, [])


@pytest.mark.parity("T-NODE-10")
@pytest.mark.looptime
async def test_volume_is_deleted_by_the_node_that_can_reach_it() -> None:
    first = node_world("n1")
    second = node_world("n2", first)
    first.add_class(**LATE)
    first.add_volume("one", spec=affinity_to("n1"))
    first.add_volume("two", spec=affinity_to("n2"))
    async with first.running(), second.running():
        await asyncio.sleep(5)
    assert [call.volume_id for call in first.calls("DeleteVolume")] == ["handle-one"]
    assert [call.volume_id for call in second.calls("DeleteVolume")] == ["handle-two"]
    assert first.events() == []


@pytest.mark.parity("T-NODE-87")
@pytest.mark.looptime
async def test_volume_of_a_node_that_is_gone_stays_and_nobody_is_asked_about_it() -> None:
    world = node_world("n1")
    world.add_class(**LATE)
    world.add_volume("far", spec=affinity_to("n3"))
    async with world.running():
        await asyncio.sleep(20)
        assert world.wire.requests == []
        assert list(world.driver.ledger) == []
        world.api.delete("persistentvolumes", "far")
        await asyncio.sleep(20)
    far = world.api.get("persistentvolumes", "far")
    assert far is not None
    assert FINALIZER in far["metadata"]["finalizers"]
    assert list(world.driver.ledger) == []
    assert world.events() == []


@pytest.mark.parity("T-NODE-88")
@pytest.mark.looptime
async def test_volume_without_affinity_is_any_nodes_to_delete() -> None:
    first = node_world("n1")
    second = node_world("n2", first)
    first.add_class(**LATE)
    for world in (first, second):
        first.add_volume("anywhere")
        await world.run(seconds=3)
        assert [call.volume_id for call in world.calls("DeleteVolume")] == ["handle-anywhere"]
        assert first.api.get("persistentvolumes", "anywhere") is None


@pytest.mark.parity("T-NODE-89")
@pytest.mark.looptime
async def test_affinity_that_cannot_be_read_is_told_and_the_driver_is_not_called() -> None:
    world = node_world("n1")
    world.add_class(**LATE)
    world.add_volume("odd", spec=affinity_to("n1", "Near"))
    await world.run(seconds=5)
    assert world.calls("DeleteVolume") == []
    assert any('"Near" is not a valid node selector operator' in text for text in world.warnings())


@pytest.mark.parity("T-NODE-12")
@pytest.mark.looptime
async def test_each_node_publishes_its_own_room_and_watches_no_nodes() -> None:
    capacity = CapacitySettings(namespace="team", ownerref_level=-1, rate=RateConfig())
    first = node_world("n1", capacity=capacity)
    second = node_world("n2", first, capacity=capacity)
    first.add_class(**LATE)
    async with first.running(), second.running():
        await asyncio.sleep(2)
    found = {
        obj["metadata"]["labels"]["csi.storage.k8s.io/managed-by"]: obj["nodeTopology"]["matchLabels"]
        for obj in first.api.list("csistoragecapacities")
    }
    assert found == {"external-provisioner-n1": {KEY: "n1"}, "external-provisioner-n2": {KEY: "n2"}}


@pytest.mark.parity("T-NODE-90")
@pytest.mark.looptime
async def test_capacity_of_another_node_is_left_alone_for_good() -> None:
    capacity = CapacitySettings(namespace="team", ownerref_level=-1, rate=RateConfig())
    gone = node_world("n9", capacity=capacity)
    living = node_world("n1", gone, capacity=capacity)
    gone.add_class(**LATE)
    await gone.run(seconds=2)
    before = gone.api.list("csistoragecapacities")
    assert len(before) == 1
    await living.run(seconds=130)
    after = gone.api.list("csistoragecapacities")
    assert before[0] in after
    assert len(after) == 2


@pytest.mark.parity("T-NODE-17")
@pytest.mark.looptime
async def test_volumes_say_which_node_made_them() -> None:
    world = node_world("n1")
    world.add_class(**LATE)
    uid = world.add_claim(annotations={SELECTED: "n1"})
    await world.run()
    identity = world.volume(uid)["spec"]["csi"]["volumeAttributes"]["storage.kubernetes.io/csiProvisionerIdentity"]
    assert identity.endswith(f"-{DRIVER}-n1")


@pytest.mark.looptime
async def test_node_service_must_have_been_asked() -> None:
    world = node_world("n1")
    world.node = None
    with pytest.raises(ConfigError, match="node service"):
        await world.run()


@pytest.mark.looptime
@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param("Unimplemented=none", id="unimplemented", marks=pytest.mark.parity("T-NODE-16")),
        pytest.param("Internal=broken", id="error", marks=pytest.mark.parity("T-NODE-18")),
        pytest.param("hang", id="no-answer", marks=pytest.mark.parity("T-NODE-19")),
    ],
)
async def test_node_service_that_does_not_answer_ends_the_start_saying_what_it_is_for(trouble: str) -> None:
    channel = FakeDriver(DriverSettings(name=DRIVER), trouble=[f"NodeGetInfo:{trouble}"]).channel()
    await channel.connect()
    try:
        with pytest.raises(StartupError, match=r"NodeGetInfo: .*a node needs the driver's node service"):
            await handshake(CSIClient(channel), timeout_s=3, clock=SystemClock(), with_node=True)
    finally:
        channel.close()


@pytest.mark.parity("T-NODE-21")
@pytest.mark.looptime
@pytest.mark.parametrize(
    "segments",
    [{"bad key!": "x"}, {"/": "x"}, {"": "x"}, {"a.b/c/d": "x"}, {KEY: "x y"}, {KEY: 64 * "x"}, {"A.b/c": "x"}],
    ids=lambda segments: str(segments)[:20],
)
async def test_place_that_can_be_no_label_of_a_node_ends_the_start(segments: dict[str, str]) -> None:
    world = node_world("n1", segments=segments)
    with pytest.raises(UnsupportedDriverError, match="no label of Kubernetes"):
        await world.run()


@pytest.mark.looptime
@pytest.mark.parametrize("segments", [{KEY: ""}, {"plain_Key.1": "x"}, {"a.b-c/D_e": "X.y-1"}, {63 * "k": 63 * "v"}])
async def test_every_label_can_be_a_place(segments: dict[str, str]) -> None:
    world = node_world("n1", segments=segments)
    world.add_class(**NOW)
    uid = world.add_claim()
    await world.run(seconds=3)
    assert world.volume(uid)


@pytest.mark.parity("T-NODE-20")
@pytest.mark.looptime
@pytest.mark.parametrize("strict", [True, False])
async def test_cluster_is_this_node_whatever_the_strictness(strict: bool) -> None:
    world = node_world("n1", strict=strict)
    world.api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n2", "labels": {KEY: "n2"}}})
    world.add_class(**LATE)
    world.add_claim(annotations={SELECTED: "n1"})
    await world.run()
    (asked,) = world.calls()
    requirement = asked.accessibility_requirements
    assert [[place.segments for place in terms] for terms in (requirement.requisite, requirement.preferred)] == [
        [{KEY: "n1"}],
        [{KEY: "n1"}],
    ]
