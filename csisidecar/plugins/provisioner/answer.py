"""Is the volume that CreateVolume answered with the one that was asked for? Pure.

A volume that is not gets deleted and the claim is tried again; only a fault without a volume leaves nothing to delete.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from csisidecar.csi import CreateVolumeResponse, Volume
    from csisidecar.plugins.provisioner.create_request import VolumePlan


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """What is wrong with an answer."""

    text: str
    volume_id: str = ""
    """The volume to delete, empty when there is none to tell."""
    cleanup_word: str = "Cleanup"
    """How upstream begins the sentence about a clean-up that failed after this fault."""

    def with_cleanup_failure(self, volume_name: str, why: str) -> str:
        """The whole text when the volume could not be deleted either."""
        return f"{self.text}. {self.cleanup_word} of volume {volume_name} failed, volume is orphaned: {why}"


def judge_answer(plan: VolumePlan, response: CreateVolumeResponse) -> Volume | Fault:
    """The volume, when it can become a PV, else what is wrong with it.

    A capacity of 0 means that the driver does not know; a larger one than asked for is accepted.

    Source: external-provisioner `pkg/controller/controller.go`, Provision; CSI spec, "CreateVolume". An answer
    without a volume or an id, which ends the Go provisioner or gives a PV that the API server refuses, is ours; so is
    asking every volume with a source for it, whichever field of the claim named the source.
    """
    volume = response.volume
    if volume is None:
        return Fault(text="the CSI driver answered CreateVolume without a volume")
    if not volume.volume_id:
        return Fault(text="the CSI driver answered CreateVolume with a volume that has no volume_id")
    wanted = plan.draft.size_bytes
    if volume.capacity_bytes and volume.capacity_bytes < wanted:
        return Fault(
            text=f"created volume capacity {volume.capacity_bytes} less than requested capacity {wanted}",
            volume_id=volume.volume_id,
        )
    if plan.content_source is not None and volume.content_source is None:
        return Fault(text="volume content source missing", volume_id=volume.volume_id, cleanup_word="cleanup")
    return volume
