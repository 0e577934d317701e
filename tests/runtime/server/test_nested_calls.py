"""Text that begins calls without end, one within the other: it is text, and read in time that grows with its
length."""

from __future__ import annotations

from typing import Any

import pytest

from octavo.engine.requests.marked_text import MarkedText
from octavo.json_depth import MAX_DEPTH
from octavo.server.openai.parsing.cursor import Cursor
from octavo.server.openai.parsing.formats import CALL_FORMATS
from octavo.server.openai.parsing.formats.pythonic import ListScanner
from octavo.server.openai.parsing.json_object import ObjectScanner
from octavo.server.openai.parsing.tool_calls import ToolCallParser
from tests.support.runtime.read_calls import Call, read_with


class CountedReading:
    """Characters that are read by formats, and those in which what begins a call is looked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.num_characters = 0
        work = self

        def counting(scanner: type[Any]) -> Any:
            scan = scanner.scan

            def counted(self: Any, text: str, start: int) -> Any:
                found = scan(self, text, start)
                work.num_characters += self.position - start
                return found

            return counted

        for scanner in (ObjectScanner, ListScanner):
            monkeypatch.setattr(scanner, "scan", counting(scanner))
        move = Cursor._move

        def moved(self: Cursor, at: int) -> None:
            work.num_characters += abs(at - self._at)
            move(self, at)

        monkeypatch.setattr(Cursor, "_move", moved)

        class Text(str):
            __slots__ = ()

            def find(self, sub: str, *places: Any) -> int:
                found = str.find(self, sub, *places)
                begin, end, _ = slice(*places).indices(len(self)) if places else (0, len(self), 1)
                work.num_characters += (found if found >= 0 else end) - begin
                return found

        self.text = Text


NESTED = [
    ("llama3_json", "", '{"type":'),
    ("llama3_json", "", '{"parameters":[{"name":"f","id":'),
    ("llama3_json", "", '{"name":"f","parameters":{},"id":{"type":'),
    ("llama3_json", "", '{"type":1}<'),
    ("hermes", "", '<tool_call>{"a":'),
    ("mistral", "", '[TOOL_CALLS][{"a":'),
    ("granite", "<tool_call>", '[{"a":'),
    ("phi4_mini_json", "", 'functools[{"a":'),
    ("deepseek_v3", "", "<｜tool▁call▁begin｜>f"),
    ("kimi_k2", "", "<|tool_call_begin|>f"),
    ("pythonic", "", "[f(\n"),
    ("pythonic", "", "[f(x=(\n"),
    ("pythonic", "", "[g()]\n"),
    ("qwen3_coder", "<function=f>\n<parameter=a>\n", "</parameter> "),
    ("qwen3_coder", "<function=f>\n<parameter=a>\n", '["</parameter>\n<parameter=a>\n'),
    ("gemma4", "<|tool_call>call:f{", 'a:{"x":'),
]


@pytest.mark.parametrize(("form", "begin", "repeated"), NESTED)
def test_twice_the_nesting_is_twice_the_work(
    form: str, begin: str, repeated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = CountedReading(monkeypatch)

    def num_characters_for(times: int) -> int:
        before = work.num_characters
        text = work.text(begin + repeated * times)
        read_with(ToolCallParser(CALL_FORMATS[form], {"f": None}), MarkedText(text))
        return work.num_characters - before

    # Beyond as many levels as are read.
    assert num_characters_for(1200) < 2.2 * num_characters_for(600)


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_call_within_too_many_levels_is_found_and_what_is_around_it_is_text(
    is_whole: bool,
) -> None:
    around, call = '{"type":' * (MAX_DEPTH + 1), '{"name": "f", "parameters": {"a": 1}}'
    text = around + call + "}" * (MAX_DEPTH + 1)
    pieces = [text] if is_whole else list(text)
    out = read_with(
        ToolCallParser(CALL_FORMATS["llama3_json"], {"f": None}), *map(MarkedText, pieces)
    )
    shown = "".join(each for each in out if isinstance(each, str))
    (found,) = (each for each in out if isinstance(each, Call))
    assert (shown, found.name, found.arguments) == (
        around + text[len(around + call) :],
        "f",
        '{"a": 1}',
    )
