"""Whom CSIStorageCapacity objects belong to, so that they go when the driver is uninstalled.

The way begins at our Pod and goes up by the controller that each object names. It is looked up once, and again before
an object gets a reference for the second time: an object that lost it, or went with it, had an owner that is gone.

Source: external-provisioner `pkg/owner/owner.go`, Lookup.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from csisidecar.clock import left_s
from csisidecar.errors import (
    ForbiddenError,
    KubeError,
    NotFoundError,
    RetryAfter,
    ThrottledError,
    UnusableObjectError,
)
from csisidecar.kube import PODS, Resource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from csisidecar.backoff import Backoff
    from csisidecar.clock import Clock
    from csisidecar.kube import KubeClient

logger = logging.getLogger(__name__)

FLAG = "--capacity-ownerref-level"

_PLURALS: Mapping[tuple[str, str], str] = {
    ("v1", "ReplicationController"): "replicationcontrollers",
    ("apps/v1", "ReplicaSet"): "replicasets",
    ("apps/v1", "Deployment"): "deployments",
    ("apps/v1", "StatefulSet"): "statefulsets",
    ("apps/v1", "DaemonSet"): "daemonsets",
    ("batch/v1", "Job"): "jobs",
    ("batch/v1", "CronJob"): "cronjobs",
}
"""Namespaced kinds that need no discovery."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """What one lookup found."""

    reference: dict[str, Any] | None = None
    """For `metadata.ownerReferences`; None where objects have no owner."""
    number: int = 0
    """Of the lookup; a later one has a higher number."""


NOBODY = Owner()


class OwnerLookup:
    """Finds the owner and keeps it; one that cannot be found is told once and looked for again, with growing pauses.

    Args:
        kube: any client.
        namespace: of the pod, and of all its controllers.
        pod_name: where to begin.
        level: -1 nobody, 0 the pod, 1 its controller, 2 the controller's controller, and so on.
        driver_name: for the log.
        clock: of the pauses.
        backoff: how long they are.
    """

    def __init__(
        self,
        kube: KubeClient,
        *,
        namespace: str,
        pod_name: str,
        level: int,
        driver_name: str,
        clock: Clock,
        backoff: Backoff,
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._pod_name = pod_name
        self._level = level
        self._driver_name = driver_name
        self._clock = clock
        self._backoff = backoff
        # All workers wait for the one lookup that is under way.
        self._lock = asyncio.Lock()
        self._found: Owner | None = None
        self._number = 0
        self._failures = 0
        self._due_s = 0.0
        self._told = ""

    async def find(self, *, newer_than: int = 0) -> Owner:
        """The owner, as of a lookup with a higher number than `newer_than`.

        Raises:
            RetryAfter: it cannot be found now; people know why.
        """
        if self._level < 0:
            return NOBODY
        async with self._lock:
            if self._found is not None and self._found.number > newer_than:
                return self._found
            self._found = None
            if pause_s := left_s(self._due_s, self._clock.monotonic()):
                raise RetryAfter(pause_s, self._told)
            try:
                reference = await self._look_up()
            except UnusableObjectError as error:
                self._failures += 1
                pause_s = self._backoff.delay_s(self._failures)
                self._due_s = self._clock.monotonic() + pause_s
                self._tell(str(error))
                raise RetryAfter(pause_s, str(error)) from error
            self._failures, self._told = 0, ""
            self._number += 1
            self._found = Owner(reference=reference, number=self._number)
            return self._found

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            logger.warning(
                "the owner of storage capacity objects cannot be found; none is written until it is",
                extra={"driver": self._driver_name, "error": text},
            )

    async def _look_up(self) -> dict[str, Any]:
        resource, name = PODS, self._pod_name
        for level in range(self._level):
            obj = await self._read(resource, name, level)
            what = self._name(resource, name)
            owners = obj["metadata"].get("ownerReferences") or ()
            above = next((each for each in owners if each.get("controller")), None)
            if above is None:
                raise self._error(f"{what} has no controller; give {FLAG}={level}, which makes it the owner itself")
            api_version, kind, name = (str(above.get(field) or "") for field in ("apiVersion", "kind", "name"))
            if not _is_api_version(api_version):
                raise self._error(
                    f"{what} names a controller of apiVersion {api_version!r}, which is none;"
                    f" give {FLAG}={level}, which makes it the owner itself"
                )
            if level + 1 == self._level:
                # It need not be read, so its kind needs no permission and need not even be served.
                return _reference(api_version, kind, name, str(above.get("uid") or ""))
            resource = await self._find_resource(api_version, kind, level + 1)
        obj = await self._read(resource, name, self._level)
        return _reference(resource.api_version, resource.kind, name, str(obj["metadata"].get("uid") or ""))

    async def _read(self, resource: Resource, name: str, level: int) -> dict[str, Any]:
        what = self._name(resource, name)
        instead = _instead(level)
        try:
            return await self._kube.get(resource, name, namespace=self._namespace if resource.namespaced else "")
        except ThrottledError:
            raise
        except ForbiddenError as error:
            raise self._error(
                f"{what} may not be read: the role lacks {error.missing_rule}: grant it, or {instead}"
            ) from error
        except NotFoundError as error:
            must = "POD_NAME and NAMESPACE must name this very Pod" if level == 0 else "it went before what it controls"
            raise self._error(f"{what} does not exist: {must}; or {instead}") from error
        except KubeError as error:
            raise self._error(f"{what} cannot be read: {error}") from error

    async def _find_resource(self, api_version: str, kind: str, level: int) -> Resource:
        """How the API server calls that kind; what is not built in, it is asked for.

        Source: Kubernetes API concepts, "Discovery API": every authenticated user may ask.
        """
        group, _, version = api_version.rpartition("/")
        plural, is_namespaced = _PLURALS.get((api_version, kind), ""), True
        if not plural:
            instead = _instead(level)
            try:
                answer = await self._kube.raw_get(f"/apis/{api_version}" if group else f"/api/{api_version}")
            except ThrottledError:
                raise
            except NotFoundError as error:
                raise self._error(f"the API server does not serve {api_version} with {kind}; {instead}") from error
            except KubeError as error:
                raise self._error(f"the kinds of {api_version} cannot be read: {error}") from error
            served = (each for each in answer.get("resources") or () if each.get("kind") == kind)
            found = next((each for each in served if "/" not in str(each.get("name"))), None)
            if found is None:
                raise self._error(f"the API server serves no {kind} in {api_version}; {instead}")
            plural, is_namespaced = str(found["name"]), bool(found.get("namespaced"))
        return Resource(group=group, version=version, plural=plural, kind=kind, namespaced=is_namespaced)

    def _name(self, resource: Resource, name: str) -> str:
        return f"{resource.kind} {self._namespace}/{name}" if resource.namespaced else f"{resource.kind} {name}"

    def _error(self, text: str) -> UnusableObjectError:
        return UnusableObjectError(f"{FLAG}={self._level}: {text}")


def _instead(level: int) -> str:
    """What to give so that the object `level` steps above the pod need not be read."""
    return f"give {FLAG}={level}, which does not read it" if level else f"give {FLAG}=-1 for objects without an owner"


def _is_api_version(text: str) -> bool:
    """Whether it is VERSION or GROUP/VERSION. Source: apimachinery `pkg/runtime/schema/group_version.go`."""
    return text.count("/") <= 1 and bool(text.rpartition("/")[2])


def _reference(api_version: str, kind: str, name: str, uid: str) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": True}
