"""Checks and what is said of them."""

from __future__ import annotations

import pytest

from csisidecar.telemetry import Health


class Leader:
    def __init__(self, age_s: float) -> None:
        self.age_s = age_s

    def last_renewal_age_s(self) -> float:
        return self.age_s


def test_process_without_checks_is_starting() -> None:
    report = Health().report()
    assert not report.is_ok
    assert report.text == "[-]startup nothing is ready yet\n"


def test_each_check_has_one_line_and_one_reason_makes_the_whole_not_ready() -> None:
    health, reasons = Health(), {"api": "", "driver": "gone:\n  no such\tfile"}
    health.add("api", lambda: reasons["api"])
    health.add("driver", lambda: reasons["driver"])
    health.add("mode-attacher", lambda: "", note=lambda: "standing by")
    assert not health.report().is_ok
    assert health.report().lines == (
        "[+]api ok",
        "[-]driver gone: no such file",
        "[+]mode-attacher ok (standing by)",
    )
    reasons["driver"] = ""
    assert health.report().is_ok
    health.remove("mode-attacher")
    health.remove("never there")
    assert health.report().text == "[+]api ok\n[+]driver ok\n"


def test_check_registered_again_replaces_the_first() -> None:
    health = Health()
    health.add("a", lambda: "old")
    health.add("a", lambda: "")
    assert health.report().lines == ("[+]a ok",)


@pytest.mark.parity("R-HTTP-04")
def test_leader_is_stuck_twenty_seconds_after_its_lease_should_have_ended() -> None:
    health, leader = Health(leader_election=True), Leader(0)
    assert health.election_problem() == ""
    health.watch_lease("attacher", leader, lease_duration_s=15)
    leader.age_s = 35
    assert health.election_problem() == ""
    leader.age_s = 35.1
    assert health.election_problem() == "failed election to renew leadership on lease "
    health.watch_lease("provisioner", Leader(0), lease_duration_s=15)
    assert health.election_problem() == "failed election to renew leadership on lease attacher"
