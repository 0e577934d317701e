from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo_operator.api.quantity import duration_seconds, parse_quantity, quantity_bytes


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("1h30m", 5400), ("1h1m1s", 3661), ("0s", 0)]
)
def test_a_duration_is_read_in_seconds(text: str, seconds: int) -> None:
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "5x", "1m1h", "-5m", "1.5h", " 5m"])
def test_what_is_no_duration_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration") as caught:
        duration_seconds(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "number"),
    [("8", "8"), ("500m", "0.5"), ("64Gi", str(64 * 2**30)), ("1.5k", "1500"), ("0.5", "0.5")],
)
def test_a_quantity_is_read_as_a_number(text: str, number: str) -> None:
    assert parse_quantity(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "Gi", "8x", "-1", "1e3x", "8 Gi"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse_quantity(text)


@given(st.integers(0, 2**40))
def test_bytes_of_whole_kibibytes_are_exact(kibibytes: int) -> None:
    assert quantity_bytes(f"{kibibytes}Ki") == kibibytes * 1024
