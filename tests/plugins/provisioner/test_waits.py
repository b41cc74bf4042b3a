"""What wakes a claim before its backoff is over, and which error stays in sight while it waits."""

from __future__ import annotations

import asyncio
import base64

import pytest

from csisidecar.config import ProvisionerSettings
from tests.plugins.provisioner.world import World

pytestmark = pytest.mark.looptime

SLOW = ProvisionerSettings(retry_interval_start_s=300)
PAIR = {
    "csi.storage.k8s.io/provisioner-secret-name": "creds",
    "csi.storage.k8s.io/provisioner-secret-namespace": "team",
}


def add_secret(world: World, value: bytes = b"v") -> None:
    meta = {"name": "creds", "namespace": "team"}
    data = {"k": base64.b64encode(value).decode()}
    world.api.create({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data})


async def test_secret_that_comes_wakes_every_claim_that_waits_for_it_with_one_look() -> None:
    world = World(settings=SLOW)
    world.add_class(parameters=PAIR)
    uids = [world.add_claim(f"data-{number}") for number in range(5)]
    async with world.running():
        await asyncio.sleep(1)
        assert len(world.warnings()) == 5
        before = len(world.wire.requests)
        await asyncio.sleep(15)
        assert [what for _, what, _ in world.wire.requests[before:]] == ["secrets/creds"]
        add_secret(world)
        await asyncio.sleep(15.5)
    for uid in uids:
        assert world.volume(uid)


async def test_secret_that_changes_wakes_a_claim_that_the_driver_refused() -> None:
    world = World(settings=SLOW)
    world.driver.order("CreateVolume:Unauthenticated=wrong key x1")
    add_secret(world, b"old")
    world.add_class(parameters=PAIR)
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(40)
        assert len(world.calls()) == 1

        def rotate(obj: dict[str, dict[str, str]]) -> None:
            obj["data"]["k"] = base64.b64encode(b"new").decode()

        world.api.edit("secrets", "creds", rotate, "team")
        await asyncio.sleep(16)
    assert world.volume(uid)
    assert [request.secrets["k"] for request in world.calls()] == ["old", "new"]


async def test_api_that_does_not_answer_wakes_nobody_and_ends_nothing() -> None:
    world = World(settings=SLOW)
    world.add_class(parameters=PAIR)
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(1)
        world.refuse("get", "secrets", 500, times=1)
        world.refuse("get", "secrets", 0, "reset", times=1)
        await asyncio.sleep(31)
        assert len(world.warnings()) == 1
        add_secret(world)
        await asyncio.sleep(16)
    assert world.volume(uid)


async def test_first_error_that_says_why_is_kept_through_what_follows_from_it() -> None:
    world = World()
    world.driver.order(
        "CreateVolume:Aborted=operation already exists x1",
        "CreateVolume:Internal=disk on fire x1",
        "CreateVolume:Aborted=operation already exists x9",
    )
    world.add_class()
    world.add_claim()
    async with world.running():
        await asyncio.sleep(0.5)
        aborted = "rpc error: code = Aborted desc = operation already exists"
        assert world.warnings() == [aborted]
        await asyncio.sleep(12)
        (told,) = world.warnings()
        assert told.startswith(f"{aborted} (first: rpc error: code = Internal desc = disk on fire; 4 attempts since ")


async def test_long_error_keeps_the_history_at_its_end() -> None:
    world = World()
    world.driver.order(f"CreateVolume:Internal={'x' * 2000}")
    world.add_class()
    world.add_claim()
    await world.run(5)
    (told,) = world.warnings()
    assert told.startswith("rpc error: code = Internal desc = xxx")
    assert told.endswith("next in about 4s)")
    assert len(told.encode()) == 1024


async def test_object_that_is_looked_at_in_each_of_many_attempts_is_remembered_once() -> None:
    """While CreateVolume may be running, each attempt says the same with the Secret as it is then."""
    world = World(settings=ProvisionerSettings(retry_interval_max_s=1))
    world.driver.order("CreateVolume:Aborted=operation already exists x99")
    add_secret(world)
    world.add_class(parameters=PAIR)
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(30)
        assert len(world.calls()) > 20
        waits = world.plugin._memory.waits
        assert [str(each) for each in waits._by_claim[uid]] == ["secrets team/creds"]
