"""Whom storage capacity objects belong to: every level, every way not to find it, and an owner that is replaced."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.backoff import Backoff
from csisidecar.clock import SystemClock
from csisidecar.config import KubeConfig
from csisidecar.errors import RetryAfter
from csisidecar.kube import KubeClient, connect
from csisidecar.plugins.provisioner.capacity.owner import OwnerLookup
from csisidecar.testing.apiserver import FakeAPIServer, KindSpec
from csisidecar.testing.apiserver.collector import Collector
from tests.plugins.provisioner.capacity.rooms import LATE, add_node, pod, room_world, room_writes, rooms
from tests.plugins.provisioner.world import DRIVER, GIB

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.plugins.provisioner.world import World

KIND = "csistoragecapacities"
FLAG = "--capacity-ownerref-level"
NOT_FOUND = "the owner of storage capacity objects cannot be found"


def reference(kind: str, name: str, uid: str, api_version: str = "apps/v1", **more: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": True, **more}


def workload(kind: str, name: str, uid: str, *owners: dict[str, Any], api_version: str = "apps/v1") -> dict[str, Any]:
    """An object with just enough in it to be loaded."""
    meta: dict[str, Any] = {"name": name, "namespace": "team", "uid": uid}
    if owners:
        meta["ownerReferences"] = list(owners)
    return {"apiVersion": api_version, "kind": kind, "metadata": meta, "spec": {}}


def the_pod(*owners: dict[str, Any]) -> dict[str, Any]:
    made = pod("me", None)
    made["metadata"] |= {"uid": "u-pod", **({"ownerReferences": list(owners)} if owners else {})}
    return made


def level_world(level: int, *objects: dict[str, Any], collects: bool = False) -> World:
    world = room_world(zones="a", ownerref_level=level, pod_name="me")
    if collects:
        # What a cluster does: objects whose owners are all gone go, too.
        Collector(world.wire.registry).is_running = True
    add_node(world, "n1", zone="a")
    world.add_class(**LATE)
    world.api.load(list(objects))
    return world


def gets(world: World) -> list[str]:
    return [what for verb, what, _ in world.wire.requests if verb == "get"]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [vars(record)["error"] for record in caplog.records if NOT_FOUND in record.getMessage()]


SET = reference("ReplicaSet", "set", "u-set")
DEPLOYMENT = reference("Deployment", "app", "u-app")
BOSS = reference("Boss", "top", "u-boss", "corp.test/v1")
CHAIN = (the_pod(SET), workload("ReplicaSet", "set", "u-set", DEPLOYMENT), workload("Deployment", "app", "u-app", BOSS))
"""A Pod of a Deployment of something that this API server has never heard of."""
ITSELF = reference("Pod", "me", "u-pod", "v1")


@dataclass(frozen=True, kw_only=True)
class Level:
    """Which owner a level gives, and what is read for it."""

    level: int
    owner: dict[str, Any] | None
    reads: Sequence[str] = ()


LEVELS = [
    pytest.param(Level(level=-1, owner=None), id="none", marks=pytest.mark.parity("T-OWNER-01")),
    pytest.param(Level(level=-5, owner=None), id="far-below", marks=pytest.mark.parity("T-OWNER-02")),
    pytest.param(Level(level=0, owner=ITSELF, reads=["pods/me"]), id="pod", marks=pytest.mark.parity("T-OWNER-03")),
    pytest.param(Level(level=1, owner=SET, reads=["pods/me"]), id="set", marks=pytest.mark.parity("T-OWNER-04")),
    pytest.param(
        Level(level=2, owner=DEPLOYMENT, reads=["pods/me", "replicasets/set"]),
        id="deployment",
        marks=pytest.mark.parity("T-OWNER-05"),
    ),
    pytest.param(
        Level(level=3, owner=BOSS, reads=["pods/me", "replicasets/set", "deployments/app"]),
        id="above-the-deployment",
        marks=pytest.mark.parity("T-OWNER-06"),
    ),
]


@pytest.mark.looptime
@pytest.mark.parametrize("case", LEVELS)
async def test_level_names_the_owner_and_nothing_more_than_needed_is_read(case: Level) -> None:
    world = level_world(case.level, *CHAIN)
    world.add_class("slow", **LATE)
    await world.run(130)
    owners = [obj["metadata"].get("ownerReferences") for obj in world.api.list(KIND)]
    assert owners == [[case.owner] if case.owner else None] * 2
    assert gets(world) == list(case.reads)


@pytest.mark.parity("T-OWNER-07")
@pytest.mark.looptime
async def test_workers_that_start_together_share_one_lookup() -> None:
    world = room_world(zones="abc", ownerref_level=0, pod_name="me", threads=4)
    world.api.load([the_pod()])
    for zone in "abc":
        add_node(world, f"n{zone}", zone=zone)
    for name in ("fast", "slow"):
        world.add_class(name, **LATE)
    await world.run(5)
    assert len(rooms(world)) == 6
    assert gets(world) == ["pods/me"]


@pytest.mark.parity("T-OWNER-08")
@pytest.mark.looptime
async def test_only_the_owner_that_controls_counts() -> None:
    friend = reference("ConfigMap", "friend", "u-friend", "v1", controller=False)
    world = level_world(1, the_pod(friend, SET))
    await world.run()
    (obj,) = world.api.list(KIND)
    assert obj["metadata"]["ownerReferences"] == [SET]


# ---- an owner that cannot be found


@dataclass(frozen=True, kw_only=True)
class Lost:
    """Objects from which no owner can be told, and what must be said."""

    level: int
    objects: Sequence[dict[str, Any]]
    says: Sequence[str]


LOST = [
    pytest.param(
        Lost(level=1, objects=[], says=["Pod team/me does not exist", "POD_NAME and NAMESPACE", f"{FLAG}=-1"]),
        id="no-pod",
        marks=pytest.mark.parity("T-OWNER-09"),
    ),
    pytest.param(
        Lost(level=2, objects=CHAIN[:1], says=["ReplicaSet team/set does not exist", f"give {FLAG}=1"]),
        id="no-parent",
        marks=pytest.mark.parity("T-OWNER-10"),
    ),
    pytest.param(
        Lost(level=1, objects=[the_pod()], says=["Pod team/me has no controller", f"give {FLAG}=0"]),
        id="no-controller",
        marks=pytest.mark.parity("T-OWNER-11"),
    ),
    pytest.param(
        Lost(
            level=2,
            objects=[CHAIN[0], workload("ReplicaSet", "set", "u-set")],
            says=["ReplicaSet team/set has no controller", f"give {FLAG}=1"],
        ),
        id="no-controller-of-the-parent",
        marks=pytest.mark.parity("T-OWNER-12"),
    ),
    pytest.param(
        Lost(
            level=1,
            objects=[the_pod(reference("Odd", "odd", "u-odd", "a/b/c"))],
            says=["Pod team/me names a controller of apiVersion 'a/b/c'", f"give {FLAG}=0"],
        ),
        id="odd-version",
        marks=pytest.mark.parity("T-OWNER-13"),
    ),
]


@pytest.mark.looptime
@pytest.mark.parametrize("case", LOST)
async def test_owner_that_cannot_be_found_is_told_once_with_what_to_change_and_claims_go_on(
    case: Lost, caplog: pytest.LogCaptureFixture
) -> None:
    world = level_world(case.level, *case.objects)
    world.add_class("slow", **LATE)
    async with world.running():
        await asyncio.sleep(300)
        (text,) = told(caplog)
        assert text.startswith(f"{FLAG}={case.level}: ")
        for part in case.says:
            assert part in text
        assert rooms(world) == {}
        assert not world.calls("GetCapacity")
        # One lookup for all objects, with pauses that grow to eight seconds here.
        assert gets(world).count("pods/me") <= 45
        uid = world.add_claim(annotations={"volume.kubernetes.io/selected-node": "n1"})
        await asyncio.sleep(1)
        assert world.volume(uid)
        names = {obj["metadata"]["name"] for obj in world.api.list("pods")}
        if "me" in names:
            world.api.delete("pods", "me", "team")
        world.api.load([obj for obj in CHAIN if obj["metadata"]["name"] != "set"])
        if not world.api.get("replicasets", "set", "team"):
            world.api.load([CHAIN[1]])
        else:
            world.api.edit(
                "replicasets", "set", lambda obj: obj["metadata"].update(ownerReferences=[DEPLOYMENT]), "team"
            )
        await asyncio.sleep(10)
    assert len(rooms(world)) == 2


REFUSED = [
    pytest.param(
        1,
        "pods",
        ('{apiGroups: [""], resources: ["pods"], verbs: ["get"]}', f"give {FLAG}=-1 for objects without an owner"),
        id="pods",
        marks=pytest.mark.parity("T-OWNER-14"),
    ),
    pytest.param(
        2,
        "replicasets",
        (
            '{apiGroups: ["apps"], resources: ["replicasets"], verbs: ["get"]}',
            f"give {FLAG}=1, which does not read it",
        ),
        id="replicasets",
        marks=pytest.mark.parity("T-OWNER-15"),
    ),
]


@pytest.mark.looptime
@pytest.mark.parametrize(("level", "plural", "says"), REFUSED)
async def test_read_that_is_refused_is_told_with_the_rule_and_the_level_that_needs_none(
    level: int, plural: str, says: Sequence[str], caplog: pytest.LogCaptureFixture
) -> None:
    world = level_world(level, *CHAIN)
    world.refuse("get", plural, 403, f'{plural} is forbidden: User "x" cannot get resource "{plural}"', times=8)
    async with world.running():
        await asyncio.sleep(30)
        (text,) = told(caplog)
        for part in says:
            assert part in text
        assert rooms(world) == {}
        await asyncio.sleep(60)
        # The rule was granted.
        assert len(rooms(world)) == 1


# ---- an owner that is replaced


def owners(world: World) -> list[str]:
    return [each["uid"] for obj in world.api.list(KIND) for each in obj["metadata"].get("ownerReferences") or ()]


@pytest.mark.parity("T-OWNER-16")
@pytest.mark.looptime
async def test_pod_made_anew_under_its_name_takes_the_objects_along_and_owns_new_ones() -> None:
    world = level_world(0, collects=True)
    old = world.api.create(pod("me", None))["metadata"]["uid"]
    async with world.running():
        await asyncio.sleep(1)
        assert owners(world) == [old]
        world.api.delete("pods", "me", "team")
        await asyncio.sleep(5)
        # Nothing is made for an owner that is gone.
        assert owners(world) == []
        assert room_writes(world) == ["create"]
        new = world.api.create(pod("me", None))["metadata"]["uid"]
        await asyncio.sleep(10)
        assert owners(world) == [new]
    assert room_writes(world) == ["create", "create"]


@pytest.mark.parity("T-OWNER-17")
@pytest.mark.looptime
async def test_controller_made_anew_that_adopts_the_pod_owns_the_objects_made_anew() -> None:
    """A StatefulSet that was deleted with its Pods left behind, and created again."""
    world = level_world(1, workload("StatefulSet", "s", "u-1"), collects=True)
    world.api.create(pod("me", reference("StatefulSet", "s", "u-1")))
    world.add_class("slow", **LATE)
    async with world.running():
        await asyncio.sleep(1)
        assert owners(world) == ["u-1", "u-1"]
        before = len(gets(world))
        adopted = [reference("StatefulSet", "s", "u-2")]
        world.api.load([workload("StatefulSet", "t", "u-2")])
        world.api.edit("pods", "me", lambda obj: obj["metadata"].update(ownerReferences=adopted), "team")
        world.api.delete("statefulsets", "s", "team")
        await asyncio.sleep(5)
        assert owners(world) == ["u-2", "u-2"]
        assert gets(world)[before:] == ["pods/me"]
    assert room_writes(world) == ["create"] * 4


@pytest.mark.parity("T-OWNER-18")
@pytest.mark.looptime
async def test_object_that_lost_its_owner_gets_the_one_that_is_there_now() -> None:
    """With a second owner it survives the first one, and the collector takes the reference off."""
    world = level_world(1, workload("StatefulSet", "s", "u-1"), collects=True)
    world.api.create(pod("me", reference("StatefulSet", "s", "u-1")))
    friend = world.api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "f", "namespace": "team"}})
    async with world.running():
        await asyncio.sleep(1)
        (obj,) = world.api.list(KIND)
        second = reference("ConfigMap", "f", friend["metadata"]["uid"], "v1", controller=False)

        def add(each: dict[str, Any]) -> None:
            each["metadata"]["ownerReferences"].append(second)

        world.api.edit(KIND, obj["metadata"]["name"], add, "team")
        world.api.load([workload("StatefulSet", "t", "u-2")])
        adopted = [reference("StatefulSet", "t", "u-2")]
        world.api.edit("pods", "me", lambda each: each["metadata"].update(ownerReferences=adopted), "team")
        world.api.delete("statefulsets", "s", "team")
        await asyncio.sleep(1)
        assert owners(world) == [second["uid"]]
        await asyncio.sleep(60)
        assert owners(world) == [second["uid"], "u-2"]


@pytest.mark.parity("T-OWNER-19")
@pytest.mark.looptime
async def test_next_process_finds_its_own_pod_and_the_old_objects_go_by_themselves() -> None:
    """A Pod of a StatefulSet that was made anew: a new process, while the objects of the old one may still be there."""
    world = level_world(0, the_pod())
    await world.run()
    assert owners(world) == ["u-pod"]
    again = level_world(0)
    again.clock, again.wire, again.api = world.clock, world.wire, world.api
    world.api.delete("pods", "me", "team")
    new = world.api.create(pod("me", None))["metadata"]["uid"]
    again.driver.settings = replace(again.driver.settings, total_bytes=GIB)
    async with again.running():
        await asyncio.sleep(1)
        # The amount is written all the same; a second controller would be refused.
        assert [(obj["capacity"], *owners(world)) for obj in world.api.list(KIND)] == [("1Gi", "u-pod")]
        assert not world.wire.troubles
        name = world.api.list(KIND)[0]["metadata"]["name"]
        # What the garbage collector does.
        world.api.delete(KIND, name, "team")
        await asyncio.sleep(1)
        assert owners(world) == [new]


# ---- kinds of any group


@dataclass(frozen=True, kw_only=True)
class Found:
    """Where the level ends for a chain through kinds that are not built in; an error when `owner` is empty."""

    owners: Sequence[dict[str, Any]]
    says: str = ""


MICE = KindSpec(group="farm.test", version="v1", plural="mice", kind="Mouse")
BARNS = KindSpec(group="farm.test", version="v1", plural="barns", kind="Barn", namespaced=False)
"""A plural that no rule gives, and a kind of the whole cluster."""

KINDS = [
    pytest.param(
        reference("Mouse", "squeak", "u-mouse", "farm.test/v1"),
        "",
        id="odd-plural",
        marks=pytest.mark.parity("T-OWNER-20"),
    ),
    pytest.param(
        reference("Barn", "red", "u-barn", "farm.test/v1"),
        "",
        id="cluster-wide",
        marks=pytest.mark.parity("T-OWNER-21"),
    ),
    pytest.param(
        reference("Cow", "x", "u", "farm.test/v1"),
        f"the API server serves no Cow in farm.test/v1; give {FLAG}=1, which does not read it",
        id="no-such-kind",
        marks=pytest.mark.parity("T-OWNER-22"),
    ),
    pytest.param(
        reference("Cow", "x", "u", "none.test/v7"),
        f"the API server does not serve none.test/v7 with Cow; give {FLAG}=1, which does not read it",
        id="no-such-group",
        marks=pytest.mark.parity("T-OWNER-23"),
    ),
]


@pytest.mark.parametrize(("above", "says"), KINDS)
async def test_owner_of_any_kind_that_is_served_can_be_read(above: dict[str, Any], says: str, tmp_path: Path) -> None:
    async with FakeAPIServer(kinds=(MICE, BARNS)) as server:
        top = reference("Farmer", "joe", "u-joe", "farm.test/v9")
        server.objects.load([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}, the_pod(above)])
        for kind, name, uid in (("Mouse", "squeak", "u-mouse"), ("Barn", "red", "u-barn")):
            meta = {
                "name": name,
                "uid": uid,
                "ownerReferences": [top],
                **({"namespace": "team"} if kind == "Mouse" else {}),
            }
            server.objects.load([{"apiVersion": "farm.test/v1", "kind": kind, "metadata": meta}])
        server.write_kubeconfig(tmp_path / "admin", "system:admin")
        async with connect(KubeConfig(kubeconfig=str(tmp_path / "admin"))) as session:
            lookup = OwnerLookup(
                KubeClient(session),
                namespace="team",
                pod_name="me",
                level=2,
                driver_name=DRIVER,
                clock=SystemClock(),
                backoff=Backoff(start_s=1, max_s=1),
            )
            if says:
                with pytest.raises(RetryAfter) as caught:
                    await lookup.find()
                assert says in str(caught.value)
            else:
                assert (await lookup.find()).reference == top
