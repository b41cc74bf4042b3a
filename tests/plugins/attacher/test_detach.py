from __future__ import annotations

import asyncio
import base64
import copy
from dataclasses import dataclass
from typing import Any

import pytest

from csisidecar.csi import ControllerUnpublishVolumeRequest
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
    secret,
    volume,
)

pytestmark = pytest.mark.looptime

FV_PATCH, STATUS_PATCH = "PATCH volumeattachments/va1", "PATCH volumeattachments/va1/status"
ATTACHED = {"attached": True, "attachmentMetadata": {"devicePath": "/dev/h1"}}


def leaving(**more: Any) -> Object:
    """An attached attachment that is being deleted."""
    given = {"finalizers": [FINALIZER], "annotations": {NODE_ID: "nodeID1"}, "status": ATTACHED, "deleted": True}
    return attachment(**{**given, **more})


def only_request(world: World) -> ControllerUnpublishVolumeRequest:
    assert len(world.driver.requests) == 1
    request = world.driver.requests[0]
    assert isinstance(request, ControllerUnpublishVolumeRequest)
    return request


@pytest.mark.parity("A-DETACH-02")
async def test_detach_is_one_unpublish_and_one_write_and_the_attachment_is_gone() -> None:
    world = World(volume(finalizers=[FINALIZER]), node(), leaving())
    await world.run(5.0)
    assert world.driver.calls == ["unpublish"]
    assert (only_request(world).volume_id, only_request(world).node_id) == ("handle-pv1", "nodeID1")
    assert world.api.writes() == [FV_PATCH]
    assert VA not in world.api.objects
    assert world.api.events() == []


async def test_attachment_held_by_another_finalizer_is_told_detached() -> None:
    world = World(volume(), node(), leaving(finalizers=["other", FINALIZER]))
    await world.run(5.0)
    assert world.driver.calls == ["unpublish"]
    assert world.api.writes() == [FV_PATCH, STATUS_PATCH]
    assert world.va["metadata"]["finalizers"] == ["other"]
    assert world.status == {"attached": False}


@pytest.mark.parity("A-DETACH-03")
async def test_detached_status_that_cannot_be_written_stays_pending_until_it_lands() -> None:
    world = World(volume(), node(), leaving(finalizers=["other", FINALIZER]))
    world.api.refuse("PATCH", "/va1/status", 500, "etcd is on fire")
    await world.run(5.0)
    assert world.driver.calls == ["unpublish"]
    assert world.status == {"attached": False}
    assert world.api.events()[0] == ("Warning", "DetachFailed", "could not mark as detached: etcd is on fire", 1)


async def test_attachment_that_vanishes_while_its_status_is_pending_is_forgotten() -> None:
    world = World(volume(), node(), leaving(finalizers=["other", FINALIZER]))
    world.api.refuse("PATCH", "/va1/status", 500, "etcd is on fire", times=-1)
    async with world.running():
        await asyncio.sleep(0.5)
        assert world.status == ATTACHED
        world.api.troubles.clear()
        world.api.edit(VA, lambda obj: obj["metadata"].update(finalizers=[]))
        world.api.put(attachment(deleted=True, finalizers=["other"], status=ATTACHED))
        await asyncio.sleep(5)
    assert world.status == ATTACHED
    assert world.driver.calls == ["unpublish"]


@pytest.mark.parametrize("status", [ATTACHED, {"attached": False}])
async def test_attachment_without_our_finalizer_is_left_alone(status: Object) -> None:
    world = World(volume(), node(), leaving(finalizers=["other"], status=status))
    await world.run(2.0)
    assert world.api.writes() == []
    assert world.driver.calls == []


@pytest.mark.parity("A-DETACH-01")
async def test_unattached_attachment_with_our_finalizer_is_unpublished_all_the_same() -> None:
    world = World(volume(), node(), leaving(status={"attached": False}))
    await world.run()
    assert world.driver.calls == ["unpublish"]
    assert VA not in world.api.objects


@dataclass(frozen=True, kw_only=True)
class NodeIds:
    name: str
    nodes: tuple[Object, ...]
    kept: str | None
    used: str


NODE_IDS = [
    NodeIds(name="csinode-wins-over-the-kept-one", nodes=(node(node_id="now"),), kept="then", used="now"),
    NodeIds(name="csinode-gone", nodes=(), kept="then", used="then"),
    NodeIds(name="driver-gone-from-csinode", nodes=(node(driver="other"),), kept="then", used="then"),
    NodeIds(name="empty-kept-one-counts", nodes=(), kept="", used=""),
    NodeIds(name="nothing-kept-but-csinode-knows", nodes=(node(node_id="now"),), kept=None, used="now"),
]


@pytest.mark.parity("A-DETACH-05")
@pytest.mark.parametrize("case", NODE_IDS, ids=lambda case: case.name)
async def test_node_id_for_detach(case: NodeIds) -> None:
    annotations = {} if case.kept is None else {NODE_ID: case.kept}
    world = World(volume(), *copy.deepcopy(case.nodes), leaving(annotations=annotations))
    await world.run()
    assert only_request(world).node_id == case.used
    assert VA not in world.api.objects


@dataclass(frozen=True, kw_only=True)
class Stuck:
    """A detach that cannot be done: what there is, and what its detachError says."""

    name: str
    objects: tuple[Object, ...]
    text: str


_SECRET_REF = {"controllerPublishSecretRef": {"name": "s", "namespace": "ns"}}

STUCK = [
    Stuck(name="volume-gone", objects=(node(), leaving()), text='persistentvolume "pv1" not found'),
    Stuck(
        name="both-sources",
        objects=(volume(), node(), leaving(inline={"csi": {"driver": DRIVER, "volumeHandle": "h"}})),
        text="both InlineCSIVolumeSource and PersistentVolumeName specified in VA source",
    ),
    Stuck(
        name="volume-of-no-csi-driver",
        objects=(volume(spec={"nfs": {}}), node(), leaving()),
        text="pv spec contained non-csi source that was not migrated",
    ),
    Stuck(
        name="in-tree-volume-that-csi-cannot-say",
        objects=(volume(spec={"azureDisk": {"diskName": "d", "diskURI": "u", "kind": "Shared"}}), node(), leaving()),
        text="failed to translate in tree pv to CSI: kind(Shared) is not supported in csi migration",
    ),
    Stuck(
        name="secret-gone",
        objects=(volume(csi=_SECRET_REF), node(), leaving()),
        text='failed to load secret "ns/s": secrets "s" not found',
    ),
    Stuck(
        name="nobody-knows-the-node",
        objects=(volume(), leaving(annotations={})),
        text='csinode.storage.k8s.io "node1" not found',
    ),
    Stuck(
        name="nobody-knows-the-driver-on-the-node",
        objects=(volume(), node(driver="other"), leaving(annotations={})),
        text=f"CSINode node1 does not contain driver {DRIVER}",
    ),
]


@pytest.mark.parametrize("case", STUCK, ids=lambda case: case.name)
async def test_detach_that_cannot_be_done_says_why_and_keeps_the_finalizer(case: Stuck) -> None:
    world = World(*copy.deepcopy(case.objects))
    await world.run(0.5)
    assert world.driver.calls == []
    assert world.va["metadata"]["finalizers"] == [FINALIZER]
    assert world.status == {**ATTACHED, "detachError": {"message": case.text, "time": "2026-11-21T12:00:00Z"}}
    assert world.api.events() == [("Warning", "DetachFailed", case.text, 1)]


@pytest.mark.parity("A-DETACH-06")
async def test_volume_being_deleted_is_detached() -> None:
    world = World(volume(deleted=True, finalizers=["x"]), node(), leaving())
    await world.run()
    assert VA not in world.api.objects


async def test_access_modes_do_not_matter_for_detach() -> None:
    pv = volume()
    pv["spec"]["accessModes"] = []
    world = World(pv, node(), leaving())
    await world.run()
    assert VA not in world.api.objects


@pytest.mark.parity("A-ERROR-01")
@pytest.mark.parametrize("code", [StatusCode.NOT_FOUND, StatusCode.INTERNAL, StatusCode.UNIMPLEMENTED])
async def test_driver_error_is_shown_without_a_code_keeps_the_finalizer_and_is_retried(code: StatusCode) -> None:
    world = World(volume(), node(), leaving())
    world.driver.unpublish = [Answer(code, "no")]
    async with world.running():
        await asyncio.sleep(0.5)
        text = f"rpc error: code = {code.label} desc = no"
        assert world.status["detachError"] == {"message": text, "time": "2026-11-21T12:00:00Z"}
        assert world.va["metadata"]["finalizers"] == [FINALIZER]
        await asyncio.sleep(1)
    assert VA not in world.api.objects
    assert world.driver.calls == ["unpublish", "unpublish"]
    assert world.api.events() == [
        ("Warning", "DetachFailed", text, 1),
        ("Normal", "Detached", "pv1 is detached from node node1", 1),
    ]


async def test_detach_sends_the_secret_and_the_inline_handle() -> None:
    inline = {"csi": {"driver": DRIVER, "volumeHandle": "inline", **_SECRET_REF}}
    data = {"k": base64.b64encode(b"v").decode()}
    world = World(node(), secret(data), leaving(pv=None, inline=inline))
    await world.run()
    assert (only_request(world).volume_id, only_request(world).secrets) == ("inline", {"k": "v"})


@pytest.mark.parity("A-DETACH-08")
async def test_attachment_removed_by_force_during_unpublish_is_done() -> None:
    world = World(volume(), node(), leaving())
    world.driver.before = lambda: world.api.edit(VA, lambda obj: obj["metadata"].update(finalizers=[]))
    await world.run(5.0)
    assert world.driver.calls == ["unpublish"]
    assert world.api.events() == []


async def test_finalizer_of_a_recreated_attachment_is_not_taken_off() -> None:
    world = World(volume(), node(), leaving())

    def recreate() -> None:
        world.driver.before = lambda: None
        world.api.edit(VA, lambda obj: obj["metadata"].update(finalizers=[]))
        world.api.put(attachment(finalizers=[FINALIZER], annotations={NODE_ID: "nodeID1"}))

    world.driver.before = recreate
    await world.run(5.0)
    uid = world.va["metadata"]["uid"]
    states = [state["metadata"] for state in world.api.states(VA) if state["metadata"]["uid"] == uid]
    assert all(state.get("finalizers") == [FINALIZER] for state in states)
    assert world.driver.calls == ["unpublish", "publish"]
    assert world.status["attached"] is True


@pytest.mark.parity("A-DETACH-04")
async def test_finalizers_that_moved_meanwhile_cost_no_error() -> None:
    world = World(volume(), node(), leaving(finalizers=["other", FINALIZER]))
    world.driver.before = lambda: world.api.edit(VA, lambda obj: obj["metadata"].update(finalizers=[FINALIZER]))
    await world.run()
    assert VA not in world.api.objects
    assert world.driver.calls == ["unpublish"]
    assert world.api.events() == []


@pytest.mark.parity("A-DETACH-07")
async def test_failed_publish_is_followed_by_an_unpublish() -> None:
    world = World(volume(), node(), attachment(), timeout_s=2.0)
    world.driver.publish = [Answer(delay_s=60.0)]
    async with world.running():
        await asyncio.sleep(2.5)
        assert world.driver.published == {("handle-pv1", "nodeID1")}
        world.api.delete(VA)
        await asyncio.sleep(3)
    assert world.driver.published == set()
    assert VA not in world.api.objects


async def test_throttled_removal_waits_as_told_and_shows_nowhere() -> None:
    world = World(volume(), node(), leaving(deleted="2026-11-21T12:00:00Z"))
    world.api.refuse("PATCH", "/va1", 429, "slow down", retry_after_s=7)
    async with world.running():
        await asyncio.sleep(6.9)
        assert world.status == ATTACHED
        await asyncio.sleep(0.5)
    assert VA not in world.api.objects
    assert world.api.events() == []


async def test_detach_age_counts_from_the_deletion() -> None:
    world = World(volume(), node(), leaving(deleted="2026-11-21T11:59:00Z"))
    world.driver.unpublish = [Answer(StatusCode.INTERNAL, "no")]
    pending = ("csi_sidecar_oldest_pending_seconds", "detach")
    async with world.running():
        await asyncio.sleep(0.5)
        assert world.numbers.gauges[pending]() == pytest.approx(60.5, abs=0.1)
        await asyncio.sleep(1)
        assert world.numbers.gauges[pending]() == 0
    assert world.numbers.seen["csi_sidecar_end_to_end_seconds", "detach"] == [pytest.approx(61.0, abs=0.1)]
    assert world.numbers.seen["csi_sidecar_outcomes_total", "detach", "failure"] == [1.0]
    assert world.numbers.seen["csi_sidecar_outcomes_total", "detach", "success"] == [1.0]
