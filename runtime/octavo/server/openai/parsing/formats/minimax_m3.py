"""MiniMax M3: calls within `]<]minimax[>[<tool_call>`, whose arguments are elements of their own names.

Each tag begins with the same mark. Objects and lists are elements within elements, `<item>` for each of a
list's.
"""

from __future__ import annotations

from octavo.server.openai.parsing.bare_arguments import KEY, BareTags
from octavo.server.openai.parsing.formats.element_calls import CallTags, ElementCalls

_MARK = "]<]minimax[>["

MINIMAX_M3 = ElementCalls(
    CallTags(
        section=f"{_MARK}<tool_call>",
        call=f'{_MARK}<invoke name="',
        name_end='">',
        section_end=f"{_MARK}</tool_call>",
        behind_name="",
    ),
    BareTags(f"{_MARK}<", ">", "", f"{_MARK}</{KEY}>", f"{_MARK}</invoke>", "", is_nested=True),
)
