"""Answers with heads around their content: heads are no text, wherever the answer is cut and whether calls
are read or not."""

from __future__ import annotations

import pytest

from octavo.engine.requests.marked_text import MarkedText
from octavo.server.openai.parsing.choice import choose_markup
from octavo.server.openai.parsing.formats import Tools
from octavo.server.openai.parsing.pieces import Reasoning
from octavo.structured_outputs import StructuredOutputsParams
from tests.support.runtime.read_calls import Call, read_with

TOOLS: Tools = {"f": {"properties": {"a": {"type": "integer"}}}}
R7B, SOLAR, K3 = "cohere_command3", "solar_open", "kimi_k3"
K3_THOUGHT = "Hm.<|close|>think<|sep|>"
K3_SAID = "<|open|>response<|sep|>Yes.\n<|close|>response<|sep|>"
K3_CALL = (
    '<|open|>tools<|sep|><|open|>call tool="f" index="1"<|sep|><|open|>argument key="a&quot;" type="object"'
    '<|sep|>{"b": "<|close|>"}<|close|>argument<|sep|><|close|>call<|sep|><|close|>tools<|sep|>'
)
K3_END = "<|close|>message<|sep|>"
SOLAR_CALL = (
    '<|tool_calls|><|tool_call:begin|>a1<|tool_call:name|>f<|tool_call:args|>{"a": 1}<|tool_call:end|>'
    "<|calls|>"
)
R7B_CALL = '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "f", "parameters": {}}\n]<|END_ACTION|>'
MUSE_CALL = (
    ' to=f<|message|><atem:function_calls>\n<atem:invoke name="f">\n<atem:parameter name="a">1'
    "</atem:parameter>\n</atem:invoke>\n</atem:function_calls>"
)
GIGACHAT_CALL = 'function call<|role_sep|>\n{"name": "f", "arguments": {"a": 1}}<|message_sep|>\n\n'
ERNIE_SAID = "<response>\nYes.\n<a>\n</response>\n"
ERNIE_CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>\n'
HUNYUAN_SAID = "<answer>\nYes.\n</answer>"
INKLING_NEXT = "<|end_message|><|message_model|>"
INKLING_CALL = '<|content_invoke_tool_json|>{"name":"f","args":{"a":1}}<|end_message|>'
ANSWERS = [
    (R7B, "", "<|START_RESPONSE|>Yes. <|END_RESPONSE|>", ("", "Yes. ", [])),
    (R7B, "", "<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>Yes", ("Hm.", "Yes", [])),
    (
        R7B,
        "<|START_THINKING|>",
        f"Hm.<|END_THINKING|>{R7B_CALL}",
        ("Hm.", "", ["{}"]),
    ),
    (SOLAR, "", f"<|think|>Hm.<|end|><|begin|>assistant{SOLAR_CALL}", ("Hm.", "", ['{"a": 1}'])),
    (SOLAR, "", "<|content|>Yes.<|end|>", ("", "Yes.", [])),
    (K3, "<|open|>think<|sep|>", f"{K3_THOUGHT}{K3_SAID}{K3_END}", ("Hm.", "Yes.\n", [])),
    (
        K3,
        "<|open|>think<|sep|>",
        f"{K3_THOUGHT}{K3_SAID}{K3_CALL}{K3_END}",
        ("Hm.", "Yes.\n", ['{"a\\"": {"b": "<|close|>"}}']),
    ),
    (K3, "<|open|>response<|sep|>", "Yes.<|close|>response<|sep|>", ("", "Yes.", [])),
    (
        "gigachat3",
        "",
        f"Look.<|message_sep|>\n\n{GIGACHAT_CALL}",
        ("", "Look.", ['{"a": 1}']),
    ),
    ("muse_glimmer", "", " to=user<|message|>Yes.<|eot|>", ("", "Yes.", [])),
    (
        "muse_glimmer",
        "",
        f" to=self<|message|>Hm.<|eom|><|start|>assistant{MUSE_CALL}<|eot|>",
        ("Hm.", "", ['{"a": 1}']),
    ),
    ("ernie45", "<think>\n", f"Hm.\n</think>\n\n{ERNIE_SAID}", ("Hm.", "Yes.\n<a>", [])),
    ("ernie45", "<think>\n", f"Hm.\n</think>\n\n\n{ERNIE_CALL}", ("Hm.", "", ['{"a": 1}'])),
    ("hunyuan_a13b", "", f"<think>\nHm.\n</think>\n{HUNYUAN_SAID}", ("Hm.", "Yes.", [])),
    ("inkling", "", "<|content_text|>Yes. <|end_message|>", ("", "Yes. ", [])),
    ("inkling", "", f"f{INKLING_CALL}<|content_model_end_sampling|>", ("", "", ['{"a":1}'])),
    (
        "inkling",
        "",
        f"<|content_thinking|> Hm.\n{INKLING_NEXT}<|content_text|>Yes.{INKLING_NEXT}f{INKLING_CALL}",
        ("Hm.", "Yes.", ['{"a":1}']),
    ),
    # A call ends thoughts that have no end.
    ("inkling", "", f"<|content_thinking|>Hm.{INKLING_CALL}", ("Hm.", "", ['{"a":1}'])),
    # It says with a closing tag that it does not think.
    ("minimax_m3", "", "</mm:think>Yes.", ("", "Yes.", [])),
    ("minimax_m3", "", "<mm:think>Hm.</mm:think>Yes.", ("Hm.", "Yes.", [])),
    # A call ends thoughts that have no end.
    (
        "apertus",
        "",
        '<|inner_prefix|>Hm.<|tools_prefix|>[{"f": {"a": "]"}}]<|tools_suffix|>',
        ("Hm.", "", ['{"a": "]"}']),
    ),
]


@pytest.mark.parametrize(("name", "prompt", "text", "expected"), ANSWERS)
def test_heads_are_no_text(
    name: str, prompt: str, text: str, expected: tuple[str, str, list[str]]
) -> None:
    is_none = name == "gigachat3"
    markup = choose_markup(
        None, {}, tool_call_parser=name, reasoning_parser="none" if is_none else name
    )

    def read(*pieces: str, tools: Tools = TOOLS) -> tuple[str, str, list[str]]:
        parser = markup.parser(prompt, tools)
        assert parser is not None
        found = read_with(parser, *map(MarkedText, pieces))
        return (
            "".join(one.text for one in found if isinstance(one, Reasoning)),
            "".join(one for one in found if isinstance(one, str)),
            [one.arguments for one in found if isinstance(one, Call)],
        )

    for at in range(len(text) + 1):
        assert read(text[:at], text[at:]) == expected
    assert read(*text) == expected
    if not expected[2] and markup.channels:
        assert read(text, tools={}) == expected


@pytest.mark.parametrize("prompt", ["<|open|>think<|sep|>", "<|open|>response<|sep|>"])
def test_the_head_of_an_answer_is_asked_for_once(prompt: str) -> None:
    """A prompt may have it; behind thoughts the model writes it."""
    markup = choose_markup(None, {}, tool_call_parser=K3, reasoning_parser=K3)
    for wanted in (
        StructuredOutputsParams(json_object=True),
        StructuredOutputsParams(grammar='start: "x"', schemas={}),
    ):
        behind = markup.behind_reasoning(wanted, prompt)
        assert behind is not None
        assert behind.reasoning is not None
        is_said = prompt.startswith("<|open|>response")
        assert behind.reasoning.before == ("" if is_said else "<|open|>response<|sep|>")
