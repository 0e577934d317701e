"""MiniMax M2: `<invoke name="f"><parameter name="a">1</parameter></invoke>` within `<minimax:tool_call>`."""

from __future__ import annotations

from octavo.server.openai.parsing.bare_arguments import BareTags
from octavo.server.openai.parsing.formats.element_calls import CallTags, ElementCalls

_END = "</minimax:tool_call>"

MINIMAX_M2 = ElementCalls(
    CallTags(
        section="<minimax:tool_call>",
        call="<invoke name=",
        name_end=">",
        section_end=_END,
        is_quoted=True,
    ),
    BareTags(
        "<parameter name=",
        ">",
        "",
        "</parameter>",
        "</invoke>",
        "\n",
        behind=("<invoke name=", _END),
        is_quoted_key=True,
    ),
    ends_reasoning=True,
)
