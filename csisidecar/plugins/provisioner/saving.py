"""Storing the PV of a volume that was made; the one place where a provisioned volume becomes known to the cluster."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from csisidecar.errors import AlreadyExistsError, CSIError, UnusableObjectError
from csisidecar.kube import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from csisidecar.mapping import migration
from csisidecar.plugins.provisioner.cleanup import delete_again
from csisidecar.plugins.provisioner.credentials import fetch_credentials
from csisidecar.plugins.provisioner.outcome import Outcome, ProvisionError
from csisidecar.runtime import Regarding

if TYPE_CHECKING:
    from csisidecar.config import ProvisionerSettings
    from csisidecar.kube import Claim
    from csisidecar.plugin import PluginContext
    from csisidecar.plugins.life_metrics import LifeMetrics
    from csisidecar.plugins.provisioner.memory import CreatedVolume, Memory
    from csisidecar.runtime import Store

logger = logging.getLogger(__name__)

BY_UID = "by uid"
"""Index of the claim store."""


class VolumeSaver:
    """Stores PVs, for the claim's own attempt and for the queue of those that could not be stored."""

    def __init__(
        self, ctx: PluginContext, settings: ProvisionerSettings, memory: Memory, claims: Store[Claim], life: LifeMetrics
    ) -> None:
        self._ctx = ctx
        self._settings = settings
        self._memory = memory
        self._claims = claims
        self._life = life

    async def save(self, created: CreatedVolume) -> None:
        """Store the PV, or find that it is stored.

        Raises:
            KubeError: the API server refused or did not answer; the volume stays among the unsaved.
            ProvisionError: the name belongs to a PV of another claim or volume. The new volume was deleted,
                unless that PV names it; if even that failed, it stays among the unsaved.
        """
        name = created.plan.draft.name
        try:
            await self._ctx.kube.create(PERSISTENT_VOLUMES, created.body)
        except AlreadyExistsError:
            existing = await self._ctx.kube.get(PERSISTENT_VOLUMES, name)
            difference = find_difference(existing, created)
            if difference:
                await self._give_up(created, existing, difference)
        self._saved(created)

    def _saved(self, created: CreatedVolume) -> None:
        name, uid = created.plan.draft.name, created.claim.uid
        self._memory.forget_unsaved(name)
        self._life.succeeded("provision", self._memory.claims_seen.get(uid))
        self._memory.settle_claim(uid)
        logger.info(
            "volume provisioned", extra={"volume": name, "handle": created.handle, "claim": str(created.claim.key)}
        )
        if created.elsewhere:
            logger.warning(
                "the driver made a volume outside of the places that it was asked for",
                extra={"volume": name, "claim": str(created.claim.key), "places": created.elsewhere},
            )
        claims = self._claims.by_index(BY_UID, uid)
        if not claims:
            self._memory.forget_claim(uid)
        for claim in claims:
            if not claim.spec.volume_name:
                self._memory.stored[uid] = name
            self._ctx.events.event(
                Regarding.of(PERSISTENT_VOLUME_CLAIMS, claim),
                "Normal",
                "ProvisioningSucceeded",
                f"Successfully provisioned volume {name}",
            )
            if created.elsewhere:
                self._ctx.events.event(
                    Regarding.of(PERSISTENT_VOLUME_CLAIMS, claim),
                    "Warning",
                    "VolumeElsewhere",
                    f"The driver made volume {name} outside of the places that it was asked for; it can be used from"
                    f" {created.elsewhere}",
                )

    async def _give_up(self, created: CreatedVolume, existing: dict[str, Any], difference: str) -> None:
        name = created.plan.draft.name
        text = f"PersistentVolume {name} exists already and {difference}; it is not adopted"
        if not names_volume(existing, created):
            try:
                credentials = await fetch_credentials(self._ctx.kube, created.plan.provisioner_secret)
                await delete_again(
                    self._ctx.csi,
                    self._ctx.clock,
                    created.handle,
                    credentials,
                    timeout_s=self._settings.timeout_s,
                    migrated="true" if created.plan.draft.is_migrated else None,
                )
            except (CSIError, UnusableObjectError) as error:
                raise ProvisionError(
                    f"{text}. Cleanup of volume {name} failed, volume is orphaned: {error}", Outcome.IN_PROGRESS
                ) from error
        self._memory.forget_unsaved(name)
        raise ProvisionError(text, Outcome.FINAL)


def find_difference(existing: dict[str, Any], created: CreatedVolume) -> str:
    """Why a PV of the same name is not the one we wanted to store; empty when it is."""
    claim_ref = (existing.get("spec") or {}).get("claimRef") or {}
    if claim_ref.get("uid") != created.claim.uid:
        owner = f"{claim_ref.get('namespace', '')}/{claim_ref.get('name', '')}" if claim_ref else "no claim"
        return f"belongs to {owner} with UID {claim_ref.get('uid') or 'unknown'}"
    found, wanted = _source_of(existing), _source_of(created.body)
    if (found.get("driver"), found.get("volumeHandle")) != (wanted.get("driver"), wanted.get("volumeHandle")):
        return f"names volume {found.get('volumeHandle') or 'unknown'}, but CreateVolume gave {created.handle}"
    return ""


def names_volume(existing: dict[str, Any], created: CreatedVolume) -> bool:
    """Whether a PV is about the very volume that was made, so that the volume must be kept."""
    return _source_of(existing).get("volumeHandle") in (created.handle, _source_of(created.body).get("volumeHandle"))


def _source_of(volume: dict[str, Any]) -> dict[str, Any]:
    """The CSI source of a PV; one of an in-tree plugin is translated, and what cannot be is empty."""
    if migration.find_by_volume(volume) is not None:
        try:
            volume = migration.volume_to_csi(volume)
        except UnusableObjectError:
            return {}
    return (volume.get("spec") or {}).get("csi") or {}
