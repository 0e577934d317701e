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
from octavo.server.openai.parsing.schema_types import decoded


class MessageOutput:
    """Of one message. Each method gives the events that are due.

    Attributes:
        blocks: Those that are done.
    """

    def __init__(self) -> None:
        self.blocks: list[BlockOut] = []
        self._open: BlockOut | None = None
        self._texts: list[str] = []

    @property
    def has_calls(self) -> bool:
        return any(isinstance(block, ToolUseOut) for block in self.blocks)

    @property
    def is_in_text(self) -> bool:
        return isinstance(self._open, TextOut)

    def text(self, text: str, logprobs: Sequence[TokenLogprob] = ()) -> Iterator[Event]:
        """Content; Anthropic has no log-probabilities."""
        yield from self._begin(TextOut)
        self._texts.append(text)
        yield BlockDelta(len(self.blocks), TextDelta(text))

    def reasoning(self, text: str) -> Iterator[Event]:
        yield from self._begin(ThinkingOut)
        self._texts.append(text)
        yield BlockDelta(len(self.blocks), ThinkingDelta(text))

    def call(self, call_id: str, name: str) -> Iterator[Event]:
        """Of a tool."""
        yield from self._end_block()
        self._open = ToolUseOut(call_id, name, {})
        yield BlockStart(len(self.blocks), self._open)

    def arguments(self, text: str) -> Iterator[Event]:
        self._texts.append(text)
        if self._texts[0].startswith("{"):
            yield BlockDelta(len(self.blocks), InputDelta(text))

    def call_end(self) -> Iterator[Event]:
        yield from self._end_block()

    def end(self, *, is_cut: bool) -> Iterator[Event]:
        """An answer without anything in it has no blocks."""
        yield from self._end_block()

    def _begin(self, kind: type[TextOut | ThinkingOut]) -> Iterator[Event]:
        if not isinstance(self._open, kind):
            yield from self._end_block()
            self._open = kind("")
            yield BlockStart(len(self.blocks), self._open)

    def _end_block(self) -> Iterator[Event]:
        if self._open is not None:
            index, block = len(self.blocks), _whole(self._open, "".join(self._texts))
            if isinstance(block, ToolUseOut) and not "".join(self._texts[:1]).startswith("{"):
                given = msgspec.json.encode(block.input).decode()
                yield BlockDelta(index, InputDelta(given))
            yield BlockStop(index)
            self.blocks.append(block)
            self._open = None
            self._texts = []


def _whole(block: BlockOut, text: str) -> BlockOut:
    if isinstance(block, ToolUseOut):
        return ToolUseOut(block.id, block.name, _object(text))
    return type(block)(text)


def _object(arguments: str) -> dict[str, Any]:
    """A client gets an object; what else a model wrote, or could not finish, is a member of one."""
    value = decoded(arguments)
    if isinstance(value, dict):
        return value
    return {"arguments": arguments if value is None else value}
