"""Tool calls in a model's text, as Hermes and Qwen models write them.

`<tool_call>{"name": …, "arguments": {…}}</tool_call>`: the parser takes text as it comes, lets through
what is none of it at once, and gives a call when it is whole. What is no valid call stays text. It is our
own because transformers' `ResponseParser` ends a call at the first closing tag, also at one within the
arguments, and costs the API process over a second to import.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import msgspec

from octavo.engine.requests.marked_text import MarkedText, joined
from octavo.server.http import strict_json
from octavo.server.openai.answers import FunctionOut, ToolCallOut
from octavo.server.openai.json_object import ObjectScanner, Scan

OPEN = "<tool_call>"
CLOSE = "</tool_call>"
_WHITESPACE = " \t\n\r"
_SPACES = re.compile(r"[ \t\n\r]*")


class ToolCallParser:
    """Of one completion. What comes out does not depend on where the text is cut into pieces, and the time
    it takes grows with the text's length, however many calls are in it.

    Behind a call, whitespace at the ends of the content is none: models write a line break there.
    """

    __slots__ = ("_candidate", "_content", "_held", "_max_calls", "num_calls")

    def __init__(self, max_calls: int | None = None) -> None:
        """Of more than `max_calls` calls the first ones are kept, and the others are left out."""
        self._max_calls = max_calls
        self._held: list[MarkedText] = []
        self._candidate: _Candidate | None = None
        self._content = _Content()
        self.num_calls = 0

    def push(self, text: MarkedText) -> Iterator[str | ToolCallOut]:
        """Content and calls, in the model's order. Holds back what may become a call."""
        self._held.append(text)
        if self._candidate is not None:
            self._candidate.read(text.text, 0)
            if self._candidate.is_open:
                return iter(())  # what is held need not be looked at again
        return self._read(is_last=False)

    def flush(self) -> Iterator[str | ToolCallOut]:
        """The end of the completion: a call that was not closed counts when it is whole."""
        return self._read(is_last=True)

    def _read(self, *, is_last: bool) -> Iterator[str | ToolCallOut]:
        held, position = joined(self._held), 0
        raw = held.text
        while True:
            if self._candidate is None:
                start = raw.find(OPEN, position)
                is_found = start >= 0
                if not is_found:
                    start = len(raw) - (0 if is_last else _held_back(raw, position))
                yield from self._content.added(held[position:start].shown)
                position = start
                if not is_found:
                    break
                self._candidate = _Candidate()
                self._candidate.read(raw, position + len(OPEN))
            if is_last:
                self._candidate.end_text()
            if self._candidate.is_open:
                break
            candidate, self._candidate = self._candidate, None
            behind_tag = position + len(OPEN)
            if candidate.call is None:
                yield from self._content.added(held[position:behind_tag].shown)
                position = behind_tag
                continue
            position = behind_tag + candidate.length
            self._content = _Content(is_behind_call=True)
            if self.num_calls != self._max_calls:
                self.num_calls += 1
                yield candidate.call
        self._held = [held[position:]]


class _Content:
    """Text between calls."""

    __slots__ = ("_has_begun", "_is_behind_call", "_whitespace")

    def __init__(self, *, is_behind_call: bool = False) -> None:
        self._is_behind_call = is_behind_call
        self._has_begun = False
        self._whitespace: list[str] = []

    def added(self, text: str) -> Iterator[str]:
        """What is certain to show of it."""
        if self._is_behind_call:
            if not self._has_begun:
                text = text.lstrip(_WHITESPACE)
            shown = text.rstrip(_WHITESPACE)
            behind = text[len(shown) :]
            if shown:
                shown = "".join([*self._whitespace, shown])
                self._whitespace.clear()
            self._whitespace.append(behind)
            text = shown
        if text:
            self._has_begun = True
            yield text


class _Candidate:
    """The text behind an opening tag, as it comes: a call if an object follows, and then the call ends.

    Attributes:
        is_open: It may become a call.
        call: When it was one; then `length` is that of the text up to its end.
    """

    __slots__ = ("_object", "_parsed", "_rest", "_scanner", "call", "is_open", "length")

    def __init__(self) -> None:
        self._scanner = ObjectScanner()
        self._object: list[str] = []
        self._parsed: ToolCallOut | None = None
        self._rest = ""  # behind the object and whitespace, up to a tag's length
        self.is_open = True
        self.call: ToolCallOut | None = None
        self.length = 0

    def read(self, text: str, start: int) -> None:
        """The next piece is `text` from `start` on."""
        if self._parsed is None:
            found = self._scanner.scan(text, start)
            if found is Scan.NO_OBJECT:
                self.is_open = False
                return
            end = self._scanner.position
            self._object.append(text[start:end])
            if found is Scan.UNFINISHED:
                return
            inside = "".join(self._object)
            self._parsed = _parse_call(inside)
            if self._parsed is None:
                self.is_open = False
                return
            self.length, start = len(inside), end
        self._look_for_end(text, start)

    def _look_for_end(self, text: str, start: int) -> None:
        if not self._rest:
            spaces = _SPACES.match(text, start)
            end = spaces.end() if spaces else start
            self.length += end - start
            start = end
        self._rest += text[start : start + len(CLOSE) - len(self._rest)]
        if self._rest.startswith(CLOSE):
            self._accept(len(CLOSE))
        elif self._rest.startswith(OPEN):
            self._accept(0)
        else:
            self.is_open = CLOSE.startswith(self._rest) or OPEN.startswith(self._rest)

    def end_text(self) -> None:
        """No more pieces come."""
        if self.is_open and self._parsed and CLOSE.startswith(self._rest):
            self._accept(len(self._rest))
        self.is_open = False

    def _accept(self, length_of_end: int) -> None:
        self.length += length_of_end
        self.call, self.is_open = self._parsed, False


def _held_back(text: str, begin: int) -> int:
    """Length of the tail, from `begin` on at most, that could be the begin of an opening tag."""
    start = text.rfind("<", max(begin, len(text) - len(OPEN) + 1))
    return len(text) - start if start >= 0 and OPEN.startswith(text[start:]) else 0


def _parse_call(inside: str) -> ToolCallOut | None:
    try:
        document = strict_json.decode(inside.encode())
    except strict_json.JsonError:
        return None
    if not isinstance(document, dict) or not isinstance(document.get("name"), str):
        return None
    arguments = document.get("arguments", document.get("parameters"))
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, str):
        arguments = msgspec.json.encode(arguments).decode()
    return ToolCallOut(
        id=f"call_{uuid.uuid4().hex[:24]}", function=FunctionOut(document["name"], arguments)
    )
