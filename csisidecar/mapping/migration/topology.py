"""Where a volume may be used: node affinity and zone labels, in Kubernetes' own keys and in a driver's.

Everything takes and returns the JSON of `spec.nodeAffinity` and `metadata.labels`; the arguments stay as they are.

Source: csi-translation-lib `plugins/in_tree_volume.go`; Kubernetes API "PersistentVolume", VolumeNodeAffinity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from csisidecar.errors import UnusableObjectError

ZONE = "topology.kubernetes.io/zone"
REGION = "topology.kubernetes.io/region"
BETA_ZONE = "failure-domain.beta.kubernetes.io/zone"
BETA_REGION = "failure-domain.beta.kubernetes.io/region"

DELIMITER = "__"
"""Between the zones of one label; a label's value may hold no comma."""

Affinity = Mapping[str, Any] | None
Labels = Mapping[str, str]
Expression = Mapping[str, Any]


class TopologyRule(Protocol):
    """How one plugin's topology and its driver's are told in each other's keys."""

    def to_csi(self, affinity: Affinity, labels: Labels) -> Affinity:
        """The node affinity in the driver's keys; what only stood in the labels comes with it."""

    def to_in_tree(self, affinity: Affinity, labels: Labels) -> tuple[Affinity, Labels]:
        """Node affinity and labels in Kubernetes' keys.

        Raises:
            UnusableObjectError: no region follows from the zones.
        """


@dataclass(frozen=True)
class NoTopology:
    """The driver uses Kubernetes' own keys, or none."""

    def to_csi(self, affinity: Affinity, _labels: Labels) -> Affinity:
        """The same node affinity."""
        return affinity

    def to_in_tree(self, affinity: Affinity, labels: Labels) -> tuple[Affinity, Labels]:
        """The same node affinity and labels."""
        return affinity, labels


@dataclass(frozen=True)
class Zones:
    """The driver has one key, for the zone; the region, if the cloud has any, follows from the zones."""

    key: str
    region_of: Callable[[Sequence[str]], str] | None = None

    def to_csi(self, affinity: Affinity, labels: Labels) -> Affinity:
        """The zone under the driver's key; a beta region key becomes the present one."""
        zone, region = _keys_in_use(affinity, labels)
        affinity = _to_driver_key(affinity, zone, self.key, labels.get(zone, "").split(DELIMITER))
        # Nodes of newer clusters carry no beta labels: an affinity that asks for one would fit nowhere.
        return _rename(affinity, BETA_REGION, REGION) if region == BETA_REGION else affinity

    def to_in_tree(self, affinity: Affinity, labels: Labels) -> tuple[Affinity, Labels]:
        """Zone and region under Kubernetes' keys, and both as labels unless they are there."""
        zone, region = _keys_in_use(affinity, labels)
        affinity = _rename(affinity, self.key, zone)
        labels = dict(labels)
        if self.region_of is not None:
            affinity = _with_region(affinity, zone, region, self.region_of)
            regions = _values(affinity, region)
            if len(regions) == 1:
                labels.setdefault(region, regions[0])
        zones = _values(affinity, zone)
        if zones:
            labels.setdefault(zone, DELIMITER.join(zones))
        return affinity, labels


@dataclass(frozen=True)
class ZonesAndRegions:
    """The driver has a key for the zone and one for the region; a label holds one value."""

    zone_key: str
    region_key: str

    def to_csi(self, affinity: Affinity, labels: Labels) -> Affinity:
        """Zone and region under the driver's keys."""
        for key, driver_key in zip(_keys_in_use(affinity, labels), (self.zone_key, self.region_key), strict=True):
            affinity = _to_driver_key(affinity, key, driver_key, [labels.get(key, "")])
        return affinity

    def to_in_tree(self, affinity: Affinity, labels: Labels) -> tuple[Affinity, Labels]:
        """Zone and region under Kubernetes' keys, and the first of each as labels unless they are there."""
        keys = _keys_in_use(affinity, labels)
        labels = dict(labels)
        for key, driver_key in zip(keys, (self.zone_key, self.region_key), strict=True):
            affinity = _rename(affinity, driver_key, key)
            values = _values(affinity, key)
            if values:
                labels.setdefault(key, values[0])
        return affinity, labels


def one_region(zones: Sequence[str], region_of: Callable[[str], str]) -> str:
    """The region that all `zones` lie in.

    Raises:
        UnusableObjectError: no zone, or zones of several regions; `region_of` may raise it too.
    """
    if not zones:
        raise UnusableObjectError("no zones specified")
    regions = sorted({region_of(zone) for zone in zones})
    if len(regions) > 1:
        listed = " ".join(f"{region}:{{}}" for region in regions)
        raise UnusableObjectError(f"multiple or no regions gotten from zones, got: map[{listed}]")
    return regions[0]


def _keys_in_use(affinity: Affinity, labels: Labels) -> tuple[str, str]:
    """The pair of zone and region keys that the volume uses: affinity before labels, present before beta."""
    used = {expression.get("key") for expression in _expressions(affinity)}
    for found in (used, labels):
        if ZONE in found:
            return ZONE, REGION
        if BETA_ZONE in found:
            return BETA_ZONE, BETA_REGION
    return ZONE, REGION


def _to_driver_key(affinity: Affinity, key: str, driver_key: str, from_label: Iterable[str]) -> Affinity:
    if _values(affinity, key):
        return _rename(affinity, key, driver_key)
    values = sorted({value.strip() for value in from_label} - {""})
    return _require(affinity, driver_key, values) if values else affinity


def _terms(affinity: Affinity) -> Sequence[Mapping[str, Any]]:
    required = (affinity or {}).get("required") or {}
    return required.get("nodeSelectorTerms") or ()


def _expressions(affinity: Affinity) -> Iterable[Expression]:
    return (expression for term in _terms(affinity) for expression in term.get("matchExpressions") or ())


def _values(affinity: Affinity, key: str) -> list[str]:
    """Every value that any term has for `key`, each once, sorted."""
    return sorted({v for e in _expressions(affinity) if e.get("key") == key for v in e.get("values") or ()})


def _change(affinity: Affinity, change: Callable[[list[Expression]], list[Expression]]) -> Affinity:
    terms = []
    for term in _terms(affinity):
        changed = change(list(term.get("matchExpressions") or ()))
        terms.append({**term, "matchExpressions": changed} if changed else term)
    if not terms:
        return affinity
    affinity = affinity or {}
    return {**affinity, "required": {**affinity["required"], "nodeSelectorTerms": terms}}


def _rename(affinity: Affinity, old: str, new: str) -> Affinity:
    if all(expression.get("key") != old for expression in _expressions(affinity)):
        return affinity
    return _change(affinity, lambda found: [{**e, "key": new} if e.get("key") == old else e for e in found])


def _require(affinity: Affinity, key: str, values: Sequence[str]) -> Affinity:
    """`affinity` with one more demand in each term; one term is made when there is none."""
    added = {"key": key, "operator": "In", "values": list(values)}
    if not _terms(affinity):
        return {"required": {"nodeSelectorTerms": [{"matchExpressions": [added]}]}}
    return _change(affinity, lambda found: [*found, added])


def _with_region(affinity: Affinity, zone: str, region: str, region_of: Callable[[Sequence[str]], str]) -> Affinity:
    """`affinity` with the region of its zones in each term that names none."""

    def add_region(found: list[Expression]) -> list[Expression]:
        if any(e.get("key") == region for e in found):
            return found
        zones = [value for e in found if e.get("key") == zone for value in e.get("values") or ()]
        return [*found, {"key": region, "operator": "In", "values": [region_of(zones)]}]

    try:
        return _change(affinity, add_region)
    except UnusableObjectError as error:
        raise UnusableObjectError(f"Failed to handle region topology. error: {error}") from error
