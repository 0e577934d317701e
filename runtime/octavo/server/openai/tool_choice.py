"""Tool choice. Which calls a request lets the model make, and the grammar that holds it to them.

Calls are written as the model's parser reads them; what the model may write freely is not constrained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from octavo.schema_numbers import first_unsafe_number
from octavo.server.openai.api_errors import ApiError, invalid_value, quoted, unsupported
from octavo.server.openai.call_schema import closed
from octavo.server.openai.output_format import is_json, output_format
from octavo.server.openai.parsing.formats import CallFormat, TaggedJson, Tools
from octavo.server.openai.protocol import ChatCompletionRequest, FunctionDefinition, Tool
from octavo.structured_outputs import StructuredOutputsParams

_NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}


@dataclass(frozen=True, slots=True)
class ToolUse:
    """What a checked request asks for.

    Args:
        told: The tools that the template is given, as the client sent them.
        functions: Those that may be called; empty when none may.
        choice: `none`: no call, `auto`: text and calls, `required`: calls alone.
        is_parallel: More than one call may be made.
    """

    told: list[dict[str, Any]] | None
    functions: tuple[FunctionDefinition, ...]
    choice: Literal["none", "auto", "required"]
    is_parallel: bool

    @property
    def max_calls(self) -> int | None:
        return None if self.is_parallel else 1

    @property
    def callable(self) -> Tools:
        """Those that may be called, with the schema of their parameters."""
        return {function.name: function.parameters for function in self.functions}


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
        case {"type": "function", "function": {"name": str(name)}}:
            chosen = tuple(function for function in functions if function.name == name)
            if not chosen:
                raise invalid_value(
                    "tool_choice", f"tool_choice names {quoted(name)}, which is none of the tools."
                )
            return ToolUse(told, chosen, "required", is_parallel=False)
    raise unsupported(
        "tool_choice",
        f"it is {quoted(choice)}. Use none, auto, required or the name of a function.",
    )


def _check(tools: list[Tool]) -> None:
    names: set[str] = set()
    for position, tool in enumerate(tools):
        if tool.type != "function":
            raise unsupported(f"tools.{position}.type", f"it is {quoted(tool.type)}. Use function.")
        name = tool.function.name
        if name in names:
            raise invalid_value(
                f"tools.{position}.function.name", f"The name {quoted(name)} comes twice in tools."
            )
        names.add(name)


def answer_format(
    request: ChatCompletionRequest,
    use: ToolUse,
    calls: CallFormat | None,
    special: Mapping[int, str],
) -> StructuredOutputsParams | None:
    """What the whole answer must be: of calls, of text, or either. None constrains nothing.

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
    is_strict = any(function.strict for function in use.functions)
    if use.choice == "auto" and wanted is None and not is_strict:
        return None
    if not isinstance(calls, TaggedJson):
        raise unsupported(
            "tool_choice"
            if use.choice == "required"
            else "tools"
            if is_strict
            else "response_format",
            "calls of this model cannot be held to a form. Leave the choice to the model, without strict and "
            "response_format.",
        )
    if use.choice == "auto" and wanted is not None and not is_json(wanted):
        raise _together()
    _check_numbers(use.functions)
    content = wanted.schema if wanted is not None and use.choice == "auto" else None
    parameter = "tools" if wanted is None else wanted.parameter
    return StructuredOutputsParams(
        grammar=_grammar(use, calls, content, special), parameter=parameter
    )


def _check_numbers(functions: Sequence[FunctionDefinition]) -> None:
    for function in functions:
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


def _grammar(
    use: ToolUse,
    calls: TaggedJson,
    content: Mapping[str, Any] | None,
    special: Mapping[int, str],
) -> str:
    """In Lark's syntax with llguidance's additions."""
    opening, closing = _tag(calls.openings[0], special), _tag(calls.closing, special)
    objects = " | ".join(f"object_{number}" for number in range(len(use.functions)))
    rules = [rf'call: {opening} "\n" ({objects}) "\n" {closing}']
    for number, function in enumerate(use.functions):
        begin = json.dumps(f'{{"name": {json.dumps(function.name)}, "arguments": ')
        schema = json.dumps(_parameters(function))
        rules.append(f'object_{number}: {begin} %json {schema} "}}"')
    several = r'call ("\n" call)*' if use.is_parallel else "call"
    if use.choice == "required":
        rules.append(f"start: {several}")
    elif content is not None:
        rules += [f"start: content | {several}", f"content: %json {json.dumps(content)}"]
    else:
        # A lazy lexeme ends at the first tag: from there on it is a call.
        rules[0] = rf'call: begin "\n" ({objects}) "\n" {closing}'
        rules += [
            f"begin[lazy]: TEXT {opening}",
            f"start: call{'*' if use.is_parallel else '?'} TEXT",
            r"TEXT: /(.|\n)*/",
        ]
    return "\n".join(["%llguidance {}", *rules])


def _parameters(function: FunctionDefinition) -> dict[str, Any]:
    """Left out means none, as OpenAI has it. Without `strict` the model is trusted with the schema where it
    decides itself, and is held to it where it must call."""
    return _NO_PARAMETERS if function.parameters is None else closed(function.parameters)


def _tag(text: str, special: Mapping[int, str]) -> str:
    for token_id, token in special.items():
        if token == text:
            return f"<[{token_id}]>"
    return json.dumps(text)
