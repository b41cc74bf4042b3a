"""Texts of flags → values, as Go reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csisidecar.cli import kinds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("-0", 0.0),
        ("300ms", 0.3),
        ("1m30s", 90.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("+5s", 5.0),
        ("-5s", -5.0),
        ("1h2m3s4ms5us6ns", 3723.004005006),
        ("10µs", 1e-5),
        ("10μs", 1e-5),
    ],
)
def test_durations_are_gos(text: str, seconds: float) -> None:
    assert kinds.parse_duration_s(text) == pytest.approx(seconds, abs=1e-12)


@pytest.mark.parametrize("text", ["", "5", "1.5", "s", ".s", "5 s", "5S", "1d", "1m 30s", "--5s", "1e3s", "9999999h"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        kinds.parse_duration_s(text)


def test_a_bare_number_is_told_its_units() -> None:
    with pytest.raises(ValueError, match="needs a unit: 15s, 15m or 15h"):
        kinds.parse_duration_s("15")


@given(st.integers(min_value=0, max_value=2**50))
def test_whole_nanoseconds_survive(ns: int) -> None:
    assert round(kinds.parse_duration_s(f"{ns}ns") * 1e9) == ns


@pytest.mark.parametrize("text", ["1", "t", "T", "true", "TRUE", "True"])
def test_true_in_every_spelling(text: str) -> None:
    assert kinds.parse_bool(text) is True


@pytest.mark.parametrize("text", ["0", "f", "F", "false", "FALSE", "False"])
def test_false_in_every_spelling(text: str) -> None:
    assert kinds.parse_bool(text) is False


@pytest.mark.parametrize("text", ["", "yes", "tRUE", "on", "2"])
def test_other_booleans_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="give true or false"):
        kinds.parse_bool(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("10", 10),
        ("-1", -1),
        ("+7", 7),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 15),
        ("0b101", 5),
        ("1_000", 1000),
        ("0x_ff", 255),
        ("-0x10", -16),
    ],
)
def test_integers_have_gos_prefixes(text: str, number: int) -> None:
    assert kinds.parse_int(text) == number


@pytest.mark.parametrize("text", ["", "1.0", "ten", "1__0", "_1", "1_", "08", "0x", "9223372036854775808", "1e3", "٣"])
def test_other_integers_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        kinds.parse_int(text)


@pytest.mark.parametrize("text", ["-1", "+1", ""])
def test_unsigned_integers_have_no_sign(text: str) -> None:
    with pytest.raises(ValueError, match="whole number"):
        kinds.parse_uint(text)


@pytest.mark.parametrize("text", ["-1", "0x5", "2147483648", "five", "1.0"])
def test_verbosity_is_a_small_decimal(text: str) -> None:
    with pytest.raises(ValueError, match="0 to 2147483647"):
        kinds.parse_verbosity(text)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "fast", ""])
def test_rates_are_finite(text: str) -> None:
    with pytest.raises(ValueError, match="number"):
        kinds.parse_float(text)


@pytest.mark.parametrize(
    ("text", "is_set"), [("0", False), ("512", True), ("1k", True), ("2Ki", True), ("0Mi", False), ("0e9", False)]
)
def test_quantities_are_zero_or_not(text: str, is_set: bool) -> None:
    assert kinds.parse_quantity(text) is is_set


@pytest.mark.parametrize("text", ["", "1K", "1kb", "one"])
def test_other_quantities_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quantity"):
        kinds.parse_quantity(text)


def test_labels_have_exactly_one_colon_each() -> None:
    assert kinds.parse_labels("a:b,c:d,e:") == {"a": "b", "c": "d", "e": ""}
    for bad in ("", "a", "a:b:c", "a:b,"):
        with pytest.raises(ValueError, match="exactly one colon"):
            kinds.parse_labels(bad)


def test_gates_are_pairs() -> None:
    assert kinds.parse_gates("A=true,,B=F") == {"A": True, "B": False}
    for bad in ("A", "A=maybe", "A=true,B"):
        with pytest.raises(ValueError, match="true"):
            kinds.parse_gates(bad)


def test_vmodule_is_patterns_and_levels() -> None:
    assert kinds.parse_vmodule("lease=5,queue*=2") == (("lease", 5), ("queue*", 2))
    for bad in ("lease", "=5", "lease=x"):
        with pytest.raises(ValueError, match=r"."):
            kinds.parse_vmodule(bad)


def test_plugin_options_name_plugin_and_key() -> None:
    assert kinds.parse_option("mine.path.to=a=b") == (("mine", "path.to", "a=b"),)
    for bad in ("mine=x", "mine.key", ".key=x", "mine.=x"):
        with pytest.raises(ValueError, match=r"NAME\.KEY=VALUE"):
            kinds.parse_option(bad)
