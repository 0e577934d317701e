"""Objects of an answer: the response and the items that it is made of, as OpenAI has them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from octavo.server.openai.answers import TokenLogprob, Usage

ItemStatus = Literal["in_progress", "completed", "incomplete"]
ResponseStatus = Literal["in_progress", "completed", "incomplete", "failed"]


class OutputText(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="output_text"):
    text: str
    annotations: list[dict[str, Any]] = []
    logprobs: list[TokenLogprob] = []


class OutputMessage(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="message"):
    id: str
    status: ItemStatus
    role: str = "assistant"
    content: list[OutputText]


class FunctionCall(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="function_call"
):
    id: str
    call_id: str
    name: str
    arguments: str
    status: ItemStatus


class ReasoningText(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="reasoning_text"
):
    text: str


class ReasoningOutput(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="reasoning"):
    """All that the model thought, and no summary of it."""

    id: str
    summary: list[dict[str, Any]] = []
    content: list[ReasoningText]
    encrypted_content: None = None
    status: ItemStatus


OutputItem = OutputMessage | FunctionCall | ReasoningOutput


class InputTokensDetails(msgspec.Struct, frozen=True):
    """What is written to the prefix cache is not counted by request."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int


class ResponseUsage(msgspec.Struct, frozen=True):
    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int

    @classmethod
    def of(cls, usage: Usage) -> ResponseUsage:
        return cls(
            usage.prompt_tokens,
            InputTokensDetails(usage.prompt_tokens_details.cached_tokens),
            usage.completion_tokens,
            OutputTokensDetails(usage.reasoning_tokens or 0),
            usage.total_tokens,
        )


class IncompleteDetails(msgspec.Struct, frozen=True):
    reason: str


class ResponseError(msgspec.Struct, frozen=True):
    """`code` is one of OpenAI's few; the stream's `error` event has the server's own."""

    code: str
    message: str


class ResponseObject(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for comes back beside what was made of it; `store` is what the server does."""

    id: str
    object: str = "response"
    created_at: int
    completed_at: int | None = None
    status: ResponseStatus
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    model: str
    output: list[OutputItem] = []
    usage: ResponseUsage | msgspec.UnsetType = msgspec.UNSET
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    temperature: float
    top_p: float
    top_logprobs: int
    tools: list[dict[str, Any]]
    tool_choice: str | dict[str, Any]
    parallel_tool_calls: bool
    text: dict[str, Any]
    reasoning: dict[str, Any]
    metadata: dict[str, str]
    user: str | msgspec.UnsetType = msgspec.UNSET
    safety_identifier: str | msgspec.UnsetType = msgspec.UNSET
    prompt_cache_key: str | msgspec.UnsetType = msgspec.UNSET
    background: bool = False
    previous_response_id: None = None
    service_tier: str = "default"
    store: bool = False
    truncation: str = "disabled"


class InputTokens(msgspec.Struct, frozen=True):
    """What the items of a response would cost."""

    input_tokens: int
    object: str = "response.input_tokens"
