"""Text of an answer in pieces, and what a format of calls makes of it."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

from octavo.engine.requests.marked_text import MarkedText
from octavo.server.openai.parsing.formats import CallFormat, Tools
from octavo.server.openai.parsing.tool_calls import ToolCallParser
from tests.support.runtime.read_calls import Call, read_with
from tests.support.runtime.written_calls import Calls

TEXT_OF_F: Tools = {"f": {"properties": {"text": {"type": "string"}}}}


def parse(
    form: CallFormat, tools: Tools, *pieces: MarkedText, is_cut: bool = False
) -> tuple[str, Calls]:
    """Of a call that is not whole, or whose brackets close around what is no JSON, the text of its arguments,
    under its name with a question mark."""
    parser = ToolCallParser(form, tools)
    out = read_with(parser, *pieces, is_cut=is_cut)
    content = "".join(item for item in out if isinstance(item, str))
    calls = [item for item in out if isinstance(item, Call)]
    assert parser.num_calls == len(calls)
    return content, [_read(one) for one in calls]


def _read(call: Call) -> tuple[str, dict[str, Any]]:
    try:
        if call.is_whole:
            return call.name, json.loads(call.arguments)
    except ValueError:
        pass
    return f"{call.name}?", {"": call.arguments}


def told(form: CallFormat, *pieces: MarkedText) -> list[object]:
    """As it stands, without the ids; text that came in parts as one."""
    out: list[object] = []
    for item in read_with(ToolCallParser(form, TEXT_OF_F), *pieces):
        if isinstance(item, str) and out and isinstance(out[-1], str):
            out[-1] += item
        else:
            out.append(item[1:] if isinstance(item, Call) else item)
    return out


def in_pieces(text: MarkedText, seed: int) -> list[MarkedText]:
    chance = random.Random(seed)  # noqa: S311
    places = sorted({0, len(text), *(chance.randrange(len(text) + 1) for _ in range(seed % 9))})
    return [text[a:b] for a, b in itertools.pairwise(places)]


def one_by_one(text: MarkedText) -> list[MarkedText]:
    return [text[place : place + 1] for place in range(len(text))]
