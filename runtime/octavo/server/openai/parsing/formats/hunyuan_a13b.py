"""Hunyuan A13B: `<tool_calls>` and a list of calls, and answers between `<answer>` and `</answer>`."""

from __future__ import annotations

from octavo.server.openai.parsing.formats.tagged_list import TaggedList


class HunyuanA13B(TaggedList):
    heads = ("<answer>", "</answer>")
    has_lines = True
    reasoning = "hunyuan_a13b"


HUNYUAN_A13B = HunyuanA13B("<tool_calls>", closing="</tool_calls>")
