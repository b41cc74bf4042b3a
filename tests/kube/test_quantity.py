"""Quantities as the API server writes and reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csisidecar.kube import quantity


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("10Gi", 10 * 2**30),
        ("1.5Gi", 3 * 2**29),
        ("0.1Ki", 103),
        ("1k", 1000),
        ("1e3", 1000),
        ("1E3", 1000),
        ("1E", 10**18),
        ("12e-1", 2),
        ("500m", 1),
        ("1n", 1),
        ("2500m", 3),
        ("+5", 5),
        ("-1Ki", -1024),
        (".5Ki", 512),
        ("5.", 5),
        ("0", 0),
        (7, 7),
        (2.5, 3),
        ("9223372036854775807", 2**63 - 1),
        ("16Ei", 2**63 - 1),
        ("1e999999", 2**63 - 1),
        ("0e999999", 0),
        ("1e-999999", 1),
    ],
)
def test_amount_is_exact_and_rounded_up_to_bytes(text: str | float, amount: int) -> None:
    assert quantity.parse(text) == amount


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "Gi",
        "1 Gi",
        "10GB",
        "10gi",
        "1e",
        "0x10",
        "1_000",
        "\u0661",
        "1e1e1",
        "--1",
        "inf",
        "nan",
        "1Ki2",
        "9" * 500,
    ],
)
def test_anything_else_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        quantity.parse(text)


def test_booleans_are_no_amounts() -> None:
    with pytest.raises(ValueError, match="True"):
        quantity.parse(True)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0"),
        (1, "1"),
        (512, "512"),
        (1000, "1k"),
        (1023, "1023"),
        (1024, "1Ki"),
        (1025, "1025"),
        (2000, "2000"),
        (10**9, "1000000000"),
        (2**20, "1Mi"),
        (3 * 2**29, "1536Mi"),
        (5 * 2**30, "5Gi"),
        (2**40, "1Ti"),
        (2**50, "1Pi"),
        (2**60, "1Ei"),
    ],
)
def test_largest_exact_binary_unit_is_written(amount: int, text: str) -> None:
    assert quantity.to_text(amount) == text


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_written_amounts_are_read_back(amount: int) -> None:
    assert quantity.parse(quantity.to_text(amount)) == amount
