"""Every field of OpenAI's API: the page, the code and the `openai` package's types say the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from openai.types import chat, completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_create_params
from pydantic import BaseModel

from octavo.chat.messages import template_messages
from octavo.errors import InvalidParameterError
from octavo.server.anthropic import request as messages_request
from octavo.server.anthropic.request import MessagesRequest
from octavo.server.openai import protocol
from octavo.server.openai.api_errors import ApiError
from octavo.server.openai.embeddings import EmbeddingRequest
from octavo.server.openai.ignored_fields import IgnoredFields
from octavo.server.openai.protocol import ChatCompletionRequest, CompletionRequest, StreamOptions
from octavo.server.openai.responses_api import request as responses_request
from octavo.server.openai.responses_api.request import ResponsesRequest
from octavo.server.openai.scores import RerankRequest, ScoreRequest
from octavo.server.openai.tokenize import DetokenizeRequest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/openai.md").read_text("utf-8")
SOURCES = ROOT / "runtime/octavo/server/openai"
ANSWERS = {"taken", "without effect", "refused"}
_SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
_ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|", re.MULTILINE)
_NESTED_ROW = re.compile(r"^\| (?:(\w+) )?`([\w.]+)` \| ([^|]+) \|", re.MULTILINE)


@dataclass(frozen=True)
class Route:
    """Its request's model, what it knows and refuses, and OpenAI's own fields."""

    model: type[BaseModel]
    refused: Mapping[str, Any]
    theirs: frozenset[str]
    parse: Callable[[dict[str, Any]], Any]
    body: dict[str, Any]


def fields_of(hints: Any, *more: str) -> frozenset[str]:
    return frozenset({*get_type_hints(hints), *more})


def validated(kind: type[BaseModel]) -> Callable[[dict[str, Any]], Any]:
    return lambda document: protocol.validated(kind, document)


MESSAGES = [{"role": "user", "content": "a"}]
ROUTES = {
    "POST /v1/chat/completions": Route(
        ChatCompletionRequest,
        protocol._NOT_IMPLEMENTED,
        fields_of(chat_create_params.CompletionCreateParamsBase, "stream"),
        ChatCompletionRequest.parse,
        {"messages": MESSAGES},
    ),
    "POST /v1/completions": Route(
        CompletionRequest,
        protocol._NOT_IMPLEMENTED,
        fields_of(completion_create_params.CompletionCreateParamsBase, "stream"),
        CompletionRequest.parse,
        {"prompt": "a"},
    ),
    "POST /v1/responses": Route(
        ResponsesRequest,
        responses_request._NOT_IMPLEMENTED,
        fields_of(response_create_params.ResponseCreateParamsBase, "stream"),
        ResponsesRequest.parse,
        {"input": "a"},
    ),
    "POST /v1/messages": Route(
        MessagesRequest,
        messages_request._NOT_IMPLEMENTED,
        frozenset(),
        MessagesRequest.parse,
        {"messages": MESSAGES, "max_tokens": 4},
    ),
    "POST /v1/embeddings": Route(
        EmbeddingRequest,
        EmbeddingRequest.not_implemented,
        fields_of(embedding_create_params.EmbeddingCreateParams),
        EmbeddingRequest.parse,
        {"input": "a"},
    ),
    "POST /v1/score": Route(
        ScoreRequest,
        ScoreRequest.not_implemented,
        frozenset(),
        ScoreRequest.parse,
        {"text_1": "a", "text_2": "b"},
    ),
    "POST /v1/rerank": Route(
        RerankRequest,
        RerankRequest.not_implemented,
        frozenset(),
        RerankRequest.parse,
        {"query": "a", "documents": ["b"]},
    ),
    "POST /detokenize": Route(DetokenizeRequest, {}, frozenset(), validated(DetokenizeRequest), {}),
}


def section(title: str) -> str:
    found: dict[str, str] = {name.strip("`"): text for name, text in _SECTION.findall(PAGE)}
    return found[title]


def table(title: str) -> dict[str, tuple[str, str]]:
    """Owner and answer of each field."""
    rows = _ROW.findall(section(title))
    assert len({name for name, _, _ in rows}) == len(rows)
    return {name: (owner, answer) for name, owner, answer in rows}


def nested(title: str, kind: str) -> dict[str, str]:
    return {name: answer for of, name, answer in _NESTED_ROW.findall(section(title)) if of == kind}


@pytest.mark.parametrize("title", ROUTES)
def test_each_field_of_the_package_is_decided(title: str) -> None:
    of_openai = {name for name, (owner, _) in table(title).items() if owner == "OpenAI"}
    assert of_openai >= ROUTES[title].theirs
    if ROUTES[title].theirs:
        assert of_openai == ROUTES[title].theirs


@pytest.mark.parametrize("title", ROUTES)
def test_the_page_names_what_the_code_knows(title: str) -> None:
    route = ROUTES[title]
    assert set(table(title)) == {*route.model.model_fields, *route.refused}
    for name, (_, answer) in table(title).items():
        assert answer in ANSWERS
        assert (answer == "refused") is (name not in route.model.model_fields)
        assert answer == "without effect" or name not in IgnoredFields.model_fields


@pytest.mark.parametrize("title", ROUTES)
def test_what_is_refused_is_refused_by_name(title: str) -> None:
    route = ROUTES[title]
    refused = [name for name, (_, answer) in table(title).items() if answer == "refused"]
    for name in [*refused, "octavo_new_field"]:
        with pytest.raises(ApiError) as refusal:
            route.parse({"model": "m", **route.body, name: {"other": 1}})
        if route.body:  # else what is missing is told first
            assert refusal.value.detail.param == name
            code = "unknown_parameter" if name == "octavo_new_field" else "unsupported_parameter"
            assert refusal.value.detail.code == code


def test_nobody_reads_what_is_without_effect() -> None:
    """Of responses it comes back in the answer."""
    files = [path for path in SOURCES.rglob("*.py") if "responses_api" not in path.parts]
    code = "\n".join(path.read_text("utf-8") for path in files)
    for title in ROUTES:
        for name, (_, answer) in table(title).items():
            if answer == "without effect":
                assert not re.search(rf"\brequest\.{name}\b", code), name


def accepts(message: dict[str, Any]) -> bool:
    function = {"name": "f", "arguments": "{}"}
    call = {"id": "c", "type": "function", "function": function}
    calling: dict[str, Any] = {
        "tool": {"tool_calls": [call]},
        "function": {"function_call": function},
    }
    before = [
        {"role": "assistant", **called}
        for role, called in calling.items()
        if role == message["role"]
    ]
    try:
        template_messages([*before, message])
    except InvalidParameterError:
        return False
    return True


def test_each_kind_of_message_is_decided() -> None:
    kinds = [get_type_hints(kind) for kind in get_args(chat.ChatCompletionMessageParam)]
    roles = nested("Messages", "role")
    assert set(roles) == {get_args(hints["role"])[0] for hints in kinds}
    for role, answer in roles.items():
        message: dict[str, Any] = {
            "role": role,
            "content": "a",
            "tool_call_id": "c",
            "name": "f",
        }
        assert accepts(message) is (answer == "taken")
    fields = nested("Messages", "field")
    assert set(fields) == {name for hints in kinds for name in hints}
    for name in ("audio", "function_call"):
        message = {"role": "assistant", "content": "a", name: {"name": "b"}}
        assert accepts(message) is (fields[name] == "taken")


def test_each_kind_of_content_is_decided() -> None:
    kinds = [
        *get_args(chat.ChatCompletionContentPartParam),
        chat.ChatCompletionContentPartRefusalParam,
    ]
    parts = nested("Messages", "part")
    assert set(parts) == {get_args(get_type_hints(kind)["type"])[0] for kind in kinds}
    for kind, answer in parts.items():
        part = {"type": kind, kind: "a"}
        assert accepts({"role": "assistant", "content": [part]}) is (answer == "taken")


def test_what_is_nested_is_decided() -> None:
    options = get_type_hints(chat.ChatCompletionStreamOptionsParam)
    shown = {name.removeprefix("stream_options.") for name in nested("Nested fields", "")}
    assert shown >= set(options)
    assert shown == set(StreamOptions.model_fields)
    tools = [get_type_hints(kind) for kind in get_args(chat.ChatCompletionToolUnionParam)]
    assert set(nested("Nested fields", "tool")) == {get_args(one["type"])[0] for one in tools}
    hint = get_type_hints(chat_create_params.CompletionCreateParamsBase)["response_format"]
    formats = {get_args(get_type_hints(kind)["type"])[0] for kind in get_args(hint)}
    # And vLLM's.
    assert set(nested("Nested fields", "format")) == {*formats, "structural_tag"}
