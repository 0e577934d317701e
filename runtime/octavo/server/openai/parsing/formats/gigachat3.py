"""GigaChat 3: a message of the role `function call` behind the assistant's, `function call<|role_sep|>` and a
line with `{"name": …, "arguments": {…}}`; version 3.1 has `<|function_call|>` in its place."""

from __future__ import annotations

import dataclasses

from octavo.server.openai.parsing.formats.base import CallFormat
from octavo.server.openai.parsing.formats.hermes import TaggedJson

ROLE, TAG, MESSAGE_END = "function call<|role_sep|>", "<|function_call|>", "<|message_sep|>"


class GigaChat3(TaggedJson):
    heads = (MESSAGE_END,)
    has_lines = True

    def __init__(self, *openings: str, before: str, between: str) -> None:
        super().__init__(openings[0], between=between)
        self.openings = openings
        self.shape = dataclasses.replace(self.shape, tag=before + openings[0], between=None)

    def as_written(self, sample: str) -> CallFormat:
        return GIGACHAT31 if TAG in sample else self


GIGACHAT3 = GigaChat3(ROLE, TAG, before=f"{MESSAGE_END}\n\n", between="\n")
GIGACHAT31 = GigaChat3(TAG, ROLE, before="", between="")
