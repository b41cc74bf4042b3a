"""What the embedded driver remembers of a volume and of a snapshot, and how that is written to JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the first bytes of a volume came from."""

    kind: Literal["snapshot", "volume"]
    id: str


@dataclass(frozen=True, kw_only=True)
class Use:
    """In which way a volume is used somewhere: on a node, at a staging path, at a target path."""

    mode: int
    """Number of CSI's AccessMode.Mode."""
    block: bool
    fs_type: str = ""
    readonly: bool = False


@dataclass(kw_only=True)
class VolumeRecord:
    """One volume; `published`, `staged` and `node_published` are node id, staging path and target path → use."""

    id: str
    name: str
    capacity_bytes: int
    block: bool
    parameters: dict[str, str] = field(default_factory=dict)
    mutable_parameters: dict[str, str] = field(default_factory=dict)
    context: dict[str, str] = field(default_factory=dict)
    source: Source | None = None
    topology: dict[str, str] = field(default_factory=dict)
    published: dict[str, Use] = field(default_factory=dict)
    staged: dict[str, Use] = field(default_factory=dict)
    node_published: dict[str, Use] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The record as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> VolumeRecord:
        """The record `to_json` made; raises KeyError or TypeError if it is not one."""
        record = cls(**data)
        record.source = Source(**data["source"]) if data["source"] else None
        for places in (record.published, record.staged, record.node_published):
            places.update({place: Use(**use) for place, use in places.items() if isinstance(use, dict)})
        return record


@dataclass(kw_only=True)
class SnapshotRecord:
    """One snapshot; `created_s` is seconds since 1970."""

    id: str
    name: str
    source_volume_id: str
    size_bytes: int
    block: bool
    created_s: float

    def to_json(self) -> dict[str, Any]:
        """The record as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SnapshotRecord:
        """The record `to_json` made; raises TypeError if it is not one."""
        return cls(**data)
