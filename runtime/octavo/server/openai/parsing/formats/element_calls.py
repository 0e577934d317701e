"""Element calls: an XML-like element for each call and one in it for each argument, `<invoke name="f">` and
`<parameter name="a">1</parameter>`, perhaps within one around them all.

Many families write so, each with tags of its own; what a value is, the tool's schema says, or its tag does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from octavo.server.openai.parsing.bare_arguments import (
    BareTags,
    bare_arguments,
    without_quotes,
)
from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, CallShape, Tools, tagged_calls
from octavo.server.openai.parsing.pieces import CallEnd

_NAME, _QUOTED_NAME = re.compile(r'[^<>"\n]*'), re.compile(r"[^<>\n]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTags:
    """In the order of a model's text.

    Args:
        before: What a model writes before all of it, which is read as a head.
        section, section_end: Around all calls; empty where each stands alone.
        call, name_end: Around the name of a function.
        call_end: Behind the end of its arguments.
        line: What a model writes between these tags, which need not be there.
        behind_name: In its place before the first argument.
        is_quoted: Quotes stand around the name, which a model may leave out, or write single ones. It may
            leave the section out, too, around a call of a function that is there.
        other_sections: What a model may write in place of `section`.
    """

    before: str = ""
    section: str = ""
    call: str
    name_end: str
    call_end: str = ""
    section_end: str = ""
    line: str = "\n"
    behind_name: str | None = None
    is_quoted: bool = False
    other_sections: tuple[str, ...] = ()


class ElementCalls(CallFormat):
    """Args:
    ends_reasoning: As `CallFormat` has it.
    """

    def __init__(
        self, tags: CallTags, arguments: BareTags, *, ends_reasoning: bool = False
    ) -> None:
        self.openings = (tags.section or tags.call, *tags.other_sections)
        if tags.section and tags.is_quoted:
            self.openings += (tags.call,)
        self.ends_reasoning = ends_reasoning
        self._tags = tags
        self._arguments = arguments
        line = tags.line if tags.section else ""
        behind = tags.line if tags.behind_name is None else tags.behind_name
        quote = '"' if tags.is_quoted else ""
        self.shape = CallShape(
            tag=tags.before + tags.section,
            begin=line,
            call=lambda name: f"{tags.call}{quote}{name}{quote}{tags.name_end}{behind}",
            notation=arguments,
            call_end=tags.call_end,
            separator=tags.line,
            end=line + tags.section_end,
        )

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        tags = self._tags
        if not tags.section:
            return (yield from self._call(cursor, tools))
        ends = (tags.call, tags.section_end)
        if opening == tags.call:
            return (yield from self._alone(cursor, tools))
        return (
            yield from tagged_calls(opening, cursor, ends, lambda here: self._call(here, tools))
        )

    def _alone(self, cursor: Cursor, tools: Tools) -> Steps[bool]:
        """A call without a section."""
        call = yield from cursor.peeked(_QUOTED_NAME)
        return without_quotes(call.strip()) in tools and (yield from self._call(cursor, tools))

    def _call(self, cursor: Cursor, tools: Tools) -> Steps[bool]:
        tags = self._tags
        name = (yield from cursor.word(_QUOTED_NAME if tags.is_quoted else _NAME)).strip()
        if tags.is_quoted:
            name = without_quotes(name)
        if not name or not (yield from self._name_end(cursor)):
            return False
        yield from cursor.spaces()
        if not (yield from self._arguments_of(cursor, name, tools)):
            return False
        if not tags.call_end:
            return True
        yield from cursor.spaces()
        return (yield from cursor.closing(tags.call_end))

    def _name_end(self, cursor: Cursor) -> Steps[bool]:
        return (yield from cursor.literal(self._tags.name_end)) is not None

    def _arguments_of(self, cursor: Cursor, name: str, tools: Tools) -> Steps[bool]:
        """Yields the call with them; whether they end."""
        arguments = self._arguments
        if not (yield from cursor.is_ahead(arguments.key, arguments.end)):
            return False
        yield self.begin(name)
        if not (yield from bare_arguments(cursor, arguments, tools.get(name))):
            return False
        yield CallEnd()
        return True
