"""The live side of data sources: reads what a claim is to be filled from and has it judged.

Each object that was looked at is noted among the claim's waits, so that a change of it wakes the claim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from csisidecar.csi import (
    VolumeContentSource,
    VolumeContentSourceSnapshotSource,
    VolumeContentSourceVolumeSource,
)
from csisidecar.errors import KubeError, NotFoundError, ThrottledError, UnusableObjectError
from csisidecar.kube import (
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    VOLUME_SNAPSHOT_CONTENTS,
    VOLUME_SNAPSHOTS,
    KubeObject,
    Snapshot,
    SnapshotContent,
    Volume,
)
from csisidecar.plugins.provisioner import clone_source, snapshot_source
from csisidecar.plugins.provisioner.waits import Awaited

if TYPE_CHECKING:
    from csisidecar.kube import Claim, KubeClient, Resource, StorageClass
    from csisidecar.plugins.provisioner.data_source import DataSource
    from csisidecar.plugins.provisioner.waits import Waits
    from csisidecar.runtime import Store

T = TypeVar("T", bound=KubeObject)


@dataclass(frozen=True, kw_only=True)
class ResolvedSource:
    """A data source that may be used, and what has to be protected meanwhile."""

    content: VolumeContentSource
    snapshot: dict[str, Any] | None = None
    """The VolumeSnapshot as read."""
    claim: Claim | None = None
    """The claim to clone."""


class SourceReader:
    """Reads snapshots, contents and source volumes live; source claims from the store, as they are watched anyway."""

    def __init__(self, kube: KubeClient, claims: Store[Claim], waits: Waits, *, prevent_mode_conversion: bool) -> None:
        self._kube = kube
        self._claims = claims
        self._waits = waits
        self._prevent_mode_conversion = prevent_mode_conversion

    async def resolve(self, claim: Claim, storage_class: StorageClass, source: DataSource) -> ResolvedSource:
        """The driver's id of what the claim is to be filled from.

        Raises:
            UnusableObjectError: it does not exist, or cannot be used for this claim.
            ThrottledError: the API server asks to come back.
        """
        find = self._resolve_snapshot if source.is_snapshot else self._resolve_claim
        try:
            return await find(claim, storage_class, source)
        except ThrottledError:
            raise
        except (UnusableObjectError, KubeError) as error:
            raise UnusableObjectError(
                f"error getting handle for DataSource Type {source.kind} by Name {source.name}: {error}"
            ) from error

    async def _resolve_snapshot(self, claim: Claim, storage_class: StorageClass, source: DataSource) -> ResolvedSource:
        try:
            found = await self._read(claim, VOLUME_SNAPSHOTS, source.name, source.namespace)
        except NotFoundError as error:
            raise UnusableObjectError(
                f"error getting snapshot {source.name} from api server: {_as_go(error)}"
            ) from error
        except KubeError as error:
            if isinstance(error, ThrottledError):
                raise
            raise UnusableObjectError(f"error getting snapshot {source.name} from api server: {error}") from error
        snapshot = _view(found, Snapshot)
        content_name = snapshot_source.find_content_name(snapshot)
        try:
            content = await self._read(claim, VOLUME_SNAPSHOT_CONTENTS, content_name)
        except ThrottledError:
            raise
        except KubeError as error:
            raise UnusableObjectError(
                f"error getting snapshotcontent {content_name} for snapshot {source.name} ({error})"
            ) from error
        handle = snapshot_source.find_snapshot_handle(
            claim,
            storage_class,
            snapshot,
            _view(content, SnapshotContent),
            prevent_mode_conversion=self._prevent_mode_conversion,
        )
        return ResolvedSource(
            content=VolumeContentSource(snapshot=VolumeContentSourceSnapshotSource(snapshot_id=handle)),
            snapshot=found,
        )

    async def _resolve_claim(self, claim: Claim, storage_class: StorageClass, source: DataSource) -> ResolvedSource:
        found = self._claims.find(source.name, source.namespace)
        awaited = Awaited(PERSISTENT_VOLUME_CLAIMS, source.namespace, source.name)
        self._waits.looked_at(claim.uid, awaited, found.resource_version if found else "")
        if found is None:
            raise UnusableObjectError(
                f'error getting PVC {source.name} (namespace "{claim.namespace}") from api server:'
                f' persistentvolumeclaim "{source.name}" not found'
            )
        clone_source.check_source_claim(claim, found)
        try:
            volume = await self._read(claim, PERSISTENT_VOLUMES, found.spec.volume_name)
        except ThrottledError:
            raise
        except KubeError as error:
            raise clone_source.invalid(str(error)) from error
        handle = clone_source.find_volume_handle(claim, storage_class, found, _view(volume, Volume))
        return ResolvedSource(
            content=VolumeContentSource(volume=VolumeContentSourceVolumeSource(volume_id=handle)), claim=found
        )

    async def _read(self, claim: Claim, resource: Resource, name: str, namespace: str = "") -> dict[str, Any]:
        awaited = Awaited(resource, namespace, name)
        try:
            found = await self._kube.get(resource, name, namespace=namespace)
        except KubeError:
            self._waits.looked_at(claim.uid, awaited, "")
            raise
        self._waits.looked_at(claim.uid, awaited, str((found.get("metadata") or {}).get("resourceVersion") or ""))
        return found


def _view(obj: dict[str, Any], view: type[T]) -> T:
    try:
        return msgspec.convert(obj, view)
    except msgspec.ValidationError as error:
        name = (obj.get("metadata") or {}).get("name") or ""
        raise UnusableObjectError(f"{obj.get('kind') or view.__name__} {name} is malformed: {error}") from error


def _as_go(error: NotFoundError) -> str:
    """The text of a 404; one that names no object means that the whole kind is not served, which Go says so."""
    if error.reason == "NotFound":
        return str(error)
    return f"the server could not find the requested resource (get {error.resource} {error.name.rpartition('/')[2]})"
