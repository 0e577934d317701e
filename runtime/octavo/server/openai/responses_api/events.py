"""Events of a streamed response, each with its type and number, as OpenAI has them."""

from __future__ import annotations

import msgspec

from octavo.server.openai.answers import TokenLogprob
from octavo.server.openai.responses_api.objects import (
    OutputItem,
    OutputText,
    ReasoningText,
    ResponseObject,
)


class Event(msgspec.Struct, kw_only=True, tag_field="type"):
    """`sequence_number` counts a stream's events; it is set when the event is sent."""

    sequence_number: int = 0


class _OfResponse(Event, kw_only=True):
    response: ResponseObject


class Created(_OfResponse, tag="response.created"): ...


class InProgress(_OfResponse, tag="response.in_progress"): ...


class Completed(_OfResponse, tag="response.completed"): ...


class Incomplete(_OfResponse, tag="response.incomplete"): ...


class Failed(_OfResponse, tag="response.failed"): ...


class ErrorEvent(Event, kw_only=True, tag="error"):
    code: str | None
    message: str
    param: str | None


class _OfItem(Event, kw_only=True):
    output_index: int
    item: OutputItem


class ItemAdded(_OfItem, tag="response.output_item.added"): ...


class ItemDone(_OfItem, tag="response.output_item.done"): ...


class _InItem(Event, kw_only=True):
    output_index: int
    item_id: str


class _OfPart(_InItem, kw_only=True):
    content_index: int = 0
    part: OutputText | ReasoningText


class PartAdded(_OfPart, tag="response.content_part.added"): ...


class PartDone(_OfPart, tag="response.content_part.done"): ...


class TextDelta(_InItem, kw_only=True, tag="response.output_text.delta"):
    content_index: int = 0
    delta: str
    logprobs: list[TokenLogprob] = []


class TextDone(_InItem, kw_only=True, tag="response.output_text.done"):
    content_index: int = 0
    text: str
    logprobs: list[TokenLogprob] = []


class ReasoningDelta(_InItem, kw_only=True, tag="response.reasoning_text.delta"):
    content_index: int = 0
    delta: str


class ReasoningDone(_InItem, kw_only=True, tag="response.reasoning_text.done"):
    content_index: int = 0
    text: str


class ArgumentsDelta(_InItem, kw_only=True, tag="response.function_call_arguments.delta"):
    delta: str


class ArgumentsDone(_InItem, kw_only=True, tag="response.function_call_arguments.done"):
    name: str
    arguments: str


class EventEncoder:
    """Numbers and encodes the events of one stream."""

    __slots__ = ("_encode", "_number")

    def __init__(self) -> None:
        self._encode = msgspec.json.Encoder().encode
        self._number = 0

    def __call__(self, event: Event) -> bytes:
        event.sequence_number = self._number
        self._number += 1
        kind = str(type(event).__struct_config__.tag).encode()
        return b"event: " + kind + b"\ndata: " + self._encode(event) + b"\n\n"
