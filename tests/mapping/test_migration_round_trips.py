"""What survives a translation there and back, over volumes that nobody wrote down."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csisidecar.errors import UnusableObjectError
from csisidecar.kube import Volume, VolumeSpec
from csisidecar.mapping import migration

if TYPE_CHECKING:
    from collections.abc import Callable

WORDS = st.text("abcxyz0189-", min_size=1, max_size=12)
MAYBE = st.one_of(st.just(""), st.sampled_from(["ext4", "xfs"]))
GA_ZONE, GA_REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"


def volume(source: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "pv-1"}, "spec": {"csi": source, **spec}}


def affinity(key: str, zones: list[str]) -> dict[str, Any]:
    return {
        "required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": "In", "values": zones}]}]}
    }


def message_of(translate: Callable[[Any], Any], given: Any) -> str:
    """The refusal's text, empty when there was none."""
    try:
        translate(given)
    except UnusableObjectError as error:
        return str(error)
    return ""


def there_and_back(pv: dict[str, Any]) -> dict[str, Any]:
    before = copy.deepcopy(pv)
    stored = migration.volume_to_in_tree(pv)
    assert pv == before
    assert "csi" not in stored["spec"]
    assert migration.find_by_volume(stored) is not None
    return migration.volume_to_csi(stored)


@given(
    driver=st.sampled_from(["ebs.csi.aws.com", "cinder.csi.openstack.org", "pxd.portworx.com"]),
    handle=WORDS,
    fs_type=MAYBE,
)
def test_handle_and_file_system_come_back(driver: str, handle: str, fs_type: str) -> None:
    csi = there_and_back(volume({"driver": driver, "volumeHandle": handle, "fsType": fs_type}))["spec"]["csi"]

    assert (csi["driver"], csi["volumeHandle"], csi.get("fsType", "")) == (driver, handle, fs_type)


@given(
    partition=st.integers(-(2**31), 2**31 - 1),
    read_only=st.booleans(),
    driver=st.sampled_from(["ebs.csi.aws.com", "pd.csi.storage.gke.io"]),
)
def test_partition_and_read_only_come_back(partition: int, read_only: bool, driver: str) -> None:
    handle = "projects/p/zones/us-central1-a/disks/d"
    attributes = {"partition": str(partition)}
    csi = {"driver": driver, "volumeHandle": handle, "volumeAttributes": attributes, "readOnly": read_only}
    found = there_and_back(volume(csi))["spec"]["csi"]

    assert int(found["volumeAttributes"]["partition"] or 0) == partition
    assert found.get("readOnly", False) is read_only


@given(
    disk=WORDS,
    project=WORDS,
    region=st.sampled_from(["us-central1", "europe-west4"]),
    letters=st.sets(st.sampled_from("abcf"), min_size=1),
)
def test_gce_handle_comes_back_with_the_help_of_a_node(disk: str, project: str, region: str, letters: set[str]) -> None:
    zones = sorted(f"{region}-{letter}" for letter in letters)
    place = f"zones/{zones[0]}" if len(zones) == 1 else f"regions/{region}"
    handle = f"projects/{project}/{place}/disks/{disk}"
    pv = volume(
        {"driver": "pd.csi.storage.gke.io", "volumeHandle": handle},
        nodeAffinity=affinity("topology.gke.io/zone", zones),
    )
    back = there_and_back(pv)["spec"]["csi"]["volumeHandle"]

    assert back == f"projects/UNSPECIFIED/{place}/disks/{disk}"
    node = f"projects/{project}/zones/{zones[-1]}/instances/n"
    assert migration.complete_handle("pd.csi.storage.gke.io", back, node) == handle


@given(zones=st.sets(st.sampled_from(["us-east-1a", "us-east-1b", "us-east-1-bos-1a"]), min_size=1))
def test_zones_come_back_under_the_driver_s_key_with_region_and_labels_added(zones: set[str]) -> None:
    key = "topology.ebs.csi.aws.com/zone"
    pv = volume({"driver": "ebs.csi.aws.com", "volumeHandle": "vol-1"}, nodeAffinity=affinity(key, sorted(zones)))
    found = there_and_back(pv)

    (term,) = found["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [
        {"key": key, "operator": "In", "values": sorted(zones)},
        {"key": GA_REGION, "operator": "In", "values": ["us-east-1"]},
    ]
    assert found["metadata"]["labels"] == {GA_ZONE: "__".join(sorted(zones)), GA_REGION: "us-east-1"}


@given(share=WORDS, account=WORDS, group=WORDS)
def test_azure_file_share_account_and_group_come_back(share: str, account: str, group: str) -> None:
    pv = volume({"driver": "file.csi.azure.com", "volumeHandle": f"{group}#{account}#{share}"})

    assert there_and_back(pv)["spec"]["csi"]["volumeHandle"] == f"{group}#{account}#{share}#pv-1#default"


SOURCES = st.fixed_dictionaries(
    {},
    optional={
        name: st.text(max_size=20)
        for name in (
            "volumeID",
            "pdName",
            "diskName",
            "diskURI",
            "kind",
            "cachingMode",
            "secretName",
            "shareName",
            "secretNamespace",
            "volumePath",
            "storagePolicyName",
            "fsType",
        )
    }
    | {"readOnly": st.booleans(), "partition": st.integers(0, 255)},
)
LABELS = st.dictionaries(
    st.sampled_from(
        [GA_ZONE, GA_REGION, "failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region"]
    ),
    st.text("abu-_1", max_size=20),
)


@pytest.mark.parametrize("one", migration.MIGRATIONS, ids=lambda one: one.driver)
@given(
    source=SOURCES,
    labels=LABELS,
    modes=st.one_of(st.none(), st.lists(st.sampled_from(["ReadWriteOnce", "ReadOnlyMany"]))),
)
def test_any_volume_is_translated_or_refused_alike_as_view_and_as_json(
    one: migration.Migration, source: dict[str, Any], labels: dict[str, str], modes: list[str] | None
) -> None:
    spec: dict[str, Any] = {one.source_field: source, "claimRef": {"namespace": "team"}}
    if modes is not None:
        spec["accessModes"] = modes
    pv = {"metadata": {"name": "pv-1", "labels": labels}, "spec": spec}
    view = msgspec.convert(pv, Volume)
    said = message_of(migration.volume_to_csi, pv)
    assert message_of(migration.view_to_csi, view) == said
    if said:
        return
    translated = migration.volume_to_csi(pv)

    assert translated["spec"]["csi"]["driver"] == one.driver
    assert one.source_field not in translated["spec"]
    assert migration.view_to_csi(view) == msgspec.convert(translated["spec"], VolumeSpec)
