"""The shipped roles are written from the tables beside the code, and the tables know every resource of that code."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
import yaml

from csisidecar import kube
from csisidecar.cli import rbac_page
from csisidecar.kube import EVENTS, Resource
from csisidecar.plugins import attacher, provisioner
from csisidecar.plugins.rules import BOTH

FOLDERS = {
    mode: Path(inspect.getfile(package)).parent
    for mode, package in (("attacher", attacher), ("provisioner", provisioner))
}


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


def test_shipped_roles_are_fresh() -> None:
    assert rbac_page.main(["--check"]) == 0


def test_stale_roles_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rbac.yaml"
    monkeypatch.setattr(rbac_page, "PAGE", file)
    assert rbac_page.main(["--check", str(file)]) == 1
    assert "not fresh" in capsys.readouterr().err
    assert not file.exists()
    assert rbac_page.main([]) == 0
    assert rbac_page.main(["--check", str(file)]) == 0
    file.write_text(file.read_text().replace("[get, list, watch, patch]", "[get, list, watch]", 1))
    assert rbac_page.main(["--check", str(file)]) == 1


def test_other_words_are_refused_and_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rbac_page, "PAGE", tmp_path / "rbac.yaml")
    assert rbac_page.main(["--chek"]) == 2
    assert not rbac_page.PAGE.exists()


@pytest.mark.parametrize("mode", list(BOTH))
def test_table_of_a_mode_has_every_resource_that_its_code_names(mode: str) -> None:
    granted = {rule.resource for role in rbac_page.ROLES if mode in role.modes for rule in role.rules}
    used = resources_in(FOLDERS[mode])
    assert len(used) > 2
    assert used - granted == set()


def test_every_mode_may_write_events_and_the_attributes_of_volumes_have_a_role() -> None:
    main = {role.name: {rule.resource for rule in role.rules} for role in rbac_page.ROLES if role.name in BOTH}
    assert all(EVENTS in resources for resources in main.values())
    items = [item for item in yaml.safe_load_all(rbac_page.page()) if item["kind"] == "ClusterRole"]
    (rules,) = [item["rules"] for item in items if item["metadata"]["name"] == "csisidecar-attributes"]
    assert rules == [{"apiGroups": ["storage.k8s.io"], "resources": ["volumeattributesclasses"], "verbs": ["get"]}]
