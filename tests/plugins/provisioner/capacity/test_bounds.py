"""What capacity costs in a large cluster, and that its objects are right after anything has happened."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csisidecar.config import RateConfig
from tests.plugins.provisioner.capacity.rooms import (
    LABELS,
    LATE,
    LATE_MODE,
    add_node,
    asked,
    relabel,
    room_world,
    room_writes,
    rooms,
)

if TYPE_CHECKING:
    from tests.plugins.provisioner.world import World

pytestmark = [pytest.mark.looptime, pytest.mark.timeout(120)]


def wide_world(**capacity: Any) -> World:
    """500 nodes, each in a segment of its own, and 5 classes."""
    world = room_world(**capacity)
    world.driver.settings = replace(world.driver.settings, places=tuple({"zone": f"z{n}"} for n in range(500)))
    for number in range(500):
        add_node(world, f"n{number}", zone=f"z{number}")
    for number in range(5):
        world.add_class(f"c{number}", **LATE)
    return world


@pytest.mark.parity("T-ROOM-17")
async def test_lane_of_its_own_takes_42_minutes_for_500_segments_and_5_classes_and_slows_nobody_else() -> None:
    world = wide_world(rate=RateConfig(qps=1.0, burst=5), poll_interval_s=7200.0)
    async with world.running():
        await asyncio.sleep(2490)
        assert len(rooms(world)) < 2500
        uid = world.add_claim(storageClassName="c0", annotations={"volume.kubernetes.io/selected-node": "n1"})
        await asyncio.sleep(1)
        assert world.volume(uid)
        await asyncio.sleep(29)
        assert len(rooms(world)) == 2500
    assert room_writes(world).count("create") == 2500
    # The volume that was made in the middle took room from its segment, in every class.
    assert len(room_writes(world)) <= 2505


@pytest.mark.parity("T-ROOM-18")
async def test_500_segments_and_5_classes_cost_one_call_and_one_write_each_and_a_second_poll_none() -> None:
    world = wide_world(threads=4)
    async with world.running():
        await asyncio.sleep(50)
        assert asked(world) == 2500
        assert len(rooms(world)) == 2500
        assert len(world.wire.requests) <= 2520
        assert room_writes(world) == ["create"] * 2500
        await asyncio.sleep(60)
        assert asked(world) == 5000
        assert len(world.wire.requests) <= 2520
        for number in range(500):
            world.api.edit("nodes", f"n{number}", lambda obj: obj["metadata"]["labels"].update(other="x"))
        await asyncio.sleep(5)
        assert asked(world) == 5000
        assert len(world.wire.requests) <= 2520


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("node", "label", "unregister", "class", "immediate"),
                *("delete", "edit", "strip", "copy", "refuse", "lose", "no answer", "wait"),
            ]
        ),
        st.integers(0, 2),
        st.sampled_from("ab"),
    ),
    max_size=10,
)


class History:
    """Does what may be done to a cluster, and knows what should be there afterwards."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._classes: dict[str, bool] = {}
        self._nodes: dict[str, str] = {}
        self._unregistered: set[str] = set()

    def wanted(self) -> set[tuple[str, str]]:
        zones = {zone for name, zone in self._nodes.items() if name not in self._unregistered}
        relevant = {name for name, is_relevant in self._classes.items() if is_relevant}
        return {(name, f"zone={zone}") for name in relevant for zone in zones}

    def found(self) -> list[tuple[str, str]]:
        """Class and place of every object that has our labels, sorted."""
        ours = [obj for obj in self.world.api.list("csistoragecapacities") if obj["metadata"].get("labels") == LABELS]
        return sorted((obj["storageClassName"], f"zone={obj['nodeTopology']['matchLabels']['zone']}") for obj in ours)

    def change(self, what: str, number: int, zone: str) -> None:
        if what in ("node", "label", "unregister"):
            self._change_node(what, f"x{number}", zone)
        elif what in ("class", "immediate"):
            self._change_class(f"x{number}", is_relevant=what == "class")
        elif what == "refuse":
            verb = ("create", "update", "delete")[number]
            status = 409 if zone == "a" and verb != "delete" else 403
            self.world.refuse(verb, "csistoragecapacities", status, times=2)
        elif what == "lose":
            verb = ("create", "update", "delete")[number]
            self.world.refuse(verb, "csistoragecapacities", 0, applied=zone == "a")
        elif what == "no answer":
            self.world.driver.trouble.add("GetCapacity:Internal=no idea x2")
        elif found := self.world.api.list("csistoragecapacities"):
            self._change_object(what, found[number % len(found)])

    def _change_node(self, what: str, name: str, zone: str) -> None:
        api = self.world.api
        if what == "node" and name in self._nodes:
            api.delete("nodes", name)
            api.delete("csinodes", name)
            del self._nodes[name]
            self._unregistered.discard(name)
        elif what == "node":
            add_node(self.world, name, zone=zone)
            self._nodes[name] = zone
        elif what == "label" and name in self._nodes:
            api.edit("nodes", name, relabel(zone))
            self._nodes[name] = zone
        elif name in self._nodes:
            api.edit("csinodes", name, lambda obj: obj["spec"].update(drivers=[]))
            self._unregistered.add(name)

    def _change_class(self, name: str, *, is_relevant: bool) -> None:
        if name in self._classes:
            self.world.api.delete("storageclasses", name)
            del self._classes[name]
        else:
            self.world.add_class(name, volumeBindingMode=LATE_MODE if is_relevant else "Immediate")
            self._classes[name] = is_relevant

    def _change_object(self, what: str, obj: dict[str, Any]) -> None:
        api, name = self.world.api, obj["metadata"]["name"]
        if what == "delete":
            api.delete("csistoragecapacities", name, "team")
        elif what == "edit":
            api.edit("csistoragecapacities", name, lambda obj: obj.update(capacity="7Ti"), "team")
        elif what == "strip":
            api.edit("csistoragecapacities", name, lambda obj: obj["metadata"].pop("labels", None), "team")
        elif what == "copy":
            api.create({**obj, "metadata": {"generateName": "copy-", "namespace": "team", "labels": LABELS}})


@pytest.mark.parity("T-ROOM-19")
@settings(max_examples=30, deadline=None)
@given(CHANGES)
async def test_after_any_changes_there_are_exactly_the_objects_that_should_be(
    changes: list[tuple[str, int, str]],
) -> None:
    """Whatever nodes, classes, users, the API server and the driver do; and then nothing more is written."""
    world = room_world(zones="ab")
    history = History(world)
    async with world.running():
        for what, number, zone in changes:
            if what == "wait":
                await asyncio.sleep(0.05 * number)
            else:
                history.change(what, number, zone)
        # The next poll, and the retries of all that was refused.
        await asyncio.sleep(85)
        assert history.found() == sorted(history.wanted())
        ours = [obj for obj in world.api.list("csistoragecapacities") if obj["metadata"].get("labels") == LABELS]
        assert {obj["capacity"] for obj in ours} <= {"100Gi"}
        world.wire.troubles.clear()
        before = room_writes(world)
        await asyncio.sleep(120)
        assert room_writes(world) == before
