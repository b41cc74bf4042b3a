"""How the StorageClass of an in-tree plugin is told to its CSI driver: parameters and allowed topologies.

One `ClassRules` per plugin says what differs; `apply` is the same for all. Keys of in-tree parameters are compared
without regard to case; a key that no rule names keeps its spelling.

Source: csi-translation-lib, TranslateInTreeStorageClassToCSI of each file in `plugins/`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from csisidecar.errors import UnusableObjectError
from csisidecar.mapping.migration.topology import BETA_ZONE, ZONE
from csisidecar.mapping.secrets import PREFIX

FS_TYPE = {"fstype": (f"{PREFIX}fstype",)}
"""What most plugins rename."""

_UNZONED = re.compile(r"[0-9]+")

Terms = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class ClassRules:
    """What one plugin's classes need."""

    renamed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """In-tree key, lower case → the keys that get its value."""
    added_with: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """In-tree key, lower case → parameters that come with it."""
    added: Mapping[str, str] = field(default_factory=dict)
    """Parameters that every class gets."""
    drops_unknown: bool = False
    """Whether a parameter without a rule is left out; else it is passed on."""
    zone_key: str = ""
    """The driver's zone key for allowed topologies; empty: they are left alone."""
    reads_zones: bool = False
    """Whether the parameters `zone` and `zones` become allowed topologies."""
    blanks_numbered_zones: bool = False
    """Whether a zone that is only a number, as in regions without zones, becomes the empty text."""
    provisioner: str = ""
    """The translated class's provisioner; empty: it stays."""


@dataclass(frozen=True, kw_only=True)
class ClassParts:
    """The translated parts of a class."""

    parameters: dict[str, str]
    allowed_topologies: list[dict[str, Any]]


def apply(rules: ClassRules, parameters: Mapping[str, str], terms: Terms) -> ClassParts:
    """Parameters and allowed topologies as the driver knows them.

    Where two parameters claim the same place (`zone` and `zones`, one key in two spellings), the later key in
    alphabetical order wins.

    Raises:
        UnusableObjectError: zones are given both as parameters and as allowed topologies.
    """
    found: dict[str, str] = {}
    zones: list[str] | None = None
    for key, value in sorted(parameters.items()):
        plain = key.lower()
        if rules.reads_zones and plain in ("zone", "zones"):
            zones = [value] if plain == "zone" else value.split(",")
        elif plain in rules.renamed:
            found.update(dict.fromkeys(rules.renamed[plain], value))
        elif not rules.drops_unknown:
            found[key] = value
        found.update(rules.added_with.get(plain, {}))
    found.update(rules.added)
    if zones is not None and terms:
        raise UnusableObjectError("cannot simultaneously set allowed topologies and zone/zones parameters")
    if zones is not None:
        topologies = [{"matchLabelExpressions": [{"key": rules.zone_key, "values": zones}]}]
    else:
        topologies = [_rename_zone(term, rules.zone_key) for term in terms]
    if rules.blanks_numbered_zones:
        topologies = [_blank_numbers(term, rules.zone_key) for term in topologies]
    return ClassParts(parameters=found, allowed_topologies=topologies)


def _rename_zone(term: Mapping[str, Any], zone_key: str) -> dict[str, Any]:
    def rename(demand: Mapping[str, Any]) -> dict[str, Any]:
        is_zone = zone_key and demand.get("key") in (ZONE, BETA_ZONE)
        return {**demand, "key": zone_key} if is_zone else dict(demand)

    return {**term, **_demands([rename(demand) for demand in term.get("matchLabelExpressions") or ()])}


def _blank_numbers(term: Mapping[str, Any], zone_key: str) -> dict[str, Any]:
    def blank(demand: Mapping[str, Any]) -> dict[str, Any]:
        if demand.get("key") != zone_key:
            return dict(demand)
        values = ["" if _UNZONED.fullmatch(value) else value for value in demand.get("values") or ()]
        return {**demand, "values": values}

    return {**term, **_demands([blank(demand) for demand in term.get("matchLabelExpressions") or ()])}


def _demands(demands: list[dict[str, Any]]) -> dict[str, Any]:
    return {"matchLabelExpressions": demands} if demands else {}
