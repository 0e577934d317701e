from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo_operator.api.quantity import duration_seconds, parse_quantity, quantity_bytes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h1m1s", 3661),
        ("0s", 0),
        ("1m1h", 3660),
        ("500ms", 1),
        ("2s1ms", 3),
        ("100000s", 100_000),
    ],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: int) -> None:
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "5x", "5m\n", "12345678s", "-5m", "1.5h", " 5m"])
def test_what_is_no_duration_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration") as caught:
        duration_seconds(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("8", "8"),
        ("500m", "0.5"),
        ("64Gi", str(64 * 2**30)),
        ("1.5k", "1500"),
        ("0.5", "0.5"),
        (".5", "0.5"),
        ("2.", "2"),
        ("+8", "8"),
        ("1e3", "1000"),
        ("129e6", "129000000"),
        ("1E3", "1000"),
        ("2E-1", "0.2"),
        ("2E", "2e18"),
        ("1Ei", str(2**60)),
        ("100u", "0.0001"),
        ("5n", "5e-9"),
        ("16Ei", str(2**63 - 1)),
        ("1e30", str(2**63 - 1)),
    ],
)
def test_a_quantity_is_read_as_a_number(text: str, number: str) -> None:
    assert parse_quantity(text) == Decimal(number)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Gi",
        "8x",
        "-1",
        "1e3x",
        "8 Gi",
        " 8",
        "8\n",
        "1K",
        "1mi",
        "1ki",
        "1_000",
        "NaN",
        "Infinity",
        "1e",
        "1e1.5",
        "1e3Ki",
        "٣",
        "0x10",
        "1i",
        ".",
    ],
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse_quantity(text)


@given(st.integers(0, 2**40))
def test_bytes_of_whole_kibibytes_are_exact(kibibytes: int) -> None:
    assert quantity_bytes(f"{kibibytes}Ki") == kibibytes * 1024
