"""Tool choice that is an object: a function by name, or `allowed_tools`.

Every member is read or refused by name: one that was passed over could have asked for another answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from octavo.json_path import json_path
from octavo.server.openai.api_errors import ApiError, invalid_value, quoted

_CHOICE = "tool_choice"
_ALLOWED = f"{_CHOICE}.allowed_tools"


@dataclass(frozen=True, slots=True)
class ChosenTools:
    """`names`: of functions, at least one. `mode` is `named` for the one that must be called."""

    mode: Literal["auto", "required", "named"]
    names: Sequence[str]


def read_chosen_tools(choice: dict[str, Any]) -> ChosenTools:
    """Raises `ApiError`."""
    match choice.get("type"):
        case "function":
            return ChosenTools("named", [_function_name(choice, _CHOICE)])
        case "allowed_tools":
            check_members(choice, _CHOICE, ("type", "allowed_tools"))
            return _read_allowed(choice.get("allowed_tools"))
    raise invalid_value(
        _CHOICE,
        f"{_CHOICE} has the type {quoted(choice.get('type'))}; use function or allowed_tools.",
    )


def _read_allowed(allowed: object) -> ChosenTools:
    found = check_members(allowed, _ALLOWED, ("mode", "tools"))
    mode, tools = found.get("mode"), found.get("tools")
    if mode not in ("auto", "required"):
        place = f"{_ALLOWED}.mode"
        raise invalid_value(place, f"{place} is {quoted(mode)}; use auto or required.")
    place = f"{_ALLOWED}.tools"
    if not isinstance(tools, list) or not tools:
        raise invalid_value(
            place,
            f"{place} is {quoted(tools)}; name at least one of the tools there. For no call use tool_choice "
            "none.",
        )
    names = [
        _function_name(tool, json_path(place, position)) for position, tool in enumerate(tools)
    ]
    return ChosenTools("required" if mode == "required" else "auto", names)


def _function_name(chosen: object, place: str) -> str:
    if isinstance(chosen, dict) and chosen.get("type") != "function":
        kind = quoted(chosen.get("type"))
        raise invalid_value(f"{place}.type", f"{place}.type is {kind}; functions alone are taken.")
    found = check_members(chosen, place, ("type", "function"))
    name = check_members(found.get("function"), f"{place}.function", ("name",)).get("name")
    if not isinstance(name, str):
        place = f"{place}.function.name"
        raise invalid_value(place, f"{place} is {quoted(name)}; it must be the name of a function.")
    return name


def check_members(value: object, place: str, known: Sequence[str]) -> dict[str, Any]:
    """The object itself. Raises `ApiError` where it is none, or has a member that is not known."""
    if not isinstance(value, dict):
        raise invalid_value(
            place, f"{place} is {quoted(value)}; it must be an object with {' and '.join(known)}."
        )
    for name in value:
        if name not in known:
            param = json_path(place, name[:64])
            raise ApiError(
                400,
                f"Unrecognized request argument supplied: {param}. {place} takes "
                f"{' and '.join(known)}.",
                param=param,
                code="unknown_parameter",
            )
    return value
