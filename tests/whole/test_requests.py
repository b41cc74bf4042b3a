"""What both modes in one process ask of the API server: one list and one watch a kind, ten requests a life."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from csisidecar.clock import SystemClock
from csisidecar.demo.bulk import live_many
from csisidecar.demo.observer import Observer
from csisidecar.demo.stage import SIDECAR_AGENT, Stage, set_up
from csisidecar.demo.story import count_requests

pytestmark = [pytest.mark.whole, pytest.mark.timeout(90)]

WATCHED = {
    "persistentvolumeclaims",
    "persistentvolumes",
    "storageclasses.storage.k8s.io",
    "volumeattachments.storage.k8s.io",
    "csinodes.storage.k8s.io",
}
SWEPT = "volumesnapshots.snapshot.storage.k8s.io"
"""Listed every five minutes for finalizers that nobody needs any more, and not watched."""

PERIODIC = {"Probe", "ListVolumes"}
"""Calls that belong to no one volume."""


async def ready(stage: Stage) -> None:
    async with asyncio.timeout(20):
        while not stage.sidecar.health.report().is_ok:
            await asyncio.sleep(0.02)
        # The Events on the Leases belong to no volume; they are written right after both modes lead.
        while len(stage.server.objects.list("events")) < 2:
            await asyncio.sleep(0.02)


@pytest.mark.parity("R-API-01")
async def test_each_kind_is_listed_once_and_watched_once() -> None:
    async with set_up(SystemClock()) as stage:
        await ready(stage)
        await asyncio.sleep(0.3)
        reads = [
            record
            for record in stage.server.audit
            if record.user_agent == SIDECAR_AGENT and record.verb in ("list", "watch")
        ]
    lists = Counter(r.resource for r in reads if r.verb == "list" or r.query.get("sendInitialEvents") == "true")
    watches = Counter(r.resource for r in reads if r.verb == "watch" and r.query.get("sendInitialEvents") != "true")
    assert lists == dict.fromkeys({*WATCHED, SWEPT}, 1)
    assert watches == dict.fromkeys(WATCHED, 1)


@pytest.mark.parity("R-API-10")
async def test_life_of_a_volume_is_ten_requests_and_four_calls() -> None:
    clock = SystemClock()
    async with set_up(clock) as stage, Observer.opened(stage.client, clock) as observer:
        await ready(stage)
        before, calls_before = len(stage.server.audit), len(stage.driver.ledger)
        await live_many(stage.client, observer, count=1, timeout_s=20)
        await asyncio.sleep(0.3)
        requests = count_requests(list(stage.server.audit)[before:])
        calls = [call.method for call in list(stage.driver.ledger)[calls_before:] if call.method not in PERIODIC]
    assert requests == {
        ("create", "persistentvolumes"): 1,
        ("create", "events"): 2,
        ("patch", "persistentvolumes"): 3,
        ("patch", "volumeattachments.storage.k8s.io"): 2,
        ("patch", "volumeattachments.storage.k8s.io/status"): 1,
        ("delete", "persistentvolumes"): 1,
    }
    assert calls == ["CreateVolume", "ControllerPublishVolume", "ControllerUnpublishVolume", "DeleteVolume"]
