from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.server.openai.responses import ToolCallOut
from octavo.server.openai.tools import ToolCallParser

CALL = '<tool_call>\n{"name": "get_pods", "arguments": {"namespace": "a"}}\n</tool_call>'


def parse(*pieces: str) -> tuple[str, list[tuple[str, Any]]]:
    """Content, and the calls as name and decoded arguments."""
    parser = ToolCallParser()
    out = [item for piece in pieces for item in parser.push(piece)]
    out += parser.flush()
    content = "".join(item for item in out if isinstance(item, str))
    calls = [
        (item.function.name, json.loads(item.function.arguments))
        for item in out
        if isinstance(item, ToolCallOut)
    ]
    assert parser.num_calls == len(calls)
    return content, calls


def test_a_call_and_no_text() -> None:
    assert parse(CALL) == ("", [("get_pods", {"namespace": "a"})])


def test_text_before_a_call_and_two_calls() -> None:
    content, calls = parse(f"Let me look. {CALL}\n{CALL}")
    assert content == "Let me look. "
    assert len(calls) == 2


@given(st.lists(st.integers(1, len(CALL) + 11), max_size=8))
def test_it_does_not_matter_where_the_stream_is_cut(cuts: list[int]) -> None:
    text = f"a < b, so {CALL}"
    places = sorted({0, *(min(cut, len(text)) for cut in cuts), len(text)})
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    assert parse(*pieces) == parse(text)


@given(st.text(alphabet="<>/tol_cal {}x", max_size=60))
def test_text_that_holds_no_call_comes_out_unchanged(text: str) -> None:
    content, calls = parse(*text)
    assert (content, calls) == (text, [])


def test_text_is_let_through_at_once() -> None:
    parser = ToolCallParser()
    assert list(parser.push("Hello <b")) == ["Hello <b"]
    assert list(parser.push("a <tool_")) == ["a "]
    assert list(parser.push("box>")) == ["<tool_box>"]


@pytest.mark.parametrize(
    "inside", ["not json", "[]", '{"name": 5}', "{}", "[" * 100_000], ids=lambda text: text[:12]
)
def test_what_is_no_call_stays_text(inside: str) -> None:
    text = f"<tool_call>{inside}</tool_call>"
    assert parse(text) == (text, [])


def test_a_whole_call_that_was_not_closed_counts_and_a_cut_one_is_text() -> None:
    whole = CALL.removesuffix("</tool_call>")
    assert parse(whole)[1] == [("get_pods", {"namespace": "a"})]
    cut = CALL[:30]
    assert parse(cut) == (cut, [])
