"""Pythonic: `[f(a=1), g(b="x")]`, as Llama 3.2 and 4 and, between tags, LFM2 write calls. Read as literals,
never evaluated.

A list is calls only if each of them is of one of the request's tools: so it is read as a whole.
"""

from __future__ import annotations

import ast
import re
from typing import Any

import msgspec

from octavo.json_depth import MAX_DEPTH
from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, CallShape, Tools
from octavo.server.openai.parsing.json_object import Scan
from octavo.server.openai.parsing.python_literals import PythonValues, expression, json_value

_TAGS = {
    "<|python_start|>": "<|python_end|>",
    "<|tool_call_start|>": "<|tool_call_end|>",
}
NAME = re.compile(r"[\w.-]*")
# A string, or a name that Python would read as a difference.
_STRING_OR_NAME = re.compile(
    r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|(?<![\w.-])[^\W\d][\w.]*(?:-[\w.]+)+(?=\()""",
    re.DOTALL,
)
_HYPHEN = "ˍ"  # of names: no tool's has one


class Pythonic(CallFormat):
    openings = tuple(_TAGS)
    line_openings = ("[",)
    has_tags = False
    shape = CallShape(
        begin="[",
        call=lambda name: f"{name}(",
        notation=PythonValues(),
        call_end=")",
        separator=", ",
        end="]",
    )

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        if opening in _TAGS:
            yield from cursor.spaces()
            if (yield from cursor.literal("[")) is None:
                return False
        yield from cursor.spaces()
        name = yield from cursor.word(NAME)
        if name not in tools or not (yield from cursor.is_ahead("(")):
            return False
        text = yield from cursor.balanced(ListScanner())
        calls = calls_in(f"[{name}{text}") if text is not None else None
        if not calls or any(name not in tools for name, _ in calls):
            return False
        for name, arguments in calls:
            yield from self.whole(name, arguments)
        yield from cursor.spaces()
        return (yield from cursor.closing(*_TAGS.values()))


class ListScanner:
    """Where a list of Python's ends, of which the bracket was read; one that is deeper than `MAX_DEPTH` is
    none, as where `Cursor.json_value` says why."""

    def __init__(self) -> None:
        self.position = 0
        self._depth = 1
        self._quote = ""
        self._is_escaped = False

    def scan(self, text: str, start: int) -> Scan:
        for position in range(start, len(text)):
            character = text[position]
            if self._quote:
                self._read_in_string(character)
            elif character in "'\"":
                self._quote = character
            elif character in "([{":
                if self._depth == MAX_DEPTH:
                    self.position = position
                    return Scan.NO_OBJECT
                self._depth += 1
            elif character in ")]}":
                self._depth -= 1
                if self._depth == 0:
                    self.position = position + 1
                    return Scan.COMPLETE
        self.position = len(text)
        return Scan.UNFINISHED

    def _read_in_string(self, character: str) -> None:
        if self._is_escaped:
            self._is_escaped = False
        elif character == "\\":
            self._is_escaped = True
        elif character == self._quote:
            self._quote = ""


def calls_in(text: str) -> list[tuple[str, dict[str, Any]]] | None:
    """None where it is anything but calls with literals by name."""
    tree = expression(_STRING_OR_NAME.sub(_as_python, text))
    if not isinstance(tree, ast.List):
        return None
    try:
        return [_call_of(node) for node in tree.elts]
    except (ValueError, RecursionError, MemoryError):
        return None


def _as_python(found: re.Match[str]) -> str:
    """Templates put texts between quotes as they are, line breaks too, and names with hyphens."""
    if found[0][0] not in "'\"":
        return found[0].replace("-", _HYPHEN)
    return found[0].replace("\n", "\\n").replace("\r", "\\r")


def _call_of(node: ast.expr) -> tuple[str, dict[str, Any]]:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError
    arguments = {}
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in arguments:
            raise ValueError
        arguments[keyword.arg] = json_value(keyword.value)
    msgspec.json.encode(arguments)  # of lone surrogates it raises a ValueError
    return ast.unparse(node.func).replace(_HYPHEN, "-"), arguments


PYTHONIC = Pythonic()
