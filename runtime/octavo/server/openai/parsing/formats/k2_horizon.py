"""K2 Horizon: `<ifm|tool_call>f`, `<ifm|arg_key>key</ifm|arg_key>` and `<ifm|arg_value>value</ifm|arg_value>`
for each argument, within `<ifm|tool_calls>`.

Its template can ask for two other forms (`tool_call_format`), which are not read.
"""

from __future__ import annotations

from octavo.server.openai.parsing.bare_arguments import BareTags
from octavo.server.openai.parsing.formats.element_calls import CallTags, ElementCalls

K2_HORIZON = ElementCalls(
    CallTags(
        section="<ifm|tool_calls>",
        call="<ifm|tool_call>",
        name_end="",
        section_end="</ifm|tool_calls>",
    ),
    BareTags(
        "<ifm|arg_key>",
        "</ifm|arg_key>",
        "<ifm|arg_value>",
        "</ifm|arg_value>",
        "</ifm|tool_call>",
        "\n",
    ),
    ends_reasoning=True,
)
