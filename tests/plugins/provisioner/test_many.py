"""Many claims at once, a driver whose answers get lost, and a restart in the middle: nothing twice, nothing left."""

from __future__ import annotations

import asyncio
import os

import pytest

from csisidecar.plugins.provisioner import Provisioner
from tests.plugins.provisioner.world import World

CLAIMS = int(os.environ.get("CSISIDECAR_CLAIMS", "300"))
"""How many claims; ``CSISIDECAR_CLAIMS=1000 pytest tests/plugins/provisioner/test_many.py`` takes about a minute."""


@pytest.mark.parity("P-SAVE-12")
@pytest.mark.looptime
@pytest.mark.timeout(300)
async def test_every_claim_gets_one_volume_though_every_third_answer_is_lost_and_the_process_restarts() -> None:
    world = World()
    world.add_class()
    for _ in range(CLAIMS):
        # Two calls take a while, the third does its work and never answers.
        world.driver.order("CreateVolume:delay=0.2 x2", "CreateVolume:late x1")
    uids = {world.add_claim(f"claim-{number}") for number in range(CLAIMS)}
    async with world.running():
        while world.api.count("persistentvolumes") < CLAIMS / 3:
            await asyncio.sleep(0.05)
        assert world.plugin._memory.in_progress
    # Killed with calls in flight: the new process knows nothing.
    world.plugin = Provisioner(world.settings)
    async with world.running():
        async with asyncio.timeout(3600):
            while world.api.count("persistentvolumes") < CLAIMS:
                await asyncio.sleep(1)
        await asyncio.sleep(60)
    volumes = world.api.list("persistentvolumes")
    assert {volume["spec"]["claimRef"]["uid"] for volume in volumes} == uids
    assert len(volumes) == CLAIMS
    handles = {volume["spec"]["csi"]["volumeHandle"] for volume in volumes}
    assert handles == set(world.driver.volumes)
    assert len(handles) == CLAIMS
    assert world.calls("DeleteVolume") == []
    asked: dict[str, set[bytes]] = {}
    for request in world.calls():
        asked.setdefault(request.name, set()).add(bytes(request))
    assert {len(requests) for requests in asked.values()} == {1}
    assert len(world.calls()) > CLAIMS
    assert not world.plugin._memory.in_progress
    assert not world.plugin._memory.unsaved
