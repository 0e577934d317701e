"""Objects of an answer and events of a stream, as Anthropic has them."""

from __future__ import annotations

from typing import Any

import msgspec

from octavo.server.openai.answers import Usage


class TextOut(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    text: str
    citations: None = None


class ThinkingOut(msgspec.Struct, frozen=True, tag_field="type", tag="thinking"):
    """Nothing is signed: thoughts come in the open, and go back so."""

    thinking: str
    signature: str = ""


class Caller(msgspec.Struct, frozen=True, tag_field="type", tag="direct"):
    """The model itself calls, and no program of it."""


class ToolUseOut(msgspec.Struct, frozen=True, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]
    caller: Caller = Caller()


BlockOut = TextOut | ThinkingOut | ToolUseOut


class ThinkingDetails(msgspec.Struct, frozen=True):
    thinking_tokens: int


class MessageUsage(msgspec.Struct, frozen=True):
    """`input_tokens` are those that the prefix cache did not have; what is written to it is not counted. What
    is null is of Anthropic's own tools, prices and places."""

    input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: ThinkingDetails | None = None
    cache_creation_input_tokens: int = 0
    cache_creation: None = None
    server_tool_use: None = None
    service_tier: None = None
    inference_geo: None = None

    @classmethod
    def of(cls, usage: Usage) -> MessageUsage:
        cached = usage.prompt_tokens_details.cached_tokens
        count = usage.reasoning_tokens
        thought = None if count is None else ThinkingDetails(count)
        return cls(usage.prompt_tokens - cached, cached, usage.completion_tokens, thought)


class MessageOut(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="message"):
    id: str
    role: str = "assistant"
    model: str
    content: list[BlockOut]
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: None = None
    container: None = None
    usage: MessageUsage


class TokensCount(msgspec.Struct, frozen=True):
    input_tokens: int


class TextDelta(msgspec.Struct, frozen=True, tag_field="type", tag="text_delta"):
    text: str


class ThinkingDelta(msgspec.Struct, frozen=True, tag_field="type", tag="thinking_delta"):
    thinking: str


class InputDelta(msgspec.Struct, frozen=True, tag_field="type", tag="input_json_delta"):
    partial_json: str


class MessageStart(msgspec.Struct, frozen=True, tag_field="type", tag="message_start"):
    message: MessageOut


class BlockStart(msgspec.Struct, frozen=True, tag_field="type", tag="content_block_start"):
    index: int
    content_block: BlockOut


class BlockDelta(msgspec.Struct, frozen=True, tag_field="type", tag="content_block_delta"):
    index: int
    delta: TextDelta | ThinkingDelta | InputDelta


class BlockStop(msgspec.Struct, frozen=True, tag_field="type", tag="content_block_stop"):
    index: int


class Stop(msgspec.Struct, frozen=True):
    stop_reason: str
    stop_sequence: str | None
    stop_details: None = None
    container: None = None


class MessageDelta(msgspec.Struct, frozen=True, tag_field="type", tag="message_delta"):
    delta: Stop
    usage: MessageUsage


class MessageStop(msgspec.Struct, frozen=True, tag_field="type", tag="message_stop"): ...


Event = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop
