"""Flags of a command, made from the options of the classes that they fill in."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from octavo.options import OptionField, Panel, option_fields


def path_of(text: str) -> Path:
    """An empty one, as of a shell's variable that is not set, would be the folder of the process."""
    if not text:
        # As typer's own checks raise it, which names the flag.
        from pydantic_core import PydanticCustomError

        raise PydanticCustomError("empty_path", "it is empty. Give a path, or leave it out.")
    return Path(text)


PATH: Mapping[str, Any] = {"parser": path_of, "metavar": "PATH"}
"""Of the option of each flag that takes a path."""


def with_flags(*kinds: type) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Gives a command a flag for every option of `kinds`; it gets their values by keyword.

    The keywords are the flags' names in snake case; `values_of` finds those of one class among them.
    """

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        fields = [field for kind in kinds for field in option_fields(kind)]
        fields.sort(key=lambda field: list(Panel).index(field.option.panel))
        own = inspect.signature(command, eval_str=True)
        flags = [_parameter(field) for field in fields]
        named = [
            each
            for each in own.parameters.values()
            if each.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        # typer reads the one for the order and the other for the types.
        command.__signature__ = own.replace(parameters=[*named, *flags])  # type: ignore[attr-defined]
        command.__annotations__ |= {each.name: each.annotation for each in [*named, *flags]}
        return command

    return decorate


def values_of(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `kind` as these flags say. Raises `InvalidConfigurationError`."""
    return {
        field.name: field.read(_from_list(given[field.spelling])) for field in option_fields(kind)
    }


def spread(arguments: Sequence[str], flag: str) -> list[str]:
    """The same with the flag before each of its values: vLLM takes several behind one, `name=value` or
    objects in JSON."""
    found: list[str] = []
    is_listing = False
    for argument in arguments:
        is_value = argument.startswith("{") or ("=" in argument and not argument.startswith("-"))
        if is_listing and is_value and found[-1] != flag:
            found.append(flag)
        is_listing = argument == flag or (is_listing and is_value)
        found.append(argument)
    return found


def _parameter(field: OptionField) -> inspect.Parameter:
    option = field.option
    info: Any = typer.Option(
        *_declarations(field),
        help=_help(field),
        rich_help_panel=option.panel.value,
        envvar=option.variable or None,
        show_envvar=bool(option.variable),
        hidden=option.is_hidden,
        **_reading(field),
    )
    kind, default = field.kind, field.default
    if _is_list(field):
        kind, default = list[str] | None, None
    elif option.is_size or option.is_json:
        kind = str | None
    elif field.is_optional:
        kind = kind | None
    return inspect.Parameter(
        field.spelling,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, info],
    )


def _reading(field: OptionField) -> Mapping[str, Any]:
    if field.kind is Path:
        return PATH
    option = field.option
    return {"metavar": "SIZE" if option.is_size else "JSON" if option.is_json else None}


def _declarations(field: OptionField) -> list[str]:
    name, *aliases = field.flags
    if field.kind is not bool:
        return [name, *aliases]
    # Only what is on can be switched off.
    return [f"{name}/--no-{name[2:]}" if field.default else name, *aliases]


def _help(field: OptionField) -> str:
    if not field.option.choices:
        return field.option.help
    return f"{field.option.help} One of {', '.join(map(str, field.option.choices))}."


def _is_list(field: OptionField) -> bool:
    return isinstance(field.kind, types.GenericAlias)


def _from_list(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
