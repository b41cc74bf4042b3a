"""Rules that csi-sanity checks and that are easily lost, so that they are seen without it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from csisidecar.csi import (
    ControllerModifyVolumeRequest,
    ControllerPublishVolumeRequest,
    CreateVolumeRequest,
    NodeGetVolumeStatsRequest,
    NodePublishVolumeRequest,
    NodeStageVolumeRequest,
    NodeUnpublishVolumeRequest,
)
from csisidecar.errors import StatusCode as Code
from tests.testing.driver.asking import Mode, capability

if TYPE_CHECKING:
    from tests.testing.driver.asking import Asker

pytestmark = pytest.mark.looptime


async def test_wrong_arguments_come_before_a_missing_volume(ask: Asker) -> None:
    wrong = [
        ControllerPublishVolumeRequest(volume_id="none", volume_capability=capability()),
        ControllerPublishVolumeRequest(volume_id="none", node_id="n1"),
        NodeGetVolumeStatsRequest(volume_id="none"),
    ]
    assert [await ask.code(request) for request in wrong] == [Code.INVALID_ARGUMENT] * 3
    whole = ControllerPublishVolumeRequest(volume_id="none", node_id="n1", volume_capability=capability())
    assert await ask.code(whole) is Code.NOT_FOUND
    assert await ask.code(NodeGetVolumeStatsRequest(volume_id="none", volume_path="some/path")) is Code.NOT_FOUND


async def test_single_writer_has_one_place_on_a_node(ask: Asker) -> None:
    use = capability(Mode.SINGLE_NODE_SINGLE_WRITER)
    volume_id = await ask.volume(volume_capabilities=[use])
    await ask(NodeStageVolumeRequest(volume_id=volume_id, staging_target_path="/stage", volume_capability=use))

    def at(path: str) -> NodePublishVolumeRequest:
        return NodePublishVolumeRequest(
            volume_id=volume_id, staging_target_path="/stage", target_path=path, volume_capability=use
        )

    await ask(at("/one"))
    await ask(at("/one"))
    assert await ask.code(at("/two")) is Code.FAILED_PRECONDITION
    await ask(NodeUnpublishVolumeRequest(volume_id=volume_id, target_path="/one"))
    await ask(at("/two"))


async def test_mutable_parameters_have_known_names(ask: Asker) -> None:
    ask.driver.settings = replace(ask.driver.settings, mutable_parameters=frozenset({"tier"}))
    volume_id = await ask.volume(mutable_parameters={"tier": "gold"})
    await ask(ControllerModifyVolumeRequest(volume_id=volume_id, mutable_parameters={"tier": "silver"}))
    odd = ControllerModifyVolumeRequest(volume_id=volume_id, mutable_parameters={"color": "red"})
    assert await ask.code(odd) is Code.INVALID_ARGUMENT
    made = CreateVolumeRequest(name="b", volume_capabilities=[capability()], mutable_parameters={"color": "red"})
    assert await ask.code(made) is Code.INVALID_ARGUMENT
