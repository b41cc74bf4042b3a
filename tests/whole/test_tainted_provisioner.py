"""A marked secret value of the provisioner is nowhere to be seen: log, Events, objects, metrics, two forced ends."""

from __future__ import annotations

import base64
import json
import os
import signal
from typing import TYPE_CHECKING

import aiohttp
import pytest

from csisidecar.demo.props import build_claim, build_class
from csisidecar.testing.apiserver import FakeAPIServer
from csisidecar.testing.driver import FakeDriver
from tests.whole.processes import eventually, free_port, program, ready_within

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.whole.processes import Program

pytestmark = [pytest.mark.whole, pytest.mark.timeout(90)]

TAINT = "hunter2-tainted"
ENCODED = base64.b64encode(TAINT.encode()).decode()
BROKEN = base64.b64encode(TAINT.encode() + b"\xff").decode()
SECRETS = {"good": ENCODED, "broken": BROKEN, "odd": f"{TAINT}!"}
"""Name → value as the API server has it: whole, no UTF-8, no base64."""
OTHERS = ("persistentvolumes", "persistentvolumeclaims", "storageclasses", "events", "leases", "namespaces")


def put_objects(server: FakeAPIServer, driver: str) -> None:
    """For each Secret a class that names it for every purpose, and a claim; one more claim of the good one."""
    for name, value in SECRETS.items():
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"}}
        server.objects.load([{**secret, "data": {"k": value}}])
        found = build_class(name, driver)
        found["parameters"] = {
            f"csi.storage.k8s.io/{purpose}-secret-{part}": value
            for purpose in ("provisioner", "controller-publish", "node-stage", "node-publish", "controller-expand")
            for part, value in (("name", name), ("namespace", "default"))
        }
        server.objects.create(found)
    for name, of in (("good", "good"), ("more", "good"), ("broken", "broken"), ("odd", "odd")):
        claim = build_claim(name, storage_class=of)
        claim["metadata"]["annotations"] = {"volume.kubernetes.io/storage-provisioner": driver}
        server.objects.create(claim)


def release(server: FakeAPIServer, claim: str) -> str:
    """Delete the claim and let its volume go, as the cluster's own controller does; the volume's name."""
    found = server.objects.get("persistentvolumeclaims", claim, "default")
    assert found is not None
    name = f"pvc-{found['metadata']['uid']}"
    server.objects.edit("persistentvolumeclaims", claim, lambda it: it["metadata"].pop("finalizers", None), "default")
    server.objects.delete("persistentvolumeclaims", claim, "default")
    server.objects.edit(
        "persistentvolumes", name, lambda it: it["metadata"]["finalizers"].remove("kubernetes.io/pv-protection")
    )
    server.objects.edit(
        "persistentvolumes", name, lambda it: it["status"].update(phase="Released"), subresource="status"
    )
    return name


async def abort_with_a_second_signal(process: Program) -> None:
    process.process.send_signal(signal.SIGTERM)
    await eventually(lambda: "stopping" in process.log, 10)
    process.process.send_signal(signal.SIGTERM)
    assert await process.exit_code() == 1


async def crash(process: Program) -> None:
    process.process.send_signal(signal.SIGABRT)
    assert await process.exit_code() == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in process.log


ENDS: dict[str, Callable[[Program], Awaitable[None]]] = {"text": abort_with_a_second_signal, "json": crash}


@pytest.mark.parity("P-DELETE-10")
@pytest.mark.parametrize("logging_format", list(ENDS))
async def test_no_secret_value_leaves_the_provisioner_process(logging_format: str, tmp_path: Path) -> None:
    driver = FakeDriver(trouble=["CreateVolume:Internal=refused x2", "DeleteVolume:Internal=refused x1"])
    port, log = free_port(), tmp_path / "log"
    async with FakeAPIServer() as server, driver.serving(tmp_path / "csi.sock"):
        server.write_kubeconfig(tmp_path / "kubeconfig")
        put_objects(server, driver.settings.name)
        words = (
            *("run", "--mode=provisioner", "-v=10", f"--logging-format={logging_format}", "--leader-election=false"),
            *(f"--kubeconfig={tmp_path}/kubeconfig", f"--csi-address={tmp_path}/csi.sock"),
            *(f"--http-endpoint=127.0.0.1:{port}", "--retry-interval-start=100ms"),
        )
        # Python's own handler of crashes writes every stack into the log.
        async with program(*words, log=log, env={**os.environ, "PYTHONFAULTHANDLER": "1"}) as process:
            await ready_within(port, 200, 15)
            await eventually(lambda: server.objects.count("persistentvolumes") == 2, 15)

            def failed() -> set[str]:
                events = server.objects.list("events")
                return {item["involvedObject"]["name"] for item in events if item["type"] == "Warning"}

            await eventually(lambda: {"broken", "odd"} < failed(), 15)
            gone = release(server, "good")
            await eventually(lambda: server.objects.get("persistentvolumes", gone) is None, 15)
            assert len(driver.calls("DeleteVolume")) == 2
            driver.order("DeleteVolume:hang")
            release(server, "more")
            await eventually(lambda: len(driver.calls("DeleteVolume")) == 3, 10)
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                metrics = await answer.text()
            await ENDS[logging_format](process)
            written = process.log
        shown = [metrics, written]
        shown += [json.dumps(item) for kind in OTHERS for item in server.objects.list(kind)]
        shown += [str(record.body) for record in server.audit if record.user_agent.startswith("csi")]
    for method in ("CreateVolume", "DeleteVolume"):
        assert all(call.request.secrets == {"k": TAINT} for call in driver.calls(method))
        assert f"/{method}" in written
    assert "***stripped***" in written
    assert "csi_sidecar_operations_seconds" in metrics
    for text in shown:
        assert TAINT not in text
        assert ENCODED not in text
        assert BROKEN not in text
