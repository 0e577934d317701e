"""Grammars of calls and of answers behind reasoning: what is drawn from them is read back by the model's own
parser, whatever is drawn, and what the model thinks is its own business."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from tokenizers import AddedToken

from octavo.engine.requests.marked_text import MarkedText
from octavo.engine.requests.vocabulary import Vocabulary
from octavo.errors import InvalidParameterError
from octavo.model_source import resolve
from octavo.server.openai.api_errors import ApiError
from octavo.server.openai.parsing.answer import Markup
from octavo.server.openai.parsing.formats import CALL_FORMATS, HARMONY, CallFormat
from octavo.server.openai.parsing.pieces import Reasoning
from octavo.server.openai.parsing.reasoning import REASONING_FORMATS
from octavo.server.openai.protocol import ChatCompletionRequest
from octavo.server.openai.tool_choice import answer_format, read_tool_use
from octavo.structured_outputs import StructuredOutputsParams
from octavo.tokenizer import Tokenizer, load_tokenizer
from tests.support.runtime.followed import Followed
from tests.support.runtime.forced_calls import FORMATS
from tests.support.runtime.read_calls import Call, read_with

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"place": {"enum": ["a", 'b"{', "</tool_call>"]}, "days": {"type": "boolean"}},
    "required": ["place"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("f", "go")
]

TAGS = [
    "<think>",
    "</think>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<|channel|>",
    "<|message|>",
    "<|start|>",
    "<|over|>",
    "<arg_key>",
    "</arg_value>",
    '<|"|>',
    "<tool_call|>",
    "<|action_start|>",
    "<|plugin|>",
    "<|tool_call_begin|>",
]


@pytest.fixture(scope="module", params=[False, True], ids=["tags as text", "tags as tokens"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    found = load_tokenizer(resolve("builtin://demo"))
    if request.param:
        tags = [*TAGS, "<tool_call>", "</tool_call>"]
        found.backend.add_special_tokens([AddedToken(tag, special=True) for tag in tags])
    return found


def asked(tokenizer: Tokenizer, form: CallFormat, **fields: Any) -> StructuredOutputsParams:
    document = {"model": "m", "messages": [], "tools": TOOLS, **fields}
    request = ChatCompletionRequest.parse(document)
    special = Vocabulary(tokenizer.backend).special
    wanted = answer_format(request, read_tool_use(request), form, special)
    assert wanted is not None
    return wanted


@pytest.mark.parametrize("is_parallel", [True, False])
@pytest.mark.parametrize("name", FORMATS)
def test_forced_calls_are_read_back(tokenizer: Tokenizer, name: str, is_parallel: bool) -> None:
    form = FORMATS[name]
    fields = {"tool_choice": "required", "parallel_tool_calls": is_parallel}
    wanted = asked(tokenizer, form, **fields)
    counts = set()
    for seed in range(3):
        text = Followed(tokenizer, wanted).drawn(seed)
        parser = Markup("x", form).parser("", {"f": SCHEMA, "go": SCHEMA})
        assert parser is not None
        pieces = read_with(parser, text)
        calls = [piece for piece in pieces if isinstance(piece, Call)]
        assert calls == pieces, text  # and no content
        for call in calls:
            jsonschema.validate(json.loads(call.arguments), SCHEMA)
        counts.add(len(calls))
    assert counts == {1} or is_parallel


def test_strict_calls_may_follow_text(tokenizer: Tokenizer) -> None:
    tools = [{**TOOLS[0], "function": {**TOOLS[0]["function"], "strict": True}}]  # type: ignore[dict-item]
    wanted = asked(tokenizer, CALL_FORMATS["hermes"], tools=tools)
    call = '<tool_call>\n{"name": "f", "arguments": {"place": "a"}}\n</tool_call>'
    for text in ("Just text.", f"Look: {call}", f"{call}\n{call}\nDone."):
        assert Followed(tokenizer, wanted).takes(text), text
    for text in (
        f"Look: {call.replace('place', 'plan')}",
        f"{call[:-12]}",
        call.replace('"f"', '"g"'),
    ):
        assert not Followed(tokenizer, wanted).takes(text), text
    with pytest.raises(ApiError) as caught:
        asked(tokenizer, CALL_FORMATS["llama3_json"], tools=tools)
    assert caught.value.detail.param == "tools"


def test_arguments_are_held_to_as_documents_are(tokenizer: Tokenizer) -> None:
    """The same white space, the same refusals, and no word of the grammar that is ours."""
    wanted = asked(tokenizer, CALL_FORMATS["llama3_json"], tool_choice="required")
    begin = '{"name": "f", "parameters": '
    assert Followed(tokenizer, wanted).takes(begin + '{\n  "place": "a"}}')
    assert not Followed(tokenizer, wanted).takes(begin + '{    "place": "a"}}')
    refused: list[dict[str, Any]] = [{"pattern": "[a&&b]"}, {"type": "nope"}, {"not": {}}]
    for schema in refused:
        parameters = {"type": "object", "properties": {"x": schema}}
        tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
        with pytest.raises(InvalidParameterError) as caught:
            Followed(
                tokenizer,
                asked(tokenizer, CALL_FORMATS["hermes"], tools=tools, tool_choice="required"),
            )
        assert caught.value.parameter == "tools"
        assert "llguidance" not in str(caught.value)
        assert "call_0" not in str(caught.value)


KINDS: list[dict[str, Any]] = [
    {"json": SCHEMA},
    {"json_object": True},
    {"regex": r'\{"place": "[ab]"\}'},
    {"choice": ['{"place": "a"}']},
    {"grammar": 'start: "{" REST\nREST: /"place": "a"\\}/'},
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: next(iter(kind)))
@pytest.mark.parametrize("prompt", ["<think>\n", "assistant\n"])
def test_reasoning_is_free_and_the_answer_behind_it_is_not(
    tokenizer: Tokenizer, kind: dict[str, Any], prompt: str
) -> None:
    markup = Markup(reasoning_name="qwen3", reasoning=REASONING_FORMATS["qwen3"])
    wanted = markup.behind_reasoning(StructuredOutputsParams(**kind), prompt)
    assert wanted is not None
    opening = "" if prompt.startswith("<think>") else "<think>"
    thought, answer = f'{opening}Hm: {{"x": </ 1\n</think>\n\n', '{"place": "a"}'
    assert Followed(tokenizer, wanted).takes(thought + answer)
    assert not Followed(tokenizer, wanted).takes(thought + "no")
    assert not Followed(tokenizer, wanted).takes(thought)
    # Where the prompt does not open it, the model may answer at once.
    assert Followed(tokenizer, wanted).takes(answer) is bool(opening)


def test_forced_calls_come_behind_reasoning(tokenizer: Tokenizer) -> None:
    form = CALL_FORMATS["hermes"]
    markup = Markup("hermes", form, "qwen3", REASONING_FORMATS["qwen3"])
    wanted = markup.behind_reasoning(asked(tokenizer, form, tool_choice="required"), "<think>\n")
    assert wanted is not None
    call = '<tool_call>\n{"name": "go", "arguments": {"place": "a"}}\n</tool_call>'
    text = f"I could call f.</think>\n\n{call}"
    assert Followed(tokenizer, wanted).takes(text)
    assert not Followed(tokenizer, wanted).takes("I could call f.</think>\n\nNo.")
    parser = markup.parser("<think>\n", {"f": None, "go": None})
    assert parser is not None
    thought, called = read_with(parser, MarkedText(text))
    assert thought == Reasoning("I could call f.")
    assert isinstance(called, Call)


def test_harmonys_heads_are_held_to(tokenizer: Tokenizer) -> None:
    """An answer in place of a document or call would be in no channel."""
    # The demo model's own texts end with <|end|>, which so can be no part of a grammar.
    reasoning = replace(REASONING_FORMATS["openai_gptoss"], closing="<|over|>")
    markup = Markup("openai", HARMONY, "openai_gptoss", reasoning, HARMONY)
    thought, again = "<|channel|>analysis<|message|>Hm: {.<|over|>", "<|start|>assistant"
    final, answer = "<|channel|>final<|message|>", '{"place": "a"}'
    call = f"<|channel|>commentary to=functions.go <|constrain|>json<|message|>{answer}"

    def takes(wanted: StructuredOutputsParams, text: str) -> bool:
        behind = markup.behind_reasoning(wanted, "<|start|>assistant")
        assert behind is not None
        return Followed(tokenizer, behind).takes(text)

    strict = [{**tool, "function": {**tool["function"], "strict": True}} for tool in TOOLS]  # type: ignore[dict-item]
    document = StructuredOutputsParams(json=SCHEMA)
    forced = asked(tokenizer, HARMONY, tool_choice="required")
    either = asked(tokenizer, HARMONY, response_format={"type": "json_object"})
    free = asked(tokenizer, HARMONY, tools=strict)
    for begin in ("", f"{thought}{again}", f"{thought}{again}{thought}{again}"):
        assert takes(document, f"{begin}{final}{answer}")
        assert takes(forced, begin + call)
        assert takes(either, begin + call)
        assert takes(either, f"{begin}{final}{answer}")
        assert takes(free, begin + call)
        assert takes(free, f"{begin}{final}So be it.")
    assert not takes(document, answer)
    assert not takes(document, f"{thought}{final}{answer}")
    assert not takes(forced, f"{final}{answer}")
    assert not takes(forced, f"{call}{again}{call}")
    assert not takes(free, call.replace("place", "plan"))
    assert not takes(either, f"{final}So be it.")


def xml_tools(**properties: Any) -> list[dict[str, Any]]:
    required = [key for key in properties if key != "note"]
    parameters = {"type": "object", "properties": properties, "required": required}
    return [{"type": "function", "function": {"name": "f", "parameters": parameters}}]


def test_xml_arguments_are_held_to_their_types(tokenizer: Tokenizer) -> None:
    form = CALL_FORMATS["qwen3_coder"]
    tools = xml_tools(text={"type": "string"}, count={"type": "integer"}, note={"enum": ["a", "b"]})
    wanted = asked(tokenizer, form, tools=tools, tool_choice="required")

    def written(text: str, count: str, note: str) -> str:
        given = (
            f"<parameter=text>\n{text}\n</parameter>\n<parameter=count>\n{count}\n</parameter>\n"
        )
        given += f"<parameter=note>\n{note}\n</parameter>\n" if note else ""
        return f"<tool_call>\n<function=f>\n{given}</function>\n</tool_call>"

    for text, note in (('"x" </ {<b>\n\ny', ""), ("", "a"), ("1", "b")):
        assert Followed(tokenizer, wanted).takes(written(text, "3", note))
    for count, note in (("x", ""), ("", ""), ("3", "c")):
        assert not Followed(tokenizer, wanted).takes(written("x", count, note))
    const = asked(tokenizer, form, tools=xml_tools(c={"const": "é"}), tool_choice="required")
    called = "<tool_call>\n<function=f>\n<parameter=c>\né\n</parameter>\n</function>\n</tool_call>"
    assert Followed(tokenizer, const).takes(called)
    assert not Followed(tokenizer, const).takes(called.replace("é", "e"))
    nothing = asked(tokenizer, form, tools=xml_tools(), tool_choice="required")
    empty = "<tool_call>\n<function=f>\n</function>\n</tool_call>"
    assert Followed(tokenizer, nothing).takes(empty)


def test_quoted_arguments_are_held_to_their_types(tokenizer: Tokenizer) -> None:
    form = CALL_FORMATS["gemma4"]
    where = {"type": "object", "properties": {"b": {"type": "boolean"}, "A": {"type": "null"}}}
    tools = xml_tools(
        text={"type": "string"},
        count={"type": "integer", "minimum": 3},
        note={"enum": ["a", "b"]},
        list={"type": "array", "items": {"type": "string"}},
        where=where,
    )
    wanted = asked(tokenizer, form, tools=tools, tool_choice="required")

    def takes(inside: str) -> bool:
        return Followed(tokenizer, wanted).takes(f"<|tool_call>call:f{{{inside}}}<tool_call|>")

    text, rest = '<|"|>"x" {,]\n<|"|>', '<|"|>y<|"|>'
    assert takes(f"count:3,list:[],note:{rest.replace('y', 'a')},text:{text},where:{{}}")
    assert takes(f"count:12,list:[{rest},{text}],text:{rest},where:{{A:null,b:true}}")
    assert takes(f"count:3,list:[],text:{rest},where:{{b:false}}")
    for wrong in (
        f"count:2,list:[],text:{rest},where:{{}}",
        f"count:3,list:[],note:{rest},text:{rest},where:{{}}",
        f"count:3,text:{rest},where:{{}}",
        "count:3,list:[],text:y,where:{}",
        f"count:3,list:[],text:{rest},where:{{,b:true}}",
        f"count:3,list:[],text:{rest},where:{{b:true,}}",
    ):
        assert not takes(wrong), wrong
    nothing = asked(tokenizer, form, tools=xml_tools(), tool_choice="required")
    assert Followed(tokenizer, nothing).takes("<|tool_call>call:f{}<tool_call|>")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"type": "string", "pattern": "a(?=b)"}, "the pattern"),
    ({"type": "string", "format": "iri"}, "the format 'iri'"),
    ({"type": "string", "contentEncoding": "base64"}, "contentEncoding"),
    ({"$ref": "#/$defs/x"}, "the schema"),
    ({"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 1}]}, "oneOf"),
    ({"enum": ['a</parameter></arg_value><|"|>']}, "values of"),
    ({"minimum": 1}, "the schema"),
]


@pytest.mark.parametrize("name", ["gemma4", "glm45", "qwen3_coder"])
@pytest.mark.parametrize(("schema", "why"), REFUSED)
def test_arguments_that_cannot_be_held_to_are_refused(
    tokenizer: Tokenizer, schema: dict[str, Any], why: str, name: str
) -> None:
    with pytest.raises(ApiError, match="cannot be held to") as caught:
        asked(
            tokenizer,
            CALL_FORMATS[name],
            tools=xml_tools(x=schema),
            tool_choice="required",
        )
    assert caught.value.detail.param == "tools"
    assert why in caught.value.detail.message
    assert "'x'" in caught.value.detail.message


CODE: dict[str, Any] = {"anyOf": [{"type": "string", "pattern": r"^\d{2}$"}, {"type": "null"}]}
WRITTEN: list[tuple[dict[str, Any], list[str], list[str]]] = [
    (CODE, ["12", "null"], ["1", "a", '"12"', "\u0665\u0666"]),
    ({"type": "string", "format": "date"}, ["2024-02-29"], ["2023-02-29", "today"]),
    ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "</x"], ["a", "abcd"]),
    ({"type": ["string", "integer"]}, ["12", "a", '"'], []),
    (
        {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 5}]},
        ["a", "5"],
        ["4", " 3", "-1"],
    ),
    ({"enum": ["a", 1, None, True]}, ["a", "1", "null", "true"], ["2", '"a"', "false"]),
    ({"$ref": "#/$defs/level"}, ["low", "7"], ["8", "high"]),
    ({}, ["a", "[1"], []),
]


@pytest.mark.parametrize(("schema", "right", "wrong"), WRITTEN, ids=str)
def test_a_bare_text_is_what_its_schema_lets_the_parser_read(
    tokenizer: Tokenizer, schema: dict[str, Any], right: list[str], wrong: list[str]
) -> None:
    form = CALL_FORMATS["qwen3_coder"]
    tools = xml_tools(x=schema)
    parameters = tools[0]["function"]["parameters"]
    parameters["$defs"] = {"level": {"anyOf": [{"const": "low"}, {"$ref": "#/$defs/seven"}]}}
    parameters["$defs"]["seven"] = {"type": "integer", "enum": [7]}
    wanted = asked(tokenizer, form, tools=tools, tool_choice="required")
    for text in (*right, *wrong):
        call = f"<tool_call>\n<function=f>\n<parameter=x>\n{text}\n</parameter>\n</function>\n</tool_call>"
        assert Followed(tokenizer, wanted).takes(call) is (text in right), text
    for text in right:
        call = f"<tool_call>\n<function=f>\n<parameter=x>\n{text}\n</parameter>\n</function>\n</tool_call>"
        use = read_tool_use(
            ChatCompletionRequest.parse({"model": "m", "messages": [], "tools": tools})
        )
        parser = Markup("x", form).parser("", use.callable)
        assert parser is not None
        (read,) = read_with(parser, MarkedText(call))
        assert isinstance(read, Call)
        jsonschema.validate(json.loads(read.arguments), parameters)
