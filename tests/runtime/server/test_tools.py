from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.engine.requests.marked_text import MarkedText, joined
from octavo.server.openai.parsing.formats import CALL_FORMATS
from octavo.server.openai.parsing.pieces import Arguments, CallEnd
from octavo.server.openai.parsing.tool_calls import ToolCallParser
from tests.support.runtime.counted_text import CountedWork
from tests.support.runtime.read_calls import Call, read_with

CALL = '<tool_call>\n{"name": "get_pods", "arguments": {"namespace": "a"}}\n</tool_call>'


def parse(*pieces: str | MarkedText) -> tuple[str, list[tuple[str, Any]]]:
    """Content, and the calls as name and decoded arguments."""
    parser = ToolCallParser(CALL_FORMATS["hermes"], {"f": None})
    marked = [MarkedText(piece) if isinstance(piece, str) else piece for piece in pieces]
    out = read_with(parser, *marked)
    content = "".join(item for item in out if isinstance(item, str))
    calls = [(item.name, arguments(item)) for item in out if isinstance(item, Call)]
    assert parser.num_calls == len(calls)
    return content, calls


def arguments(call: Call) -> Any:
    """The text of those that are cut off or spoilt."""
    return json.loads(call.arguments) if call.is_whole else call.arguments


def test_a_call_and_no_text() -> None:
    assert parse(CALL) == ("", [("get_pods", {"namespace": "a"})])


def test_text_before_a_call_and_two_calls() -> None:
    content, calls = parse(f"Let me look. {CALL}\n{CALL}")
    assert content == "Let me look. "
    assert len(calls) == 2


TRICKY = (
    '<tool_call>{"name": "w", "arguments": {"t": "a </tool_call> <tool_call> \\" {"}}</tool_call>'
)
OPEN = MarkedText("<tool_call>", ((0, 11),))
CLOSE = MarkedText("</tool_call>", ((0, 12),))
END = MarkedText("<|end|>", ((0, 7),))
# What a model may write, in any order: calls, what looks like one, text, whitespace, special tokens.
written = st.lists(
    st.sampled_from(
        [
            *map(
                MarkedText,
                [CALL, TRICKY, "<tool_call>", "</tool_call>", '{"name": "f"}', '{"', "}"],
            ),
            *map(MarkedText, ["a < b", "\n", " ", "Done", ".", "<tool_", '"', "\\"]),
            OPEN,
            CLOSE,
            END,
        ]
    ),
    max_size=10,
)


@given(written, st.lists(st.integers(0, 400), max_size=12))
def test_it_does_not_matter_where_the_stream_is_cut(
    pieces: list[MarkedText], cuts: list[int]
) -> None:
    text = joined(pieces)
    places = sorted({0, *(min(cut, len(text)) for cut in cuts), len(text)})
    expected = parse(text)
    assert parse(*(text[a:b] for a, b in itertools.pairwise(places))) == expected
    assert parse(*(text[place : place + 1] for place in range(len(text)))) == expected


def test_content_behind_a_call_keeps_its_spaces() -> None:
    pieces = [CALL, "\nDone", ".", " All", " is", " well.", "\n"]
    assert (
        parse(*pieces)
        == parse("".join(pieces))
        == ("Done. All is well.", [("get_pods", {"namespace": "a"})])
    )


@pytest.mark.parametrize(
    "argument",
    ["a </tool_call> b", "<tool_call>", '<tool_call>{"name": "x"}</tool_call>', "} {", '\\"', '"'],
)
def test_a_call_ends_where_its_json_ends(argument: str) -> None:
    document = {"name": "write", "arguments": {"text": argument}}
    text = f"so: <tool_call>{json.dumps(document)}</tool_call>."
    assert parse(text) == ("so: .", [("write", {"text": argument})])


def test_a_call_may_follow_one_that_is_broken_or_was_not_closed() -> None:
    broken = '<tool_call>{"name": "f", "arguments": {"a": 1}</tool_call>'
    followed = [("f", {"a": 1}), ("get_pods", {"namespace": "a"})]
    assert parse(broken + CALL) == ("", followed)
    spoilt = '<tool_call>{"name": "f", "arguments": {"a": one}}</tool_call>'
    rest = "one}}</tool_call>"
    assert parse(spoilt + CALL) == (rest, [("f", '{"a": '), followed[1]])
    unclosed = '<tool_call>{"name": "f"}\n'
    assert parse(unclosed + CALL) == ("", [("f", {}), ("get_pods", {"namespace": "a"})])


@pytest.mark.parametrize(
    "rest", ["", ', "arguments": null', ', "parameters": null', ', "arguments": ""']
)
def test_a_call_without_arguments_has_none(rest: str) -> None:
    """A client reads the object that every function's parameters are."""
    assert parse(f'<tool_call>{{"name": "f"{rest}}}</tool_call>') == ("", [("f", {})])


def test_tags_that_are_special_tokens_are_read_and_not_shown() -> None:
    inside = MarkedText('{"name": "f", "arguments": {}}')
    assert parse(MarkedText("Hm"), OPEN, inside, CLOSE, END) == ("Hm", [("f", {})])
    assert parse(OPEN, MarkedText("no call"), CLOSE, END) == ("no call", [])
    assert parse(END, MarkedText("text"), END) == ("text", [])


@given(st.text(alphabet="<>/tol_cal {}x", max_size=60))
def test_text_that_holds_no_call_comes_out_unchanged(text: str) -> None:
    content, calls = parse(*text)
    assert (content, calls) == (text, [])


def test_text_is_let_through_at_once() -> None:
    parser = ToolCallParser(CALL_FORMATS["hermes"], {"f": None})
    assert list(parser.push(MarkedText("Hello <b"))) == ["Hello <b"]
    assert list(parser.push(MarkedText("a <tool_"))) == ["a "]
    assert list(parser.push(MarkedText("box>"))) == ["<tool_box>"]


@pytest.mark.parametrize(
    "inside", ["not json", "[]", '{"name": 5}', "{}", "[" * 100_000], ids=lambda text: text[:12]
)
def test_what_is_no_call_stays_text(inside: str) -> None:
    text = f"<tool_call>{inside}</tool_call>"
    assert parse(text) == (text, [])


SPECIAL_CALL = [OPEN, MarkedText('{"name": "f"}'), CLOSE]


@pytest.mark.parametrize(
    ("begin", "repeated"),
    [
        ("", [MarkedText(CALL)]),
        ("", [MarkedText(CALL[place : place + 3]) for place in range(0, len(CALL), 3)]),
        ("", SPECIAL_CALL),
        ("", [*SPECIAL_CALL, MarkedText("\n")]),
        (CALL, [MarkedText("\n")]),
        (CALL.removesuffix("</tool_call>"), [MarkedText("\n")]),
        ('<tool_call>{"name": "f", "arguments": {"text": "', [MarkedText("words ")]),
        ('<tool_call>{"name": "f", "arguments": {"text": "', [END, MarkedText("words ")]),
        ("", [MarkedText("<tool_call>{")]),
        ("", [MarkedText('<tool_call>{"')]),
        ("", [MarkedText('<tool_call>{"a":"')]),
        ("", [OPEN, MarkedText('{"name": "f"}')]),
        ("", [OPEN]),
        ("", [MarkedText("<tool_"), END]),
        ("", [MarkedText("plain words "), END]),
    ],
)
@pytest.mark.parametrize("is_whole", [True, False])
def test_ten_times_the_text_is_ten_times_the_work(
    begin: str, repeated: list[MarkedText], is_whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = CountedWork(monkeypatch)

    def num_characters_for(times: int) -> int:
        pieces = [MarkedText(begin), *repeated * times]
        before = work.num_characters
        parse(*work.counted([joined(pieces)] if is_whole else pieces))
        return work.num_characters - before

    assert num_characters_for(2000) < 12 * num_characters_for(200)


def test_a_call_that_was_cut_off_keeps_what_it_has() -> None:
    whole = CALL.removesuffix("</tool_call>")
    assert parse(whole)[1] == [("get_pods", {"namespace": "a"})]
    begin = CALL.index('{"namespace"')
    for place in range(len(CALL)):
        cut = CALL[:place]
        if place <= begin:
            assert parse(cut) == (cut, [])
        elif place < CALL.index("}}") + 1:
            assert parse(cut) == ("", [("get_pods", cut[begin:])])
        else:
            assert parse(cut) == ("", [("get_pods", {"namespace": "a"})])


def test_arguments_come_as_they_are_written_and_not_before_a_call_is_one() -> None:
    parser = ToolCallParser(CALL_FORMATS["hermes"], {"f": None})
    for piece in ("<tool_call>", '{"name": "f", ', '"arguments": '):
        assert list(parser.push(MarkedText(piece))) == []
    begin, first = parser.push(MarkedText('{"a": "x'))
    assert (begin.name, first.text) == ("f", '{"a": "x')  # type: ignore[union-attr]
    for piece in (" </tool_call>", ' \\" ', "\\u00e9"):
        assert list(parser.push(MarkedText(piece))) == [Arguments(piece)]
    assert list(parser.push(MarkedText('"}}'))) == [Arguments('"}'), CallEnd()]
    assert list(parser.push(MarkedText("</tool_call>Done"))) == ["Done"]
    assert list(parser.flush()) == []


def test_of_too_many_calls_the_first_ones_are_kept_in_every_piece() -> None:
    parser = ToolCallParser(CALL_FORMATS["hermes"], {"f": None}, max_calls=1)
    second = '<tool_call>{"name": "g", "arguments": {"b": 1}}</tool_call>'
    found = read_with(parser, *map(MarkedText, f"{CALL} So {second} it is."))
    assert [one for one in found if isinstance(one, Call)] == found[:1]
    assert "".join(one for one in found if isinstance(one, str)) == "So  it is."
