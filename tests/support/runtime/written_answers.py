"""Answers as a model may write them, by tokens: calls, thoughts, what looks like them, special tokens."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TypeVar

from hypothesis import strategies as st

from octavo.engine.requests.marked_text import MarkedText, joined
from octavo.server.openai.answer_reader import AnswerReader, Output
from octavo.server.openai.answers import TokenLogprob
from octavo.server.openai.parsing.answer import AnswerParser
from octavo.server.openai.parsing.formats import CALL_FORMATS
from octavo.server.openai.parsing.reasoning import REASONING_FORMATS, ReasoningParser
from octavo.server.openai.parsing.tool_calls import ToolCallParser

E = TypeVar("E")
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": "1 < 2"}}\n</tool_call>'
PARSERS = ("none", "calls", "reasoning", "reasoning and calls")


def special(text: str) -> MarkedText:
    return MarkedText(text, ((0, len(text)),))


tokens_written = st.lists(
    st.sampled_from(
        [
            *map(MarkedText, ("a ", "b", "\n", "<tool", "_call>", "<", "", '{"', CALL)),
            *map(MarkedText, (f"so {CALL} b", "<think>", "</think>", "</th", "ink>")),
            *(MarkedText(CALL[place : place + 9]) for place in range(0, len(CALL), 9)),
            *map(special, ("<tool_call>", "</tool_call>", "<|e|>", "</think>")),
        ]
    ),
    max_size=12,
)


def parser(kind: str) -> AnswerParser | None:
    if kind == "none":
        return None
    reasoning = ReasoningParser(REASONING_FORMATS["qwen3"], is_open=False)
    calls = ToolCallParser(CALL_FORMATS["hermes"], {"f": None})
    return AnswerParser(
        reasoning if "reasoning" in kind else None, calls if "calls" in kind else None
    )


def read_events(
    output: Output[E], kind: str, tokens: Sequence[MarkedText], groups: Sequence[int], lag: int
) -> Iterator[E]:
    """Of tokens that arrive in groups, each with its logprob, their text `lag` characters later."""
    reader = AnswerReader(parser(kind), output)
    known = [MarkedText(), *tokens]
    text = joined(known)
    offsets = [len(joined(known[: place + 1]).shown) for place in range(len(tokens))]
    sent = 0
    places = sorted({0, len(tokens), *(min(group, len(tokens)) for group in groups)})
    for begin, end in itertools.pairwise(places):
        arrived = len(joined(known[: end + 1]))
        until = arrived if end == len(tokens) else max(sent, arrived - lag)
        logprobs = [
            TokenLogprob(tokens[n].text if tokens[n].hidden else str(n), -float(n), [], [])
            for n in range(begin, end)
        ]
        yield from reader.read(text[sent:until], logprobs, offsets[begin:end])
        sent = until
    yield from reader.end(is_cut=False)
