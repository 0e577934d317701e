"""Hunyuan 3: `<tool_call>f<tool_sep>`, then `<arg_key>key</arg_key>` and `<arg_value>value</arg_value>` for
each argument, within `<tool_calls>`.

The tags of some checkpoints end with a mark of their own, `<tool_calls:opensource>`.
"""

from __future__ import annotations

import re

from octavo.server.openai.parsing.bare_arguments import BareTags
from octavo.server.openai.parsing.formats.base import CallFormat
from octavo.server.openai.parsing.formats.element_calls import CallTags, ElementCalls

_MARK = re.compile(r"<tool_calls(:[^<>\s]+)>")


class HunYuan3(ElementCalls):
    def __init__(self, mark: str = "") -> None:
        super().__init__(
            CallTags(
                section=f"<tool_calls{mark}>",
                call=f"<tool_call{mark}>",
                name_end=f"<tool_sep{mark}>",
                section_end=f"</tool_calls{mark}>",
            ),
            BareTags(
                f"<arg_key{mark}>",
                f"</arg_key{mark}>",
                f"<arg_value{mark}>",
                f"</arg_value{mark}>",
                f"</tool_call{mark}>",
                "\n",
            ),
        )

    def as_written(self, sample: str) -> CallFormat:
        found = _MARK.search(sample)
        return HunYuan3(found[1]) if found else self


HY_V3 = HunYuan3()
