"""Calls in a chat's answer: whole, and as the `tool_calls` of a streamed delta."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from octavo.server.openai.answers import FunctionOut, ToolCallOut
from octavo.server.openai.parsing.pieces import Arguments, CallBegin, Piece

_encode = msgspec.json.Encoder().encode


def calls_of(pieces: Iterable[Piece]) -> list[ToolCallOut]:
    """Each with all of its arguments."""
    calls: list[tuple[CallBegin, list[str]]] = []
    for piece in pieces:
        if isinstance(piece, CallBegin):
            calls.append((piece, []))
        elif isinstance(piece, Arguments):
            calls[-1][1].append(piece.text)
    return [
        ToolCallOut(id=call.id, function=FunctionOut(call.name, "".join(texts)))
        for call, texts in calls
    ]


class CallFields:
    """A streamed call as `tool_calls`."""

    def begin(self, call: CallBegin, number: int) -> bytes:
        """The `delta` that a call begins with, `number` of its choice."""
        function = FunctionOut(call.name, "")
        delta = {"index": number, "id": call.id, "type": "function", "function": function}
        return b'"delta":{"tool_calls":[' + _encode(delta) + b"]}"

    def arguments(self, text: str, number: int) -> bytes:
        """The `delta` of more arguments."""
        return b'"delta":{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}' % (
            number,
            _encode(text),
        )


class FunctionCallFields(CallFields):
    """The one that an answer has, as `function_call`."""

    def begin(self, call: CallBegin, number: int) -> bytes:
        return b'"delta":{"function_call":' + _encode(FunctionOut(call.name, "")) + b"}"

    def arguments(self, text: str, number: int) -> bytes:
        return b'"delta":{"function_call":{"arguments":' + _encode(text) + b"}}"
