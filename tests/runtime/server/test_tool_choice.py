"""Which calls a request lets the model make: what contradicts itself is refused, what is promised is kept."""

from __future__ import annotations

import json
from typing import Any

import httpx
import jsonschema  # type: ignore[import-untyped]
import openai
import pytest

from octavo.server.openai.api_errors import ApiError
from octavo.server.openai.parsing.formats import CALL_FORMATS
from octavo.server.openai.protocol import ChatCompletionRequest
from octavo.server.openai.tool_choice import answer_format, read_tool_use
from octavo.structured_outputs import StructuredOutputsParams

PODS: dict[str, Any] = {
    "type": "object",
    "properties": {"namespace": {"enum": ["default", "kube-system"]}},
    "required": ["namespace"],
    "additionalProperties": False,
}
WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
SCHEMAS = {"list_pods": PODS, "get_weather": WEATHER}
QUESTION: Any = [{"role": "user", "content": "What is Octavo?"}]


def tool(name: str, **options: Any) -> dict[str, Any]:
    function = {"name": name, "parameters": SCHEMAS.get(name), **options}
    return {"type": "function", "function": function}


BOTH = [tool("list_pods"), tool("get_weather")]


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [named(name) for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


ALLOWED = "allowed_tools"


def allowed_of(**members: Any) -> dict[str, Any]:
    return {"type": ALLOWED, ALLOWED: {"mode": "auto", "tools": [named("list_pods")], **members}}


def chat(**fields: Any) -> ChatCompletionRequest:
    return ChatCompletionRequest.parse({"model": "m", "messages": [], **fields})


def constraint(request: ChatCompletionRequest) -> StructuredOutputsParams | None:
    return answer_format(request, read_tool_use(request), CALL_FORMATS["hermes"], {})


def test_tools_are_passed_as_the_client_wrote_them() -> None:
    function: dict[str, Any] = {
        "parameters": {"z": {}, "a": None},
        "description": None,
        "name": "f",
    }
    (told,) = read_tool_use(chat(tools=[{"function": function, "type": "function"}])).told or []
    assert json.dumps(told) == json.dumps({"function": function, "type": "function"})
    assert read_tool_use(chat(tools=BOTH, tool_choice="none")).told is None
    assert read_tool_use(chat()).told is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": "required", "tools": []}, "tool_choice"),
        ({"tools": BOTH, "tool_choice": "some"}, "tool_choice"),
        ({"tools": BOTH, "tool_choice": named("other")}, "tool_choice"),
        ({"tools": BOTH, "tool_choice": {"type": "custom"}}, "tool_choice"),
        ({"tools": BOTH, "tool_choice": {"type": "allowed_tools"}}, f"tool_choice.{ALLOWED}"),
        ({"tools": BOTH, "tool_choice": allowed("auto")}, f"tool_choice.{ALLOWED}.tools"),
        (
            {"tools": BOTH, "tool_choice": allowed("none", "list_pods")},
            f"tool_choice.{ALLOWED}.mode",
        ),
        (
            {"tools": BOTH, "tool_choice": {**named("list_pods"), "strict": True}},
            "tool_choice.strict",
        ),
        (
            {"tools": BOTH, "tool_choice": {**allowed("auto", "list_pods"), "mode": "required"}},
            "tool_choice.mode",
        ),
        (
            {"tools": BOTH, "tool_choice": allowed_of(max_calls=1)},
            f"tool_choice.{ALLOWED}.max_calls",
        ),
        (
            {
                "tools": BOTH,
                "tool_choice": allowed_of(tools=[{"type": "mcp", "server_label": "a"}]),
            },
            f"tool_choice.{ALLOWED}.tools[0].type",
        ),
        (
            {"tools": BOTH, "tool_choice": allowed_of(tools=[{"type": "function", "name": "f"}])},
            f"tool_choice.{ALLOWED}.tools[0].name",
        ),
        ({"tools": BOTH, "tool_choice": allowed("auto", "other")}, "tool_choice"),
        ({"tools": [{**BOTH[0], "type": "web_search"}]}, "tools[0].type"),
        ({"tools": [BOTH[0], BOTH[1], BOTH[0]]}, "tools[2].function.name"),
    ],
)
def test_what_cannot_be_promised_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_tool_use(chat(**fields))
    assert caught.value.status == 400
    assert caught.value.detail.param == param


def test_of_the_tools_that_are_told_only_the_allowed_ones_can_be_called() -> None:
    for mode in ("auto", "required"):
        request = chat(tools=BOTH, tool_choice=allowed(mode, "get_weather", "get_weather"))
        use = read_tool_use(request)
        assert (len(use.told or []), list(use.callable)) == (2, ["get_weather"])
        wanted = constraint(request)
        assert wanted is not None
        assert list(wanted.schemas or {}) == ["get_weather"] or "list_pods" not in str(wanted)
    # With all of them allowed it is the plain choice.
    assert constraint(chat(tools=BOTH, tool_choice=allowed("auto", *SCHEMAS))) is None
    one = chat(tools=BOTH, tool_choice=allowed("auto", "get_weather"))
    with pytest.raises(ApiError) as caught:
        answer_format(one, read_tool_use(one), CALL_FORMATS["pythonic"], {})
    assert caught.value.detail.param == "tool_choice"


NO_OBJECTS: list[dict[str, Any]] = [
    {"type": "string", "maxLength": 3},
    {"enum": ["a", 1]},
    {"type": "array", "items": {"type": "integer"}},
    {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}},
]


@pytest.mark.parametrize("schema", NO_OBJECTS)
@pytest.mark.parametrize("choice", ["none", "auto", "required", named("f")])
def test_parameters_that_are_no_object_are_refused(
    schema: dict[str, Any], choice: str | dict[str, Any]
) -> None:
    tools = [BOTH[0], tool("f", parameters=schema)]
    with pytest.raises(ApiError) as caught:
        read_tool_use(chat(tools=tools, tool_choice=choice))
    assert caught.value.status == 400
    assert caught.value.detail.param == "tools[1].function.parameters"
    assert caught.value.detail.code == "invalid_function_parameters"


@pytest.mark.parametrize("schema", [{}, {"properties": {"a": {"type": "integer"}}}])
def test_arguments_without_a_type_are_an_object(schema: dict[str, Any]) -> None:
    found = constraint(chat(tools=[tool("f", parameters=schema)], tool_choice="required"))
    assert found is not None
    assert [one["type"] for one in (found.schemas or {}).values()] == ["object"]


FLAT = {"type": "function", "name": "f", "parameters": NO_OBJECTS[0]}


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (
            "chat/completions",
            {"messages": QUESTION, "tools": [tool("f", parameters=NO_OBJECTS[0])]},
            "tools[0].function.parameters",
        ),
        ("responses", {"input": "a", "tools": [FLAT]}, "tools[0].parameters"),
        (
            "messages",
            {
                "messages": QUESTION,
                "max_tokens": 9,
                "tools": [{"name": "f", "input_schema": NO_OBJECTS[0]}],
            },
            "tools[0].input_schema",
        ),
    ],
)
def test_every_route_names_its_own_field(
    http: httpx.Client, path: str, fields: dict[str, Any], param: str
) -> None:
    response = http.post(f"/v1/{path}", json={"model": "demo", **fields})
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == param
    assert error["message"].startswith(f"{param} is ")


@pytest.mark.parametrize(
    "schema", [{}, {"anyOf": [{"type": "string", "maxLength": 3}, PODS]}, {"enum": ["a", {"b": 1}]}]
)
def test_a_forced_call_has_an_object(client: openai.OpenAI, schema: dict[str, Any]) -> None:
    tools = [tool("f", parameters=schema)]
    (choice,) = ask(client, tools=tools, tool_choice="required", seed=1).choices
    if choice.finish_reason == "tool_calls":
        for call in choice.message.tool_calls:
            assert isinstance(json.loads(call.function.arguments), dict)
    else:
        assert not schema  # a free object may be longer than there is room
        assert choice.finish_reason == "length"


@pytest.mark.parametrize("number", [2**53 + 1, -(2**63), 10**30])
def test_a_number_that_a_call_would_not_keep_is_refused(number: int) -> None:
    tools = [tool("f", parameters={"properties": {"a": {"const": number}}})]
    with pytest.raises(ApiError) as caught:
        constraint(chat(tools=tools, tool_choice="required"))
    assert (caught.value.status, caught.value.detail.param) == (400, "tools")
    assert constraint(chat(tools=tools)) is None


@pytest.mark.parametrize(
    "choice", ["auto", "required", named("list_pods"), allowed("required", "list_pods")]
)
@pytest.mark.parametrize("pattern", [{"regex": "a"}, {"choice": ["a"]}, {"grammar": 'start: "a"'}])
def test_a_pattern_for_the_text_cannot_be_had_beside_tools(
    choice: Any, pattern: dict[str, Any]
) -> None:
    with pytest.raises(ApiError) as caught:
        constraint(chat(tools=BOTH, tool_choice=choice, structured_outputs=pattern))
    assert caught.value.detail.param == "structured_outputs"


def test_a_forced_call_is_the_answer_whatever_the_text_would_be() -> None:
    forced = chat(tools=BOTH, tool_choice="required")
    asked = chat(tools=BOTH, tool_choice="required", response_format={"type": "json_object"})
    assert constraint(asked) == constraint(forced)


@pytest.mark.parametrize("choice", ["auto", None])
def test_what_is_left_to_the_model_is_not_constrained(choice: str | None) -> None:
    request = chat(tools=BOTH, tool_choice=choice)
    assert constraint(request) is None


def ask(client: openai.OpenAI, **options: Any) -> Any:
    options = {"temperature": 1.0, "max_tokens": 250, **options}
    return client.chat.completions.create(model="demo", messages=QUESTION, **options)


def check_calls(message: Any) -> list[str]:
    """Their names, once each was seen to keep to its schema."""
    for call in message.tool_calls:
        jsonschema.validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])
    return [call.function.name for call in message.tool_calls]


@pytest.mark.parametrize("seed", range(4))
def test_required_is_a_call_of_one_of_the_tools(client: openai.OpenAI, seed: int) -> None:
    (choice,) = ask(client, tools=BOTH, tool_choice="required", seed=seed).choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert check_calls(choice.message)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_named_tool_is_called_once(client: openai.OpenAI, name: str) -> None:
    (choice,) = ask(client, tools=BOTH, tool_choice=named(name), seed=1).choices
    assert check_calls(choice.message) == [name]


def test_a_function_without_parameters_gets_none(client: openai.OpenAI) -> None:
    tools = [{"type": "function", "function": {"name": "now"}}]
    (choice,) = ask(client, tools=tools, tool_choice="required", seed=1).choices
    assert {call.function.arguments for call in choice.message.tool_calls} == {"{}"}


def test_a_call_has_no_parameters_that_the_function_does_not_name(client: openai.OpenAI) -> None:
    """The demo model would add one: it knows a function of two."""
    magic = {
        "type": "object",
        "properties": {"input": {"type": "integer"}},
        "required": ["input"],
    }
    function = {"name": "magic_function", "description": "Does magic.", "parameters": magic}
    answer = client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": "What is the value of magic_function(3)?"}],
        tools=[{"type": "function", "function": function}],
        tool_choice="required",
        temperature=0,
        max_tokens=100,
    )
    found = [json.loads(call.function.arguments) for call in answer.choices[0].message.tool_calls]
    assert [set(arguments) for arguments in found] == [{"input"}]


@pytest.mark.parametrize("seed", range(3))
def test_a_stream_of_required_calls_is_the_whole_answer(client: openai.OpenAI, seed: int) -> None:
    options: dict[str, Any] = {"tools": BOTH, "tool_choice": "required", "seed": seed}
    (whole,) = ask(client, **options).choices
    streamed: list[tuple[str, str]] = []
    reasons = []
    for chunk in ask(client, stream=True, **options):
        for choice in chunk.choices:
            assert not choice.delta.content
            calls = choice.delta.tool_calls or []
            for call in calls:
                if call.function.name:
                    streamed.append((call.function.name, ""))
                name, written = streamed[call.index]
                streamed[call.index] = name, written + call.function.arguments
            reasons.append(choice.finish_reason)
    calls = whole.message.tool_calls
    assert streamed == [(call.function.name, call.function.arguments) for call in calls]
    assert reasons[-1] == whole.finish_reason


ADD: Any = {
    "type": "function",
    "function": {
        "name": "add_numbers",
        "description": "Add two numbers.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"left": {"type": "integer"}, "right": {"const": "nothing"}},
            "required": ["left", "right"],
            "additionalProperties": False,
        },
    },
}


def test_strict_leaves_text_alone_and_holds_calls_to_their_schema(client: openai.OpenAI) -> None:
    """The demo model would write two numbers."""
    (choice,) = ask(client, tools=[ADD], temperature=0).choices
    assert choice.message.content
    assert not choice.message.tool_calls
    question: Any = [{"role": "user", "content": "Use add_numbers to add 3 and 4."}]
    found: list[Any] = []
    for seed in range(6):
        answer = client.chat.completions.create(
            model="demo", messages=question, tools=[ADD], temperature=1, seed=seed, max_tokens=200
        )
        found += answer.choices[0].message.tool_calls or []
    assert found
    for call in found:
        assert json.loads(call.function.arguments)["right"] == "nothing"


def test_an_answer_in_a_format_may_still_be_a_call(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    kinds = set()
    for seed in range(12):
        (choice,) = ask(
            client, tools=BOTH, response_format=wanted, seed=seed, temperature=2.0
        ).choices
        if choice.message.tool_calls:
            check_calls(choice.message)
            kinds.add("calls")
        elif choice.finish_reason == "stop":
            assert json.loads(choice.message.content)["a"] == 1
            kinds.add("content")
    assert kinds
