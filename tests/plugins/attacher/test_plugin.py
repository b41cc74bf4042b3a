from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from csisidecar.config import AttacherSettings, ProvisionerSettings
from csisidecar.errors import ConfigError
from csisidecar.kube import Attachment
from csisidecar.plugins.attacher import Attacher, factory
from csisidecar.plugins.attacher.names import finalizer_name
from csisidecar.plugins.attachment_store import ForeignAttachmentsSlim
from tests.plugins.attacher.world import DRIVER, Answer, World, attachment, node, volume


@pytest.mark.parity("A-ATTACH-02")
@pytest.mark.parametrize(
    ("driver", "finalizer"),
    [
        ("csi.test.io", "external-attacher/csi-test-io"),
        ("a_b.c!", "external-attacher/a-b-c-X"),
        ("csi/test", "external-attacher/csi-test"),
        ("Upper.Case", "external-attacher/Upper-Case"),
        ("größe", "external-attacher/gr--e"),
    ],
)
def test_finalizer_is_the_go_attachers(driver: str, finalizer: str) -> None:
    assert finalizer_name(driver) == finalizer


@pytest.mark.parametrize(
    ("driver", "lease"),
    [("csi.test.io", "external-attacher-leader-csi-test-io"), ("ends.", "external-attacher-leader-ends-X")],
)
def test_lease_is_the_go_attachers(driver: str, lease: str) -> None:
    assert Attacher(AttacherSettings()).lease_name(driver) == lease


def test_factory_wants_its_own_settings() -> None:
    assert factory(AttacherSettings()).name == "attacher"
    with pytest.raises(ConfigError, match="AttacherSettings"):
        factory(ProvisionerSettings())


@pytest.mark.parity("A-OWN-02")
def test_foreign_attachments_are_kept_as_names_only() -> None:
    obj = attachment(
        attacher="other", annotations={"a": "b"}, finalizers=["x"], status={"attached": True}, deleted=True
    )
    obj["metadata"].update(uid="u", resourceVersion="7")
    kept = ForeignAttachmentsSlim(DRIVER)(msgspec.convert(obj, Attachment))
    assert msgspec.to_builtins(kept)["metadata"] | {"creationTimestamp": None} == {
        "name": "va1",
        "namespace": "",
        "uid": "u",
        "resourceVersion": "7",
        "creationTimestamp": None,
        "deletionTimestamp": None,
        "finalizers": None,
        "annotations": None,
    }
    assert (kept.volume_name, kept.spec.attacher, kept.spec.node_name, kept.status) == ("pv1", "", "node1", None)


def test_own_attachments_are_kept_whole() -> None:
    obj = attachment(
        annotations={"a": "b"}, finalizers=["x"], status={"attached": True, "attachmentMetadata": {"k": "v"}}
    )
    whole = msgspec.convert(obj, Attachment)
    assert ForeignAttachmentsSlim(DRIVER)(msgspec.convert(obj, Attachment)) == whole


def test_equal_drivers_share_one_store() -> None:
    assert ForeignAttachmentsSlim(DRIVER) == ForeignAttachmentsSlim(DRIVER)
    assert hash(ForeignAttachmentsSlim(DRIVER)) == hash(ForeignAttachmentsSlim(DRIVER))
    assert ForeignAttachmentsSlim(DRIVER) != ForeignAttachmentsSlim("other")


@pytest.mark.looptime
@pytest.mark.parametrize("settings", [{}, {"resync_s": 1.0}])
async def test_resync_of_a_settled_world_writes_nothing(settings: dict[str, Any]) -> None:
    world = World(
        volume(),
        node(),
        attachment(),
        attachment("va2", attacher="other"),
        volume("pv2", deleted=True, finalizers=["x"]),
        **settings,
    )
    await world.run(30.0)
    assert len(world.api.writes()) == 3
    assert world.driver.calls == ["publish"]


@pytest.mark.parity("A-OWN-08")
@pytest.mark.looptime
async def test_attachments_are_attached_side_by_side_up_to_the_number_of_workers() -> None:
    objects = [node()]
    for number in range(6):
        objects += [volume(f"pv{number}"), attachment(f"va{number}", pv=f"pv{number}")]
    world = World(*objects, worker_threads=3)
    running = 0

    def count() -> None:
        nonlocal running
        running += 1

    world.driver.before = count
    world.driver.publish = [Answer(delay_s=1.0)] * 6
    async with world.running():
        await asyncio.sleep(0.5)
        assert running == 3
        await asyncio.sleep(2)
    assert len(world.driver.published) == 6
