"""allowedTopologies that multiply out to more places than can be told: refused by their number, before any is made."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest

from csisidecar.plugins.provisioner.topology import (
    ALLOWED_TERMS_MAX,
    OneNode,
    TopologyError,
    count_terms,
    flatten,
    is_allowed,
    may_be_on,
)
from tests.plugins.provisioner.clusters import SELECTED, A, Drawn, asked, build_world, find, selector
from tests.plugins.provisioner.nodes import NOW, node_world, owner

PREFIX = "error generating accessibility requirements: "
MAKE_ANEW = "delete the class and make it anew with fewer values or keys"


def wide(*sizes: int, **more: str) -> list[dict[str, Any]]:
    """One entry with an expression a size, which has so many values; `more` are further ones."""
    keys = {f"key{number}": ",".join(map(str, range(size))) for number, size in enumerate(sizes)}
    return [selector(**keys, **more)]


def drawn(size: int) -> Drawn:
    """A cluster in which each node is a place of its own."""
    names = [f"node-{number:05}.example.internal" for number in range(size)]
    return Drawn(keys=dict.fromkeys(names, ("host",)), labels={name: {"host": name} for name in names})


def random_entry(rng: random.Random) -> dict[str, Any]:
    expressions = [
        {"key": rng.choice(("zone", "rack")), "values": rng.choices("ab", k=rng.choice((0, 1, 1, 2)))}
        for _ in range(rng.randrange(4))
    ]
    return {"matchLabelExpressions": expressions}


@pytest.mark.parity("T-LIMIT-01")
@pytest.mark.looptime
async def test_class_of_too_many_places_is_told_by_name_and_number_and_asks_nothing() -> None:
    world = build_world(A)
    world.add_class(allowedTopologies=wide(400, 400))
    uid = world.add_claim("data")
    async with world.running():
        await asyncio.sleep(3)
        (told,) = world.warnings()
        assert told.startswith(
            f"{PREFIX}allowedTopologies of StorageClass fast multiply out to 160000 places, and at most"
            f" {ALLOWED_TERMS_MAX} are told to a driver: {MAKE_ANEW}"
        )
        assert world.calls() == []
        assert uid not in world.plugin._memory.in_progress
        world.api.delete("storageclasses", "fast")
        world.add_class(allowedTopologies=[selector(zone="a,b")])
        await asyncio.sleep(1)
    assert [call.name for call in world.calls()] == [f"pvc-{uid}"]


@pytest.mark.parity("T-LIMIT-02")
def test_as_many_as_the_limit_are_told_and_one_more_are_not() -> None:
    found = find(A, allowed=wide(ALLOWED_TERMS_MAX))
    assert found is not None
    assert len(found.requisite) == ALLOWED_TERMS_MAX
    with pytest.raises(TopologyError, match=f"multiply out to {ALLOWED_TERMS_MAX + 1} places"):
        find(A, allowed=[*wide(ALLOWED_TERMS_MAX), selector(zone="a")])


@pytest.mark.parity("T-LIMIT-03")
def test_number_beyond_all_measure_takes_no_time() -> None:
    started_s = time.perf_counter()
    with pytest.raises(TopologyError, match="multiply out to 1000000000000 or more places"):
        find(A, allowed=wide(*[2] * 20000))
    assert time.perf_counter() - started_s < 1


@pytest.mark.parity("T-LIMIT-04")
def test_strict_with_a_node_tells_one_place_however_many_the_class_allows() -> None:
    allowed = [selector(zone=",".join(["b", *map(str, range(10**5))]))]
    found = find(A, node="n1", strict=True, allowed=allowed)
    assert found is not None
    assert found.requisite == ((("zone", "b"),),)
    with pytest.raises(TopologyError, match="multiply out to 100001 places"):
        find(A, node="n1", allowed=allowed)


@pytest.mark.parity("T-LIMIT-05")
@pytest.mark.looptime
async def test_node_that_would_have_the_claim_tells_of_the_class_and_does_not_take_it() -> None:
    """Each look at a claim asks whose it is: neither its own nor one that is another's has places made."""
    mine, another = (node_world(name, segments={"key0": value}) for name, value in (("n1", "7"), ("n2", "x")))
    for world in (mine, another):
        world.add_class(allowedTopologies=[*wide(ALLOWED_TERMS_MAX), *wide(400, 400)], **NOW)
        world.add_claim()
        await world.run(seconds=5)
        assert (owner(world), world.calls("GetCapacity"), world.calls()) == (None, [], [])
    count = ALLOWED_TERMS_MAX + 160000
    assert f"StorageClass fast multiply out to {count} places" in mine.warnings()[0]
    assert another.events() == []


@pytest.mark.parity("T-LIMIT-05")
def test_whether_a_node_may_have_a_volume_is_what_its_requirements_say() -> None:
    """The short way and the long one, on classes as they come and as no API server takes them."""
    rng = random.Random(6)
    for _ in range(3000):
        node = OneNode(name="n1", segments=rng.choice(({"zone": "a"}, {"zone": "b", "rack": "a"}, {})))
        allowed = [random_entry(rng) for _ in range(rng.randrange(1, 3))]
        place = tuple(sorted(node.segments.items()))
        assert count_terms(allowed) == len(flatten(allowed))
        assert is_allowed(place, allowed) == any(set(term) <= set(place) for term in flatten(allowed))
        for strict in (False, True):
            try:
                find(node, node="n1", allowed=allowed, strict=strict)
                found = True
            except TopologyError:
                found = False
            assert may_be_on(node, "n1", allowed_topologies=allowed, strict=strict) == found


@pytest.mark.parity("T-LIMIT-06")
@pytest.mark.looptime
async def test_places_of_nodes_are_all_told_however_many_there_are() -> None:
    world = build_world(drawn(ALLOWED_TERMS_MAX + 1))
    world.add_class()
    world.add_claim(annotations={SELECTED: "node-00007.example.internal"})
    await world.run(seconds=2)
    (call,) = world.calls()
    requisite, preferred = asked(call) or ("", "")
    assert len(requisite.split()) == ALLOWED_TERMS_MAX + 1
    assert preferred.startswith("node-00007.example.internal node-00008")
