"""Calls that a model is held to by rich schemas: whatever is drawn, the model's own parser reads, whole and
in pieces, and jsonschema finds valid; what a format cannot carry is refused."""

from __future__ import annotations

import json

import pytest

from octavo.engine.requests.marked_text import MarkedText
from tests.support.runtime.forced_calls import FORMATS, ForcedCalls, read_calls

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


def test_a_text_that_begins_as_an_object_ends_as_texts_do_where_none_may_be() -> None:
    """Its brackets close in a later call."""
    kinds = [{"type": "string"}, {"type": "integer"}, {"type": "array"}]
    schema = {"type": "object", "properties": {"u": {"anyOf": kinds}}}
    texts = ['{"Z]1', " serve}1", '{"]']
    calls = [
        f"<tool_call>f\n<arg_key>u</arg_key>\n<arg_value>{one}</arg_value>\n</tool_call>"
        for one in texts
    ]
    found = read_calls(FORMATS["glm45"], {"f": schema}, [MarkedText("\n".join(calls))])
    read = [json.loads(one[1]) for one in found if isinstance(one, tuple)]
    assert read == [{"u": one} for one in texts]
