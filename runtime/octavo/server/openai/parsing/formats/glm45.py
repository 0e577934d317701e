"""GLM 4.5: `<tool_call>name`, then `<arg_key>key</arg_key><arg_value>value</arg_value>` for each argument,
and `</tool_call>`. Version 4.5 has line breaks between the tags, 4.7 has none."""

from __future__ import annotations

import dataclasses
import re

from octavo.server.openai.parsing.bare_arguments import BareTags, bare_arguments
from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, CallShape, Tools
from octavo.server.openai.parsing.pieces import CallEnd

TAG, TAG_END = "<tool_call>", "</tool_call>"
_NAME = re.compile(r"[\w.:/-]*")
_ARGUMENTS = BareTags(
    "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", TAG_END, "\n", is_in_lines=False
)
_WITHOUT_LINES = "</arg_key><arg_value>"


class Glm45(CallFormat):
    openings = (TAG,)
    ends_reasoning = True

    def __init__(self, between: str) -> None:
        self.shape = CallShape(
            tag=TAG,
            call=lambda name: name + between,
            notation=dataclasses.replace(_ARGUMENTS, between=between),
            between=between,
        )

    def as_written(self, sample: str) -> CallFormat:
        return GLM47 if _WITHOUT_LINES in sample else self

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        del opening
        yield from cursor.spaces()
        name = yield from cursor.word(_NAME)
        yield from cursor.spaces()
        if not name or not (yield from cursor.is_ahead(_ARGUMENTS.key, _ARGUMENTS.end)):
            return False
        yield self.begin(name)
        if not (yield from bare_arguments(cursor, _ARGUMENTS, tools.get(name))):
            return False
        yield CallEnd()
        return True


GLM45 = Glm45("\n")
GLM47 = Glm45("")
