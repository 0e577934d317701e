"""Call format: how a family of models writes its calls of tools. One file each."""

from __future__ import annotations

import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from octavo.server.openai.parsing.bare_arguments import BareTags
from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.pieces import Arguments, CallBegin, CallEnd
from octavo.server.openai.parsing.python_literals import PythonValues
from octavo.server.openai.parsing.quoted_arguments import QuoteTag


@dataclass(frozen=True, slots=True, kw_only=True)
class CallShape:
    """How a model writes calls that it is held to, in the order of its text.

    Args:
        tag: What a section of calls begins with; empty where they have none.
        begin: Behind it.
        call: What stands before the arguments of the function of a name.
        notation: Of the arguments, where they are no JSON.
        call_end: Behind them.
        separator: Between calls of one section; None where each has its own.
        end: Of a section.
        between: Of two sections; None where a call ends the answer.
        content: What an answer begins with that is none.
    `NUMBER` and `ID` in any of them stand for a number and an id of the model's own.
    """

    tag: str = ""
    begin: str = ""
    call: Callable[[str], str]
    notation: BareTags | QuoteTag | PythonValues | None = None
    call_end: str = ""
    separator: str | None = None
    end: str = ""
    between: str | None = ""
    content: str = ""


NUMBER, ID = "\ufdd0", "\ufdd1"
"""No characters of any text."""
Tools = Mapping[str, Mapping[str, object] | None]
"""Name to the schema of its parameters, of the functions that may be called."""


class CallFormat(ABC):
    """Attributes:
    openings: What a section of calls begins with.
    heads: What stands around content and is none of it, whether calls are read or not.
    has_lines: Line breaks stand between heads and content.
    line_openings: Others, of one character, that count at the beginning of a line alone.
    first_openings: Others that count at the beginning of the answer alone; an empty one stands there always.
    has_tags: Each call stands between tags.
    reads_reasoning: Thoughts are read as well, wherever they stand.
    ends_reasoning: A call of the first opening ends thoughts that no tag has closed, as vLLM has it.
    reasoning: Name of the format of reasoning that a model with these heads has.
    shape: How a model writes calls that it is held to.
    """

    openings: tuple[str, ...]
    heads: tuple[str, ...] = ()
    has_lines = False
    line_openings: tuple[str, ...] = ()
    first_openings: tuple[str, ...] = ()
    has_tags = True
    reads_reasoning = False
    ends_reasoning = False
    reasoning = ""
    shape: CallShape

    @abstractmethod
    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        """Reads what stands behind an opening; yields each call as it comes, from where it is one. Formats
        with heads for all that is said yield tags and thoughts as well.

        Returns whether all that was read since belongs to the markup. If not, it is text; and where no call
        was read, so is the opening. A call that is begun stays one: what spoils it ends it, and is text from
        there on.
        """

    def as_written(self, sample: str) -> CallFormat:
        """The one of the format's variants that `sample`, a call or a chat template, is written in."""
        del sample
        return self

    def new_id(self) -> str:
        return f"call_{uuid.uuid4().hex[:24]}"

    def another_id(self, name: str, known: Collection[str]) -> str:
        """In place of one that the model gave a call of `name` and an earlier call has."""
        del name, known
        return self.new_id()

    def begin(self, name: str) -> CallBegin:
        return CallBegin(self.new_id(), name)

    def whole(self, name: str, arguments: object) -> Steps[None]:
        """Yields a call of which nothing could be told before all of it was read."""
        if not isinstance(arguments, str):
            # With the spaces that models write, and that templates write when a client sends it back.
            arguments = json.dumps(arguments, ensure_ascii=False)
        yield self.begin(name)
        yield Arguments(arguments if arguments.strip() else "{}")
        yield CallEnd()


def quoted_name(name: str) -> str:
    """As JSON has it."""
    return json.dumps(name, ensure_ascii=False)


def tagged_calls(
    opening: str,
    cursor: Cursor,
    tags: tuple[str, str],
    read_call: Callable[[Cursor], Steps[bool]],
) -> Steps[bool]:
    """A section of calls one behind the other, which may begin with its first call. Returns as
    `CallFormat.section`.

    Args:
        tags: What each call begins with, and what the section ends with.
        read_call: Reads one behind its tag, with its end; False where it is none to there.
    """
    call, end = tags
    is_begun = opening == call
    while True:
        yield from cursor.spaces()
        if not is_begun and (yield from cursor.literal(call)) is None:
            return (yield from cursor.closing(end))
        is_begun = False
        if not (yield from read_call(cursor)):
            return False
