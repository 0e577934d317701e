"""Literal calls: each argument is its name and a literal, as Python or Gemma's own notation has it."""

from __future__ import annotations

from typing import Any

from tests.support.runtime.written_calls.calls import Calls, as_json


def _gemma_value(value: object, quote: str) -> str:
    if isinstance(value, str):
        return f"{quote}{value}{quote}"
    if isinstance(value, dict):
        members = (f"{quote}{key}{quote}:{_gemma_value(one, quote)}" for key, one in value.items())
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_gemma_value(one, quote) for one in value) + "]"
    return str(value) if value is None else as_json(value)


def gemma(opening: str, closing: str, quote: str, calls: Calls) -> str:
    return "".join(
        f"{opening}call:{name}{{"
        + ",".join(f"{key}:{_gemma_value(value, quote)}" for key, value in given.items())
        + f"}}{closing}"
        for name, given in calls
    )


def python_call(call: tuple[str, dict[str, Any]]) -> str:
    name, given = call
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})"


def pythonic(calls: Calls) -> str:
    return f"[{', '.join(map(python_call, calls))}]"


def olmo3(calls: Calls) -> str:
    lines = "\n".join(map(python_call, calls))
    return f"<function_calls>{lines}</function_calls>"
