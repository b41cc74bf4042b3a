"""What the driver answers about a volume's place becomes the node affinity of its PersistentVolume."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from csisidecar.config import ProvisionerSettings
from csisidecar.csi import Topology
from csisidecar.plugins.provisioner.persistent_volume import build_node_affinity
from tests.plugins.provisioner.clusters import PLACES, A, asked, build_world
from tests.plugins.provisioner.world import World

EBS, EBS_IN_TREE = "ebs.csi.aws.com", "kubernetes.io/aws-ebs"
EBS_ZONE = "topology.ebs.csi.aws.com/zone"
ZONE, REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"


def answer(*places: dict[str, str]) -> list[Topology]:
    """`accessible_topology` of a volume."""
    return [Topology(segments=segments) for segments in places]


def term(**values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": "In", "values": [value]} for key, value in values.items()]}


@pytest.mark.parametrize(
    ("places", "terms"),
    [
        pytest.param(
            [{"zone": "b"}, {"zone": "a"}, {"zone": "b"}],
            [term(zone="b"), term(zone="a"), term(zone="b")],
            id="order of the answer",
            marks=pytest.mark.parity("T-AFFINITY-01"),
        ),
        pytest.param(
            [{"zone": "b", "rack": "r1"}],
            [term(rack="r1", zone="b")],
            id="segments sorted",
            marks=pytest.mark.parity("T-AFFINITY-02"),
        ),
        pytest.param(
            [{}, {"zone": "b"}, {}],
            [term(zone="b")],
            id="entry without segments",
            marks=pytest.mark.parity("T-AFFINITY-03"),
        ),
    ],
)
def test_each_place_is_a_term(places: list[dict[str, str]], terms: list[dict[str, Any]]) -> None:
    assert build_node_affinity(answer(*places)) == {"required": {"nodeSelectorTerms": terms}}


@pytest.mark.parity("T-AFFINITY-04")
def test_volume_without_places_has_no_affinity() -> None:
    assert build_node_affinity([]) is None


@pytest.mark.parity("T-QUIRK-04")
def test_places_that_are_all_empty_give_no_affinity_instead_of_one_without_terms() -> None:
    assert build_node_affinity(answer({}, {})) is None


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("settings", "capabilities"),
    [
        pytest.param({"topology": False}, PLACES, id="gate is off", marks=pytest.mark.parity("T-AFFINITY-05")),
        pytest.param(
            {},
            PLACES - {"VOLUME_ACCESSIBILITY_CONSTRAINTS"},
            id="driver without the capability",
            marks=pytest.mark.parity("T-AFFINITY-06"),
        ),
    ],
)
async def test_where_places_do_not_count_the_answer_is_not_written(
    settings: dict[str, Any], capabilities: frozenset[str]
) -> None:
    world = World(settings=ProvisionerSettings(**settings), plugin_capabilities=capabilities, topology={"zone": "b"})
    world.add_class()
    uid = world.add_claim()
    await world.run()
    assert [asked(call) for call in world.calls()] == [None]
    record = world.driver.volume_named(f"pvc-{uid}")
    assert record is not None
    assert record.topology == {"zone": "b"}
    assert "nodeAffinity" not in world.volume(uid)["spec"]


@pytest.mark.parity("T-AFFINITY-07")
@pytest.mark.looptime
async def test_volume_may_be_elsewhere_than_the_claims_node() -> None:
    """The affinity is what the driver answered, so the scheduler finds out."""
    world = build_world(A)
    world.driver.settings = replace(world.driver.settings, places=({"zone": "c"},))
    world.add_class()
    uid = world.add_claim(annotations={"volume.kubernetes.io/selected-node": "n1"})
    await world.run()
    assert [asked(call) for call in world.calls()] == [("a b c", "b c a")]
    assert world.volume(uid)["spec"]["nodeAffinity"] == {"required": {"nodeSelectorTerms": [term(zone="c")]}}


@pytest.mark.parity("T-AFFINITY-08", "T-FLAT-04")
@pytest.mark.looptime
async def test_migrated_volume_is_asked_for_in_the_drivers_keys_and_told_in_those_of_the_plugin() -> None:
    world = World(driver_name=EBS, plugin_capabilities=PLACES, topology={EBS_ZONE: "us-east-1a"})
    allowed = [{"matchLabelExpressions": [{"key": ZONE, "values": ["us-east-1b", "us-east-1a"]}]}]
    world.add_class(provisioner=EBS_IN_TREE, allowedTopologies=allowed)
    uid = world.add_claim("data-web-0", provisioner=EBS)
    await world.run()
    (call,) = world.calls()
    assert asked(call) == ("us-east-1a us-east-1b", "us-east-1b us-east-1a")
    assert {key for place in call.accessibility_requirements.requisite for key in place.segments} == {EBS_ZONE}
    volume = world.volume(uid)
    assert "csi" not in volume["spec"]
    (found,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert found == term(**{ZONE: "us-east-1a", REGION: "us-east-1"})
    assert volume["metadata"]["labels"] == {ZONE: "us-east-1a", REGION: "us-east-1"}
