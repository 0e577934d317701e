"""Conversations that go into responses, and items that come out of them."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseOutputItem
from pydantic import TypeAdapter

from octavo.engine.requests.marked_text import MarkedText, joined
from octavo.server.openai.answer_reader import AnswerReader
from octavo.server.openai.answers import TokenLogprob
from octavo.server.openai.api_errors import ApiError
from octavo.server.openai.parsing.answer import AnswerParser
from octavo.server.openai.parsing.formats import CALL_FORMATS
from octavo.server.openai.parsing.tool_calls import ToolCallParser
from octavo.server.openai.responses_api.as_chat import as_chat
from octavo.server.openai.responses_api.events import Event
from octavo.server.openai.responses_api.output import ResponseOutput
from octavo.server.openai.responses_api.request import ResponsesRequest

CALL = '<tool_call>\n{"name": "f", "arguments": {"a": "1 < 2"}}\n</tool_call>'
ITEM: TypeAdapter[Any] = TypeAdapter(ResponseOutputItem)


def logprob(number: int) -> TokenLogprob:
    return TokenLogprob(str(number), -float(number), [], [])


written = st.lists(
    st.sampled_from(
        [
            *(
                MarkedText(text)
                for text in ("a ", "b", "\n", "<tool", "_call>", "<", "", '{"', CALL)
            ),
            MarkedText(f"so {CALL} b"),
            *(MarkedText(CALL[place : place + 9]) for place in range(0, len(CALL), 9)),
            *(
                MarkedText(tag, ((0, len(tag)),))
                for tag in ("<tool_call>", "</tool_call>", "<|e|>")
            ),
        ]
    ),
    max_size=12,
)


def read(
    tokens: list[MarkedText], groups: list[int], lag: int, has_tools: bool = True
) -> list[dict[str, Any]]:
    """The items of an answer whose tokens arrive in groups, their text `lag` characters later."""
    output = ResponseOutput()
    calls = ToolCallParser(CALL_FORMATS["hermes"], {})
    reader = AnswerReader(AnswerParser(None, calls) if has_tools else None, output)
    text = joined([MarkedText(), *tokens])
    offsets = [len(joined([MarkedText(), *tokens[:place]]).shown) for place in range(len(tokens))]
    sent = 0
    events: list[Event] = []
    for begin, end in itertools.pairwise(sorted({0, *groups, len(tokens)})):
        arrived = len(joined([MarkedText(), *tokens[:end]]))
        until = arrived if end == len(tokens) else max(sent, arrived - lag)
        logprobs = [logprob(number) for number in range(begin, end)]
        events += reader.read(text[sent:until], logprobs, offsets[begin:end])
        sent = until
    events += reader.end(is_cut=False)
    items = msgspec.to_builtins(output.items)
    for item in items:
        ITEM.validate_python(item, strict=True)
        for name in ("id", "call_id"):
            item.pop(name, None)
    return list(items)


@given(written, st.lists(st.integers(0, 12)), st.integers(0, 6), st.booleans())
def test_items_do_not_depend_on_how_tokens_arrive(
    tokens: list[MarkedText], groups: list[int], lag: int, has_tools: bool
) -> None:
    groups = [min(group, len(tokens)) for group in groups]
    whole = read(tokens, [], 0, has_tools)
    assert read(tokens, groups, lag, has_tools) == whole
    assert read(tokens, list(range(len(tokens))), lag, has_tools) == whole


def test_logprobs_are_of_the_texts_tokens_alone() -> None:
    tokens = [*map(MarkedText, ("So", " it", " is", "<tool", CALL[5:], "\n", "Done", "."))]
    said, call, done = read([*tokens, MarkedText("<|e|>", ((0, 5),))], [], 0)
    assert said["content"][0]["text"] == "So it is"
    assert [one["token"] for one in said["content"][0]["logprobs"]] == ["0", "1", "2"]
    assert call["arguments"] == '{"a":"1 < 2"}'
    assert done["content"][0]["text"] == "Done."
    assert [one["token"] for one in done["content"][0]["logprobs"]] == ["5", "6", "7", "8"]


def test_nothing_is_an_empty_message() -> None:
    (item,) = read([], [], 0)
    assert item["content"] == [
        {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    ]


def chat(*items: Any, **fields: Any) -> list[dict[str, Any]]:
    request = ResponsesRequest.parse({"model": "m", "input": list(items), **fields})
    return [message.as_sent for message in as_chat(request)[0].messages]


def call(call_id: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}"}


def chat_call(call_id: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "f", "arguments": "{}"}}


def output(call_id: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": "1"}


def assistant(text: str) -> dict[str, Any]:
    parts = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "role": "assistant", "id": "msg_1", "content": parts}


def thought(text: str, **more: Any) -> dict[str, Any]:
    content = [{"type": "reasoning_text", "text": text}]
    return {"type": "reasoning", "id": "rs_1", "summary": [], "content": content, **more}


def test_the_items_of_a_turn_are_one_message() -> None:
    user = {"role": "user", "content": "hi"}
    found = chat(
        user,
        thought("Hm."),
        assistant("Let me look. "),
        call("a"),
        call("b"),
        assistant("Wait."),
        output("a"),
        output("b"),
        thought("", summary=[{"type": "summary_text", "text": "Well."}], content=None),
        assistant("One."),
        assistant("Two."),
        instructions="Be brief.",
    )
    said, first, last = (message for message in found if message["role"] == "assistant")
    assert found[:2] == [{"role": "system", "content": "Be brief."}, user]
    assert said == {
        "role": "assistant",
        "content": "Let me look. Wait.",
        "reasoning": "Hm.",
        "reasoning_content": "Hm.",
        "tool_calls": [chat_call("a"), chat_call("b")],
    }
    assert [message["role"] for message in found[2:]] == [
        "assistant",
        "tool",
        "tool",
        "assistant",
        "assistant",
    ]
    assert first["reasoning"] == "Well."
    assert [first["content"], last["content"]] == ["One.", "Two."]


def test_an_error_names_the_item_that_a_message_was_made_of() -> None:
    request = ResponsesRequest.parse(
        {"model": "m", "input": [call("a"), output("a"), assistant("x")], "instructions": "y"}
    )
    _, names = as_chat(request)
    for message, item in (
        ("messages.0", "instructions"),
        ("messages.2.content", "input.1.content"),
    ):
        with pytest.raises(ApiError) as caught, names.told():
            raise ApiError(400, f"{message} is wrong.", param=message)
        assert caught.value.detail.param == item
        assert str(caught.value) == f"{item} is wrong."
