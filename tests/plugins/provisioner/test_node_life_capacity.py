"""A node reboots, loses its driver, is not labeled yet, is deleted: what that does to published capacity."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from csisidecar.config import CapacitySettings, ProvisionerSettings, RateConfig
from tests.plugins.provisioner.test_node_life import (
    come_unlabeled,
    label,
    lose_both,
    lose_csinode,
    lose_node,
    reboot,
    register,
    traffic,
)
from tests.plugins.provisioner.test_places import LATE, PLACES, add_node
from tests.plugins.provisioner.world import CAPABILITIES, DRIVER, GIB, World

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.looptime


def reboot_all(world: World) -> None:
    """One after the other."""
    for name in ("n1", "n2", "n3"):
        reboot(world, name)


def room_world() -> World:
    """n1 alone in zone a, n2 and n3 in zone b, and what is published about them."""
    capacity = CapacitySettings(namespace="team", ownerref_level=-1, rate=RateConfig())
    world = World(
        settings=ProvisionerSettings(capacity=capacity, retry_interval_max_s=8),
        controller=CAPABILITIES | {"GET_CAPACITY"},
        plugin_capabilities=PLACES,
        topology={"zone": "a"},
    )
    world.driver.settings = replace(
        world.driver.settings, places=tuple({"zone": zone} for zone in "abd"), total_bytes=100 * GIB
    )
    for name, zone in (("n1", "a"), ("n2", "b"), ("n3", "b")):
        add_node(world, name, zone=zone)
    world.add_class(**LATE)
    return world


def rooms(world: World) -> list[str]:
    """Zones with an object, sorted."""
    return sorted(obj["nodeTopology"]["matchLabels"]["zone"] for obj in world.api.list("csistoragecapacities"))


@pytest.mark.parametrize(
    "happens",
    [
        pytest.param(reboot_all, id="reboot", marks=pytest.mark.parity("T-LIFE-08")),
        pytest.param(come_unlabeled, id="not labeled yet"),
        pytest.param(lambda world: register(world, "n2", is_there=False), id="driver of one of two nodes restarts"),
        pytest.param(lambda world: lose_csinode(world, "n2"), id="CSINode of one of two nodes deleted"),
        pytest.param(lambda world: lose_node(world, "n2"), id="one of two nodes deleted"),
    ],
)
async def test_published_room_does_not_care(happens: Callable[[World], None]) -> None:
    world = room_world()
    async with world.running():
        await asyncio.sleep(1)
        before = traffic(world)
        assert rooms(world) == ["a", "b"]
        happens(world)
        await asyncio.sleep(30)
        assert traffic(world) == before
        assert rooms(world) == ["a", "b"]


@pytest.mark.parametrize(
    ("happens", "ends"),
    [
        pytest.param(
            lambda world: register(world, is_there=False),
            register,
            id="driver restarts",
            marks=pytest.mark.parity("T-LIFE-11"),
        ),
        pytest.param(
            lose_csinode,
            lambda world: world.api.create(
                {
                    "apiVersion": "storage.k8s.io/v1",
                    "kind": "CSINode",
                    "metadata": {"name": "n1"},
                    "spec": {"drivers": [{"name": DRIVER, "nodeID": "n1", "topologyKeys": ["zone"]}]},
                }
            ),
            id="CSINode deleted",
            marks=pytest.mark.parity("T-LIFE-17"),
        ),
        pytest.param(
            lose_node,
            lambda world: world.api.create(
                {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {"zone": "a"}}}
            ),
            id="Node deleted",
            marks=pytest.mark.parity("T-LIFE-20"),
        ),
        pytest.param(
            lose_both,
            lambda world: add_node(world, "n1", zone="a"),
            id="both deleted",
            marks=pytest.mark.parity("T-LIFE-23"),
        ),
    ],
)
async def test_published_room_of_a_place_without_nodes_goes_and_comes_back(
    happens: Callable[[World], None], ends: Callable[[World], None]
) -> None:
    world = room_world()
    async with world.running():
        await asyncio.sleep(1)
        assert rooms(world) == ["a", "b"]
        happens(world)
        await asyncio.sleep(1)
        assert rooms(world) == ["b"]
        ends(world)
        await asyncio.sleep(1)
        assert rooms(world) == ["a", "b"]
    verbs = [line.split()[0] for line in world.writes() if line.endswith("csistoragecapacities")]
    assert verbs == ["create", "create", "delete", "create"]


@pytest.mark.parity("T-LIFE-14")
async def test_room_is_published_for_a_node_once_it_is_labeled() -> None:
    world = room_world()
    async with world.running():
        add_node(world, "n4")
        await asyncio.sleep(1)
        assert rooms(world) == ["a", "b"]
        label(world, "n4", zone="d")
        await asyncio.sleep(1)
        assert rooms(world) == ["a", "b", "d"]
