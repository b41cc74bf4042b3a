"""Leader election on Leases: at most one holder, judged by monotonic time and optimistic updates alone.

One elector may need several Leases (the same name in several namespaces) and leads only while it holds all of
them. It writes no Events, ends no process and cancels no work: `hold` raises, its caller acts.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from contextlib import suppress
from math import ceil
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol

from csisidecar.clock import rfc3339_micro
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

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime

    from csisidecar.clock import Clock
    from csisidecar.config import LeaseConfig
    from csisidecar.kube import Resource

logger = logging.getLogger(__name__)

JITTER = 1.2
"""A candidate waits a retry period times 1 to 2.2. Source: client-go `tools/leaderelection`, JitterFactor."""
RELEASE_TIMEOUT_S = 5.0
_RELEASE_TRIES = 3
_QUICK_RETRIES = 5
"""Tries in one retry period after a renewal that failed."""
_ATTEMPTS_KEPT = 32
_VERBS = ("get", "create", "update")
"""What a role must allow; told at once, because whoever lacks one of them mostly lacks all."""

_LATE = 5
"""An update unanswered after this part of the renew deadline is late."""

Transition = Literal["became", "stopped"]


class LeaseClient(Protocol):
    """The three verbs that an elector needs; `KubeClient` has them."""

    async def get(self, resource: Resource, name: str, *, namespace: str = "") -> dict[str, Any]:
        """The object as it is now."""
        ...

    async def create(self, resource: Resource, body: Mapping[str, Any], *, namespace: str = "") -> dict[str, Any]:
        """The object as stored; AlreadyExistsError when it is there."""
        ...

    async def update(self, resource: Resource, body: Mapping[str, Any]) -> dict[str, Any]:
        """PUT of the object; ConflictError when its resourceVersion is not the present one."""
        ...


class LeaseObserver(Protocol):
    """What an elector tells about itself; metrics fit by shape."""

    def master(self, name: str, leading: bool) -> None:
        """Whether this process leads now."""
        ...

    def slow_path(self, name: str) -> None:
        """A renewal needed more than one update."""
        ...


def lease_name(text: str) -> str:
    """`text` as the Go sidecars write it into Lease names and holder identities: nothing but [A-Za-z0-9-].

    Capitals stay, although the API server refuses them in names; a ``-`` at the end is followed by ``X``.
    Source: csi-lib-utils `leaderelection/leader_election.go`, sanitizeName.
    """
    name = re.sub(r"[^A-Za-z0-9-]", "-", text)
    return f"{name}X" if name.endswith("-") else name


class LeaderElector:
    """One candidate for one role.

    Guarantees: `is_leading` is true only for less than the renew deadline after the start of the last renewal
    of every Lease that is known to have been written. As long as clocks run at steady rates that differ by less
    than lease duration : renew deadline, no two candidates lead at a time, whatever is lost or delayed between
    them and the API server. Wall clocks are written and never compared.

    A record under our own identity that this object did not write belongs to another process of that name: it is
    taken over like a stranger's, after it was seen unmoved for its duration. Go sidecars take it at once, and two
    processes with one hostname can then lead together.

    Args:
        client: API verbs; requests are bounded here.
        name: name of the Lease.
        namespaces: where Leases of that name must be held, in the order in which every candidate takes them.
        identity: who we are; sanitised here.
        config: times and labels.
        clock: monotonic time must be the loop's.
        observer: told of leading and of slow renewals.
        on_transition: told ``became`` and ``stopped``; must not raise.
        label: what the observer is told as name.

    Raises:
        ConfigError: the identity is empty, which on a Lease means nobody.
    """

    def __init__(
        self,
        client: LeaseClient,
        *,
        name: str,
        namespaces: Sequence[str],
        identity: str,
        config: LeaseConfig,
        clock: Clock,
        observer: LeaseObserver | None = None,
        on_transition: Callable[[Transition], None] | None = None,
        label: str = "",
    ) -> None:
        if not identity:
            raise ConfigError("leader election needs an identity, and the hostname is empty; set one for the host")
        self.name = name
        self.identity = lease_name(identity)
        self._config = config
        self._clock = clock
        self._observer = observer
        self._on_transition = on_transition
        self._label = label
        self._leases = [
            _Lease(client, name, place, self.identity, config, clock) for place in dict.fromkeys(namespaces)
        ]
        self._leading = False
        self.status = "leader election has not started"
        """What it is doing now, or what is wrong and what to change; one line, for people."""
        self.problem = ""
        """Why this process could not lead even if it were its turn; empty while leading or standing by."""

    @property
    def is_leading(self) -> bool:
        """Whether work may be started now; right even when the loop was stopped and resumes late."""
        return self._leading and self._clock.monotonic() < self._deadline_s()

    def is_valid(self) -> bool:
        """`is_leading` as a function, for those who ask before each attempt."""
        return self.is_leading

    def last_renewal_age_s(self) -> float:
        """Seconds since the start of the last confirmed renewal; 0 for a process that does not lead."""
        return self._clock.monotonic() - self._confirmed_s() if self._leading else 0.0

    async def campaign(self) -> None:
        """Return once this process leads. Failures show in `status` and are tried again for ever."""
        self._say("campaigning")
        while True:
            delay_s = await self._try_all()
            if delay_s is None:
                break
            await asyncio.sleep(delay_s)
        self._leading = True
        self._say("leading")
        logger.info("became leader", extra=self._about())
        self._tell("became")

    async def hold(self) -> NoReturn:
        """Renew until cancelled; this process leads no more when it returns control, however it does.

        Raises:
            LeaseLostError: the renew deadline passed, or another holder was seen. Nothing is released.
        """
        try:
            next_s = self._confirmed_s() + self._config.retry_period_s
            while True:
                await asyncio.sleep(max(0.0, min(next_s, self._deadline_s()) - self._clock.monotonic()))
                started_s = self._clock.monotonic()
                if started_s >= self._deadline_s():
                    raise LeaseLostError(self._too_late())
                await self._renew_all()
                failing = [lease for lease in self._leases if lease.trouble is not None]
                if failing:
                    next_s = self._clock.monotonic() + self._config.retry_period_s / _QUICK_RETRIES
                    self._say(f"leading, but {_explain(failing[0])}")
                else:
                    next_s = started_s + self._config.retry_period_s
                    self._say("leading")
        finally:
            self._stop_leading()

    async def release(self) -> None:
        """Give back what this process holds, so that another need not wait; bounded in time, never raises.

        To be called when nothing of ours works any more. Only records of our own are touched.
        """
        self._stop_leading()
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_S), asyncio.TaskGroup() as group:
                for lease in self._leases:
                    group.create_task(lease.give_back())
        except TimeoutError:
            logger.warning("lease not released in time, others wait until it expires", extra=self._about())
        self._say("released")

    def _stop_leading(self) -> None:
        if self._leading:
            self._leading = False
            self._say("not leading any more")
            logger.info("stopped leading", extra=self._about())
            self._tell("stopped")

    async def _try_all(self) -> float | None:
        """Take every Lease in order; None when all are held, else seconds until the next try."""
        pause_s = self._config.retry_period_s * (1 + random.random() * JITTER)  # noqa: S311 - spreading load
        for number, lease in enumerate(self._leases, 1):
            held = await lease.try_hold()
            if lease.trouble is not None:
                self._report(lease, lease.trouble)
                pause_s = max(pause_s, lease.trouble.retry_after_s or 0.0)
                break
            if not held:
                self._say(f"standing by: the lease {lease.place} is held by {lease.holder or 'somebody else'}")
                if lease.free_in_s:
                    pause_s = min(pause_s, lease.free_in_s)
                # A dead holder had all of them: each must be seen unmoved for its duration, but all at one time.
                for later in self._leases[number:]:
                    await later.look()
                break
            # What is held must be renewed while we wait for the next: no jitter then.
            pause_s = self._config.retry_period_s
        else:
            return None if self._clock.monotonic() < self._deadline_s() else pause_s / _QUICK_RETRIES
        return pause_s

    async def _renew_all(self) -> None:
        left_s = self._deadline_s() - self._clock.monotonic()
        try:
            async with asyncio.timeout(left_s), asyncio.TaskGroup() as group:
                for lease in self._leases:
                    group.create_task(self._renew(lease))
        except TimeoutError as error:
            raise LeaseLostError(self._too_late()) from error
        for lease in self._leases:
            if not lease.is_held:
                raise LeaseLostError(f"the lease {lease.place} is held by {lease.holder or 'nobody'} now")

    async def _renew(self, lease: _Lease) -> None:
        await lease.try_hold()
        if lease.was_slow and self._observer is not None:
            self._observer.slow_path(self._label)

    def _confirmed_s(self) -> float:
        return min(lease.confirmed_s for lease in self._leases)

    def _deadline_s(self) -> float:
        return self._confirmed_s() + self._config.renew_deadline_s

    def _too_late(self) -> str:
        oldest = min(self._leases, key=lambda lease: lease.confirmed_s)
        why = f": {oldest.trouble}" if oldest.trouble is not None else ""
        return f"the lease {oldest.place} was not renewed within {self._config.renew_deadline_s:g} s{why}"

    def _say(self, status: str) -> None:
        self.status, self.problem = status, ""

    def _report(self, lease: _Lease, error: KubeError) -> None:
        text = _explain(lease)
        if isinstance(error, ForbiddenError):
            text = (
                f"{text}; the role lacks {error.rule_for(*_VERBS)} in namespace {lease.namespace}:"
                " grant it, or turn leader election off with --leader-election=false"
            )
        if text != self.problem:
            logger.warning("leader election cannot go on", extra=self._about(error=text))
        self.status = self.problem = text

    def _tell(self, kind: Transition) -> None:
        if self._observer is not None:
            self._observer.master(self._label, kind == "became")
        if self._on_transition is not None:
            self._on_transition(kind)

    def _about(self, **fields: Any) -> dict[str, Any]:
        return {"lease": self.name, "identity": self.identity, **fields}


class _Lease:
    """One Lease object as this process sees it: who holds it, since when unmoved, and which writes are ours."""

    def __init__(
        self, client: LeaseClient, name: str, namespace: str, identity: str, config: LeaseConfig, clock: Clock
    ) -> None:
        self.namespace = namespace
        self.place = f"{namespace}/{name}"
        self.holder = ""
        self.confirmed_s = float("-inf")
        """When our last write that is known to be stored was sent; others count from later than that."""
        self.trouble: KubeError | None = None
        self.was_slow = False
        self.free_in_s: float | None = None
        """When a record under our own identity may be taken over; None for a stranger's."""
        self._client = client
        self._name = name
        self._identity = identity
        self._config = config
        self._clock = clock
        self._stored: dict[str, Any] | None = None
        self._attempts: dict[str, float] = {}
        """Every renewTime that we sent and that may be stored → when it was sent."""
        self._seen: tuple[Any, ...] = ()
        self._seen_s = 0.0

    @property
    def is_held(self) -> bool:
        return self._stored is not None

    async def try_hold(self) -> bool:
        """Take or renew; whether it is ours. An API error leaves things as they were and shows in `trouble`."""
        self.trouble, self.was_slow, self.free_in_s = None, False, None
        try:
            await self._step()
        except (AlreadyExistsError, ConflictError) as error:
            # Somebody was faster. Only a holder must hurry to look again.
            self.trouble = error if self.is_held else None
        except KubeError as error:
            self.trouble = error
        return self.is_held and self.trouble is None

    async def look(self) -> None:
        """See whether the record moves, without taking it; errors are for `try_hold` to find."""
        with suppress(KubeError):
            found = await self._fetch()
            if not self._is_ours(_spec(found)):
                self._stored = None
                self._observe(found)

    async def give_back(self) -> None:
        """Empty the holder of a record of ours; failures are logged."""
        stored, self._stored = self._stored, None
        self.confirmed_s = float("-inf")
        for _ in range(_RELEASE_TRIES if self._attempts else 0):
            try:
                if stored is None:
                    # A write of ours may be stored although we never saw the answer.
                    stored = await self._fetch()
                    if not self._is_ours(_spec(stored)):
                        return
                await self._bounded("update", self._client.update(LEASES, self._released(stored)))
            except (ConflictError, UnreachableError):
                stored = None
            except NotFoundError:
                return
            except KubeError as error:
                logger.warning("lease not released", extra={"lease": self.place, "error": str(error)})
                return
            else:
                return

    async def _step(self) -> None:
        if self._stored is not None:
            try:
                await self._renew(self._stored)
            except (ConflictError, NotFoundError):
                self.was_slow = True
            else:
                return
        await self._look_and_act()

    async def _renew(self, stored: Mapping[str, Any]) -> None:
        """One update; when its answer is late, a second way to the same end beside it.

        A reply that was lost, or a connection that died silently, must not cost the lease, and a server that is
        merely slow must be given the whole time: so nothing is cut off, and the first to succeed decides.
        """
        async with asyncio.TaskGroup() as group:
            running = {group.create_task(_outcome(self._put(stored)))}
            await asyncio.wait(running, timeout=self._config.renew_deadline_s / _LATE)
            if not any(task.done() for task in running):
                self.was_slow = True
                running.add(group.create_task(_outcome(self._look_and_act())))
            failure: KubeError | None = None
            while running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                outcomes = [task.result() for task in done]
                if None in outcomes:
                    failure = None
                    break
                failure = outcomes[0]
            for task in running:
                task.cancel()
        if failure is not None:
            raise failure

    async def _look_and_act(self) -> None:
        try:
            found = await self._fetch()
        except NotFoundError:
            await self._create()
            return
        spec = _spec(found)
        if self._is_ours(spec):
            # Stored although we may never have seen the answer; its age counts from when it was sent.
            self._confirm(found, self._attempts[spec["renewTime"]])
            if self.confirmed_s + self._config.renew_deadline_s / 2 <= self._clock.monotonic():
                await self._put(found)
            return
        was_held, self._stored = self.is_held, None
        self._observe(found)
        # A Lease that was taken from us is not taken back in the same breath: somebody may work under it.
        if not was_held and self._is_free(spec):
            await self._put(found)

    async def _fetch(self) -> dict[str, Any]:
        return await self._bounded("get", self._client.get(LEASES, self._name, namespace=self.namespace))

    async def _bounded(self, verb: str, request: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        """A request of at most half the renew deadline, so that a dead connection leaves time for another one.

        Source: client-go `tools/leaderelection/resourcelock/interface.go`, NewFromKubeconfig, has the same bound.
        """
        limit_s = max(1.0, self._config.renew_deadline_s / 2)
        try:
            async with asyncio.timeout(limit_s):
                return await request
        except TimeoutError as error:
            text = f"no answer within {limit_s:g} s"
            raise UnreachableError(text, verb=verb, resource=LEASES.full_name, name=self.place) from error

    def _is_ours(self, spec: Mapping[str, Any]) -> bool:
        written = spec.get("renewTime")
        return spec.get("holderIdentity") == self._identity and isinstance(written, str) and written in self._attempts

    def _observe(self, found: Mapping[str, Any]) -> None:
        """Remember since when the record has not moved. Any write counts, also one that changed no time."""
        spec = _spec(found)
        self.holder = str(spec.get("holderIdentity") or "")
        seen = (self.holder, spec.get("renewTime"), (found.get("metadata") or {}).get("resourceVersion"))
        if seen != self._seen:
            self._seen, self._seen_s = seen, self._clock.monotonic()

    def _is_free(self, spec: Mapping[str, Any]) -> bool:
        if not self.holder:
            return True
        left_s = self._seen_s + self._duration_s(spec) - self._clock.monotonic()
        if self.holder == self._identity:
            self.free_in_s = max(0.0, left_s)
        return left_s <= 0

    def _duration_s(self, spec: Mapping[str, Any]) -> float:
        duration = spec.get("leaseDurationSeconds")
        valid = isinstance(duration, int | float) and duration > 0
        return float(duration) if valid else self._config.lease_duration_s  # type: ignore[arg-type]  # checked in `valid`

    async def _create(self) -> None:
        text, sent_s = self._new_attempt()
        metadata: dict[str, Any] = {"name": self._name, "namespace": self.namespace}
        if self._config.labels:
            metadata["labels"] = dict(self._config.labels)
        spec = {**self._claim(text), "acquireTime": text, "leaseTransitions": 0}
        body = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}
        request = self._client.create(LEASES, body, namespace=self.namespace)
        self._confirm(await self._bounded("create", request), sent_s)

    async def _put(self, found: Mapping[str, Any]) -> None:
        text, sent_s = self._new_attempt()
        old = _spec(found)
        spec = {**old, **self._claim(text)}
        if not self._is_ours(old):
            spec["acquireTime"] = text
            changes_holder = old.get("holderIdentity") != self._identity
            transitions = old.get("leaseTransitions")
            spec["leaseTransitions"] = (transitions if isinstance(transitions, int) else 0) + changes_holder
        request = self._client.update(LEASES, self._with(found, spec))
        self._confirm(await self._bounded("update", request), sent_s)

    def _claim(self, renew_time: str) -> dict[str, Any]:
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": ceil(self._config.lease_duration_s),
            "renewTime": renew_time,
        }

    def _released(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        now = rfc3339_micro(self._clock.now())
        spec = {**_spec(stored), "holderIdentity": "", "leaseDurationSeconds": 1, "acquireTime": now, "renewTime": now}
        return self._with(stored, spec)

    def _with(self, found: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
        metadata = dict(found.get("metadata") or {})
        if self._config.labels:
            metadata["labels"] = {**(metadata.get("labels") or {}), **self._config.labels}
        return {**found, "metadata": metadata, "spec": dict(spec)}

    def _new_attempt(self) -> tuple[str, float]:
        text = _distinct(self._clock.now(), self._attempts)
        sent_s = self._clock.monotonic()
        self._attempts[text] = sent_s
        while len(self._attempts) > _ATTEMPTS_KEPT:
            del self._attempts[next(iter(self._attempts))]
        return text, sent_s

    def _confirm(self, stored: dict[str, Any], sent_s: float) -> None:
        if sent_s >= self.confirmed_s:
            self._stored, self.confirmed_s = stored, sent_s
            self.holder = self._identity


async def _outcome(work: Awaitable[None]) -> KubeError | None:
    """What a task group may see of `work`: how it failed, None for success."""
    try:
        await work
    except KubeError as error:
        return error
    return None


def _spec(found: Mapping[str, Any]) -> dict[str, Any]:
    spec = found.get("spec")
    return spec if isinstance(spec, dict) else {}


def _distinct(moment: datetime, taken: Mapping[str, float]) -> str:
    """`moment` as text that none of `taken` equals; clocks may stand still."""
    text = rfc3339_micro(moment)
    while text in taken:
        moment = moment.replace(microsecond=(moment.microsecond + 1) % 1_000_000)
        text = rfc3339_micro(moment)
    return text


def _explain(lease: _Lease) -> str:
    error = lease.trouble
    return f"cannot {(error.verb if error else '') or 'get'} the lease {lease.place}: {error}"
