"""In-tree ↔ CSI, compared with what the public Go library said to the same inputs.

`data/migration_vectors.json` holds the answers and the library's version. The tests after it are about what the
library has no word for: views, arguments left alone, and the tables that other rooms keep.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from csisidecar.errors import UnusableObjectError
from csisidecar.kube import IN_TREE_SOURCES, CSISource, StorageClass, Volume, VolumeSpec, compact_volume
from csisidecar.mapping import migration
from csisidecar.plugins.provisioner.names import IN_TREE_NAMES
from csisidecar.telemetry.metrics import MIGRATED_DRIVERS

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = Path(__file__).parent / "data" / "migration_vectors.json"
VECTORS = json.loads(DATA.read_text(encoding="utf-8"))
CASES: list[dict[str, Any]] = VECTORS["cases"]


def driver_of(in_tree_name: str) -> str:
    found = migration.find_by_in_tree_name(in_tree_name)
    if found is None:
        raise UnusableObjectError(f"could not find CSI Driver name for plugin {in_tree_name}")
    return found.driver


def in_tree_name_of(driver: str) -> str:
    found = migration.find_by_driver(driver)
    if found is None:
        raise UnusableObjectError(f"could not find In-Tree driver name for CSI plugin {driver}")
    return found.in_tree_name


def plugin_of_volume(volume: dict[str, Any]) -> str:
    found = migration.find_by_volume(volume)
    if found is None:
        raise UnusableObjectError(
            f"could not find in-tree plugin name from persistent volume {volume['metadata']['name']}"
        )
    return found.in_tree_name


OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "volume_to_csi": migration.volume_to_csi,
    "volume_to_in_tree": migration.volume_to_in_tree,
    "class_to_csi": lambda given: migration.class_to_csi(given["plugin"], given["class"]),
    "complete_handle": lambda given: migration.complete_handle(given["driver"], given["handle"], given["nodeID"]),
    "driver_of": driver_of,
    "in_tree_name_of": in_tree_name_of,
    "plugin_of_volume": plugin_of_volume,
}


def answer(operation: str, given: Any) -> tuple[Any, str]:
    """What our function says: its result, or its error's text."""
    try:
        return OPERATIONS[operation](given), ""
    except UnusableObjectError as error:
        return None, str(error)


def cases(*operations: str, only_answered: bool = False) -> pytest.MarkDecorator:
    chosen = [c for c in CASES if c["op"] in operations and not (only_answered and "error" in c)]
    return pytest.mark.parametrize("case", chosen, ids=[f"{case['op']}: {case['name']}" for case in chosen])


def test_vectors_are_of_the_line_that_the_sidecars_use_and_reach_each_plugin() -> None:
    assert VECTORS["version"].startswith("k8s.io/csi-translation-lib v0.36.")
    assert len(CASES) > 700
    drivers = {
        case["output"]["spec"]["csi"]["driver"] for case in CASES if case["op"] == "volume_to_csi" and "output" in case
    }
    assert drivers == set(IN_TREE_NAMES)


@cases(*OPERATIONS)
def test_answer_is_the_library_s(case: dict[str, Any]) -> None:
    given = copy.deepcopy(case["input"])

    assert answer(case["op"], given) == (case.get("output"), case.get("error", ""))
    assert given == case["input"], "the argument was changed"


@cases("volume_to_csi", "volume_to_in_tree", only_answered=True)
def test_way_back_ends_where_the_library_s_ends(case: dict[str, Any]) -> None:
    there, _ = answer(case["op"], case["input"])
    other = "volume_to_in_tree" if case["op"] == "volume_to_csi" else "volume_to_csi"
    expected = case["input"] if case.get("back") == "input" else case.get("back")

    assert answer(other, there) == (expected, case.get("backError", ""))


@cases("volume_to_csi")
def test_compact_view_of_a_volume_gives_what_its_json_gives(case: dict[str, Any]) -> None:
    volume = compact_volume(msgspec.convert(case["input"], Volume))
    if "error" in case:
        with pytest.raises(UnusableObjectError) as caught:
            migration.view_to_csi(volume)
        assert str(caught.value) == case["error"]
        return

    assert migration.view_to_csi(volume) == msgspec.convert(case["output"]["spec"], VolumeSpec)
    assert volume == msgspec.convert(case["input"], Volume)


@cases("class_to_csi")
def test_view_of_a_class_gives_what_its_json_gives(case: dict[str, Any]) -> None:
    given, plugin = msgspec.convert(case["input"]["class"], StorageClass), case["input"]["plugin"]
    if "error" in case:
        with pytest.raises(UnusableObjectError) as caught:
            migration.class_view_to_csi(plugin, given)
        assert str(caught.value) == case["error"]
        return

    assert migration.class_view_to_csi(plugin, given) == msgspec.convert(case["output"], StorageClass)


def test_attacher_s_view_keeps_mount_options_mode_and_claim() -> None:
    spec = {
        "awsElasticBlockStore": {"volumeID": "vol-1", "fsType": "xfs"},
        "mountOptions": ["noatime"],
        "volumeMode": "Filesystem",
        "accessModes": ["ReadWriteOnce"],
        "claimRef": {"namespace": "team", "name": "data"},
        "storageClassName": "fast",
    }
    volume = msgspec.convert({"metadata": {"name": "pv-1"}, "spec": spec}, Volume)

    translated = migration.view_to_csi(volume)

    assert translated.csi == CSISource(
        driver="ebs.csi.aws.com", volume_handle="vol-1", fs_type="xfs", volume_attributes={"partition": "0"}
    )
    assert translated.aws_elastic_block_store is None
    assert (translated.mount_options, translated.volume_mode) == (("noatime",), "Filesystem")
    assert translated.claim_ref == volume.spec.claim_ref
    assert translated.storage_class_name == "fast"


def test_secret_of_portworx_is_what_the_attacher_sends() -> None:
    annotations = {"openstorage.io/auth-secret-name": "s", "openstorage.io/auth-secret-namespace": "n"}
    volume = msgspec.convert(
        {"metadata": {"name": "pv-1", "annotations": annotations}, "spec": {"portworxVolume": {"volumeID": "p"}}},
        Volume,
    )
    csi = migration.view_to_csi(volume).csi

    assert csi is not None
    assert csi.controller_publish_secret_ref is not None
    assert (csi.controller_publish_secret_ref.name, csi.controller_publish_secret_ref.namespace) == ("s", "n")


def test_unknown_fields_of_volume_and_source_s_neighbors_survive() -> None:
    given = {
        "metadata": {"name": "pv-1", "ownerReferences": [{"name": "x"}]},
        "spec": {"cinder": {"volumeID": "c"}, "somethingNew": {"a": 1}},
        "status": {"phase": "Bound"},
    }
    translated = migration.volume_to_csi(given)

    assert translated["metadata"] == given["metadata"]
    assert translated["status"] == given["status"]
    assert translated["spec"]["somethingNew"] == {"a": 1}
    assert "cinder" not in translated["spec"]


def test_gce_volume_with_an_empty_list_of_modes_gets_one() -> None:
    """JSON can say so, although the API server leaves an empty list out."""
    given = {"metadata": {"name": "pv-1"}, "spec": {"gcePersistentDisk": {"pdName": "d"}, "accessModes": []}}
    assert migration.volume_to_csi(given)["spec"]["accessModes"] == ["ReadWriteOnce"]


@pytest.mark.parametrize("one", migration.MIGRATIONS, ids=lambda one: one.driver)
def test_every_table_of_the_seven_says_the_same(one: migration.Migration) -> None:
    assert IN_TREE_NAMES[one.driver] == one.in_tree_name
    assert one.driver in MIGRATED_DRIVERS
    assert one.source_field in IN_TREE_SOURCES.values()
    assert migration.find_by_driver(one.driver) is migration.find_by_in_tree_name(one.in_tree_name) is one
    assert len(migration.MIGRATIONS) == len(IN_TREE_NAMES) == len(MIGRATED_DRIVERS) == len(IN_TREE_SOURCES)


@pytest.mark.parametrize("one", migration.MIGRATIONS, ids=lambda one: one.driver)
def test_view_and_json_are_found_by_their_source(one: migration.Migration) -> None:
    given = {"metadata": {"name": "pv-1"}, "spec": {one.source_field: {}}}

    assert migration.find_by_volume(given) is one
    assert migration.find_by_volume(msgspec.convert(given, Volume)) is one


@pytest.mark.parametrize("one", migration.MIGRATIONS, ids=lambda one: one.driver)
def test_absent_and_empty_texts_are_the_same(one: migration.Migration) -> None:
    """The API server always writes a source's required fields; what writes JSON by hand may not."""
    required = ("volumeID", "pdName", "diskURI", "diskName", "shareName", "volumePath")
    empty = dict.fromkeys(required, "")
    always = {"secretName": "s", "secretNamespace": "n"} if one.source_field == "azureFile" else {}

    def translated(source: dict[str, Any]) -> Any:
        return migration.volume_to_csi({"spec": {one.source_field: source | always}})["spec"]["csi"]

    assert translated({}) == translated(empty)


def test_csi_s_own_volume_is_nobody_s_to_migrate() -> None:
    given = {"metadata": {"name": "pv-1"}, "spec": {"csi": {"driver": "ebs.csi.aws.com", "volumeHandle": "vol-1"}}}

    assert migration.find_by_volume(given) is None
    assert migration.find_by_volume(msgspec.convert(given, Volume)) is None
