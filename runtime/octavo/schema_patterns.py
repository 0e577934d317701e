"""Regular expressions in a schema or grammar: how large they become, and whose dialect they are in.

A bounded repetition is written out before any limit of the grammar's library counts: `(a{1000}){1000}`
takes it half a minute. And it reads an expression as Rust does, which means another set of texts by some.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_WRITTEN_OUT = 20_000
_COUNT = re.compile(r"\{(\d+)(?:(,)(\d*))?\}")
_CLASS = re.compile(r"\[(?:\\.|[^\]\\])*\]")
_SET_OPERATIONS = ("&&", "--", "~~", "[:")


def patterns_of(schema: object) -> Iterator[str]:
    """Of a schema, at any depth; without recursion."""
    waiting: list[object] = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
            if isinstance(pattern := value.get("pattern"), str):
                yield pattern
            if isinstance(named := value.get("patternProperties"), dict):
                yield from filter(lambda key: isinstance(key, str), named)


def size_written_out(text: str) -> int:
    """At least the characters and classes of an expression with its bounded repetitions written out; text
    that is none counts as if it were one."""
    sizes, last, position = [0], 0, 0
    while position < len(text):
        character = text[position]
        if character == "(":
            sizes.append(0)
            last, position = 0, position + 1
            continue
        if character == ")":
            last, position = sizes.pop(), position + 1
            if not sizes:  # closes what was never opened
                sizes.append(0)
            sizes[-1] += last
            continue
        if character == "{" and (count := _COUNT.match(text, position)):
            times = max(_whole(count[1]), _whole(count[3]))
            sizes[-1] += last * max(0, times - 1)
            last, position = last * times, count.end()
            continue
        if character == "\\":
            position += 2
        elif character == "[" and (found := _CLASS.match(text, position)):
            position = found.end()
        else:
            position += 1
        last = 1
        sizes[-1] += 1
    return sum(sizes)


def _whole(digits: str | None) -> int:
    return min(int(digits[:9]) if digits else 0, 10**9)


def set_operation(pattern: str) -> str | None:
    """What Rust reads as an operation on classes and other dialects as characters."""
    for found in _CLASS.finditer(pattern):
        for operation in _SET_OPERATIONS:
            if operation in found[0][1:-1]:
                return operation
    return None
