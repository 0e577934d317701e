"""Tool calls in a model's text, as Hermes and Qwen models write them.

`<tool_call>{"name": …, "arguments": {…}}</tool_call>`: the parser takes text as it comes, lets through
what is none of it at once, and gives a call when it is whole. What is no valid call stays text.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import msgspec

from octavo.server.http import strict_json
from octavo.server.openai.responses import FunctionOut, ToolCallOut

_OPEN = "<tool_call>"
_CLOSE = "</tool_call>"


class ToolCallParser:
    """Of one completion."""

    __slots__ = ("_buffer", "_is_inside", "num_calls")

    def __init__(self) -> None:
        self._buffer = ""
        self._is_inside = False
        self.num_calls = 0

    def push(self, text: str) -> Iterator[str | ToolCallOut]:
        """Content and calls, in the model's order. Holds back what may become a tag."""
        self._buffer += text
        while True:
            if self._is_inside:
                inside, tag, rest = self._buffer.partition(_CLOSE)
                if not tag:
                    return
                self._buffer, self._is_inside = rest, False
                yield self._call_or_text(inside, closed=True)
                continue
            before, tag, rest = self._buffer.partition(_OPEN)
            if tag:
                self._buffer, self._is_inside = rest, True
            else:
                held = _held_back(before)
                self._buffer = before[len(before) - held :]
                before = before[: len(before) - held]
            if self.num_calls:
                before = before.strip()  # line breaks between calls are no content
            if before:
                yield before
            if not tag:
                return

    def flush(self) -> Iterator[str | ToolCallOut]:
        """The end of the completion: a call that was not closed counts when it is whole."""
        rest, self._buffer = self._buffer, ""
        if self._is_inside:
            self._is_inside = False
            yield self._call_or_text(rest, closed=False)
        elif rest:
            yield rest

    def _call_or_text(self, inside: str, *, closed: bool) -> str | ToolCallOut:
        call = _parse_call(inside)
        if call is None:
            return _OPEN + inside + (_CLOSE if closed else "")
        self.num_calls += 1
        return call


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
