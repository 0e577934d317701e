"""Reasoning tokens: how many of a completion's tokens are reasoning, its tags included."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.engine.requests.vocabulary import Vocabulary
from octavo.server.openai.parsing.reasoning import ReasoningFormat


class ReasoningTokens:
    """Of one completion, as its tokens come. A tag may be a token, or lie in several."""

    __slots__ = (
        "_bytes_of",
        "_closing",
        "_is_open",
        "_is_over",
        "_num_pending",
        "_opening",
        "_tail",
    )

    def __init__(self, form: ReasoningFormat, vocabulary: Vocabulary, *, is_open: bool) -> None:
        self._bytes_of = vocabulary.bytes_of
        self._opening, self._closing = form.opening.encode(), form.closing.encode()
        self._is_open = is_open
        self._is_over = False
        self._tail = b""
        self._num_pending = 0

    def read(self, token_ids: Sequence[int]) -> int:
        """How many more are reasoning."""
        if self._is_over:
            return 0
        count = 0
        for token_id in token_ids:
            self._tail += self._bytes_of(token_id)
            self._num_pending += 1
            if not self._is_open:
                self._look_for_opening()
            if self._is_open:
                count += self._num_pending
                self._num_pending = 0
                self._is_over = self._closing in self._tail
                self._tail = self._tail[1 - len(self._closing) :]
            if self._is_over:
                break
        return count

    def _look_for_opening(self) -> None:
        self._tail = self._tail.lstrip()
        if self._tail.startswith(self._opening):
            self._is_open = True
        elif not self._opening.startswith(self._tail):
            self._is_over = True
