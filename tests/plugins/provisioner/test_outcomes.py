"""CreateVolume that fails or answers wrongly: what is kept in mind, what is undone, when it is asked again."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from csisidecar.config import ProvisionerSettings
from tests.plugins.provisioner.world import DRIVER, GIB, World, claim_ref

pytestmark = pytest.mark.looptime


@pytest.mark.parity("P-CREATE-06")
async def test_claim_deleted_during_create_is_finished() -> None:
    world = World()
    world.driver.order("CreateVolume:late x1")
    world.add_class()
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(5)
        world.drop_claim()
        await asyncio.sleep(10)
    volume = world.volume(uid)
    assert volume["spec"]["claimRef"]["uid"] == uid
    assert volume["spec"]["csi"]["volumeHandle"] == next(iter(world.driver.volumes))
    assert len(world.driver.volumes) == 1
    assert len(world.calls()) == 2


@pytest.mark.parametrize("code", ["Canceled", "DeadlineExceeded", "Unavailable", "Aborted"])
async def test_after_a_code_that_leaves_it_open_a_dead_claim_is_asked_about_again(code: str) -> None:
    world = World()
    world.driver.order(f"CreateVolume:{code}=busy x1")
    world.add_class()
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(0.5)
        world.drop_claim()
        await asyncio.sleep(5)
    assert world.warnings() == [f"rpc error: code = {code} desc = busy"]
    assert world.volume(uid)["spec"]["claimRef"]["uid"] == uid


@pytest.mark.parametrize(
    "code",
    [
        "Unknown",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "DataLoss",
        "Unauthenticated",
    ],
)
async def test_after_a_final_code_a_dead_claim_is_forgotten(code: str) -> None:
    world = World()
    world.driver.order(f"CreateVolume:{code}=no x1")
    world.add_class()
    world.add_claim()
    async with world.running():
        await asyncio.sleep(0.5)
        world.drop_claim()
        await asyncio.sleep(1000)
    assert world.warnings() == [f"rpc error: code = {code} desc = no"]
    assert len(world.calls()) == 1
    assert world.plugin._memory.claims_seen == {}


async def test_a_claim_in_progress_survives_a_lost_lease() -> None:
    world = World()
    world.driver.order("CreateVolume:late x1")
    world.add_class()
    uid = world.add_claim()
    await world.run(3)
    world.drop_claim()
    await world.run(3)
    assert world.volume(uid)["spec"]["claimRef"]["uid"] == uid


async def test_claim_that_another_leader_finished_meanwhile_is_not_made_again_when_it_goes() -> None:
    world = World()
    world.driver.order("CreateVolume:late x1")
    world.add_class()
    uid = world.add_claim()
    await world.run(3)
    world.add_volume(f"pvc-{uid}", phase="Bound", spec={"claimRef": claim_ref(uid)})
    world.bind(uid)
    async with world.running():
        await asyncio.sleep(1)
        world.drop_claim()
        world.set_phase("persistentvolumes", f"pvc-{uid}", "Released")
        await asyncio.sleep(1000)
    assert world.api.count("persistentvolumes") == 0
    assert len(world.calls()) == 1


@pytest.mark.parity("P-CREATE-04")
async def test_every_call_until_the_final_answer_says_the_same() -> None:
    world = World()
    world.driver.order("CreateVolume:Aborted=busy x3")
    world.add_class(parameters={"tier": "gold"})
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(0.5)
        world.api.delete("storageclasses", "fast")
        await asyncio.sleep(0.1)
        world.add_class(parameters={"tier": "lead"}, reclaimPolicy="Retain")
        await asyncio.sleep(30)
    assert [request.parameters for request in world.calls()] == [{"tier": "gold"}] * 4
    assert {request.name for request in world.calls()} == {f"pvc-{uid}"}
    assert world.volume(uid)["spec"]["persistentVolumeReclaimPolicy"] == "Delete"


async def test_claim_in_progress_needs_neither_its_class_nor_its_old_annotations() -> None:
    world = World()
    world.driver.order("CreateVolume:Aborted=busy x1")
    pair = {"name": "${pvc.annotations['who']}", "namespace": "team"}
    world.add_class(parameters={f"csi.storage.k8s.io/node-stage-secret-{half}": text for half, text in pair.items()})
    uid = world.add_claim(annotations={"who": "me"})
    async with world.running():
        await asyncio.sleep(0.5)
        world.api.delete("storageclasses", "fast")

        def forget(obj: dict[str, Any]) -> None:
            del obj["metadata"]["annotations"]["who"]

        world.api.edit("persistentvolumeclaims", "data", forget, "team")
        await asyncio.sleep(1)
    assert world.volume(uid)["spec"]["csi"]["nodeStageSecretRef"] == {"name": "me", "namespace": "team"}


async def test_after_a_final_answer_a_new_class_counts() -> None:
    world = World()
    world.driver.order("CreateVolume:Internal=no x1")
    world.add_class(parameters={"tier": "gold"})
    world.add_claim()
    async with world.running():
        await asyncio.sleep(0.5)
        world.api.delete("storageclasses", "fast")
        world.add_class(parameters={"tier": "lead"})
        await asyncio.sleep(0.3)
    assert [request.parameters["tier"] for request in world.calls()] == ["gold", "lead"]


@pytest.mark.parity("P-CREATE-11")
async def test_backoff_doubles_and_the_first_error_stays_in_sight() -> None:
    world = World()
    world.driver.order("CreateVolume:DeadlineExceeded=slow disk x1", "CreateVolume:Aborted=operation already exists x2")
    world.add_class()
    world.add_claim()
    async with world.running():
        await asyncio.sleep(0.5)
        assert world.warnings() == ["rpc error: code = DeadlineExceeded desc = slow disk"]
        await asyncio.sleep(1)
        assert world.warnings() == [
            (
                "rpc error: code = Aborted desc = operation already exists"
                " (first: rpc error: code = DeadlineExceeded desc = slow disk; 2 attempts since 2026-11-21T12:00:00Z;"
                " next in about 2s)"
            )
        ]
        await asyncio.sleep(2)
        assert world.warnings()[0].endswith("; 3 attempts since 2026-11-21T12:00:00Z; next in about 4s)")
        await asyncio.sleep(5)
    started = [call.started_s for call in world.driver.calls("CreateVolume")]
    assert [round(later - earlier) for earlier, later in itertools.pairwise(started)] == [1, 2, 4]
    kinds = [(kind, reason) for kind, reason, _ in world.events()]
    assert kinds.count(("Normal", "Provisioning")) == 1
    assert kinds.count(("Warning", "ProvisioningFailed")) == 1
    counts = {obj["reason"]: obj["count"] for obj in world.api.list("events")}
    assert counts == {"Provisioning": 1, "ProvisioningFailed": 3, "ProvisioningSucceeded": 1}


@pytest.mark.parity("P-CREATE-07")
async def test_infeasible_claim_waits_300_seconds_whatever_the_backoff_says() -> None:
    world = World()
    world.driver.order("CreateVolume:InvalidArgument=too odd")
    world.add_class()
    world.add_claim()
    async with world.running():
        await asyncio.sleep(500)
        assert len(world.calls()) == 1
        assert world.warnings() == [
            (
                "Volume provisioning failed with infeasible error. Retries will be delayed."
                " rpc error: code = InvalidArgument desc = too odd"
            )
        ]
        await asyncio.sleep(20)
        assert len(world.calls()) == 2, "1 + 2 + 4 + … + 256 = 511 s after the first"
    assert world.numbers.total("controller_persistentvolumeclaim_provision_failed_total", "fast", "") == 2


async def test_changed_claim_does_not_leave_the_slow_lane_but_a_new_class_does() -> None:
    world = World()
    world.driver.order("CreateVolume:InvalidArgument=too odd x1")
    world.add_class()
    uid = world.add_claim()
    async with world.running():
        await asyncio.sleep(1)

        def touch(obj: dict[str, Any]) -> None:
            obj["metadata"]["annotations"]["note"] = "please"

        world.api.edit("persistentvolumeclaims", "data", touch, "team")
        await asyncio.sleep(0.2)
        assert len(world.calls()) == 1
        world.api.delete("storageclasses", "fast")
        world.add_class()
        await asyncio.sleep(0.2)
    assert len(world.calls()) == 2
    assert world.volume(uid)["metadata"]["name"] == f"pvc-{uid}"


@pytest.mark.parity("P-CREATE-09")
async def test_answer_without_a_volume_is_an_error_and_nothing_is_deleted() -> None:
    world = World()
    world.driver.order("CreateVolume:empty x1")
    world.add_class()
    uid = world.add_claim()
    await world.run(3)
    assert world.warnings() == ["the CSI driver answered CreateVolume without a volume"]
    assert world.calls("DeleteVolume") == []
    assert len(world.calls()) == 2
    assert world.volume(uid)["spec"]["csi"]["driver"] == DRIVER


@pytest.mark.parity("P-CREATE-08")
async def test_volume_that_is_too_small_is_deleted_and_made_again() -> None:
    world = World()
    world.driver.order("CreateVolume:small x1", "DeleteVolume:Internal=stuck x4")
    world.add_class()
    uid = world.add_claim()
    await world.run(3)
    assert world.warnings() == [f"created volume capacity {GIB - 1} less than requested capacity {GIB}"]
    assert len(world.calls("DeleteVolume")) == 5
    assert [call.method for call in world.driver.ledger][-1] == "CreateVolume"
    assert world.volume(uid)["spec"]["capacity"] == {"storage": "1Gi"}


async def test_clean_up_that_fails_five_times_is_told() -> None:
    world = World()
    world.driver.order("CreateVolume:small x1", "DeleteVolume:Internal=stuck")
    world.add_class()
    uid = world.add_claim()
    await world.run(0.5)
    assert len(world.calls("DeleteVolume")) == 5
    assert world.warnings() == [
        (
            f"created volume capacity {GIB - 1} less than requested capacity {GIB}. Cleanup of volume pvc-{uid} failed,"
            " volume is orphaned: rpc error: code = Internal desc = stuck"
        )
    ]


async def test_clean_up_takes_no_longer_than_one_timeout() -> None:
    world = World(settings=ProvisionerSettings(timeout_s=4.0, retry_interval_start_s=1000.0))
    world.driver.order("CreateVolume:small x1", "DeleteVolume:hang")
    world.add_class()
    world.add_claim()
    async with world.running():
        await asyncio.sleep(3.9)
        assert world.warnings() == []
        await asyncio.sleep(0.5)
        assert "volume is orphaned: rpc error: code = DeadlineExceeded" in world.warnings()[0]


async def test_each_call_has_the_timeout_of_the_settings() -> None:
    world = World(settings=ProvisionerSettings(timeout_s=7.0))
    world.driver.order("CreateVolume:hang x1")
    world.add_class()
    world.add_claim()
    async with world.running():
        await asyncio.sleep(6.9)
        assert world.warnings() == []
        await asyncio.sleep(0.3)
        assert world.warnings()[0].startswith("rpc error: code = DeadlineExceeded desc = ")


async def test_a_failed_claim_is_logged_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.driver.order("CreateVolume:Internal=busy x1")
    world.add_class()
    world.add_claim("mine")
    async with world.running():
        await asyncio.sleep(0.5)
    assert [vars(it)["subject"] for it in caplog.records if it.message == "attempt failed"] == ["team/mine"]
