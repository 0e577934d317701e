"""Pieces of a model's answer: what its text is, once the markup in it is read."""

from __future__ import annotations

from typing import NamedTuple

WHITESPACE = " \t\n\r"


class Reasoning(NamedTuple):
    """Some of what the model thought before it answered."""

    text: str


class Call(NamedTuple):
    """Of a tool; `arguments` is a JSON document."""

    id: str
    name: str
    arguments: str


Piece = str | Reasoning | Call
"""A `str` is content."""


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
