"""Volumes filled from snapshots and other claims: what is asked of the driver, what is protected, what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from csisidecar.config import ProvisionerSettings
from csisidecar.csi import (
    CreateSnapshotRequest,
    CreateVolumeRequest,
    CSIClient,
    DriverChannel,
    VolumeCapability,
    VolumeCapabilityAccessMode,
    VolumeCapabilityAccessModeMode,
    VolumeCapabilityMountVolume,
)
from csisidecar.plugins.provisioner import Provisioner
from csisidecar.testing.driver.snapshots import SnapshotService
from tests.plugins.provisioner.world import CAPABILITIES, DRIVER, Object, World

pytestmark = pytest.mark.looptime

_WRITER = VolumeCapabilityAccessMode(mode=VolumeCapabilityAccessModeMode.SINGLE_NODE_WRITER)
ABLE = CAPABILITIES | {"CREATE_DELETE_SNAPSHOT", "CLONE_VOLUME"}
GROUP = "snapshot.storage.k8s.io"
SNAPSHOT = {"apiGroup": GROUP, "kind": "VolumeSnapshot", "name": "snap"}
CLONE = {"kind": "PersistentVolumeClaim", "name": "old"}
SNAPSHOT_FINALIZER = "provisioner.storage.kubernetes.io/volumesnapshot-as-source-protection"
CLONE_FINALIZER = "provisioner.storage.kubernetes.io/cloning-protection"
ALLOW = "snapshot.storage.kubernetes.io/allow-volume-mode-change"
CROSS = ProvisionerSettings(cross_namespace_data_source=True)


def add_snapshot(world: World, *, namespace: str = "team", finalizers: tuple[str, ...] = (), **more: Any) -> None:
    """A snapshot and its content; `more`: status and content (merged), annotations of the content, deleting."""
    meta: Object = {"name": "snap", "namespace": namespace, "uid": "s-uid"}
    if finalizers or more.get("deleting"):
        meta["finalizers"] = [*finalizers, "example.com/holds"]
    status = {"boundVolumeSnapshotContentName": "content", "readyToUse": True, "restoreSize": "1Gi"}
    snapshot = {
        "apiVersion": f"{GROUP}/v1",
        "kind": "VolumeSnapshot",
        "metadata": meta,
        "spec": {"source": {"persistentVolumeClaimName": "old"}},
        "status": {**status, **more.get("status", {})},
    }
    content = {
        "apiVersion": f"{GROUP}/v1",
        "kind": "VolumeSnapshotContent",
        "metadata": {"name": "content", "annotations": more.get("annotations", {})},
        "spec": {
            "driver": DRIVER,
            "deletionPolicy": "Delete",
            "source": {"snapshotHandle": "snap-1"},
            "volumeSnapshotRef": {"name": "snap", "namespace": namespace, "uid": "s-uid"},
            **more.get("content", {}),
        },
        "status": {"snapshotHandle": more.get("handle", "snap-1")},
    }
    world.api.load([snapshot, content])
    if more.get("deleting"):
        world.api.delete("volumesnapshots", "snap", namespace)


def finalizers_of(world: World, plural: str, name: str, namespace: str = "team") -> list[str]:
    found = world.api.get(plural, name, namespace)
    assert found is not None
    return list(found["metadata"].get("finalizers") or ())


async def driver_snapshot(world: World) -> str:
    """A snapshot in the driver, of a volume there; the result is its id."""
    channel: DriverChannel = world.driver.channel()
    await channel.connect()
    client = CSIClient(channel)
    use = VolumeCapability(mount=VolumeCapabilityMountVolume(), access_mode=_WRITER)
    made = await client.create_volume(CreateVolumeRequest(name="first", volume_capabilities=[use]), timeout_s=5)
    assert made.volume is not None
    taken = await SnapshotService(world.driver._world).create_snapshot(
        CreateSnapshotRequest(name="snap", source_volume_id=made.volume.volume_id)
    )
    channel.close()
    world.driver.ledger.clear()
    assert taken.snapshot is not None
    return taken.snapshot.snapshot_id


@pytest.mark.parity("P-SOURCE-02")
@pytest.mark.parametrize("field", ["dataSource", "dataSourceRef"])
async def test_snapshot_is_restored_and_protected_until_then(field: str) -> None:
    world = World(controller=ABLE)
    add_snapshot(world, handle=await driver_snapshot(world))
    world.driver.order("CreateVolume:delay=3 x1")
    world.add_class()
    chosen: dict[str, Any] = {field: SNAPSHOT}
    uid = world.add_claim(**chosen)
    async with world.running():
        await asyncio.sleep(1)
        assert finalizers_of(world, "volumesnapshots", "snap") == [SNAPSHOT_FINALIZER]
        await asyncio.sleep(4)
    (request,) = world.calls()
    assert request.volume_content_source.snapshot.snapshot_id.startswith("snap-")
    assert world.volume(uid)["spec"]["csi"]["volumeHandle"]
    assert finalizers_of(world, "volumesnapshots", "snap") == []
    assert world.warnings() == []


@pytest.mark.parity("P-SOURCE-03")
async def test_snapshot_stays_protected_while_another_restore_of_it_may_run() -> None:
    world = World(controller=ABLE)
    add_snapshot(world, handle=await driver_snapshot(world))
    world.driver.order("CreateVolume:delay=3 x1", "CreateVolume:delay=6 x1")
    world.add_class()
    for name in ("one", "two"):
        world.add_claim(name, dataSource=SNAPSHOT)
    async with world.running():
        await asyncio.sleep(4.5)
        assert world.api.count("persistentvolumes") == 1
        assert finalizers_of(world, "volumesnapshots", "snap") == [SNAPSHOT_FINALIZER]
        await asyncio.sleep(3)
        assert world.api.count("persistentvolumes") == 2
    assert finalizers_of(world, "volumesnapshots", "snap") == []


@pytest.mark.parity("P-SOURCE-06")
async def test_restore_goes_on_after_its_snapshot_was_deleted() -> None:
    """Refusing would leave the volume behind that a timed-out call made."""
    world = World(controller=ABLE, settings=ProvisionerSettings(timeout_s=1))
    add_snapshot(world, handle=await driver_snapshot(world))
    world.driver.order("CreateVolume:late x1")
    world.add_class()
    uid = world.add_claim(dataSource=SNAPSHOT)
    async with world.running():
        await asyncio.sleep(1.5)
        world.api.delete("volumesnapshots", "snap", "team")
        await asyncio.sleep(3)
    assert world.volume(uid)
    assert world.api.get("volumesnapshots", "snap", "team") is None


@pytest.mark.parity("P-SOURCE-05")
async def test_restart_finds_the_volume_of_a_restore_whose_snapshot_is_being_deleted() -> None:
    world = World(controller=ABLE)
    add_snapshot(world, handle=await driver_snapshot(world), finalizers=(SNAPSHOT_FINALIZER,), deleting=True)
    world.add_class()
    uid = world.add_claim(dataSource=SNAPSHOT)
    await world.run(2)
    assert world.volume(uid)
    assert finalizers_of(world, "volumesnapshots", "snap") == ["example.com/holds"]


PREFIX = "error getting handle for DataSource Type VolumeSnapshot by Name snap: "
MODE = "requested volume team/data modifies the mode of the source volume but does not have permission to do so. "

BAD_SNAPSHOTS: list[Any] = [
    ({"deleting": True}, {}, "snapshot snap is being deleted"),
    ({"status": {"boundVolumeSnapshotContentName": None}}, {}, "snapshot snap not bound"),
    (
        {"content": {"volumeSnapshotRef": {"name": "snap", "namespace": "team", "uid": "other"}}},
        {},
        "snapshotcontent content for snapshot snap is bound to a different snapshot",
    ),
    (
        {"content": {"driver": "other.io"}},
        {},
        "snapshotcontent content for snapshot snap is not handled by CSI driver of StorageClass fast",
    ),
    ({"status": {"readyToUse": False}}, {}, "snapshot snap is not Ready"),
    ({"handle": None}, {}, "snapshot handle snap is not available"),
    (
        {"status": {"restoreSize": "2Gi"}},
        {},
        "requested volume size 1073741824 is less than the size 2147483648 for the source snapshot snap",
    ),
    (
        {"status": {"readyToUse": "yes"}},
        {},
        "VolumeSnapshot snap is malformed: Expected `bool | null`, got `str` - at `$.status.readyToUse`",
    ),
    (
        {"status": {"restoreSize": "much"}},
        {},
        (
            "restoreSize of snapshot snap is no quantity: 'much' is no quantity: give a number with an optional"
            " suffix, such as 10Gi"
        ),
    ),
    (
        {"content": {"driver": 5}},
        {},
        "VolumeSnapshotContent content is malformed: Expected `str`, got `int` - at `$.spec.driver`",
    ),
    (
        {"content": {"sourceVolumeMode": "Filesystem"}},
        {"volumeMode": "Block"},
        f"{MODE}{ALLOW} annotation is not present on snapshotcontent content",
    ),
    (
        {"content": {"sourceVolumeMode": "Filesystem"}, "annotations": {ALLOW: "False"}},
        {"volumeMode": "Block"},
        f"{MODE}{ALLOW} is set to false on snapshotcontent content",
    ),
    (
        {"content": {"sourceVolumeMode": "Filesystem"}, "annotations": {ALLOW: "yes"}},
        {"volumeMode": "Block"},
        (
            f"{MODE}failed to convert {ALLOW} annotation value to boolean with error:"
            ' strconv.ParseBool: parsing "yes": invalid syntax'
        ),
    ),
]


@pytest.mark.parity("P-SOURCE-04")
@pytest.mark.parametrize(("snapshot", "claim", "text"), BAD_SNAPSHOTS)
async def test_snapshot_that_cannot_be_restored_is_told_in_upstreams_words(
    snapshot: dict[str, Any], claim: dict[str, Any], text: str
) -> None:
    world = World(controller=ABLE)
    add_snapshot(world, **snapshot)
    world.add_class()
    world.add_claim(dataSource=SNAPSHOT, **claim)
    await world.run()
    assert world.warnings() == [PREFIX + text]
    assert world.calls() == []
    assert SNAPSHOT_FINALIZER not in finalizers_of(world, "volumesnapshots", "snap")
    assert world.numbers.total("csi_sidecar_outcomes_total", "provision", "no_change") == 1


@pytest.mark.parametrize(
    ("allowed", "prevent"), [("true", True), ("1", True), ("T", True), (None, False), ("false", False)]
)
async def test_volume_mode_may_change_with_leave(allowed: str | None, prevent: bool) -> None:
    world = World(controller=ABLE, settings=ProvisionerSettings(prevent_volume_mode_conversion=prevent))
    annotations = {ALLOW: allowed} if allowed is not None else {}
    add_snapshot(world, content={"sourceVolumeMode": "Filesystem"}, annotations=annotations)
    world.driver.order("CreateVolume:Internal=reached")
    world.add_class()
    world.add_claim(dataSource=SNAPSHOT, volumeMode="Block")
    await world.run()
    assert len(world.calls()) == 1


@pytest.mark.parity("P-SOURCE-12")
async def test_missing_snapshot_and_missing_content_are_told_and_their_coming_wakes_the_claim() -> None:
    world = World(controller=ABLE, settings=ProvisionerSettings(retry_interval_start_s=300))
    handle = await driver_snapshot(world)
    world.add_class()
    uid = world.add_claim(dataSource=SNAPSHOT)
    async with world.running():
        await asyncio.sleep(1)
        assert world.warnings() == [
            PREFIX + 'error getting snapshot snap from api server: volumesnapshots.snapshot.storage.k8s.io "snap"'
            " not found"
        ]
        add_snapshot(world, handle=handle)
        content = world.api.get("volumesnapshotcontents", "content")
        assert content is not None
        world.api.delete("volumesnapshotcontents", "content")
        await asyncio.sleep(16)
        assert world.warnings()[0].startswith(
            PREFIX + "error getting snapshotcontent content for snapshot snap (volumesnapshotcontents"
        )
        content["metadata"] = {"name": "content"}
        world.api.load([content])
        await asyncio.sleep(16)
        assert world.volume(uid)
        looks = len([what for verb, what, _ in world.wire.requests if verb == "get" and "snapshot" in what])
        await asyncio.sleep(100)
    # Whoever waits is looked after every 15 s; nobody waits any more.
    again = len([what for verb, what, _ in world.wire.requests if verb == "get" and "snapshot" in what])
    assert again == looks


async def test_restore_goes_on_without_the_permission_to_protect() -> None:
    world = World(controller=ABLE)
    add_snapshot(world, handle=await driver_snapshot(world))
    text = (
        'volumesnapshots.snapshot.storage.k8s.io "snap" is forbidden: User "u" cannot update resource "volumesnapshots"'
    )
    world.refuse("update", "volumesnapshots", 403, text, times=9)
    world.add_class()
    uid = world.add_claim(dataSource=SNAPSHOT)
    await world.run(2)
    assert world.volume(uid)
    assert world.warnings() == []


async def test_conflict_while_protecting_is_tried_again_before_the_driver_is_called() -> None:
    world = World(controller=ABLE)
    add_snapshot(world, handle=await driver_snapshot(world))
    world.refuse("update", "volumesnapshots", 409, "the object has been modified")
    world.add_class()
    uid = world.add_claim(dataSource=SNAPSHOT)
    async with world.running():
        await asyncio.sleep(0.5)
        assert world.warnings() == ["the object has been modified"]
        assert world.calls() == []
        await asyncio.sleep(2)
    assert world.volume(uid)


@pytest.mark.parity("P-SOURCE-11")
async def test_answer_without_a_source_is_deleted_and_asked_again() -> None:
    world = World(controller=ABLE)
    add_snapshot(world, handle=await driver_snapshot(world))
    world.driver.order("CreateVolume:nosource x1")
    world.add_class()
    uid = world.add_claim(dataSourceRef=SNAPSHOT)
    await world.run(3)
    assert world.warnings() == ["volume content source missing"]
    assert len(world.calls("DeleteVolume")) == 1
    assert len(world.calls()) == 2
    assert world.volume(uid)


# ---- clones


async def add_source_claim(world: World, *, size: str = "1Gi", **more: Any) -> str:
    """A claim called "old" with a volume that the driver has; the result is the volume's handle."""
    uid = world.add_claim("old", size=size, **more)
    await world.run()
    world.bind(uid, "old")
    handle = str(world.volume(uid)["spec"]["csi"]["volumeHandle"])
    world.driver.ledger.clear()
    world.wire.requests.clear()
    return handle


@pytest.mark.parity("P-SOURCE-07")
async def test_claim_is_cloned_and_its_source_protected() -> None:
    world = World(controller=ABLE)
    world.add_class()
    handle = await add_source_claim(world)
    uid = world.add_claim(dataSource=CLONE)
    await world.run(2)
    (request,) = world.calls()
    assert request.volume_content_source.volume.volume_id == handle
    assert world.volume(uid)
    assert CLONE_FINALIZER in finalizers_of(world, "persistentvolumeclaims", "old")
    (written,) = [body for verb, what, body in world.wire.requests if what == "persistentvolumeclaims/old" and body]
    # Whole, as it was read: nothing of a claim gets lost by the write.
    assert written["spec"]["resources"] == {"requests": {"storage": "1Gi"}}
    assert written["status"]


async def test_second_clone_does_not_write_the_source_again() -> None:
    world = World(controller=ABLE)
    world.add_class()
    await add_source_claim(world)
    for name in ("one", "two"):
        world.add_claim(name, dataSource=CLONE)
        await world.run(2)
    assert world.writes().count("update persistentvolumeclaims") == 1
    assert world.api.count("persistentvolumes") == 3


CLONE_PREFIX = "error getting handle for DataSource Type PersistentVolumeClaim by Name old: "
INVALID = "claim in dataSource not bound or invalid ("


def _source(world: World, change: Any) -> None:
    world.api.edit("persistentvolumeclaims", "old", change, "team")


def _pv(world: World, change: Any) -> None:
    name = world.api.get("persistentvolumeclaims", "old", "team")["spec"]["volumeName"]  # type: ignore[index]
    found = world.api.get("persistentvolumes", name)
    assert found is not None
    change(found)
    world.api.load([found])


def _delete(world: World) -> None:
    _source(world, lambda obj: obj["metadata"].update(finalizers=["example.com/x"]))
    world.api.delete("persistentvolumeclaims", "old", "team")


BAD_CLONES: list[Any] = [
    (
        lambda world: world.set_phase("persistentvolumeclaims", "old", "Lost", "team"),
        {},
        "the PVC DataSource old must have a status of Bound.  Got Lost",
    ),
    (_delete, {}, "the PVC DataSource old is currently being deleted"),
    (
        lambda world: None,
        {"size": "1Mi"},
        (
            "error, new PVC request must be greater than or equal in size to the specified PVC data source,"
            " requested 1048576 but source is 1073741824"
        ),
    ),
    (
        lambda world: _pv(world, lambda obj: obj["spec"]["csi"].update(driver="other.io")),
        {},
        f"{INVALID}PersistentVolume NAME is of driver other.io, StorageClass fast of {DRIVER})",
    ),
    (
        lambda world: _pv(world, lambda obj: obj["spec"]["claimRef"].update(uid="other")),
        {},
        f"{INVALID}PersistentVolume NAME belongs to team/old)",
    ),
    (
        lambda world: _pv(world, lambda obj: obj["status"].update(phase="Available")),
        {},
        f"{INVALID}PersistentVolume NAME is Available, not Bound)",
    ),
    (
        lambda world: None,
        {"volumeMode": "Block"},
        (
            "the source PVC and destination PVCs must have the same volume mode for cloning."
            "  Source is Filesystem, but new PVC requested Block"
        ),
    ),
]


@pytest.mark.parity("P-SOURCE-08")
@pytest.mark.parametrize(("spoil", "claim", "text"), BAD_CLONES)
async def test_claim_that_cannot_be_cloned_is_told_in_upstreams_words(
    spoil: Any, claim: dict[str, Any], text: str
) -> None:
    world = World(controller=ABLE)
    world.add_class()
    await add_source_claim(world)
    spoil(world)
    world.add_claim(dataSource=CLONE, **claim)
    await world.run()
    name = (world.api.get("persistentvolumeclaims", "old", "team") or {})["spec"]["volumeName"]
    assert world.warnings() == [CLONE_PREFIX + text.replace("NAME", name)]
    assert world.calls() == []
    assert CLONE_FINALIZER not in finalizers_of(world, "persistentvolumeclaims", "old")


@pytest.mark.parity("P-SOURCE-16")
async def test_restart_finds_the_volume_of_a_clone_whose_source_is_being_deleted() -> None:
    """Refusing would leave the volume behind that the call before the restart made."""
    world = World(controller=ABLE, settings=ProvisionerSettings(timeout_s=1))
    world.add_class()
    await add_source_claim(world)
    world.driver.order("CreateVolume:late x1")
    uid = world.add_claim(dataSource=CLONE)
    await world.run(0.5)
    assert len(world.driver.volumes) == 2
    world.api.delete("persistentvolumeclaims", "old", "team")
    world.plugin = Provisioner(world.settings)
    await world.run(2)
    assert world.volume(uid)
    assert len(world.driver.volumes) == 2


async def test_claim_waits_for_its_source_and_is_woken_by_it() -> None:
    world = World(controller=ABLE, settings=ProvisionerSettings(retry_interval_start_s=300))
    world.add_class()
    uid = world.add_claim(dataSource=CLONE)
    async with world.running():
        await asyncio.sleep(1)
        assert world.warnings() == [
            CLONE_PREFIX + 'error getting PVC old (namespace "team") from api server:'
            ' persistentvolumeclaim "old" not found'
        ]
        source = world.add_claim("old")
        await asyncio.sleep(1)
        world.bind(source, "old")
        await asyncio.sleep(1)
    assert world.volume(uid)


# ---- other namespaces


def add_grant(world: World, *, namespace: str = "lib", source: Object | None = None, to: Object | None = None) -> None:
    spec = {
        "from": [source or {"group": "", "kind": "PersistentVolumeClaim", "namespace": "team"}],
        "to": [to or {"group": GROUP, "kind": "VolumeSnapshot"}],
    }
    meta = {"name": "grant", "namespace": namespace}
    grant = {"apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant", "metadata": meta}
    world.api.load([{**grant, "spec": spec}])


FOREIGN = {**SNAPSHOT, "namespace": "lib"}
REFUSED = "accessing lib/snap of VolumeSnapshot dataSource from team/data isn't allowed"


async def test_source_of_another_namespace_with_a_grant() -> None:
    world = World(controller=ABLE, settings=CROSS)
    add_snapshot(world, namespace="lib", handle=await driver_snapshot(world))
    add_grant(world)
    world.add_class()
    uid = world.add_claim(dataSourceRef=FOREIGN)
    await world.run(2)
    assert world.volume(uid)
    # Taken off also where only the reference names the snapshot, in its own namespace.
    assert finalizers_of(world, "volumesnapshots", "snap", "lib") == []
    assert "update volumesnapshots" in world.writes()


@pytest.mark.parity("P-SOURCE-09")
@pytest.mark.parametrize(
    "grant",
    [
        None,
        {"namespace": "team"},
        {"source": {"group": "", "kind": "PersistentVolumeClaim", "namespace": "else"}},
        {"source": {"group": "x", "kind": "PersistentVolumeClaim", "namespace": "team"}},
        {"source": {"group": "", "kind": "persistentvolumeclaim", "namespace": "team"}},
        {"to": {"group": GROUP, "kind": "VolumeSnapshot", "name": "other"}},
        {"to": {"group": "", "kind": "VolumeSnapshot"}},
        {"to": {"group": GROUP, "kind": "PersistentVolumeClaim"}},
    ],
)
async def test_without_a_grant_that_fits_nothing_is_read(grant: dict[str, Any] | None) -> None:
    world = World(controller=ABLE, settings=CROSS)
    if grant is not None:
        add_grant(world, **grant)
    world.add_class()
    world.add_claim(dataSourceRef=FOREIGN)
    await world.run()
    assert world.warnings() == [REFUSED]
    assert not [what for _, what, _ in world.wire.requests if "snapshot" in what]


async def test_grant_wakes_the_claim_that_waits_for_it() -> None:
    world = World(
        controller=ABLE, settings=ProvisionerSettings(cross_namespace_data_source=True, retry_interval_start_s=300)
    )
    add_snapshot(world, namespace="lib", handle=await driver_snapshot(world))
    world.add_class()
    uid = world.add_claim(dataSourceRef=FOREIGN)
    async with world.running():
        await asyncio.sleep(1)
        add_grant(world, to={"group": GROUP, "kind": "VolumeSnapshot", "name": "snap"})
        await asyncio.sleep(1)
    assert world.volume(uid)


async def test_populator_of_another_namespace_needs_a_grant_too() -> None:
    world = World(settings=CROSS)
    world.add_class()
    world.add_claim(dataSourceRef={"apiGroup": "example.com", "kind": "Book", "name": "b", "namespace": "lib"})
    await world.run()
    assert world.warnings() == ["accessing lib/b of Book dataSource from team/data isn't allowed"]


@pytest.mark.parity("P-SOURCE-01")
async def test_data_source_beats_a_reference_and_its_namespace() -> None:
    """As an API server would store it that lets both in."""
    world = World(controller=ABLE)
    add_snapshot(world, handle=await driver_snapshot(world))
    world.add_class()
    uid = world.add_claim(dataSource=SNAPSHOT)

    found = world.api.get("persistentvolumeclaims", "data", "team")
    assert found is not None
    found["spec"]["dataSourceRef"] = FOREIGN
    world.api.load([found])
    await world.run(2)
    assert world.volume(uid)
