"""Where a volume may be: claim, class, selected node and cluster → the accessibility requirements; pure.

A term is a sorted tuple of (key, value) pairs and means "all of these"; a list of terms means "any of these".
What the driver answers becomes node affinity in `persistent_volume`; here it is only asked whether a node fits one.

Source: external-provisioner `pkg/controller/topology.go`, GenerateAccessibilityRequirements.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from csisidecar.csi import Topology, TopologyRequirement
from csisidecar.errors import UnusableObjectError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from csisidecar.kube import CSINode, Node
    from csisidecar.runtime import Store

Term = tuple[tuple[str, str], ...]
"""Sorted (key, value) pairs."""

_FNV_BASIS = 2166136261
_FNV_PRIME = 16777619
_MASK = 0xFFFFFFFF

ALLOWED_TERMS_MAX = 2000
"""Most terms that a class's `allowedTopologies` may multiply out to.

Each is told to the driver twice and written by the event loop that does everything else, Leases too; gRPC servers
refuse messages of more than 4 MiB.
"""

_COUNT_MAX = 10**12
"""From here on nobody cares how many there are; a class of 1 MiB can have a number with thousands of digits."""

_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


class TopologyError(UnusableObjectError):
    """There are no requirements for this claim now; `str()` is the text for its Event, without the usual prefix.

    Attributes:
        is_node_gone: whether the selected node's CSINode does not exist, so that another node should be chosen.
        advice: what to look at, to be told after the text, which is the Go provisioner's; empty: the text says all.
    """

    def __init__(self, text: str, *, is_node_gone: bool = False, advice: str = "") -> None:
        super().__init__(text)
        self.is_node_gone = is_node_gone
        self.advice = advice


class Cluster(Protocol):
    """What is known of the nodes on which the driver runs."""

    def find_keys(self, node: str) -> Sequence[str] | None:
        """The driver's topology keys on `node`, empty when it has none there; None: there is no such CSINode."""
        ...

    def all_keys(self) -> Iterable[Sequence[str]]:
        """The driver's topology keys on each node that has a CSINode."""
        ...

    def find_labels(self, node: str) -> Mapping[str, str] | None:
        """The labels of `node`; None: there is no such Node."""
        ...

    def all_labels(self) -> Iterable[Mapping[str, str]]:
        """The labels of each Node, whether the driver runs there or not."""
        ...


class StoredCluster:
    """The cluster as the stores show it."""

    def __init__(self, driver_name: str, csi_nodes: Store[CSINode], nodes: Store[Node]) -> None:
        self._driver_name = driver_name
        self._csi_nodes = csi_nodes
        self._nodes = nodes

    def find_keys(self, node: str) -> Sequence[str] | None:
        """See `Cluster`."""
        found = self._csi_nodes.find(node)
        return None if found is None else self._keys_on(found)

    def all_keys(self) -> Iterable[Sequence[str]]:
        """See `Cluster`."""
        return [self._keys_on(found) for found in self._csi_nodes.values()]

    def find_labels(self, node: str) -> Mapping[str, str] | None:
        """See `Cluster`."""
        found = self._nodes.find(node)
        return None if found is None else found.labels

    def all_labels(self) -> Iterable[Mapping[str, str]]:
        """See `Cluster`."""
        return [found.labels for found in self._nodes.values()]

    def _keys_on(self, csi_node: CSINode) -> Sequence[str]:
        entry = csi_node.find_driver(self._driver_name)
        return (entry.topology_keys or ()) if entry is not None else ()


@dataclass(frozen=True, kw_only=True)
class OneNode:
    """A cluster of the one node that this process works for, as the driver describes it."""

    name: str
    segments: Mapping[str, str]

    def find_keys(self, node: str) -> Sequence[str] | None:
        """See `Cluster`."""
        return tuple(sorted(self.segments)) if node == self.name else None

    def all_keys(self) -> Iterable[Sequence[str]]:
        """See `Cluster`."""
        return [tuple(sorted(self.segments))]

    def find_labels(self, node: str) -> Mapping[str, str] | None:
        """See `Cluster`."""
        return self.segments if node == self.name else None

    def all_labels(self) -> Iterable[Mapping[str, str]]:
        """See `Cluster`."""
        return [self.segments]


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What CreateVolume is told: where the volume may be, and where best."""

    requisite: tuple[Term, ...]
    preferred: tuple[Term, ...]
    """The same terms in the same cyclic order, the best one first."""

    def to_message(self) -> TopologyRequirement:
        """The CSI message; terms without pairs say nothing and are left out."""
        return TopologyRequirement(requisite=_to_topologies(self.requisite), preferred=_to_topologies(self.preferred))


def _to_topologies(terms: Iterable[Term]) -> list[Topology]:
    return [Topology(segments=dict(term)) for term in terms if term]


def normalize(pairs: Iterable[tuple[str, str]]) -> Term:
    """The pairs as a term: sorted by key, then by value."""
    return tuple(sorted(pairs))


def sort_terms(terms: Iterable[Term]) -> list[Term]:
    """Each distinct term once: those with fewer pairs first, then pair by pair."""
    return sorted(set(terms), key=lambda term: (len(term), term))


def is_subset(term: Term, other: Term) -> bool:
    """Whether every pair of `term` is in `other`; no pairs are in anything."""
    return set(term) <= set(other)


def flatten(allowed_topologies: Sequence[Mapping[str, Any]]) -> list[Term]:
    """A class's `allowedTopologies` as terms: its alternatives multiplied out, neither sorted nor made distinct.

    A selector without expressions gives no term; an expression without values, which the API server refuses,
    takes back what the expressions before it gave.
    """
    terms: list[Term] = []
    for selector in allowed_topologies:
        product: list[tuple[tuple[str, str], ...]] = []
        for expression in selector.get("matchLabelExpressions") or ():
            key, values = str(expression.get("key", "")), expression.get("values") or ()
            starts = product or [()]
            product = [(*start, (key, str(value))) for value in values for start in starts]
        terms += [normalize(pairs) for pairs in product]
    return terms


def count_terms(allowed_topologies: Sequence[Mapping[str, Any]]) -> int:
    """How many terms `flatten` would make, without making any; a trillion stands for more as well."""
    count = 0
    for selector in allowed_topologies:
        product = 0
        for expression in selector.get("matchLabelExpressions") or ():
            product = min((product or 1) * len(expression.get("values") or ()), _COUNT_MAX)
        count = min(count + product, _COUNT_MAX)
    return count


def is_too_much(allowed_topologies: Sequence[Mapping[str, Any]]) -> bool:
    """Whether these give more terms than a driver is told."""
    return count_terms(allowed_topologies) > ALLOWED_TERMS_MAX


def is_allowed(place: Term, allowed_topologies: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a term of `allowed_topologies` is a subset of `place`; none is made for that."""
    found = dict(place)
    for selector in allowed_topologies:
        # None: there is no term so far.
        fits: bool | None = None
        for expression in selector.get("matchLabelExpressions") or ():
            values = expression.get("values") or ()
            if not values:
                fits = None
            elif fits is not False:
                fits = found.get(str(expression.get("key", ""))) in [str(value) for value in values]
        if fits:
            return True
    return False


def may_be_on(cluster: Cluster, node: str, *, allowed_topologies: Sequence[Mapping[str, Any]], strict: bool) -> bool:
    """Whether `find_requirements` would find what to say about a volume for `node`, however many terms there are."""
    try:
        place = _term_of_selected(cluster, node, _keys_of_selected(cluster, node))
    except TopologyError:
        return False
    return is_allowed(place, allowed_topologies) or not (strict or count_terms(allowed_topologies))


def find_elsewhere(requirements: Requirements | None, places: Sequence[Topology]) -> str:
    """Where a volume is that is nowhere it was asked for, and where that was, in words; empty if it is there.

    A place is where it was asked for if the keys that both have agree in value with one of the terms; whatever leaves
    room for doubt, such as no common key or no place at all, counts as there.
    """
    asked = [dict(term) for term in requirements.requisite if term] if requirements is not None else []
    answered = [place.segments for place in places]
    for place in answered:
        if any(all(term.get(key, value) == value for key, value in place.items()) for term in asked):
            return ""
    if not asked or not answered:
        return ""
    return f"{_few(answered)}, asked for was {_few(asked)}"


def split_claim_name(name: str) -> tuple[str, int]:
    """The text whose hash spreads a claim, and its number: StatefulSet replicas share the one and count the other.

    Source: external-provisioner `pkg/controller/topology.go`, getPVCNameHashAndIndexOffset.
    """
    head, dash, tail = name.rpartition("-")
    if dash and tail.isascii() and tail.isdigit() and int(tail) <= _MASK:
        return head.rpartition("-")[2], int(tail)
    return name, 0


def fnv1_32(text: str) -> int:
    """FNV-1, 32 bits: multiply, then XOR; not FNV-1a."""
    value = _FNV_BASIS
    for byte in text.encode():
        value = (value * _FNV_PRIME & _MASK) ^ byte
    return value


def start_offset(claim_name: str, count: int) -> int:
    """Which of `count` sorted terms comes first for a claim without a selected node."""
    if not claim_name:
        return random.randrange(count)  # noqa: S311 - spreads volumes, guards nothing
    text, index = split_claim_name(claim_name)
    return ((fnv1_32(text) + index) & _MASK) % count


def find_requirements(
    cluster: Cluster,
    *,
    claim_name: str,
    class_name: str,
    allowed_topologies: Sequence[Mapping[str, Any]] | None,
    selected_node: str,
    strict: bool,
    immediate: bool,
) -> Requirements | None:
    """Where the volume of a claim may be; None when nothing is to be said about it.

    Args:
        cluster: the nodes.
        claim_name: spreads claims without a selected node.
        class_name: for the text of errors.
        allowed_topologies: of the class.
        selected_node: empty when no node was selected.
        strict: whether a selected node means that node only.
        immediate: whether a claim without any restriction is told all places that there are.

    Raises:
        TopologyError: a node that should tell does not, or the class says what cannot be told.
    """
    keys: Sequence[str] = ()
    selected: Term = ()
    terms: list[Term] = []
    if selected_node:
        keys = _keys_of_selected(cluster, selected_node)
        selected = _term_of_selected(cluster, selected_node, keys)
        if strict:
            _check_allowed(selected_node, selected, class_name, allowed_topologies)
            terms = [selected]
    if not terms:
        if allowed_topologies:
            terms = _expand(class_name, allowed_topologies)
        elif not selected_node and not immediate:
            return None
        else:
            terms = _aggregate(cluster, keys or _pick_keys(cluster))
    if not terms:
        return None
    terms = sort_terms(terms)
    if not selected_node:
        first = start_offset(claim_name, len(terms))
    else:
        found = (number for number, term in enumerate(terms) if is_subset(term, selected))
        first = next(found, -1)
        if first < 0:
            raise TopologyError(
                f'topology {_go_term(selected)} from selected node "{selected_node}" is not in requisite:'
                f" {_go_list(map(_go_term, terms))}",
                advice=_from_class(class_name),
            )
    return Requirements(requisite=tuple(terms), preferred=tuple(terms[first:] + terms[:first]))


def _keys_of_selected(cluster: Cluster, node: str) -> Sequence[str]:
    keys = cluster.find_keys(node)
    if keys is None:
        raise TopologyError(
            f'failed to get selected CSINode {node}: csinode.storage.k8s.io "{node}" not found', is_node_gone=True
        )
    if not keys:
        raise TopologyError(
            f"no topology key found for node {node}",
            advice="see that the driver's node plugin is registered there and names topology keys:"
            f" kubectl get csinode {node} -o yaml",
        )
    return keys


def _term_of_selected(cluster: Cluster, node: str, keys: Sequence[str]) -> Term:
    stored = cluster.find_labels(node)
    labels = stored or {}
    missing = [key for key in keys if key not in labels]
    if missing:
        shown = " ".join(f"{key}:{value}" for key, value in sorted(labels.items()))
        raise TopologyError(
            f"topology labels from selected node map[{shown}] does not match topology keys"
            f" from CSINode {_go_list(keys)}",
            advice=f"Node {node} does not exist" if stored is None else f"Node {node} lacks {', '.join(missing)}",
        )
    return normalize({(key, labels[key]) for key in keys})


def _check_allowed(
    node: str, selected: Term, class_name: str, allowed_topologies: Sequence[Mapping[str, Any]] | None
) -> None:
    if allowed_topologies and not is_allowed(selected, allowed_topologies):
        allowed = _expand(class_name, allowed_topologies)
        raise TopologyError(
            f"selected node '\"{node}\"' topology '{_go_term(selected)}' is not in allowed topologies:"
            f" {_go_list(map(_go_term, allowed))}",
            advice=_from_class(class_name),
        )


def _expand(class_name: str, allowed_topologies: Sequence[Mapping[str, Any]]) -> list[Term]:
    if is_too_much(allowed_topologies):
        count = count_terms(allowed_topologies)
        more = " or more" if count == _COUNT_MAX else ""
        raise TopologyError(
            f"allowedTopologies of StorageClass {class_name} multiply out to {count}{more} places,"
            f" and at most {ALLOWED_TERMS_MAX} are told to a driver:"
            " delete the class and make it anew with fewer values or keys"
        )
    return flatten(allowed_topologies)


def _from_class(class_name: str) -> str:
    return f"allowedTopologies of StorageClass {class_name} leave that node out"


def _pick_keys(cluster: Cluster) -> Sequence[str]:
    """The keys of any node that has some: nodes may disagree, and no node is better than another."""
    choices = [keys for keys in cluster.all_keys() if keys]
    if not choices:
        raise TopologyError(
            "no available topology found",
            advice="see that the driver's node plugin is registered on a node and names topology keys:"
            " kubectl get csinodes -o yaml",
        )
    return random.choice(choices)  # noqa: S311 - spreads volumes, guards nothing


def _aggregate(cluster: Cluster, keys: Sequence[str]) -> list[Term]:
    terms = {
        normalize({(key, labels[key]) for key in keys})
        for labels in cluster.all_labels()
        if all(key in labels for key in keys)
    }
    if not terms:
        raise TopologyError(f"topologyKeys {_go_list(keys)} were not found on any nodes")
    return list(terms)


def _go_list(texts: Iterable[str]) -> str:
    return f"[{' '.join(texts)}]"


def _few(places: Sequence[Mapping[str, str]], limit: int = 4) -> str:
    """The first of them, and how many more there are."""
    shown = [",".join(f"{key}={value}" for key, value in sorted(place.items())) for place in places[:limit]]
    more = f" or one of {len(places) - limit} more" if len(places) > limit else ""
    return f"{' or '.join(shown)}{more}"


def _go_term(term: Term) -> str:
    return _go_list(f"{{{key} {value}}}" for key, value in term)


def is_volume_here(affinity: Mapping[str, Any] | None, segments: Mapping[str, str] | None) -> bool:
    """Whether a node with these segments can use a volume with this `nodeAffinity`.

    Args:
        affinity: `spec.nodeAffinity` of a PV; without one every node can.
        segments: what the driver said about the node; None: nothing, then every volume is here.

    Raises:
        UnusableObjectError: a term cannot be read, and no other one fits.

    Source: external-provisioner `pkg/controller/topology.go`, VolumeIsAccessible; Kubernetes
    component-helpers `scheduling/corev1/nodeaffinity/nodeaffinity.go`. The node has no name here, so
    `matchFields` restrict nothing.
    """
    required = (affinity or {}).get("required")
    if segments is None or required is None:
        return True
    faults = []
    for term in required.get("nodeSelectorTerms") or ():
        expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
        if not expressions and not fields:
            continue
        try:
            _check_fields(fields)
            # Each one is read, so that what cannot be read is told whatever stands before it.
            fits = [_fits(expression, segments) for expression in expressions]
        except ValueError as error:
            faults.append(str(error))
            continue
        if all(fits):
            return True
    if faults:
        raise UnusableObjectError(f"node affinity cannot be read: {'; '.join(faults)}")
    return False


def _fits(expression: Mapping[str, Any], segments: Mapping[str, str]) -> bool:
    key, operator = str(expression.get("key", "")), str(expression.get("operator", ""))
    values = [str(value) for value in expression.get("values") or ()]
    check = _OPERATORS.get(operator)
    if check is None:
        raise ValueError(f'"{operator}" is not a valid node selector operator')
    needs = {"In": len(values) > 0, "NotIn": len(values) > 0, "Gt": len(values) == 1, "Lt": len(values) == 1}
    if not needs.get(operator, not values):
        raise ValueError(f"operator {operator} of key {key} does not take {len(values)} values")
    if bad := [value for value in values if not _LABEL_VALUE.fullmatch(value)]:
        raise ValueError(f'"{bad[0]}" of key {key} is no value of a label')
    return check(segments.get(key), values)


def _check_fields(fields: Sequence[Mapping[str, Any]]) -> None:
    for field in fields:
        operator, values = str(field.get("operator", "")), field.get("values") or ()
        if operator not in ("In", "NotIn"):
            raise ValueError(f'"{operator}" is not a valid field selector operator')
        if len(values) != 1:
            raise ValueError(f"operator {operator} of field {field.get('key', '')} does not take {len(values)} values")


def _compare(mine: str | None, values: Sequence[str], compare: Callable[[int, int], bool]) -> bool:
    limit = _read_integer(values[0])
    if limit is None:
        raise ValueError(f'"{values[0]}" is not an integer')
    number = _read_integer(mine or "")
    return number is not None and compare(number, limit)


def _read_integer(text: str) -> int | None:
    """The number, if Go reads one: digits after at most one sign, 64 bits."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit()):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


_OPERATORS: Mapping[str, Callable[[str | None, Sequence[str]], bool]] = {
    "In": lambda mine, values: mine in values,
    "NotIn": lambda mine, values: mine not in values,
    "Exists": lambda mine, _: mine is not None,
    "DoesNotExist": lambda mine, _: mine is None,
    "Gt": lambda mine, values: _compare(mine, values, lambda a, b: a > b),
    "Lt": lambda mine, values: _compare(mine, values, lambda a, b: a < b),
}
