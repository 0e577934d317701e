"""The server and `LLM.chat` make the same prompt of the same messages, and refuse the same ones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from octavo import LLM, SamplingParams
from octavo.errors import InvalidParameterError
from octavo.server.openai.api_errors import ApiError
from octavo.server.openai.prompts import PromptBuilder
from octavo.server.openai.protocol import ChatCompletionRequest
from octavo.server.openai.tool_choice import read_tool_use
from tests.support.runtime import published_templates as published

CALL = {"type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
USER = {"role": "user", "content": "What is 17 plus 25?"}
TOOL = {"type": "function", "function": {"parameters": {"type": "object"}, "name": "f"}}


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM(
        "builtin://demo", chat_template=published.QWEN, kv_cache_memory_bytes=32 << 20
    ) as engine:
        yield engine


def by_server(llm: LLM, messages: list[dict[str, Any]], **fields: Any) -> list[int]:
    builder = PromptBuilder(llm.get_tokenizer(), max_model_len=512, vocab_size=10**6, max_prompts=1)
    document = {"model": "m", "messages": messages, **fields}
    request = ChatCompletionRequest.parse(document)
    return asyncio.run(builder.chat(request, read_tool_use(request).told)).token_ids


@pytest.mark.parametrize(
    ("message", "shows"),
    [
        (USER, "<|im_start|>user\nWhat is 17 plus 25?"),
        ({"role": "user", "content": [{"type": "text", "text": "What?"}]}, "user\nWhat?"),
        ({"role": "developer", "content": "Be brief"}, "<|im_start|>system\nBe brief"),
        (
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>',
        ),
        (
            {"role": "assistant", "content": "42", "reasoning": "sum"},
            "<think>sum</think>42",
        ),
    ],
)
def test_both_doors_make_the_same_prompt(llm: LLM, message: dict[str, Any], shows: str) -> None:
    (output,) = llm.chat([message], SamplingParams(max_tokens=1))
    assert output.prompt is not None
    assert shows in output.prompt
    assert output.prompt_token_ids == by_server(llm, [message])


def test_both_doors_pass_tools_and_variables_on(llm: LLM) -> None:
    kwargs = {"add_generation_prompt": False}
    (output,) = llm.chat(
        [USER], SamplingParams(max_tokens=1), tools=[TOOL], chat_template_kwargs=kwargs
    )
    assert output.prompt is not None
    assert '{"type": "function", "function": {"parameters"' in output.prompt
    assert not output.prompt.endswith("assistant\n")
    assert output.prompt_token_ids == by_server(
        llm, [USER], tools=[TOOL], chat_template_kwargs=kwargs
    )


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://h/x"}}]},
        {"role": "robot", "content": "x"},
        {"role": "user", "content": None},
    ],
)
def test_both_doors_refuse_the_same(llm: LLM, message: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterError) as at_library:
        llm.chat([message], SamplingParams(max_tokens=1))
    with pytest.raises(InvalidParameterError) as at_server:
        by_server(llm, [message])
    assert str(at_library.value) == str(at_server.value)
    assert at_library.value.parameter == at_server.value.parameter


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"messages": [{**USER, "name": 3}]}, "messages[0].name"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{**CALL, "id": 5}]}]},
            "messages[0].tool_calls[0].id",
        ),
        ({"tools": "f"}, "tools"),
        ({"tools": [{"name": "f"}]}, "tools[0].type"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
        ({"tools": [TOOL, {"type": "function"}]}, "tools[1].function"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        (
            {"tools": [{**TOOL, "function": {"name": "f", "parameters": 5}}]},
            "tools[0].function.parameters",
        ),
    ],
    ids=str,
)
def test_what_the_server_s_types_refuse_the_library_refuses(
    llm: LLM, wrong: dict[str, Any], place: str
) -> None:
    fields = {"messages": [USER], **wrong}
    with pytest.raises(InvalidParameterError) as at_library:
        llm.chat(sampling_params=SamplingParams(max_tokens=1), **fields)
    with pytest.raises(ApiError) as at_server:
        by_server(llm, **fields)
    assert at_library.value.parameter == at_server.value.detail.param == place


def test_half_a_character_is_refused(llm: LLM) -> None:
    """JSON cannot even bring it to the server."""
    for run in (llm.generate, lambda text: llm.chat([{"role": "user", "content": text}])):
        with pytest.raises(InvalidParameterError, match="surrogate"):
            run("\ud800")


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"chat_template_kwargs": "x"}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {1: 2}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"documents": [{5}]}}, "chat_template_kwargs"),
        ({"tools": [{**TOOL, "function": {"name": "f", "parameters": {"a": {5}}}}]}, "tools"),
        ({"messages": [{**USER, "x": {5}}]}, "messages[0]"),
    ],
    ids=str,
)
def test_what_json_does_not_have_is_told_with_its_argument(
    llm: LLM, wrong: dict[str, Any], place: str
) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        llm.chat(**{"messages": [USER], **wrong}, sampling_params=SamplingParams(max_tokens=1))
    assert caught.value.parameter == place
