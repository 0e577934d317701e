"""Numbers in a schema: what is taken is held to exactly."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.errors import InvalidParameterError
from octavo.schema_numbers import first_unsafe_literal, first_unsafe_number
from octavo.structured_outputs import StructuredOutputsParams
from tests.support.runtime.demo_grammars import draw

EDGES = [
    sign * (2**power + more)
    for sign in (1, -1)
    for power in (53, 62, 63, 64)
    for more in (-1, 0, 1)
]


@given(st.sampled_from(EDGES) | st.integers(-(2**70), 2**70), st.integers(0, 9))
def test_an_integer_is_written_as_it_stands_or_refused(number: int, seed: int) -> None:
    try:
        wanted = StructuredOutputsParams(json={"const": number})
    except InvalidParameterError:
        assert abs(number) > 2**53
        return
    written = draw(wanted, seed)
    assert written is not None
    assert json.loads(written) == number


@pytest.mark.parametrize("number", [0, -(2**53), 2**53, 0.1, 2**63 - 1, True, 2**60])
def test_numbers_that_survive_are_taken(number: float) -> None:
    assert first_unsafe_number({"properties": {"a": {"enum": ["x", number]}}}) is None


def test_a_maximum_beyond_the_integers_is_none() -> None:
    assert first_unsafe_number({"maximum": 2**64 - 1}) is None
    assert first_unsafe_number({"minimum": 2**64 - 1}) is not None


@pytest.mark.parametrize(
    ("grammar", "is_safe"),
    [
        ("-9223372036854775807", False),
        ("-922337203685477e1", True),
        ("a-1", True),
        ("-1e400", False),
    ],
)
def test_only_the_least_integers_are_looked_for_in_a_grammar(grammar: str, is_safe: bool) -> None:
    assert (first_unsafe_literal(grammar) is None) == is_safe
