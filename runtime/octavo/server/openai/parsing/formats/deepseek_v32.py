"""DeepSeek V3.2: calls in DSML, `<｜DSML｜invoke name="f">` within `<｜DSML｜function_calls>`. V4
has `tool_calls` around them, and V4.1 a space behind each mark.

Each argument says whether it is a text (`string="true"`) or JSON. Source: the encoding that is published
beside the models, which have no chat template of their own.
"""

from __future__ import annotations

from octavo.server.openai.parsing.bare_arguments import BareTags
from octavo.server.openai.parsing.formats.element_calls import CallTags, ElementCalls

_JSON_TYPES = ("integer", "number", "boolean", "null", "array", "object")
_TEXT, _JSON = '" string="true">', '" string="false">'


class Dsml(ElementCalls):
    """Args:
    mark: What each tag begins with.
    section: The tag around all calls.
    others: What the model may write for the first of these.
    ends_reasoning: As `CallFormat` has it.
    """

    def __init__(self, mark: str, section: str, *others: str, ends_reasoning: bool = True) -> None:
        super().__init__(
            CallTags(
                section=f"<{mark}{section}>",
                call=f'<{mark}invoke name="',
                name_end='">',
                section_end=f"</{mark}{section}>",
                other_sections=tuple(f"<{mark}{other}>" for other in others),
            ),
            BareTags(
                f'<{mark}parameter name="',
                '">',
                "",
                f"</{mark}parameter>",
                f"</{mark}invoke>",
                "\n",
                typed_ends={"string": _TEXT, **dict.fromkeys(_JSON_TYPES, _JSON)},
                behind=(f"<{mark}invoke name=", f"</{mark}{section}>"),
            ),
            ends_reasoning=ends_reasoning,
        )


DEEPSEEK_V32 = Dsml("｜DSML｜", "function_calls", ends_reasoning=False)
DEEPSEEK_V4 = Dsml("｜DSML｜", "tool_calls", "toolcalls", "tool")
DEEPSEEK_V41 = Dsml("｜DSML｜ ", "calls")
