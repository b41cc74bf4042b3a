from __future__ import annotations

import asyncio
import base64
import copy
from dataclasses import dataclass, field
from typing import Any

import pytest

from csisidecar.csi import ControllerPublishVolumeRequest, VolumeCapabilityAccessModeMode
from csisidecar.errors import StatusCode
from tests.plugins.attacher.world import (
    DRIVER,
    FINALIZER,
    NODE,
    NODE_ID,
    PV,
    VA,
    Answer,
    Object,
    World,
    attachment,
    node,
    secret,
    volume,
)

pytestmark = pytest.mark.looptime

FV_PATCH, PV_PATCH, STATUS_PATCH = (
    "PATCH volumeattachments/va1",
    "PATCH persistentvolumes/pv1",
    ("PATCH volumeattachments/va1/status"),
)


def only_request(world: World) -> ControllerPublishVolumeRequest:
    assert len(world.driver.requests) == 1
    request = world.driver.requests[0]
    assert isinstance(request, ControllerPublishVolumeRequest)
    return request


async def test_attach_takes_three_writes_in_order_and_one_publish() -> None:
    world = World(volume(finalizers=["kubernetes.io/pv-protection"]), node(), attachment())
    await world.run(5.0)
    assert world.api.writes() == [PV_PATCH, FV_PATCH, STATUS_PATCH]
    assert world.driver.calls == ["publish"]
    assert world.pv["metadata"]["finalizers"] == ["kubernetes.io/pv-protection", FINALIZER]
    assert world.va["metadata"]["finalizers"] == [FINALIZER]
    assert world.va["metadata"]["annotations"] == {NODE_ID: "nodeID1"}
    assert world.status == {"attached": True, "attachmentMetadata": {"devicePath": "/dev/h1"}}
    assert world.api.events() == []
    assert not [r for r in world.api.requests if r.method == "GET"]


@pytest.mark.parity("A-ATTACH-01")
async def test_finalizers_and_node_id_are_saved_before_the_driver_is_called() -> None:
    world = World(volume(), node(), attachment())
    seen: list[tuple[Any, Any, Any]] = []

    def look() -> None:
        seen.append(
            (
                world.pv["metadata"].get("finalizers"),
                world.va["metadata"].get("finalizers"),
                world.va["metadata"].get("annotations"),
            )
        )

    world.driver.before = look
    await world.run()
    assert seen == [([FINALIZER], [FINALIZER], {NODE_ID: "nodeID1"})]


@pytest.mark.parity("A-OWN-04")
async def test_slow_watch_does_not_lead_to_a_second_publish() -> None:
    world = World(volume(), node(), attachment())
    world.api.lag_s = 0.3
    await world.run(20.0)
    assert world.driver.calls == ["publish"]
    assert world.api.writes() == [PV_PATCH, FV_PATCH, STATUS_PATCH]


@pytest.mark.parity("A-OWN-05")
async def test_own_marks_do_not_start_a_second_attempt_after_a_failure() -> None:
    world = World(volume(), node(), attachment(), retry_interval_start_s=1.0)
    world.driver.publish = [Answer(StatusCode.INTERNAL, "boom")] * 5
    await world.run(20.0)
    starts = [round(at - world.driver.times[0], 1) for at in world.driver.times]
    assert starts == [0.0, 1.0, 3.0, 7.0, 15.0]


async def test_request_carries_everything_the_volume_says() -> None:
    csi = {
        "readOnly": True,
        "fsType": "xfs",
        "volumeAttributes": {"a": "b"},
        "controllerPublishSecretRef": {"name": "s", "namespace": "ns"},
    }
    pv = volume(csi=csi)
    pv["spec"].update(accessModes=["ReadWriteMany"], mountOptions=["z", "a"])
    world = World(
        pv,
        node(),
        attachment(),
        secret({"password": base64.b64encode(b"hunter2").decode()}),
        capabilities=frozenset({"PUBLISH_UNPUBLISH_VOLUME", "PUBLISH_READONLY"}),
        default_fstype="ext4",
    )
    await world.run()
    request = only_request(world)
    assert (request.volume_id, request.node_id, request.readonly) == ("handle-pv1", "nodeID1", True)
    assert (request.volume_context, request.secrets) == ({"a": "b"}, {"password": "hunter2"})
    capability = request.volume_capability
    assert capability is not None
    assert capability.mount is not None
    assert (capability.mount.fs_type, capability.mount.mount_flags) == ("xfs", ["z", "a"])
    assert capability.access_mode is not None
    assert capability.access_mode.mode == VolumeCapabilityAccessModeMode.MULTI_NODE_MULTI_WRITER


@pytest.mark.parity("A-ATTACH-09")
async def test_readonly_is_never_sent_to_a_driver_that_does_not_know_it() -> None:
    world = World(volume(csi={"readOnly": True}), node(), attachment(), default_fstype="ext4")
    await world.run()
    request = only_request(world)
    assert request.readonly is False
    assert request.volume_capability is not None
    assert request.volume_capability.mount is not None
    assert request.volume_capability.mount.fs_type == "ext4"


@pytest.mark.parity("A-ATTACH-11")
async def test_inline_volume_attaches_without_touching_any_volume() -> None:
    inline = {"accessModes": ["ReadWriteOnce"], "csi": {"driver": DRIVER, "volumeHandle": "inline-handle"}}
    world = World(node(), attachment(pv=None, inline=inline))
    await world.run()
    assert only_request(world).volume_id == "inline-handle"
    assert world.api.writes() == [FV_PATCH, STATUS_PATCH]
    assert world.status["attached"] is True


@dataclass(frozen=True, kw_only=True)
class Refused:
    """An attachment that cannot be attached: what there is, and what its attachError says."""

    name: str
    objects: tuple[Object, ...]
    text: str
    code: int | None = None
    writes: tuple[str, ...] = field(default=())
    """Before the error is saved."""


_BOTH = attachment(inline={"csi": {"driver": DRIVER, "volumeHandle": "h"}})
_SECRET_REF = {"controllerPublishSecretRef": {"name": "s", "namespace": "ns"}}


def _modes(*modes: str) -> Object:
    pv = volume()
    pv["spec"]["accessModes"] = list(modes)
    return pv


REFUSED = [
    Refused(
        name="both-sources",
        objects=(volume(), node(), _BOTH),
        text="both InlineCSIVolumeSource and PersistentVolumeName specified in VA source",
    ),
    Refused(
        name="neither-source",
        objects=(volume(), node(), attachment(pv=None)),
        text="neither InlineCSIVolumeSource nor PersistentVolumeName specified in VA source",
    ),
    Refused(
        name="inline-without-csi",
        objects=(node(), attachment(pv=None, inline={"accessModes": ["ReadWriteOnce"]})),
        text="inline volume spec contains nil CSI source",
    ),
    Refused(name="unknown-volume", objects=(node(), attachment()), text='persistentvolume "pv1" not found'),
    Refused(name="empty-volume-name", objects=(node(), attachment(pv="")), text='persistentvolume "" not found'),
    Refused(
        name="volume-being-deleted",
        objects=(volume(deleted=True, finalizers=["other"]), node(), attachment()),
        text='PersistentVolume "pv1" is marked for deletion',
    ),
    Refused(
        name="volume-of-no-csi-driver-keeps-its-finalizers",
        objects=(volume(spec={"nfs": {"server": "x"}}), node(), attachment()),
        text="pv spec contained non-csi source that was not migrated",
    ),
    Refused(
        name="in-tree-volume-that-csi-cannot-say",
        objects=(volume(spec={"azureDisk": {"diskName": "d", "diskURI": "u", "kind": "Shared"}}), node(), attachment()),
        text="failed to translate in tree pv to CSI: kind(Shared) is not supported in csi migration",
    ),
    Refused(
        name="no-access-mode",
        objects=(_modes(), node(), attachment()),
        text="unsupported AccessMode combination: []",
        writes=(PV_PATCH,),
    ),
    Refused(
        name="access-modes-that-csi-cannot-say-together",
        objects=(_modes("ReadWriteOnce", "ReadOnlyMany"), node(), attachment()),
        text="CSI does not support ReadOnlyMany and ReadWriteOnce on the same PersistentVolume",
        writes=(PV_PATCH,),
    ),
    Refused(
        name="secret-missing",
        objects=(volume(csi=_SECRET_REF), node(), attachment()),
        text='failed to load secret "ns/s": secrets "s" not found',
        writes=(PV_PATCH,),
    ),
    Refused(
        name="secret-without-a-name",
        objects=(volume(csi={"controllerPublishSecretRef": {"namespace": "ns"}}), node(), attachment()),
        text='failed to load secret "ns/": resource name may not be empty',
        writes=(PV_PATCH,),
    ),
    Refused(
        name="secret-not-utf8",
        objects=(
            volume(csi=_SECRET_REF),
            node(),
            attachment(),
            secret({"k": base64.b64encode(b"\xff").decode()}),
        ),
        text="rpc error: code = Internal desc = grpc: error while marshaling: string field contains invalid UTF-8",
        code=13,
        writes=(PV_PATCH, FV_PATCH),
    ),
    Refused(
        name="no-csinode",
        objects=(volume(), attachment()),
        text='csinode.storage.k8s.io "node1" not found',
        writes=(PV_PATCH,),
    ),
    Refused(
        name="csinode-without-the-driver-although-a-node-id-was-kept",
        objects=(volume(), node(driver="other"), attachment(annotations={NODE_ID: "kept"})),
        text=f"CSINode node1 does not contain driver {DRIVER}",
        writes=(PV_PATCH,),
    ),
]


@pytest.mark.parity("A-ATTACH-04", "A-ATTACH-05")
@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
async def test_attachment_that_cannot_be_attached_says_why_and_reaches_no_driver(case: Refused) -> None:
    world = World(*copy.deepcopy(case.objects))
    await world.run(0.5)
    assert world.driver.calls == []
    error = {"message": case.text, "time": "2026-11-21T12:00:00Z"}
    if case.code is not None:
        error["errorCode"] = case.code  # type: ignore[assignment]
    assert world.status == {"attached": False, "attachError": error}
    assert world.api.writes() == [*case.writes, STATUS_PATCH]
    assert world.api.events() == [("Warning", "AttachFailed", case.text, 1)]
    if FV_PATCH not in case.writes:
        assert "finalizers" not in world.va["metadata"]


CODES = [
    (StatusCode.RESOURCE_EXHAUSTED, "no slots", "rpc error: code = ResourceExhausted desc = no slots"),
    (StatusCode.INVALID_ARGUMENT, "bad", "rpc error: code = InvalidArgument desc = bad"),
    (StatusCode.NOT_FOUND, "gone", "rpc error: code = NotFound desc = gone"),
    (StatusCode.INTERNAL, "", "rpc error: code = Internal desc = "),
]


@pytest.mark.parity("A-ERROR-02", "A-ERROR-06")
@pytest.mark.parametrize(("code", "message", "text"), CODES, ids=[c.label for c, _, _ in CODES])
async def test_driver_error_shows_with_its_code_and_is_retried_until_it_succeeds(
    code: StatusCode, message: str, text: str
) -> None:
    world = World(volume(), node(), attachment())
    world.driver.publish = [Answer(code, message)] * 2
    async with world.running():
        await asyncio.sleep(0.5)
        assert world.status == {
            "attached": False,
            "attachError": {"message": text, "time": "2026-11-21T12:00:00Z", "errorCode": int(code)},
        }
        assert world.va["metadata"]["finalizers"] == [FINALIZER]
        await asyncio.sleep(5)
    assert world.status == {"attached": True, "attachmentMetadata": {"devicePath": "/dev/h1"}}
    assert world.driver.calls == ["publish"] * 3
    assert world.api.events() == [
        ("Warning", "AttachFailed", text, 2),
        ("Normal", "Attached", "pv1 is attached to node node1", 1),
    ]


async def test_driver_that_never_answers_in_time_gives_deadline_exceeded() -> None:
    world = World(volume(), node(), attachment(), timeout_s=2.5)
    world.driver.publish = [Answer(delay_s=60.0)]
    await world.run(3.0)
    assert world.status["attachError"] == {
        "message": "rpc error: code = DeadlineExceeded desc = context deadline exceeded",
        "time": "2026-11-21T12:00:02Z",
        "errorCode": 4,
    }
    assert world.va["metadata"]["finalizers"] == [FINALIZER]


async def test_error_codes_can_be_switched_off() -> None:
    world = World(volume(), node(), attachment(), error_codes=False)
    world.driver.publish = [Answer(StatusCode.INTERNAL, "boom")]
    await world.run(0.5)
    assert "errorCode" not in world.status["attachError"]


@pytest.mark.parity("A-ERROR-03")
async def test_repeated_error_moves_only_its_time() -> None:
    world = World(volume(), node(), attachment())
    world.driver.publish = [Answer(StatusCode.INTERNAL, "boom")] * 2
    await world.run(1.5)
    statuses = [r.body["status"] for r in world.api.requests if r.path.endswith("/status")]
    assert statuses == [
        {
            "attachError": {
                "message": "rpc error: code = Internal desc = boom",
                "time": "2026-11-21T12:00:00Z",
                "errorCode": 13,
            }
        },
        {"attachError": {"time": "2026-11-21T12:00:01Z"}},
    ]


async def test_error_without_a_code_takes_the_earlier_code_away() -> None:
    world = World(volume(), node(), attachment())
    world.driver.publish = [Answer(StatusCode.INTERNAL, "boom")]

    def lose_node() -> None:
        del world.api.objects[NODE]["spec"]["drivers"]
        world.api.put(world.api.objects[NODE])

    async with world.running():
        await asyncio.sleep(0.3)
        lose_node()
        await asyncio.sleep(1.5)
    assert world.status["attachError"]["message"] == f"CSINode node1 does not contain driver {DRIVER}"
    assert "errorCode" not in world.status["attachError"]


@pytest.mark.parity("A-ERROR-04")
async def test_long_driver_message_is_cut_at_a_character_so_that_the_api_takes_it() -> None:
    world = World(volume(), node(), attachment())
    world.driver.publish = [Answer(StatusCode.INTERNAL, "ä" * 2000)]
    await world.run(0.5)
    message = world.status["attachError"]["message"]
    assert message.startswith("rpc error: code = Internal desc = ä")
    assert 1022 < len(message.encode()) <= 1024
    assert message.endswith("ä")


@pytest.mark.parity("A-OWN-01")
async def test_attached_attachment_and_foreign_attachment_are_left_alone() -> None:
    attached = attachment(status={"attached": True})
    foreign = attachment("va2", attacher="other.driver")
    world = World(volume(), node(), attached, foreign)
    await world.run(1.0)
    assert world.api.writes() == []
    assert world.driver.calls == []


@pytest.mark.parity("A-ATTACH-16")
async def test_marks_that_are_right_are_not_written_again() -> None:
    world = World(
        volume(finalizers=[FINALIZER]), node(), attachment(finalizers=[FINALIZER], annotations={NODE_ID: "nodeID1"})
    )
    await world.run()
    assert world.api.writes() == [STATUS_PATCH]
    assert world.status["attached"] is True


@pytest.mark.parity("A-ATTACH-17")
async def test_wrong_node_id_is_replaced_and_other_annotations_stay() -> None:
    world = World(
        volume(finalizers=[FINALIZER]), node(), attachment(annotations={NODE_ID: "old", "a/b": "c"}, finalizers=["x"])
    )
    await world.run()
    assert world.va["metadata"]["annotations"] == {NODE_ID: "nodeID1", "a/b": "c"}
    assert world.va["metadata"]["finalizers"] == ["x", FINALIZER]
    assert only_request(world).node_id == "nodeID1"


async def test_annotation_that_the_store_leaves_out_is_not_lost() -> None:
    applied = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
    world = World(volume(finalizers=[FINALIZER]), node(), attachment(annotations=applied))
    await world.run()
    assert world.va["metadata"]["annotations"] == {**applied, NODE_ID: "nodeID1"}
    assert world.status["attached"] is True


@pytest.mark.parity("A-ATTACH-03")
async def test_two_attachments_of_one_volume_give_it_one_finalizer_and_both_attach() -> None:
    second = attachment("va2")
    second["spec"]["nodeName"] = "node2"
    world = World(volume(), node(), node("node2", node_id="nodeID2"), attachment(), second)
    await world.run(0.5)
    assert world.pv["metadata"]["finalizers"] == [FINALIZER]
    assert world.driver.published == {("handle-pv1", "nodeID1"), ("handle-pv1", "nodeID2")}
    assert "attachError" not in world.status
    assert world.api.events() == []


async def test_stale_error_of_an_earlier_process_is_cleared_by_the_success() -> None:
    status = {"attached": False, "attachError": {"message": "old", "time": "2026-11-21T10:00:00Z", "errorCode": 13}}
    world = World(volume(), node(), attachment(status=status))
    await world.run()
    assert world.status == {"attached": True, "attachmentMetadata": {"devicePath": "/dev/h1"}}
    assert world.api.events() == [("Normal", "Attached", "pv1 is attached to node node1", 1)]


@pytest.mark.parity("A-ATTACH-14")
async def test_attachment_deleted_during_publish_is_marked_attached_then_unpublished() -> None:
    world = World(volume(), node(), attachment())
    world.driver.publish = [Answer(delay_s=5.0)]
    async with world.running():
        await asyncio.sleep(1)
        world.api.delete(VA)
        await asyncio.sleep(3)
        assert world.driver.calls == ["publish"]
        await asyncio.sleep(3)
    assert world.driver.calls == ["publish", "unpublish"]
    assert VA not in world.api.objects
    assert world.driver.published == set()


@pytest.mark.parity("A-OWN-10")
async def test_attachment_recreated_during_publish_does_not_get_the_result_of_the_old_one() -> None:
    world = World(volume(), node(), attachment())
    world.driver.publish = [Answer(delay_s=5.0, context={"device": "old"})]

    def recreate() -> None:
        world.api.edit(VA, lambda obj: obj["metadata"].pop("finalizers"))
        world.api.delete(VA)
        world.api.put(attachment())

    async with world.running():
        await asyncio.sleep(1)
        recreate()
        await asyncio.sleep(9)
    assert world.driver.calls == ["publish", "publish"]
    assert world.status["attachmentMetadata"] == {"devicePath": "/dev/h1"}
    assert world.va["metadata"]["finalizers"] == [FINALIZER]


async def test_attachment_recreated_before_its_marks_are_written_does_not_get_those_of_the_old_one() -> None:
    world = World(volume(csi=_SECRET_REF), node(), attachment(), secret({}))
    world.api.lag_s = 0.2
    async with world.running():
        world.api.delete(VA)
        world.api.put(attachment(annotations={"new": "one"}))
        await asyncio.sleep(3)
    uid = world.va["metadata"]["uid"]
    patches = [r.body for r in world.api.requests if r.short == FV_PATCH]
    assert patches[-1][0] == {"op": "test", "path": "/metadata/uid", "value": uid}
    assert world.status["attached"] is True
    assert world.driver.calls == ["publish"]


@pytest.mark.parity("A-ATTACH-13")
async def test_error_whose_saving_went_unanswered_is_cleared_although_no_store_shows_it() -> None:
    world = World(volume(), node(), attachment())
    world.driver.publish = [Answer(StatusCode.INTERNAL, "boom")]
    world.api.refuse("PATCH", "/va1/status", 0, "connection reset")
    world.api.lag_s = 0.9
    await world.run(20.0)
    assert world.status == {"attached": True, "attachmentMetadata": {"devicePath": "/dev/h1"}}


@pytest.mark.parity("A-OWN-06")
async def test_csinode_that_appears_wakes_the_waiting_attachment_at_once() -> None:
    world = World(volume(), attachment(), retry_interval_start_s=100.0)
    async with world.running():
        await asyncio.sleep(5)
        assert world.driver.calls == []
        world.api.put(node())
        await asyncio.sleep(0.5)
    assert world.status["attached"] is True


async def test_volume_that_cannot_get_the_finalizer_says_so() -> None:
    world = World(volume(), node(), attachment())
    world.api.refuse("PATCH", "/pv1", 500, "etcd is on fire")
    await world.run(0.5)
    assert world.status["attachError"]["message"] == "could not add PersistentVolume finalizer: etcd is on fire"
    assert world.driver.calls == []


async def test_refused_marks_say_so_after_one_second_try_with_the_live_object() -> None:
    world = World(volume(finalizers=[FINALIZER]), node(), attachment())
    world.api.refuse("PATCH", "/va1", 422, "webhook says no", times=2)
    await world.run(0.5)
    assert world.status["attachError"]["message"] == "could not save VolumeAttachment: webhook says no"
    assert [r.short for r in world.api.requests if "events" not in r.path] == [
        FV_PATCH,
        "GET volumeattachments/va1",
        FV_PATCH,
        STATUS_PATCH,
    ]


async def test_refused_marks_without_permission_to_read_tell_the_refusal() -> None:
    world = World(volume(finalizers=[FINALIZER]), node(), attachment())
    world.api.refuse("PATCH", "/va1", 422, "webhook says no")
    world.api.refuse("GET", "/va1", 403, "no get for you")
    await world.run(0.5)
    assert world.status["attachError"]["message"] == "could not save VolumeAttachment: webhook says no"


@pytest.mark.parity("A-ATTACH-12")
async def test_status_that_cannot_be_written_is_retried_with_another_publish_and_shown_by_an_event() -> None:
    world = World(volume(), node(), attachment())
    world.api.refuse("PATCH", "/va1/status", 500, "etcd is on fire")
    await world.run(1.5)
    assert world.status["attached"] is True
    assert "attachError" not in world.status
    assert world.driver.calls == ["publish", "publish"]
    assert world.api.events() == [
        ("Warning", "AttachFailed", "failed to mark as attached: etcd is on fire", 1),
        ("Normal", "Attached", "pv1 is attached to node node1", 1),
    ]


@pytest.mark.parity("A-ERROR-05")
async def test_error_that_cannot_be_saved_changes_no_schedule_and_is_logged_beside_the_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(volume(), node(), attachment())
    world.driver.publish = [Answer(StatusCode.INTERNAL, "boom")] * 3
    world.api.refuse("PATCH", "/va1/status", 403, "no status for you", times=3)
    await world.run(8.0)
    assert [round(at - world.driver.times[0], 1) for at in world.driver.times] == [0.0, 1.0, 3.0, 7.0]
    told = [vars(record)["error"] for record in caplog.records if record.levelname == "WARNING"]
    assert told == ["no status for you", "rpc error: code = Internal desc = boom"] * 3
    assert world.status["attached"] is True


@pytest.mark.parametrize("path_end", ["/pv1", "/va1", "/va1/status", "/secrets/s"])
async def test_throttled_request_waits_as_told_and_shows_nowhere(path_end: str) -> None:
    world = World(volume(csi=_SECRET_REF), node(), attachment(), secret({}))
    method = "GET" if path_end.endswith("/s") else "PATCH"
    world.api.refuse(method, path_end, 429, "slow down", retry_after_s=7)
    async with world.running():
        await asyncio.sleep(6.9)
        assert world.status["attached"] is False
        await asyncio.sleep(0.5)
    assert world.status == {"attached": True, "attachmentMetadata": {"devicePath": "/dev/h1"}}
    assert world.api.events() == []
    assert not any("attachError" in str(r.body) for r in world.api.requests)
    assert ("csi_sidecar_outcomes_total", "attach", "failure") not in world.numbers.seen


@pytest.mark.parity("A-ATTACH-10")
async def test_secret_is_read_anew_at_each_attempt() -> None:
    world = World(volume(csi=_SECRET_REF), node(), attachment())
    async with world.running():
        await asyncio.sleep(0.5)
        world.api.put(secret({"k": base64.b64encode(b"v").decode()}))
        await asyncio.sleep(1)
    assert only_request(world).secrets == {"k": "v"}


@pytest.mark.parity("A-METRIC-01")
async def test_success_and_age_are_measured() -> None:
    world = World(volume(), node(), attachment())
    world.driver.publish = [Answer(StatusCode.INTERNAL, "boom")]
    pending = ("csi_sidecar_oldest_pending_seconds", "attach")
    async with world.running():
        await asyncio.sleep(0.5)
        assert world.numbers.gauges[pending]() == pytest.approx(0.5, abs=0.1)
        await asyncio.sleep(1.5)
        assert world.numbers.gauges[pending]() == 0
    assert world.numbers.seen["csi_sidecar_outcomes_total", "attach", "failure"] == [1.0]
    assert world.numbers.seen["csi_sidecar_outcomes_total", "attach", "success"] == [1.0]
    assert world.numbers.seen["csi_sidecar_end_to_end_seconds", "attach"] == [pytest.approx(1.0, abs=0.1)]


async def test_another_pv_finalizer_coming_meanwhile_is_kept() -> None:
    world = World(volume(finalizers=["a"]), node(), attachment())
    world.api.lag_s = 0.5
    async with world.running():
        world.api.edit(PV, lambda obj: obj["metadata"].update(finalizers=["b", "a"]))
        world.api.put(attachment("va2"))
        await asyncio.sleep(3)
    assert world.pv["metadata"]["finalizers"] == ["b", "a", FINALIZER]


@pytest.mark.parity("A-OWN-07")
async def test_attachment_made_again_under_its_old_name_starts_with_a_fresh_backoff() -> None:
    world = World(volume(), node(), attachment())
    world.driver.publish = [Answer(StatusCode.INTERNAL, "no")] * 9
    async with world.running():
        await asyncio.sleep(20)
        world.api.edit(VA, lambda obj: obj["metadata"].update(finalizers=[], deletionTimestamp="2026-11-21T12:00:20Z"))
        world.api.put(attachment())
        await asyncio.sleep(5)
    assert [round(at) for at in world.driver.times] == [0, 1, 3, 7, 15, 20, 21, 23]


@pytest.mark.parity("A-OWN-09")
async def test_volume_of_another_driver_is_attached_when_an_attachment_of_ours_names_it() -> None:
    world = World(volume(csi={"driver": "another.csi.driver"}), node(), attachment())
    await world.run()
    assert world.status["attached"] is True


@pytest.mark.parity("A-ATTACH-18")
async def test_publish_context_that_the_api_refuses_is_told_by_an_event_and_publish_is_repeated() -> None:
    world = World(volume(), node(), attachment())
    world.api.refuse("PATCH", "/va1/status", 422, "status.attachmentMetadata: Too long", times=-1)
    await world.run(8.0)
    assert world.driver.calls == ["publish"] * 4
    assert world.status == {"attached": False}
    text = "failed to mark as attached: status.attachmentMetadata: Too long"
    assert world.api.events() == [("Warning", "AttachFailed", text, 4)]


async def test_secret_that_may_not_be_read_says_so_and_is_tried_again() -> None:
    message = 'secrets "s" is forbidden: User "csi" cannot get resource "secrets" in API group "" in the namespace "ns"'
    world = World(volume(csi=_SECRET_REF), node(), attachment(), secret({"k": "dg=="}))
    world.api.refuse("GET", "/secrets/s", 403, message)
    async with world.running():
        await asyncio.sleep(0.5)
        assert world.status["attachError"]["message"] == f'failed to load secret "ns/s": {message}'
        assert world.driver.calls == []
        await asyncio.sleep(1)
    assert world.status == {"attached": True, "attachmentMetadata": {"devicePath": "/dev/h1"}}


async def test_malformed_attachments_of_other_attachers_are_left_alone() -> None:
    both = {"csi": {"driver": "another", "volumeHandle": "h"}}
    world = World(
        volume(),
        node(),
        attachment("neither", pv=None, attacher="another"),
        attachment("both", inline=both, attacher="another"),
        attachment("nameless", attacher=""),
        attachment("leaving", pv=None, attacher="another", deleted=True, finalizers=["x"]),
        attachment(),
    )
    await world.run(5.0)
    assert world.status["attached"] is True
    assert {write.split("/")[1] for write in world.api.writes()} == {"pv1", "va1"}
    assert world.driver.calls == ["publish"]
