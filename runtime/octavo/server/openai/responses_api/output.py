"""Output items of a response, and the events that tell of them, from the pieces of a model's answer.

Pure. A whole answer is made of the same steps as a streamed one, so both hold the same items.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence

from octavo.server.openai.answers import TokenLogprob
from octavo.server.openai.responses_api.events import (
    ArgumentsDelta,
    ArgumentsDone,
    Event,
    ItemAdded,
    ItemDone,
    PartAdded,
    PartDone,
    ReasoningDelta,
    ReasoningDone,
    TextDelta,
    TextDone,
)
from octavo.server.openai.responses_api.objects import (
    FunctionCall,
    ItemStatus,
    OutputItem,
    OutputMessage,
    OutputText,
    ReasoningOutput,
    ReasoningText,
)


class ResponseOutput:
    """Of one response. Each method gives the events that are due.

    Attributes:
        items: Those that are done.
    """

    def __init__(self) -> None:
        self.items: list[OutputItem] = []
        self._open: _Text | _Reasoning | _Call | None = None

    @property
    def is_in_text(self) -> bool:
        return isinstance(self._open, _Text)

    def text(self, text: str, logprobs: Sequence[TokenLogprob] = ()) -> Iterator[Event]:
        """Content of the model's message."""
        if not isinstance(self._open, _Text):
            yield from self._end_item("completed")
            self._open = _Text(len(self.items))
            yield from self._open.begin()
        yield from self._open.add(text, logprobs)

    def reasoning(self, text: str) -> Iterator[Event]:
        if not isinstance(self._open, _Reasoning):
            yield from self._end_item("completed")
            self._open = _Reasoning(len(self.items))
            yield from self._open.begin()
        yield from self._open.add(text)

    def call(self, call_id: str, name: str) -> Iterator[Event]:
        """Of a function."""
        yield from self._end_item("completed")
        self._open = _Call(len(self.items), call_id, name)
        yield from self._open.begin()

    def arguments(self, text: str) -> Iterator[Event]:
        if isinstance(self._open, _Call):
            yield from self._open.add(text)

    def call_end(self) -> Iterator[Event]:
        yield from self._close("completed")

    def end(self, *, is_cut: bool) -> Iterator[Event]:
        """An answer without anything in it is an empty message."""
        if not self.items and self._open is None:
            self._open = _Text(0)
            yield from self._open.begin()
        yield from self._end_item("incomplete" if is_cut else "completed")

    def standing(self) -> list[OutputItem]:
        """All items as they stand, what is still open included."""
        return [*self.items, *([] if self._open is None else [self._open.item("incomplete")])]

    def _end_item(self, status: ItemStatus) -> Iterator[Event]:
        """A call of which no end came is never whole."""
        yield from self._close("incomplete" if isinstance(self._open, _Call) else status)

    def _close(self, status: ItemStatus) -> Iterator[Event]:
        if self._open is not None:
            yield from self._open.end(status)
            self.items.append(self._open.item(status))
            self._open = None


class _Text:
    """A message that is being written."""

    def __init__(self, place: int) -> None:
        self._place = place
        self._id = _new_id("msg")
        self._texts: list[str] = []
        self._logprobs: list[TokenLogprob] = []

    def begin(self) -> Iterator[Event]:
        empty = OutputMessage(id=self._id, status="in_progress", content=[])
        yield ItemAdded(output_index=self._place, item=empty)
        yield PartAdded(output_index=self._place, item_id=self._id, part=OutputText(text=""))

    def add(self, text: str, logprobs: Sequence[TokenLogprob]) -> Iterator[Event]:
        self._texts.append(text)
        self._logprobs += logprobs
        yield TextDelta(
            output_index=self._place, item_id=self._id, delta=text, logprobs=list(logprobs)
        )

    def end(self, status: ItemStatus) -> Iterator[Event]:
        part = self._part()
        yield TextDone(
            output_index=self._place, item_id=self._id, text=part.text, logprobs=part.logprobs
        )
        yield PartDone(output_index=self._place, item_id=self._id, part=part)
        yield ItemDone(output_index=self._place, item=self.item(status))

    def item(self, status: ItemStatus) -> OutputMessage:
        return OutputMessage(id=self._id, status=status, content=[self._part()])

    def _part(self) -> OutputText:
        return OutputText(text="".join(self._texts), logprobs=self._logprobs)


class _Reasoning:
    """Thoughts that are being written."""

    def __init__(self, place: int) -> None:
        self._place = place
        self._id = _new_id("rs")
        self._texts: list[str] = []

    def begin(self) -> Iterator[Event]:
        empty = ReasoningOutput(id=self._id, status="in_progress", content=[])
        yield ItemAdded(output_index=self._place, item=empty)
        yield PartAdded(output_index=self._place, item_id=self._id, part=ReasoningText(text=""))

    def add(self, text: str) -> Iterator[Event]:
        self._texts.append(text)
        yield ReasoningDelta(output_index=self._place, item_id=self._id, delta=text)

    def end(self, status: ItemStatus) -> Iterator[Event]:
        part = self._part()
        yield ReasoningDone(output_index=self._place, item_id=self._id, text=part.text)
        yield PartDone(output_index=self._place, item_id=self._id, part=part)
        yield ItemDone(output_index=self._place, item=self.item(status))

    def item(self, status: ItemStatus) -> ReasoningOutput:
        return ReasoningOutput(id=self._id, status=status, content=[self._part()])

    def _part(self) -> ReasoningText:
        return ReasoningText(text="".join(self._texts))


class _Call:
    """Arguments that are being written."""

    def __init__(self, place: int, call_id: str, name: str) -> None:
        self._place = place
        self._id = _new_id("fc")
        self._call_id = call_id
        self._name = name
        self._texts: list[str] = []

    def begin(self) -> Iterator[Event]:
        yield ItemAdded(output_index=self._place, item=self.item("in_progress"))

    def add(self, text: str) -> Iterator[Event]:
        self._texts.append(text)
        yield ArgumentsDelta(output_index=self._place, item_id=self._id, delta=text)

    def end(self, status: ItemStatus) -> Iterator[Event]:
        done = self.item(status)
        yield ArgumentsDone(
            output_index=self._place,
            item_id=self._id,
            name=self._name,
            arguments=done.arguments,
        )
        yield ItemDone(output_index=self._place, item=done)

    def item(self, status: ItemStatus) -> FunctionCall:
        return FunctionCall(
            id=self._id,
            call_id=self._call_id,
            name=self._name,
            arguments="".join(self._texts),
            status=status,
        )


def _new_id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"
