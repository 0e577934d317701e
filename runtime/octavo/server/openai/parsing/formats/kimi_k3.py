"""Kimi K3: its answers are elements, `<|open|>think<|sep|>…<|close|>think<|sep|>`, `response` and `tools`.

A call is `<|open|>call tool="f" index="1"<|sep|>` with an `argument` for each of its own, whose type is told
and whose texts stand as they are, or with a `json` that holds them all.
"""

from __future__ import annotations

import re

from octavo.server.openai.parsing.bare_arguments import BareTags
from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import NUMBER, Tools
from octavo.server.openai.parsing.formats.element_calls import CallTags, ElementCalls
from octavo.server.openai.parsing.pieces import CallEnd

OPEN, CLOSE, SEPARATOR = "<|open|>", "<|close|>", "<|sep|>"
CONTENT, CONTENT_END = f"{OPEN}response{SEPARATOR}", f"{CLOSE}response{SEPARATOR}"
CALLS, CALLS_END = f"{OPEN}tools{SEPARATOR}", f"{CLOSE}tools{SEPARATOR}"
CALL, CALL_END = f'{OPEN}call tool="', f"{CLOSE}call{SEPARATOR}"
JSON, JSON_END = f'{OPEN}json type="object"{SEPARATOR}', f"{CLOSE}json{SEPARATOR}"
_TYPES = {
    **{kind: kind for kind in ("string", "number", "boolean", "null", "array", "object")},
    "integer": "number",
}
_NUMBER_OF_CALL = re.compile(r'"(?: index="\d+")?')


class KimiK3(ElementCalls):
    heads = (CONTENT, CONTENT_END, f"{CLOSE}message{SEPARATOR}")
    reasoning = "kimi_k3"

    def _name_end(self, cursor: Cursor) -> Steps[bool]:
        head = yield from cursor.head_until(SEPARATOR)
        return head is not None and _NUMBER_OF_CALL.fullmatch(head) is not None

    def _arguments_of(self, cursor: Cursor, name: str, tools: Tools) -> Steps[bool]:
        if (yield from cursor.literal(JSON)) is None:
            return (yield from super()._arguments_of(cursor, name, tools))
        yield from cursor.spaces()
        if not (yield from cursor.is_ahead("{")):
            return False
        yield self.begin(name)
        if not (yield from cursor.arguments()):
            return False
        yield CallEnd()
        yield from cursor.spaces()
        yield from cursor.closing(JSON_END)
        return (yield from cursor.closing(CALL_END))


KIMI_K3 = KimiK3(
    CallTags(
        # Before calls stands an answer, which may be empty.
        before=CONTENT_END,
        section=CALLS,
        call=CALL,
        name_end=f'" index="{NUMBER}"{SEPARATOR}',
        section_end=CALLS_END,
        line="",
    ),
    BareTags(
        f'{OPEN}argument key="',
        f'"{SEPARATOR}',
        "",
        f"{CLOSE}argument{SEPARATOR}",
        CALL_END,
        "",
        typed_ends={kind: f'" type="{said}"{SEPARATOR}' for kind, said in _TYPES.items()},
        escapes={"&": "&amp;", '"': "&quot;"},
    ),
)
