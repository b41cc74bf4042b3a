"""Is a volume on the node that this process works for? Its affinity against what the driver says of the node."""

from __future__ import annotations

from typing import Any

import pytest

from csisidecar.errors import UnusableObjectError
from csisidecar.plugins.provisioner.topology import is_volume_here

HERE = {"zone": "a", "size": "5", "name": "x"}


def affinity(*terms: Any) -> dict[str, Any]:
    return {"required": {"nodeSelectorTerms": list(terms)}}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


def term(*expressions: dict[str, Any]) -> dict[str, Any]:
    return {"matchExpressions": list(expressions)}


def only(key: str, operator: str, *values: str) -> dict[str, Any]:
    """An affinity of one expression."""
    return affinity(term(expression(key, operator, *values)))


IN_A, IN_B = term(expression("zone", "In", "a")), term(expression("zone", "In", "b"))
FIELDS = [expression("metadata.name", "In", "another-node")]


@pytest.mark.parity("T-NODE-11")
@pytest.mark.parametrize(
    ("fits", "fits_not"),
    [
        pytest.param([None], [], id="no affinity", marks=pytest.mark.parity("T-HERE-02")),
        pytest.param([{}], [], id="nothing required", marks=pytest.mark.parity("T-HERE-03")),
        pytest.param(
            [], [affinity(), {"required": {}}], id="required without terms", marks=pytest.mark.parity("T-HERE-04")
        ),
        pytest.param([affinity({}, IN_A)], [affinity({})], id="empty term", marks=pytest.mark.parity("T-HERE-05")),
        pytest.param(
            [affinity(IN_B, IN_A), affinity(IN_A, IN_B)],
            [affinity(IN_B, IN_B)],
            id="terms are alternatives",
            marks=pytest.mark.parity("T-HERE-06"),
        ),
        pytest.param(
            [affinity(term(expression("zone", "In", "a"), expression("size", "In", "5")))],
            [
                affinity(term(expression("zone", "In", "a"), expression("rack", "In", "r"))),
                affinity(term(expression("rack", "In", "r"), expression("zone", "In", "a"))),
            ],
            id="expressions hold together",
            marks=pytest.mark.parity("T-HERE-07"),
        ),
        pytest.param(
            [only("zone", "In", "b", "a")],
            [only("zone", "In", "b"), only("rack", "In", "a")],
            id="In",
            marks=pytest.mark.parity("T-HERE-08"),
        ),
        pytest.param(
            [only("zone", "NotIn", "b"), only("rack", "NotIn", "a")],
            [only("zone", "NotIn", "b", "a")],
            id="NotIn",
            marks=pytest.mark.parity("T-HERE-09"),
        ),
        pytest.param(
            [only("zone", "Exists")], [only("rack", "Exists")], id="Exists", marks=pytest.mark.parity("T-HERE-10")
        ),
        pytest.param(
            [only("rack", "DoesNotExist")],
            [only("zone", "DoesNotExist")],
            id="DoesNotExist",
            marks=pytest.mark.parity("T-HERE-11"),
        ),
        pytest.param(
            [only("size", "Gt", "4"), only("size", "Gt", "004")],
            [only("size", "Gt", "5"), only("size", "Gt", "40"), only("name", "Gt", "1"), only("rack", "Gt", "1")],
            id="Gt",
            marks=pytest.mark.parity("T-HERE-12"),
        ),
        pytest.param(
            [only("size", "Lt", "6"), only("size", "Lt", "40")],
            [only("size", "Lt", "5"), only("name", "Lt", "1"), only("rack", "Lt", "1")],
            id="Lt",
            marks=pytest.mark.parity("T-HERE-13"),
        ),
        pytest.param(
            [affinity({"matchFields": FIELDS}), affinity({**IN_A, "matchFields": FIELDS})],
            [affinity({**IN_B, "matchFields": FIELDS})],
            id="matchFields",
            marks=pytest.mark.parity("T-HERE-14"),
        ),
    ],
)
def test_a_volume_is_here_if_its_affinity_fits(fits: list[dict[str, Any] | None], fits_not: list[Any]) -> None:
    assert [is_volume_here(given_, HERE) for given_ in fits] == [True] * len(fits)
    assert [is_volume_here(given_, HERE) for given_ in fits_not] == [False] * len(fits_not)


@pytest.mark.parity("T-HERE-01")
def test_without_topology_of_its_own_a_node_has_every_volume() -> None:
    assert is_volume_here(affinity(IN_B), None)
    assert not is_volume_here(affinity(IN_B), {})


@pytest.mark.parity("T-HERE-15")
@pytest.mark.parametrize(
    "bad",
    [
        term(expression("zone", "Near", "a")),
        term(expression("zone", "In")),
        term(expression("zone", "NotIn")),
        term(expression("zone", "Exists", "a")),
        term(expression("size", "Gt", "4", "5")),
        term(expression("size", "Gt", "many")),
        term(expression("size", "Lt", "1_0")),
        term(expression("size", "Lt", str(2**63))),
        term(expression("zone", "In", "a", "a place")),
        term(expression("size", "Gt", "-7")),
        term(expression("zone", "In", "b"), expression("zone", "Near", "a")),
        {"matchFields": [expression("metadata.name", "Exists")]},
        {"matchFields": [expression("metadata.name", "In", "n1", "n2")]},
    ],
)
def test_term_that_cannot_be_read_is_an_error_unless_another_one_fits(bad: dict[str, Any]) -> None:
    for alone in (affinity(bad), affinity(bad, IN_B), affinity(IN_B, bad)):
        with pytest.raises(UnusableObjectError, match="node affinity cannot be read"):
            is_volume_here(alone, HERE)
    assert is_volume_here(affinity(bad, IN_A), HERE)
    assert is_volume_here(affinity(IN_A, bad), HERE)


@pytest.mark.parity("T-HERE-16")
@pytest.mark.parametrize("value", ["1_0", "ten", "", str(2**63)])
def test_label_that_go_does_not_read_as_a_number_is_neither_larger_nor_smaller(value: str) -> None:
    assert not is_volume_here(only("size", "Gt", "1"), {"size": value})
    assert not is_volume_here(only("size", "Lt", "99"), {"size": value})
