"""Request of a response, and what is made of each of its fields.

As in chats a field is taken, without effect, known but not implemented (refused unless its value changes
nothing), or unknown (refused).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from octavo.json_path import json_path
from octavo.server.openai.api_errors import invalid_value, quoted, unsupported
from octavo.server.openai.as_sent import AsSent
from octavo.server.openai.protocol import SampledRequest, Whole, check_extra, validated
from octavo.server.openai.responses_api.input_items import InputItem, check_kinds

LOGPROBS = "message.output_text.logprobs"
# Known, not implemented: the values that ask for nothing are let through.
_NOT_IMPLEMENTED: dict[str, tuple[Any, ...]] = {
    "access_programs": (None, {}),
    "background": (None, False),
    "context_management": (None, []),
    "conversation": (None,),
    "ec_transfer_params": (None,),
    "enable_response_messages": (None, False),
    "image": (None, {}),
    "kv_transfer_params": (None,),
    "media_io_kwargs": (None, {}),
    "mm_payload": (None, "tensors"),
    "mm_processor_kwargs": (None, {}),
    "moderation": (None,),
    "previous_input_messages": (None, []),
    "previous_response_id": (None,),
    "prompt": (None,),
    "return_mm_kwargs": (None, False),
    "vllm_xargs": (None, {}),
    "watermarking": (None, False),
}
_INSTEAD = {
    "background": "Leave it out, and stream the answer where it takes long.",
    "conversation": "Answers are not kept: send the conversation's items as input.",
    "previous_response_id": "Answers are not kept: send the items of the conversation as input.",
    "prompt": "Templates of prompts are not kept: send instructions and input.",
}


class FunctionTool(AsSent):
    """Of what says how OpenAI's own loop calls a function, what a plain call is."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["function"]
    name: str = Field(min_length=1, max_length=64)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    async_: Literal[False] | None = Field(default=None, alias="async")
    allowed_callers: list[Literal["direct"]] | None = None
    defer_loading: Literal[False] | None = None
    output_schema: None = None


class TextFormat(BaseModel):
    """`strict` or not, the answer keeps to the schema."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextConfig(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None

    def check(self) -> None:
        """Raises `ApiError` where a schema has no name, or a name no schema."""
        if self.format is None or self.format.type != "json_schema":
            return
        for name, value in (("name", self.format.name), ("schema", self.format.schema_)):
            if value is None:
                raise invalid_value(
                    f"text.format.{name}",
                    f"Missing required parameter: text.format.{name}.",
                    code="missing_required_parameter",
                )


class ReasoningConfig(BaseModel):
    """A summary is refused: what the model thought comes as it is."""

    model_config = ConfigDict(strict=True, extra="forbid")

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: None = None
    generate_summary: None = None
    context: Literal["auto"] | None = None
    mode: Literal["standard"] | None = None


class ObfuscationOptions(BaseModel):
    """`include_obfuscation` pads events on OpenAI's side and changes no token: accepted."""

    model_config = ConfigDict(strict=True, extra="forbid")

    include_obfuscation: bool | None = None


class CacheOptions(BaseModel):
    """Without effect but for what would change the answer: no output at all, or diagnostics in it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    mode: Literal["implicit", "explicit"] | None = None
    ttl: Literal["30m", "12h"] | None = None
    prewarm: Literal[False] | None = None
    comparison_response_id: None = None


class ResponsesRequest(SampledRequest, AsSent):
    """`POST /v1/responses`. What `include` asks of tools that are not there it asks of nothing."""

    input: str | list[InputItem]
    instructions: str | None = None
    max_output_tokens: Whole | None = None
    # Of OpenAI's built-in tools alone, none of which is taken.
    max_tool_calls: Annotated[int, Field(ge=1, lt=2**63)] | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    truncation: Literal["auto", "disabled"] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: (
        list[
            Literal[
                "code_interpreter_call.outputs",
                "computer_call_output.output.image_url",
                "file_search_call.results",
                "message.input_image.image_url",
                "message.output_text.logprobs",
                "reasoning.encrypted_content",
                "web_search_call.action.sources",
                "web_search_call.results",
            ]
        ]
        | None
    ) = None
    stream_options: ObfuscationOptions | None = None
    prompt_cache_options: CacheOptions | None = None
    service_tier: (
        Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"] | None
    ) = None
    chat_template_kwargs: dict[str, Any] | None = None

    @classmethod
    def parse(cls, document: dict[str, object]) -> Self:
        """Validates a decoded JSON document. Raises `ApiError` (400) that names the field."""
        check_kinds(document.get("input"))
        _check_tools(document.get("tools"))
        request = validated(cls, document)
        for name, value in (request.model_extra or {}).items():
            if value is not None and value is not False and name in _INSTEAD:
                raise unsupported(name, f"it is {quoted(value)}. {_INSTEAD[name]}")
            check_extra(name, value, _NOT_IMPLEMENTED)
        if request.text is not None:
            request.text.check()
        if request.truncation == "auto":
            raise unsupported("truncation", "it is 'auto'. Leave out what does not fit yourself.")
        if request.top_logprobs and not request.has_logprobs:
            raise invalid_value(
                "top_logprobs",
                f"top_logprobs is {request.top_logprobs}; it is only allowed with include: [{LOGPROBS!r}].",
            )
        if request.stream_options is not None and not request.stream:
            raise invalid_value(
                "stream_options", "stream_options is only allowed together with stream: true."
            )
        return request

    @property
    def has_logprobs(self) -> bool:
        return LOGPROBS in (self.include or [])


def _check_tools(tools: object) -> None:
    """OpenAI's own tools by name, before members that they do not have are missed."""
    for place, tool in enumerate(tools if isinstance(tools, list) else []):
        if isinstance(tool, dict) and "type" in tool and tool["type"] != "function":
            raise unsupported(
                json_path("tools", place, "type"),
                f"it is {quoted(tool['type'])}, which this server does not run. Use function.",
            )
