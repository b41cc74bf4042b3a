"""The same claims on the same nodes of a real API server: what the Go provisioner and ours ask the driver for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from csisidecar.config import KubeConfig
from csisidecar.kube import KubeClient, connect
from tests.envtest.control_plane import control_plane
from tests.parity import catalogue, real, topology_plays

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.whole,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not os.environ.get("CSI_SIDECARS"), reason="CSI_SIDECARS is not set: it names the folder with csi-provisioner"
    ),
]


async def test_both_ask_for_the_same_places_and_say_the_same(tmp_path: Path) -> None:
    """Where they do not, the page says so."""
    different = {row.id for row in catalogue.rows("topology") if row.differs}
    played, faults = 0, []
    (tmp_path / "plane").mkdir()
    async with (
        control_plane(tmp_path / "plane", flags=real.FLAGS) as plane,
        connect(KubeConfig(kubeconfig=str(plane.kubeconfig))) as session,
    ):
        kube, commands = KubeClient(session), real.commands_of("topology")
        async for name, rows, lines in topology_plays.play_all(kube, commands, plane.kubeconfig, tmp_path, "cluster"):
            played += 1
            if lines and not different.intersection(rows):
                faults.append((name, lines))
    assert not faults
    assert played > 50
