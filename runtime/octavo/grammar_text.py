"""Grammar text: literals and expressions in Lark's syntax, with special tokens by their ids, and what ends
with one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

ANY = r"/(.|\n)*/"
_SPECIAL = re.compile(r"<\[\d+\]>.*", re.DOTALL)
_LITERALS = re.compile(r'(?:"(?:[^"\\]|\\.)*" ?)*')
_BARE = re.compile(r"\\.|[/\n]", re.DOTALL)
_ESCAPES = {"/": r"\/", "\n": r"\n", "\\\n": r"\n"}


def written(text: str, special_ids: Mapping[str, int]) -> str:
    """Nothing of an empty text.

    Args:
        special_ids: Of special tokens by their text.
    """
    known = [re.escape(one) for one in special_ids if one and one in text]
    pieces = re.split(f"({'|'.join(known)})", text) if known else [text]
    return " ".join(
        f"<[{special_ids[piece]}]>"
        if piece in special_ids
        else json.dumps(piece, ensure_ascii=False)
        for piece in pieces
        if piece
    )


def written_pattern(pattern: str) -> str:
    """Of a regular expression."""
    if not pattern:
        return '""'
    return f"/{_BARE.sub(lambda found: _ESCAPES.get(found[0], found[0]), pattern)}/"


def without(literals: list[str]) -> str:
    """The expression of a terminal: any text that holds none of these, which `written` has written."""
    return f"{ANY} & ~({ANY} ({' | '.join(literals)}) {ANY})" if literals else ANY


def text_up_to(rule: str, end: str, text: str = "TEXT") -> str:
    """The rule of any text and the first `end` behind it, which `written` has written.

    Args:
        text: The terminal of any text.
    """
    before, special = split_at_special(end)
    if not special:
        return f"{rule}[lazy]: {text} {end}"
    # A special token stands in no lexeme, and none of them takes it for text.
    if not before:
        return f"{rule}: {text} {end}"
    return f"{rule}: {rule.upper()}_HEAD {special}\n{rule.upper()}_HEAD: {text} {before}"


def split_at_special(end: str) -> tuple[str, str]:
    """What stands before the first special token in it, and the rest; empty where there is none."""
    literals = _LITERALS.match(end)
    begin = 0 if literals is None else literals.end()
    found = _SPECIAL.match(end, begin)
    return (end, "") if found is None else (end[:begin].rstrip(), found[0])
