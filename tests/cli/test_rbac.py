"""`csisidecar rbac`: the roles follow the flags; the shipped ones are fresh and know every resource of the code."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
import yaml

from csisidecar import kube
from csisidecar.cli import main, rbac_page
from csisidecar.cli.rbac import ROLES, Wish, page, read, roles_for
from csisidecar.kube import EVENTS, Resource
from csisidecar.plugins import attacher, provisioner
from csisidecar.plugins.rules import BOTH

FOLDERS = {
    mode: Path(inspect.getfile(package)).parent
    for mode, package in (("attacher", attacher), ("provisioner", provisioner))
}
ALWAYS = {"provisioner", "attached", "places", "claims", "snapshots", "attributes", "secrets", "leases"}
"""Of --mode=provisioner, without any other flag: nobody knows the driver."""
CAPACITY = "--enable-capacity"


def resources_in(folder: Path) -> set[Resource]:
    """The resource constants that the modules of a plugin import, its table left out."""
    names = {
        alias.name
        for path in folder.rglob("*.py")
        if path.name != "rules.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "csisidecar.kube"
        for alias in node.names
    }
    return {found for name in names if isinstance(found := getattr(kube, name), Resource)}


# ---- which roles


@pytest.mark.parametrize(
    ("words", "more", "less"),
    [
        pytest.param([], set(), set(), id="no flags"),
        pytest.param(["--leader-election=false"], set(), {"leases"}, id="no lease"),
        pytest.param(["--feature-gates=Topology=false"], set(), {"places"}, id="no topology"),
        pytest.param(["--feature-gates=VolumeAttributesClass=false"], set(), {"attributes"}, id="no attributes"),
        pytest.param(["--feature-gates=CrossNamespaceVolumeDataSource=true"], {"grants"}, set(), id="grants"),
        pytest.param([CAPACITY, "--capacity-ownerref-level=-1"], {"capacity"}, set(), id="no owner"),
        pytest.param([CAPACITY, "--capacity-ownerref-level=0"], {"capacity", "owner-pod"}, set(), id="owner 0"),
        pytest.param([CAPACITY], {"capacity", "owner-pod"}, set(), id="owner 1"),
        pytest.param(
            [CAPACITY, "--capacity-ownerref-level=2"],
            {"capacity", "owner-pod", "owner-replicaset"},
            set(),
            id="owner 2",
        ),
        pytest.param(
            [CAPACITY, "--feature-gates=Topology=false"], {"capacity", "owner-pod"}, set(), id="capacity needs places"
        ),
        pytest.param(["--node-deployment"], set(), {"places", "leases"}, id="per node"),
        pytest.param(
            ["--node-deployment", CAPACITY], {"capacity", "owner-pod"}, {"places", "leases"}, id="per node capacity"
        ),
        pytest.param(["--node-deployment", "--leader-election"], set(), {"places"}, id="per node with a lease"),
    ],
)
def test_roles_follow_the_flags(words: list[str], more: set[str], less: set[str]) -> None:
    found = roles_for(Wish(words=("--mode=provisioner", *words)))
    assert {role.name for role in found} == (ALWAYS | more) - less


def test_the_attacher_needs_no_role_of_the_provisioner() -> None:
    assert {role.name for role in roles_for(Wish(words=("--mode=attacher",)))} == {"attacher", "secrets", "leases"}


@pytest.mark.parametrize(
    ("words", "namespaces"),
    [
        (["--mode=all"], ("kube-system", "csi")),
        (["--mode=all", "--leader-election-namespace=other"], ("other",)),
        (["--mode=all", "--attacher-leader-election-namespace=other"], ("other", "kube-system", "csi")),
        (["--mode=provisioner", "--defaults=upstream", "--leader-election"], ("csi",)),
    ],
)
def test_leases_are_allowed_where_they_will_be(words: list[str], namespaces: tuple[str, ...]) -> None:
    (role,) = (role for role in roles_for(Wish(namespace="csi", words=tuple(words))) if role.name == "leases")
    assert role.namespaces == namespaces


# ---- the command


def test_command_prints_what_a_containers_args_need(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--mode=provisioner", CAPACITY, "--account", "driver", "--namespace=csi", "--without=secrets"]
    assert main(["rbac", *words]) == 0
    text = capsys.readouterr().out
    items = list(yaml.safe_load_all(text))
    assert [item["kind"] for item in items].count("ServiceAccount") == 1
    roles = {item["metadata"]["name"]: item for item in items if item["kind"] in ("Role", "ClusterRole")}
    assert all(name.startswith("driver-") for name in roles)
    assert "driver-secrets" not in roles
    assert roles["driver-capacity"]["metadata"]["namespace"] == "csi"
    for item in items:
        if item["kind"].endswith("Binding"):
            assert item["roleRef"]["name"] in roles
            assert item["subjects"] == [{"kind": "ServiceAccount", "name": "driver", "namespace": "csi"}]
    assert text == page(read(["--account=driver", "--namespace=csi", "--without=secrets", *words[1:3]]))


def test_first_lines_are_a_command_that_prints_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    wish = Wish(account="driver", without=("secrets",), words=("--mode=all", CAPACITY, "--csi-address=/a b/csi.sock"))
    assert main(["rbac", *wish.command_words()]) == 0
    assert capsys.readouterr().out == page(wish)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "--mode is missing"),
        (["--mode=provisioner", "--nope"], "--nope"),
        (["--mode=provisioner", "nope"], "'nope' is an argument that belongs to no flag"),
        (["--mode=provisioner", "--without=nope"], "the roles are: attacher, provisioner, attached, "),
        (
            ["--mode=provisioner", "--without=provisioner"],
            "nothing works without it; what can be left out here: attached,",
        ),
        (["--mode=provisioner", "--without=grants"], "these flags do not ask for it; what can be left out"),
        (["--mode=provisioner", CAPACITY, "--capacity-poll-interval=-1s"], "--capacity-poll-interval=-1s cannot"),
        (["--mode=provisioner", "--without=places,nope"], "no role nope"),
        (["--mode=attacher", CAPACITY], "does not run"),
        (["--mode=provisioner", "--account=null"], "--account='null'"),
        (["--mode=provisioner", "--namespace=7"], "--namespace='7'"),
        (["--mode=provisioner", "--leader-election-namespace=a\nb: c"], "--leader-election-namespace='a"),
    ],
)
def test_what_run_would_refuse_and_names_that_are_none_are_refused(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rbac", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert reason in err


def test_help_has_every_role(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rbac", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {role.name} " in text for role in ROLES)


# ---- the shipped files


def test_shipped_roles_are_fresh() -> None:
    assert rbac_page.main(["--check"]) == 0


@pytest.mark.parametrize("shape", rbac_page.SHAPES, ids=lambda shape: shape.manifest)
def test_a_stale_file_and_a_flag_changed_alone_are_noticed(
    shape: rbac_page.Shape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for each in rbac_page.SHAPES:
        (tmp_path / each.manifest).parent.mkdir(exist_ok=True)
        (tmp_path / each.manifest).write_text((rbac_page.FOLDER / each.manifest).read_text())
    monkeypatch.setattr(rbac_page, "FOLDER", tmp_path)
    assert rbac_page.main(["--check"]) == 1
    assert capsys.readouterr().err.count("not fresh") == len(rbac_page.SHAPES)
    assert not shape.page(tmp_path).exists()
    assert rbac_page.main([]) == 0
    assert rbac_page.main(["--check"]) == 0
    file, manifest = shape.page(tmp_path), tmp_path / shape.manifest
    fresh = file.read_text()
    file.write_text(fresh.replace("patch]", "patch, deletecollection]", 1))
    assert rbac_page.main(["--check"]) == 1
    file.write_text(fresh)
    manifest.write_text(manifest.read_text().replace("- run\n", "- run\n            - --leader-election=false\n", 1))
    assert rbac_page.main(["--check"]) == 1
    assert f"{file} is not fresh" in capsys.readouterr().err


def test_other_words_are_refused_and_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rbac_page, "FOLDER", tmp_path)
    assert rbac_page.main(["--chek"]) == 2
    assert list(tmp_path.iterdir()) == []


# ---- the tables


@pytest.mark.parametrize("mode", list(BOTH))
def test_table_of_a_mode_has_every_resource_that_its_code_names(mode: str) -> None:
    granted = {rule.resource for role in ROLES if mode in role.modes for rule in role.rules}
    used = resources_in(FOLDERS[mode])
    assert len(used) > 2
    assert used - granted == set()


def test_every_mode_may_write_events() -> None:
    main_roles = {role.name: {rule.resource for rule in role.rules} for role in ROLES if role.name in BOTH}
    assert len(main_roles) == 2
    assert all(EVENTS in resources for resources in main_roles.values())
