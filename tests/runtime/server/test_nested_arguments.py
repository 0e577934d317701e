"""Lists and objects in the arguments of calls that are no JSON: what is held to is read as it is meant."""

from __future__ import annotations

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from octavo.engine.requests.marked_text import MarkedText
from octavo.engine.requests.vocabulary import Vocabulary
from octavo.model_source import resolve
from octavo.server.openai.api_errors import ApiError
from octavo.server.openai.parsing.formats import CALL_FORMATS
from octavo.server.openai.protocol import ChatCompletionRequest
from octavo.server.openai.tool_choice import answer_format, read_tool_use
from octavo.tokenizer import load_tokenizer
from tests.support.runtime.followed import Followed
from tests.support.runtime.forced_calls import read_calls

TOKENIZER = load_tokenizer(resolve("builtin://demo"))
SPECIAL = Vocabulary(TOKENIZER.backend).special
M = "]<]minimax[>["
# As pydantic writes `Place | None`, `list[Place]` and `dict | list | str`.
PLACE: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "zip": {"type": "integer"}},
    "required": ["name"],
}


def parameters(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"x": schema},
        "required": ["x"],
        "$defs": {"Place": PLACE},
    }


def forced(form: str, parameters: dict[str, Any], name: str = "f") -> tuple[Any, Any]:
    """What a call of a function must be, and the tools by which it is read."""
    document = {
        "model": "m",
        "messages": [],
        "tools": [{"type": "function", "function": {"name": name, "parameters": parameters}}],
        "tool_choice": "required",
    }
    request = ChatCompletionRequest.parse(document)
    use = read_tool_use(request)
    return answer_format(request, use, CALL_FORMATS[form], SPECIAL), use.callable


def element(name: str, inside: str) -> str:
    return f"{M}<{name}>{inside}{M}</{name}>"


def m3(inside: str) -> str:
    call = f'{M}<invoke name="f">{element("x", inside)}{M}</invoke>'
    return f"{M}<tool_call>\n{call}\n{M}</tool_call>"


def gemma(inside: str) -> str:
    return f"<|tool_call>call:f{{x:{inside}}}<tool_call|>"


def python(inside: str) -> str:
    return f"[f(x={inside})]"


OSLO = element("name", "Oslo")
OPTIONAL: dict[str, Any] = {"anyOf": [{"$ref": "#/$defs/Place"}, {"type": "null"}]}
CASES: list[tuple[str, dict[str, Any], list[tuple[str, Any]], list[str]]] = [
    (
        "minimax_m3",
        OPTIONAL,
        [
            (m3("null"), None),
            (m3(OSLO), {"name": "Oslo"}),
            (m3(element("name", "12") + element("zip", "12")), {"name": "12", "zip": 12}),
        ],
        [m3(""), m3("{}"), m3(element("zip", "12")), m3(OSLO + element("zip", "a"))],
    ),
    (
        "minimax_m3",
        {"type": "array", "items": OPTIONAL, "minItems": 1.0, "maxItems": 2e0},
        [
            (m3(element("item", OSLO)), [{"name": "Oslo"}]),
            (m3(element("item", "null") + element("item", OSLO)), [None, {"name": "Oslo"}]),
        ],
        [m3(""), m3(OSLO), m3(element("item", "null") * 3)],
    ),
    (
        "minimax_m3",
        {"type": ["string", "array"], "items": {"type": "integer"}},
        [(m3(""), ""), (m3("a"), "a"), (m3(element("item", "3")), [3])],
        [m3(element("item", "a")), m3(element("name", "a")), m3("[1]")],
    ),
    (
        "minimax_m3",
        {"type": "object", "properties": {"item": {"type": "boolean"}, "b": {"type": "string"}}},
        [
            (m3(""), {}),
            (m3(element("item", "true")), {"item": True}),
            (m3(element("b", "")), {"b": ""}),
        ],
        [m3(element("b", f"{M}<c>")), m3(element("c", ""))],
    ),
    (
        "gemma4",
        {"anyOf": [PLACE, {"type": "array", "items": {"$ref": "#/$defs/Place"}}, {"type": "null"}]},
        [
            (gemma("null"), None),
            (gemma('{name:<|"|>a<|"|>,zip:3}'), {"name": "a", "zip": 3}),
            (gemma('[{name:<|"|>a<|"|>}]'), [{"name": "a"}]),
        ],
        [gemma("{}"), gemma("[null]"), gemma('<|"|>a<|"|>')],
    ),
    (
        "gemma4",
        {"type": ["object", "string", "null"], "properties": {"a": {"type": "integer"}}},
        [(gemma("{a:1}"), {"a": 1}), (gemma("null"), None), (gemma('<|"|>{<|"|>'), "{")],
        [gemma('{a:<|"|>1<|"|>}'), gemma("1")],
    ),
    (
        "pythonic",
        {"type": "array", "items": OPTIONAL, "maxItems": 2},
        [
            (python("[]"), []),
            (python('[None, {"name": "O\'s", "zip": 3}]'), [None, {"name": "O's", "zip": 3}]),
            (python("[{\"name\": 'a\\\\b\\n'}]"), [{"name": "a\\b\n"}]),
        ],
        [
            python("[null]"),
            python("[None, None, None]"),
            python('[{"name": "\\/"}]'),
            python('{"name": "a"}'),
        ],
    ),
    (
        "gemma4",
        {"type": "array", "items": {"type": "integer"}, "maxItems": 1},
        [(gemma("[]"), []), (gemma("[3]"), [3])],
        [gemma("[3,4]")],
    ),
    (
        "pythonic",
        {"enum": ["a", "b'c", True, None, 1.5]},
        [
            (python("'a'"), "a"),
            (python('"b\'c"'), "b'c"),
            (python("True"), True),
            (python("1.5"), 1.5),
        ],
        [python("'b\\'c'"), python("true"), python("a")],
    ),
    (
        "pythonic",
        {"type": "string", "pattern": '^[a-z"]{2}$', "minLength": 2},
        [(python('"ab"'), "ab"), (python('"\\"b"'), '"b')],
        [python('"a"'), python('"AB"'), python("ab")],
    ),
]


@pytest.mark.parametrize(("name", "schema", "right", "wrong"), CASES)
def test_what_is_held_to_is_read_back(
    name: str, schema: dict[str, Any], right: list[tuple[str, Any]], wrong: list[str]
) -> None:
    wanted, tools = forced(name, parameters(schema))
    for text, value in right:
        assert Followed(TOKENIZER, wanted).takes(text), text
        (call,) = read_calls(CALL_FORMATS[name], tools, [MarkedText(text)])
        assert isinstance(call, tuple)
        _, arguments, is_whole = call
        assert is_whole
        assert json.loads(arguments) == {"x": value}
        jsonschema.validate({"x": value}, parameters(schema))
    for text in wrong:
        assert not Followed(TOKENIZER, wanted).takes(text), text


@pytest.mark.parametrize(
    ("name", "schema", "what"),
    [
        ("minimax_m3", {"type": ["object", "array"], "properties": {}, "items": {}}, "lists and"),
        ("minimax_m3", {"anyOf": [PLACE, {**PLACE, "required": []}]}, "the objects of"),
        ("minimax_m3", {"type": "object"}, "the objects of"),
        ("minimax_m3", {"type": "object", "properties": {"/a": {}}}, "the property '/a'"),
        ("gemma4", {"type": "array", "items": {}, "uniqueItems": True}, "the lists of"),
        ("gemma4", {"type": "array", "items": {}, "maxItems": 1.5}, "maxItems"),
        ("pythonic", {"type": "object"}, "the objects of"),
        ("pythonic", {"const": {"a": 1}}, "the lists and objects"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_with_its_parameter(
    name: str, schema: dict[str, Any], what: str
) -> None:
    with pytest.raises(ApiError, match="cannot be held to") as refused:
        forced(name, parameters(schema))
    assert refused.value.detail.param == "tools"
    assert what in refused.value.detail.message


@pytest.mark.parametrize("name", ["minimax_m3", "gemma4", "pythonic"])
def test_references_that_lead_to_ever_more_are_refused_soon(name: str) -> None:
    """Fifteen levels of two references each would be 32,768 values."""
    levels: dict[str, Any] = {"d15": {"type": "string"}}
    for level in range(15):
        inner = {"$ref": f"#/$defs/d{level + 1}"}
        levels[f"d{level}"] = {"type": "object", "properties": {"a": inner, "b": inner}}
    schema = {"type": "object", "properties": {"x": {"$ref": "#/$defs/d0"}}, "$defs": levels}
    with pytest.raises(ApiError, match="cannot be held to"):
        forced(name, schema)


NOTHING: dict[str, Any] = {"type": "object", "properties": {}}


@pytest.mark.parametrize("name", ["get-it.now", "_1"])
def test_a_function_is_called_by_any_name_that_python_reads(name: str) -> None:
    for form, text in (
        ("pythonic", f"[{name}()]"),
        ("olmo3", f"<function_calls>{name}()</function_calls>"),
    ):
        wanted, tools = forced(form, NOTHING, name)
        assert Followed(TOKENIZER, wanted).takes(text)
        assert read_calls(CALL_FORMATS[form], tools, [MarkedText(text)]) == [(name, "{}", True)]


@pytest.mark.parametrize("name", ["3d", "class", "a:b", "a..b"])
def test_a_name_that_python_does_not_read_is_refused(name: str) -> None:
    with pytest.raises(ApiError, match=f"the name '{name}'"):
        forced("olmo3", NOTHING, name)
