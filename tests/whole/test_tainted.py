"""A marked secret value is nowhere to be seen: log at the highest level, Events, statuses, metrics, a forced end."""

from __future__ import annotations

import base64
import json
import signal
from typing import TYPE_CHECKING

import aiohttp
import pytest

from csisidecar.testing.apiserver import FakeAPIServer
from csisidecar.testing.driver import FakeDriver, MemoryBackend, VolumeRecord
from tests.whole.processes import eventually, free_port, program, ready_within
from tests.whole.test_hundred import attached, attachment, csinode, volume

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.whole, pytest.mark.timeout(90)]

TAINT = "hunter2-tainted"
ENCODED = base64.b64encode(TAINT.encode()).decode()
BROKEN = base64.b64encode(TAINT.encode() + b"\xff").decode()


async def metrics(port: int) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        return await answer.text()


@pytest.mark.parity("A-ERROR-09")
@pytest.mark.parametrize("logging_format", ["text", "json"])
async def test_no_secret_value_leaves_the_attacher_process(logging_format: str, tmp_path: Path) -> None:
    backend = MemoryBackend()
    for name in ("good", "hangs"):
        await backend.save(VolumeRecord(id=name, name=name, capacity_bytes=1, block=False))
    driver = FakeDriver(backend=backend, trouble=["ControllerPublishVolume:Internal=refused x2"])
    own, port, log = driver.settings.name, free_port(), tmp_path / "log"
    async with FakeAPIServer() as server, driver.serving(tmp_path / "csi.sock"):
        server.write_kubeconfig(tmp_path / "kubeconfig")
        server.objects.create(csinode(own))
        for name, data in (("good", {"k": ENCODED}), ("broken", {"k": BROKEN}), ("odd", {"k": f"{TAINT}!"})):
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"}}
            server.objects.load([{**secret, "data": data}])
            pv = volume(name, own)
            pv["spec"]["csi"]["controllerPublishSecretRef"] = {"name": name, "namespace": "default"}
            server.objects.create(pv)
            server.objects.create(attachment(name, own))
        words = (
            *("run", "--mode=attacher", "-v=10", f"--logging-format={logging_format}", "--leader-election=false"),
            *(f"--kubeconfig={tmp_path}/kubeconfig", f"--csi-address={tmp_path}/csi.sock"),
            f"--http-endpoint=127.0.0.1:{port}",
        )
        async with program(*words, log=log) as process:
            await ready_within(port, 200, 15)
            await eventually(lambda: attached(server) == 1, 15)
            await eventually(lambda: server.objects.count("events") >= 3, 15)
            shown = [await metrics(port)]
            driver.order("ControllerUnpublishVolume:hang")
            server.objects.delete("volumeattachments", "good")
            await eventually(lambda: bool(driver.calls("ControllerUnpublishVolume")), 10)
            process.process.send_signal(signal.SIGTERM)
            await eventually(lambda: "stopping" in process.log, 10)
            process.process.send_signal(signal.SIGTERM)
            await process.exit_code()
            shown.append(process.log)
        shown += [json.dumps(item) for kind in ("events", "volumeattachments") for item in server.objects.list(kind)]
        shown += [str(record.body) for record in server.audit if record.user_agent.startswith("csi")]
    assert driver.calls("ControllerPublishVolume")[0].request.secrets == {"k": TAINT}
    assert "***stripped***" in shown[1]
    assert "csi_sidecar_operations_seconds" in shown[0]
    for text in shown:
        assert TAINT not in text
        assert ENCODED not in text
        assert BROKEN not in text
