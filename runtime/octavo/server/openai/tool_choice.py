"""Tool choice. Which calls a request lets the model make, and the grammar that holds it to them.

Calls are written as the model's parser reads them; what the model may write freely is not constrained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from octavo.json_path import json_path
from octavo.schema_numbers import first_unsafe_number
from octavo.server.openai.api_errors import ApiError, invalid_value, quoted, unsupported
from octavo.server.openai.argument_values import NotHeldError
from octavo.server.openai.call_grammar import CallGrammar
from octavo.server.openai.call_schema import may_be_object, of_arguments
from octavo.server.openai.chosen_tools import read_chosen_tools
from octavo.server.openai.output_format import is_json, output_format
from octavo.server.openai.parsing.formats import CallFormat, Tools
from octavo.server.openai.parsing.resolved_schemas import for_reading
from octavo.server.openai.protocol import ChatCompletionRequest, FunctionDefinition, Tool
from octavo.structured_outputs import StructuredOutputsParams

_NAME = re.compile(r"[A-Za-z0-9_.:-]+")
_OF_TOOL = re.compile(r"tool_(\d+)")  # as the grammar of calls names schemas
_SHOWN_NAMES = 8
_NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}


@dataclass(frozen=True, slots=True)
class ToolUse:
    """What a checked request asks for.

    Args:
        told: The tools that the template is given, as the client sent them.
        functions: Those that may be called; empty when none may.
        choice: `none`: no call, `auto`: text and calls, `required`: calls alone.
        is_parallel: More than one call may be made.
        is_narrowed: Some that the template is given may not be called.
    """

    told: list[dict[str, Any]] | None
    functions: tuple[FunctionDefinition, ...]
    choice: Literal["none", "auto", "required"]
    is_parallel: bool
    is_narrowed: bool = False

    @property
    def max_calls(self) -> int | None:
        return None if self.is_parallel else 1

    @property
    def callable(self) -> Tools:
        """Those that may be called, with the schema of their parameters."""
        return {one.name: for_reading(one.parameters) for one in self.functions}


def read_tool_use(request: ChatCompletionRequest) -> ToolUse:
    """Raises `ApiError` for what contradicts itself or cannot be promised."""
    tools, choice = request.tools or [], request.tool_choice
    is_parallel = request.parallel_tool_calls is not False
    if not tools:
        if choice not in (None, "none"):
            raise invalid_value("tool_choice", "tool_choice is only allowed together with tools.")
        return ToolUse(None, (), "none", is_parallel)
    _check(tools)
    functions = tuple(tool.function for tool in tools)
    told = [tool.as_sent for tool in tools]
    match choice:
        case "none":
            return ToolUse(None, (), "none", is_parallel)
        case None | "auto":
            return ToolUse(told, functions, "auto", is_parallel)
        case "required":
            return ToolUse(told, functions, "required", is_parallel)
        case dict():
            found = read_chosen_tools(choice)
            chosen = _named(functions, found.names)
            if found.mode == "named":
                return ToolUse(told, chosen, "required", is_parallel=False)
            is_narrowed = len(chosen) < len(functions)
            return ToolUse(told, chosen, found.mode, is_parallel, is_narrowed)
    raise unsupported(
        "tool_choice",
        f"it is {quoted(choice)}. Use none, auto, required, the name of a function, or allowed_tools with a "
        "mode and functions.",
    )


def _named(
    functions: tuple[FunctionDefinition, ...], names: Sequence[str]
) -> tuple[FunctionDefinition, ...]:
    known = {function.name: function for function in functions}
    for name in names:
        if name not in known:
            shown = ", ".join(list(known)[:_SHOWN_NAMES])
            raise invalid_value(
                "tool_choice",
                f"tool_choice names {quoted(name)}, which is none of the tools. Name one of theirs: {shown}"
                f"{', …' if len(known) > _SHOWN_NAMES else '.'}",
            )
    return tuple(known[name] for name in dict.fromkeys(names))


def _check(tools: list[Tool]) -> None:
    names: set[str] = set()
    for position, tool in enumerate(tools):
        name = tool.function.name
        if name in names:
            raise invalid_value(
                json_path("tools", position, "function", "name"),
                f"The name {quoted(name)} comes twice in tools.",
            )
        names.add(name)
        _check_parameters(
            json_path("tools", position, "function", "parameters"), tool.function.parameters
        )


def _check_parameters(place: str, parameters: dict[str, Any] | None) -> None:
    if parameters is not None and not may_be_object(parameters):
        raise invalid_value(
            place,
            f"{place} is {quoted(parameters)}, and no object keeps to it. The parameters of a function are a "
            "JSON Schema of the type object.",
            code="invalid_function_parameters",
        )


def answer_format(
    request: ChatCompletionRequest,
    use: ToolUse,
    calls: CallFormat | None,
    special: Mapping[int, str],
) -> StructuredOutputsParams | None:
    """What the whole answer must be: of calls, of text, or either. None constrains nothing. A forced call is
    the answer whatever JSON the text would have had to be.

    Args:
        calls: How the model writes them.
        special: Texts of the tokenizer's special tokens: a tag may be one.

    Raises: as `output_format`, and `ApiError` for what cannot be promised.
    """
    wanted = output_format(request.response_format, request.structured_outputs)
    if use.choice == "none":
        return wanted
    if calls is None:
        raise unsupported(
            "tools",
            "it does not know how this model writes calls. Leave them out, or start the server with "
            "--tool-call-parser.",
        )
    if wanted is not None and not is_json(wanted):
        raise _together()
    is_strict = any(function.strict for function in use.functions)
    if use.choice == "auto" and wanted is None and not is_strict and not use.is_narrowed:
        return None
    shape = calls.shape
    is_text = use.choice == "auto" and wanted is None
    if is_text and not (shape.tag or shape.content):
        raise unsupported(
            _constrained_by(use, wanted),
            "calls in the format of this model have no tag that tells them from text, so they are held to "
            "where they must come. Set tool_choice to required or to a function, or leave out strict.",
        )
    _check_functions(use.functions)
    parameters = {function.name: _parameters(function) for function in use.functions}
    try:
        grammar = CallGrammar(shape, parameters, special, is_parallel=use.is_parallel)
    except NotHeldError as error:
        raise unsupported(
            "tools", f"in the format of this model the arguments cannot be held to {error}."
        ) from None
    schemas = grammar.schemas
    tools = "functions" if request.functions else "tools"
    parameter = tools if wanted is None else wanted.parameter
    if use.choice == "required":
        text, parameter = grammar.of_calls(), tools
    elif wanted is None:
        text = grammar.of_text_and_calls()
    else:
        text = grammar.of_calls_or_content()
        schemas["content"] = wanted.schema
    places = _places(request, use, tools, schemas)
    return StructuredOutputsParams(
        grammar=text, schemas=schemas, places=places, parameter=parameter
    )


def _places(
    request: ChatCompletionRequest, use: ToolUse, field: str, schemas: Mapping[str, object]
) -> dict[str, str]:
    """Where in the request the tool of each schema stands, and its name."""
    positions = {tool.function.name: place for place, tool in enumerate(request.tools or [])}
    found: dict[str, str] = {}
    for key in schemas:
        if number := _OF_TOOL.match(key):
            name = use.functions[int(number[1])].name
            found[key] = f"{json_path(field, positions[name])} ({name})"
    return found


def _constrained_by(use: ToolUse, wanted: StructuredOutputsParams | None) -> str:
    if use.choice == "required" or use.is_narrowed:
        return "tool_choice"
    return "tools" if wanted is None else wanted.parameter


def _check_functions(functions: Sequence[FunctionDefinition]) -> None:
    for function in functions:
        if not _NAME.fullmatch(function.name):
            raise invalid_value(
                "tools",
                f"The name {quoted(function.name)} cannot be held to; use letters, digits, _, -, . and :.",
            )
        if first_unsafe_number(function.parameters) is not None:
            raise invalid_value(
                "tools",
                f"The parameters of {quoted(function.name)} hold a number that cannot be held to exactly.",
            )


def _together() -> ApiError:
    return unsupported(
        "structured_outputs",
        "together with tools it takes json and json_object alone. Set tool_choice to none, or leave out "
        "one of the two.",
    )


def _parameters(function: FunctionDefinition) -> dict[str, Any]:
    """Left out means none, as OpenAI has it. Without `strict` the model is trusted with the schema where it
    decides itself, and is held to it where it must call."""
    return _NO_PARAMETERS if function.parameters is None else of_arguments(function.parameters)
