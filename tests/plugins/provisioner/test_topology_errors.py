"""Nodes that do not tell their place: the text of each error, letter by letter as in Go.

What becomes of the claim is in `test_place_errors`.
"""

from __future__ import annotations

from typing import Any

import pytest

from csisidecar.plugins.provisioner.topology import TopologyError
from tests.plugins.provisioner.clusters import A, Drawn, find, selector, shown


@pytest.mark.parity("T-REQ-05")
@pytest.mark.parametrize(
    ("cluster", "given_", "text", "is_node_gone"),
    [
        pytest.param(
            A,
            {"node": "n9"},
            'failed to get selected CSINode n9: csinode.storage.k8s.io "n9" not found',
            True,
            id="E1",
        ),
        pytest.param(Drawn({"n1": ()}, A.labels), {"node": "n1"}, "no topology key found for node n1", False, id="E2"),
        pytest.param(
            Drawn(A.keys, {}),
            {"node": "n1"},
            "topology labels from selected node map[] does not match topology keys from CSINode [zone]",
            False,
            id="E3 no Node",
        ),
        pytest.param(
            Drawn({"n1": ("zone", "rack")}, {"n1": {"zone": "b", "a": "1"}}),
            {"node": "n1"},
            "topology labels from selected node map[a:1 zone:b] does not match topology keys from CSINode [zone rack]",
            False,
            id="E3 label missing",
        ),
        pytest.param(Drawn({"n1": ()}, A.labels), {}, "no available topology found", False, id="E5"),
        pytest.param(Drawn({}, {}), {}, "no available topology found", False, id="E5 no nodes"),
        pytest.param(
            Drawn(A.keys, {"n1": {"other": "b"}}),
            {},
            "topologyKeys [zone] were not found on any nodes",
            False,
            id="E6",
        ),
    ],
)
def test_errors(cluster: Drawn, given_: dict[str, Any], text: str, is_node_gone: bool) -> None:
    with pytest.raises(TopologyError) as caught:
        find(cluster, **given_)
    assert str(caught.value) == text
    assert caught.value.is_node_gone is is_node_gone


@pytest.mark.parity("T-REQ-06")
def test_allowed_topologies_without_a_node_ask_no_node() -> None:
    assert shown(find(Drawn({}, {}), "data-web-0", allowed=[selector(zone="nowhere")])) == ("nowhere", "nowhere")
