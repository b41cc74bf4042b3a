"""Where the places of a claim without a selected node begin: its name, a number in it, and FNV-1 of the rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csisidecar.plugins.provisioner.topology import fnv1_32, split_claim_name, start_offset

HASHES = [
    pytest.param(
        "testpvcA-testset-1",
        "testset",
        1633848515,
        1,
        (0, 0),
        id="testpvcA-testset-1",
        marks=pytest.mark.parity("T-START-01"),
    ),
    pytest.param("testset-2", "testset", 1633848515, 2, (1, 1), id="testset-2", marks=pytest.mark.parity("T-START-02")),
    pytest.param("testpvc", "testpvc", 1684622678, 0, (2, 2), id="testpvc", marks=pytest.mark.parity("T-START-03")),
    pytest.param("data-web-0", "web", 1181096325, 0, (0, 1), id="data-web-0", marks=pytest.mark.parity("T-START-04")),
    pytest.param(
        "data-web-1 logs-web-1 web-1",
        "web",
        1181096325,
        1,
        (1, 2),
        id="data-web-1 logs-web-1 web-1",
        marks=pytest.mark.parity("T-START-05"),
    ),
    pytest.param("data-web-2", "web", 1181096325, 2, (2, 3), id="data-web-2", marks=pytest.mark.parity("T-START-06")),
    pytest.param("my-claim", "my-claim", 2574695748, 0, (0, 0), id="my-claim", marks=pytest.mark.parity("T-START-07")),
    pytest.param("a-007", "a", 84696446, 7, (0, 1), id="a-007", marks=pytest.mark.parity("T-START-08")),
    pytest.param("x-", "x-", 1500973320, 0, (0, 0), id="x-", marks=pytest.mark.parity("T-START-09")),
    pytest.param(
        "pvc-4294967295",
        "pvc",
        964120306,
        4294967295,
        (0, 1),
        id="pvc-4294967295",
        marks=pytest.mark.parity("T-START-10"),
    ),
    pytest.param(
        "data-web-4294967295",
        "web",
        1181096325,
        4294967295,
        (2, 0),
        id="data-web-4294967295",
        marks=pytest.mark.parity("T-START-11"),
    ),
    pytest.param(
        "pvc-4294967296",
        "pvc-4294967296",
        135142369,
        0,
        (1, 1),
        id="pvc-4294967296",
        marks=pytest.mark.parity("T-START-12"),
    ),
]


@pytest.mark.parity("T-REQ-07")
@pytest.mark.parametrize(("names", "text", "value", "index", "starts"), HASHES)
def test_start_is_read_from_the_claims_name(
    names: str, text: str, value: int, index: int, starts: tuple[int, int]
) -> None:
    for name in names.split():
        assert split_claim_name(name) == (text, index)
        assert fnv1_32(text) == value
        assert (start_offset(name, 3), start_offset(name, 4)) == starts


@pytest.mark.parity("T-START-13")
def test_hash_of_nothing_is_where_the_hash_begins() -> None:
    assert fnv1_32("") == 2166136261


@pytest.mark.parity("T-START-14")
def test_claim_without_a_name_starts_anywhere() -> None:
    assert {start_offset("", 3) for _ in range(64)} == {0, 1, 2}


@pytest.mark.parity("T-REQ-08")
@pytest.mark.parametrize("name", ["web-+1", "web-1_0", "web- 1", "web-\u0661", "web-\u00b2", "web--"])
def test_what_python_reads_as_a_number_and_go_does_not_counts_as_text(name: str) -> None:
    assert split_claim_name(name) == (name, 0)


NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)


@pytest.mark.parity("T-START-15")
@given(st.lists(NAMES, min_size=2, max_size=2), NAMES, st.integers(0, 10**6), st.integers(1, 9))
def test_replicas_take_the_places_in_turn_and_all_claims_of_one_take_the_same(
    templates: list[str], stateful_set: str, replica: int, count: int
) -> None:
    starts = [start_offset(f"{template}-{stateful_set}-{replica}", count) for template in templates]
    assert starts[0] == starts[1]
    sum_ = fnv1_32(stateful_set.rpartition("-")[2]) + replica
    if (sum_ + 1) >> 32 == sum_ >> 32:
        after = start_offset(f"{templates[0]}-{stateful_set}-{replica + 1}", count)
        assert after == (starts[0] + 1) % count


@pytest.mark.parity("T-START-16")
@given(st.text(), st.integers(1, 50))
def test_any_name_starts_at_one_of_the_places(name: str, count: int) -> None:
    assert start_offset(name, count) in range(count)
