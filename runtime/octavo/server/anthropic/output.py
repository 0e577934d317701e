"""Output blocks of a message, and the events that tell of them, from the pieces of a model's answer.

Pure. A whole answer is made of the same steps as a streamed one, so both hold the same blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from octavo.server.anthropic.objects import (
    BlockDelta,
    BlockOut,
    BlockStart,
    BlockStop,
    Event,
    InputDelta,
    TextDelta,
    TextOut,
    ThinkingDelta,
    ThinkingOut,
    ToolUseOut,
)
from octavo.server.openai.answers import TokenLogprob


class MessageOutput:
    """Of one message. Each method gives the events that are due.

    Attributes:
        blocks: Those that are done.
    """

    def __init__(self) -> None:
        self.blocks: list[BlockOut] = []
        self._kind: type[TextOut | ThinkingOut] | None = None
        self._texts: list[str] = []

    @property
    def has_calls(self) -> bool:
        return any(isinstance(block, ToolUseOut) for block in self.blocks)

    @property
    def is_in_text(self) -> bool:
        return self._kind is TextOut

    def text(self, text: str, logprobs: Sequence[TokenLogprob] = ()) -> Iterator[Event]:
        """Content; Anthropic has no log-probabilities."""
        yield from self._begin(TextOut)
        self._texts.append(text)
        yield BlockDelta(len(self.blocks), TextDelta(text))

    def reasoning(self, text: str) -> Iterator[Event]:
        yield from self._begin(ThinkingOut)
        self._texts.append(text)
        yield BlockDelta(len(self.blocks), ThinkingDelta(text))

    def call(self, call_id: str, name: str, arguments: str) -> Iterator[Event]:
        """Of a tool, whole."""
        yield from self._end_block()
        index = len(self.blocks)
        given = _object(arguments)
        yield BlockStart(index, ToolUseOut(call_id, name, {}))
        yield BlockDelta(index, InputDelta(msgspec.json.encode(given).decode()))
        yield BlockStop(index)
        self.blocks.append(ToolUseOut(call_id, name, given))

    def end(self, *, is_cut: bool) -> Iterator[Event]:
        """An answer without anything in it has no blocks."""
        yield from self._end_block()

    def _begin(self, kind: type[TextOut | ThinkingOut]) -> Iterator[Event]:
        if self._kind is not kind:
            yield from self._end_block()
            self._kind = kind
            yield BlockStart(len(self.blocks), kind(""))

    def _end_block(self) -> Iterator[Event]:
        if self._kind is not None:
            yield BlockStop(len(self.blocks))
            self.blocks.append(self._kind("".join(self._texts)))
            self._kind = None
            self._texts = []


def _object(arguments: str) -> dict[str, Any]:
    """A client gets an object; what else a model wrote is a member of one."""
    try:
        value = msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        value = arguments
    return value if isinstance(value, dict) else {"arguments": value}
