"""Dots: `<invoke name="f"><parameter name="a">1</parameter></invoke>` within `<dots_function_call>`."""

from __future__ import annotations

from octavo.server.openai.parsing.bare_arguments import BareTags
from octavo.server.openai.parsing.formats.element_calls import CallTags, ElementCalls

DOTS = ElementCalls(
    CallTags(
        section="<dots_function_call>",
        call='<invoke name="',
        name_end='">',
        section_end="</dots_function_call>",
    ),
    BareTags('<parameter name="', '">', "", "</parameter>", "</invoke>", "\n"),
)
