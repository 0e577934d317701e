"""Numbers in a JSON schema: those that the grammar's library keeps to.

It reads each into a 64-bit float and some on into a 64-bit integer. A number that does not survive this is
another one in the answers, and the least integer ends the process that compiles it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

_LEAST, _GREATEST = -(2**63), 2**63 - 1
MOST_STATES = 10_000
"""Of `multipleOf`: the library makes a state for each remainder."""
_NEGATIVE = re.compile(r"-\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")


def first_unsafe_number(schema: object) -> int | float | None:
    """One that would be read as another, at any depth."""
    return next((one for key, one in _numbers(schema) if not _is_safe(key, one)), None)


def first_unsafe_literal(grammar: str) -> str | None:
    """One in the text of a grammar, which may hold schemas, that must not be compiled."""
    return next((one for one in _NEGATIVE.findall(grammar) if float(one) <= _LEAST), None)


def as_whole(value: object) -> int | None:
    """The integer that a schema's number is: 3.0 is one, and a boolean none; None where it is none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_safe(key: str, number: float) -> bool:
    if key == "multipleOf" and number > MOST_STATES:
        return False
    if number == _GREATEST:
        return True
    if not isinstance(number, int) and not math.isfinite(number):
        return False
    if _LEAST < number <= _GREATEST:
        return float(number) == number
    return key == "maximum" and _GREATEST < number < 2**64  # read as the greatest: less, but valid


def _numbers(schema: object) -> Iterator[tuple[str, int | float]]:
    """With the key that they stand under; without recursion."""
    waiting: list[tuple[str, object]] = [("", schema)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += (("", one) for one in value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield key, value
