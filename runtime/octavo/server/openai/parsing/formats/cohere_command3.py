"""Cohere's Command R7B and A: `<|START_ACTION|>[{"tool_call_id": "0", "tool_name": …, "parameters": {…}}]
<|END_ACTION|>`, or an answer between `<|START_RESPONSE|>` and `<|END_RESPONSE|>`, which later
models call `TEXT`.

Command R's and R+'s own form, a list in a block of Markdown behind `Action:`, is another.
"""

from __future__ import annotations

from octavo.server.openai.parsing.formats.base import NUMBER
from octavo.server.openai.parsing.formats.json_call import CallKeys
from octavo.server.openai.parsing.formats.tagged_list import ListStyle, TaggedList


class Cohere(TaggedList):
    """Args:
    content, content_end: Around an answer.
    """

    def __init__(self, content: str, content_end: str, reasoning: str) -> None:
        super().__init__(
            "<|START_ACTION|>",
            closing="<|END_ACTION|>",
            keys=CallKeys(('"tool_name"',), ('"parameters"',)),
            before=f'"tool_call_id": "{NUMBER}", ',
            style=ListStyle("[\n    ", ",\n    ", "\n]"),
            content=content,
        )
        self.heads = (content, content_end)
        self.reasoning = reasoning


COHERE3 = Cohere("<|START_RESPONSE|>", "<|END_RESPONSE|>", "cohere_command3")
COHERE4 = Cohere("<|START_TEXT|>", "<|END_TEXT|>", "cohere_command4")
