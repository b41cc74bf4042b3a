"""Deleting a volume that was just made and must not be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from csisidecar.csi import DeleteVolumeRequest
from csisidecar.errors import CSIError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from csisidecar.clock import Clock
    from csisidecar.csi import CSIClient

TRIES = 5


async def delete_again(
    csi: CSIClient,
    clock: Clock,
    volume_id: str,
    credentials: Mapping[str, str],
    *,
    timeout_s: float,
    migrated: str | None = None,
) -> None:
    """Delete the volume in at most `TRIES` calls without a pause, all within one `timeout_s`.

    The key's backoff is not enough here: once the attempt ends, only CreateVolume's being idempotent leads back to
    this volume, and a driver that answered wrongly once may not be.

    Raises:
        CSIError: the last call's; the volume is still there.

    Source: external-provisioner `pkg/controller/controller.go`, cleanupVolume.
    """
    end_s = clock.monotonic() + timeout_s
    for tries_left in reversed(range(TRIES)):
        left_s = end_s - clock.monotonic()
        try:
            await csi.delete_volume(
                DeleteVolumeRequest(volume_id=volume_id, secrets=dict(credentials)),
                timeout_s=max(left_s, 0.0),
                migrated=migrated,
            )
        except CSIError:
            if tries_left == 0:
                raise
        else:
            return
