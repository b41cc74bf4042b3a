"""PVs: our finalizer on and off, which volumes are deleted, what holds them, and in which order they go."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from tests.plugins.provisioner.world import DRIVER, FINALIZER, World

pytestmark = pytest.mark.looptime

OURS = {"pv.kubernetes.io/provisioned-by": DRIVER}
PV_PROTECTION = "kubernetes.io/pv-protection"


def finalizers(world: World, name: str = "pv1") -> list[str] | None:
    found = world.api.get("persistentvolumes", name)
    return None if found is None else found["metadata"].get("finalizers", [])


def attach(world: World, name: str = "va1", pv: str = "pv1", attacher: str = DRIVER) -> None:
    world.api.create(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "VolumeAttachment",
            "metadata": {"name": name},
            "spec": {"attacher": attacher, "nodeName": "node1", "source": {"persistentVolumeName": pv}},
        }
    )


DELETED: list[Any] = [
    ("released", {}, True),
    ("already being deleted, finalizer on", {"deleted": True}, True),
    ("already being deleted, finalizer off", {"deleted": True, "finalizers": [PV_PROTECTION]}, False),
    ("made by hand, our driver", {"annotations": {}}, True),
    ("made by hand, another driver", {"annotations": {}, "spec": {"csi": {"driver": "x", "volumeHandle": "h"}}}, False),
    ("another provisioner's", {"annotations": {"pv.kubernetes.io/provisioned-by": "other.io"}}, False),
    ("retained", {"policy": "Retain", "finalizers": []}, False),
    ("bound", {"phase": "Bound"}, False),
    ("bound and being deleted", {"phase": "Bound", "deleted": True}, False),
    ("failed", {"phase": "Failed"}, False),
    ("available", {"phase": "Available"}, False),
    ("pending", {"phase": "Pending"}, False),
]


@pytest.mark.parity("P-DELETE-01")
@pytest.mark.parametrize(("volume", "deleted"), [row[1:] for row in DELETED], ids=[row[0] for row in DELETED])
async def test_which_volumes_are_deleted(volume: dict[str, Any], deleted: bool) -> None:
    world = World()
    more = {"finalizers": [FINALIZER], **volume}
    mark = more.pop("deleted", False)
    world.add_volume("pv1", **more)
    if mark:
        world.api.delete("persistentvolumes", "pv1")
    await world.run()
    assert [request.volume_id for request in world.calls("DeleteVolume")] == (["handle-pv1"] if deleted else [])
    assert (world.api.get("persistentvolumes", "pv1") is None) is deleted
    assert world.events() == []


UPKEEP: list[Any] = [
    ("bound, to be deleted some day", {"phase": "Bound", "finalizers": [PV_PROTECTION]}, [PV_PROTECTION, FINALIZER]),
    ("bound without any", {"phase": "Bound", "finalizers": []}, [FINALIZER]),
    ("available", {"phase": "Available", "finalizers": []}, []),
    ("bound, retained", {"phase": "Bound", "policy": "Retain", "finalizers": [FINALIZER, "x.io/y"]}, ["x.io/y"]),
    ("released, retained", {"phase": "Released", "policy": "Retain", "finalizers": [FINALIZER]}, []),
    ("recycled", {"phase": "Bound", "policy": "Recycle", "finalizers": [FINALIZER]}, []),
    (
        "not ours",
        {"phase": "Bound", "annotations": {"pv.kubernetes.io/provisioned-by": "other.io"}, "finalizers": []},
        [],
    ),
]


@pytest.mark.parity("P-DELETE-05")
@pytest.mark.parametrize(("volume", "after"), [row[1:] for row in UPKEEP], ids=[row[0] for row in UPKEEP])
async def test_finalizer_is_kept_in_step_with_the_policy(volume: dict[str, Any], after: list[str]) -> None:
    world = World()
    world.add_volume("pv1", **volume)
    before = finalizers(world)
    await world.run()
    assert finalizers(world) == after
    assert world.writes() == ([] if before == after else ["patch persistentvolumes"])
    assert world.calls("DeleteVolume") == []


@pytest.mark.parity("P-DELETE-02")
async def test_attachment_holds_the_volume_and_its_end_wakes_the_deletion() -> None:
    world = World()
    attach(world)
    world.add_volume("pv1")
    async with world.running():
        await asyncio.sleep(100)
        assert world.calls("DeleteVolume") == []
        assert world.warnings()[0].startswith("persistentvolume pv1 is still attached to node node1")
        world.api.delete("volumeattachments", "va1")
        await asyncio.sleep(0.2)
    assert world.api.count("persistentvolumes") == 0
    assert len(world.calls("DeleteVolume")) == 1


async def test_attachment_of_another_driver_holds_it_too_but_not_where_the_driver_does_not_attach() -> None:
    world = World()
    attach(world, attacher="other.io")
    world.add_volume("pv1")
    await world.run()
    assert world.warnings() == ["persistentvolume pv1 is still attached to node node1"]
    world = World(controller=frozenset({"CREATE_DELETE_VOLUME"}))
    attach(world)
    world.add_volume("pv1")
    await world.run()
    assert world.api.count("persistentvolumes") == 0


@pytest.mark.parity("P-DELETE-04")
@pytest.mark.parametrize("code", ["NotFound", "FailedPrecondition", "DeadlineExceeded", "Internal"])
async def test_failed_delete_keeps_the_pv_and_is_told_and_repeated(code: str) -> None:
    world = World()
    world.driver.order(f"DeleteVolume:{code}=no x2")
    world.add_volume("pv1")
    async with world.running():
        await asyncio.sleep(0.5)
        assert finalizers(world) == [FINALIZER]
        assert world.writes() == ["create events"]
        assert world.events() == [("Warning", "VolumeFailedDelete", f"rpc error: code = {code} desc = no")]
        (event,) = world.api.list("events")
        assert event["metadata"]["namespace"] == "default"
        await asyncio.sleep(5)
    assert world.api.count("persistentvolumes") == 0
    assert len(world.calls("DeleteVolume")) == 3
    assert "desc = no (2 attempts since 2026-11-21T12:00:00Z; next in about 2s)" in world.warnings()[0]
    assert world.numbers.total("controller_persistentvolume_delete_failed_total", "") == 2
    assert world.numbers.total("controller_persistentvolume_delete_total", "") == 1


@pytest.mark.parity("P-DELETE-08")
async def test_pv_delete_refused_is_repeated_without_an_event() -> None:
    world = World()
    world.refuse("delete", "persistentvolumes", 500)
    world.add_volume("pv1")
    await world.run(3)
    assert world.api.count("persistentvolumes") == 0
    assert len(world.calls("DeleteVolume")) == 2
    assert world.events() == []


async def test_throttled_pv_delete_waits_and_is_no_failure() -> None:
    world = World()
    world.refuse("delete", "persistentvolumes", 429, retry_after_s=9)
    world.add_volume("pv1")
    async with world.running():
        await asyncio.sleep(8)
        assert len(world.calls("DeleteVolume")) == 1
        await asyncio.sleep(2)
    assert world.api.count("persistentvolumes") == 0
    assert world.numbers.total("controller_persistentvolume_delete_failed_total", "") == 0


@pytest.mark.parity("P-DELETE-07")
async def test_finalizers_that_others_change_meanwhile_do_not_bring_a_second_delete() -> None:
    world = World()
    world.add_volume("pv1", finalizers=[PV_PROTECTION, "external-attacher/x", FINALIZER])
    patch = world.wire.registry.patch
    struck: list[bool] = []

    def racing(spec: Any, namespace: str, name: str, change: Any) -> Any:
        if not struck:
            struck.append(True)

            def others(obj: dict[str, Any]) -> dict[str, Any]:
                return {**obj, "metadata": {**obj["metadata"], "finalizers": [FINALIZER]}}

            patch(spec, namespace, name, others)
        return patch(spec, namespace, name, change)

    world.wire.registry.patch = racing  # type: ignore[method-assign, assignment]
    await world.run()
    assert struck
    assert world.api.count("persistentvolumes") == 0
    assert len(world.calls("DeleteVolume")) == 1
    assert world.writes() == ["delete persistentvolumes"] + ["patch persistentvolumes"] * 2


@pytest.mark.parity("P-DELETE-06")
async def test_pv_made_anew_under_the_same_name_is_left_alone() -> None:
    world = World()
    world.add_volume("pv1", finalizers=[])
    world.driver.order("DeleteVolume:delay=2 x1")
    async with world.running():
        await asyncio.sleep(1)
        world.wire.blind.add("persistentvolumes")
        world.api.delete("persistentvolumes", "pv1")
        world.add_volume("pv1", phase="Bound", spec={"csi": {"driver": DRIVER, "volumeHandle": "another"}})
        # The delete is refused at 2 s and tried again at 3 s; by then the watch must have told of the new one.
        await asyncio.sleep(1.5)
        world.wire.blind.clear()
        await asyncio.sleep(5)
    anew = world.api.get("persistentvolumes", "pv1")
    assert anew is not None
    assert anew["metadata"]["finalizers"] == [FINALIZER]
    assert "deletionTimestamp" not in anew["metadata"]
    assert [request.volume_id for request in world.calls("DeleteVolume")] == ["handle-pv1"]


@pytest.mark.parity("P-DELETE-09")
@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"csi": None, "hostPath": {"path": "/x"}}, "invalid CSI PV"),
        ({"csi": {"driver": "other.io", "volumeHandle": "h"}}, f"invalid CSI PV: its driver is other.io, not {DRIVER}"),
        (
            {"csi": None, "awsElasticBlockStore": {"volumeID": "vol-1"}},
            f"invalid CSI PV: awsElasticBlockStore is handled by driver ebs.csi.aws.com, not by {DRIVER}",
        ),
    ],
)
async def test_volume_of_another_driver_is_not_deleted_whatever_its_annotations_say(
    spec: dict[str, Any], why: str
) -> None:
    world = World()
    world.add_volume("pv1", spec=spec)
    await world.run()
    assert world.warnings() == [why]
    assert world.calls("DeleteVolume") == []


async def test_volume_without_a_csi_source_cannot_be_deleted() -> None:
    world = World()
    world.add_volume("pv1", spec={"csi": None, "nfs": {"server": "s", "path": "/"}})
    await world.run()
    assert world.warnings() == ["invalid CSI PV"]


def add_secret(world: World, name: str = "creds", namespace: str = "team", **values: str) -> None:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    meta = {"name": name, "namespace": namespace}
    world.api.create({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data})


NAME, NAMESPACE = (f"volume.kubernetes.io/provisioner-deletion-secret-{half}" for half in ("name", "namespace"))
CLASS_SECRET = {
    "csi.storage.k8s.io/provisioner-secret-name": "${pvc.name}-creds",
    "csi.storage.k8s.io/provisioner-secret-namespace": "${pvc.namespace}",
}
CLAIM = {"kind": "PersistentVolumeClaim", "namespace": "team", "name": "data", "uid": "u1"}

SECRETS: list[Any] = [
    ("both annotations", {NAME: "creds", NAMESPACE: "team"}, {}, {"key": "one"}),
    ("both empty beat the class", {NAME: "", NAMESPACE: ""}, {"storageClassName": "fast", "claimRef": CLAIM}, {}),
    ("one empty", {NAME: "creds", NAMESPACE: ""}, {}, {}),
    ("secret gone", {NAME: "gone", NAMESPACE: "team"}, {}, {}),
    ("no annotations, class", {}, {"storageClassName": "fast", "claimRef": CLAIM}, {"key": "two"}),
    (
        "half of the annotations, class",
        {NAME: "creds"},
        {"storageClassName": "fast", "claimRef": CLAIM},
        {"key": "two"},
    ),
    ("no annotations, class gone", {}, {"storageClassName": "gone", "claimRef": CLAIM}, {}),
    ("no annotations, no claim", {}, {"storageClassName": "fast"}, {}),
]


@pytest.mark.parity("P-DELETE-03")
@pytest.mark.parametrize(("annotations", "spec", "sent"), [row[1:] for row in SECRETS], ids=[row[0] for row in SECRETS])
async def test_which_secret_a_deletion_gets(
    annotations: dict[str, str], spec: dict[str, Any], sent: dict[str, str]
) -> None:
    world = World()
    world.add_class(parameters=CLASS_SECRET)
    add_secret(world, key="one")
    add_secret(world, "data-creds", key="two")
    world.add_volume("pv1", annotations={**OURS, **annotations}, spec=spec)
    await world.run()
    (request,) = world.calls("DeleteVolume")
    assert request.secrets == sent
    assert world.api.count("persistentvolumes") == 0


async def test_deletion_secret_that_needs_an_annotation_is_an_error() -> None:
    world = World()
    world.add_class(
        parameters={**CLASS_SECRET, "csi.storage.k8s.io/provisioner-secret-name": "${pvc.annotations['a']}"}
    )
    world.add_volume("pv1", spec={"storageClassName": "fast", "claimRef": CLAIM})
    await world.run()
    assert world.warnings() == [
        (
            "failed to get secretreference for volume pv1: error resolving value \"${pvc.annotations['a']}\":"
            " invalid tokens: [\"pvc.annotations['a']\"]"
        )
    ]
    assert world.calls("DeleteVolume") == []
