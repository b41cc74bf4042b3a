"""The pure parts: claim, class and answer → request, PV, outcome and Event text, with values from the documents."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from csisidecar.config import PluginSettings, ProvisionerSettings
from csisidecar.csi import (
    CreateVolumeResponse,
    DriverInfo,
    Topology,
    VolumeContentSource,
    VolumeContentSourceSnapshotSource,
)
from csisidecar.csi import Volume as DriverVolume
from csisidecar.errors import ConfigError, CSIError, StatusCode, UnusableObjectError
from csisidecar.kube import Claim, ClaimSpec, Metadata, ObjectRef, Requests, StorageClass
from csisidecar.plugins.provisioner import Provisioner, factory, names
from csisidecar.plugins.provisioner.answer import Fault, judge_answer
from csisidecar.plugins.provisioner.create_request import (
    RESERVED_KEYS,
    VolumePlan,
    build_request,
    draft_volume,
    driver_parameters,
    find_fs_type,
    find_secret_refs,
)
from csisidecar.plugins.provisioner.data_source import DataSource, check_data_source, find_data_source
from csisidecar.plugins.provisioner.history import short_duration, with_history
from csisidecar.plugins.provisioner.outcome import Outcome, classify, create_failed
from csisidecar.plugins.provisioner.persistent_volume import build_node_affinity, build_persistent_volume
from csisidecar.runtime import Attempt

UID = "4d5a8f5a-7d7e-4a3f-9a57-2f6c1f0e9b11"
P = "csi.storage.k8s.io/"


def claim(**spec: Any) -> Claim:
    given = {"access_modes": ("ReadWriteOnce",), "storage_class_name": "fast", **spec}
    size = given.pop("size", "1Gi")
    requests = None if size is None else Requests(requests={"storage": size})
    meta = Metadata(name="data", namespace="team", uid=UID, resource_version="7", annotations={"who": "me"})
    return Claim(metadata=meta, spec=ClaimSpec(resources=requests, **given))


def storage_class(**more: Any) -> StorageClass:
    return StorageClass(metadata=Metadata(name="fast", uid="c1"), provisioner="csi.test.io", **more)


def driver(*controller: str) -> DriverInfo:
    return DriverInfo(
        name="csi.test.io",
        plugin_capabilities=frozenset({"CONTROLLER_SERVICE"}),
        controller_capabilities=frozenset({"CREATE_DELETE_VOLUME", *controller}),
    )


def plan(
    a_claim: Claim | None = None,
    a_class: StorageClass | None = None,
    info: DriverInfo | None = None,
    **settings: Any,
) -> VolumePlan:
    configured = ProvisionerSettings(**settings)
    draft = draft_volume(a_claim or claim(), a_class or storage_class(), info or driver(), configured)
    parameters = driver_parameters(draft, extra_create_metadata=configured.extra_create_metadata)
    return VolumePlan(draft=draft, parameters=parameters, secret_refs=find_secret_refs(draft))


def volume_of(the_plan: VolumePlan, **more: Any) -> dict[str, Any]:
    answer = {"volume_id": "h1", "capacity_bytes": 0, **more.pop("volume", {})}
    given = {
        "driver_name": "csi.test.io",
        "identity": "1-2-csi.test.io",
        "read_only_from_access_mode": False,
        "has_topology": True,
        **more,
    }
    return build_persistent_volume(the_plan, the_plan.draft.claim, DriverVolume(**answer), **given)


@pytest.mark.parity("P-CREATE-01")
@pytest.mark.parametrize(
    ("prefix", "length", "name"),
    [
        ("pvc", -1, f"pvc-{UID}"),
        ("disk", -1, f"disk-{UID}"),
        ("pvc", 8, "pvc-4d5a8f5a"),
        ("pvc", 10, "pvc-4d5a8f5a7d"),
        ("pvc", 32, "pvc-4d5a8f5a7d7e4a3f9a572f6c1f0e9b11"),
    ],
)
def test_volume_names(prefix: str, length: int, name: str) -> None:
    settings = ProvisionerSettings(volume_name_prefix=prefix, volume_name_uuid_length=length)
    assert names.volume_name(UID, settings) == name


def test_impossible_names_are_refused_at_the_start_and_a_claim_without_uid_later() -> None:
    for length in (0, -2, 33):
        with pytest.raises(ConfigError, match="--volume-name-uuid-length"):
            ProvisionerSettings(volume_name_uuid_length=length)
    with pytest.raises(ConfigError, match="--volume-name-prefix"):
        ProvisionerSettings(volume_name_prefix="")
    with pytest.raises(UnusableObjectError, match="corrupted PVC object, it is missing UID"):
        names.volume_name("", ProvisionerSettings())


@pytest.mark.parametrize(
    ("driver_name", "lease"),
    [("csi.test.io", "csi-test-io"), ("a_b/c-", "a-b-c-X"), ("x.", "x-X"), ("plain", "plain")],
)
def test_lease_name_is_the_go_provisioners(driver_name: str, lease: str) -> None:
    assert factory(PluginSettings()).lease_name(driver_name) == lease


def test_factory_takes_plain_settings_and_its_own() -> None:
    own = ProvisionerSettings(volume_name_prefix="disk")
    assert factory(own).settings is own
    assert isinstance(factory(PluginSettings(timeout_s=3)), Provisioner)
    assert factory(PluginSettings(timeout_s=3)).settings.timeout_s == 3


@pytest.mark.parity("P-CREATE-03")
@pytest.mark.parametrize(
    ("size", "wanted"),
    [("1Gi", 1073741824), ("1500m", 2), ("1e3", 1000), (5, 5), (None, 0), ("0", 0), ("9E", 9 * 10**18)],
)
def test_size_is_whole_bytes_rounded_up(size: Any, wanted: int) -> None:
    request = build_request(plan(claim(size=size)), {})
    assert request.capacity_range is not None
    assert (request.capacity_range.required_bytes, request.capacity_range.limit_bytes) == (wanted, 0)


def test_source_needs_a_name_and_a_snapshot_its_group() -> None:
    for kind, group, name, why in (
        ("VolumeSnapshot", "snapshot.storage.k8s.io", "", "the PVC source not found for PVC data"),
        ("VolumeSnapshot", "", "s", "Expected snapshot.storage.k8s.io, Got "),
    ):
        with pytest.raises(UnusableObjectError, match=why):
            check_data_source(DataSource(kind=kind, group=group, namespace="team", name=name), "data")
    # The group of a claim is not looked at.
    check_data_source(DataSource(kind="PersistentVolumeClaim", group="x", namespace="team", name="s"), "data")


@pytest.mark.parity("P-SOURCE-10")
def test_empty_namespace_of_a_reference_is_the_claims_own() -> None:
    reference = ObjectRef(kind="PersistentVolumeClaim", namespace="", name="old")
    for grants_in in (None, lambda namespace: ()):
        found = find_data_source(claim(data_source_ref=reference), grants_in)
        assert found is not None
        assert found.namespace == "team"


def test_size_that_is_no_quantity_is_refused() -> None:
    with pytest.raises(UnusableObjectError, match="requested storage 'much'"):
        plan(claim(size="much"))


@pytest.mark.parity("P-CREATE-12")
@pytest.mark.parametrize(
    ("parameters", "default", "found"),
    [
        ({}, "", ""),
        ({}, "ext4", "ext4"),
        ({f"{P}fstype": "xfs"}, "ext4", "xfs"),
        ({"fstype": "xfs"}, "ext4", "xfs"),
        ({"FSType": "xfs"}, "", "xfs"),
        ({"FSTYPE": ""}, "ext4", "ext4"),
        ({f"{P}FsType": "xfs"}, "ext4", "ext4"),
    ],
)
def test_file_system_type(parameters: dict[str, str], default: str, found: str) -> None:
    assert find_fs_type(parameters, default) == found


def test_file_system_type_named_twice_is_refused_even_if_equal() -> None:
    for twice in ({"fstype": "xfs", "FSType": "xfs"}, {f"{P}fstype": "a", "fstype": "a"}):
        with pytest.raises(UnusableObjectError, match='fstype specified in parameters with both "fstype" and'):
            find_fs_type(twice, "")


@pytest.mark.parity("P-CREATE-02")
@pytest.mark.parametrize(
    ("modes", "plain", "multi"),
    [
        (("ReadWriteOnce",), [1], [7]),
        (("ReadOnlyMany",), [3], [3]),
        (("ReadWriteMany",), [5], [5]),
        (("ReadWriteOncePod",), [1], [6]),
        (("ReadOnlyMany", "ReadWriteOnce"), [3, 1], [3, 7]),
        ((), [], []),
    ],
)
def test_one_capability_for_each_access_mode_in_the_claims_order(
    modes: tuple[str, ...], plain: list[int], multi: list[int]
) -> None:
    for info, wanted in ((driver(), plain), (driver("SINGLE_NODE_MULTI_WRITER"), multi)):
        capabilities = build_request(plan(claim(access_modes=modes), info=info), {}).volume_capabilities
        assert [int(item.access_mode.mode) for item in capabilities if item.access_mode] == wanted


def test_unknown_access_mode_is_refused() -> None:
    with pytest.raises(UnusableObjectError, match=r"unsupported AccessMode combination: \[Sometimes\]"):
        plan(claim(access_modes=("Sometimes",)))


def test_block_volumes_have_no_file_system() -> None:
    the_plan = plan(claim(volume_mode="Block"), default_fstype="ext4")
    (capability,) = build_request(the_plan, {}).volume_capabilities
    assert capability.block is not None
    assert capability.mount is None
    volume = volume_of(the_plan)
    assert "fsType" not in volume["spec"]["csi"]
    assert volume["spec"]["volumeMode"] == "Block"


@pytest.mark.parity("P-CREATE-13")
def test_seventeen_keys_never_reach_the_driver_and_deprecated_ones_do() -> None:
    assert len(RESERVED_KEYS) == 17
    pairs = {key: "s" for key in RESERVED_KEYS if "secret" in key}
    old = {"fstype": "", "csiNodeStageSecretName": "x"}
    passed = {"tier": "gold"}
    draft = draft_volume(claim(), storage_class(parameters={**pairs, **old, **passed}), driver(), ProvisionerSettings())
    assert driver_parameters(draft, extra_create_metadata=False) == {**old, **passed}


@pytest.mark.parity("P-CREATE-14")
def test_extra_metadata_names_the_claim_and_the_volume() -> None:
    assert dict(plan(extra_create_metadata=True).parameters) == {
        "csi.storage.k8s.io/pvc/name": "data",
        "csi.storage.k8s.io/pvc/namespace": "team",
        "csi.storage.k8s.io/pv/name": f"pvc-{UID}",
    }


def test_every_secret_has_its_place_in_the_pv() -> None:
    slugs = ("controller-publish", "node-stage", "node-publish", "controller-expand", "node-expand")
    parameters = {
        f"{P}{slug}-secret-{half}": f"{slug}" if half == "name" else "ns"
        for slug in (*slugs, "provisioner", "controller-modify")
        for half in ("name", "namespace")
    }
    volume = volume_of(plan(a_class=storage_class(parameters=parameters)))
    source = volume["spec"]["csi"]
    assert {key: value for key, value in source.items() if key.endswith("SecretRef")} == {
        "controllerPublishSecretRef": {"name": "controller-publish", "namespace": "ns"},
        "nodeStageSecretRef": {"name": "node-stage", "namespace": "ns"},
        "nodePublishSecretRef": {"name": "node-publish", "namespace": "ns"},
        "controllerExpandSecretRef": {"name": "controller-expand", "namespace": "ns"},
        "nodeExpandSecretRef": {"name": "node-expand", "namespace": "ns"},
    }
    assert volume["metadata"]["annotations"] == {
        "pv.kubernetes.io/provisioned-by": "csi.test.io",
        "volume.kubernetes.io/provisioner-deletion-secret-name": "provisioner",
        "volume.kubernetes.io/provisioner-deletion-secret-namespace": "ns",
        "volume.kubernetes.io/controller-modify-secret-name": "controller-modify",
        "volume.kubernetes.io/controller-modify-secret-namespace": "ns",
    }


@pytest.mark.parity("P-SAVE-02")
@pytest.mark.parametrize(
    ("answered", "shown"),
    [(0, "1Gi"), (1073741824, "1Gi"), (1073741825, "1073741825"), (3 * 2**40, "3Ti"), (2**30 + 2**20, "1025Mi")],
)
def test_size_of_the_pv_is_what_the_driver_made(answered: int, shown: str) -> None:
    volume = volume_of(plan(), volume={"capacity_bytes": answered})
    assert volume["spec"]["capacity"] == {"storage": shown}


def test_size_below_1024_is_written_in_decimal() -> None:
    assert volume_of(plan(claim(size="1000")))["spec"]["capacity"] == {"storage": "1k"}


@pytest.mark.parity("P-SAVE-10")
def test_volume_context_may_overwrite_the_identity() -> None:
    key = "storage.kubernetes.io/csiProvisionerIdentity"
    plain = volume_of(plan(), volume={"volume_context": {"a": "b"}})
    assert plain["spec"]["csi"]["volumeAttributes"] == {key: "1-2-csi.test.io", "a": "b"}
    own = volume_of(plan(), volume={"volume_context": {key: "driver"}})
    assert own["spec"]["csi"]["volumeAttributes"] == {key: "driver"}


@pytest.mark.parity("P-SAVE-08")
@pytest.mark.parametrize(
    ("modes", "flag", "read_only"),
    [
        (("ReadOnlyMany",), True, True),
        (("ReadOnlyMany",), False, False),
        (("ReadWriteOnce",), True, False),
        (("ReadOnlyMany", "ReadWriteMany"), True, False),
    ],
)
def test_read_only_volume_needs_the_flag_and_only_that_mode(
    modes: tuple[str, ...], flag: bool, read_only: bool
) -> None:
    volume = volume_of(plan(claim(access_modes=modes)), read_only_from_access_mode=flag)
    assert volume["spec"]["csi"].get("readOnly", False) is read_only


def test_what_the_claim_and_the_class_leave_out_is_left_out() -> None:
    spec = volume_of(plan())["spec"]
    assert {"mountOptions", "persistentVolumeReclaimPolicy", "volumeMode", "nodeAffinity"}.isdisjoint(spec)
    assert "fsType" not in spec["csi"]


@pytest.mark.parity("P-SAVE-09")
def test_node_affinity_has_one_term_a_place_in_the_drivers_order() -> None:
    places = [Topology(segments={"zone": "b", "rack": "1"}), Topology(), Topology(segments={"zone": "a"})]
    assert build_node_affinity(places) == {
        "required": {
            "nodeSelectorTerms": [
                {
                    "matchExpressions": [
                        {"key": "rack", "operator": "In", "values": ["1"]},
                        {"key": "zone", "operator": "In", "values": ["b"]},
                    ]
                },
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]},
            ]
        }
    }
    assert build_node_affinity([]) is None
    assert build_node_affinity([Topology()]) is None
    there = {"volume": {"accessible_topology": places}}
    assert "nodeAffinity" in volume_of(plan(), **there)["spec"]
    assert "nodeAffinity" not in volume_of(plan(), has_topology=False, **there)["spec"]


def test_answers_that_cannot_become_a_volume() -> None:
    the_plan = plan()
    good = DriverVolume(volume_id="h1", capacity_bytes=2**31)
    assert judge_answer(the_plan, CreateVolumeResponse(volume=good)) is good
    unknown = DriverVolume(volume_id="h1")
    assert judge_answer(the_plan, CreateVolumeResponse(volume=unknown)) is unknown
    nameless = judge_answer(the_plan, CreateVolumeResponse(volume=DriverVolume(capacity_bytes=2**31)))
    assert isinstance(nameless, Fault)
    assert nameless.volume_id == ""
    content = VolumeContentSource(snapshot=VolumeContentSourceSnapshotSource(snapshot_id="s"))
    filled = replace(the_plan, content_source=content)
    fault = judge_answer(filled, CreateVolumeResponse(volume=good))
    assert isinstance(fault, Fault)
    assert fault.with_cleanup_failure("pv1", "stuck") == (
        "volume content source missing. cleanup of volume pv1 failed, volume is orphaned: stuck"
    )
    from_source = DriverVolume(volume_id="h1", content_source=VolumeContentSource())
    assert judge_answer(filled, CreateVolumeResponse(volume=from_source)) is from_source


@pytest.mark.parity("P-CREATE-05")
@pytest.mark.parametrize("code", [code for code in StatusCode if code is not StatusCode.OK])
def test_outcome_of_every_code(code: StatusCode) -> None:
    error = CSIError("CreateVolume", code, "why")
    open_codes = {"Canceled", "DeadlineExceeded", "Unavailable", "Aborted"}
    wanted = Outcome.IN_PROGRESS if code.label in open_codes else Outcome.FINAL
    assert classify(error, may_reschedule=False) is wanted
    elsewhere = Outcome.RESCHEDULE if code is StatusCode.RESOURCE_EXHAUSTED else wanted
    assert classify(error, may_reschedule=True) is elsewhere
    failed = create_failed(error, may_reschedule=False)
    assert failed.is_infeasible is (code is StatusCode.INVALID_ARGUMENT)
    assert str(failed) == f"rpc error: code = {code.label} desc = why"


@pytest.mark.parity("P-CREATE-10")
def test_history_follows_from_the_second_failure_on() -> None:
    first = Attempt(controller="claims", key="u")
    assert with_history("Aborted", first) == "Aborted"
    since = datetime(2026, 11, 21, 19, 41, 29, tzinfo=UTC)
    later = Attempt(controller="claims", key="u", failures=3, first_failure="disk full", since=since, next_delay_s=8.2)
    assert with_history("Aborted", later) == (
        "Aborted (first: disk full; 4 attempts since 2026-11-21T19:41:29Z; next in about 8s)"
    )
    long = replace(later, first_failure="x" * 1000)
    assert len(with_history("Aborted", long)) < 400
    assert with_history("disk full", later) == "disk full (4 attempts since 2026-11-21T19:41:29Z; next in about 8s)"
    assert with_history("a", later, "a").startswith("a (4 attempts since ")
    assert with_history("disk full", later, "a").startswith("disk full (first: a; 4 attempts since ")
    # An Event takes 1,024 bytes: the end of a long error goes, what is appended stays.
    told = with_history("ü" * 1000, later, "no space")
    assert len(told.encode()) in (1023, 1024)
    assert told.endswith("ü (first: no space; 4 attempts since 2026-11-21T19:41:29Z; next in about 8s)")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "250ms"), (1, "1s"), (59.6, "1m0s"), (64, "1m4s"), (300, "5m0s"), (3600, "1h0m0s"), (0, "0s")],
)
def test_durations_read_as_in_go(seconds: float, text: str) -> None:
    assert short_duration(seconds) == text
