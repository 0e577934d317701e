"""Function calls in OpenAI's first form, `function_call` and the role `function`, as tool calls and results.

Templates know tools alone. A call of this form has no id, so it gets one by its place: some templates ask for
one, of nine letters and digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from octavo.errors import InvalidParameterError
from octavo.json_path import json_path

FIELD = "function_call"
ROLE = "function"


def as_tool_messages(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The conversation without this form; what has none of it is left as it is.

    Raises `InvalidParameterError` with `messages[<position>].<field>`.
    """
    found: list[Mapping[str, Any]] = []
    calls: dict[str, str] = {}
    for number, message in enumerate(messages):
        place = json_path("messages", number)
        if message.get("role") == ROLE:
            found.append(_result(place, message, calls))
        elif message.get(FIELD) is not None:
            found.append(_call(place, message, call_id := f"call{number:05d}"))
            calls[message[FIELD]["name"]] = call_id
        else:
            found.append(message)
    return found


def _call(place: str, message: Mapping[str, Any], call_id: str) -> Mapping[str, Any]:
    place, call = f"{place}.{FIELD}", message[FIELD]
    if message.get("role") != "assistant":
        raise InvalidParameterError(place, f"{place} is there, and only an assistant calls.")
    if message.get("tool_calls"):
        raise InvalidParameterError(
            place, f"{place} is there beside tool_calls; they are two forms of the same."
        )
    if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
        raise InvalidParameterError(place, f'{place} must be {{"name": …, "arguments": …}}.')
    if not isinstance(call.get("arguments", ""), str):
        raise InvalidParameterError(
            f"{place}.arguments", f"{place}.arguments must be a text that holds JSON."
        )
    kept = {name: value for name, value in message.items() if name not in (FIELD, "tool_calls")}
    return {**kept, "tool_calls": [{"id": call_id, "type": "function", "function": call}]}


def _result(place: str, message: Mapping[str, Any], calls: Mapping[str, str]) -> Mapping[str, Any]:
    name = message.get("name")
    if not isinstance(name, str) or name not in calls:
        raise InvalidParameterError(
            f"{place}.name",
            f"{place}.name is {name!r:.80}; it must be the function of a function_call before it.",
        )
    content = message.get("content")
    return {
        **message,
        "role": "tool",
        "content": "" if content is None else content,
        "tool_call_id": calls[name],
    }
