"""Made by `protos/generate.py` from `protos/csi.proto`; never edited."""

SECRET_FIELDS: dict[str, tuple[str, ...]] = {
    "ControllerExpandVolumeRequest": ("secrets",),
    "ControllerModifyVolumeRequest": ("secrets",),
    "ControllerPublishVolumeRequest": ("secrets",),
    "ControllerUnpublishVolumeRequest": ("secrets",),
    "CreateSnapshotRequest": ("secrets",),
    "CreateVolumeRequest": ("secrets",),
    "DeleteSnapshotRequest": ("secrets",),
    "DeleteVolumeRequest": ("secrets",),
    "GetSnapshotRequest": ("secrets",),
    "ListSnapshotsRequest": ("secrets",),
    "NodeExpandVolumeRequest": ("secrets",),
    "NodePublishVolumeRequest": ("secrets",),
    "NodeStageVolumeRequest": ("secrets",),
    "ValidateVolumeCapabilitiesRequest": ("secrets",),
}
