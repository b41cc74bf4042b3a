"""Flags and environment → settings: precedence, listeners, leases, rates, refusals with their codes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from csisidecar.cli.build import Launch, Surroundings, build
from csisidecar.cli.exits import code_for
from csisidecar.cli.values import Values, read, resolve_modes
from csisidecar.config import AttacherSettings, Listener, NodeSettings, ProvisionerSettings, RateConfig
from csisidecar.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

POD = {"NAMESPACE": "csi", "POD_NAME": "me"}


def launch(*words: str, env: dict[str, str] | None = None, drop_in: bool = False, **outside: Any) -> Launch:
    values = Values(given=read(words).values)
    surroundings = Surroundings(env=env or {}, hostname="pod-1", drop_in=drop_in, **outside)
    return build(values, resolve_modes(values, ["mine"]), surroundings)


def drop_in(mode: str, *words: str, env: dict[str, str] | None = None) -> Launch:
    return launch(f"--mode={mode}", "--defaults=upstream", *words, env=env, drop_in=True)


# the driver's socket


@pytest.mark.parametrize(
    ("words", "env", "endpoint"),
    [
        ([], {}, "/var/lib/csi/sockets/pluginproxy/csi.sock"),
        ([], {"CSI_ENDPOINT": "unix:///env.sock"}, "unix:///env.sock"),
        ([], {"CSI_ENDPOINT": "unix:/env.sock"}, "unix:///env.sock"),
        ([], {"CSI_ENDPOINT": "/env.sock"}, "/env.sock"),
        ([], {"CSI_ENDPOINT": ""}, "/var/lib/csi/sockets/pluginproxy/csi.sock"),
        (["--csi-address=/flag.sock"], {"CSI_ENDPOINT": "/env.sock"}, "/flag.sock"),
        (["--defaults=upstream"], {}, "/run/csi/socket"),
        (["--defaults=upstream"], {"CSI_ENDPOINT": "/env.sock"}, "/env.sock"),
    ],
)
@pytest.mark.parametrize("mode", ["attacher", "provisioner", "all", "mine"])
def test_the_socket_comes_from_flag_then_variable_then_default(
    mode: str, words: list[str], env: dict[str, str], endpoint: str
) -> None:
    assert launch(f"--mode={mode}", *words, env=env).config.csi_endpoint == endpoint


@pytest.mark.parametrize("mode", ["attacher", "provisioner"])
def test_drop_ins_do_not_read_the_variables_of_run(mode: str) -> None:
    config = drop_in(mode, env={"CSI_ENDPOINT": "/env.sock", "KUBE_CONFIG_PATH": "/env.conf"}).config
    assert config.csi_endpoint == "/run/csi/socket"
    assert config.kube.kubeconfig == ""


@pytest.mark.parametrize(
    "address", ["relative/csi.sock", "unix:/x", "unix://relative", "tcp://1.2.3.4:5", "dns:///x", ""]
)
@pytest.mark.parametrize("mode", ["attacher", "provisioner", "all"])
def test_an_address_that_is_no_socket_ends_with_1(mode: str, address: str) -> None:
    with pytest.raises(ConfigError, match="is no Unix socket") as caught:
        launch(f"--mode={mode}", f"--csi-address={address}")
    assert code_for(caught.value, ("attacher", "provisioner") if mode == "all" else (mode,)) == 1


# the API server

KUBECONFIG = {"KUBECONFIG": "/variable"}
BOTH = {"KUBECONFIG": "/variable", "KUBE_CONFIG_PATH": "/path"}


@pytest.mark.parametrize(
    ("words", "env", "path"),
    [
        (["--mode=provisioner", "--kubeconfig=/flag"], BOTH, "/variable"),
        (["--mode=all", "--kubeconfig=/flag"], KUBECONFIG, "/variable"),
        (["--mode=provisioner", "--kubeconfig=/flag"], {"KUBE_CONFIG_PATH": "/path"}, "/flag"),
        (["--mode=provisioner"], BOTH, "/variable"),
        (["--mode=provisioner"], {"KUBE_CONFIG_PATH": "/path"}, "/path"),
        (["--mode=attacher", "--kubeconfig=/flag"], BOTH, "/flag"),
        (["--mode=attacher"], BOTH, "/path"),
        (["--mode=attacher"], KUBECONFIG, "/variable"),
        (["--mode=mine"], KUBECONFIG, "/variable"),
        (["--mode=attacher"], {}, ""),
    ],
)
def test_kubeconfig_precedence_of_run(words: list[str], env: dict[str, str], path: str) -> None:
    assert launch(*words, env=env).config.kube.kubeconfig == path


@pytest.mark.parity("R-FLAG-08")
def test_kubeconfig_precedence_of_the_drop_ins() -> None:
    assert drop_in("attacher", env=BOTH).config.kube.kubeconfig == ""
    assert drop_in("attacher", "--kubeconfig=/flag", env=BOTH).config.kube.kubeconfig == "/flag"
    assert drop_in("provisioner", "--kubeconfig=/flag", env=BOTH).config.kube.kubeconfig == "/variable"
    assert drop_in("provisioner", env={"KUBE_CONFIG_PATH": "/path"}).config.kube.kubeconfig == ""


def test_a_kubeconfig_flag_that_loses_is_told() -> None:
    told = drop_in("provisioner", "--kubeconfig=/flag", env=KUBECONFIG).notices
    assert [notice.fields for notice in told] == [{"used": "/variable", "ignored": "/flag"}]
    assert drop_in("provisioner", "--kubeconfig=/variable", env=KUBECONFIG).notices == ()


@pytest.mark.parity("R-FLAG-10")
@pytest.mark.parametrize(
    ("mode", "manager"), [("attacher", "csi-attacher"), ("provisioner", "csi-provisioner"), ("all", "csisidecar")]
)
def test_the_manager_name_of_a_single_mode_is_upstreams(mode: str, manager: str) -> None:
    assert launch(f"--mode={mode}").config.kube.user_agent.split("/")[0] == manager


@pytest.mark.parity("R-FLAG-09")
def test_the_pods_namespace(tmp_path: Path) -> None:
    file = tmp_path / "namespace"
    assert launch("--mode=all", namespace_file=file).config.own_namespace == "default"
    file.write_text("from-file\n")
    assert launch("--mode=all", namespace_file=file).config.own_namespace == "from-file"
    env = {"POD_NAMESPACE": "from-env"}
    assert launch("--mode=all", env=env, namespace_file=file).config.own_namespace == "from-env"


# HTTP


@pytest.mark.parity("R-HTTP-01")
@pytest.mark.parametrize(
    ("words", "listeners"),
    [
        ([], [(":8080", "metrics-addr", True, False), (":9808", "health-addr", True, False)]),
        (["--http-endpoint=:1"], [(":1", "http-endpoint", False, False)]),
        (["--http-endpoint="], []),
        (["--metrics-addr=:1"], [(":1", "metrics-addr", False, False), (":9808", "health-addr", True, False)]),
        (["--metrics-address=:1"], [(":1", "metrics-address", False, True), (":9808", "health-addr", True, False)]),
        (["--health-addr=:1"], [(":8080", "metrics-addr", True, False), (":1", "health-addr", False, False)]),
        (["--metrics-addr=", "--health-addr="], []),
        (
            ["--http-endpoint=:1", "--health-addr=:2"],
            [(":1", "http-endpoint", False, False), (":2", "health-addr", False, False)],
        ),
        (
            ["--metrics-address=:1", "--metrics-addr=:2", "--health-addr="],
            [(":1", "metrics-address", False, True), (":2", "metrics-addr", False, False)],
        ),
        (["--metrics-addr=:1", "--health-addr=:1"], [(":1", "metrics-addr", False, False)]),
        (["--metrics-address=:1", "--health-addr=:1"], [(":1", "metrics-address", False, False)]),
        (["--defaults=upstream"], []),
        (["--defaults=upstream", "--metrics-address=:1"], [(":1", "metrics-address", False, True)]),
        (["--defaults=upstream", "--health-addr=:1"], [(":1", "health-addr", False, False)]),
    ],
)
def test_listeners(words: list[str], listeners: list[tuple[str, str, bool, bool]]) -> None:
    expected = [
        Listener(address=address, flag=flag, is_default=is_default, metrics_only=metrics_only)
        for address, flag, is_default, metrics_only in listeners
    ]
    assert list(launch("--mode=all", *words).config.http.listeners) == expected


# leases and rates


def test_run_elects_in_kube_system_by_default_in_every_mode() -> None:
    config = launch("--mode=all,mine").config
    for mode in ("attacher", "provisioner", "mine"):
        lease = config.mode(mode).lease
        assert (lease.enabled, lease.namespace, lease.namespace_is_default) == (True, "kube-system", True)


def test_a_namespace_that_was_asked_for_is_no_default() -> None:
    lease = launch("--mode=attacher", "--leader-election-namespace=kube-system").config.mode("attacher").lease
    assert not lease.namespace_is_default


@pytest.mark.parity("R-LEASE-03")
def test_drop_ins_elect_in_their_own_namespace_and_only_when_asked() -> None:
    assert not drop_in("attacher").config.mode("attacher").lease.enabled
    lease = drop_in("attacher", "--leader-election").config.mode("attacher").lease
    assert (lease.enabled, lease.namespace, lease.namespace_is_default) == (True, "", False)


def test_leases_differ_from_mode_to_mode() -> None:
    config = launch("--mode=all", "--attacher-leader-election=false", "--provisioner-leader-election-labels=a:b").config
    assert not config.mode("attacher").lease.enabled
    assert config.mode("provisioner").lease.labels == {"a": "b"}


@pytest.mark.parametrize(
    "words",
    [
        ["--leader-election-lease-duration=10s"],
        ["--leader-election-retry-period=9s"],
        ["--leader-election-retry-period=0"],
        ["--leader-election-retry-period=1ns"],
        ["--provisioner-leader-election-renew-deadline=20s"],
    ],
)
def test_bad_lease_timings_end_with_2_even_with_several_modes(words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        launch("--mode=all", *words)
    assert code_for(caught.value, ("attacher", "provisioner")) == 2
    assert code_for(caught.value, ("provisioner",)) == 2


def test_bad_lease_timings_do_not_matter_without_election() -> None:
    assert not drop_in("attacher", "--leader-election-lease-duration=1s").config.mode("attacher").lease.enabled


@pytest.mark.parametrize(
    ("words", "rate"),
    [
        ([], RateConfig()),
        (["--kube-api-qps=20"], RateConfig(qps=20, burst=10)),
        (["--kube-api-qps=20", "--kube-api-burst=40"], RateConfig(qps=20, burst=40)),
        (["--kube-api-qps=0"], RateConfig(qps=5, burst=10)),
        (["--kube-api-qps=0", "--kube-api-burst=0"], RateConfig(qps=5, burst=10)),
        (["--kube-api-qps=-1", "--kube-api-burst=0"], RateConfig()),
        (["--defaults=upstream"], RateConfig(qps=5, burst=10)),
        (["--attacher-kube-api-qps=7"], RateConfig(qps=7, burst=10)),
    ],
)
def test_rates(words: list[str], rate: RateConfig) -> None:
    assert launch("--mode=all", *words).config.mode("attacher").rate == rate


# settings of the plugins


def test_settings_of_both_modes() -> None:
    told = launch(
        "--mode=all,mine",
        "--timeout=7s",
        "--attacher-worker-threads=3",
        "--volume-name-prefix=vol",
        "--extra-create-metadata",
        "--feature-gates=Topology=false,MutableCSINodeAllocatableCount=false",
        "--max-entries=0x10",
        "--plugin-option=mine.color=red",
    )
    attacher, provisioner, mine = (told.settings[mode] for mode in ("attacher", "provisioner", "mine"))
    assert isinstance(attacher, AttacherSettings)
    assert (attacher.timeout_s, attacher.worker_threads, attacher.resync_s) == (7.0, 3, 600.0)
    assert (attacher.max_entries, attacher.error_codes) == (16, False)
    assert isinstance(provisioner, ProvisionerSettings)
    assert (provisioner.timeout_s, provisioner.worker_threads, provisioner.resync_s) == (7.0, 100, 900.0)
    assert (provisioner.volume_name_prefix, provisioner.extra_create_metadata, provisioner.topology) == (
        "vol",
        True,
        False,
    )
    assert (mine.timeout_s, mine.worker_threads, mine.options) == (7.0, 10, {"color": "red"})


def test_defaults_of_the_plugins_are_those_of_their_settings() -> None:
    told = launch("--mode=all")
    assert told.settings == {"attacher": AttacherSettings(), "provisioner": ProvisionerSettings()}


@pytest.mark.parity("R-DRIVER-04")
def test_the_handshake_has_the_largest_timeout() -> None:
    assert launch("--mode=all").config.handshake_timeout_s == 60.0
    assert launch("--mode=all", "--provisioner-timeout=2m").config.handshake_timeout_s == 120.0
    assert launch("--mode=provisioner").config.handshake_timeout_s == 10.0


def test_a_short_resync_is_raised_with_a_warning() -> None:
    told = launch("--mode=attacher", "--resync=1ms")
    assert told.settings["attacher"].resync_s == 1.0
    assert [notice.message for notice in told.notices] == ["Raised --resync to 1s"]
    assert launch("--mode=attacher", "--resync=0").settings["attacher"].resync_s == 0.0


def test_the_rest_of_the_process() -> None:
    config = launch(
        "--mode=provisioner",
        "--provisioner=d.example",
        "--shutdown-grace=5s",
        "--exit-on-driver-loss",
        "--exit-on-lease-loss",
        "--max-grpc-log-length=100",
        "--master=https://api:6443",
        "--metrics-path=/m",
    ).config
    assert config.expected_driver == "d.example"
    assert config.shutdown_grace_s == 5.0
    assert (config.exit_on_driver_loss, config.exit_on_lease_loss) == (True, True)
    assert (config.grpc_log_length, config.kube.master, config.http.metrics_path) == (100, "https://api:6443", "/m")
    assert config.identity == "pod-1"


# refusals


@pytest.mark.parity("R-FLAG-07")
@pytest.mark.parametrize(
    ("words", "attacher", "provisioner"),
    [
        (["--http-endpoint=:1", "--metrics-address=:2"], 1, 1),
        (["--metrics-path=metrics"], 2, 2),
        (["--metrics-path=/healthz"], 2, 2),
        (["--http-endpoint=nowhere"], 1, 255),
        (["--health-addr=:99999"], 1, 255),
        (["--kube-api-qps=5", "--kube-api-burst=0"], 1, 255),
        (["--timeout=0"], 1, 255),
        (["--timeout=-1s"], 1, 255),
        (["--worker-threads=0"], 1, 255),
        (["--retry-interval-start=0"], 1, 255),
        (["--retry-interval-max=1ms", "--retry-interval-start=1ns"], 1, 255),
        (["--retry-interval-max=999us"], 1, 255),
        (["--resync=-1s"], 1, 255),
        (["--shutdown-grace=-1s"], 1, 255),
    ],
)
def test_settings_that_cannot_work_end_with_the_modes_own_code(
    words: list[str], attacher: int, provisioner: int
) -> None:
    for mode, code in (("attacher", attacher), ("provisioner", provisioner), ("all", 1)):
        with pytest.raises(ConfigError) as caught:
            launch(f"--mode={mode}", *words)
        modes = ("attacher", "provisioner") if mode == "all" else (mode,)
        assert code_for(caught.value, modes) == code, str(caught.value)
        assert words[-1].split("=")[0] in str(caught.value)


@pytest.mark.parametrize(
    "flag",
    ["--volume-name-uuid-length=0", "--volume-name-uuid-length=33", "--volume-name-prefix="],
)
def test_impossible_volume_names_are_refused(flag: str) -> None:
    with pytest.raises(ConfigError, match=flag.split("=")[0]):
        launch("--mode=provisioner", flag)


def test_a_comparison_without_a_pause_is_refused() -> None:
    for value in ("0", "1ns", "99ms"):
        with pytest.raises(ConfigError, match="--reconcile-sync"):
            launch("--mode=attacher", f"--reconcile-sync={value}")


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--snapshot-orphan-sweep-interval=1ns", "--snapshot-orphan-sweep-interval=1ns cannot"),
        ("--snapshot-orphan-sweep-interval=99ms", "give at least 100ms"),
        ("--capacity-poll-interval=1ns", "--capacity-poll-interval=1ns cannot"),
        ("--capacity-poll-interval=-1s", "--capacity-poll-interval=-1s cannot"),
        ("--capacity-poll-interval=0", "--capacity-poll-interval=0s cannot"),
        ("--retry-interval-start=10us", "--retry-interval-start=10us cannot"),
        ("--retry-interval-start=1ns", "give at least 1ms"),
    ],
)
def test_pauses_so_short_that_they_are_none_are_refused(flag: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        launch("--mode=provisioner", "--enable-capacity", flag, env=POD)


@pytest.mark.parametrize(
    "flag",
    [
        "--snapshot-orphan-sweep-interval=0",
        "--snapshot-orphan-sweep-interval=-1s",
        "--snapshot-orphan-sweep-interval=100ms",
        "--capacity-poll-interval=100ms",
        "--retry-interval-start=1ms",
    ],
)
def test_short_pauses_are_taken(flag: str) -> None:
    assert launch("--mode=provisioner", "--enable-capacity", flag, env=POD).notices == ()


@pytest.mark.parity("T-NODE-15")
@pytest.mark.parametrize("env", [{}, {"NODE_NAME": ""}], ids=["absent", "empty"])
def test_node_deployment_needs_its_node(env: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"NODE_NAME: .*spec\.nodeName") as caught:
        launch("--mode=provisioner", "--node-deployment", env=env)
    assert code_for(caught.value, ("provisioner",)) == 255


@pytest.mark.parametrize("name", ["  ", "Bad/Name", "n1\n", "-n", "n" * 254])
def test_node_name_that_can_be_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"NODE_NAME=.*spec\.nodeName") as caught:
        launch("--mode=provisioner", "--node-deployment", env={"NODE_NAME": name})
    assert code_for(caught.value, ("provisioner",)) == 255


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--node-deployment-base-delay=-3s"], "--node-deployment-base-delay=-3s must not be negative"),
        (["--node-deployment-max-delay=-1m"], "--node-deployment-max-delay=-60s must not be negative"),
    ],
)
def test_negative_delay_is_quoted(flags: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(told)}$"):
        launch("--mode=provisioner", "--node-deployment", *flags, env={"NODE_NAME": "n1"})


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--capacity-threads=2", "--kube-api-capacity-qps=3"], "--capacity-threads --kube-api-capacity-qps"),
        (["--enable-capacity=false", "--capacity-poll-interval=1m"], "--capacity-poll-interval"),
        (["--node-deployment-max-delay=1m"], "--node-deployment-max-delay"),
    ],
)
def test_flags_without_their_main_flag_are_told(words: list[str], told: str) -> None:
    (notice,) = launch("--mode=provisioner", *words).notices
    assert notice.message == "Flags without effect, another one is missing"
    assert notice.fields["flags"] == told


def test_base_delay_above_the_max_is_told() -> None:
    flags = ("--node-deployment", "--node-deployment-base-delay=2m")
    (notice,) = launch("--mode=provisioner", *flags, env={"NODE_NAME": "n1"}).notices
    assert "is above the max" in notice.message
    assert launch("--mode=provisioner", "--node-deployment", env={"NODE_NAME": "n1"}).notices == ()


@pytest.mark.parity("R-FLAG-11")
def test_node_deployment_has_no_lease_unless_one_is_asked_for_and_the_attacher_keeps_its_own() -> None:
    env = {"NODE_NAME": "n1"}
    told = launch("--mode=all", "--node-deployment", env=env)
    assert not told.config.mode("provisioner").lease.enabled
    assert told.config.mode("attacher").lease.enabled
    assert [plugin.lease_name("d") for plugin in told.plugins()] == ["external-attacher-leader-d", None]
    assert not any("one node only" in notice.message for notice in told.notices)
    settings = told.settings["provisioner"]
    assert isinstance(settings, ProvisionerSettings)
    assert settings.node == NodeSettings(name="n1")
    asked = launch("--mode=provisioner", "--node-deployment", "--leader-election", env=env)
    assert asked.config.mode("provisioner").lease.enabled
    assert [plugin.lease_name("d") for plugin in asked.plugins()] == ["d"]
    assert any("one node only" in notice.message for notice in asked.notices)
    drop = drop_in("provisioner", "--node-deployment", "--node-deployment-base-delay=200ms", env=env)
    assert not drop.config.mode("provisioner").lease.enabled


@pytest.mark.parity("T-ROOM-16")
@pytest.mark.parametrize("missing", ["NAMESPACE", "POD_NAME"])
def test_capacity_needs_to_know_its_pod(missing: str) -> None:
    env = {"NAMESPACE": "csi", "POD_NAME": "me"}
    del env[missing]
    with pytest.raises(ConfigError, match=missing) as caught:
        launch("--mode=provisioner", "--enable-capacity", env=env)
    assert code_for(caught.value, ("provisioner",)) == 255


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({}, r"NAMESPACE \(.*metadata\.namespace\) and POD_NAME \(.*metadata\.name;"),
        ({"NAMESPACE": "a/b", "POD_NAME": "me"}, r"NAMESPACE='a/b' can be no name: .*metadata\.namespace"),
        ({"NAMESPACE": "a.b", "POD_NAME": "me"}, r"NAMESPACE='a\.b' can be no name"),
        ({"NAMESPACE": " ", "POD_NAME": "me"}, r"NAMESPACE=' ' can be no name"),
        ({"NAMESPACE": "csi", "POD_NAME": "Me"}, r"POD_NAME='Me' can be no name: .*metadata\.name"),
    ],
)
def test_what_the_pod_says_about_itself_is_checked_at_once(env: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        launch("--mode=provisioner", "--enable-capacity", env=env)
    assert code_for(caught.value, ("provisioner",)) == 255


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--kube-api-capacity-burst=0"],
            "--kube-api-capacity-burst=0 must be above 0 when --kube-api-capacity-qps=1,",
        ),
        (
            ["--kube-api-capacity-qps=7", "--kube-api-capacity-burst=-1"],
            "--kube-api-capacity-burst=-1 must be above 0 when --kube-api-capacity-qps=7 limits",
        ),
        (
            ["--provisioner-kube-api-qps=7", "--kube-api-burst=0"],
            "--kube-api-burst=0 must be above 0 when --provisioner-kube-api-qps=7 limits",
        ),
    ],
)
def test_ceiling_that_lets_nothing_through_names_the_flags_that_were_given(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(told)}"):
        launch("--mode=provisioner", "--enable-capacity", *words, env=POD)


def test_capacity_has_a_ceiling_of_its_own() -> None:
    env = {"NAMESPACE": "csi", "POD_NAME": "me"}
    for flag, wanted in (("1", (1.0, 5)), ("-1", (0.0, 0)), ("0", (5.0, 5))):
        told = launch("--mode=provisioner", "--enable-capacity", f"--kube-api-capacity-qps={flag}", env=env)
        settings = told.settings["provisioner"]
        assert isinstance(settings, ProvisionerSettings)
        assert settings.capacity is not None
        assert (settings.capacity.rate.qps, settings.capacity.rate.burst) == wanted
