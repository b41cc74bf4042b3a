from __future__ import annotations

import pytest

from csisidecar.plugins.life_metrics import LifeMetrics
from tests.plugins.attacher.world import LoopClock, Numbers

pytestmark = pytest.mark.looptime

OLDEST = ("csi_sidecar_oldest_pending_seconds", "attach")


@pytest.mark.parity("R-METRIC-04")
@pytest.mark.parametrize(
    ("timestamps", "age_s"),
    [
        ([], 0.0),
        (["2026-11-21T11:59:00Z", "2026-11-21T11:58:00Z"], 120.0),
        (["2026-11-21T12:05:00Z"], 0.0),
        ([None, "", "soon", "2026-11-21T10:00:00", "2026-11-21T11:59:30Z"], 30.0),
    ],
    ids=["none", "oldest", "clock-behind", "malformed-ones-do-not-count"],
)
async def test_age_of_the_oldest_pending(timestamps: list[str | None], age_s: float) -> None:
    numbers = Numbers()
    LifeMetrics(numbers, LoopClock()).watch_pending("attach", lambda: timestamps)
    assert numbers.gauges[OLDEST]() == pytest.approx(age_s, abs=0.01)


async def test_success_without_a_usable_timestamp_is_counted_but_not_timed() -> None:
    numbers = Numbers()
    LifeMetrics(numbers, LoopClock()).succeeded("attach", "soon")
    assert numbers.seen == {("csi_sidecar_outcomes_total", "attach", "success"): [1.0]}
