"""Muse Glimmer: messages to somebody, `<|start|>assistant to=user<|message|>…<|eot|>`; the first one's
`<|start|>assistant` is the prompt's.

What goes `to=self` are thoughts, what goes to the user is content, and what goes to a function is a call of
it: `<atem:invoke name="f">` with an `<atem:parameter name="a">` for each argument, within
`<atem:function_calls>`.
"""

from __future__ import annotations

import dataclasses
import re

from octavo.server.openai.parsing.bare_arguments import BareTags
from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import Tools
from octavo.server.openai.parsing.formats.element_calls import CallTags, ElementCalls
from octavo.server.openai.parsing.formats.harmony import Thoughts
from octavo.server.openai.parsing.pieces import Tag

START, MESSAGE = "<|start|>assistant", "<|message|>"
_ENDS = ("<|eom|>", "<|eot|>")
_TO = re.compile(r"\bto=([^\s<]+)")
CALLS, CALLS_END = "<atem:function_calls>", "</atem:function_calls>"


class MuseGlimmer(ElementCalls):
    reads_reasoning = True
    reasoning = "muse_glimmer"
    # The prompt ends within the first head.
    first_openings = (" to=", "to=")

    def __init__(self, tags: CallTags, arguments: BareTags) -> None:
        super().__init__(tags, arguments)
        self.openings = (START, MESSAGE, *_ENDS)
        self.shape = dataclasses.replace(
            self.shape,
            tag="",
            begin="",
            call=lambda name: f' to={name}{MESSAGE}{CALLS}\n{tags.call}{name}">\n',
            separator=None,
            between=f"{_ENDS[0]}{START}",
            content=f" to=user{MESSAGE}",
        )

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        if opening in _ENDS:
            yield Tag()
            return True
        head = "" if opening == MESSAGE else (yield from cursor.head_until(MESSAGE))
        if head is None:
            if not cursor.is_ended:
                return False
            cursor.drop_rest()
            yield Tag()
            return True
        found = _TO.search(opening + head)
        recipient = found[1] if found else "user"
        yield Tag()
        if recipient == "self":
            if (yield from cursor.parts_until(_ENDS, Thoughts("").piece)) is None:
                cursor.drop_rest()
            yield Tag()
        elif recipient != "user" and tools:
            yield from cursor.spaces()
            if (yield from cursor.literal(CALLS)) is None:
                return False
            return (yield from super().section(CALLS, cursor, tools))
        return True


MUSE_GLIMMER = MuseGlimmer(
    CallTags(section=CALLS, call='<atem:invoke name="', name_end='">', section_end=CALLS_END),
    BareTags(
        '<atem:parameter name="',
        '">',
        "",
        "</atem:parameter>",
        "</atem:invoke>",
        "\n",
        is_any_json=True,
    ),
)
