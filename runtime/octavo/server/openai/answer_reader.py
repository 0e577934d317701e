"""Answer reader: what the model wrote goes through the parser into an API's own items or blocks, and
log-probabilities go to the text that their tokens made.

A token belongs to the first text that comes out with it or behind it; those of calls, thoughts and
the tags of thoughts to none.
Text is cut where tokens begin, so that this does not depend on how many of them arrived at once.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from octavo.engine.requests.marked_text import MarkedText
from octavo.server.openai.answers import TokenLogprob
from octavo.server.openai.parsing.answer import AnswerParser
from octavo.server.openai.parsing.pieces import (
    Arguments,
    CallBegin,
    CallEnd,
    Piece,
    Reasoning,
    merged,
)

E = TypeVar("E", covariant=True)


class Output(Protocol[E]):
    """What an API makes of the pieces of an answer; each method gives the events that are due."""

    @property
    def is_in_text(self) -> bool: ...

    def text(self, text: str, logprobs: Sequence[TokenLogprob] = ()) -> Iterator[E]: ...

    def reasoning(self, text: str) -> Iterator[E]: ...

    def call(self, call_id: str, name: str) -> Iterator[E]: ...

    def arguments(self, text: str) -> Iterator[E]:
        """More of those of the call that was begun last."""
        ...

    def call_end(self) -> Iterator[E]:
        """Its arguments are whole."""
        ...

    def end(self, *, is_cut: bool) -> Iterator[E]: ...


class AnswerReader(Generic[E]):
    """Of one completion. Without a parser all of its text is content."""

    def __init__(self, parser: AnswerParser | None, output: Output[E]) -> None:
        self._output = output
        self._parser = parser
        self._num_shown = 0
        self._ahead: deque[tuple[int, TokenLogprob]] = deque()
        self._pending: list[TokenLogprob] = []
        self._last_offset = 0

    def read(
        self,
        text: MarkedText,
        logprobs: Sequence[TokenLogprob] = (),
        offsets: Sequence[int] = (),
    ) -> Iterator[E]:
        """The next piece of text.

        Args:
            logprobs: Of the tokens that came with it; its own text may come later.
            offsets: Of each of these tokens, the characters of shown text before it.
        """
        if self._parser is None:
            if (shown := text.shown) or logprobs:
                yield from self._output.text(shown, logprobs)
            return
        self._ahead.extend(zip(offsets, logprobs, strict=True))
        if not self._ahead:
            yield from self._take(self._parser.push(text))
            return
        for piece in self._cut(text, self._parser):
            yield from self._take(self._parser.push(piece))

    def read_whole(
        self,
        text: MarkedText,
        logprobs: Sequence[TokenLogprob] = (),
        offsets: Sequence[int] = (),
        *,
        is_cut: bool,
    ) -> None:
        """All of an answer, of which nobody wants the events."""
        for _ in itertools.chain(self.read(text, logprobs, offsets), self.end(is_cut=is_cut)):
            pass

    def end(self, *, is_cut: bool) -> Iterator[E]:
        """No more text comes: it ended by itself, or was cut off."""
        if self._parser is not None:
            for offset, logprob in self._ahead:
                self._await(offset, logprob, self._parser)
            yield from self._take(self._parser.flush(is_cut=is_cut))
            if self._pending and self._output.is_in_text:
                yield from self._output.text("", self._pending)
        yield from self._output.end(is_cut=is_cut)

    def _take(self, pieces: Iterable[Piece]) -> Iterator[E]:
        for piece in merged([*pieces]):
            if isinstance(piece, str):
                yield from self._output.text(piece, self._pending)
            elif isinstance(piece, Reasoning):
                yield from self._output.reasoning(piece.text)
            elif isinstance(piece, CallBegin):
                yield from self._output.call(piece.id, piece.name)
            elif isinstance(piece, Arguments):
                yield from self._output.arguments(piece.text)
            elif isinstance(piece, CallEnd):
                yield from self._output.call_end()
            self._pending = []

    def _cut(self, text: MarkedText, parser: AnswerParser) -> Iterator[MarkedText]:
        """Piece by piece; before each the tokens that begin with it are pending."""
        places = _Places(text)
        end = self._num_shown + places.num_shown
        begin = 0
        while self._ahead and self._ahead[0][0] < end:
            offset, logprob = self._ahead.popleft()
            place = places.of(offset - self._num_shown)
            if place > begin:
                yield text[begin:place]
                begin = place
            self._await(offset, logprob, parser)
        self._num_shown = end
        if begin < len(text):
            yield text[begin:]

    def _await(self, offset: int, logprob: TokenLogprob, parser: AnswerParser) -> None:
        """The text of a token that comes next; of those that begin where it does the first may be hidden, or
        a part of its character."""
        if offset > self._last_offset and parser.is_in_reasoning:
            self._pending = []
        self._last_offset = offset
        if not parser.is_reasoning_tag(logprob.token):
            self._pending.append(logprob)


class _Places:
    """Of shown characters in a text with hidden ones, asked for in order."""

    def __init__(self, text: MarkedText) -> None:
        self._hidden = text.hidden
        self._next = 0
        self._num_hidden = 0
        self.num_shown = len(text) - sum(end - begin for begin, end in text.hidden)

    def of(self, shown: int) -> int:
        """Where the next shown character stands, once so many have passed; hidden ones before it, which may
        have come alone, lie before the place."""
        while self._next < len(self._hidden):
            begin, end = self._hidden[self._next]
            if begin - self._num_hidden > shown:
                break
            self._num_hidden += end - begin
            self._next += 1
        return max(0, shown) + self._num_hidden
