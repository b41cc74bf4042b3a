"""The roles beside each shipped manifest: what runs there lives with them, and nothing in them is never used."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from csisidecar.cli.rbac import ROLES, Wish, page
from csisidecar.cli.rbac_page import FOLDER, SHAPES
from csisidecar.kube import PERSISTENT_VOLUMES, VOLUME_ATTACHMENTS
from csisidecar.plugins.rules import ATTACHER, BOTH
from tests.whole.role_life import Process, World, live, placed, roles_in

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = [pytest.mark.whole, pytest.mark.timeout(90)]

SNAPSHOTS, ATTACHES, CLONES = "CREATE_DELETE_SNAPSHOT", "PUBLISH_UNPUBLISH_VOLUME", "CLONE_VOLUME"
ATTACHING = ("LIST_VOLUMES_PUBLISHED_NODES", ATTACHES, "PUBLISH_READONLY")
RARE = {("attacher", "volumeattachments.storage.k8s.io", "get")}
"""Role, resource and verb that only an accident needs; the rule says so."""


@dataclass(frozen=True, kw_only=True)
class Play:
    """What the driver beside a manifest is like, and who owns what is published there."""

    lacks: tuple[str, ...] = ()
    driver: str = "hostpath.csi.k8s.io"
    owners: frozenset[str] = frozenset()


PLAYS: Mapping[str, Play] = {
    "one-container.yaml": Play(),
    "central/deployment.yaml": Play(
        driver="csi.example.com", lacks=(SNAPSHOTS, CLONES), owners=frozenset({"Deployment"})
    ),
    "per-node/daemonset.yaml": Play(lacks=ATTACHING, owners=frozenset({"Pod"})),
}


def unused(wish: Wish, text: str, world: World) -> set[tuple[str, str, str]]:
    """Role, resource and verb of everything that was granted and not asked for."""
    (used,) = world.used.values()
    return {
        (role.removeprefix(f"{wish.account}-"), resource, verb)
        for role, grants in roles_in(text).items()
        for _, resource, verb in grants - used
    }


def process_of(wish: Wish) -> Process:
    return Process(account=wish.account, namespace=wish.namespace, words=wish.words)


def test_every_shipped_manifest_is_played() -> None:
    assert set(PLAYS) == {shape.manifest for shape in SHAPES}


@pytest.mark.parity("T-ROLE-07")
@pytest.mark.parametrize("manifest", list(PLAYS))
async def test_what_a_manifest_runs_lives_with_its_roles_and_needs_all_of_them(manifest: str, tmp_path: Path) -> None:
    play = PLAYS[manifest]
    (shape,) = (each for each in SHAPES if each.manifest == manifest)
    wish, rbac = shape.wish(FOLDER), shape.page(FOLDER)
    driver = placed(play.lacks, name=play.driver)
    world = await live(rbac, [process_of(wish)], driver, tmp_path, secrets=False)
    assert world.refused == []
    assert unused(wish, rbac.read_text(), world) <= RARE
    assert world.owners == play.owners


OWNERS: Mapping[int, tuple[set[str], set[str]]] = {
    -1: (set(), set()),
    0: ({"owner-pod"}, {"Pod"}),
    1: ({"owner-pod"}, {"ReplicaSet"}),
    2: ({"owner-pod", "owner-replicaset"}, {"Deployment"}),
}
"""Level → roles for it, kinds that own what is published."""


@pytest.mark.parity("T-ROLE-08")
@pytest.mark.parametrize("level", list(OWNERS))
async def test_capacity_with_each_level_of_owners_needs_all_of_its_roles(level: int, tmp_path: Path) -> None:
    wish = Wish(
        account="room",
        namespace="csi",
        without=("attached", "claims", "snapshots", "attributes", "secrets"),
        words=(
            "--mode=provisioner",
            "--enable-capacity",
            f"--capacity-ownerref-level={level}",
            "--leader-election=false",
        ),
    )
    text = page(wish)
    rbac = tmp_path / "rbac.yaml"
    rbac.write_text(text)
    # No topology: nodes and CSINodes are watched for the room alone.
    driver = placed((SNAPSHOTS, CLONES, *ATTACHING), has_places=False)
    world = await live(rbac, [process_of(wish)], driver, tmp_path, secrets=False)
    roles, owners = OWNERS[level]
    assert world.refused == []
    assert unused(wish, text, world) == set()
    assert {name.removeprefix("room-") for name in roles_in(text)} == {"provisioner", "places", "capacity"} | roles
    assert world.owners == owners


def test_what_only_an_accident_needs_says_so_in_its_rule() -> None:
    (role,) = (each for each in ROLES if each.name == ATTACHER)
    noted = {rule.resource for rule in role.rules if rule.note.startswith("get: only")}
    assert noted == {PERSISTENT_VOLUMES, VOLUME_ATTACHMENTS}


@pytest.mark.parametrize("mode", list(BOTH))
def test_no_two_roles_of_a_mode_grant_the_same(mode: str) -> None:
    granted = Counter(
        (rule.resource, rule.subresource, verb)
        for role in ROLES
        if mode in role.modes
        for rule in role.rules
        for verb in rule.verbs
    )
    assert [grant for grant, times in granted.items() if times > 1] == []
