"""Llama 3 JSON: `{"name": …, "parameters": {…}}`, several joined by `;`, perhaps behind `<|python_tag|>` or
`<|python_start|>`, which Llama 4 ends with `<|python_end|>`, or as a list that begins a line.

Without a tag of its own, an object is a call only if it names one of the request's tools and has arguments.
"""

from __future__ import annotations

from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, CallShape, Tools
from octavo.server.openai.parsing.formats.json_call import PARAMETERS, json_call

_TAGS = ("<|python_tag|>", "<|python_start|>")
_END = "<|python_end|>"
MEMBERS = ('"name"', '"type"', '"function"', '"parameters"', '"arguments"', '"id"')


class Llama3Json(CallFormat):
    openings = (*_TAGS, "{")
    line_openings = ("[",)
    has_tags = False
    shape = CallShape(
        call=PARAMETERS.head,
        call_end="}",
        separator="; ",
    )

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        if opening in _TAGS:
            yield from cursor.literal(_END)  # Llama 4's template puts them before the call
            yield from cursor.spaces()
            if (yield from cursor.literal("{")) is None:
                return False
        if opening == "[":
            return (yield from listed_calls(self, cursor, tools))
        while True:
            yield from cursor.spaces()
            # An object of another kind is text at once.
            if not (yield from cursor.is_ahead(*MEMBERS)):
                return False
            if not (yield from json_call(self, cursor, tools, is_open=True)):
                return False
            yield from cursor.spaces()
            if (yield from cursor.literal(";", ",", _END)) is not None:
                yield from cursor.spaces()
            yield from cursor.literal(*_TAGS)
            yield from cursor.spaces()
            if (yield from cursor.literal("{")) is None:
                return (yield from cursor.closing(_END))


def listed_calls(form: CallFormat, cursor: Cursor, tools: Tools) -> Steps[bool]:
    """Yields the calls of a list without a tag, of which the bracket was read."""
    while True:
        yield from cursor.spaces()
        if (yield from cursor.literal("{")) is None:
            return False
        yield from cursor.spaces()
        # An object of another kind is text at once.
        if not (yield from cursor.is_ahead(*MEMBERS)):
            return False
        if not (yield from json_call(form, cursor, tools, is_open=True)):
            return False
        yield from cursor.spaces()
        if (yield from cursor.literal(",")) is None:
            return (yield from cursor.closing("]"))


LLAMA3_JSON = Llama3Json()
