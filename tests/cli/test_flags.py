"""Every flag of both Go sidecars, and of the user's table, with the right default; where each is refused."""

from __future__ import annotations

from typing import Any

import pytest

from csisidecar.cli.exits import UsageError
from csisidecar.cli.flags import FLAGS, GROUPS, State
from csisidecar.cli.values import (
    Values,
    check_modes_of_flags,
    is_mode_flag,
    notices,
    plugin_options,
    read,
    resolve_modes,
)
from tests.cli import upstream


def values(*words: str) -> Values:
    return Values(given=read(words).values)


def test_the_hand_written_tables_are_whole() -> None:
    assert len(upstream.ATTACHER) == 33
    assert len(upstream.PROVISIONER) == 51


@pytest.mark.parity("R-FLAG-02")
@pytest.mark.parametrize(
    ("mode", "flag", "text", "default"),
    [
        *(("attacher", flag, text, default) for flag, (text, default) in upstream.ATTACHER.items()),
        *(("provisioner", flag, text, default) for flag, (text, default) in upstream.PROVISIONER.items()),
    ],
)
def test_drop_ins_accept_every_flag_and_have_upstreams_defaults(mode: str, flag: str, text: str, default: Any) -> None:
    bare = values(f"--mode={mode}", "--defaults=upstream")
    assert bare.get(flag, mode) == default
    given = values(f"--mode={mode}", "--defaults=upstream", f"--{flag}={text}")
    check_modes_of_flags(given, (mode,))
    assert given.is_given(flag)


@pytest.mark.parity("R-FLAG-01")
def test_go_flags_of_the_table_are_those_of_the_sidecars() -> None:
    for mode, expected in (("attacher", upstream.ATTACHER), ("provisioner", upstream.PROVISIONER)):
        assert {flag.name for flag in FLAGS if mode in flag.go} == set(expected)


@pytest.mark.parametrize(("flag", "default"), upstream.USERS_TABLE.items())
def test_run_has_the_users_defaults(flag: str, default: Any) -> None:
    assert values("--mode=all").get(flag, "attacher") == default


def test_the_provisioner_keeps_its_timings_under_both_sets() -> None:
    for words in (["--mode=all"], ["--mode=all", "--defaults=upstream"]):
        assert values(*words).get("timeout", "provisioner") == 10.0
        assert values(*words).get("retry-interval-start", "provisioner") == 1.0


@pytest.mark.parity("R-API-09")
def test_there_is_no_fixed_ceiling_unless_upstream_is_asked_for() -> None:
    assert values("--mode=all").get("kube-api-qps", "attacher") < 0
    assert values("--mode=all", "--defaults=upstream").get("kube-api-qps", "provisioner") == 5.0


def test_flags_outside_upstream_are_off_with_upstreams_defaults() -> None:
    there = values("--mode=all", "--defaults=upstream")
    assert there.get("metrics-addr") == there.get("health-addr") == ""
    assert there.get("volume-attachment-timeout") == 0.0
    assert there.get("exit-on-driver-loss") is False
    assert there.get("shutdown-grace") == 20.0


@pytest.mark.parametrize(
    "flag",
    [
        "timeout",
        "worker-threads",
        "retry-interval-start",
        "retry-interval-max",
        "resync",
        "default-fstype",
        "kube-api-qps",
        "kube-api-burst",
        "leader-election",
        "leader-election-namespace",
        "leader-election-lease-duration",
        "leader-election-renew-deadline",
        "leader-election-retry-period",
        "leader-election-labels",
    ],
)
def test_flags_of_a_mode(flag: str) -> None:
    assert is_mode_flag(flag)


def test_all_other_flags_belong_to_the_process() -> None:
    assert sum(is_mode_flag(flag.name) for flag in FLAGS) == 14


def test_a_prefix_holds_for_its_mode_and_wins() -> None:
    given = values("--mode=all", "--attacher-timeout=3s", "--timeout=1s")
    assert given.get("timeout", "attacher") == 3.0
    assert given.get("timeout", "provisioner") == 1.0
    given = values("--mode=all", "--provisioner-leader-election=false")
    assert given.get("leader-election", "attacher") is True
    assert given.get("leader-election", "provisioner") is False


@pytest.mark.parametrize("flag", ["--attacher-csi-address=/a", "--provisioner-volume-name-prefix=x", "-attacher-v=5"])
def test_a_prefix_on_a_flag_of_the_process_is_refused(flag: str) -> None:
    with pytest.raises(UsageError, match=r"has a prefix that --\S+ does not take"):
        read(["--mode=all", flag])


@pytest.mark.parametrize(
    ("mode", "flag", "owner"),
    [
        ("attacher", "--volume-name-prefix=x", "provisioner"),
        ("attacher", "--provisioner=x", "provisioner"),
        ("attacher", "--provisioner-timeout=1s", "provisioner"),
        ("provisioner", "--reconcile-sync=1m", "attacher"),
        ("provisioner", "--attacher-timeout=1s", "attacher"),
        ("third", "--max-entries=1", "attacher"),
    ],
)
def test_a_flag_of_a_mode_that_does_not_run_is_refused(mode: str, flag: str, owner: str) -> None:
    with pytest.raises(UsageError, match=f"belongs to the mode {owner}, which does not run"):
        check_modes_of_flags(values(f"--mode={mode}", flag), (mode,))


@pytest.mark.parametrize(
    ("words", "modes"),
    [
        (["--mode=attacher"], ("attacher",)),
        (["--mode=attacher", "--mode=provisioner"], ("attacher", "provisioner")),
        (["--mode=provisioner,attacher"], ("provisioner", "attacher")),
        (["--mode=all"], ("attacher", "provisioner")),
        (["--mode=all,attacher,mine"], ("attacher", "provisioner", "mine")),
    ],
)
def test_modes_are_resolved_once_each(words: list[str], modes: tuple[str, ...]) -> None:
    assert resolve_modes(values(*words), ["mine"]) == modes


def test_no_mode_and_unknown_modes_list_what_there_is() -> None:
    with pytest.raises(UsageError, match="--mode is missing; the modes are: attacher, provisioner, mine, all"):
        resolve_modes(values(), ["mine"])
    with pytest.raises(UsageError, match="unknown mode 'yours'; the modes are: attacher, provisioner, mine, all"):
        resolve_modes(values("--mode=yours"), ["mine"])


def test_no_flag_comes_later() -> None:
    assert [flag.name for flag in FLAGS if flag.state is State.NOT_BUILT] == []


def test_working_flags_are_not_warned_about() -> None:
    words = ["--extra-create-metadata", "--controller-publish-readonly", "--prevent-volume-mode-conversion", "-v5"]
    assert notices(values("--mode=all", *words)) == ()


@pytest.mark.parity("R-FLAG-05")
@pytest.mark.parametrize(
    "words",
    [
        ["--connection-timeout=15s"],
        ["--enable-leader-election", "--leader-election-type=leases"],
        ["--logtostderr", "--alsologtostderr=true", "--stderrthreshold", "2", "--log_file=/x"],
        ["--capacity-controller-deployment-mode=central"],
    ],
)
def test_retired_flags_are_accepted_with_one_warning(words: list[str]) -> None:
    found = notices(values("--mode=all", *words))
    assert len(found) == 1
    assert "retired" in found[0].message


def test_plugin_options_reach_their_plugin_only() -> None:
    given = values("--plugin-option=mine.a=1", "--plugin-option=mine.b=2=3")
    assert plugin_options(given, ("attacher", "mine")) == {"mine": {"a": "1", "b": "2=3"}}
    with pytest.raises(UsageError, match="the mode mine does not run"):
        plugin_options(given, ("attacher",))
    with pytest.raises(UsageError, match="built-in modes have flags only"):
        plugin_options(values("--plugin-option=attacher.a=1"), ("attacher",))


def test_the_table_is_sound() -> None:
    names = [flag.name for flag in FLAGS]
    assert len(names) == len(set(names))
    for flag in FLAGS:
        assert flag.group in GROUPS
        assert flag.text, f"--{flag.name} has no help"
        for defaults in ("user", "upstream"):
            for mode in ("attacher", "provisioner", "mine"):
                if text := flag.default(defaults, mode):
                    flag.kind.parse(text)
    assert {flag.name for flag in FLAGS if flag.state is State.NOT_BUILT and not flag.modes} == set()
