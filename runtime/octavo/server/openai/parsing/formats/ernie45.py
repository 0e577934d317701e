"""ERNIE 4.5: calls as Hermes writes them, and answers between `<response>` and `</response>`."""

from __future__ import annotations

from octavo.server.openai.parsing.formats.hermes import TaggedJson


class Ernie45(TaggedJson):
    heads = ("<response>", "</response>")
    has_lines = True
    reasoning = "ernie45"


ERNIE45 = Ernie45("<tool_call>", "</tool_call>")
