"""Step 3: `<steptml:invoke name="f">` with a `<steptml:parameter name="a">` for each argument, behind
`<｜tool_call_begin｜>function<｜tool_sep｜>` and within `<｜tool_calls_begin｜>`."""

from __future__ import annotations

from octavo.server.openai.parsing.bare_arguments import BareTags
from octavo.server.openai.parsing.formats.element_calls import CallTags, ElementCalls

STEP3 = ElementCalls(
    CallTags(
        section="<｜tool_calls_begin｜>",
        call='<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="',
        name_end='">',
        call_end="<｜tool_call_end｜>",
        section_end="<｜tool_calls_end｜>",
    ),
    BareTags(
        '<steptml:parameter name="', '">', "", "</steptml:parameter>", "</steptml:invoke>", "\n"
    ),
)
