"""Every format of tool calls: whatever stands in the arguments, around the calls and between them, and
wherever the text is cut, the same calls come out and nothing is lost."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from octavo.engine.requests.marked_text import MarkedText, joined
from octavo.server.openai.parsing.bare_arguments import BareTags
from octavo.server.openai.parsing.formats import CallFormat
from tests.support.runtime.cut_text import in_pieces, one_by_one, parse, told
from tests.support.runtime.written_calls import WRITERS, Calls, as_json

KEYS = ["a", "text", "größe"]
NAMES = ["get_pods", "f", "list-pods"]
MARKS = sorted({mark for form, _ in WRITERS.values() for mark in form.openings})
# Others have the same reader with other tags.
_SAME = (
    ["internlm", "longcat", "granite-20b-fc", "jamba", "nemotron_json", "phi4_mini_json"]
    + ["deepseek_v4", "deepseek_v41", "dots", "k2_horizon", "step3", "functiongemma"]
    + ["ernie45", "hunyuan_a13b", "glm45 4.7", "mistral id", "xlam block"]
)
READERS = [name for name in WRITERS if name not in _SAME]
# Where bare text ends cannot be told if the very tags that end it stand in it.
_XML_END = re.compile(
    r"</parameter>\s*(<parameter|</function>|</invoke>)|</arg_value>\s*<arg_key>|</?tool_call>"
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


def _squeezed(text: str) -> str:
    """Without what may stand between the parts of a document."""
    return re.sub(r"\s", "", text)


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


def has_heads(form: CallFormat) -> bool:
    """They are no text, whether calls follow or not."""
    return bool(form.heads) or form.reads_reasoning


def fitting(form: CallFormat, calls: Calls) -> Calls:
    """Those that are told apart: bare text of several types may be read as another one of them, and nested
    elements have names and types of their own."""
    notation = form.shape.notation
    if not isinstance(notation, BareTags) or notation.typed_ends:
        return calls
    if notation.is_nested:
        calls = [
            (name, {key: one for key, one in given.items() if kind(one) not in ("array", "object")})
            for name, given in calls
        ]
    tools = tools_of(calls).values()
    kinds = [one["type"] for tool in tools for one in tool["properties"].values()]
    return calls if all(len(one) == 1 for one in kinds) else calls[:1]


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=6)
@given(before=words, calls=some_calls, after=words, seed=st.integers(0, 10**6))
def test_calls_come_out_as_they_were_written(
    name: str, before: str, calls: Calls, after: str, seed: int
) -> None:
    form, write = WRITERS[name]
    if name in ("pythonic", "xlam") and before.strip():
        before += "\n"
    calls = fitting(form, calls)
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


@pytest.mark.parametrize("name", READERS)
def test_every_cut_in_two_gives_the_whole(name: str) -> None:
    """Of text before, between and behind calls with all that formats are made of in their arguments."""
    form, write = WRITERS[name]
    text = marked("Well,\n" + write(ODD) + "\nand then " + write(ODD[:1])[:-3])
    tools = tools_of(ODD)
    expected = parse(form, tools, text)
    for at in range(len(text) + 1):
        assert parse(form, tools, text[:at], text[at:]) == expected, at


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=8)
@given(calls=some_calls, place=st.integers(0, 400), seed=st.integers(0, 10**6))
@example(calls=[("f", {"a": 1})], place=83, seed=0)
def test_a_text_that_is_cut_off_keeps_what_is_certain_of_its_calls(
    name: str, calls: Calls, place: int, seed: int
) -> None:
    form, write = WRITERS[name]
    calls = fitting(form, calls)
    tools = tools_of(calls)
    text = write(calls)[:place]
    content, found = parse(form, tools, MarkedText(text), is_cut=True)
    whole = [one for one in found if not one[0].endswith("?")]
    assert whole == list(calls)[: len(whole)]
    if found != whole:
        (last,) = found[len(whole) :]
        cut, expected = last[1][""], calls[len(whole)]
        assert last[0] == f"{expected[0]}?"
        assert _squeezed(as_json(expected[1])).startswith(_squeezed(cut))
        assert content == ""
    elif not found:
        assert content == text or has_heads(form)
    for pieces in (in_pieces(MarkedText(text), seed), one_by_one(MarkedText(text))):
        assert parse(form, tools, *pieces, is_cut=True) == (content, found)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=8)
@given(data=st.data(), seed=st.integers(0, 10**6))
def test_it_does_not_matter_where_any_text_is_cut(
    name: str, data: st.DataObject, seed: int
) -> None:
    """Parts of calls in any order, with and without special tokens."""
    form, write = WRITERS[name]
    call = write([("f", {"a": "x </tool_call> ] } </parameter>", "text": 'y"'}), ("get_pods", {})])
    parts = [call, *re.split(r"(?<=[\]>}])|(?=[\[<{])", call), " ", "\n", "a [f(", ";", "text"]
    chosen = data.draw(st.lists(st.sampled_from([part for part in parts if part]), max_size=10))
    drawn = data.draw(st.lists(st.sampled_from([MarkedText, marked]), min_size=10, max_size=10))
    text = joined([make(part) for part, make in zip(chosen, drawn, strict=False)] or [MarkedText()])
    tools = {"f": {"properties": {"a": {"type": "string"}}}, "get_pods": None}
    content, found = parse(form, tools, text)
    if not found and not has_heads(form):
        assert content == text.shown
    for pieces in (in_pieces(text, seed), one_by_one(text)):
        assert parse(form, tools, *pieces) == (content, found)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=8)
@given(place=st.integers(0, 200), missing=st.integers(0, 3), data=st.data())
def test_a_spoilt_call_is_the_same_wherever_it_is_cut(
    name: str, place: int, missing: int, data: st.DataObject
) -> None:
    form, write = WRITERS[name]
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
