"""MiniCPM 5: `<function name="f"><param name="a">1</param></function>`, with texts that hold tags or line
breaks in `<![CDATA[…]]>`."""

from __future__ import annotations

from octavo.server.openai.parsing.bare_arguments import BareTags
from octavo.server.openai.parsing.formats.element_calls import CallTags, ElementCalls

MINICPM5 = ElementCalls(
    CallTags(call='<function name="', name_end='">', behind_name="", line="\n"),
    BareTags(
        '<param name="',
        '">',
        "",
        "</param>",
        "</function>",
        "",
        quotes=("<![CDATA[", "]]>"),
        is_any_json=True,
    ),
)
