"""Reasoning tokens: how many of a completion's tokens are reasoning, its tags included."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.engine.requests.vocabulary import Vocabulary
from octavo.server.openai.parsing.reasoning import ReasoningFormat


class ReasoningTokens:
    """Of one completion, as its tokens come. A tag may be a token, or lie in several."""

    __slots__ = (
        "_again",
        "_bytes_of",
        "_closings",
        "_is_open",
        "_is_over",
        "_num_pending",
        "_opening",
        "_tail",
    )

    def __init__(self, form: ReasoningFormat, vocabulary: Vocabulary, *, is_open: bool) -> None:
        self._bytes_of = vocabulary.bytes_of
        self._opening = form.opening.encode()
        self._closings = tuple(tag.encode() for tag in (form.closing, *form.ends))
        # Where the model may think again, this is how that begins.
        self._again = (form.behind + form.opening).encode() if form.behind else b""
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
                self._look_for_closing()
            if self._tells_no_more():
                break
        return count

    def _tells_no_more(self) -> bool:
        return self._is_over

    def _look_for_closing(self) -> None:
        places = [(self._tail.find(tag), len(tag)) for tag in self._closings]
        found = min((one for one in places if one[0] >= 0), default=None)
        if found is None:
            self._tail = self._tail[1 - max(map(len, self._closings)) :]
            return
        self._tail = self._tail[sum(found) :]
        self._is_open = False
        self._opening = self._again
        self._is_over = not self._again

    def _look_for_opening(self) -> None:
        self._tail = self._tail.lstrip()
        if self._tail.startswith(self._opening):
            self._is_open = True
        elif not self._opening.startswith(self._tail):
            self._is_over = True
