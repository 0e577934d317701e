"""Harmony: messages with heads, one behind the other, as gpt-oss writes its answers.

A head is `<|start|>assistant<|channel|>` and the channel, then `<|message|>`, and a message ends with
`<|end|>`, `<|call|>` or `<|return|>`. What is in `analysis` are thoughts, what is in `final` or `commentary`
is content, and what goes `to=functions.name` is a call of it, whose recipient stands behind the role or
behind the channel:
    <|channel|>commentary to=functions.name <|constrain|>json<|message|>{…}<|call|>
Source: OpenAI's cookbook, "OpenAI harmony response format".
"""

from __future__ import annotations

import re

from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, CallShape, Tools
from octavo.server.openai.parsing.pieces import WHITESPACE, CallEnd, Reasoning, Tag

START, CHANNEL, MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
_ENDS = ("<|end|>", "<|call|>", "<|return|>")
_OPENINGS = (CHANNEL, START, *_ENDS)
_THOUGHTS = re.compile(r"<\|channel\|>\s*analysis\b")
_FUNCTION = re.compile(r"\bto=functions\.([^\s<]+)")


class Harmony(CallFormat):
    openings = _OPENINGS
    reads_reasoning = True
    reasoning = "openai_gptoss"
    # The prompt ends within the first head.
    first_openings = (" to=", "to=")
    shape = CallShape(
        call=lambda name: f"{CHANNEL}commentary to=functions.{name} <|constrain|>json{MESSAGE}",
        between=None,
        content=f"{CHANNEL}final{MESSAGE}",
    )

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        found: str | None = opening
        separator = ""
        while found is not None:
            if found not in _ENDS:
                head = yield from cursor.until(MESSAGE)
                if head is None:  # cut off
                    cursor.drop_rest()
                    yield Tag()
                    return True
                head = found + head
                function = _FUNCTION.search(head)
                if function is not None and tools:
                    if not (yield from self._call(function[1], cursor)):
                        return False
                else:
                    yield Tag()
                    if _THOUGHTS.search(head) is None:
                        return True
                    thoughts = Thoughts(separator)
                    if (yield from cursor.parts_until(_ENDS, thoughts.piece)) is None:
                        cursor.drop_rest()
                    separator = "\n"
            yield Tag()
            found = yield from cursor.literal(*_OPENINGS)
        return True

    def _call(self, name: str, cursor: Cursor) -> Steps[bool]:
        yield from cursor.spaces()
        if (yield from cursor.is_near(*_ENDS)):
            if (yield from cursor.is_ahead(*_ENDS)):
                yield from self.whole(name, {})
                return True
            cursor.drop_rest()
            if cursor.is_cut:  # arguments might have come
                yield self.begin(name)
            else:
                yield from self.whole(name, {})
            return True
        if not (yield from cursor.is_ahead("{")):
            return False
        yield self.begin(name)
        if not (yield from cursor.arguments()):
            return False
        yield CallEnd()
        yield from cursor.spaces()
        return True


class Thoughts:
    """Whitespace at their ends is none of them."""

    def __init__(self, before: str) -> None:
        self._before = before
        self._spaces: str | None = None

    def piece(self, part: str) -> Reasoning | None:
        text = part.lstrip(WHITESPACE) if self._spaces is None else self._spaces + part
        shown = text.rstrip(WHITESPACE)
        if not shown:
            self._spaces = None if self._spaces is None else text
            return None
        self._spaces = text[len(shown) :]
        before, self._before = self._before, ""
        return Reasoning(before + shown)


HARMONY = Harmony()
