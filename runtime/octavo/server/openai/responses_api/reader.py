"""Reader of an answer's text: what the model wrote goes through the parser into output items, and
log-probabilities go to the text that their tokens made.

A token belongs to the first text that comes out with it or behind it; those of calls and thoughts to none.
Text is cut where tokens begin, so that this does not depend on how many of them arrived at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from octavo.engine.requests.marked_text import MarkedText
from octavo.server.openai.answers import TokenLogprob, ToolCallOut
from octavo.server.openai.responses_api.events import Event
from octavo.server.openai.responses_api.output import Output
from octavo.server.openai.tools import ToolCallParser


class AnswerReader:
    """Of one completion. Without a parser all of its text is content."""

    def __init__(self, parser: ToolCallParser | None) -> None:
        self.output = Output()
        self._parser = parser
        self._num_shown = 0
        self._ahead: deque[tuple[int, TokenLogprob]] = deque()
        self._pending: list[TokenLogprob] = []

    def read(
        self,
        text: MarkedText,
        logprobs: Sequence[TokenLogprob] = (),
        offsets: Sequence[int] = (),
    ) -> Iterator[Event]:
        """The next piece of text.

        Args:
            logprobs: Of the tokens that came with it; its own text may come later.
            offsets: Of each of these tokens, the characters of shown text before it.
        """
        if self._parser is None:
            if (shown := text.shown) or logprobs:
                yield from self.output.text(shown, logprobs)
            return
        self._ahead.extend(zip(offsets, logprobs, strict=True))
        if not self._ahead:
            yield from self._take(self._parser.push(text))
            return
        for piece in self._cut(text):
            yield from self._take(self._parser.push(piece))

    def end(self, *, is_cut: bool) -> Iterator[Event]:
        """No more text comes: it ended by itself, or was cut off."""
        if self._parser is not None:
            self._pending += [logprob for _, logprob in self._ahead]
            yield from self._take(self._parser.flush())
            if self._pending and self.output.is_in_text:
                yield from self.output.text("", self._pending)
        yield from self.output.end(is_cut=is_cut)

    def _take(self, pieces: Iterator[str | ToolCallOut]) -> Iterator[Event]:
        for piece in pieces:
            if isinstance(piece, str):
                yield from self.output.text(piece, self._pending)
            else:
                function = piece.function
                yield from self.output.call(piece.id, function.name, function.arguments)
            self._pending = []

    def _cut(self, text: MarkedText) -> Iterator[MarkedText]:
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
            self._pending.append(logprob)
        self._num_shown = end
        if begin < len(text):
            yield text[begin:]


class _Places:
    """Of shown characters in a text with hidden ones, asked for in order."""

    def __init__(self, text: MarkedText) -> None:
        self._hidden = text.hidden
        self._next = 0
        self._num_hidden = 0
        self.num_shown = len(text) - sum(end - begin for begin, end in text.hidden)

    def of(self, shown: int) -> int:
        """Where so many shown characters have passed; hidden ones that follow lie behind it."""
        while self._next < len(self._hidden):
            begin, end = self._hidden[self._next]
            if begin - self._num_hidden >= shown:
                break
            self._num_hidden += end - begin
            self._next += 1
        return max(0, shown) + self._num_hidden
