"""Reasoning tokens: how many of a completion's tokens are reasoning, its tags included."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence

from octavo.engine.requests.vocabulary import Vocabulary
from octavo.server.openai.parsing.calls_in_reasoning import CallBeginning, CallsInReasoning
from octavo.server.openai.parsing.reasoning import ReasoningFormat

_Decoder = codecs.getincrementaldecoder("utf-8")


class ReasoningTokens:
    """Of one completion, as its tokens come. A tag may be a token, or lie in several.

    Args:
        calls: Those that end reasoning; what stands behind their mark counts once it is known to be none.
    """

    __slots__ = (
        "_again",
        "_beginning",
        "_bytes_of",
        "_calls",
        "_closing",
        "_decoder",
        "_ends",
        "_is_open",
        "_is_over",
        "_longest",
        "_num_pending",
        "_opening",
        "_tail",
    )

    def __init__(
        self,
        form: ReasoningFormat,
        vocabulary: Vocabulary,
        *,
        is_open: bool,
        calls: CallsInReasoning | None = None,
    ) -> None:
        self._bytes_of = vocabulary.bytes_of
        self._opening = form.opening.encode()
        self._closing = form.closing.encode()
        self._calls = calls
        ends = [self._closing] if calls is None else [self._closing, calls.mark.encode()]
        self._ends = re.compile(b"|".join(map(re.escape, ends)))
        self._longest = max(map(len, ends))
        # Where the model may think again, this is how that begins.
        self._again = (form.behind + form.opening).encode() if form.behind else b""
        self._is_open = is_open
        self._is_over = False
        self._beginning: CallBeginning | None = None
        self._decoder = _Decoder("replace")
        self._tail = bytearray()
        self._num_pending = 0

    def read(self, token_ids: Sequence[int]) -> int:
        """How many more are reasoning."""
        count = 0
        for token_id in token_ids:
            if self._is_over:
                break
            piece = self._bytes_of(token_id)
            self._tail += piece
            self._num_pending += 1
            if self._beginning is not None:
                self._go_on(self._beginning.read(self._decoder.decode(piece)))
            elif not self._is_open:
                self._look_for_opening()
            if self._is_open and self._beginning is None:
                count += self._pending()
                self._look_for_end()
        return count

    def end(self) -> int:
        """As `read`, once all tokens have come."""
        if self._beginning is None or self._beginning.end():
            return 0
        return self._pending()

    def _pending(self) -> int:
        count, self._num_pending = self._num_pending, 0
        return count

    def _look_for_end(self) -> None:
        while self._is_open and self._beginning is None:
            found = self._ends.search(self._tail)
            if found is None:
                del self._tail[: 1 - self._longest]
                break
            is_closed = found.group() == self._closing
            del self._tail[: found.end()]
            if is_closed or self._calls is None:
                self._is_open = False
                self._opening = self._again
                self._is_over = not self._again
            else:
                self._beginning = self._calls.begin()
                self._decoder.reset()
                self._go_on(self._beginning.read(self._decoder.decode(self._tail)))

    def _go_on(self, is_call: bool | None) -> None:
        """Behind a mark."""
        if is_call is not None:
            self._beginning = None
            self._is_open = not is_call
            self._is_over = is_call

    def _look_for_opening(self) -> None:
        self._tail = self._tail.lstrip()
        if self._tail.startswith(self._opening):
            self._is_open = True
        elif not self._opening.startswith(bytes(self._tail)):
            self._is_over = True
