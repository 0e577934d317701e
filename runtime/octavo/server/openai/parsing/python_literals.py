"""Python literals: values in Python's notation, as templates print them that do not say otherwise. They are
read, never evaluated."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass
from typing import Any

_JSON_NAMES = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class PythonValues:
    """Of a format whose arguments are keywords with such values."""


def expression(text: str) -> ast.expr | None:
    """None where it is none of Python's."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python does not know
            return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def literal(text: str) -> Any:
    """The list or object that `text` is; None where it is neither."""
    node = expression(text)
    try:
        return json_value(node) if isinstance(node, ast.List | ast.Dict) else None
    except (ValueError, RecursionError, MemoryError):
        return None


def json_value(node: ast.expr) -> Any:
    """Raises `ValueError` for what JSON has not."""
    if isinstance(node, ast.Name) and node.id in _JSON_NAMES:
        return _JSON_NAMES[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [json_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {
            _text(key): json_value(value) for key, value in zip(node.keys, node.values, strict=True)
        }
    value = ast.literal_eval(node)
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise ValueError
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError


def _text(key: ast.expr | None) -> str:
    value = None if key is None else ast.literal_eval(key)
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004 - the text is at fault
    return value
