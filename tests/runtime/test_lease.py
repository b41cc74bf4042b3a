"""Leader election, one behavior at a time, in virtual time over a tiny API that can lose and delay."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import defaultdict, deque
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.clock import SystemClock
from csisidecar.config import LeaseConfig
from csisidecar.errors import (
    AlreadyExistsError,
    ConfigError,
    ConflictError,
    ForbiddenError,
    KubeError,
    LeaseLostError,
    NotFoundError,
    UnreachableError,
)
from csisidecar.kube import LEASES
from csisidecar.runtime.lease import LeaderElector, lease_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from csisidecar.kube import Resource
    from csisidecar.runtime.lease import Transition

pytestmark = pytest.mark.looptime

NAME = "external-attacher-leader-x"
KEY = ("kube-system", NAME)


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What happens to one request on its way; the server acts on what arrives, whoever still waits."""

    there_s: float = 0.0
    back_s: float = 0.0
    lost_request: bool = False
    lost_reply: bool = False
    error: KubeError | None = None


class LeaseAPI:
    """Leases with resource versions; imitates create, get and PUT of one API server, and a bad way to it."""

    def __init__(self) -> None:
        self.version = 0
        self.leases: dict[tuple[str, str], dict[str, Any]] = {}
        self.requests: list[tuple[float, str]] = []
        self.fates: deque[Fate] = deque()
        self.always: Callable[[str, str], Fate] = lambda verb, namespace: Fate()

    def spec(self, key: tuple[str, str] = KEY) -> dict[str, Any]:
        return dict(self.leases[key]["spec"])

    def edit(self, key: tuple[str, str] = KEY, **spec: Any) -> None:
        """What somebody else does, at once and without precondition."""
        found = self.leases.setdefault(key, _fresh(key))
        found["spec"].update(spec)
        self._touch(found)

    def label(self, key: tuple[str, str] = KEY, **labels: str) -> None:
        self.leases[key]["metadata"].setdefault("labels", {}).update(labels)
        self._touch(self.leases[key])

    def client(self) -> Client:
        return Client(self)

    def _touch(self, found: dict[str, Any]) -> None:
        self.version += 1
        found["metadata"]["resourceVersion"] = str(self.version)

    def _get(self, key: tuple[str, str]) -> dict[str, Any]:
        if key not in self.leases:
            raise NotFoundError(f'leases "{key[1]}" not found', verb="get", status=404)
        return copy.deepcopy(self.leases[key])

    def _create(self, key: tuple[str, str], body: Mapping[str, Any]) -> dict[str, Any]:
        if key in self.leases:
            raise AlreadyExistsError("taken", verb="create", status=409)
        self.leases[key] = copy.deepcopy(dict(body))
        self._touch(self.leases[key])
        return copy.deepcopy(self.leases[key])

    def _update(self, key: tuple[str, str], body: Mapping[str, Any]) -> dict[str, Any]:
        found = self._get(key)
        if found["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise ConflictError("changed", verb="update", status=409)
        self.leases[key] = copy.deepcopy(dict(body))
        self._touch(self.leases[key])
        return copy.deepcopy(self.leases[key])

    async def call(self, verb: str, namespace: str, act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        self.requests.append((loop.time(), verb))
        fate = self.fates.popleft() if self.fates else self.always(verb, namespace)
        answer: asyncio.Future[dict[str, Any]] = loop.create_future()

        def arrive() -> None:
            try:
                if fate.error is not None:
                    raise fate.error
                result = act()
            except KubeError as error:
                later(partial(answer.set_exception, error))
            else:
                later(partial(answer.set_result, result))

        def later(settle: Callable[[], None]) -> None:
            if not fate.lost_reply:
                loop.call_later(fate.back_s, lambda: None if answer.done() else settle())

        if not fate.lost_request:
            loop.call_later(fate.there_s, arrive)
        return await answer


class Client:
    """What an elector uses, for one candidate."""

    def __init__(self, api: LeaseAPI) -> None:
        self._api = api

    async def get(self, resource: Resource, name: str, *, namespace: str = "") -> dict[str, Any]:
        assert resource == LEASES
        return await self._api.call("get", namespace, lambda: self._api._get((namespace, name)))

    async def create(self, resource: Resource, body: Mapping[str, Any], *, namespace: str = "") -> dict[str, Any]:
        key = (namespace, body["metadata"]["name"])
        return await self._api.call("create", namespace, lambda: self._api._create(key, body))

    async def update(self, resource: Resource, body: Mapping[str, Any]) -> dict[str, Any]:
        key = (body["metadata"]["namespace"], body["metadata"]["name"])
        return await self._api.call("update", key[0], lambda: self._api._update(key, body))


class Told:
    """Observer and transitions, remembered."""

    def __init__(self) -> None:
        self.masters: list[tuple[str, bool]] = []
        self.slow: list[str] = []
        self.transitions: list[Transition] = []

    def master(self, name: str, leading: bool) -> None:
        self.masters.append((name, leading))

    def slow_path(self, name: str) -> None:
        self.slow.append(name)


def elector(
    api: LeaseAPI,
    identity: str = "me",
    *,
    told: Told | None = None,
    namespaces: tuple[str, ...] = ("kube-system",),
    config: LeaseConfig | None = None,
) -> LeaderElector:
    return LeaderElector(
        api.client(),
        name=NAME,
        namespaces=namespaces,
        identity=identity,
        config=config or LeaseConfig(),
        clock=SystemClock(),
        observer=told,
        on_transition=told.transitions.append if told else None,
        label="attacher",
    )


def now() -> float:
    return asyncio.get_running_loop().time()


def _fresh(key: tuple[str, str]) -> dict[str, Any]:
    return {"metadata": {"namespace": key[0], "name": key[1], "resourceVersion": "0"}, "spec": {}}


def go_sidecar(api: LeaseAPI, key: tuple[str, str] = KEY, holder: str = "go-pod") -> asyncio.Task[None]:
    """Renews every 5 s as a Go sidecar does, until cancelled."""

    async def renew() -> None:
        turn = 0
        while True:
            turn += 1
            api.edit(key, holderIdentity=holder, leaseDurationSeconds=15, renewTime=f"go-{turn}")
            await asyncio.sleep(5)

    return asyncio.get_running_loop().create_task(renew())


async def cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def test_first_candidate_creates_the_lease_and_leads_at_once() -> None:
    api, told = LeaseAPI(), Told()
    me = elector(api, "host.example", told=told, config=LeaseConfig(labels={"team": "storage"}))
    await me.campaign()
    assert me.is_leading
    assert now() == 0
    spec = api.spec()
    assert spec["holderIdentity"] == "host-example"
    assert (spec["leaseDurationSeconds"], spec["leaseTransitions"]) == (15, 0)
    assert spec["acquireTime"] == spec["renewTime"]
    assert spec["renewTime"].endswith("Z")
    assert len(spec["renewTime"]) == len("2026-11-21T19:41:29.000123Z")
    assert api.leases[KEY]["metadata"]["labels"] == {"team": "storage"}
    assert told.masters == [("attacher", True)]
    assert told.transitions == ["became"]


async def test_holder_renews_every_retry_period_with_one_request() -> None:
    api = LeaseAPI()
    me = elector(api)
    await me.campaign()
    acquired = api.spec()
    hold = asyncio.create_task(me.hold())
    await asyncio.sleep(21)
    assert [(at, verb) for at, verb in api.requests if at > 0] == [(5 * n, "update") for n in (1, 2, 3, 4)]
    assert api.spec()["acquireTime"] == acquired["acquireTime"]
    assert api.spec()["renewTime"] != acquired["renewTime"]
    assert api.spec()["leaseTransitions"] == 0
    assert me.last_renewal_age_s() == pytest.approx(1)
    await cancel(hold)
    assert not me.is_leading


@pytest.mark.parity("R-LEASE-10")
async def test_renewing_standby_never_leads_and_says_who_does() -> None:
    api = LeaseAPI()
    other = go_sidecar(api)
    me = elector(api)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(300):
            await me.campaign()
    assert "go-pod" in me.status
    assert me.problem == ""
    gaps = [b[0] - a[0] for a, b in pairwise(api.requests)]
    assert all(5 <= gap <= 11.0001 for gap in gaps)
    await cancel(other)


@pytest.mark.parity("R-LEASE-04")
async def test_silent_holder_is_replaced_after_its_own_duration_seen_unchanged() -> None:
    api = LeaseAPI()
    api.edit(holderIdentity="gone", leaseDurationSeconds=40, renewTime="long ago", leaseTransitions=3, extra="kept")
    me = elector(api)
    await me.campaign()
    assert 40 <= now() <= 40 + 11.0001
    spec = api.spec()
    assert (spec["holderIdentity"], spec["leaseTransitions"], spec["extra"]) == ("me", 4, "kept")
    assert spec["leaseDurationSeconds"] == 15


async def test_empty_holder_is_replaced_at_once() -> None:
    api = LeaseAPI()
    api.edit(holderIdentity="", leaseDurationSeconds=1, renewTime="x", leaseTransitions=7)
    me = elector(api)
    await me.campaign()
    assert now() == 0
    assert api.spec()["leaseTransitions"] == 8


@pytest.mark.parity("R-LEASE-05")
async def test_record_under_our_name_that_moves_is_another_holder() -> None:
    api = LeaseAPI()
    twin = go_sidecar(api, holder="me")
    me = elector(api, "me")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(300):
            await me.campaign()
    await cancel(twin)


async def test_crashed_predecessor_of_our_name_is_replaced_as_soon_as_it_was_unmoved_for_its_duration() -> None:
    api = LeaseAPI()
    api.edit(holderIdentity="me", leaseDurationSeconds=15, renewTime="before the crash", leaseTransitions=2)
    me = elector(api, "me")
    await me.campaign()
    assert now() == pytest.approx(15, abs=0.01)
    assert api.spec()["leaseTransitions"] == 2


async def test_twin_that_took_our_record_ends_our_term() -> None:
    api, told = LeaseAPI(), Told()
    me = elector(api, "me", told=told)
    await me.campaign()
    api.edit(renewTime="not by us")
    with pytest.raises(LeaseLostError, match="held by me"):
        await me.hold()
    assert now() == pytest.approx(5, abs=0.1)
    assert told.transitions == ["became", "stopped"]
    assert told.masters == [("attacher", True), ("attacher", False)]


async def test_another_holder_ends_our_term_and_is_not_overwritten() -> None:
    api = LeaseAPI()
    me = elector(api)
    await me.campaign()
    api.edit(holderIdentity="other", renewTime="now")
    with pytest.raises(LeaseLostError, match="held by other"):
        await me.hold()
    assert api.spec()["holderIdentity"] == "other"
    await me.release()
    assert api.spec()["holderIdentity"] == "other"


@pytest.mark.parity("R-LEASE-12")
async def test_label_edited_by_somebody_costs_one_slow_renewal() -> None:
    api, told = LeaseAPI(), Told()
    me = elector(api, told=told)
    await me.campaign()
    hold = asyncio.create_task(me.hold())
    await asyncio.sleep(1)
    api.label(note="by hand")
    await asyncio.sleep(60)
    assert me.is_leading
    assert told.slow == ["attacher"]
    assert api.leases[KEY]["metadata"]["labels"] == {"note": "by hand"}
    await cancel(hold)


async def test_deleted_lease_is_made_again() -> None:
    api = LeaseAPI()
    me = elector(api)
    await me.campaign()
    hold = asyncio.create_task(me.hold())
    await asyncio.sleep(1)
    api.leases.clear()
    await asyncio.sleep(10)
    assert me.is_leading
    assert api.spec()["holderIdentity"] == "me"
    await cancel(hold)


async def test_lost_reply_of_our_own_write_is_not_mistaken_for_another_holder() -> None:
    api = LeaseAPI()
    me = elector(api)
    await me.campaign()
    hold = asyncio.create_task(me.hold())
    api.fates.append(Fate(lost_reply=True))
    await asyncio.sleep(10.9)
    assert me.is_leading, "the write is stored, and one look tells"
    await asyncio.sleep(30)
    assert me.is_leading
    await cancel(hold)


async def test_lost_reply_of_the_acquisition_does_not_cost_a_lease_duration() -> None:
    api = LeaseAPI()
    api.fates += [Fate(), Fate(lost_reply=True)]
    me = elector(api)
    await me.campaign()
    assert now() < 5 + 11.1
    assert api.spec()["leaseTransitions"] == 0


async def test_hanging_server_ends_the_term_exactly_at_the_renew_deadline() -> None:
    api = LeaseAPI()
    me = elector(api)
    await me.campaign()
    api.always = lambda verb, namespace: Fate(lost_request=True)
    with pytest.raises(LeaseLostError, match="not renewed within 10 s"):
        await me.hold()
    assert now() == pytest.approx(10)
    assert not me.is_leading


async def test_unreachable_server_is_asked_more_often_than_every_retry_period() -> None:
    api = LeaseAPI()
    me = elector(api)
    await me.campaign()
    hold = asyncio.create_task(me.hold())
    api.always = lambda verb, namespace: Fate(error=UnreachableError("refused", verb="update"))
    await asyncio.sleep(8.5)
    assert me.is_leading
    assert "refused" in me.status
    api.always = lambda verb, namespace: Fate()
    await asyncio.sleep(3)
    assert me.is_leading
    assert me.status == "leading"
    await cancel(hold)


@pytest.mark.parity("R-LEASE-08")
async def test_server_that_takes_four_seconds_keeps_its_leader() -> None:
    api = LeaseAPI()
    api.always = lambda verb, namespace: Fate(there_s=2, back_s=2)
    me = elector(api)
    await me.campaign()
    hold = asyncio.create_task(me.hold())
    await asyncio.sleep(300)
    assert me.is_leading
    await cancel(hold)


@pytest.mark.parity("R-LEASE-06")
async def test_leader_that_was_frozen_knows_at_once_and_starts_nothing() -> None:
    class Jumping(SystemClock):
        jump_s = 0.0

        def monotonic(self) -> float:
            return super().monotonic() + self.jump_s

    api, clock = LeaseAPI(), Jumping()
    me = LeaderElector(api.client(), name=NAME, namespaces=["n"], identity="me", config=LeaseConfig(), clock=clock)
    await me.campaign()
    assert me.is_valid()
    clock.jump_s = 60.0
    assert not me.is_valid()
    with pytest.raises(LeaseLostError):
        await me.hold()


@pytest.mark.parity("R-LEASE-09")
async def test_release_empties_the_holder_so_that_the_next_leads_at_once() -> None:
    api, told = LeaseAPI(), Told()
    me = elector(api, told=told)
    await me.campaign()
    await me.release()
    spec = api.spec()
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"]) == ("", 1)
    assert spec["acquireTime"] == spec["renewTime"]
    assert told.transitions == ["became", "stopped"]
    began = now()
    await elector(api, "next").campaign()
    assert now() == began


async def test_release_is_bounded_when_the_server_hangs() -> None:
    api = LeaseAPI()
    me = elector(api)
    await me.campaign()
    api.always = lambda verb, namespace: Fate(lost_request=True)
    began = now()
    await me.release()
    assert now() - began <= 5.01


async def test_release_finds_an_acquisition_whose_reply_never_came() -> None:
    api = LeaseAPI()
    api.fates += [Fate(), Fate(back_s=3)]
    me = elector(api)
    campaign = asyncio.create_task(me.campaign())
    await asyncio.sleep(1)
    await cancel(campaign)
    assert api.spec()["holderIdentity"] == "me"
    await me.release()
    assert api.spec()["holderIdentity"] == ""


@pytest.mark.parity("R-LEASE-11")
async def test_missing_rights_show_within_seconds_with_the_rule_and_the_way_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    api = LeaseAPI()
    forbidden = ForbiddenError("leases is forbidden", verb="get", resource=LEASES.full_name, status=403)
    api.always = lambda verb, namespace: Fate(error=forbidden)
    me = elector(api)
    with caplog.at_level(logging.WARNING):
        campaign = asyncio.create_task(me.campaign())
        await asyncio.sleep(1)
        assert me.problem == me.status
        rule = '{apiGroups: ["coordination.k8s.io"], resources: ["leases"], verbs: ["get", "create", "update"]}'
        assert rule in me.problem
        assert "--leader-election=false" in me.problem
        assert "kube-system" in me.problem
        await asyncio.sleep(120)
    assert len(caplog.records) == 1
    api.always = lambda verb, namespace: Fate()
    await asyncio.sleep(12)
    assert campaign.done()
    assert me.problem == ""


async def test_both_leases_are_needed_and_the_first_is_kept_fresh_meanwhile() -> None:
    api, told = LeaseAPI(), Told()
    own = ("storage", NAME)
    other = go_sidecar(api, own)
    me = elector(api, told=told, namespaces=("kube-system", "storage", "storage"))
    campaign = asyncio.create_task(me.campaign())
    await asyncio.sleep(200)
    assert not me.is_valid()
    assert told.transitions == []
    assert "storage/" in me.status
    assert api.spec(KEY)["holderIdentity"] == "me"
    renewals = [at for at, verb in api.requests if verb == "update"]
    assert max(b - a for a, b in pairwise(renewals)) < 10
    await cancel(other)
    await asyncio.sleep(21)
    assert campaign.done()
    assert me.is_valid()
    assert api.spec(own)["holderIdentity"] == "me"
    await me.release()
    assert (api.spec(KEY)["holderIdentity"], api.spec(own)["holderIdentity"]) == ("", "")


async def test_dead_holder_of_two_leases_is_replaced_after_one_duration() -> None:
    api = LeaseAPI()
    for namespace in ("kube-system", "storage"):
        api.edit((namespace, NAME), holderIdentity="dead", leaseDurationSeconds=15, renewTime="long ago")
    me = elector(api, namespaces=("kube-system", "storage"))
    await me.campaign()
    assert 15 <= now() <= 15 + 11.0001


async def test_crashed_predecessor_with_two_leases_is_replaced_after_one_duration() -> None:
    api = LeaseAPI()
    for namespace in ("kube-system", "storage"):
        api.edit((namespace, NAME), holderIdentity="me", leaseDurationSeconds=15, renewTime="before the crash")
    me = elector(api, namespaces=("kube-system", "storage"))
    await me.campaign()
    assert now() == pytest.approx(15, abs=0.1)


async def test_former_leader_replaces_a_dead_one_after_one_duration() -> None:
    api = LeaseAPI()
    keys = [("kube-system", NAME), ("storage", NAME)]
    me = elector(api, namespaces=("kube-system", "storage"))
    await me.campaign()
    await cancel(asyncio.create_task(me.hold()))
    for key in keys:
        api.edit(key, holderIdentity="other", leaseDurationSeconds=15, renewTime="then it died")
    began_s = now()
    await me.campaign()
    assert 15 <= now() - began_s <= 15 + 11.0001
    assert {api.spec(key)["holderIdentity"] for key in keys} == {"me"}


async def test_losing_one_of_two_leases_ends_the_term() -> None:
    api = LeaseAPI()
    me = elector(api, namespaces=("kube-system", "storage"))
    await me.campaign()
    api.edit(("storage", NAME), holderIdentity="go-pod", renewTime="now")
    with pytest.raises(LeaseLostError, match=r"storage/.*go-pod"):
        await me.hold()
    await me.release()
    assert api.spec(KEY)["holderIdentity"] == ""
    assert api.spec(("storage", NAME))["holderIdentity"] == "go-pod"


@pytest.mark.parity("R-LEASE-02")
async def test_go_sidecar_finds_the_lease_of_its_namespace_taken() -> None:
    api = LeaseAPI()
    me = elector(api, namespaces=("kube-system", "storage"))
    await me.campaign()
    hold = asyncio.create_task(me.hold())
    rolled_back = elector(api, "go-pod", namespaces=("storage",))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(100):
            await rolled_back.campaign()
    assert me.is_leading
    await cancel(hold)


async def test_race_for_a_free_lease_has_one_winner_and_no_complaint(caplog: pytest.LogCaptureFixture) -> None:
    api = LeaseAPI()
    electors = [elector(api, f"pod-{n}") for n in range(5)]
    tasks = [asyncio.create_task(e.campaign()) for e in electors]
    await asyncio.sleep(1)
    assert sum(e.is_leading for e in electors) == 1
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    for task in tasks:
        await cancel(task)


async def test_whole_record_of_another_shape_is_waited_for_and_not_fatal() -> None:
    api = LeaseAPI()
    api.edit(holderIdentity="odd", leaseDurationSeconds=None, renewTime=None, leaseTransitions=None)
    me = elector(api)
    await me.campaign()
    assert now() >= 15
    assert api.spec()["leaseTransitions"] == 1


async def test_record_of_wrong_types_is_taken_over_and_not_fatal() -> None:
    api = LeaseAPI()
    api.edit(holderIdentity="me", leaseDurationSeconds="long", renewTime=[], leaseTransitions="many")
    me = elector(api, "me")
    await me.campaign()
    assert now() >= 15
    assert api.spec()["leaseTransitions"] == 0


@pytest.mark.parity("R-LEASE-01")
def test_names_are_sanitised_as_the_go_sidecars_do() -> None:
    table = {
        "csi.test.io": "csi-test-io",
        "external-attacher-leader-csi.test.io": "external-attacher-leader-csi-test-io",
        "Ends.": "Ends-X",
        "a_b/c": "a-b-c",
        "plain": "plain",
        "": "",
    }
    assert {text: lease_name(text) for text in table} == table


def test_empty_identity_is_refused() -> None:
    with pytest.raises(ConfigError, match="hostname"):
        elector(LeaseAPI(), "")


def count_verbs(api: LeaseAPI) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for _, verb in api.requests:
        counts[verb] += 1
    return dict(counts)


async def test_acquisition_takes_no_more_requests_than_it_needs() -> None:
    api = LeaseAPI()
    await elector(api).campaign()
    assert count_verbs(api) == {"get": 1, "create": 1}


async def test_holder_that_was_emptied_by_hand_ends_the_term() -> None:
    api = LeaseAPI()
    me = elector(api)
    await me.campaign()
    api.edit(holderIdentity="")
    with pytest.raises(LeaseLostError, match="held by nobody"):
        await me.hold()
    assert now() == pytest.approx(5, abs=0.1)
    await me.campaign()
    assert me.is_leading


async def test_renewal_found_later_counts_from_when_it_was_sent() -> None:
    api = LeaseAPI()
    me = elector(api)
    await me.campaign()
    api.fates += [Fate(lost_reply=True), Fate()]
    api.always = lambda verb, namespace: Fate(lost_request=True)
    with pytest.raises(LeaseLostError):
        await me.hold()
    assert now() == pytest.approx(15), "sent at 5, found at 7"


async def test_each_of_two_leases_has_its_own_deadline() -> None:
    api = LeaseAPI()
    me = elector(api, namespaces=("kube-system", "storage"))
    await me.campaign()
    refused = UnreachableError("refused", verb="update")
    api.always = lambda verb, namespace: Fate(error=refused if namespace == "storage" else None)
    with pytest.raises(LeaseLostError, match=r"storage/.*not renewed"):
        async with asyncio.timeout(60):
            await me.hold()
    assert now() == pytest.approx(10)
