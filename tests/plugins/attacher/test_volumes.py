from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.plugins.attacher.world import FINALIZER, PV, VA, World, attachment, node, volume

pytestmark = pytest.mark.looptime

PV_PATCH = "PATCH persistentvolumes/pv1"
MIGRATED_TO = "pv.kubernetes.io/migrated-to"
EBS = {"accessModes": ["ReadWriteOnce"], "awsElasticBlockStore": {"volumeID": "vol-1"}}


async def test_deleted_volume_without_attachments_loses_the_finalizer_and_goes() -> None:
    world = World(volume(deleted=True, finalizers=[FINALIZER]))
    await world.run(1.0)
    assert PV not in world.api.objects
    assert world.api.writes() == [PV_PATCH]


@pytest.mark.parity("A-VOLUME-01")
@pytest.mark.parametrize(
    "holder",
    [
        attachment("va2", attacher="other.driver"),
        attachment("va2", finalizers=["x"], deleted=True),
        attachment("va2", status={"attached": True}),
    ],
    ids=["foreign", "leaving", "attached"],
)
async def test_any_attachment_holds_the_volume_until_it_is_gone(holder: dict[str, Any]) -> None:
    world = World(volume(deleted=True, finalizers=[FINALIZER]), holder)
    path = VA.replace("va1", "va2")
    async with world.running():
        await asyncio.sleep(5)
        assert world.pv["metadata"]["finalizers"] == [FINALIZER]
        if "deletionTimestamp" not in world.api.objects[path]["metadata"]:
            world.api.delete(path)
        else:
            world.api.edit(path, lambda obj: obj["metadata"].update(finalizers=[]))
        await asyncio.sleep(0.5)
    assert PV not in world.api.objects


async def test_inline_attachment_holds_no_volume() -> None:
    inline = {"csi": {"driver": "csi.test.io", "volumeHandle": "handle-pv1"}}
    world = World(
        volume(deleted=True, finalizers=[FINALIZER]), attachment(pv=None, inline=inline, status={"attached": True})
    )
    await world.run(1.0)
    assert PV not in world.api.objects


@pytest.mark.parity("A-VOLUME-05")
@pytest.mark.parametrize(
    "pv",
    [volume(finalizers=[FINALIZER]), volume(deleted=True, finalizers=["other"])],
    ids=["alive", "without-our-finalizer"],
)
async def test_volume_that_has_nothing_to_give_back_is_left_alone(pv: dict[str, Any]) -> None:
    world = World(pv, attachment(deleted=True))
    async with world.running():
        world.api.edit(VA, lambda obj: obj["metadata"].update(finalizers=[]))
        await asyncio.sleep(3)
    assert world.api.writes() == []


@pytest.mark.parity("A-VOLUME-04")
@pytest.mark.parametrize(
    ("annotations", "kept"),
    [({}, False), ({MIGRATED_TO: "other"}, False), ({MIGRATED_TO: "csi.test.io"}, True)],
    ids=["no-longer-migrated", "migrated-to-another", "still-migrated"],
)
async def test_in_tree_volume_whose_migration_ended_is_given_back_alive(
    annotations: dict[str, str], kept: bool
) -> None:
    world = World(volume(spec=EBS, finalizers=["a", FINALIZER], annotations=annotations))
    await world.run(3.0)
    assert world.pv["metadata"]["finalizers"] == (["a", FINALIZER] if kept else ["a"])


@pytest.mark.parity("A-VOLUME-03")
async def test_finalizers_listed_before_ours_leave_first_and_nothing_is_refused() -> None:
    world = World(volume(finalizers=["kubernetes.io/pv-protection", "provisioner", FINALIZER]))

    def drop(name: str) -> None:
        world.api.edit(PV, lambda obj: obj["metadata"]["finalizers"].remove(name))

    async with world.running():
        world.api.delete(PV)
        await asyncio.sleep(0.3)
        drop("kubernetes.io/pv-protection")
        await asyncio.sleep(0.3)
        assert world.api.writes() == []
        drop("provisioner")
        await asyncio.sleep(0.1)
        assert PV not in world.api.objects
    assert world.api.writes() == [PV_PATCH]


async def test_finalizer_listed_before_ours_that_stays_is_not_waited_for_long() -> None:
    world = World(volume(finalizers=["stays", FINALIZER]))
    async with world.running():
        world.api.delete(PV)
        await asyncio.sleep(4.5)
        assert world.pv["metadata"]["finalizers"] == ["stays", FINALIZER]
        await asyncio.sleep(1)
    assert world.pv["metadata"]["finalizers"] == ["stays"]


async def test_clock_ahead_of_or_behind_the_servers_holds_nothing_up() -> None:
    for deleted in ("2026-11-21T13:00:00Z", "2026-11-21T11:00:00Z", "soon"):
        world = World(volume(finalizers=["stays", FINALIZER], deleted=deleted))
        await world.run(0.5)
        assert world.pv["metadata"]["finalizers"] == ["stays"]


@pytest.mark.parity("A-VOLUME-02")
async def test_every_copy_of_the_finalizer_goes() -> None:
    world = World(volume(deleted=True, finalizers=[FINALIZER, "x", FINALIZER]))
    await world.run(1.0)
    assert world.pv["metadata"]["finalizers"] == ["x"]


async def test_list_that_moved_meanwhile_is_read_again() -> None:
    world = World(volume(deleted=True, finalizers=["a", FINALIZER]))
    world.api.lag_s = 1.0
    async with world.running():
        world.api.edit(PV, lambda obj: obj["metadata"].update(finalizers=[FINALIZER]))
        await asyncio.sleep(5)
    assert PV not in world.api.objects


async def test_whole_life_is_five_requests_of_the_attacher() -> None:
    world = World(volume(finalizers=["kubernetes.io/pv-protection"]), node())
    async with world.running():
        world.api.put(attachment())
        await asyncio.sleep(0.5)
        world.api.delete(VA)
        await asyncio.sleep(0.5)
        world.api.edit(PV, lambda obj: obj["metadata"]["finalizers"].remove("kubernetes.io/pv-protection"))
        world.api.delete(PV)
        await asyncio.sleep(3)
    assert world.api.objects.keys() == {"/apis/storage.k8s.io/v1/csinodes/node1"}
    assert [r.short for r in world.api.requests] == [
        PV_PATCH,
        "PATCH volumeattachments/va1",
        "PATCH volumeattachments/va1/status",
        "PATCH volumeattachments/va1",
        PV_PATCH,
    ]
    assert world.driver.calls == ["publish", "unpublish"]
