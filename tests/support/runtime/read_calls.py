"""Pieces of an answer put together: calls with all of their arguments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from octavo.engine.requests.marked_text import MarkedText
from octavo.server.openai.parsing.answer import AnswerParser
from octavo.server.openai.parsing.pieces import (
    Arguments,
    CallBegin,
    CallEnd,
    Piece,
    Reasoning,
    Tag,
)
from octavo.server.openai.parsing.tool_calls import ToolCallParser


class Call(NamedTuple):
    id: str
    name: str
    arguments: str
    is_whole: bool


def put_together(pieces: Iterable[Piece]) -> list[str | Reasoning | Call]:
    """In their order. Asserts that arguments follow their call and nothing stands between them."""
    found: list[str | Reasoning | Call] = []
    is_open = False
    for piece in pieces:
        if isinstance(piece, CallBegin):
            found.append(Call(piece.id, piece.name, "", is_whole=False))
            is_open = True
        elif isinstance(piece, Arguments | CallEnd):
            call = found[-1]
            assert is_open
            assert isinstance(call, Call)
            if isinstance(piece, Arguments):
                assert piece.text
                found[-1] = call._replace(arguments=call.arguments + piece.text)
            else:
                found[-1] = call._replace(is_whole=True)
                is_open = False
        elif not isinstance(piece, Tag):
            is_open = False
            found.append(piece)
    return found


def read_with(
    parser: ToolCallParser | AnswerParser, *pieces: MarkedText, is_cut: bool = False
) -> list[str | Reasoning | Call]:
    """All of an answer that arrives in pieces, and ended by itself or not."""
    out = [item for piece in pieces for item in parser.push(piece)]
    return put_together([*out, *parser.flush(is_cut=is_cut)])
