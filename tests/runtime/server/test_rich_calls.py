"""Calls that a model is held to by rich schemas: whatever is drawn, the model's own parser reads, whole and
in pieces, and jsonschema finds valid; what a format cannot carry is refused."""

from __future__ import annotations

import pytest

from tests.support.runtime.forced_calls import FORMATS, ForcedCalls

DRAWS = ForcedCalls()


@pytest.mark.parametrize("name", FORMATS)
def test_forced_calls_are_valid_by_any_schema(name: str) -> None:
    """`make schemas` draws more of them."""
    DRAWS.wrong.clear()
    taken = DRAWS.counts["schemas"]
    seed = 0
    while DRAWS.counts["schemas"] < taken + 2:  # refused ones are not counted
        DRAWS.draw(name, seed, texts=2)
        seed += 1
    assert DRAWS.wrong == []
