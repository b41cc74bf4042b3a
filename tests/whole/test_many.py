"""Two hundred volumes at once through both modes in one process, over real sockets."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from csisidecar.clock import SystemClock
from csisidecar.demo.bulk import live_many
from csisidecar.demo.observer import Observer
from csisidecar.demo.stage import Stage, set_up
from csisidecar.demo.story import count_requests

pytestmark = [pytest.mark.whole, pytest.mark.timeout(240)]

COUNT = 200
PHASE_TIMEOUT_S = 60.0


def left_in_the_api(stage: Stage) -> dict[str, int]:
    """Plural → objects, of everything that a volume's life makes."""
    plurals = ("persistentvolumeclaims", "persistentvolumes", "volumeattachments", "pods")
    return {plural: stage.server.objects.count(plural) for plural in plurals if stage.server.objects.count(plural)}


async def test_two_hundred_volumes_at_once_leave_nothing_behind() -> None:
    # Debug mode makes each of some hundred thousand callbacks several times as expensive.
    asyncio.get_running_loop().set_debug(False)
    clock = SystemClock()
    async with set_up(clock) as stage, Observer.opened(stage.client, clock) as observer:
        await observer.until(lambda: stage.sidecar.health.report().is_ok, PHASE_TIMEOUT_S)
        await observer.until(lambda: len(observer.events) >= 2, PHASE_TIMEOUT_S)  # both modes tell that they lead
        start = len(stage.server.audit)
        await live_many(stage.client, observer, count=COUNT, timeout_s=PHASE_TIMEOUT_S)

        assert left_in_the_api(stage) == {}
        assert dict(stage.driver.volumes) == {}
        assert stage.driver.published == {}
        assert list(stage.volumes_directory.iterdir()) == []
        ends = Counter(call.method for call in stage.driver.ledger if call.code is not None)
        created = {call.request.name for call in stage.driver.calls("CreateVolume")}
        assert len(created) == COUNT
        assert ends["CreateVolume"] == ends["ControllerPublishVolume"] == COUNT
        assert ends["ControllerUnpublishVolume"] == ends["DeleteVolume"] == COUNT
        records = list(stage.server.audit)[start:]
        done = count_requests(record for record in records if record.code < 300)
        assert sum(done.values()) == 10 * COUNT, done
        assert sum(count_requests(records).values()) <= 11 * COUNT, "too many conflicts"
