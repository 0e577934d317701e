"""What an expression costs before the grammar's library counts, and what it means in one dialect alone."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.engine.grammars import GrammarCompiler, GrammarQueue
from octavo.engine.messages import AddRequest
from octavo.errors import InvalidParameterError
from octavo.model_source import resolve
from octavo.sampling_params import SamplingParams
from octavo.schema_patterns import MAX_WRITTEN_OUT, size_written_out
from octavo.structured_outputs import StructuredOutputsParams
from octavo.tokenizer import Tokenizer, load_tokenizer

atoms = st.sampled_from(["a", "b", r"\d", r"\{", "[a-z]", r"[\]{9}]"])


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> tuple[str, int]:
    """One, and its size by counting."""
    text, size = "", 0
    for _ in range(draw(st.integers(1, 3))):
        if depth and draw(st.booleans()):
            inner, inner_size = draw(expressions(depth - 1))
            part, part_size = f"({inner})", inner_size
        else:
            part, part_size = draw(atoms), 1
        times = draw(st.integers(1, 9))
        form = draw(st.sampled_from(["", "{%d}", "{1,%d}", "{%d,}"]))
        text += part + (form % times if form else "")
        size += part_size * (times if form else 1)
    return text, size


@given(expressions())
def test_the_size_is_that_of_what_is_repeated(expression: tuple[str, int]) -> None:
    text, size = expression
    assert size_written_out(text) == size


@given(st.text(alphabet="([{}])\\,0123456789ab", max_size=60))
def test_text_that_is_no_expression_has_a_size_too(text: str) -> None:
    assert size_written_out(text) >= 0


@pytest.mark.parametrize(
    "outputs",
    [
        {"regex": "(b{1000}){1000}"},
        {"regex": "a{1000000}"},
        {"regex": "((((a{9}){9}){9}){9}){9}"},
        {"regex": "a{99999999999999999999}"},
        {"grammar": "start: /(b{1000}){1000}/"},
        {"json": {"type": "string", "pattern": "^((a{500}){500}){500}$"}},
        {"json": {"patternProperties": {"^(a{500}){500}$": {}}, "type": "object"}},
        {"json": {"type": "integer", "multipleOf": 999_983}},
        {"regex": "[a-z&&[^b]]"},
        {"json": {"type": "array", "items": {"type": "string", "pattern": "[[:alpha:]]"}}},
    ],
    ids=str,
)
def test_what_costs_too_much_or_means_two_things_is_refused_at_once(
    outputs: dict[str, Any],
) -> None:
    with pytest.raises(InvalidParameterError, match="structured_outputs holds"):
        StructuredOutputsParams(**outputs)


@pytest.mark.parametrize(
    "regex", ["[a-z]{1,500}", "([0-9a-f]{4}-){8}", r"\{99999999\}", "x" * (2 * MAX_WRITTEN_OUT)]
)
def test_what_is_as_long_as_it_looks_is_taken(regex: str) -> None:
    StructuredOutputsParams(regex=regex)


def test_what_is_compiled_waits_for_nobody() -> None:
    """While another grammar is compiled, and for as long as that takes."""
    tokenizer = load_tokenizer(resolve("builtin://demo"))
    is_slow, may_end = threading.Event(), threading.Event()

    def load() -> Tokenizer:
        return tokenizer

    compiler = GrammarCompiler(load, tokenizer.backend.get_vocab_size())
    kept = StructuredOutputsParams(regex="kept")
    compiler.prepare(kept, [1])

    def compile_slowly(*_: object) -> Any:
        is_slow.set()
        assert may_end.wait(60)
        raise InvalidParameterError("structured_outputs", "enough")

    compiler._compile = compile_slowly  # type: ignore[method-assign,assignment]
    queue = GrammarQueue(compiler)

    def request(name: str, outputs: StructuredOutputsParams) -> AddRequest:
        params = SamplingParams(structured_outputs=outputs)
        return AddRequest(name, [3], params, end_token_ids=(1,))

    assert queue.must_wait(request("slow", StructuredOutputsParams(regex="other")))
    assert is_slow.wait(60)
    assert not queue.must_wait(request("kept", kept))
    compiler.prepare(kept, [1]).start()
    may_end.set()
    while not (found := queue.ready()):
        pass
    assert [one.request_id for one, _ in found] == ["slow"]
