"""What claims without a volume wait for: objects that were looked at and may yet say something else.

Changes of watched kinds are told by their watch. Snapshots, VolumeAttributesClasses and Secrets are read live only,
as the shipped roles of the Go provisioner allow no watch of all of them; `WaitReconciler` looks at those that
somebody waits for, and wakes the claims when one has changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from csisidecar.errors import KubeError, NotFoundError, ThrottledError
from csisidecar.runtime import DONE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from csisidecar.kube import KubeClient, Resource
    from csisidecar.runtime import Result

LOOK_AGAIN_S = 15.0
"""Pause between two looks at an object that somebody waits for; one GET however many claims wait."""


class Awaited(NamedTuple):
    """An object that may unblock a claim; a name of "" stands for every object of its namespace."""

    resource: Resource
    namespace: str
    name: str

    def __str__(self) -> str:
        where = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.resource.full_name} {where}"


class Waits:
    """Which claim waits for which object, and the version of it that the claim was judged by."""

    def __init__(self) -> None:
        self._seen: dict[Awaited, dict[str, str]] = {}
        self._by_claim: dict[str, set[Awaited]] = {}

    def looked_at(self, claim_uid: str, awaited: Awaited, version: str) -> None:
        """The claim was judged by `awaited` at this resourceVersion, "" for an object that does not exist."""
        self._seen.setdefault(awaited, {})[claim_uid] = version
        self._by_claim.setdefault(claim_uid, set()).add(awaited)

    def forget(self, claim_uid: str) -> None:
        """The claim waits for nothing."""
        for awaited in self._by_claim.pop(claim_uid, ()):
            claims = self._seen.get(awaited, {})
            claims.pop(claim_uid, None)
            if not claims:
                self._seen.pop(awaited, None)

    def claims(self) -> Sequence[str]:
        """UIDs of the claims that wait for anything."""
        return list(self._by_claim)

    def waiting_for(self, awaited: Awaited) -> Sequence[str]:
        """UIDs of the claims that wait for the object."""
        return list(self._seen.get(awaited, ()))

    def objects(self, resources: Collection[Resource]) -> Sequence[Awaited]:
        """Objects of these resources that anybody waits for."""
        return [awaited for awaited in self._seen if awaited.resource in resources]

    def take_stale(self, awaited: Awaited, version: str) -> Sequence[str]:
        """UIDs of the claims that were judged by another version than this one; told once."""
        claims = self._seen.get(awaited, {})
        stale = [uid for uid, seen in claims.items() if seen != version]
        for uid in stale:
            claims[uid] = version
        return stale


class WaitReconciler:
    """Key: an object that somebody waits for and no watch tells about."""

    def __init__(self, kube: KubeClient, waits: Waits, wake: Callable[[str], None]) -> None:
        self._kube = kube
        self._waits = waits
        self._wake = wake

    async def reconcile(self, awaited: Awaited) -> Result:
        """Wake the claims that were judged by another version of the object than there is now."""
        try:
            found = await self._kube.get(awaited.resource, awaited.name, namespace=awaited.namespace)
        except NotFoundError:
            version = ""
        except ThrottledError:
            raise
        except KubeError:
            # Whoever waits says so by itself, with the reason; this is only to spare time.
            return DONE
        else:
            version = str((found.get("metadata") or {}).get("resourceVersion") or "")
        for uid in self._waits.take_stale(awaited, version):
            self._wake(uid)
        return DONE
