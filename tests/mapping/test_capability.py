from __future__ import annotations

import pytest

from csisidecar.csi import VolumeCapability
from csisidecar.csi import VolumeCapabilityAccessModeMode as Mode
from csisidecar.errors import UnusableObjectError
from csisidecar.mapping.capability import attach_capability, create_capabilities

RWO, ROX, RWX, RWOP = "ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"


def attach(modes: list[str] | None, *, multi_writer: bool = False, mode: str | None = None) -> VolumeCapability:
    return attach_capability(
        modes, volume_mode=mode, fs_type="ext4", mount_flags=("noatime", "ro"), single_node_multi_writer=multi_writer
    )


def mode_of(capability: VolumeCapability) -> Mode:
    assert capability.access_mode is not None
    return capability.access_mode.mode


@pytest.mark.parity("A-ATTACH-07")
@pytest.mark.parametrize(
    ("modes", "plain", "with_multi_writer"),
    [
        ([RWOP], Mode.SINGLE_NODE_WRITER, Mode.SINGLE_NODE_SINGLE_WRITER),
        ([RWOP, RWOP], Mode.SINGLE_NODE_WRITER, Mode.SINGLE_NODE_SINGLE_WRITER),
        ([RWX], Mode.MULTI_NODE_MULTI_WRITER, Mode.MULTI_NODE_MULTI_WRITER),
        ([RWO, ROX, RWX], Mode.MULTI_NODE_MULTI_WRITER, Mode.MULTI_NODE_MULTI_WRITER),
        (["Strange", RWX], Mode.MULTI_NODE_MULTI_WRITER, Mode.MULTI_NODE_MULTI_WRITER),
        ([ROX], Mode.MULTI_NODE_READER_ONLY, Mode.MULTI_NODE_READER_ONLY),
        ([RWO], Mode.SINGLE_NODE_WRITER, Mode.SINGLE_NODE_MULTI_WRITER),
        (["Strange", RWO, RWO], Mode.SINGLE_NODE_WRITER, Mode.SINGLE_NODE_MULTI_WRITER),
    ],
)
def test_attach_maps_the_set_of_modes(modes: list[str], plain: Mode, with_multi_writer: Mode) -> None:
    for order in (modes, modes[::-1]):
        assert mode_of(attach(order)) is plain
        assert mode_of(attach(order, multi_writer=True)) is with_multi_writer


@pytest.mark.parametrize(
    ("modes", "text"),
    [
        (
            [RWX, RWOP],
            "Kubernetes does not support use of ReadWriteOncePod with other access modes on the same PersistentVolume",
        ),
        (
            ["Strange", RWOP],
            "Kubernetes does not support use of ReadWriteOncePod with other access modes on the same PersistentVolume",
        ),
        ([RWO, ROX], "CSI does not support ReadOnlyMany and ReadWriteOnce on the same PersistentVolume"),
        ([], "unsupported AccessMode combination: []"),
        (None, "unsupported AccessMode combination: []"),
        (["A", "B"], "unsupported AccessMode combination: [A B]"),
    ],
)
def test_attach_refuses_modes_that_csi_cannot_say(modes: list[str] | None, text: str) -> None:
    for multi_writer in (False, True):
        with pytest.raises(UnusableObjectError) as caught:
            attach(modes, multi_writer=multi_writer)
        assert str(caught.value) == text


@pytest.mark.parity("A-ATTACH-08")
@pytest.mark.parametrize("mode", ["Filesystem", None, ""])
def test_filesystem_volumes_carry_type_and_options_in_order(mode: str | None) -> None:
    capability = attach([RWO], mode=mode)
    assert capability.block is None
    assert capability.mount is not None
    assert capability.mount.fs_type == "ext4"
    assert list(capability.mount.mount_flags) == ["noatime", "ro"]


def test_block_volumes_keep_their_empty_access_type_on_the_wire() -> None:
    capability = attach([RWO], mode="Block")
    assert capability.mount is None
    decoded = VolumeCapability.parse(bytes(capability))
    assert decoded.block is not None
    assert decoded.mount is None


def test_an_empty_filesystem_type_still_says_mount_on_the_wire() -> None:
    capability = attach_capability(
        [RWO], volume_mode=None, fs_type="", mount_flags=None, single_node_multi_writer=False
    )
    decoded = VolumeCapability.parse(bytes(capability))
    assert decoded.mount is not None
    assert (decoded.mount.fs_type, list(decoded.mount.mount_flags)) == ("", [])


def create(modes: list[str] | None, *, multi_writer: bool = False) -> list[VolumeCapability]:
    return create_capabilities(
        modes, volume_mode="Filesystem", fs_type="xfs", mount_flags=["discard"], single_node_multi_writer=multi_writer
    )


def test_create_maps_each_mode_alone_in_the_claims_order() -> None:
    modes = [ROX, RWO, RWOP, RWX]
    assert [mode_of(c) for c in create(modes)] == [
        Mode.MULTI_NODE_READER_ONLY,
        Mode.SINGLE_NODE_WRITER,
        Mode.SINGLE_NODE_WRITER,
        Mode.MULTI_NODE_MULTI_WRITER,
    ]
    assert [mode_of(c) for c in create(modes, multi_writer=True)] == [
        Mode.MULTI_NODE_READER_ONLY,
        Mode.SINGLE_NODE_MULTI_WRITER,
        Mode.SINGLE_NODE_SINGLE_WRITER,
        Mode.MULTI_NODE_MULTI_WRITER,
    ]
    assert all(c.mount is not None and c.mount.fs_type == "xfs" for c in create(modes))


def test_create_refuses_an_unknown_mode_and_sends_nothing_for_no_mode() -> None:
    with pytest.raises(UnusableObjectError, match=r"unsupported AccessMode combination: \[Strange\]"):
        create([RWO, "Strange"])
    assert create(None) == []
