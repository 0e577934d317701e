"""Answers are read as transformers' parser reads them by its own response templates."""

from __future__ import annotations

import json
from typing import Any

import pytest
from transformers.cli.serving.utils import _RESPONSE_TEMPLATE_FALLBACKS
from transformers.utils.chat_parsing import parse_response

from octavo.engine.requests.marked_text import MarkedText
from octavo.server.openai.parsing.answer import Markup
from octavo.server.openai.parsing.formats import CALL_FORMATS
from octavo.server.openai.parsing.pieces import Reasoning
from octavo.server.openai.parsing.reasoning import REASONING_FORMATS
from tests.support.runtime.read_calls import Call, read_with

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "count": {"type": "integer"},
        "where": {"type": "object"},
        "is_it": {"type": "boolean"},
    },
}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]
HERMES = '<tool_call>\n{"name": "f", "arguments": {"city": "a", "count": 3}}\n</tool_call>'
CODER = (
    "<tool_call>\n<function=f>\n<parameter=city>\nNew York\n</parameter>\n<parameter=count>\n3\n"
    '</parameter>\n<parameter=where>\n{"a": [1]}\n</parameter>\n<parameter=is_it>\ntrue\n</parameter>\n'
    "</function>\n</tool_call>"
)
GEMMA = '<|tool_call>call:f{city:<|"|>New York<|"|>,count:3,is_it:true,where:{a:[1]}}<tool_call|>'
PROMPT = "<|im_start|>assistant\n"
OPEN, CLOSED = f"{PROMPT}<think>\n", f"{PROMPT}<think>\n\n</think>\n\n"


def theirs(model_type: str, text: str, prompt: str) -> tuple[str, str, Any]:
    template = next(t for types, t in _RESPONSE_TEMPLATE_FALLBACKS.items() if model_type in types)
    found = parse_response(text, template, prefix=prompt, tools=TOOLS)
    calls = [call["function"] for call in found.get("tool_calls", [])]
    return (
        found.get("reasoning_content", ""),
        found.get("content", "").strip(),
        [(call["name"], call["arguments"]) for call in calls],
    )


def ours(name: str, text: str, prompt: str, reasoning: str = "qwen3") -> tuple[str, str, Any]:
    markup = Markup(name, CALL_FORMATS[name], reasoning, REASONING_FORMATS[reasoning])
    parser = markup.parser(prompt, {"f": SCHEMA})
    assert parser is not None
    pieces = read_with(parser, MarkedText(text))
    return (
        "".join(piece.text for piece in pieces if isinstance(piece, Reasoning)),
        "".join(piece for piece in pieces if isinstance(piece, str)).strip(),
        [(one.name, json.loads(one.arguments)) for one in pieces if isinstance(one, Call)],
    )


@pytest.mark.parametrize("prompt", [PROMPT, OPEN, CLOSED], ids=["bare", "open", "closed"])
@pytest.mark.parametrize(
    ("model_type", "name", "call"),
    [("qwen3", "hermes", HERMES), ("qwen3_5", "qwen3_coder", CODER)],
    ids=["hermes", "qwen3_coder"],
)
def test_answers_are_read_alike(model_type: str, name: str, call: str, prompt: str) -> None:
    begin = {PROMPT: "<think>\nHm.\n\nSo.\n</think>\n\n", OPEN: "Hm.\n</think>\n\n", CLOSED: ""}
    for body in ("Hi.", call, f"Look:\n{call}", f"{call}\n{call}"):
        text = begin[prompt] + body
        assert ours(name, text, prompt) == theirs(model_type, text, prompt)
    unopened = "Cut off in thoughts" if prompt == OPEN else "Hi"
    assert ours(name, unopened, prompt) == theirs(model_type, unopened, prompt)


@pytest.mark.parametrize("begin", ["", "<|channel>thought\nHm.\n\nSo.<channel|>"])
def test_gemmas_answers_are_read_alike(begin: str) -> None:
    prompt = "<|turn>model\n"
    for body in ("Hi.", GEMMA, f"Look:{GEMMA}", f"{GEMMA}{GEMMA}"):
        found = ours("gemma4", begin + body, prompt, "gemma4")
        assert found == theirs("gemma4", begin + body, prompt)
