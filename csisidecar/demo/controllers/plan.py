"""What a rule decided: writes to make, an Event to show. Pure data; `executor.py` carries it out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from csisidecar.kube.resources import ObjectKey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from csisidecar.kube.objects import KubeObject
    from csisidecar.kube.resources import Resource


@dataclass(frozen=True, kw_only=True)
class Patch:
    """One merge patch of an object we have seen at `resource_version`; refused by the server if it moved on."""

    resource: Resource
    key: ObjectKey
    resource_version: str
    body: Mapping[str, Any]
    subresource: str = ""

    @classmethod
    def of(cls, resource: Resource, view: KubeObject, body: Mapping[str, Any], *, subresource: str = "") -> Patch:
        """A patch of the object that `view` shows."""
        return cls(
            resource=resource,
            key=ObjectKey(view.namespace, view.name),
            resource_version=view.resource_version,
            body=body,
            subresource=subresource,
        )


@dataclass(frozen=True, kw_only=True)
class Note:
    """An Event about the object that was planned for."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Writes in their order, then at most one Event."""

    patches: tuple[Patch, ...] = ()
    note: Note | None = None


NOTHING = Plan()


@dataclass(kw_only=True)
class Draft:
    """A plan being put together."""

    patches: list[Patch] = field(default_factory=list)
    note: Note | None = None

    def add(self, resource: Resource, view: KubeObject, body: Mapping[str, Any], *, subresource: str = "") -> None:
        """Append a patch of the object that `view` shows."""
        self.patches.append(Patch.of(resource, view, body, subresource=subresource))

    def done(self) -> Plan:
        """The finished plan."""
        return Plan(patches=tuple(self.patches), note=self.note)
