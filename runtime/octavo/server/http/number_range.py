"""Numbers out of range: where in a JSON text one stands that the parser does not take, which says no name.

Such a text is read once more, by a parser that takes them all.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

MOST_DIGITS = 4300
"""Of an integer, the sign left out."""
_SHOWN_CHARS = 32
_SHOWN_KEY_CHARS = 64


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """`path` is such as `logit_bias.7`, empty where it cannot be told; `value` is as written, shortened."""

    path: str
    value: str


def find_out_of_range(text: bytes) -> OutOfRange | None:
    """The outermost of them; None where none is found.

    Args:
        text: Up to the number valid JSON.
    """
    found: list[OutOfRange] = []

    def integer(written: str) -> object:
        return 0 if len(written.lstrip("-")) <= MOST_DIGITS else wrong(written)

    def real(written: str) -> object:
        return 0 if math.isfinite(float(written)) else wrong(written)

    def wrong(written: str) -> OutOfRange:
        is_long = len(written) > _SHOWN_CHARS
        shown = f"{written[:_SHOWN_CHARS]}… ({len(written)} characters)" if is_long else written
        found.append(OutOfRange("", shown))
        return found[-1]

    try:
        read = json.loads(text.decode(errors="replace"), parse_int=integer, parse_float=real)
    except (ValueError, RecursionError):  # wrong behind the number, too
        return found[0] if found else None
    if not found:
        return None
    return _with_path(read) or found[0]  # in a value that was not kept: its key is there twice


def _with_path(value: object) -> OutOfRange | None:
    waiting: list[tuple[tuple[str, ...], object]] = [((), value)]
    for path, one in waiting:
        if isinstance(one, OutOfRange):
            return OutOfRange(".".join(part[:_SHOWN_KEY_CHARS] for part in path), one.value)
        members: list[tuple[object, object]] = []
        if isinstance(one, dict):
            members = list(one.items())
        elif isinstance(one, list):
            members = list(enumerate(one))
        waiting += [
            ((*path, str(key)), each)
            for key, each in members
            if isinstance(each, (dict, list, OutOfRange))
        ]
    return None
