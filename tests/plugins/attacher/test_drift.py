from __future__ import annotations

import asyncio
import copy
import logging
from dataclasses import dataclass, field
from typing import Any

import pytest

from csisidecar.csi import ListVolumesResponse, ListVolumesResponseEntry
from csisidecar.errors import StatusCode
from tests.plugins.attacher.world import (
    DRIVER,
    FINALIZER,
    LISTING,
    NODE_ID,
    VA,
    Answer,
    Object,
    World,
    attachment,
    node,
    page_of,
    volume,
)

pytestmark = pytest.mark.looptime

ATTACHED = {"attached": True, "attachmentMetadata": {"devicePath": "/dev/h1"}}
NOW = "2026-11-21T12:00:00Z"
THERE = ("handle-pv1", "nodeID1")


def settled(**more: Any) -> Object:
    """An attachment that is attached, as an attacher left it."""
    return attachment(**{"finalizers": [FINALIZER], "annotations": {NODE_ID: "nodeID1"}, "status": ATTACHED, **more})


def leaving(**more: Any) -> Object:
    """One being deleted that somebody else holds, with our finalizer off."""
    return settled(**{"finalizers": ["other"], "deleted": NOW, **more})


@dataclass(frozen=True, kw_only=True)
class Drift:
    """An attachment, what the driver lists, the calls and writes that follow, and what the status is then."""

    name: str
    attachment: Object
    listed: frozenset[tuple[str, str]] = frozenset()
    others: tuple[Object, ...] = field(default_factory=lambda: (volume(finalizers=[FINALIZER]), node()))
    calls: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    status: Object = field(default_factory=lambda: copy.deepcopy(ATTACHED))


_INLINE = {"csi": {"driver": DRIVER, "volumeHandle": "inline"}, "accessModes": ["ReadWriteOnce"]}

DRIFTS = [
    Drift(name="attached-and-listed", attachment=settled(), listed=frozenset({THERE})),
    Drift(name="attached-but-not-listed", attachment=settled(), calls=("publish",)),
    Drift(
        name="attached-but-listed-on-another-node",
        attachment=settled(),
        listed=frozenset({("handle-pv1", "nodeID2")}),
        calls=("publish",),
    ),
    Drift(
        name="deleted-without-our-finalizer-but-listed",
        attachment=leaving(status={"attached": False}),
        listed=frozenset({THERE}),
        calls=("unpublish",),
        status={"attached": False},
    ),
    Drift(
        name="deleted-without-our-finalizer-attached-but-not-listed",
        attachment=leaving(),
        calls=("unpublish",),
        writes=("PATCH volumeattachments/va1/status",),
        status={"attached": False},
    ),
    Drift(
        name="deleted-without-our-finalizer-and-they-agree",
        attachment=leaving(status={"attached": False}),
        status={"attached": False},
    ),
    Drift(
        name="inline-attached-but-not-listed",
        attachment=settled(pv=None, inline=_INLINE),
        others=(node(),),
        calls=("publish",),
    ),
    Drift(
        name="inline-attached-and-listed",
        attachment=settled(pv=None, inline=_INLINE),
        others=(node(),),
        listed=frozenset({("inline", "nodeID1")}),
    ),
    Drift(
        name="csinode-gone-attached-but-not-listed",
        attachment=settled(),
        others=(volume(finalizers=[FINALIZER]),),
        calls=("publish",),
    ),
    Drift(name="volume-gone", attachment=settled(), others=(node(),)),
    Drift(
        name="nobody-knows-the-node",
        attachment=settled(annotations={}),
        others=(volume(finalizers=[FINALIZER]),),
    ),
    Drift(name="foreign-attachment", attachment=settled(attacher="another.csi.driver")),
]


@pytest.mark.parity("A-DRIFT-03", "A-DRIFT-06", "A-DRIFT-01", "A-DRIFT-02", "A-DRIFT-04")
@pytest.mark.parametrize("case", DRIFTS, ids=lambda case: case.name)
async def test_comparison(case: Drift) -> None:
    world = World(*copy.deepcopy(case.others), copy.deepcopy(case.attachment), capabilities=LISTING)
    world.driver.published = set(case.listed)
    await world.run(3.0)
    assert len(world.driver.asked) == 1
    assert tuple(world.driver.calls) == case.calls
    assert tuple(world.api.writes()) == case.writes
    assert world.status == case.status


async def test_pending_attachment_that_is_listed_is_attached_now_and_not_when_its_backoff_is_over() -> None:
    world = World(volume(), node(), attachment(), capabilities=LISTING, retry_interval_start_s=300.0)
    world.driver.publish = [Answer(StatusCode.INTERNAL, "no", late=True)]
    async with world.running():
        await asyncio.sleep(50)
        assert world.driver.calls == ["publish"]
        await asyncio.sleep(20)
    assert world.driver.calls == ["publish", "publish"]
    assert world.status == ATTACHED


async def test_pending_detach_that_is_not_listed_is_detached_now() -> None:
    world = World(volume(), node(), settled(deleted=NOW), capabilities=LISTING, retry_interval_start_s=300.0)
    world.driver.published = {THERE}
    world.driver.lists = [Answer(StatusCode.INTERNAL, "no")]
    world.driver.unpublish = [Answer(StatusCode.INTERNAL, "no", late=True)]
    async with world.running():
        await asyncio.sleep(50)
        assert VA in world.api.objects
        await asyncio.sleep(20)
    assert VA not in world.api.objects


async def test_driver_that_never_lists_is_published_to_once_a_comparison_and_nothing_is_written() -> None:
    world = World(volume(finalizers=[FINALIZER]), node(), settled(), capabilities=LISTING)
    world.driver.pages = {"": ListVolumesResponse()}
    await world.run(150)
    assert world.driver.times == [pytest.approx(t, abs=0.1) for t in (0, 60, 120)]
    assert world.api.writes() == []
    assert world.numbers.seen.get(("csi_sidecar_end_to_end_seconds", "attach")) is None


@pytest.mark.parity("A-DRIFT-07")
async def test_republish_that_fails_shows_is_retried_by_the_backoff_and_cleared() -> None:
    world = World(volume(finalizers=[FINALIZER]), node(), settled(), capabilities=LISTING)
    world.driver.publish = [Answer(StatusCode.INTERNAL, "no"), Answer(StatusCode.INTERNAL, "no")]
    async with world.running():
        await asyncio.sleep(0.5)
        assert world.status["attached"] is True
        assert world.status["attachError"]["message"] == "rpc error: code = Internal desc = no"
        await asyncio.sleep(5)
    assert world.driver.times == [pytest.approx(t, abs=0.1) for t in (0, 1, 3)]
    assert world.status == ATTACHED


@pytest.mark.parity("A-DRIFT-05", "A-DRIFT-05")
async def test_error_of_a_republish_goes_when_the_driver_lists_the_volume_again() -> None:
    world = World(volume(finalizers=[FINALIZER]), node(), settled(), capabilities=LISTING, retry_interval_start_s=90.0)
    world.driver.publish = [Answer(StatusCode.INTERNAL, "no", late=True)]
    async with world.running():
        await asyncio.sleep(30)
        assert "attachError" in world.status
        await asyncio.sleep(90)
    assert world.status == ATTACHED
    assert world.driver.calls == ["publish"]


async def test_stale_error_that_another_attacher_left_beside_attached_goes() -> None:
    status = {**ATTACHED, "attachError": {"message": "old", "time": NOW}}
    world = World(volume(finalizers=[FINALIZER]), node(), settled(status=status))
    await world.run(3.0)
    assert world.status == ATTACHED
    assert world.driver.calls == []
    assert world.api.writes() == ["PATCH volumeattachments/va1/status"]


async def test_comparison_that_fails_leaves_what_was_seen_before() -> None:
    world = World(volume(finalizers=[FINALIZER]), node(), settled(), capabilities=LISTING, retry_interval_start_s=90.0)
    world.driver.publish = [Answer(StatusCode.INTERNAL, "no")]
    world.driver.lists = [Answer(), Answer(StatusCode.INTERNAL, "no")]
    async with world.running():
        await asyncio.sleep(100)
    assert world.driver.times == [pytest.approx(t, abs=0.1) for t in (0, 90)]


@pytest.mark.parity("A-DRIFT-05")
async def test_csinode_gone_leaves_the_kept_node_id_and_no_error_on_an_attached_attachment() -> None:
    world = World(volume(finalizers=[FINALIZER]), settled(annotations={NODE_ID: "kept"}), capabilities=LISTING)
    await world.run(3.0)
    assert [request.node_id for request in world.driver.requests] == ["kept"]
    assert world.status == ATTACHED


@pytest.mark.parity("A-DRIFT-04", "A-DRIFT-06")
async def test_what_was_seen_of_an_attachment_says_nothing_of_a_new_one_of_its_name() -> None:
    world = World(volume(finalizers=[FINALIZER]), node(), settled(), capabilities=LISTING)
    world.driver.publish = [Answer(StatusCode.INTERNAL, "no")]
    async with world.running():
        await asyncio.sleep(0.5)
        world.api.edit(VA, lambda obj: obj["metadata"].update(finalizers=[], deletionTimestamp=NOW))
        world.api.put(settled())
        await asyncio.sleep(10)
    assert world.driver.calls == ["publish"]


@pytest.mark.parity("A-DRIFT-08")
async def test_attachment_that_is_attached_while_the_driver_lists_is_not_published_twice() -> None:
    world = World(volume(), node(), attachment(), capabilities=LISTING)
    world.driver.publish = [Answer(delay_s=2.0, context={"devicePath": "/dev/h1"})]
    world.driver.lists = [Answer(delay_s=4.0)]
    world.driver.pages = {"": ListVolumesResponse()}
    await world.run(30)
    assert world.driver.calls == ["publish"]
    assert world.status == ATTACHED


async def test_publish_in_flight_that_is_listed_already_is_not_repeated() -> None:
    world = World(volume(), node(), attachment(), capabilities=LISTING)
    world.driver.publish = [Answer(delay_s=8.0, context={"devicePath": "/dev/h1"})]
    world.driver.lists = [Answer(delay_s=4.0)]
    world.driver.pages = {"": page_of([THERE])}
    await world.run(30)
    assert world.driver.calls == ["publish"]


@pytest.mark.parity("A-DRIFT-01")
@pytest.mark.parity("A-DRIFT-11")
async def test_pause_is_counted_from_the_end_of_a_comparison_and_pages_are_asked_for_as_told() -> None:
    world = World(volume(finalizers=[FINALIZER]), node(), settled(), capabilities=LISTING, max_entries=7)
    world.driver.pages = {"": page_of([("x", "y")], next_token="more"), "more": page_of([THERE])}
    world.driver.lists = [Answer(), Answer(delay_s=10.0)]
    await world.run(100)
    told = [(round(at), request.max_entries, request.starting_token) for at, request in world.driver.asked]
    assert told == [(0, 7, ""), (0, 7, "more"), (70, 7, ""), (70, 7, "more")]
    assert world.driver.calls == []


async def test_unpublish_that_a_comparison_asked_for_is_not_repeated_at_the_next_change() -> None:
    world = World(volume(), node(), leaving(status={"attached": False}), capabilities=LISTING)
    world.driver.published = {THERE}
    async with world.running():
        await asyncio.sleep(1)
        world.api.edit(VA, lambda obj: obj["metadata"]["annotations"].update(touched="yes"))
        await asyncio.sleep(1)
    assert world.driver.calls == ["unpublish"]


async def test_republish_that_ends_while_the_driver_lists_again_makes_that_list_old() -> None:
    world = World(volume(finalizers=[FINALIZER]), node(), settled(), capabilities=LISTING, timeout_s=100.0)
    world.driver.publish = [Answer(delay_s=65.0, context={"devicePath": "/dev/h1"})]
    world.driver.lists = [Answer(), Answer(delay_s=10.0)]
    world.driver.pages = {"": ListVolumesResponse()}
    await world.run(80)
    assert len(world.driver.asked) == 2
    assert world.driver.calls == ["publish"]


async def test_attachment_that_somebody_else_marks_attached_while_the_driver_lists_is_not_compared() -> None:
    pending = settled(status={"attached": False})
    world = World(volume(finalizers=[FINALIZER]), node(), pending, capabilities=LISTING)
    world.driver.publish = [Answer(delay_s=2.0, code=StatusCode.INTERNAL, message="no")]
    world.driver.lists = [Answer(delay_s=4.0)]
    world.driver.pages = {"": ListVolumesResponse()}
    async with world.running():
        await asyncio.sleep(1)
        world.api.edit(VA, lambda obj: obj["status"].update(attached=True))
        await asyncio.sleep(10)
    assert world.driver.calls == ["publish"]


@dataclass(frozen=True, kw_only=True)
class BadList:
    """A list that is no good: pages, what happens to the first call; whether it counts all the same."""

    name: str
    pages: dict[str, ListVolumesResponse]
    first: Answer = field(default_factory=Answer)
    counts: bool = False


def _without(part: str) -> ListVolumesResponseEntry:
    entry = page_of([THERE]).entries[0]
    setattr(entry, part, None)
    return entry


BAD_LISTS = [
    BadList(name="error", pages={}, first=Answer(StatusCode.INTERNAL, "no")),
    BadList(name="bad-token", pages={}, first=Answer(StatusCode.ABORTED, "invalid starting_token")),
    BadList(name="hangs", pages={}, first=Answer(delay_s=20.0)),
    BadList(name="token-that-leads-nowhere", pages={"": page_of([], next_token="a"), "a": page_of([], next_token="a")}),
    BadList(
        name="duplicates-the-last-counts",
        pages={"": ListVolumesResponse(entries=page_of([THERE]).entries + page_of([("handle-pv1", "")]).entries)},
        counts=True,
    ),
    BadList(name="entry-without-status", pages={"": ListVolumesResponse(entries=[_without("status")])}, counts=True),
    BadList(name="entry-without-volume", pages={"": ListVolumesResponse(entries=[_without("volume")])}, counts=True),
]


@pytest.mark.parity("A-DRIFT-02", "A-DRIFT-03")
@pytest.mark.parametrize("case", BAD_LISTS, ids=lambda case: case.name)
async def test_bad_list_has_no_effect_and_the_next_comparison_comes_as_ever(
    case: BadList, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    world = World(volume(finalizers=[FINALIZER]), node(), settled(), capabilities=LISTING)
    world.driver.lists = [case.first]
    world.driver.pages = case.pages
    async with world.running():
        await asyncio.sleep(30)
        assert world.driver.calls == (["publish"] if case.counts else [])
        assert any(record.message == "attempt failed" for record in caplog.records) is not case.counts
        world.driver.pages = {}
        world.driver.published = {THERE}
        asked = len(world.driver.asked)
        await asyncio.sleep(50)
    assert len(world.driver.asked) == asked + 1
    assert world.status == ATTACHED


@pytest.mark.parity("A-DRIFT-10")
@pytest.mark.parametrize("lacking", ["LIST_VOLUMES", "LIST_VOLUMES_PUBLISHED_NODES", "PUBLISH_UNPUBLISH_VOLUME"])
async def test_driver_without_one_of_the_capabilities_is_not_asked(lacking: str) -> None:
    world = World(volume(), node(), settled(), capabilities=LISTING - {lacking})
    await world.run(3.0)
    assert world.driver.asked == []


async def test_only_the_attachments_that_cannot_be_compared_are_left_out_in_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    lost = [settled(name=f"lost{i}", pv=f"gone{i}") for i in range(30)]
    world = World(volume(finalizers=[FINALIZER]), node(), settled(), *lost, capabilities=LISTING)
    await world.run(3.0)
    assert world.driver.calls == ["publish"]
    [line] = [record for record in caplog.records if record.message.startswith("attachments could not be")]
    assert (line.__dict__["count"], len(line.__dict__["first"])) == (30, 10)
