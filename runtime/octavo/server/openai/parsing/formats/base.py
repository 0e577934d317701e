"""Call format: how a family of models writes its calls of tools. One file each."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping

import msgspec

from octavo.server.http import strict_json
from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.pieces import Call

Tools = Mapping[str, Mapping[str, object] | None]
"""Name to the schema of its parameters, of the functions that may be called."""


class CallFormat(ABC):
    """Attributes:
    openings: What a section of calls begins with.
    line_openings: Others, of one character, that count at the beginning of a line alone.
    has_tags: Each call stands between tags.
    """

    openings: tuple[str, ...]
    line_openings: tuple[str, ...] = ()
    has_tags = True

    @abstractmethod
    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        """Reads what stands behind an opening; yields each call once it is read.

        Returns whether all that was read since belongs to the markup. If not, it is text; and where no call
        was read, so is the opening.
        """

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
            arguments = msgspec.json.encode(arguments).decode()
        return Call(self.new_id(), name, arguments)


def decoded(text: str) -> object:
    """Of JSON; None where it is none, or null."""
    try:
        return strict_json.decode(text.encode())
    except (strict_json.JsonError, UnicodeEncodeError):
        return None
