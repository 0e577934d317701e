"""Every field of OpenAI's requests, at every depth: a value is taken, or refused by the name of its place."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import input_token_count_params, response_create_params

from octavo.chat import template_messages
from octavo.errors import InvalidParameterError
from octavo.server.openai.api_errors import ApiError, ErrorDetail, from_octavo_error
from octavo.server.openai.embeddings import EmbeddingRequest
from octavo.server.openai.protocol import ChatCompletionRequest, CompletionRequest
from octavo.server.openai.responses_api.as_chat import as_chat
from octavo.server.openai.responses_api.request import ResponsesRequest
from octavo.server.openai.tool_choice import read_tool_use
from tests.support.runtime.openai_fields import Case, Kind, cases


def read_chat(document: dict[str, Any]) -> None:
    request = ChatCompletionRequest.parse(document)
    read_tool_use(request)
    template_messages([message.as_sent for message in request.messages])


def read_response(document: dict[str, Any]) -> None:
    chat, names = as_chat(ResponsesRequest.parse(document))
    with names.told():
        read_tool_use(chat)


TOOL = {"name": "x", "parameters": {"type": "object"}}
ROUTES: dict[str, tuple[Any, Callable[[dict[str, Any]], Any], dict[str, Any]]] = {
    "chat": (
        chat_create_params.CompletionCreateParamsBase,
        read_chat,
        {"messages": [{"role": "user", "content": "a"}]},
    ),
    "completions": (
        completion_create_params.CompletionCreateParamsBase,
        CompletionRequest.parse,
        {"prompt": "a"},
    ),
    "responses": (
        response_create_params.ResponseCreateParamsBase,
        read_response,
        {"input": "a"},
    ),
    "input tokens": (input_token_count_params.InputTokenCountParams, read_response, {"input": "a"}),
    "embeddings": (
        embedding_create_params.EmbeddingCreateParams,
        EmbeddingRequest.parse,
        {"input": "a"},
    ),
}
# What a field is only allowed together with.
BESIDE: dict[str, dict[str, Any]] = {
    "stream_options": {"stream": True},
    "function_call": {"functions": [TOOL]},
}
TOOLS: dict[str, dict[str, Any]] = {
    "chat": {"tools": [{"type": "function", "function": TOOL}]},
    "responses": {"tools": [{"type": "function", **TOOL}]},
    "input tokens": {"tools": [{"type": "function", **TOOL}]},
}
# What is read when a prompt is made of it, and members that say nothing to a model: of whatever type.
_STEP = re.compile(r"[^.[\]]+")
READ_LATER = re.compile(r"prompt$|messages\[0\]\.content\[|input(\[0\]\.|$)")


def refusal(read: Callable[[dict[str, Any]], Any], document: dict[str, Any]) -> ErrorDetail | None:
    try:
        read(document)
    except ApiError as error:
        return error.detail
    except InvalidParameterError as error:
        return from_octavo_error(error).detail
    return None


def is_at(place: str, case: Case) -> bool:
    """The case's own, one within it, or the object that should have no such member, or not its type. Of a
    message or an item what is missing is told first."""
    place = place.removesuffix(".type")
    if case.name in ("messages", "input", "tool_choice") and place.startswith(
        (f"{case.name}.", f"{case.name}[")
    ):
        return True
    found, wanted = (_STEP.findall(path) for path in (place, case.path))
    least = min(len(found), len(wanted))
    return least > 0 and found[:least] == wanted[:least]


@pytest.mark.parametrize("route", ROUTES)
def test_each_value_is_taken_or_refused_by_its_place(route: str) -> None:
    params, read, plain = ROUTES[route]
    wrong, count = [], 0
    for case in cases(params):
        count += 1
        beside = TOOLS[route] if case.name == "tool_choice" else BESIDE.get(case.name, {})
        error = refusal(read, {"model": "m", **plain, **beside, case.name: case.field})
        told = f"{case.path} ({case.kind.name}) {case.field!r:.200}: {error}"
        if error is None:
            if case.kind is Kind.WRONG and not READ_LATER.match(case.path):
                wrong.append(f"taken: {told}")
        elif not is_at(error.param or "", case):
            wrong.append(f"another place: {told}")
        elif case.name not in error.message or (
            # What is told of a message, those who call the library read, too.
            case.name != "messages" and re.search("None|True|False", error.message)
        ):
            wrong.append(f"not in a client's words: {told}")
    assert not wrong, f"{len(wrong)} of {count}:\n" + "\n".join(wrong)


def test_a_value_of_responses_alone_is_taken_there() -> None:
    taken = [
        ("service_tier", "ultrafast"),
        ("prompt_cache_options", {"ttl": "12h", "prewarm": False, "comparison_response_id": None}),
        ("reasoning", {"effort": "max"}),
    ]
    for name, value in taken:
        assert refusal(read_response, {"model": "m", "input": "a", name: value}) is None
    assert (
        refusal(read_chat, {"model": "m", **ROUTES["chat"][2], "reasoning_effort": "max"}) is None
    )
    # What would change the answer is none of these.
    options = {"prewarm": True}
    error = refusal(read_response, {"model": "m", "input": "a", "prompt_cache_options": options})
    assert error is not None
    assert error.message == "prompt_cache_options.prewarm is true; it must be false."
