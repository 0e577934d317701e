"""Message of a chat, as clients write it: types are checked here, what it means in `octavo.chat.messages`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from octavo.server.openai.as_sent import AsSent


class ContentPart(BaseModel):
    """A part of a message. Only `text` can be understood by the models that are served."""

    model_config = ConfigDict(strict=True, extra="allow")

    type: str
    text: str | None = None


class FunctionCall(BaseModel):
    """`arguments` is JSON in a string, as OpenAI has it."""

    model_config = ConfigDict(strict=True, extra="allow")

    name: str
    arguments: str = "{}"


class ToolCall(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    id: str | None = None
    type: str = "function"
    function: FunctionCall


class ChatMessage(AsSent):
    """One message. Clients send answers back as they came, so unknown fields are let through."""

    model_config = ConfigDict(strict=True, extra="allow")

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
