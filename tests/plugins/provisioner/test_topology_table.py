"""The decision table of accessibility requirements: selected node, strictness, allowed and immediate topology.

One case a line; what a line leaves open is asked for with both answers. The nodes are those of cluster B:
n1 in z2 and r1, n2 in z1 and r1, n3 in z1 and r2.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from csisidecar.plugins.provisioner.topology import TopologyError
from tests.plugins.provisioner.clusters import B, find, selector, shown

Z1, BOTH = [selector(zone="z1")], [selector(zone="z2,z1")]
E4 = "selected node '\"n1\"' topology '[{rack r1} {zone z2}]' is not in allowed topologies: [[{zone z1}]]"
E7 = 'topology [{rack r1} {zone z2}] from selected node "n1" is not in requisite: [[{zone z1}]]'


@pytest.mark.parametrize(
    ("asking", "left_open", "wanted"),
    [
        pytest.param(
            {"node": "n1", "strict": True},
            ["immediate"],
            ("r1,z2", "r1,z2"),
            id="node strict none",
            marks=pytest.mark.parity("T-TABLE-01"),
        ),
        pytest.param(
            {"node": "n2", "strict": True, "allowed": Z1},
            ["immediate"],
            ("r1,z1", "r1,z1"),
            id="node strict compatible",
            marks=pytest.mark.parity("T-TABLE-02"),
        ),
        pytest.param(
            {"node": "n1", "strict": True, "allowed": Z1},
            ["immediate"],
            E4,
            id="node strict incompatible",
            marks=pytest.mark.parity("T-TABLE-03"),
        ),
        pytest.param(
            {"node": "n1", "strict": False},
            ["immediate"],
            ("r1,z1 r1,z2 r2,z1", "r1,z2 r2,z1 r1,z1"),
            id="node loose none",
            marks=pytest.mark.parity("T-TABLE-04"),
        ),
        pytest.param(
            {"node": "n1", "strict": False, "allowed": BOTH},
            ["immediate"],
            ("z1 z2", "z2 z1"),
            id="node loose given",
            marks=pytest.mark.parity("T-TABLE-05"),
        ),
        pytest.param(
            {"node": "n1", "strict": False, "allowed": Z1},
            ["immediate"],
            E7,
            id="node loose incompatible",
            marks=pytest.mark.parity("T-TABLE-06"),
        ),
        pytest.param(
            {"name": "data-web-0", "allowed": BOTH},
            ["strict", "immediate"],
            ("z1 z2", "z2 z1"),
            id="no node given",
            marks=pytest.mark.parity("T-TABLE-07"),
        ),
        pytest.param(
            {"name": "data-web-1", "immediate": True},
            ["strict"],
            ("r1,z1 r1,z2 r2,z1", "r1,z2 r2,z1 r1,z1"),
            id="no node none immediate",
            marks=pytest.mark.parity("T-TABLE-08"),
        ),
        pytest.param(
            {"name": "data-web-1", "immediate": False},
            ["strict"],
            None,
            id="no node none late",
            marks=pytest.mark.parity("T-TABLE-09"),
        ),
    ],
)
def test_decision_table(asking: dict[str, Any], left_open: list[str], wanted: tuple[str, str] | str | None) -> None:
    def answer(flags: tuple[bool, ...]) -> tuple[str, str] | str | None:
        words: dict[str, Any] = {**asking, **dict(zip(left_open, flags, strict=True))}
        try:
            return shown(find(B, **words))
        except TopologyError as error:
            return str(error)

    answers = [answer(flags) for flags in product([True, False], repeat=len(left_open))]
    assert answers == [wanted] * 2 ** len(left_open)
