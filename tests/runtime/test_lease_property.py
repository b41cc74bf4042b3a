"""At most one holder, whatever is lost or late, while clocks run at steady rates that differ by less than 1.5.

A candidate whose clock runs fast is played by giving it shorter times and by showing it other candidates' times as
shorter; the loop's own time is the true one. Requests that a candidate gave up are still carried out.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from csisidecar.clock import SystemClock
from csisidecar.config import LeaseConfig
from csisidecar.errors import LeaseLostError, UnreachableError
from csisidecar.runtime.lease import LeaderElector
from tests.runtime.test_lease import NAME, Client, Fate, LeaseAPI
from tests.virtual import run_virtual

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from csisidecar.kube import Resource

DURATION_S, DEADLINE_S = 15.0, 10.0
CALM_S = 120.0
RATES = (0.82, 0.9, 1.0, 1.1, 1.2)


class SkewedClient(Client):
    """Sees and writes durations in the seconds of a clock that runs `rate` times as fast as true time."""

    def __init__(self, api: LeaseAPI, rate: float, way: Way) -> None:
        super().__init__(api)
        self._rate = rate
        self._way = way

    async def get(self, resource: Resource, name: str, *, namespace: str = "") -> dict[str, Any]:
        self._choose()
        return self._seen(await super().get(resource, name, namespace=namespace))

    async def create(self, resource: Resource, body: Mapping[str, Any], *, namespace: str = "") -> dict[str, Any]:
        self._choose()
        return self._seen(await super().create(resource, self._told(body), namespace=namespace))

    async def update(self, resource: Resource, body: Mapping[str, Any]) -> dict[str, Any]:
        self._choose()
        return self._seen(await super().update(resource, self._told(body)))

    def _choose(self) -> None:
        self._api.fates.clear()
        self._api.fates.append(self._way.next())

    def _seen(self, found: dict[str, Any]) -> dict[str, Any]:
        return {**found, "spec": {**found["spec"], "leaseDurationSeconds": DURATION_S / self._rate}}

    def _told(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {**body, "spec": {**body["spec"], "leaseDurationSeconds": DURATION_S}}


@dataclass
class Way:
    """The fates of one candidate's requests, in turn and over again; good ones once the world is calm."""

    fates: list[Fate]
    turn: int = 0
    calm: bool = False

    def next(self) -> Fate:
        if self.calm or not self.fates:
            return Fate(there_s=0.01, back_s=0.01)
        self.turn += 1
        return self.fates[self.turn % len(self.fates)]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    identity: str
    rate: float
    namespaces: tuple[str, ...]
    retry_s: float
    fates: list[Fate]
    ends_s: list[float] = field(default_factory=list)
    """When a life of it ends, and whether by a crash: the sign."""


fate = st.builds(
    Fate,
    there_s=st.sampled_from((0.0, 0.01, 0.3, 2.0, 4.5, 9.0, 30.0)),
    back_s=st.sampled_from((0.0, 0.01, 0.3, 2.0, 4.5, 9.0, 30.0)),
    lost_request=st.sampled_from((False, False, False, True)),
    lost_reply=st.sampled_from((False, False, False, True)),
    error=st.sampled_from((None, None, None, UnreachableError("refused", verb="update"))),
)
candidate = st.builds(
    Candidate,
    identity=st.sampled_from(("pod-a", "pod-b", "pod-c")),
    rate=st.sampled_from(RATES),
    namespaces=st.sampled_from((("kube-system", "own"), ("own",))),
    retry_s=st.sampled_from((2.0, 5.0)),
    fates=st.lists(fate, max_size=12),
    ends_s=st.lists(st.sampled_from((-3.0, 4.0, -17.0, 23.0, 60.0)), max_size=3),
)


class World:
    def __init__(self, candidates: list[Candidate]) -> None:
        self.api = LeaseAPI()
        self.ways = [Way(c.fates) for c in candidates]
        self.electors: list[LeaderElector | None] = [None] * len(candidates)

    def check(self) -> None:
        leading = [i for i, e in enumerate(self.electors) if e is not None and e.is_leading]
        assert len(leading) <= 1, f"{len(leading)} leaders at {asyncio.get_running_loop().time()}"

    async def live(self, index: int, candidate: Candidate) -> None:
        for end_s in [*candidate.ends_s, None]:
            config = LeaseConfig(
                lease_duration_s=DURATION_S / candidate.rate,
                renew_deadline_s=DEADLINE_S / candidate.rate,
                retry_period_s=candidate.retry_s / candidate.rate,
            )
            elector = self.electors[index] = LeaderElector(
                SkewedClient(self.api, candidate.rate, self.ways[index]),
                name=NAME,
                namespaces=candidate.namespaces,
                identity=candidate.identity,
                config=config,
                clock=SystemClock(),
                on_transition=lambda kind: self.check(),
            )
            try:
                async with asyncio.timeout(None if end_s is None else abs(end_s)):
                    await self._serve(elector)
            except TimeoutError:
                self.electors[index] = None
                if end_s is not None and end_s > 0:
                    await elector.release()

    async def _serve(self, elector: LeaderElector) -> None:
        while True:
            await elector.campaign()
            self.check()
            try:
                await elector.hold()
            except LeaseLostError:
                self.check()

    async def watch(self) -> None:
        while True:
            self.check()
            await asyncio.sleep(1.0)


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """Every example logs dozens of failures on purpose."""
    logger = logging.getLogger("csisidecar.runtime.lease")
    logger.disabled = True
    yield
    logger.disabled = False


# No shrinking: a world takes a second to play, and its candidates are small enough to read.
@settings(max_examples=40, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(candidates=st.lists(candidate, min_size=2, max_size=4), storm_s=st.sampled_from((40.0, 150.0)))
def test_never_two_leaders_and_one_once_the_world_is_calm(candidates: list[Candidate], storm_s: float) -> None:
    async def story() -> None:
        world = World(candidates)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(world.live(i, c)) for i, c in enumerate(candidates)]
            tasks.append(group.create_task(world.watch()))
            await asyncio.sleep(storm_s)
            for way in world.ways:
                way.calm = True
            await asyncio.sleep(CALM_S)
            assert sum(e is not None and e.is_leading for e in world.electors) == 1
            for task in tasks:
                task.cancel()

    run_virtual(story())
