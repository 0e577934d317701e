"""Blocks that come out of messages, and the events that tell of them."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.engine.requests.marked_text import MarkedText
from octavo.server.anthropic.output import MessageOutput
from tests.support.runtime.written_answers import CALL, PARSERS, read_events, tokens_written


def read(tokens: list[MarkedText], groups: list[int], lag: int, kind: str) -> list[dict[str, Any]]:
    """The blocks of an answer, which are those that its events tell of."""
    output = MessageOutput()
    rebuilt: list[dict[str, Any]] = []
    parts: list[str] = []
    for event in map(msgspec.to_builtins, read_events(output, kind, tokens, groups, lag)):
        if event["type"] == "content_block_start":
            assert event["index"] == len(rebuilt)
            rebuilt.append(event["content_block"])
            parts.clear()
        elif event["type"] == "content_block_delta":
            assert event["index"] == len(rebuilt) - 1
            parts.append(next(v for name, v in event["delta"].items() if name != "type"))
        else:
            assert event == {"type": "content_block_stop", "index": len(rebuilt) - 1}
            block, text = rebuilt[-1], "".join(parts)
            if block["type"] == "tool_use":
                assert block["input"] == {}
                block["input"] = given_to(text)
            else:
                name = block["type"]
                assert block[name] == ""
                block[name] = text
    assert rebuilt == msgspec.to_builtins(output.blocks)
    return [{name: value for name, value in block.items() if name != "id"} for block in rebuilt]


def given_to(text: str) -> dict[str, Any]:
    """Of a call that was cut off what there is of it."""
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        return {"arguments": text}
    return found


@given(
    tokens_written,
    st.lists(st.integers(0, 12), max_size=6),
    st.integers(0, 12),
    st.sampled_from(PARSERS),
)
def test_blocks_do_not_depend_on_how_tokens_arrive(
    tokens: list[MarkedText], groups: list[int], lag: int, kind: str
) -> None:
    assert read(tokens, groups, lag, kind) == read(tokens, [], 0, kind)


def test_thoughts_text_and_calls_are_blocks_in_their_order() -> None:
    text = f"<think>Hm.</think>Let me see. {CALL}\nDone."
    assert read([MarkedText(text)], [], 0, "reasoning and calls") == [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "text", "text": "Let me see. ", "citations": None},
        {"type": "tool_use", "name": "f", "input": {"a": "1 < 2"}, "caller": {"type": "direct"}},
        {"type": "text", "text": "Done.", "citations": None},
    ]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ('{"a": 1}', {"a": 1}),
        ("[1]", {"arguments": [1]}),
        ("no", {"arguments": "no"}),
        ('{"a": "no', {"arguments": '{"a": "no'}),
        ("", {"arguments": ""}),
    ],
)
def test_what_is_called_with_no_object_gets_one(arguments: str, shown: dict[str, Any]) -> None:
    output = MessageOutput()
    events = [*output.call("id", "f"), *itertools.chain(*map(output.arguments, arguments))]
    *deltas, end = msgspec.to_builtins([*events, *output.call_end()])[1:]
    (block,) = msgspec.to_builtins(output.blocks)
    assert block["input"] == shown
    assert end["type"] == "content_block_stop"
    assert given_to("".join(delta["delta"]["partial_json"] for delta in deltas)) == shown
