from __future__ import annotations

from typing import Any

import pytest

from tests.plugins.attacher.world import World, attachment, node, volume

pytestmark = pytest.mark.looptime

STATUS_PATCH = "PATCH volumeattachments/va1/status"


def trivial(*objects: dict[str, Any]) -> World:
    return World(*objects, capabilities=frozenset({"CREATE_DELETE_VOLUME"}))


@pytest.mark.parity("A-TRIVIAL-01")
@pytest.mark.parametrize(
    "va",
    [
        attachment(),
        attachment(pv="unknown"),
        attachment(deleted=True, finalizers=["x"]),
        attachment(status={"attached": False, "attachmentMetadata": {"a": "b"}, "attachError": {"message": "old"}}),
    ],
    ids=["plain", "unknown-volume", "leaving", "with-leftovers"],
)
async def test_attachment_is_only_marked_attached(va: dict[str, Any]) -> None:
    world = trivial(volume(), node(), va)
    await world.run(2.0)
    assert world.api.writes() == [STATUS_PATCH]
    assert world.status == {"attached": True}
    assert "finalizers" not in world.pv["metadata"]
    assert world.driver.calls == []


async def test_attached_and_foreign_attachments_are_left_alone() -> None:
    leftover = {"attached": True, "attachError": {"message": "old"}}
    world = trivial(attachment(status=leftover), attachment("va2", attacher="other"))
    await world.run(2.0)
    assert world.api.writes() == []


async def test_failed_mark_is_retried_and_told() -> None:
    world = trivial(attachment())
    world.api.refuse("PATCH", "/status", 500, "etcd is on fire")
    await world.run(2.0)
    assert world.status == {"attached": True}
    assert [event[:3] for event in world.api.events()] == [
        ("Warning", "AttachFailed", "etcd is on fire"),
        ("Normal", "Attached", "pv1 is attached to node node1"),
    ]


async def test_driver_without_a_controller_service_is_trivial_too() -> None:
    world = World(volume(), node(), attachment())
    world.plugin_capabilities = frozenset()
    await world.run(2.0)
    assert world.api.writes() == [STATUS_PATCH]
