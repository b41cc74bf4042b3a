"""Amounts: how they are written, when they are left out, and which texts say the same."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

import pytest

from csisidecar.testing.driver.world import World as DriverWorld
from tests.plugins.provisioner.capacity.rooms import LATE, load_room, nudge, quiet_world, room_writes, rooms
from tests.plugins.provisioner.world import GIB, World

pytestmark = [pytest.mark.looptime, pytest.mark.timeout(120)]

NOT_TOLD = cast("int", None)
"""What a driver answers that leaves the largest size of a volume out."""


def one_room(total_bytes: int = GIB, max_volume_bytes: int = NOT_TOLD) -> World:
    world = quiet_world(zones="a")
    world.driver.settings = replace(world.driver.settings, total_bytes=total_bytes, max_volume_bytes=max_volume_bytes)
    return world


def only_room(world: World) -> dict[str, object]:
    (obj,) = world.api.list("csistoragecapacities")
    return cast("dict[str, object]", obj)


WRITTEN = [
    pytest.param(0, "0", id="nothing", marks=pytest.mark.parity("T-AMOUNT-01")),
    pytest.param(1, "1", id="one", marks=pytest.mark.parity("T-AMOUNT-02")),
    pytest.param(1000, "1k", id="thousand", marks=pytest.mark.parity("T-AMOUNT-03")),
    pytest.param(1023, "1023", id="below", marks=pytest.mark.parity("T-AMOUNT-04")),
    pytest.param(1024, "1Ki", id="kibi", marks=pytest.mark.parity("T-AMOUNT-05")),
    pytest.param(1536, "1536", id="uneven", marks=pytest.mark.parity("T-AMOUNT-06")),
    pytest.param(100 * GIB, "100Gi", id="gibi", marks=pytest.mark.parity("T-AMOUNT-07")),
    pytest.param(10**9, "1000000000", id="decimal", marks=pytest.mark.parity("T-AMOUNT-08")),
    pytest.param(2**63 - 1, "9223372036854775807", id="largest", marks=pytest.mark.parity("T-AMOUNT-09")),
]


@pytest.mark.parametrize(("amount_bytes", "text"), WRITTEN)
async def test_amounts_are_written_in_canonical_form(
    amount_bytes: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = one_room(max_volume_bytes=amount_bytes)
    monkeypatch.setattr(DriverWorld, "free_bytes", lambda _: amount_bytes)
    await world.run()
    (created,) = [body for verb, what, body in world.wire.requests if (verb, what[:4]) == ("create", "csis")]
    assert (created["capacity"], created["maximumVolumeSize"]) == (text, text)


@pytest.mark.parity("T-AMOUNT-10")
async def test_largest_size_of_a_volume_that_is_not_told_is_left_out() -> None:
    world = one_room()
    await world.run()
    assert "maximumVolumeSize" not in only_room(world)


@pytest.mark.parity("T-AMOUNT-11")
async def test_largest_size_of_a_volume_is_taken_off_and_put_on_as_it_is_told() -> None:
    world = one_room(max_volume_bytes=0)
    found = []
    async with world.running():
        for size in (NOT_TOLD, GIB, 0):
            await asyncio.sleep(1)
            found.append(only_room(world).get("maximumVolumeSize"))
            world.driver.settings = replace(world.driver.settings, max_volume_bytes=size)
            nudge(world)
        await asyncio.sleep(1)
        found.append(only_room(world).get("maximumVolumeSize"))
    assert found == ["0", None, "1Gi", "0"]
    assert room_writes(world) == ["create", "update", "update", "update"]


SAME = [
    pytest.param("1024Mi", id="suffix", marks=pytest.mark.parity("T-AMOUNT-12")),
    pytest.param("1073741824", id="digits", marks=pytest.mark.parity("T-AMOUNT-13")),
    pytest.param("1073741823500m", id="rounded", marks=pytest.mark.parity("T-AMOUNT-14")),
    pytest.param("1073.741824e6", id="exponent", marks=pytest.mark.parity("T-AMOUNT-15")),
]


@pytest.mark.parametrize("text", SAME)
async def test_object_that_says_the_same_in_other_words_is_not_written(text: str) -> None:
    world = one_room()
    load_room(world, "found", capacity=text)
    await world.run()
    assert room_writes(world) == []
    assert rooms(world) == {("fast", "zone=a"): text}


@pytest.mark.parity("T-AMOUNT-16")
async def test_object_that_says_one_byte_more_or_less_is_written() -> None:
    for text in ("1073741823", "1073741825", "1073741824001m"):
        world = one_room()
        load_room(world, "found", capacity=text)
        await world.run()
        assert room_writes(world) == ["update"]
        assert rooms(world) == {("fast", "zone=a"): "1Gi"}


@pytest.mark.parity("T-AMOUNT-17")
async def test_smallest_size_of_a_volume_has_no_place_in_the_object() -> None:
    world = quiet_world(zones="a")
    world.add_class("other", **LATE)
    await world.run()
    fields = {field for obj in world.api.list("csistoragecapacities") for field in obj}
    assert fields == {
        "apiVersion",
        "kind",
        "metadata",
        "nodeTopology",
        "storageClassName",
        "capacity",
        "maximumVolumeSize",
    }
