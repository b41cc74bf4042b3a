"""A driver that makes a volume somewhere else than it was asked to: kept as it says, and told on the claim."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.csi import Topology
from csisidecar.plugins.provisioner.topology import Requirements, find_elsewhere, normalize
from csisidecar.testing.driver import FakeDriver
from tests.plugins.provisioner.clusters import A, build_world, selector

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import betterproto2
    import grpclib.server

    from tests.plugins.provisioner.world import World

pytestmark = pytest.mark.looptime

ASKED = ({"zone": "a", "rack": "1"}, {"zone": "b", "rack": "2"})


class WilfulDriver(FakeDriver):
    """A driver whose volumes are where it likes."""

    places: tuple[dict[str, str], ...] = ()

    async def answer(
        self,
        stream: grpclib.server.Stream[Any, Any],
        name: str,
        work: Callable[[Any], Awaitable[betterproto2.Message]],
    ) -> None:
        """See `FakeDriver`."""

        async def create(request: Any) -> Any:
            reply: Any = await work(request)
            reply.volume.accessible_topology = [Topology(segments=place) for place in self.places]
            return reply

        await super().answer(stream, name, create if name == "CreateVolume" else work)


def wilful_world(*places: dict[str, str]) -> World:
    world = build_world(A)
    driver = WilfulDriver(world.driver.settings)
    driver.places = places
    world.driver = driver
    world.add_class(allowedTopologies=[selector(zone="a,b")])
    return world


def told(world: World) -> list[tuple[str, str]]:
    return [(reason, text) for kind, reason, text in world.events() if kind == "Warning"]


@pytest.mark.parity("T-ELSEWHERE-01")
async def test_volume_outside_of_what_was_asked_for_is_kept_and_told(caplog: pytest.LogCaptureFixture) -> None:
    world = wilful_world({"zone": "c"})
    uid = world.add_claim()
    await world.run()
    (term,) = world.volume(uid)["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": "zone", "operator": "In", "values": ["c"]}]
    text = "zone=c, asked for was zone=a or zone=b"
    assert told(world) == [
        (
            "VolumeElsewhere",
            f"The driver made volume pvc-{uid} outside of the places that it was asked for; it can be used from {text}",
        )
    ]
    (line,) = [record for record in caplog.records if "outside of the places" in record.message]
    assert (line.levelno, vars(line)["volume"], vars(line)["places"]) == (logging.WARNING, f"pvc-{uid}", text)


@pytest.mark.parity("T-ELSEWHERE-02")
async def test_it_is_told_once_the_volume_is_saved_and_not_before() -> None:
    world = wilful_world({"zone": "c"})
    world.refuse("create", "persistentvolumes", 500, times=3)
    world.add_claim()
    async with world.running():
        await asyncio.sleep(0.5)
        assert world.api.list("persistentvolumes") == []
        assert "VolumeElsewhere" not in [reason for reason, _ in told(world)]
        await asyncio.sleep(20)
    assert [reason for reason, _ in told(world)].count("VolumeElsewhere") == 1


@pytest.mark.parity("T-ELSEWHERE-03")
@pytest.mark.parametrize("places", [(), ({},), ({"zone": "b"},), ({"zone": "b", "row": "9"},)])
async def test_volume_where_it_was_asked_for_is_not_worth_a_word(places: tuple[dict[str, str], ...]) -> None:
    world = wilful_world(*places)
    uid = world.add_claim()
    await world.run()
    assert world.volume(uid)
    assert told(world) == []


@pytest.mark.parity("T-ELSEWHERE-04")
async def test_claim_for_which_nothing_was_asked_is_told_nothing() -> None:
    world = build_world(A, immediate_topology=False)
    driver = WilfulDriver(world.driver.settings)
    driver.places = ({"zone": "far"},)
    world.driver = driver
    world.add_class()
    uid = world.add_claim()
    await world.run()
    assert world.volume(uid)
    assert told(world) == []


@pytest.mark.parity("T-ELSEWHERE-03")
@pytest.mark.parametrize(
    ("places", "is_elsewhere"),
    [
        ([{"zone": "a", "rack": "1"}], False),
        ([{"zone": "a", "rack": "1", "row": "x"}], False),
        ([{"zone": "a"}], False),
        ([{"row": "x"}], False),
        ([{"zone": "c"}, {"zone": "a"}], False),
        ([{}, {"zone": "c"}], False),
        ([{"zone": "a", "rack": "2"}], True),
        ([{"zone": "c", "row": "x"}], True),
        ([{"zone": "c"}, {"rack": "3"}], True),
    ],
)
def test_only_a_value_that_differs_in_every_place_makes_it_elsewhere(
    places: list[dict[str, str]], is_elsewhere: bool
) -> None:
    terms = tuple(normalize(term.items()) for term in ASKED)
    requirements = Requirements(requisite=terms, preferred=terms)
    assert bool(find_elsewhere(requirements, [Topology(segments=place) for place in places])) == is_elsewhere


@pytest.mark.parity("T-ELSEWHERE-05")
def test_of_many_places_some_are_named() -> None:
    terms = tuple((("zone", f"z{number:03}"),) for number in range(900))
    text = find_elsewhere(Requirements(requisite=terms, preferred=terms), [Topology(segments={"zone": "c"})])
    assert text == "zone=c, asked for was zone=z000 or zone=z001 or zone=z002 or zone=z003 or one of 896 more"
