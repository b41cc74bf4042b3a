"""Feature gates: which are on, which are told."""

from __future__ import annotations

import pytest

from csisidecar.cli.gates import is_on, notices


@pytest.mark.parametrize(
    ("name", "given", "on"),
    [
        ("Topology", {}, True),
        ("Topology", {"Topology": False}, False),
        ("Topology", {"AllAlpha": False}, True),
        ("CrossNamespaceVolumeDataSource", {}, False),
        ("CrossNamespaceVolumeDataSource", {"AllAlpha": True}, True),
        ("CrossNamespaceVolumeDataSource", {"AllAlpha": True, "CrossNamespaceVolumeDataSource": False}, False),
        ("MutableCSINodeAllocatableCount", {"AllBeta": False}, True),
    ],
)
def test_own_settings_beat_groups(name: str, given: dict[str, bool], on: bool) -> None:
    assert is_on(name, given) is on


@pytest.mark.parity("R-FLAG-06")
def test_unknown_gates_are_told_once() -> None:
    told = notices({"WatchList": True, "HonorPVReclaimPolicy": True, "Topology": True}, ("provisioner",))
    assert [notice.fields["gates"] for notice in told] == ["HonorPVReclaimPolicy,WatchList"]
    assert "unknown" in told[0].message


def test_a_gate_of_another_mode_is_unknown() -> None:
    assert notices({"Topology": False}, ("attacher",))
    assert not notices({"Topology": False}, ("attacher", "provisioner"))


def test_accepted_gates_are_silent() -> None:
    assert not notices({"CrossNamespaceVolumeDataSource": True, "VolumeAttributesClass": True}, ("provisioner",))
    assert not notices({"AllAlpha": True, "AllBeta": False, "ReleaseLeaderElectionOnExit": True}, ("attacher",))
