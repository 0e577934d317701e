"""Call format: how a family of models writes its calls of tools. One file each."""

from __future__ import annotations

import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from octavo.server.http import strict_json
from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.pieces import Call


@dataclass(frozen=True, slots=True, kw_only=True)
class CallShape:
    """How a model writes calls that it is held to, in the order of its text.

    Args:
        tag: What a section of calls begins with; empty where they have none.
        begin: Behind it.
        call: What stands before the arguments of the function of a name.
        has_xml_arguments: They are no JSON object, but as Qwen3-Coder writes them.
        call_end: Behind them.
        separator: Between calls of one section; None where each has its own.
        end: Of a section.
        between: Of two sections.
    """

    tag: str = ""
    begin: str = ""
    call: Callable[[str], str]
    has_xml_arguments: bool = False
    call_end: str = ""
    separator: str | None = None
    end: str = ""
    between: str = ""


Tools = Mapping[str, Mapping[str, object] | None]
"""Name to the schema of its parameters, of the functions that may be called."""


class CallFormat(ABC):
    """Attributes:
    openings: What a section of calls begins with.
    line_openings: Others, of one character, that count at the beginning of a line alone.
    has_tags: Each call stands between tags.
    shape: None where a model cannot be held to it.
    """

    openings: tuple[str, ...]
    line_openings: tuple[str, ...] = ()
    has_tags = True
    shape: CallShape | None = None

    @abstractmethod
    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        """Reads what stands behind an opening; yields each call once it is read.

        Returns whether all that was read since belongs to the markup. If not, it is text; and where no call
        was read, so is the opening.
        """

    def as_written(self, sample: str) -> CallFormat:
        """The one of the format's variants that `sample`, a call or a chat template, is written in."""
        del sample
        return self

    def new_id(self) -> str:
        return f"call_{uuid.uuid4().hex[:24]}"

    def call_in(self, text: str, tools: Tools | None = None) -> Call | None:
        """The call that a JSON object tells: `name`, and `arguments` or `parameters`.

        Args:
            tools: It must be one of these, with arguments: for formats without tags of their own.
        """
        document = decoded(text)
        if not isinstance(document, dict):
            return None
        name = document.get("name")
        if not isinstance(name, str):
            return None
        arguments = document.get("arguments", document.get("parameters"))
        if tools is not None and (name not in tools or arguments is None):
            return None
        return self.call(name, {} if arguments is None else arguments)

    def call(self, name: str, arguments: object) -> Call:
        if not isinstance(arguments, str):
            # With the spaces that models write, and that templates write when a client sends it back.
            arguments = json.dumps(arguments, ensure_ascii=False)
        return Call(self.new_id(), name, arguments)


def quoted_name(name: str) -> str:
    """As JSON has it."""
    return json.dumps(name, ensure_ascii=False)


def decoded(text: str) -> object:
    """Of JSON; None where it is none, or null."""
    try:
        return strict_json.decode(text.encode())
    except (strict_json.JsonError, UnicodeEncodeError):
        return None
