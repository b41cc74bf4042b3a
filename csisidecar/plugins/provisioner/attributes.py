"""VolumeAttributesClass of a claim: whether it counts at all, and what the driver gets of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from csisidecar.errors import ForbiddenError, KubeError, ThrottledError
from csisidecar.kube import VOLUME_ATTRIBUTES_CLASSES, AttributesClass
from csisidecar.plugins.provisioner.outcome import Outcome, ProvisionError
from csisidecar.plugins.provisioner.waits import Awaited

if TYPE_CHECKING:
    from collections.abc import Mapping

    from csisidecar.kube import Claim, KubeClient
    from csisidecar.plugins.provisioner.waits import Waits

logger = logging.getLogger(__name__)

_DISCOVERY = f"/apis/{VOLUME_ATTRIBUTES_CLASSES.api_version}"


class AttributesReader:
    """Reads VolumeAttributesClasses live.

    Args:
        kube: the plugin's client.
        waits: where each class that was looked at is noted.
        driver_name: who we are.
        gate: what was asked for; None: whatever the API server serves.
    """

    def __init__(self, kube: KubeClient, waits: Waits, *, driver_name: str, gate: bool | None) -> None:
        self._kube = kube
        self._waits = waits
        self._driver_name = driver_name
        self._gate = gate
        self._is_served = False
        self._told = False

    async def find_name(self, claim: Claim) -> str:
        """Name of the class that the claim's volume is to have; empty for none, or when classes do not count.

        They do not when the gate is off, or when nobody set it and the API server serves no such kind. A discovery
        that fails says nothing; then they count.

        Source: external-provisioner `cmd/csi-provisioner/csi-provisioner.go`, main.
        """
        name = claim.spec.volume_attributes_class_name or ""
        if not name or self._gate is not None:
            return name if self._gate else ""
        if not self._is_served:
            try:
                answer = await self._kube.raw_get(_DISCOVERY)
            except ThrottledError:
                raise
            except KubeError as error:
                logger.info("cannot ask which kinds are served", extra={"error": str(error)})
                return name
            kinds = {entry.get("kind") for entry in answer.get("resources") or ()}
            self._is_served = VOLUME_ATTRIBUTES_CLASSES.kind in kinds
        return name if self._is_served else ""

    async def fetch_parameters(self, claim: Claim, name: str) -> Mapping[str, str]:
        """The `mutable_parameters` for a claim with the class `name`.

        Raises:
            ProvisionError: the class is missing, another driver's, or may not be read. Without the permission only
                claims with such a class wait: a volume without the attributes would never bind to one.
            ThrottledError: the API server asks to come back.
        """
        awaited = Awaited(VOLUME_ATTRIBUTES_CLASSES, "", name)
        try:
            found = await self._kube.get(VOLUME_ATTRIBUTES_CLASSES, name)
            version = str((found.get("metadata") or {}).get("resourceVersion") or "")
            self._waits.looked_at(claim.uid, awaited, version)
            attributes = msgspec.convert(found, AttributesClass)
        except ThrottledError:
            raise
        except ForbiddenError as error:
            self._tell_missing(error)
            self._waits.looked_at(claim.uid, awaited, "")
            raise ProvisionError(str(error), Outcome.NO_CHANGE) from error
        except KubeError as error:
            self._waits.looked_at(claim.uid, awaited, "")
            raise ProvisionError(str(error), Outcome.NO_CHANGE) from error
        except msgspec.ValidationError as error:
            raise ProvisionError(f"VolumeAttributesClass {name} is malformed: {error}", Outcome.NO_CHANGE) from error
        if attributes.driver_name != self._driver_name:
            raise ProvisionError(
                f"VAC {name} referenced in PVC is for driver {attributes.driver_name}"
                f" which does not match driver name {self._driver_name}",
                Outcome.FINAL,
            )
        return attributes.parameters or {}

    def _tell_missing(self, error: ForbiddenError) -> None:
        if not self._told:
            self._told = True
            logger.warning(
                "no permission to read VolumeAttributesClasses; claims that name one wait",
                extra={"missing_rule": error.missing_rule},
            )
