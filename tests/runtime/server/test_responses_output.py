"""Conversations that go into responses, and items that come out of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseOutputItem, ResponseStreamEvent
from pydantic import TypeAdapter

from octavo.engine.requests.marked_text import MarkedText
from octavo.server.openai.api_errors import ApiError
from octavo.server.openai.responses_api.as_chat import as_chat
from octavo.server.openai.responses_api.output import ResponseOutput
from octavo.server.openai.responses_api.request import ResponsesRequest
from tests.support.runtime.written_answers import (
    CALL,
    PARSERS,
    read_events,
    special,
    tokens_written,
)

ITEM: TypeAdapter[Any] = TypeAdapter(ResponseOutputItem)
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def read(
    tokens: Sequence[MarkedText], groups: Sequence[int], lag: int, kind: str = "calls"
) -> list[dict[str, Any]]:
    """The items of an answer, each of which OpenAI's package knows; so does it the events."""
    output = ResponseOutput()
    for event in read_events(output, kind, tokens, groups, lag):
        EVENT.validate_python(msgspec.to_builtins(event), strict=True)
    items = msgspec.to_builtins(output.items)
    for item in items:
        ITEM.validate_python(item, strict=True)
        for name in ("id", "call_id"):
            item.pop(name, None)
    return list(items)


@given(
    tokens_written,
    st.lists(st.integers(0, 12), max_size=6),
    st.integers(0, 12),
    st.sampled_from(PARSERS),
)
def test_items_do_not_depend_on_how_tokens_arrive(
    tokens: list[MarkedText], groups: list[int], lag: int, kind: str
) -> None:
    whole = read(tokens, [], 0, kind)
    assert read(tokens, groups, lag, kind) == whole
    assert read(tokens, range(len(tokens)), lag, kind) == whole


SPOKEN = [
    *map(MarkedText, ("So", " it", " is", "<tool", CALL[5:], "\n", "Done", ".")),
    special("<|e|>"),
]


@pytest.mark.parametrize("lag", range(8))
def test_logprobs_are_of_the_texts_tokens_alone(lag: int) -> None:
    said, call, done = read(SPOKEN, range(len(SPOKEN)), lag)
    assert said["content"][0]["text"] == "So it is"
    assert [one["token"] for one in said["content"][0]["logprobs"]] == ["0", "1", "2"]
    assert call["arguments"] == '{"a": "1 < 2"}'
    assert done["content"][0]["text"] == "Done."
    assert [one["token"] for one in done["content"][0]["logprobs"]] == ["5", "6", "7", "<|e|>"]


def test_tokens_that_are_not_shown_move_no_others() -> None:
    hidden = special("<|begin|>")
    tokens = [hidden, MarkedText("So"), hidden, hidden, MarkedText(" it"), *SPOKEN[3:]]
    whole = read(tokens, [], 0)
    assert whole == read(tokens, range(len(tokens)), 0)
    found = [one["token"] for one in whole[0]["content"][0]["logprobs"]]
    assert found == ["<|begin|>", "1", "<|begin|>", "<|begin|>", "4"]


def test_a_tag_that_is_not_shown_ends_the_text_before_it() -> None:
    """Its own token is of the call, also where the text before it was held back until then."""
    tokens = [MarkedText("<tool"), special("<tool_call>"), MarkedText(CALL[11:])]
    said, _ = whole = read(tokens, [], 0)
    assert read(tokens, range(len(tokens)), 0) == whole
    assert [one["token"] for one in said["content"][0]["logprobs"]] == ["0"]


def test_thoughts_are_an_item_of_their_own() -> None:
    thought, said = read([MarkedText("<think>Hm.</think>"), MarkedText("Yes")], [], 0, "reasoning")
    assert thought == {
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "Hm."}],
        "encrypted_content": None,
        "status": "completed",
    }
    assert said["content"][0]["text"] == "Yes"


CLOSED = [*map(MarkedText, ("<think>", "Hm", ".")), MarkedText("</th"), MarkedText("ink>")]
CLOSED_HIDDEN = [special("<think>"), *map(MarkedText, ("Hm", ".")), special("</think>")]
CLOSED_WITH_TEXT = [*map(MarkedText, ("<think>", "Hm.", "</think>So it"))]


@pytest.mark.parametrize("kind", ["reasoning", "reasoning and calls"])
@pytest.mark.parametrize(
    ("thoughts", "first"), [(CLOSED, 5), (CLOSED_HIDDEN, 4), (CLOSED_WITH_TEXT, 2)]
)
@pytest.mark.parametrize("lag", range(12))
def test_tokens_of_thoughts_and_their_tags_are_of_no_text(
    thoughts: list[MarkedText], first: int, lag: int, kind: str
) -> None:
    tokens = [*thoughts, MarkedText("So"), MarkedText(" it")]
    _, said = whole = read(tokens, [], 0, kind)
    assert read(tokens, range(len(tokens)), lag, kind) == whole
    found = [one["token"] for one in said["content"][0]["logprobs"]]
    assert found == [str(number) for number in range(first, len(tokens))]


@pytest.mark.parametrize("kind", ["calls", "reasoning", "reasoning and calls"])
@pytest.mark.parametrize("groups", [[], [1]])
def test_tokens_that_are_not_shown_make_no_text(groups: list[int], kind: str) -> None:
    (item,) = read([special("</tool_call>"), MarkedText()], groups, 1, kind)
    assert item["content"][0]["text"] == ""
    assert item["content"][0]["logprobs"] == []


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


def test_members_of_an_item_that_are_not_read_reach_no_template() -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        call("a"),
        output("a"),
        thought("Hm."),
        assistant("Yes."),
    ]
    more = [{**item, "status": "completed", "foo": 1} for item in items]
    more[0]["content"] = [{"type": "input_text", "text": "hi", "foo": 1}]
    assert chat(*more) == chat(*items)


def test_an_error_names_the_item_that_a_message_was_made_of() -> None:
    request = ResponsesRequest.parse(
        {"model": "m", "input": [call("a"), output("a"), assistant("x")], "instructions": "y"}
    )
    _, names = as_chat(request)
    for message, item in (
        ("messages[0]", "instructions"),
        ("messages[2].content", "input[1].content"),
    ):
        with pytest.raises(ApiError) as caught, names.told():
            raise ApiError(400, f"{message} is wrong.", param=message)
        assert caught.value.detail.param == item
        assert str(caught.value) == f"{item} is wrong."
