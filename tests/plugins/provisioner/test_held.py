"""What people are told of a source that is being deleted and stays: one Event that names whom it waits for."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.config import NodeSettings, ProvisionerSettings
from csisidecar.csi import NodeInfo
from tests.plugins.provisioner.nodes import SELECTED
from tests.plugins.provisioner.test_data_sources import add_source_claim
from tests.plugins.provisioner.test_unprotect import (
    CLONING,
    OTHER,
    RESTORING,
    SNAPSHOT,
    SOURCE,
    add_snapshot,
    clone_world,
    source_finalizers,
)
from tests.plugins.provisioner.world import CAPABILITIES, World

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.looptime

HOUR_S = 3600.0
TOLD = (
    "Normal",
    "WaitingForClone",
    "Deletion waits for clone team/clone, without a volume yet, to be Bound or deleted",
)
UNADDRESSED: dict[str, Any] = {"provisioner": None}


def held_world(*, class_of: str = "", **more: Any) -> World:
    """A deleted claim that our finalizer holds, in a cluster whose class waits for a first consumer."""
    world = clone_world(**more)
    world.add_class(provisioner=class_of, volumeBindingMode="WaitForFirstConsumer")
    add_deleted(world, "source")
    return world


def add_deleted(world: World, name: str) -> None:
    add_claim(world, name, provisioner=world.driver_name)
    world.api.edit("persistentvolumeclaims", name, lambda obj: obj["metadata"].update(finalizers=[CLONING]), "team")
    world.api.delete("persistentvolumeclaims", name, "team")


def add_claim(world: World, name: str, *, provisioner: str | None, **more: Any) -> None:
    """A claim; without a provisioner nobody has addressed it yet."""
    world.add_claim(name, **({"provisioner": provisioner} if provisioner else {}), **more)
    if provisioner is None:
        world.api.edit(
            "persistentvolumeclaims",
            name,
            lambda obj: obj["metadata"].update(annotations=more.get("annotations")),
            "team",
        )


def about(world: World, kind: str) -> list[tuple[str, str, str]]:
    """Type, reason and message of the Events at objects called ``source`` or ``snap``, as often as they were told."""
    found: list[tuple[str, str, str]] = []
    for event in world.api.list("events"):
        if event["involvedObject"]["kind"] == kind and event["involvedObject"]["name"] in ("source", "snap", "old"):
            found += [(event["type"], event["reason"], event["message"])] * event["count"]
    return found


def claim_events(world: World) -> list[tuple[str, str, str]]:
    return [event for event in about(world, "PersistentVolumeClaim") if event[1].startswith("Waiting")]


@pytest.mark.parity("T-SOURCE-07")
async def test_deleted_source_says_once_which_clone_it_waits_for_and_goes_with_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    world = held_world()
    add_claim(world, "clone", provisioner=world.driver_name, dataSource=SOURCE)
    async with world.running():
        await asyncio.sleep(HOUR_S)
        assert claim_events(world) == [TOLD]
        assert source_finalizers(world) == [CLONING]
        world.set_phase("persistentvolumeclaims", "clone", "Bound", "team")
        await asyncio.sleep(0.5)
        assert source_finalizers(world) is None
    assert claim_events(world) == [TOLD]
    assert caplog.messages == []


@pytest.mark.parity("T-SOURCE-08")
async def test_source_that_nothing_holds_goes_without_an_event() -> None:
    world = held_world()
    add_claim(world, "free", provisioner=world.driver_name)
    await world.run(HOUR_S)
    assert source_finalizers(world) is None
    assert claim_events(world) == []


@pytest.mark.parity("T-SOURCE-09")
@pytest.mark.parametrize("clone", [{"provisioner": "other.io"}, UNADDRESSED], ids=["addressed", "by class"])
async def test_clone_of_another_driver_holds_its_source_and_is_not_told_of(
    clone: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world = held_world(class_of="other.io")
    add_claim(world, "clone", dataSource=SOURCE, **clone)
    async with world.running():
        caplog.clear()
        await asyncio.sleep(HOUR_S)
        assert source_finalizers(world) == [CLONING]
        assert world.events() == []
        assert caplog.messages == []
        world.drop_claim("clone")
        await asyncio.sleep(0.5)
        assert source_finalizers(world) is None


@pytest.mark.parametrize("class_name", ["fast", "missing"])
async def test_clone_that_waits_for_its_consumer_is_known_by_its_class_or_that_of_its_source(class_name: str) -> None:
    world = held_world()
    add_claim(world, "clone", dataSource=SOURCE, storageClassName=class_name, **UNADDRESSED)
    await world.run()
    assert claim_events(world) == [TOLD]


async def test_many_clones_are_counted() -> None:
    world = held_world()
    for name in ("c", "b", "a"):
        add_claim(world, name, provisioner=world.driver_name, dataSource=SOURCE)
    await world.run()
    ((*_, text),) = claim_events(world)
    assert text == "Deletion waits for clone team/a and 2 more, without a volume yet, to be Bound or deleted"


async def test_new_reign_of_one_process_does_not_tell_again_but_another_object_of_that_name_is_told_of() -> None:
    world = held_world()
    add_claim(world, "clone", provisioner=world.driver_name, dataSource=SOURCE)
    for _ in range(2):
        await world.run()
        assert claim_events(world) == [TOLD]
    world.api.edit("persistentvolumeclaims", "source", lambda obj: obj["metadata"].update(finalizers=[]), "team")
    assert source_finalizers(world) is None
    add_deleted(world, "source")
    await world.run()
    assert claim_events(world) == [TOLD] * 2


@pytest.mark.parity("T-SOURCE-10")
async def test_source_of_a_clone_that_was_deleted_during_its_call_says_so_and_goes_when_that_is_over() -> None:
    world = clone_world(timeout_s=1.0)
    world.add_class()
    await add_source_claim(world)
    world.driver.trouble.add("CreateVolume:late=DeadlineExceeded")
    world.add_claim("clone", dataSource={"kind": "PersistentVolumeClaim", "name": "old"})
    async with world.running():
        await asyncio.sleep(0.2)
        assert world.calls()
        world.drop_claim("clone")
        world.api.edit(
            "persistentvolumeclaims", "old", lambda obj: obj["metadata"].update(finalizers=[CLONING]), "team"
        )
        world.api.delete("persistentvolumeclaims", "old", "team")
        await asyncio.sleep(60)
        text = "Deletion waits for the driver to finish the volume of clone team/clone, deleted meanwhile"
        assert claim_events(world) == [("Normal", "WaitingForClone", text)]
        world.driver.trouble.clear()
        await asyncio.sleep(20)
        assert world.api.get("persistentvolumeclaims", "old", "team") is None


async def test_another_driver_that_takes_it_off_at_the_same_moment_is_no_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    world = held_world()
    world.refuse("update", "persistentvolumeclaims", 409)
    await world.run(5)
    assert source_finalizers(world) is None
    assert caplog.messages == []


@pytest.mark.parametrize(("node", "told"), [("node-a", [TOLD]), ("node-b", []), ("", [])])
async def test_with_one_provisioner_a_node_the_one_of_the_clones_node_tells(
    node: str, told: Sequence[tuple[str, str, str]]
) -> None:
    world = World(
        settings=ProvisionerSettings(node=NodeSettings(name="node-a")),
        controller=CAPABILITIES | {"CLONE_VOLUME"},
        node=NodeInfo(node_id="id-a"),
    )
    world.add_class(volumeBindingMode="WaitForFirstConsumer")
    add_deleted(world, "source")
    chosen = {"annotations": {SELECTED: node}} if node else {}
    add_claim(world, "clone", provisioner=world.driver_name, dataSource=SOURCE, **chosen)
    await world.run(5)
    assert claim_events(world) == told
    assert source_finalizers(world) == [CLONING]


@pytest.mark.parity("T-SOURCE-11")
async def test_deleted_snapshot_says_once_which_claim_it_waits_for() -> None:
    world = held_world(snapshot_orphan_sweep_interval_s=60.0)
    add_snapshot(world, "snap", RESTORING)
    add_claim(world, "restored", provisioner=world.driver_name, dataSource=SNAPSHOT)
    async with world.running():
        await asyncio.sleep(70)
        assert about(world, "VolumeSnapshot") == []
        world.api.delete("volumesnapshots", "snap", "team")
        await asyncio.sleep(600)
        text = (
            "Deletion waits for claim team/restored, to be filled from here and without a volume yet,"
            " to be Bound or deleted; looked at every 1m0s"
        )
        assert about(world, "VolumeSnapshot") == [("Normal", "WaitingForRestore", text)]
        world.set_phase("persistentvolumeclaims", "restored", "Bound", "team")
        await asyncio.sleep(70)
        assert world.api.get("volumesnapshots", "snap", "team") is None
    assert len(about(world, "VolumeSnapshot")) == 1


async def test_deleted_snapshot_that_we_do_not_hold_or_another_driver_fills_from_is_not_told_of() -> None:
    world = held_world(snapshot_orphan_sweep_interval_s=60.0)
    add_snapshot(world, "snap", OTHER)
    world.api.delete("volumesnapshots", "snap", "team")
    add_claim(world, "restored", provisioner=world.driver_name, dataSource=SNAPSHOT)
    add_snapshot(world, "foreign", RESTORING)
    world.api.delete("volumesnapshots", "foreign", "team")
    add_claim(world, "theirs", provisioner="other.io", dataSource={**SNAPSHOT, "name": "foreign"})
    await world.run(130)
    assert [event for event in world.events() if event[1].startswith("Waiting")] == []
