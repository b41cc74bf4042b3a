"""Access modes, volume mode, file system and mount options of a Kubernetes volume → CSI VolumeCapability.

Attaching needs one capability that covers all modes of a volume together; creating sends one for each mode.
Callers decide beforehand which file system type counts; nothing here knows a default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from csisidecar.csi import (
    VolumeCapability,
    VolumeCapabilityAccessMode,
    VolumeCapabilityAccessModeMode,
    VolumeCapabilityBlockVolume,
    VolumeCapabilityMountVolume,
)
from csisidecar.errors import UnusableObjectError

if TYPE_CHECKING:
    from collections.abc import Sequence

READ_WRITE_ONCE = "ReadWriteOnce"
READ_ONLY_MANY = "ReadOnlyMany"
READ_WRITE_MANY = "ReadWriteMany"
READ_WRITE_ONCE_POD = "ReadWriteOncePod"

_Mode = VolumeCapabilityAccessModeMode


def attach_capability(
    access_modes: Sequence[str] | None,
    *,
    volume_mode: str | None,
    fs_type: str,
    mount_flags: Sequence[str] | None,
    single_node_multi_writer: bool,
) -> VolumeCapability:
    """The one capability a volume is attached with; its access modes count as a set.

    Args:
        access_modes: `spec.accessModes`; order and repeats do not matter.
        volume_mode: `spec.volumeMode`; everything but ``Block`` means a file system.
        fs_type: file system type, may be empty; not sent for block volumes.
        mount_flags: `spec.mountOptions`, sent in order; not sent for block volumes.
        single_node_multi_writer: whether the driver has the controller capability SINGLE_NODE_MULTI_WRITER.

    Raises:
        UnusableObjectError: no CSI access mode says what these modes say together.

    Source: csi-lib-utils `accessmodes/access_modes.go`, ToCSIAccessMode; external-attacher
    `pkg/controller/util.go`, GetVolumeCapabilities.
    """
    mode = _combined_mode(access_modes or (), single_node_multi_writer)
    return _capability(mode, volume_mode, fs_type, mount_flags)


def create_capabilities(
    access_modes: Sequence[str] | None,
    *,
    volume_mode: str | None,
    fs_type: str,
    mount_flags: Sequence[str] | None,
    single_node_multi_writer: bool,
) -> list[VolumeCapability]:
    """One capability for each access mode of a claim, in the claim's order, each mapped alone.

    The arguments are those of `attach_capability`. Modes that exclude each other on attach are all sent here.

    Raises:
        UnusableObjectError: an access mode that Kubernetes does not define.

    Source: external-provisioner `pkg/controller/controller.go`, getVolumeCapabilities.
    """
    return [
        _capability(_combined_mode((mode,), single_node_multi_writer), volume_mode, fs_type, mount_flags)
        for mode in access_modes or ()
    ]


def _combined_mode(access_modes: Sequence[str], single_node_multi_writer: bool) -> VolumeCapabilityAccessModeMode:
    modes = frozenset(access_modes)
    if READ_WRITE_ONCE_POD in modes:
        if len(modes) > 1:
            raise UnusableObjectError(
                "Kubernetes does not support use of ReadWriteOncePod with other access modes"
                " on the same PersistentVolume"
            )
        return _Mode.SINGLE_NODE_SINGLE_WRITER if single_node_multi_writer else _Mode.SINGLE_NODE_WRITER
    if READ_WRITE_MANY in modes:
        return _Mode.MULTI_NODE_MULTI_WRITER
    if READ_ONLY_MANY in modes:
        if READ_WRITE_ONCE in modes:
            raise UnusableObjectError(
                "CSI does not support ReadOnlyMany and ReadWriteOnce on the same PersistentVolume"
            )
        return _Mode.MULTI_NODE_READER_ONLY
    if READ_WRITE_ONCE in modes:
        return _Mode.SINGLE_NODE_MULTI_WRITER if single_node_multi_writer else _Mode.SINGLE_NODE_WRITER
    raise UnusableObjectError(f"unsupported AccessMode combination: [{' '.join(access_modes)}]")


def _capability(
    mode: VolumeCapabilityAccessModeMode, volume_mode: str | None, fs_type: str, mount_flags: Sequence[str] | None
) -> VolumeCapability:
    access_mode = VolumeCapabilityAccessMode(mode=mode)
    if volume_mode == "Block":
        return VolumeCapability(block=VolumeCapabilityBlockVolume(), access_mode=access_mode)
    mount = VolumeCapabilityMountVolume(fs_type=fs_type, mount_flags=list(mount_flags or ()))
    return VolumeCapability(mount=mount, access_mode=access_mode)
