from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from csisidecar.errors import StatusCode
from tests.plugins.attacher.world import (
    DRIVER,
    FINALIZER,
    NODE_ID,
    VA,
    Answer,
    Object,
    World,
    attachment,
    node,
    volume,
)

pytestmark = pytest.mark.looptime

CREATED = "2026-11-21T12:00:00Z"
INTERNAL = "rpc error: code = Internal desc = "
ABORTED = "rpc error: code = Aborted desc = "
CLAIM = {"kind": "PersistentVolumeClaim", "namespace": "shop", "name": "data", "uid": "claim-uid"}


def bound(**more: Any) -> Object:
    pv = volume(**more)
    pv["spec"]["claimRef"] = {"apiVersion": "v1", **CLAIM}
    return pv


def late_world(*objects: Object, **settings: Any) -> World:
    """Tries every 10 s, late after 55 s."""
    given = {"retry_interval_start_s": 10.0, "retry_interval_max_s": 10.0, "volume_attachment_timeout_s": 55.0}
    return World(*objects, **{**given, **settings})


def failing(count: int, message: str = "no") -> list[Answer]:
    return [Answer(StatusCode.INTERNAL, f"{message} {i}") for i in range(1, count + 1)]


@pytest.mark.parity("A-LATE-02", "A-LATE-03")
async def test_until_the_timeout_every_message_is_the_drivers_alone_and_after_it_the_story_follows() -> None:
    world = late_world(bound(), node(), attachment())
    world.driver.publish = failing(99)
    async with world.running():
        for attempt in range(1, 7):
            await asyncio.sleep(0.5 if attempt == 1 else 10)
            assert world.status["attachError"]["message"] == f"{INTERNAL}no {attempt}"
        await asyncio.sleep(10)
        story = f"not attached since {CREATED}, {{}} attempts, first error: {INTERNAL}no 1"
        assert world.status["attachError"] == {
            "message": f"{INTERNAL}no 7 ({story.format(7)})",
            "time": "2026-11-21T12:01:00Z",
            "errorCode": 13,
        }
        await asyncio.sleep(10)
        assert world.status["attachError"]["message"] == f"{INTERNAL}no 8 ({story.format(8)})"
    assert [round(at) for at in world.driver.times] == [0, 10, 20, 30, 40, 50, 60, 70]


async def test_late_error_that_never_changed_is_said_once() -> None:
    world = late_world(bound(), node(), attachment())
    world.driver.publish = [Answer(StatusCode.INTERNAL, "no")] * 99
    await world.run(75)
    text = f"{INTERNAL}no (not attached since {CREATED}, 8 attempts)"
    assert world.status["attachError"]["message"] == text


@pytest.mark.parity("A-LATE-01", "A-LATE-02")
async def test_timeout_is_told_once_on_the_attachment_and_on_its_claim(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    world = late_world(bound(), node(), attachment())
    world.driver.publish = failing(99)
    await world.run(300)
    text = f"pv1 is not attached to node node1 (not attached since {CREATED}, 6 attempts, first error: {INTERNAL}no 1)"
    late = [event for event in world.api.events() if event[1] == "AttachLate"]
    assert late == [("Warning", "AttachLate", text, 1)] * 2
    events = [o for o in world.api.objects.values() if o["kind"] == "Event" and o["reason"] == "AttachLate"]
    about = {o["involvedObject"]["kind"]: o for o in events}
    assert about["VolumeAttachment"]["involvedObject"]["uid"] == world.va["metadata"]["uid"]
    claim = about["PersistentVolumeClaim"]
    assert {key: claim["involvedObject"][key] for key in CLAIM} == CLAIM
    assert claim["metadata"]["namespace"] == "shop"
    assert world.numbers.seen["csi_sidecar_outcomes_total", "attach", "late"] == [1.0]
    assert len([record for record in caplog.records if record.message == "attachment is late"]) == 1
    assert not [request for request in world.api.requests if "persistentvolumeclaims" in request.path]


@pytest.mark.parity("A-LATE-04")
async def test_hung_first_call_is_shown_once_in_the_empty_error_and_the_success_clears_it() -> None:
    world = late_world(bound(), node(), attachment(), timeout_s=200.0)
    world.driver.publish = [Answer(delay_s=100.0, context={"devicePath": "/dev/h1"})]
    async with world.running():
        await asyncio.sleep(54)
        assert "attachError" not in world.status
        await asyncio.sleep(10)
        assert world.status["attachError"]["message"] == f"not attached since {CREATED}, 0 attempts"
        assert "errorCode" not in world.status["attachError"]
        await asyncio.sleep(40)
        assert world.status == {"attached": True, "attachmentMetadata": {"devicePath": "/dev/h1"}}
    shown = [request for request in world.api.requests if request.path == f"{VA}/status"]
    assert len(shown) == 2
    assert world.driver.calls == ["publish"]
    assert ("Normal", "Attached", "pv1 is attached to node node1", 1) in world.api.events()


async def test_report_from_a_copy_that_is_behind_does_not_put_an_error_beside_attached() -> None:
    world = late_world(bound(), node(), attachment(), timeout_s=200.0)
    world.driver.publish = [Answer(delay_s=30.0)]
    async with world.running():
        await asyncio.sleep(20)
        world.api.lag_s = 50.0
        await asyncio.sleep(50)
        assert len([request for request in world.api.requests if request.path == f"{VA}/status"]) == 2
        assert world.status == {"attached": True}


@pytest.mark.parity("A-LATE-01")
@pytest.mark.parametrize("timeout_s", [0.0, 1000.0])
async def test_no_timeout_and_one_not_reached_show_nowhere(timeout_s: float) -> None:
    world = late_world(bound(), node(), attachment(), volume_attachment_timeout_s=timeout_s)
    world.driver.publish = failing(99)
    await world.run(305)
    assert world.status["attachError"]["message"] == f"{INTERNAL}no 31"
    assert {event[1] for event in world.api.events()} == {"AttachFailed"}


async def test_message_with_the_story_is_cut_to_what_the_api_takes_at_a_character() -> None:
    world = late_world(bound(), node(), attachment(), volume_attachment_timeout_s=5.0)
    world.driver.publish = [Answer(StatusCode.INTERNAL, "ä" * 480)] * 9
    await world.run(15)
    message = world.status["attachError"]["message"]
    assert message.startswith(f"{INTERNAL}{'ä' * 480} (not attached since ")
    assert len(message.encode()) in (1023, 1024)


@pytest.mark.parity("A-ERROR-08")
async def test_first_error_that_says_why_stands_in_the_event_and_before_the_timeout_only_there() -> None:
    world = late_world(volume(), node(), attachment())
    world.driver.publish = [
        Answer(StatusCode.ABORTED, "pending"),
        Answer(StatusCode.RESOURCE_EXHAUSTED, "no slots"),
        Answer(StatusCode.ABORTED, "pending"),
    ]
    first = "rpc error: code = ResourceExhausted desc = no slots"
    async with world.running():
        await asyncio.sleep(0.5)
        assert world.api.events() == [("Warning", "AttachFailed", f"{ABORTED}pending", 1)]
        await asyncio.sleep(10)
        assert world.api.events() == [("Warning", "AttachFailed", first, 2)]
        await asyncio.sleep(10)
        assert world.api.events() == [("Warning", "AttachFailed", f"{ABORTED}pending (first error: {first})", 3)]
        assert world.status["attachError"]["message"] == f"{ABORTED}pending"


async def test_inline_volume_and_volume_without_claim_are_told_on_the_attachment_alone() -> None:
    inline = attachment("va2", pv=None, inline={"csi": {"driver": DRIVER, "volumeHandle": "h"}})
    world = late_world(volume(), attachment(), inline)
    await world.run(75)
    about = [o["involvedObject"] for o in world.api.objects.values() if o["kind"] == "Event"]
    assert {(o["kind"], o["name"]) for o in about} == {("VolumeAttachment", "va1"), ("VolumeAttachment", "va2")}
    assert len([event for event in world.api.events() if event[1] == "AttachLate"]) == 2


async def test_who_leads_next_says_it_in_the_error_but_tells_nobody_again() -> None:
    world = late_world(bound(), node(), attachment())
    world.driver.publish = failing(99)
    await world.run(75)
    before = len(world.api.events())
    await world.run(75)
    late = [event for event in world.api.events() if event[1] == "AttachLate"]
    assert len(late) == 2
    assert before == 3
    assert f"(not attached since {CREATED}, " in world.status["attachError"]["message"]


async def test_detach_that_takes_too_long_is_told_and_its_error_stays_as_upstream_writes_it() -> None:
    leaving = attachment(finalizers=[FINALIZER], annotations={NODE_ID: "nodeID1"}, deleted=CREATED)
    world = late_world(bound(), node(), leaving)
    world.driver.unpublish = failing(99)
    await world.run(75)
    assert world.status["detachError"]["message"] == f"{INTERNAL}no 8"
    story = f"not detached since {CREATED}, 6 attempts, first error: {INTERNAL}no 1"
    late = [event for event in world.api.events() if event[1] == "DetachLate"]
    assert late == [("Warning", "DetachLate", f"pv1 is not detached from node node1 ({story})", 1)] * 2
    assert world.numbers.seen["csi_sidecar_outcomes_total", "detach", "late"] == [1.0]


async def test_late_attachment_that_was_made_anew_starts_from_the_beginning() -> None:
    world = late_world(bound(), node(), attachment())
    world.driver.publish = failing(99)
    async with world.running():
        await asyncio.sleep(75)
        world.api.edit(VA, lambda obj: obj["metadata"].update(finalizers=[], deletionTimestamp=CREATED))
        world.api.put(attachment())
        calls = len(world.driver.calls)
        await asyncio.sleep(0.5)
        assert len(world.driver.calls) == calls + 1
        assert world.status["attachError"]["message"] == f"{INTERNAL}no {calls + 1}"


async def test_foreign_and_attached_attachments_are_never_late() -> None:
    done = attachment("va2", finalizers=[FINALIZER], annotations={NODE_ID: "nodeID1"}, status={"attached": True})
    gone = attachment("va3", finalizers=["other"], deleted=CREATED, status={"attached": False})
    world = late_world(bound(), node(), attachment(attacher="another"), done, gone)
    await world.run(100)
    assert world.api.events() == []
    assert world.api.writes() == []
