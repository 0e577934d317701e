"""Requests of messages, and what is made of each of their fields."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from octavo.json_path import json_path
from octavo.server.anthropic.blocks import Message, TextBlock, check_kinds
from octavo.server.openai.api_errors import quoted, unsupported
from octavo.server.openai.as_sent import AsSent
from octavo.server.openai.protocol import Whole, check_extra, validated

# Known, not implemented: the values that ask for nothing are let through.
_NOT_IMPLEMENTED: dict[str, tuple[Any, ...]] = {
    "container": (None,),
    "context_management": (None,),
    "diagnostics": (None,),
    "ec_transfer_params": (None,),
    "inference_geo": (None,),
    "kv_transfer_params": (None,),
    "mcp_servers": (None, []),
    "mm_payload": (None, "tensors"),
    "return_mm_kwargs": (None, False),
    "speed": (None, "standard"),
    "user_profile_id": (None,),
    "vllm_xargs": (None, {}),
    "watermarking": (None, False),
    "workspace_id": (None,),
}


class MessageTool(AsSent):
    """Of what says how Anthropic's own loop calls a tool, what a plain call is."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["custom"] | None = None
    name: str = Field(min_length=1, max_length=64)
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None
    cache_control: dict[str, Any] | None = None
    eager_input_streaming: bool | None = None
    allowed_callers: list[Literal["direct"]] | None = None
    defer_loading: Literal[False] | None = None


class ToolChoice(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(BaseModel):
    """A model thinks as it was trained to: a number of tokens cannot be promised."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["adaptive", "disabled"]
    display: Literal["summarized", "omitted"] | None = None


class MessageSchema(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    format: MessageSchema | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None


class Metadata(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    user_id: str | None = None


class CountTokensRequest(AsSent):
    """`POST /v1/messages/count_tokens`. Cache breakpoints have no effect: every prefix is cached."""

    model_config = ConfigDict(strict=True, extra="allow")

    model: str
    messages: list[Message]
    system: str | list[TextBlock] | None = None
    tools: list[MessageTool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    cache_control: dict[str, Any] | None = None
    # vLLM's.
    chat_template_kwargs: dict[str, Any] | None = None

    @classmethod
    def parse(cls, document: dict[str, object]) -> Self:
        """Validates a decoded JSON document. Raises `ApiError` (400) that names the field."""
        check_kinds(document)
        _check_tools(document.get("tools"))
        request = validated(cls, document)
        for name, value in (request.model_extra or {}).items():
            check_extra(name, value, _NOT_IMPLEMENTED)
        if request.messages and request.messages[-1].role == "assistant":
            raise unsupported(
                json_path("messages", len(request.messages) - 1),
                "it is the assistant's, to be continued. End with a message of the user.",
            )
        return request


class MessagesRequest(CountTokensRequest):
    """`POST /v1/messages`."""

    max_tokens: Whole
    stop_sequences: list[str] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: float | None = None
    top_k: Whole | None = None
    stream: bool | None = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    # vLLM's.
    seed: Whole | None = None
    ignore_eos: bool | None = None
    priority: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = None
    cache_salt: Annotated[str, Field(min_length=1, max_length=256)] | None = None


def _check_tools(tools: object) -> None:
    """Anthropic's own tools by name, before members that they do not have are missed."""
    for place, tool in enumerate(tools if isinstance(tools, list) else []):
        if isinstance(tool, dict) and tool.get("type") not in (None, "custom"):
            raise unsupported(
                json_path("tools", place, "type"),
                f"it is {quoted(tool['type'])}, which this server does not run. Use custom.",
            )
