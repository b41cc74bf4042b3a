"""Claims with a VolumeAttributesClass: what the driver gets of it, and when it counts."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from csisidecar.config import ProvisionerSettings
from tests.plugins.provisioner.world import CAPABILITIES, DRIVER, World

pytestmark = pytest.mark.looptime

ABLE = CAPABILITIES | {"MODIFY_VOLUME"}
SILVER = {"volumeAttributesClassName": "silver"}


def add_attributes(world: World, *, driver: str = DRIVER, name: str = "silver") -> None:
    meta = {"name": name}
    body: dict[str, Any] = {"driverName": driver, "parameters": {"iops": "100"}}
    world.api.create({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttributesClass", "metadata": meta, **body})


@pytest.mark.parity("P-SOURCE-13")
async def test_parameters_reach_the_driver_and_the_class_the_volume() -> None:
    world = World(controller=ABLE)
    add_attributes(world)
    world.add_class()
    uid = world.add_claim(**SILVER)
    await world.run()
    (request,) = world.calls()
    assert request.mutable_parameters == {"iops": "100"}
    assert world.volume(uid)["spec"]["volumeAttributesClassName"] == "silver"


async def test_missing_class_is_told_and_its_coming_wakes_the_claim() -> None:
    world = World(controller=ABLE, settings=ProvisionerSettings(retry_interval_start_s=300))
    world.add_class()
    uid = world.add_claim(**SILVER)
    async with world.running():
        await asyncio.sleep(1)
        assert world.warnings() == ['volumeattributesclasses.storage.k8s.io "silver" not found']
        add_attributes(world)
        await asyncio.sleep(16)
    assert world.volume(uid)
    assert world.numbers.total("csi_sidecar_outcomes_total", "provision", "no_change") == 1


async def test_class_of_another_driver_is_refused() -> None:
    world = World(controller=ABLE)
    add_attributes(world, driver="other.io")
    world.add_class()
    world.add_claim(**SILVER)
    await world.run()
    assert world.warnings() == [
        f"VAC silver referenced in PVC is for driver other.io which does not match driver name {DRIVER}"
    ]
    assert world.calls() == []


@pytest.mark.parity("P-SOURCE-14")
@pytest.mark.parametrize(("gate", "served"), [(False, True), (None, False)])
async def test_class_is_ignored_with_the_gate_off_or_where_the_api_lacks_it(gate: bool | None, served: bool) -> None:
    world = World(settings=ProvisionerSettings(volume_attributes_class=gate))
    if not served:
        world.wire.served.remove("VolumeAttributesClass")
    world.add_class()
    uid = world.add_claim(**SILVER)
    await world.run()
    (request,) = world.calls()
    assert request.mutable_parameters == {}
    assert "volumeAttributesClassName" not in world.volume(uid)["spec"]


async def test_api_is_asked_once_what_it_serves_and_not_at_all_with_the_gate_on() -> None:
    for gate, asked in ((None, 1), (True, 0)):
        world = World(controller=ABLE, settings=ProvisionerSettings(volume_attributes_class=gate))
        add_attributes(world)
        world.add_class()
        async with world.running():
            for name in ("one", "two"):
                world.add_claim(name, **SILVER)
                await asyncio.sleep(1)
        assert world.api.count("persistentvolumes") == 2
        assert [what for _, what, _ in world.wire.requests].count("/apis/storage.k8s.io/v1") == asked


@pytest.mark.parity("P-SOURCE-15")
async def test_without_the_permission_only_claims_with_a_class_wait(caplog: pytest.LogCaptureFixture) -> None:
    world = World(controller=ABLE)
    add_attributes(world)
    text = 'volumeattributesclasses.storage.k8s.io "silver" is forbidden: User "u" cannot get resource'
    world.refuse("get", "volumeattributesclasses", 403, text, times=99)
    world.add_class()
    world.add_claim(**SILVER)
    plain = world.add_claim("plain")
    with caplog.at_level(logging.WARNING):
        await world.run(20)
    assert world.volume(plain)
    assert world.warnings()[0].startswith(text)
    (told,) = [record for record in caplog.records if "VolumeAttributesClasses" in record.getMessage()]
    rule = '{apiGroups: ["storage.k8s.io"], resources: ["volumeattributesclasses"], verbs: ["get"]}'
    assert vars(told)["missing_rule"] == rule
