"""Answers of gpt-oss: channels become thoughts, content and calls, wherever the text is cut."""

from __future__ import annotations

import itertools
import random

import msgspec
import pytest

from octavo.engine.requests.marked_text import MarkedText
from octavo.server.anthropic.objects import ToolUseOut
from octavo.server.anthropic.output import MessageOutput
from octavo.server.openai.answer_reader import AnswerReader
from octavo.server.openai.parsing.answer import Markup
from octavo.server.openai.parsing.formats import CALL_FORMATS, HARMONY
from octavo.server.openai.parsing.pieces import Reasoning
from octavo.server.openai.parsing.reasoning import REASONING_FORMATS
from octavo.server.openai.protocol import ChatCompletionRequest
from octavo.server.openai.responses_api.output import ResponseOutput
from tests.support.runtime.read_calls import Call, put_together, read_with

MARKUP = Markup(
    "openai", HARMONY, "openai_gptoss", REASONING_FORMATS["openai_gptoss"], channels=HARMONY
)
PROMPT = "<|start|>user<|message|>Hi<|end|><|start|>assistant"
THOUGHT = "<|channel|>analysis<|message|>Hm.\nSo.<|end|>"
FINAL = "<|channel|>final<|message|>"
SAID = "<|channel|>commentary<|message|>Let me look. <|end|>"
CALL = '<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": "<|end|> {"}<|call|>'
NEXT = "<|start|>assistant"
ARGUMENTS = '{"a": "<|end|> {"}'
TOOLS = {"f": None}

ANSWERS = {
    "Yes.": ("", "Yes.", []),
    f"{FINAL}Yes.": ("", "Yes.", []),
    f"{FINAL}Yes.<|return|>": ("", "Yes.", []),
    f"{THOUGHT}{NEXT}{FINAL}Yes.\n": ("Hm.\nSo.", "Yes.\n", []),
    f"{THOUGHT}{NEXT}{THOUGHT}{NEXT}{FINAL}Yes.": ("Hm.\nSo.\nHm.\nSo.", "Yes.", []),
    f"{THOUGHT}{NEXT}{CALL}": ("Hm.\nSo.", "", [ARGUMENTS]),
    f"{THOUGHT}{NEXT}{SAID}{NEXT}{CALL}": ("Hm.\nSo.", "Let me look. ", [ARGUMENTS]),
    f"{CALL}{NEXT}{CALL}": ("", "", [ARGUMENTS, ARGUMENTS]),
    # The recipient behind the role, as the published template writes it, whose head the prompt began.
    ' to=functions.f<|channel|>commentary json<|message|>{"b": 1}': ("", "", ['{"b": 1}']),
    f"{THOUGHT}{NEXT} to=functions.f<|channel|>analysis json<|message|>{{}}<|call|>": (
        "Hm.\nSo.",
        "",
        ["{}"],
    ),
    "<|channel|>commentary to=functions.f<|message|><|call|>": ("", "", ["{}"]),
    "<|channel|>commentary to=python code<|message|>print(1)": ("", "print(1)", []),
    " to be or not": ("", " to be or not", []),
    # Cut off.
    "<|channel|>ana": ("", "", []),
    "<|channel|>analysis<|message|>Hm. <|en": ("Hm.", "", []),
    f"{THOUGHT}{NEXT}<|channel|>fin": ("Hm.\nSo.", "", []),
    CALL[:-15]: ("", "", [ARGUMENTS[:-7]]),
}


def read(
    text: MarkedText, places: list[int], *, has_tools: bool = True
) -> tuple[str, str, list[str]]:
    parser = MARKUP.parser(PROMPT, TOOLS if has_tools else {})
    assert parser is not None
    cut = [text[a:b] for a, b in itertools.pairwise(sorted({0, *places, len(text)}))]
    found = read_with(parser, *cut)
    return (
        "".join(one.text for one in found if isinstance(one, Reasoning)),
        "".join(one for one in found if isinstance(one, str)),
        [one.arguments for one in found if isinstance(one, Call)],
    )


def with_special(text: str) -> MarkedText:
    """Tags of heads are special tokens."""
    tags = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>", "<|return|>", "<|call|>")
    places = [
        (place, place + len(tag))
        for tag in tags
        for place in range(len(text))
        if text.startswith(tag, place)
    ]
    return MarkedText(text, tuple(sorted(places)))


@pytest.mark.parametrize("text", ANSWERS)
def test_channels_are_told_apart_wherever_the_text_is_cut(text: str) -> None:
    chance = random.Random(text)  # noqa: S311
    for marked in (MarkedText(text), with_special(text)):
        assert read(marked, []) == ANSWERS[text]
        assert read(marked, list(range(len(text)))) == ANSWERS[text]
        for _ in range(5):
            places = [chance.randrange(len(text)) for _ in range(6)]
            assert read(marked, places) == ANSWERS[text]


def test_without_tools_heads_are_read_and_a_call_is_content() -> None:
    assert read(MarkedText(f"{THOUGHT}{NEXT}{FINAL}Yes."), [], has_tools=False) == (
        "Hm.\nSo.",
        "Yes.",
        [],
    )
    call = '<|channel|>commentary to=functions.f<|message|>{"a": 1}'
    assert read(MarkedText(call), [], has_tools=False) == ("", '{"a": 1}', [])


def test_thoughts_may_be_left_out() -> None:
    parser = MARKUP.parser(PROMPT, TOOLS, tells_reasoning=False)
    assert parser is not None
    text = f"{THOUGHT}{NEXT}{FINAL}Yes."
    assert "".join(map(str, read_with(parser, *map(MarkedText, text)))) == "Yes."


@pytest.mark.parametrize("rest", ["", "  ", "<|ca"])
def test_arguments_that_were_cut_off_before_they_began_are_none(rest: str) -> None:
    head = "<|channel|>commentary to=functions.f <|constrain|>json<|message|>"
    for is_cut, arguments in ((True, ""), (False, "{}")):
        parser = MARKUP.parser(PROMPT, TOOLS)
        assert parser is not None
        pieces = [*parser.push(MarkedText(head + rest)), *parser.flush(is_cut=is_cut)]
        (call,) = put_together(pieces)
        assert isinstance(call, Call)
        assert call[1:] == ("f", arguments, not is_cut)


@pytest.mark.parametrize("is_cut", [True, False])
def test_a_block_and_an_item_of_a_call_say_whether_it_was_cut_off(is_cut: bool) -> None:
    text = MarkedText("<|channel|>commentary to=functions.f <|constrain|>json<|message|>")
    blocks, items = MessageOutput(), ResponseOutput()
    AnswerReader(MARKUP.parser(PROMPT, TOOLS), blocks).read_whole(text, is_cut=is_cut)
    AnswerReader(MARKUP.parser(PROMPT, TOOLS), items).read_whole(text, is_cut=is_cut)
    (block,), (item,) = blocks.blocks, msgspec.to_builtins(items.items)
    assert isinstance(block, ToolUseOut)
    assert block.input == ({"arguments": ""} if is_cut else {})
    told = (item["arguments"], item["status"])
    assert told == (("", "incomplete") if is_cut else ("{}", "completed"))


def test_a_conversation_s_ids_are_those_of_its_calls() -> None:
    call = {"id": "functions.f:0", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Go"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "functions.f:0", "content": "1"},
    ]
    request = ChatCompletionRequest.parse({"model": "demo", "messages": messages})
    assert request.call_ids == ["functions.f:0"]


def test_a_function_that_is_called_without_an_object_is_text() -> None:
    text = "<|channel|>commentary to=functions.f<|message|>call it"
    assert read(MarkedText(text), []) == ("", text, [])
    assert CALL_FORMATS["openai"] is HARMONY
