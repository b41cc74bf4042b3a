"""Finalizers on the sources of new volumes: put on before CreateVolume, taken off a snapshot when its restore is done.

They keep a source from going while a volume may be in the making from it. Both objects are written whole as they
were just read, as the shipped role allows no patch of them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from csisidecar.errors import ForbiddenError, KubeError, NotFoundError, UnusableObjectError
from csisidecar.kube import PERSISTENT_VOLUME_CLAIMS, VOLUME_SNAPSHOTS
from csisidecar.plugins.provisioner import names

if TYPE_CHECKING:
    from csisidecar.kube import Claim, KubeClient
    from csisidecar.plugins.provisioner.data_source import DataSource

logger = logging.getLogger(__name__)


class SourceProtection:
    """Puts finalizers on and takes them off.

    Args:
        kube: the plugin's client. A refused write of a snapshot is nobody's trouble, so it is not remembered.
    """

    def __init__(self, kube: KubeClient) -> None:
        self._kube = kube
        self._quiet = kube.derive(permissions=None)

    async def protect_claim(self, source: Claim) -> None:
        """Our finalizer on a claim that is about to be cloned.

        Raises:
            KubeError: the claim is gone, changed meanwhile, or the API server refuses.
            UnusableObjectError: another claim has its name by now.

        Source: external-provisioner `pkg/controller/controller.go`, setCloneFinalizer.
        """
        if names.CLONING_FINALIZER in source.finalizers:
            return
        live = await self._kube.get(PERSISTENT_VOLUME_CLAIMS, source.name, namespace=source.namespace)
        if live["metadata"].get("uid") != source.uid:
            raise UnusableObjectError(f"the PVC DataSource {source.name} was replaced by another claim of that name")
        if _add(live, names.CLONING_FINALIZER):
            await self._kube.update(PERSISTENT_VOLUME_CLAIMS, live)

    async def protect_snapshot(self, snapshot: dict[str, Any]) -> None:
        """Our finalizer on a snapshot that is about to be restored; without the permission it goes unprotected.

        Args:
            snapshot: as just read.

        Raises:
            KubeError: the snapshot is gone, changed meanwhile, or the API server refuses.

        Source: external-provisioner `pkg/controller/controller.go`, setSnapshotFinalizer.
        """
        if not _add(snapshot, names.SNAPSHOT_FINALIZER):
            return
        try:
            await self._quiet.update(VOLUME_SNAPSHOTS, snapshot)
        except ForbiddenError as error:
            _tell_missing(error)

    async def release_snapshot(self, source: DataSource) -> None:
        """Our finalizer off a snapshot whose restore is done; what cannot be done now is only logged.

        Source: external-provisioner `pkg/controller/controller.go`, removeSnapshotFinalizer.
        """
        try:
            live = await self._kube.get(VOLUME_SNAPSHOTS, source.name, namespace=source.namespace)
            finalizers = live["metadata"].get("finalizers") or []
            if names.SNAPSHOT_FINALIZER in finalizers:
                live["metadata"]["finalizers"] = [each for each in finalizers if each != names.SNAPSHOT_FINALIZER]
                await self._quiet.update(VOLUME_SNAPSHOTS, live)
        except NotFoundError:
            return
        except ForbiddenError as error:
            _tell_missing(error)
        except KubeError as error:
            logger.warning(
                "finalizer stays on the snapshot",
                extra={"snapshot": f"{source.namespace}/{source.name}", "error": str(error)},
            )


def _add(obj: dict[str, Any], finalizer: str) -> bool:
    finalizers = obj["metadata"].get("finalizers") or []
    if finalizer in finalizers:
        return False
    obj["metadata"]["finalizers"] = [*finalizers, finalizer]
    return True


def _tell_missing(error: ForbiddenError) -> None:
    logger.info(
        "no permission to protect the source of a restore; it goes on without",
        extra={"snapshot": error.name, "missing_rule": error.missing_rule},
    )
