"""A replica that was frozen for longer than its lease does nothing when it wakes, not even what it had begun."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest

from csisidecar.demo.props import build_claim, build_class
from csisidecar.testing.apiserver import FakeAPIServer
from csisidecar.testing.driver import FakeDriver
from tests.whole.processes import eventually, free_port, program, ready_within

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.whole, pytest.mark.timeout(90)]

PROVISIONER = "volume.kubernetes.io/storage-provisioner"


async def test_replica_frozen_in_mid_attempt_leaves_the_rest_to_the_new_leader(tmp_path: Path) -> None:
    driver = FakeDriver()
    async with FakeAPIServer() as server, driver.serving(tmp_path / "csi.sock"):
        server.write_kubeconfig(tmp_path / "kubeconfig")
        server.objects.create(build_class("demo", driver.settings.name))

        def words(port: int) -> tuple[str, ...]:
            return (
                "run",
                "--mode=provisioner",
                f"--kubeconfig={tmp_path}/kubeconfig",
                f"--csi-address={tmp_path}/csi.sock",
                f"--http-endpoint=127.0.0.1:{port}",
                "--leader-election-lease-duration=4s",
                "--leader-election-renew-deadline=3s",
                "--leader-election-retry-period=1s",
            )

        first_port, second_port = free_port(), free_port()
        async with program(*words(first_port), log=tmp_path / "first.log") as first:
            await ready_within(first_port, 200, 15)
            await eventually(lambda: "at work" in first.log, 10)
            async with program(*words(second_port), log=tmp_path / "second.log") as second:
                await ready_within(second_port, 200, 15)
                # A slow API server holds the attempt open between CreateVolume and the saved PersistentVolume.
                server.trouble.add("create:persistentvolumes:delay=2x1")
                claim = build_claim("data")
                claim["metadata"]["annotations"] = {PROVISIONER: driver.settings.name}
                server.objects.create(claim)
                await eventually(lambda: len(driver.volumes) == 1, 10)
                first.process.send_signal(signal.SIGSTOP)
                await eventually(lambda: "at work" in second.log, 20)
                await eventually(lambda: server.objects.count("persistentvolumes") == 1, 20)
                before = len(driver.ledger)
                first.process.send_signal(signal.SIGCONT)
                await asyncio.sleep(3)
                assert len(driver.ledger) == before
                assert "lease lost" in first.log
                assert first.process.returncode is None
                assert server.objects.count("persistentvolumes") == 1
                assert len(driver.volumes) == 1
