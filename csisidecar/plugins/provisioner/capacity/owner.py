"""Whom CSIStorageCapacity objects belong to, so that they go when the driver is uninstalled.

Source: external-provisioner `pkg/owner/owner.go`, Lookup.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from csisidecar.errors import KubeError, UnusableObjectError
from csisidecar.kube import PODS, Resource

if TYPE_CHECKING:
    from csisidecar.kube import KubeClient


class OwnerLookup:
    """Finds the owner once and keeps it.

    Args:
        kube: any client.
        namespace: of the pod, and of all its controllers.
        pod_name: where to begin.
        level: -1 nobody, 0 the pod, 1 its controller, 2 the controller's controller, and so on.
    """

    def __init__(self, kube: KubeClient, *, namespace: str, pod_name: str, level: int) -> None:
        self._kube = kube
        self._namespace = namespace
        self._pod_name = pod_name
        self._level = level
        self._found: dict[str, Any] | None = None

    async def find(self) -> dict[str, Any] | None:
        """The owner reference, None for none.

        Raises:
            UnusableObjectError: an object on the way cannot be read or has no controller.
        """
        if self._level < 0:
            return None
        if self._found is None:
            self._found = await self._look_up()
        return self._found

    async def _look_up(self) -> dict[str, Any]:
        resource, name = PODS, self._pod_name
        for level in range(self._level + 1):
            what = f"{resource.kind} {self._namespace}/{name}"
            try:
                obj = await self._kube.get(resource, name, namespace=self._namespace)
            except KubeError as error:
                raise UnusableObjectError(
                    f"--capacity-ownerref-level={self._level}: cannot read {what}: {error}"
                ) from error
            if level == self._level:
                return _reference(resource.api_version, resource.kind, name, obj["metadata"].get("uid", ""))
            owners = obj["metadata"].get("ownerReferences") or ()
            above = next((each for each in owners if each.get("controller")), None)
            if above is None:
                raise UnusableObjectError(
                    f"--capacity-ownerref-level={self._level}: {what} has no controller; give a lower level"
                )
            if level + 1 == self._level:
                # It need not be read, so its kind needs no permission.
                return _reference(above["apiVersion"], above["kind"], above["name"], above["uid"])
            resource, name = _resource_of(above["apiVersion"], above["kind"]), above["name"]
        raise AssertionError("a level of 0 or more ends in the loop")


def _reference(api_version: str, kind: str, name: str, uid: str) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": True}


def _resource_of(api_version: str, kind: str) -> Resource:
    """The resource of a controller's kind; all built-in ones have the plural of their lower-case name."""
    group, _, version = api_version.rpartition("/")
    return Resource(group=group, version=version, plural=f"{kind.lower()}s", kind=kind, namespaced=True)
