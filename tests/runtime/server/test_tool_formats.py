"""Every format of tool calls: whatever stands in the arguments, around the calls and between them, and
wherever the text is cut, the same calls come out and nothing is lost."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from octavo.engine.requests.marked_text import MarkedText, joined
from octavo.server.openai.parsing.formats import CALL_FORMATS, CallFormat, TaggedJson, Tools
from octavo.server.openai.parsing.tool_calls import ToolCallParser
from tests.support.runtime.read_calls import Call, read_with

Calls = Sequence[tuple[str, dict[str, Any]]]
KEYS = ["a", "text", "größe"]
NAMES = ["get_pods", "f", "list-pods"]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def hermes(calls: Calls, opening: str = "<tool_call>", closing: str = "</tool_call>") -> str:
    return "\n".join(
        f"{opening}\n{_json({'name': name, 'arguments': given})}\n{closing}"
        for name, given in calls
    )


def tagged(calls: Calls) -> str:
    return hermes(calls, "<call|", "|call>")


def llama3_json(calls: Calls) -> str:
    return "; ".join(_json({"name": name, "parameters": given}) for name, given in calls)


def llama3_tag(calls: Calls) -> str:
    return "<|python_tag|>" + llama3_json(calls)


def mistral_list(calls: Calls) -> str:
    return "[TOOL_CALLS]" + _json([{"name": name, "arguments": given} for name, given in calls])


def mistral(calls: Calls, mark: str = "[ARGS]") -> str:
    return "".join(f"[TOOL_CALLS]{name}{mark}{_json(given)}" for name, given in calls)


def mistral_bare(calls: Calls) -> str:
    return mistral(calls, "")


def mistral_id(calls: Calls) -> str:
    return mistral(calls, "[CALL_ID]abcdefghi[ARGS]")


def qwen3_coder(
    calls: Calls, opening: str = "<tool_call>\n", closing: str = "\n</tool_call>"
) -> str:
    def parameter(key: str, value: object) -> str:
        shown = value if isinstance(value, str) else _json(value)
        return f"<parameter={key}>\n{shown}\n</parameter>\n"

    return "\n".join(
        f"{opening}<function={name}>\n"
        + "".join(parameter(key, value) for key, value in given.items())
        + f"</function>{closing}"
        for name, given in calls
    )


def qwen3_coder_bare(calls: Calls) -> str:
    return qwen3_coder(calls, "", "")


def glm45(calls: Calls, between: str = "\n") -> str:
    def argument(key: str, value: object) -> str:
        shown = value if isinstance(value, str) else _json(value)
        return between.join((f"<arg_key>{key}</arg_key>", f"<arg_value>{shown}</arg_value>", ""))

    return between.join(
        f"<tool_call>{name}{between}"
        + "".join(argument(key, value) for key, value in given.items())
        + "</tool_call>"
        for name, given in calls
    )


def glm47(calls: Calls) -> str:
    return glm45(calls, "")


def _gemma_value(value: object, quote: str) -> str:
    if isinstance(value, str):
        return f"{quote}{value}{quote}"
    if isinstance(value, dict):
        members = (f"{quote}{key}{quote}:{_gemma_value(one, quote)}" for key, one in value.items())
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_gemma_value(one, quote) for one in value) + "]"
    return str(value) if value is None else _json(value)


def gemma4(
    calls: Calls, opening: str = "<|tool_call>", closing: str = "<tool_call|>", quote: str = '<|"|>'
) -> str:
    return "".join(
        f"{opening}call:{name}{{"
        + ",".join(f"{key}:{_gemma_value(value, quote)}" for key, value in given.items())
        + f"}}{closing}"
        for name, given in calls
    )


def functiongemma(calls: Calls) -> str:
    return gemma4(calls, "<start_function_call>", "<end_function_call>", "<escape>")


def kimi_k2(calls: Calls) -> str:
    inside = "".join(
        f"<|tool_call_begin|>functions.{name}:{number}<|tool_call_argument_begin|>{_json(given)}<|tool_call_end|>"
        for number, (name, given) in enumerate(calls)
    )
    return f"<|tool_calls_section_begin|>{inside}<|tool_calls_section_end|>"


def harmony(calls: Calls) -> str:
    return "<|start|>assistant".join(
        f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{_json(given)}<|call|>"
        for name, given in calls
    )


def harmony_role(calls: Calls) -> str:
    return "".join(
        f"<|start|>assistant to=functions.{name}<|channel|>commentary json<|message|>{_json(given)}<|call|>"
        for name, given in calls
    )


def granite(calls: Calls) -> str:
    return mistral_list(calls).replace("[TOOL_CALLS]", "<|tool_call|>", 1)


def phi4_mini(calls: Calls) -> str:
    return mistral_list(calls).replace("[TOOL_CALLS]", "functools", 1)


def phi4_mini_tag(calls: Calls) -> str:
    return f"{granite(calls)}<|/tool_call|>"


def internlm(calls: Calls) -> str:
    return hermes(calls, "<|action_start|><|plugin|>", "<|action_end|>")


def pythonic(calls: Calls) -> str:
    def one(name: str, given: dict[str, Any]) -> str:
        return f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})"

    return "[" + ", ".join(one(name, given) for name, given in calls) + "]"


def pythonic_tag(calls: Calls) -> str:
    return f"<|python_start|>{pythonic(calls)}<|python_end|>"


def deepseek_v3(calls: Calls) -> str:
    inside = "\n".join(
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{_json(given)}\n```<｜tool▁call▁end｜>"
        for name, given in calls
    )
    return f"<｜tool▁calls▁begin｜>{inside}<｜tool▁calls▁end｜>"


def deepseek_v31(calls: Calls) -> str:
    inside = "".join(
        f"<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{_json(given)}<｜tool▁call▁end｜>"
        for name, given in calls
    )
    return f"<｜tool▁calls▁begin｜>{inside}<｜tool▁calls▁end｜>"


WRITERS: list[tuple[CallFormat, list[Callable[[Calls], str]]]] = [
    (CALL_FORMATS["hermes"], [hermes]),
    (TaggedJson("<call|", "|call>"), [tagged]),
    (CALL_FORMATS["llama3_json"], [llama3_json, llama3_tag]),
    (CALL_FORMATS["mistral"], [mistral_list, mistral, mistral_bare, mistral_id]),
    (CALL_FORMATS["qwen3_coder"], [qwen3_coder, qwen3_coder_bare]),
    (CALL_FORMATS["pythonic"], [pythonic, pythonic_tag]),
    (CALL_FORMATS["deepseek_v3"], [deepseek_v3, deepseek_v31]),
    (CALL_FORMATS["glm45"], [glm45, glm47]),
    (CALL_FORMATS["gemma4"], [gemma4]),
    (CALL_FORMATS["functiongemma"], [functiongemma]),
    (CALL_FORMATS["kimi_k2"], [kimi_k2]),
    (CALL_FORMATS["openai"], [harmony, harmony_role]),
    (CALL_FORMATS["granite"], [granite]),
    (CALL_FORMATS["phi4_mini_json"], [phi4_mini, phi4_mini_tag]),
    (CALL_FORMATS["internlm"], [internlm]),
]
TEXT_OF_F: Tools = {"f": {"properties": {"text": {"type": "string"}}}}
WRITTEN = {writer.__name__: (form, writer) for form, writers in WRITERS for writer in writers}
MARKS = sorted({mark for form, _ in WRITTEN.values() for mark in form.openings})
# Where bare text ends cannot be told if the very tags that end it stand in it.
_XML_END = re.compile(
    r"</parameter>\s*(<parameter=|</function>)|</arg_value>\s*<arg_key>|</?tool_call>"
    r'|<\|"\|>|<escape>'
)
nasty = st.lists(
    st.sampled_from(
        [
            "a",
            " ",
            "\n",
            '"',
            "'",
            "\\",
            "{",
            "}",
            "[",
            "]",
            "(",
            ")",
            ";",
            ",",
            "é",
            "😀",
            "<",
            "null",
        ]
        + [
            "</tool_call>",
            "</parameter>",
            "</arg_value>",
            "<arg_key>",
            "<|end|>",
            "<parameter=x>",
            "```",
            "[ARGS]",
            '{"name": "f"}',
            "\x00",
        ]
        + [*MARKS]
    ),
    max_size=6,
).map("".join)
texts = (nasty | st.text(max_size=8)).filter(lambda text: not _XML_END.search(text))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
arguments = st.dictionaries(st.sampled_from(KEYS), values, max_size=3)
some_calls = st.lists(st.tuples(st.sampled_from(NAMES), arguments), min_size=1, max_size=3)
words = st.sampled_from(["", "Let me look. ", "So:\n", "ü < {x} [y] ", "\n"])


def kind(value: object) -> str:
    names = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array"}
    return "null" if value is None else names.get(type(value), "object")


def tools_of(calls: Calls) -> dict[str, dict[str, Any]]:
    """With the types of what is given; what is given in two types is allowed both."""
    found: dict[str, dict[str, Any]] = {
        name: {"type": "object", "properties": {}} for name in NAMES
    }
    for name, passed in calls:
        for key, value in passed.items():
            kinds = found[name]["properties"].setdefault(key, {"type": []})["type"]
            kinds += [] if kind(value) in kinds else [kind(value)]
    return found


def parse(
    form: CallFormat, tools: Tools, *pieces: MarkedText, is_cut: bool = False
) -> tuple[str, Calls]:
    """Of a call that is not whole the text of its arguments, under its name with a question mark."""
    parser = ToolCallParser(form, tools)
    out = read_with(parser, *pieces, is_cut=is_cut)
    content = "".join(item for item in out if isinstance(item, str))
    calls = [item for item in out if isinstance(item, Call)]
    assert parser.num_calls == len(calls)
    return content, [
        (one.name, json.loads(one.arguments))
        if one.is_whole
        else (f"{one.name}?", {"": one.arguments})
        for one in calls
    ]


def told(form: CallFormat, *pieces: MarkedText) -> list[object]:
    """As it stands, without the ids; text that came in parts as one."""
    out: list[object] = []
    for item in read_with(ToolCallParser(form, TEXT_OF_F), *pieces):
        if isinstance(item, str) and out and isinstance(out[-1], str):
            out[-1] += item
        else:
            out.append(item[1:] if isinstance(item, Call) else item)
    return out


def _squeezed(text: str) -> str:
    """Without what may stand between the parts of a document."""
    return re.sub(r"\s", "", text)


def in_pieces(text: MarkedText, seed: int) -> list[MarkedText]:
    chance = random.Random(seed)  # noqa: S311
    places = sorted({0, len(text), *(chance.randrange(len(text) + 1) for _ in range(seed % 9))})
    return [text[a:b] for a, b in itertools.pairwise(places)]


def one_by_one(text: MarkedText) -> list[MarkedText]:
    return [text[place : place + 1] for place in range(len(text))]


def marked(text: str) -> MarkedText:
    """With the tags as special tokens, as most tokenizers have them."""
    places = [
        found.span()
        for mark in MARKS
        if len(mark) > 1
        for found in re.finditer(re.escape(mark), text)
    ]
    kept: list[tuple[int, int]] = []
    for begin, end in sorted(places):
        if not kept or begin >= kept[-1][1]:
            kept.append((begin, end))
    return MarkedText(text, tuple(kept))


def is_told_apart(form: CallFormat, calls: Calls) -> bool:
    """Bare text of several types may be read as another one of them."""
    is_bare = form in (CALL_FORMATS["qwen3_coder"], CALL_FORMATS["glm45"])
    return not is_bare or all(
        len(one["type"]) == 1
        for tool in tools_of(calls).values()
        for one in tool["properties"].values()
    )


@pytest.mark.parametrize("name", WRITTEN)
@settings(max_examples=15)
@given(before=words, calls=some_calls, after=words, seed=st.integers(0, 10**6))
def test_calls_come_out_as_they_were_written(
    name: str, before: str, calls: Calls, after: str, seed: int
) -> None:
    form, write = WRITTEN[name]
    if name == "pythonic" and before.strip():
        before += "\n"
    if not is_told_apart(form, calls):
        calls = calls[:1]
    tools = tools_of(calls)
    text = before + write(calls) + after
    content, found = parse(form, tools, MarkedText(text))
    assert found == list(calls)
    assert content == before + after.strip()
    for pieces in (in_pieces(MarkedText(text), seed), one_by_one(MarkedText(text))):
        assert parse(form, tools, *pieces) == (content, found)
    hidden = marked(text)
    expected = parse(form, tools, hidden)
    assert expected[1] == found
    assert parse(form, tools, *in_pieces(hidden, seed)) == expected


ODD: Calls = [
    ("f", {"a": "x </tool_call> ] } </parameter>", "text": 'y" {"b": [\\'}),
    ("get_pods", {"text": "<br/>\n'1'\t"}),
]


@pytest.mark.parametrize("name", WRITTEN)
def test_every_cut_in_two_gives_the_whole(name: str) -> None:
    """Of text before, between and behind calls with all that formats are made of in their arguments."""
    form, write = WRITTEN[name]
    text = marked("Well,\n" + write(ODD) + "\nand then " + write(ODD[:1])[:-3])
    tools = tools_of(ODD)
    expected = parse(form, tools, text)
    for at in range(len(text) + 1):
        assert parse(form, tools, text[:at], text[at:]) == expected, at


@pytest.mark.parametrize("name", WRITTEN)
@settings(max_examples=15)
@given(calls=some_calls, place=st.integers(0, 400), seed=st.integers(0, 10**6))
@example(calls=[("f", {"a": 1})], place=len(harmony_role([("f", {})])) - len("{}<|call|>"), seed=0)
def test_a_text_that_is_cut_off_keeps_what_is_certain_of_its_calls(
    name: str, calls: Calls, place: int, seed: int
) -> None:
    form, write = WRITTEN[name]
    if not is_told_apart(form, calls):
        calls = calls[:1]
    tools = tools_of(calls)
    text = write(calls)[:place]
    content, found = parse(form, tools, MarkedText(text), is_cut=True)
    whole = [one for one in found if not one[0].endswith("?")]
    assert whole == list(calls)[: len(whole)]
    if found != whole:
        (last,) = found[len(whole) :]
        cut, expected = last[1][""], calls[len(whole)]
        assert last[0] == f"{expected[0]}?"
        assert _squeezed(_json(expected[1])).startswith(_squeezed(cut))
        assert content == ""
    elif not found:  # a head of harmony's that was begun is no text
        assert content == text or form is CALL_FORMATS["openai"]
    for pieces in (in_pieces(MarkedText(text), seed), one_by_one(MarkedText(text))):
        assert parse(form, tools, *pieces, is_cut=True) == (content, found)


@pytest.mark.parametrize("name", WRITTEN)
@settings(max_examples=15)
@given(data=st.data(), seed=st.integers(0, 10**6))
def test_it_does_not_matter_where_any_text_is_cut(
    name: str, data: st.DataObject, seed: int
) -> None:
    """Parts of calls in any order, with and without special tokens."""
    form, write = WRITTEN[name]
    call = write([("f", {"a": "x </tool_call> ] } </parameter>", "text": 'y"'}), ("get_pods", {})])
    parts = [call, *re.split(r"(?<=[\]>}])|(?=[\[<{])", call), " ", "\n", "a [f(", ";", "text"]
    chosen = data.draw(st.lists(st.sampled_from([part for part in parts if part]), max_size=10))
    drawn = data.draw(st.lists(st.sampled_from([MarkedText, marked]), min_size=10, max_size=10))
    text = joined([make(part) for part, make in zip(chosen, drawn, strict=False)] or [MarkedText()])
    tools = {"f": {"properties": {"a": {"type": "string"}}}, "get_pods": None}
    content, found = parse(form, tools, text)
    if not found and form is not CALL_FORMATS["openai"]:
        assert content == text.shown
    for pieces in (in_pieces(text, seed), one_by_one(text)):
        assert parse(form, tools, *pieces) == (content, found)


@pytest.mark.parametrize("name", WRITTEN)
@settings(max_examples=20)
@given(place=st.integers(0, 200), missing=st.integers(0, 3), data=st.data())
def test_a_spoilt_call_is_the_same_wherever_it_is_cut(
    name: str, place: int, missing: int, data: st.DataObject
) -> None:
    form, write = WRITTEN[name]
    call = write([("f", {"text": "Oslo"})])
    place = len(call) - place % len(call)
    bad = call.replace('"Oslo"', "x")
    behind = data.draw(st.sampled_from(["! Sorry", f", {bad}", f", {call}", "{x}}", call[:-9]]))
    text = MarkedText(call[:place] + call[place + missing :] * bool(missing) + behind)
    expected = told(form, text)
    for begin in re.finditer(r"[\[<{},! ]|(?<=[\]>}\"])", text.text):
        at = begin.start()
        assert told(form, text[:at], text[at:]) == expected
    assert told(form, *one_by_one(text)) == expected


@pytest.mark.parametrize(
    ("name", "text", "content", "calls"),
    [
        (
            "llama3_json",
            '{"name": "f", "parameters": {}, {"name": "f", "parameters": {x}}',
            "x}}",
            [("f", {}), ("f?", {"": "{"})],
        ),
        (
            "llama3_json",
            '{"name": "f", "parameters": {}, {"name": "f", "parameters": {"a": 1}};',
            "",
            [("f", {}), ("f", {"a": 1})],
        ),
        ("llama3_json", '{"name": "f", "parameters": {}, "id": {x}', "{x}", [("f", {})]),
        (
            "gemma4",
            '<|tool_call>call:f{text:<|"|>Oslo<|"|>! Sorry',
            "! Sorry",
            [("f?", {"": '{"text": "Oslo"'})],
        ),
    ],
)
def test_what_stands_behind_a_spoilt_call_is_kept(
    name: str, text: str, content: str, calls: Calls
) -> None:
    form = CALL_FORMATS[name]
    for at in range(len(text)):
        pieces = (MarkedText(text[:at]), MarkedText(text[at:]))
        assert parse(form, TEXT_OF_F, *pieces) == (content, calls)
    assert parse(form, TEXT_OF_F, *one_by_one(MarkedText(text))) == (content, calls)


def test_no_two_calls_have_the_same_id() -> None:
    """Those that a model writes itself, in one section or several, and those of the conversation."""
    call = kimi_k2([("f", {})])
    text = call + call.replace(":0", ":3") + kimi_k2([("f", {}), ("f", {})])
    for pieces in ([MarkedText(text)], one_by_one(MarkedText(text))):
        parser = ToolCallParser(CALL_FORMATS["kimi_k2"], TEXT_OF_F, known_ids=["functions.f:1"])
        ids = [one.id for one in read_with(parser, *pieces) if isinstance(one, Call)]
        assert ids == [f"functions.f:{number}" for number in (0, 3, 4, 5)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[f(a='x\ny', text='it\\'s')]",
            {"a": "x\ny", "text": "it's"},
        ),  # as LFM2's template has it
        ('[f(a={"b": [true, null, -1.5]})]', {"a": {"b": [True, None, -1.5]}}),
        ("[f(a=(1, 'b'))]", {"a": [1, "b"]}),
        ("[f(a=1, a=2)]", None),
        ("[f(1)]", None),
        ("[f(**{'a': 1})]", None),
        ("[f(a=open('x'))]", None),
        ("[f(a=f'{x}')]", None),
        ("[f(a=1e999)]", None),
        ("[f(a=1), other(a=1)]", None),
        (f"[f(a={'[' * 5000}{']' * 5000})]", None),
    ],
)
def test_pythons_notation_is_literals(text: str, expected: dict[str, Any] | None) -> None:
    form = CALL_FORMATS["pythonic"]
    for pieces in ([MarkedText(text)], one_by_one(MarkedText(text))):
        content, found = parse(form, {"f": None}, *pieces)
        assert found == ([] if expected is None else [("f", expected)])
        assert content == (text if expected is None else "")
