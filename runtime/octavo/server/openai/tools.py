"""Tool calls in a model's text, as Hermes and Qwen models write them.

`<tool_call>{"name": …, "arguments": {…}}</tool_call>`: the parser takes text as it comes, lets through
what is none of it at once, and gives a call when it is whole. What is no valid call stays text. It is our
own because transformers' `ResponseParser` ends a call at the first closing tag, also at one within the
arguments, and costs the API process over a second to import.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import msgspec

from octavo.engine.requests.marked_text import MarkedText
from octavo.server.http import strict_json
from octavo.server.openai.json_object import ObjectScanner, Scan
from octavo.server.openai.responses import FunctionOut, ToolCallOut

_OPEN = "<tool_call>"
_CLOSE = "</tool_call>"
_WHITESPACE = " \t\n\r"


class ToolCallParser:
    """Of one completion. What comes out does not depend on where the text is cut into pieces.

    Behind a call, whitespace at the ends of the content is none: models write a line break there.
    """

    __slots__ = ("_buffer", "_candidate", "_has_content", "_whitespace", "num_calls")

    def __init__(self) -> None:
        self._buffer = MarkedText()
        self._candidate: _Candidate | None = None
        self._whitespace = ""
        self._has_content = False
        self.num_calls = 0

    def push(self, text: MarkedText) -> Iterator[str | ToolCallOut]:
        """Content and calls, in the model's order. Holds back what may become a call."""
        self._buffer += text
        return self._read(is_last=False)

    def flush(self) -> Iterator[str | ToolCallOut]:
        """The end of the completion: a call that was not closed counts when it is whole."""
        return self._read(is_last=True)

    def _read(self, *, is_last: bool) -> Iterator[str | ToolCallOut]:
        while True:
            if self._candidate is None:
                raw = self._buffer.text
                start = raw.find(_OPEN)
                is_found = start >= 0
                if not is_found:
                    start = len(raw) - (0 if is_last else _held_back(raw))
                yield from self._content(start)
                if not is_found:
                    return
                self._candidate = _Candidate()
            end = self._candidate.end(self._buffer.text, is_last=is_last)
            if end is None:
                return
            call, self._candidate = self._candidate.call, None
            if call is None or end == 0:
                yield from self._content(len(_OPEN))
                continue
            self._buffer = self._buffer[end:]
            self._whitespace, self._has_content = "", False
            self.num_calls += 1
            yield call

    def _content(self, end: int) -> Iterator[str]:
        """Takes the buffer up to `end`, without the special tokens in it."""
        text, self._buffer = self._buffer[:end].shown, self._buffer[end:]
        if self.num_calls:
            text = self._whitespace + text
            if not self._has_content:
                text = text.lstrip(_WHITESPACE)
            shown = text.rstrip(_WHITESPACE)
            self._whitespace = text[len(shown) :]
            text = shown
        if text:
            self._has_content = True
            yield text


class _Candidate:
    """A text that begins with the opening tag: it is a call if an object follows, and then the call ends."""

    __slots__ = ("_object_end", "_scanner", "call")

    def __init__(self) -> None:
        self._scanner = ObjectScanner(len(_OPEN))
        self._object_end = 0
        self.call: ToolCallOut | None = None

    def end(self, text: str, *, is_last: bool) -> int | None:
        """Where the call ends; 0 when it is none, None while that is open."""
        if not self._object_end:
            found = self._scanner.scan(text)
            if found is Scan.UNFINISHED:
                return 0 if is_last else None
            if found is Scan.NO_OBJECT:
                return 0
            self._object_end = self._scanner.position
            self.call = _parse_call(text[len(_OPEN) : self._object_end])
        if self.call is None:
            return 0
        rest = text[self._object_end :].lstrip(_WHITESPACE)
        begin = len(text) - len(rest)
        if rest.startswith(_CLOSE):
            return begin + len(_CLOSE)
        if rest.startswith(_OPEN):
            return begin
        if is_last and _CLOSE.startswith(rest):
            return len(text)
        if not is_last and (_CLOSE.startswith(rest) or _OPEN.startswith(rest)):
            return None
        return 0


def _held_back(text: str) -> int:
    """Length of the tail that could be the begin of an opening tag."""
    start = text.rfind("<", max(0, len(text) - len(_OPEN) + 1))
    return len(text) - start if start >= 0 and _OPEN.startswith(text[start:]) else 0


def _parse_call(inside: str) -> ToolCallOut | None:
    try:
        document = strict_json.decode(inside.encode())
    except strict_json.JsonError:
        return None
    if not isinstance(document, dict) or not isinstance(document.get("name"), str):
        return None
    arguments = document.get("arguments", document.get("parameters", {}))
    if not isinstance(arguments, str):
        arguments = msgspec.json.encode(arguments).decode()
    return ToolCallOut(
        id=f"call_{uuid.uuid4().hex[:24]}", function=FunctionOut(document["name"], arguments)
    )
