"""Output format: `response_format` as OpenAI has it, and `structured_outputs` as vLLM has it.

Both become one `StructuredOutputsParams`; the engine refuses what cannot be held to.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from octavo.server.openai.api_errors import invalid_value
from octavo.structured_outputs import StructuredOutputsParams


class JsonSchema(BaseModel):
    """`strict` or not, the answer keeps to the schema; without a schema it is any JSON object."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(BaseModel):
    """What the answer is, by its type."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["text", "json_object", "json_schema", "structural_tag"]
    json_schema: JsonSchema | None = None
    # vLLM's structural tag, in its newer form, and in its older one.
    format: dict[str, Any] | None = None
    structures: list[dict[str, Any]] | None = None
    triggers: list[str] | None = None


class StructuredOutputs(BaseModel):
    """One of these; see `StructuredOutputsParams`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    json_: dict[str, Any] | str | None = Field(default=None, alias="json")
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: dict[str, Any] | str | None = None
    # What vLLM leaves to its backend, of which there is one here.
    disable_fallback: bool | None = None
    disable_any_whitespace: Literal[False] | None = None
    disable_additional_properties: Literal[False] | None = None
    whitespace_pattern: None = None


_WITHOUT_EFFECT = {
    "disable_fallback",
    "disable_any_whitespace",
    "disable_additional_properties",
    "whitespace_pattern",
}


def output_format(
    response_format: ResponseFormat | None, structured_outputs: StructuredOutputs | None
) -> StructuredOutputsParams | None:
    """What the request asks for; None is text. Raises `ApiError` for a contradiction, and
    `InvalidParameterError`."""
    wanted = _of_response_format(response_format)
    if structured_outputs is None:
        return wanted
    if wanted is not None:
        raise invalid_value(
            "structured_outputs",
            "structured_outputs and response_format both say what the answer is. Leave one out.",
        )
    return StructuredOutputsParams(
        **structured_outputs.model_dump(by_alias=True, exclude=_WITHOUT_EFFECT)
    )


def _of_response_format(wanted: ResponseFormat | None) -> StructuredOutputsParams | None:
    if wanted is None:
        return None
    parameter = "response_format"
    if wanted.type == "json_schema" and wanted.json_schema is None:
        raise invalid_value(
            f"{parameter}.json_schema",
            "response_format has the type json_schema and no json_schema. Give it, with name and schema.",
            code="missing_required_parameter",
        )
    if wanted.type != "json_schema" and wanted.json_schema is not None:
        raise invalid_value(
            f"{parameter}.json_schema",
            "response_format.json_schema belongs to the type json_schema, and the type is "
            f"{wanted.type}. Leave one out.",
        )
    tag = {
        name: value
        for name in ("format", "structures", "triggers")
        if (value := getattr(wanted, name)) is not None
    }
    if wanted.type == "structural_tag" and not tag:
        raise invalid_value(
            f"{parameter}.format",
            "response_format has the type structural_tag and says no format. Give format, or structures "
            "and triggers.",
        )
    if tag and wanted.type != "structural_tag":
        name = next(iter(tag))
        raise invalid_value(
            f"{parameter}.{name}",
            f"response_format.{name} belongs to the type structural_tag, and the type is {wanted.type}. "
            "Leave one out.",
        )
    if tag:
        return StructuredOutputsParams(structural_tag=tag, parameter=parameter)
    if wanted.type == "text":
        return None
    if wanted.json_schema is not None and wanted.json_schema.schema_ is not None:
        return StructuredOutputsParams(json=wanted.json_schema.schema_, parameter=parameter)
    return StructuredOutputsParams(json_object=True, parameter=parameter)


def is_json(outputs: StructuredOutputsParams) -> bool:
    return outputs.json is not None or bool(outputs.json_object)
