from __future__ import annotations

import base64
import json
import logging
import traceback

import pytest

from csisidecar.errors import StatusCode
from tests.plugins.attacher.world import Answer, World, attachment, node, secret, volume

pytestmark = pytest.mark.looptime

TAINT = "hunter2-tainted"
REF = {"controllerPublishSecretRef": {"name": "s", "namespace": "ns"}}
ENCODED = base64.b64encode(TAINT.encode()).decode()

CASES = {
    "success": {"k": ENCODED},
    "not-utf8": {"k": ENCODED, "bad": base64.b64encode(TAINT.encode() + b"\xff").decode()},
    "not-base64": {"k": ENCODED, "bad": f"{TAINT}!"},
}


@pytest.mark.parity("A-ERROR-07")
@pytest.mark.parametrize("case", CASES)
async def test_no_secret_value_shows_anywhere(case: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)
    world = World(volume(csi=REF), node(), attachment(), secret(CASES[case]))
    world.driver.publish = [Answer(StatusCode.INTERNAL, "boom")]
    world.api.refuse("PATCH", "/va1/status", 500, "no", times=1)
    await world.run(5.0)
    shown = [json.dumps(obj) for obj in world.api.objects.values() if obj["kind"] != "Secret"]
    shown += [f"{r.method} {r.path} {json.dumps(r.body)}" for r in world.api.requests]
    for record in caplog.records:
        shown.append(f"{record.getMessage()} {vars(record)}")
        if record.exc_info and record.exc_info[1]:
            shown.append("".join(traceback.format_exception(record.exc_info[1])))
    assert any("GRPC call" in text for text in shown) or case == "not-base64"
    for text in shown:
        assert TAINT not in text
        assert ENCODED not in text
    assert logging.getLogger().level <= 1
