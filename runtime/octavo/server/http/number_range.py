"""Numbers out of range: where in a JSON text one stands that the parser does not take, which names no field.

Such a text is split once more, level by level: no more is made of it than the way there, or a text of
a million numbers would hold up everybody's streams.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from octavo.json_path import json_path

MOST_DIGITS = 4300
"""Of an integer, the sign left out."""
_MOST_LEVELS = 16
"""Each of them is a pass over what is below."""
_SHOWN_CHARS = 32
_SHOWN_KEY_CHARS = 64
_INDEX = re.compile(r"at `\$\[(\d+)\]")
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_ANY = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """`path` is such as `logit_bias.7`, as far as it can be told. `value` is as written, shortened; empty
    where it stands somewhere below."""

    path: str
    value: str


def find_out_of_range(text: bytes) -> OutOfRange:
    """The first of them. Up to it the text is valid JSON."""
    path: list[str | int] = []
    rest = memoryview(text.lstrip())
    for _ in range(_MOST_LEVELS):
        found = _step(rest)
        if found is None:
            break
        step, member = found
        path.append(step[:_SHOWN_KEY_CHARS] if isinstance(step, str) else step)
        rest = memoryview(member)
    is_number = rest[:1].tobytes() not in (b"{", b"[")
    return OutOfRange(json_path(*path), _shown(bytes(rest)) if is_number else "")


def _step(text: memoryview) -> tuple[str | int, msgspec.Raw] | None:
    """The member that holds one; None: the text is no container, or is wrong behind the number, too."""
    try:
        if text[:1].tobytes() == b"{":
            return _first_wrong(_OBJECT.decode(text).items())
        if text[:1].tobytes() == b"[" and (place := _INDEX.search(_refusal(text))):
            number = int(place[1])
            return number, _LIST.decode(text)[number]
    except msgspec.DecodeError:
        pass
    return None


def _first_wrong(members: Iterable[tuple[str, msgspec.Raw]]) -> tuple[str, msgspec.Raw] | None:
    """None: it is in a value that was not kept, whose key is there twice."""
    return next(((key, value) for key, value in members if _refusal(memoryview(value))), None)


def _refusal(text: memoryview) -> str:
    try:
        _ANY.decode(text)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


def _shown(number: bytes) -> str:
    written = number.decode(errors="replace").strip()
    if len(written) <= _SHOWN_CHARS:
        return written
    return f"{written[:_SHOWN_CHARS]}… ({len(written)} characters)"
