"""Grammars: every document that they let through is one, and what they cannot promise is refused."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from octavo.engine.grammars import GrammarCompiler
from octavo.engine.grammars.progress import on_one_line
from octavo.engine.grammars.token_table import TextTokens
from octavo.errors import InvalidParameterError, ModelInvalidError
from octavo.structured_outputs import StructuredOutputsParams
from octavo.tokenizer import Tokenizer
from tests.support.runtime.demo_grammars import (
    BYTES,
    COMPILER,
    END,
    TOKENIZER,
    allowed,
    draw,
    text_of,
)
from tests.support.runtime.followed import Followed
from tests.support.runtime.tokenizers_for_tests import byte_level_tokenizer, metaspace_tokenizer

leaves = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("string")},
        optional={"minLength": st.integers(0, 3), "maxLength": st.integers(3, 9)},
    ),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["integer", "number"])},
        optional={
            "minimum": st.integers(-50, 5),
            "exclusiveMaximum": st.integers(6, 500),
            "multipleOf": st.sampled_from([1, 2, 5]),
        },
    ),
    st.builds(lambda name: {"type": "string", "format": name}, st.sampled_from(["date", "uuid"])),
    st.builds(
        lambda text: {"type": "string", "pattern": text}, st.sampled_from(["^a+b$", "[0-9]{2}"])
    ),
    st.builds(
        lambda values: {"enum": values},
        st.lists(st.one_of(st.integers(), st.text(max_size=4), st.none()), min_size=1, max_size=4),
    ),
    st.builds(lambda value: {"const": value}, st.sampled_from([None, True, "ü\n", {"a": [1]}])),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["integer", "null"]}]),
)
names = st.sampled_from(["a", "b", "a b", 'q"', "ü"])


def compound(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    objects = st.builds(
        lambda members, required, more: {
            "type": "object",
            "properties": members,
            "required": [name for name in members if name in required],
            "additionalProperties": more,
        },
        st.dictionaries(names, inner, max_size=3),
        st.sets(names),
        st.one_of(st.booleans(), inner),
    )
    arrays = st.builds(
        lambda items, least, more: {
            "type": "array",
            "items": items,
            "minItems": least,
            "maxItems": least + more,
        },
        inner,
        st.integers(0, 2),
        st.integers(0, 2),
    )
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        objects,
        arrays,
        st.builds(lambda one: {"anyOf": one}, several),
        st.builds(lambda one: {"allOf": one}, several),
        st.builds(lambda one: {"oneOf": one}, several),
        st.builds(lambda one: {"$defs": {"x": one}, "$ref": "#/$defs/x"}, inner),
    )


@settings(max_examples=120)
@given(schema=st.recursive(leaves, compound, max_leaves=6), seed=st.integers(0, 2**32))
def test_what_is_taken_gives_valid_documents_alone(schema: dict[str, Any], seed: int) -> None:
    try:
        outputs = StructuredOutputsParams(json=schema)
        COMPILER.prepare(outputs, [END])
    except InvalidParameterError:
        event("refused")
        return
    text = draw(outputs, seed)
    event("no end" if text is None else "a document")
    if text is not None:
        jsonschema.Draft202012Validator(schema).validate(json.loads(text))


TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "maxLength": 5},
                "children": {
                    "type": "array",
                    "items": {"$ref": "#/$defs/node"},
                    "maxItems": 2,
                },
            },
            "required": ["name"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}


def test_a_schema_that_refers_to_itself_ends() -> None:
    found = [draw(StructuredOutputsParams(json=TREE), seed) for seed in range(20)]
    assert sum(text is not None for text in found) > 10
    for text in filter(None, found):
        jsonschema.Draft202012Validator(TREE).validate(json.loads(text))


CHOICES = ["a b", 'ü"\n\\', "(c)|.*", "", "\x00", "😀", "/x/"]


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"type": "string", "minLength": 1.0, "maxLength": 2e0}, '"ab"', '"abc"'),
        ({"type": "array", "minItems": 1.0, "maxItems": 2.0, "items": {}}, "[1,2]", "[]"),
        (
            {"type": "object", "maxProperties": 1.0, "additionalProperties": {}},
            '{"a":1}',
            '{"a":1,"b":1}',
        ),
        ({"type": "integer", "minimum": 1e0, "maximum": 8.0, "multipleOf": 2.0}, "4", "3"),
        (
            {"anyOf": [{"items": {"minLength": 2.0, "type": "string"}, "type": "array"}]},
            '["ab"]',
            '["a"]',
        ),
        # Names of properties are no keywords.
        (
            {"properties": {"minLength": {"type": "boolean"}}, "type": "object"},
            '{"minLength":true}',
            '{"minLength":1}',
        ),
        (
            {"properties": {"default": {"type": "string", "pattern": r"^\d$"}}, "type": "object"},
            '{"default":"1"}',
            '{"default":"\u0661"}',
        ),
    ],
    ids=str,
)
def test_a_number_without_a_fraction_is_an_integer(
    schema: dict[str, Any], right: str, wrong: str
) -> None:
    outputs = StructuredOutputsParams(json=schema)
    assert Followed(TOKENIZER, outputs, COMPILER).takes(right)
    assert not Followed(TOKENIZER, outputs, COMPILER).takes(wrong)


def test_choices_are_texts_and_no_patterns() -> None:
    found = {draw(StructuredOutputsParams(choice=CHOICES), seed) for seed in range(120)}
    assert found == set(CHOICES)


@pytest.mark.parametrize(
    ("outputs", "word"),
    [
        ({"json": {"not": {"type": "string"}}}, "not"),
        ({"json": {"type": "array", "uniqueItems": True}}, "uniqueItems"),
        ({"json": {"type": "string", "format": "made-up"}}, "made-up"),
        ({"json": {"if": {}, "then": {}}}, "then"),
        ({"json": {"$ref": "https://example.org/schema.json"}}, "to into $defs"),
        ({"json": {"$ref": "other.json#/a"}}, "'other.json' leads out of the schema"),
        ({"json": {"$ref": "#/$defs/none"}}, "'#/$defs/none' leads to nothing"),
        ({"json": {"type": "string", "minLength": 1.5}}, "minLength"),
        ({"json": {"type": "string", "minLength": True}}, "minLength"),
        ({"json": {"oneOf": [{"type": "number"}, {"type": "integer"}]}}, "oneOf"),
        ({"json": {"type": "string", "pattern": "^(?=a)b"}}, "look"),
        ({"json": {"type": "object", "properties": {"a": False}, "required": ["a"]}}, "required"),
        ({"regex": "a("}, "unclosed"),
        ({"grammar": "start: unknown"}, "unknown"),
        ({"grammar": 'rule: "a"'}, "start"),
    ],
)
def test_what_cannot_be_held_to_is_refused_by_name(outputs: dict[str, Any], word: str) -> None:
    params = StructuredOutputsParams(**outputs, parameter="response_format")
    with pytest.raises(InvalidParameterError, match="response_format cannot be held to") as caught:
        COMPILER.prepare(params, [END])
    assert word in str(caught.value)
    assert caught.value.parameter == "response_format"


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"$ref": "#/$defs/b"}}},
    ],
)
def test_a_reference_to_itself_alone_is_refused_by_name(schema: dict[str, Any]) -> None:
    """A document that came to it could not go on."""
    with pytest.raises(InvalidParameterError, match=r"the reference '#.*', which leads to itself"):
        StructuredOutputsParams(json=schema)


LIMIT_NAMED = re.compile(r"more than [0-9,]{5,} .*, which is the limit\. [A-Z]")
EXPONENTIAL = ["start: r0", *(f"r{i}: r{i + 1} r{i + 1}" for i in range(60)), 'r60: "a"']


@pytest.mark.parametrize(
    "outputs",
    [
        {"grammar": "\n".join(EXPONENTIAL)},
        {"regex": r"\p{L}{1,390}" * 50},
    ],
)
def test_what_costs_too_much_ends_and_says_so(outputs: dict[str, Any]) -> None:
    """Where only the text that follows shows it, the sequence ends, by one of its end tokens."""
    params = StructuredOutputsParams(**outputs)
    numbers = np.random.default_rng(1)
    refusals = list[str]()
    try:
        progress = COMPILER.prepare(params, [END]).start()
    except InvalidParameterError as error:
        refusals.append(str(error))
    if refusals:
        assert LIMIT_NAMED.search(refusals[0])
        return
    token_ids: list[int] = []
    while progress.error is None and len(token_ids) < 400:
        token_ids.append(int(numbers.choice(allowed(progress.next_mask(token_ids)))))
    assert LIMIT_NAMED.search(progress.error or "")
    assert allowed(progress.next_mask(token_ids)) == [END]


def test_whitespace_in_a_document_comes_to_an_end() -> None:
    progress = COMPILER.prepare(StructuredOutputsParams(json_object=True), [END]).start()
    spaces = [one for one, token in enumerate(BYTES) if token and not token.strip(b" \n\r\t")]
    token_ids = [BYTES.index(b"{")]
    while found := [one for one in allowed(progress.next_mask(token_ids)) if one in spaces]:
        token_ids.append(found[0])
        assert len(token_ids) < 60
    assert allowed(progress.next_mask(token_ids))


def test_a_tokenizer_that_cannot_be_read_refuses_the_request() -> None:
    def missing() -> Tokenizer:
        raise ModelInvalidError("tokenizer.json is missing")

    compiler = GrammarCompiler(missing, 8)
    with pytest.raises(InvalidParameterError, match=r"tokenizer\.json is missing"):
        compiler.prepare(StructuredOutputsParams(json_object=True), [END])


def test_a_model_without_an_end_is_told() -> None:
    with pytest.raises(InvalidParameterError, match="no token that ends"):
        COMPILER.prepare(StructuredOutputsParams(json_object=True), [])


def test_a_refusal_says_which_schema_and_where_in_it() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"not": {}, "b": {"items": {"not": {}}}},
    }
    schemas: dict[str, dict[str, Any]] = {"tool_0": {"type": "object"}, "tool_1": schema}
    wanted = StructuredOutputsParams(
        grammar="%llguidance {}\nstart: @tool_0 | @tool_1\n",
        schemas=schemas,
        places={"tool_1": "tools[1] (f)"},
        parameter="tools",
    )
    told = (
        'tools cannot be held to: tools[1] (f) at properties.b.items: Unimplemented keys: ["not"]'
    )
    with pytest.raises(InvalidParameterError) as caught:
        COMPILER.prepare(wanted, [END])
    assert str(caught.value) == told
    with pytest.raises(InvalidParameterError, match=r"to: properties\.b\.items: Unimplemented"):
        COMPILER.prepare(StructuredOutputsParams(json=schema), [END])


def test_a_fault_of_the_library_is_told_without_its_stack() -> None:
    theirs = "panic: called `Result::unwrap()` on an `Err` value\n<backtrace>\n 0: <unknown>"
    assert on_one_line(theirs) == "the grammar's library failed on it"
    assert on_one_line("too\n many <non-verbose/>words") == "too many words"


@pytest.mark.parametrize("tokenizer", [byte_level_tokenizer(), metaspace_tokenizer()])
@given(text=st.text(max_size=20).filter(lambda text: "<" not in text))
def test_forced_text_is_written_in_tokens_that_make_it_up(tokenizer: Any, text: str) -> None:
    size = tokenizer.get_vocab_size()
    table = TextTokens(Tokenizer(tokenizer, {}, None, tells_segments=False), size, END)
    assert b"".join(table.tokens[one] for one in table(text)).decode() == text


def test_forced_text_is_never_a_special_token() -> None:
    table = TextTokens(TOKENIZER, len(BYTES), END)
    (special,) = [one for one in table.special_token_ids if BYTES[one] == b"<|end|>"]
    token_ids = table("a<|end|>b")
    assert special not in token_ids
    assert text_of(token_ids) == "a<|end|>b"
