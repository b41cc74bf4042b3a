"""Refused writes: which rule is missing, for how long that is said, and what counts as a refusal."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest

from csisidecar.errors import ConflictError, ForbiddenError, KubeError
from csisidecar.kube import PERSISTENT_VOLUMES, KubeClient, Permissions
from csisidecar.kube.permissions import FORGET_S
from tests.kube.test_client import Session, status

DENIAL = (
    'persistentvolumes is forbidden: User "u" cannot create resource "persistentvolumes" in API group ""'
    " at the cluster scope"
)
RULE = '{apiGroups: [""], resources: ["persistentvolumes"], verbs: ["create"]}'


class Clock:
    def __init__(self) -> None:
        self.time_s = 0.0

    def monotonic(self) -> float:
        return self.time_s

    def now(self) -> datetime:
        return datetime.now(UTC)


def denied(verb: str = "create", text: str = DENIAL) -> ForbiddenError:
    return ForbiddenError(text, verb=verb, resource="persistentvolumes", status=403)


def test_refused_write_is_told_with_its_rule_until_one_succeeds(caplog: pytest.LogCaptureFixture) -> None:
    permissions = Permissions(Clock(), owner="provisioner")
    assert permissions.reason == ""
    for _ in range(3):
        permissions.answered("create", "persistentvolumes", denied())
    permissions.answered("patch", "persistentvolumes", None)
    assert permissions.reason == f"the role lacks {RULE}: grant it"
    assert [(r.levelno, r.missing_rule) for r in caplog.records] == [(logging.WARNING, RULE)]  # type: ignore[attr-defined]
    permissions.answered("create", "persistentvolumes", None)
    assert permissions.reason == ""


def test_other_failures_neither_refuse_nor_allow() -> None:
    permissions = Permissions(Clock(), owner="provisioner")
    webhook = 'admission webhook "quota.example.com" denied the request: too many volumes'
    permissions.answered("create", "persistentvolumes", denied(text=webhook))
    permissions.answered("create", "persistentvolumes", ConflictError("changed", status=409))
    assert permissions.reason == ""
    permissions.answered("create", "persistentvolumes", denied())
    permissions.answered("create", "persistentvolumes", KubeError("boom", status=500))
    assert permissions.reason


def test_refusal_that_nobody_repeats_is_forgotten() -> None:
    clock = Clock()
    permissions = Permissions(clock, owner="provisioner")
    permissions.answered("create", "persistentvolumes", denied())
    clock.time_s = FORGET_S + 1
    assert permissions.reason == ""


async def test_client_tells_how_each_write_ended_and_nothing_of_reads() -> None:
    permissions = Permissions(Clock(), owner="provisioner")
    refusing = KubeClient(Session(status("Forbidden", DENIAL), 403)).derive(permissions=permissions)
    with pytest.raises(ForbiddenError):
        await refusing.get(PERSISTENT_VOLUMES, "n")
    assert permissions.reason == ""
    with pytest.raises(ForbiddenError):
        await refusing.create(PERSISTENT_VOLUMES, {"metadata": {"name": "n"}})
    assert RULE in permissions.reason
    allowing = KubeClient(Session({"metadata": {"name": "n"}}), permissions=permissions)
    await allowing.create(PERSISTENT_VOLUMES, {"metadata": {"name": "n"}})
    assert permissions.reason == ""
