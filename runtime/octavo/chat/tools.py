"""Tools of a conversation, in the one shape that OpenAI and chat templates know: a template prints whatever
it is given, so anything else would reach the model as it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from octavo.errors import InvalidParameterError, UnsupportedParameterError
from octavo.json_path import json_path

_MAX_SHOWN_CHARS = 80


def check_tools(tools: object) -> None:
    """Raises `InvalidParameterError` for what is no list of functions; it names
    `tools[<position>].<field>`."""
    if not isinstance(tools, Sequence) or isinstance(tools, str | bytes):
        raise _wrong("tools", tools, "a list")
    for number, tool in enumerate(tools):
        _check_tool(json_path("tools", number), tool)


def _check_tool(place: str, tool: object) -> None:
    if not isinstance(tool, Mapping):
        raise _wrong(place, tool, "an object")
    if (kind := tool.get("type")) != "function":
        if isinstance(kind, str):
            raise UnsupportedParameterError(f"{place}.type", f"it is {kind!r}. Use function.")
        raise _wrong(f"{place}.type", kind, "function")
    function = tool.get("function")
    if not isinstance(function, Mapping):
        raise _wrong(f"{place}.function", function, "an object")
    if not isinstance(function.get("name"), str) or not function["name"]:
        raise _wrong(f"{place}.function.name", function.get("name"), "a text")
    if not isinstance(function.get("description", ""), str | None):
        raise _wrong(f"{place}.function.description", function["description"], "a text")
    if not isinstance(function.get("parameters"), Mapping | None):
        raise _wrong(f"{place}.function.parameters", function["parameters"], "an object")


def _wrong(place: str, value: object, wanted: str) -> InvalidParameterError:
    return InvalidParameterError(
        place, f"{place} is {value!r:.{_MAX_SHOWN_CHARS}}; it must be {wanted}."
    )
