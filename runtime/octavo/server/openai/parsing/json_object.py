"""JSON value. Where one ends in a text that is still being written.

A delimiter may stand in a string of the object that it encloses; only the object itself says where it ends.
"""

from __future__ import annotations

import enum
import re
import sys

_WHITESPACE = " \t\n\r"
# What may stand beside strings and brackets: separators, numbers, true, false and null.
_STRUCTURE = frozenset(":," + _WHITESPACE + "0123456789+-.eE" + "truefalsenull")

_PLAIN = re.compile(r'[^"\\]*')  # of a string, what neither ends it nor escapes


class Scan(enum.Enum):
    UNFINISHED = "unfinished"
    COMPLETE = "complete"
    NO_OBJECT = "no_object"


class ObjectScanner:
    """Reads a text character by character as it comes, whitespace before the object included.

    A text that is complete is balanced, no more: whether it is JSON, the decoder says. One that cannot
    become JSON is told early in nearly all cases, so that it is not held back in vain.

    Args:
        begins: What it may begin with: an object, perhaps a list or a string.
        most_levels: Of objects and lists in each other; one more is taken for none.
    """

    __slots__ = ("_begins", "_depth", "_is_escaped", "_is_in_string", "_most_levels", "position")

    def __init__(self, begins: str = "{", most_levels: int = sys.maxsize) -> None:
        self.position = 0
        self._begins = begins
        self._most_levels = most_levels
        self._depth = 0
        self._is_in_string = False
        self._is_escaped = False

    def scan(self, text: str, start: int) -> Scan:
        """Reads the next piece from `start` on, and sets `position`: where in it the object ends, or what
        cannot belong to it stands."""
        position, end = start - 1, len(text)
        while (position := position + 1) < end:
            if self._is_in_string and not self._is_escaped:
                plain = _PLAIN.match(text, position)
                if plain and (position := plain.end()) == end:
                    break
            character = text[position]
            if self._is_in_string:
                if self._ends_string(character) and not self._depth:
                    self.position = position + 1
                    return Scan.COMPLETE
            elif character == '"' and (self._depth or '"' in self._begins):
                self._is_in_string = True
            elif character in "{[" and (self._depth or character in self._begins):
                if self._depth == self._most_levels:
                    self.position = position
                    return Scan.NO_OBJECT
                self._depth += 1
            elif character in "}]" and self._depth:
                self._depth -= 1
                if self._depth == 0:
                    self.position = position + 1
                    return Scan.COMPLETE
            elif character not in (_STRUCTURE if self._depth else _WHITESPACE):
                self.position = position
                return Scan.NO_OBJECT
        self.position = end
        return Scan.UNFINISHED

    def _ends_string(self, character: str) -> bool:
        if self._is_escaped:
            self._is_escaped = False
        elif character == "\\":
            self._is_escaped = True
        elif character == '"':
            self._is_in_string = False
            return True
        return False
