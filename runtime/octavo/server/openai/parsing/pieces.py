"""Pieces of a model's answer: what its text is, once the markup in it is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

WHITESPACE = " \t\n\r"


class Reasoning(NamedTuple):
    """Some of what the model thought before it answered."""

    text: str


class CallBegin(NamedTuple):
    """Of a tool. Its arguments follow, in any number of pieces."""

    id: str
    name: str


class Arguments(msgspec.Struct, frozen=True, gc=False):
    """Some of the call's that was begun last. All of them are a JSON document as the model wrote it: one that
    was cut off has no end, and one that the model spoilt is none."""

    text: str


class CallEnd(NamedTuple):
    """The arguments are whole. A call that was cut off or spoilt has no end."""


class Tag(NamedTuple):
    """Markup that is no part of a call, thought or text: the head of a message."""


Piece = str | Reasoning | CallBegin | Arguments | CallEnd | Tag
"""A `str` is content."""


def merged(pieces: Sequence[Piece]) -> Iterable[Piece]:
    """Arguments that follow each other as one piece."""
    return pieces if len(pieces) < 2 else _merged(pieces)


def _merged(pieces: Sequence[Piece]) -> Iterator[Piece]:
    texts: list[str] = []
    for piece in pieces:
        if isinstance(piece, Arguments):
            texts.append(piece.text)
            continue
        if texts:
            yield Arguments("".join(texts))
            texts = []
        yield piece
    if texts:
        yield Arguments("".join(texts))


def held_back(text: str, begin: int, markers: tuple[str, ...]) -> int:
    """Where the tail of `text` begins, not before `begin`, that may become one of the markers."""
    first = len(text)
    for marker in markers:
        start = max(begin, len(text) - len(marker) + 1)
        while 0 <= (start := text.find(marker[0], start)) < first:
            if marker.startswith(text[start:]):
                first = start
            start += 1
    return first
