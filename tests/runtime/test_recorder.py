"""Events: one live object per subject and reason, a bounded number of writes, off without permission."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.clock import SystemClock
from csisidecar.errors import ForbiddenError, KubeError, NotFoundError, ThrottledError
from csisidecar.runtime import EventRecorder, Regarding, clip

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

pytestmark = pytest.mark.looptime

CLAIM = Regarding(kind="PersistentVolumeClaim", api_version="v1", namespace="ns", name="data", uid="u1")


class EventAPI:
    """Keeps Events as the server would and does as told."""

    def __init__(self) -> None:
        self.events: dict[str, dict[str, Any]] = {}
        self.writes: list[tuple[float, str]] = []
        self.errors: list[KubeError] = []
        self.slow_s = 0.0

    async def _order(self, verb: str) -> None:
        self.writes.append((round(asyncio.get_running_loop().time(), 1), verb))
        await asyncio.sleep(self.slow_s)
        if self.errors:
            raise self.errors.pop(0)

    async def create(self, resource: Any, body: Mapping[str, Any], *, namespace: str = "") -> dict[str, Any]:
        await self._order("create")
        assert body["metadata"]["namespace"] == namespace
        self.events[body["metadata"]["name"]] = dict(body)
        return dict(body)

    async def patch(
        self, resource: Any, name: str, body: Mapping[str, Any], *, namespace: str = "", patch_type: Any = None
    ) -> dict[str, Any]:
        await self._order("patch")
        if name not in self.events:
            raise NotFoundError("gone", status=404)
        self.events[name].update(body)
        return self.events[name]


@asynccontextmanager
async def recording() -> AsyncIterator[tuple[EventRecorder, EventAPI]]:
    api = EventAPI()
    recorder = EventRecorder(api, component="tester", clock=SystemClock())  # type: ignore[arg-type]
    task = asyncio.create_task(recorder.run())
    yield recorder, api
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parity("R-EVENT-02")
async def test_event_names_its_subject_reason_and_source() -> None:
    async with recording() as (recorder, api):
        recorder.event(CLAIM, "Normal", "Provisioning", "on it")
        await asyncio.sleep(1)
        (event,) = api.events.values()
    assert event["involvedObject"] == {
        "kind": "PersistentVolumeClaim",
        "apiVersion": "v1",
        "namespace": "ns",
        "name": "data",
        "uid": "u1",
    }
    assert (event["reason"], event["message"], event["type"], event["count"]) == ("Provisioning", "on it", "Normal", 1)
    assert event["source"] == {"component": "tester"}
    assert event["metadata"]["name"].startswith("data.")


async def test_repeats_are_one_live_event_with_the_latest_message() -> None:
    async with recording() as (recorder, api):
        for number in range(4):
            recorder.event(CLAIM, "Warning", "ProvisioningFailed", f"failure {number}")
            await asyncio.sleep(1)
        (event,) = api.events.values()
    assert (event["count"], event["message"]) == (4, "failure 3")
    assert [verb for _, verb in api.writes] == ["create", "patch", "patch", "patch"]


async def test_occurrence_during_a_slow_write_waits_for_its_end() -> None:
    async with recording() as (recorder, api):
        api.slow_s = 3.0
        for _ in range(3):
            recorder.event(CLAIM, "Warning", "ProvisioningFailed", "failure")
            await asyncio.sleep(1)
        await asyncio.sleep(10)
        (event,) = api.events.values()
    assert event["count"] == 3
    assert [verb for _, verb in api.writes] == ["create", "patch"]


@pytest.mark.parity("R-EVENT-01")
async def test_flood_is_written_at_most_once_a_minute_after_the_fifth_write() -> None:
    async with recording() as (recorder, api):
        for number in range(600):
            recorder.event(CLAIM, "Warning", "ProvisioningFailed", f"failure {number}")
            await asyncio.sleep(1)
        await asyncio.sleep(120)
        (event,) = api.events.values()
    assert event["count"] == 600
    assert len(api.writes) <= 5 + 11


async def test_without_permission_events_go_off_with_the_missing_rule(caplog: pytest.LogCaptureFixture) -> None:
    async with recording() as (recorder, api):
        refusal = 'events is forbidden: User "sa" cannot create resource "events" in API group "" in the namespace "ns"'
        api.errors = [ForbiddenError(refusal, verb="create", resource="events", status=403)]
        for _ in range(3):
            recorder.event(CLAIM, "Warning", "Failed", "x")
            await asyncio.sleep(1)
        assert api.events == {}
        assert len(api.writes) == 1
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert 'resources: ["events"], verbs: ["create"]' in warnings[0].missing_rule  # type: ignore[attr-defined]


async def test_namespace_that_ends_costs_one_event_and_not_all() -> None:
    async with recording() as (recorder, api):
        refusal = 'events "x" is forbidden: unable to create new content in namespace ns because it is being terminated'
        api.errors = [ForbiddenError(refusal, verb="create", resource="events", status=403)]
        recorder.event(CLAIM, "Warning", "Failed", "x")
        await asyncio.sleep(1)
        recorder.event(CLAIM, "Warning", "Other", "y")
        await asyncio.sleep(1)
        assert [event["reason"] for event in api.events.values()] == ["Other"]


async def test_passing_trouble_loses_no_event_and_a_refused_one_is_dropped() -> None:
    async with recording() as (recorder, api):
        api.errors = [ThrottledError("slow", status=429, retry_after_s=3), KubeError("down", status=500)]
        recorder.event(CLAIM, "Warning", "Failed", "x")
        await asyncio.sleep(30)
        assert len(api.events) == 1
        api.errors = [KubeError("invalid", status=422)]
        recorder.event(CLAIM, "Warning", "Other", "y")
        await asyncio.sleep(30)
        assert len(api.events) == 1


async def test_expired_event_is_created_anew() -> None:
    async with recording() as (recorder, api):
        recorder.event(CLAIM, "Warning", "Failed", "x")
        await asyncio.sleep(1)
        api.events.clear()
        recorder.event(CLAIM, "Warning", "Failed", "x")
        await asyncio.sleep(1)
        (event,) = api.events.values()
    assert event["count"] == 2


async def test_cluster_wide_subject_has_its_events_in_default() -> None:
    volume = Regarding(kind="PersistentVolume", api_version="v1", namespace="", name="pv", uid="u2")
    async with recording() as (recorder, api):
        recorder.event(volume, "Warning", "VolumeFailedDelete", "x")
        await asyncio.sleep(1)
        assert [event["metadata"]["namespace"] for event in api.events.values()] == ["default"]


def test_long_message_is_cut_at_a_character() -> None:
    assert clip("a" * 1023 + "é", 1024) == "a" * 1023
    assert clip("short", 1024) == "short"
