"""Grammar progress. How far one completion has come in its grammar, and what may follow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from llguidance import LLMatcher

from octavo.token_mask import Mask, mask_of

_FAULT = "panic"


class GrammarProgress:
    """Of one completion.

    Attributes:
        error: What went wrong, once the grammar could not be followed any further: only an end token is
            allowed from then on, and whoever takes it must tell the error instead.
    """

    def __init__(self, matcher: LLMatcher, vocab_size: int, end_token_ids: Sequence[int]) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._end_token_ids = end_token_ids
        self._num_read = 0
        self.error: str | None = None
        # Of guesses, after which the grammar could not be followed: how many tokens came before, and why.
        self._failed_behind: tuple[int, str] | None = None

    def error_at(self, num_tokens: int) -> str | None:
        """What had gone wrong when the last of so many tokens of the output was drawn, or None."""
        if self.error is None and self._failed_behind is not None:
            before, why = self._failed_behind
            return why if num_tokens > before else None
        return self.error

    def next_mask(self, output_token_ids: Sequence[int], guesses: Sequence[int] = ()) -> Mask:
        """Which tokens may follow the output and, if they come true, `guesses` behind it.

        `[words]`, int32. The output only grows from call to call. Guesses that the grammar forbids never come
        true, and what may follow them means nothing.
        """
        if self.error is None:
            new = list(output_token_ids[self._num_read :])
            self._num_read += len(new)
            if not new or self._matcher.consume_tokens(new):
                if guesses:
                    return self._mask_behind(guesses, len(output_token_ids))
                self._failed_behind = None
                bits = self._matcher.compute_bitmask()
                if not self._matcher.is_error():
                    return self._cut(np.frombuffer(bits, dtype=np.int32))
            self.error = on_one_line(self._matcher.get_error()) or "no token may follow"
        return mask_of(self._end_token_ids, self._vocab_size)

    def _mask_behind(self, guesses: Sequence[int], num_known: int) -> Mask:
        """By a matcher of its own: what goes wrong there is an error only if the guesses come true."""
        ahead = self._matcher.deep_copy()
        if ahead.try_consume_tokens(list(guesses)) == len(guesses):
            bits = ahead.compute_bitmask()
            if not ahead.is_error():
                return self._cut(np.frombuffer(bits, dtype=np.int32))
            if self._failed_behind is None:
                self._failed_behind = (num_known + len(guesses), on_one_line(ahead.get_error()))
        return mask_of(self._end_token_ids, self._vocab_size)

    def _cut(self, mask: Mask) -> Mask:
        return mask[: -(-self._vocab_size // 32)]


def on_one_line(theirs: str) -> str:
    """llguidance's words, without the mark of what it was told to keep to itself. Of a fault of its own it
    tells a stack, which is nobody's business."""
    if theirs.startswith(_FAULT):
        return "the grammar's library failed on it"
    return " ".join(theirs.replace("<non-verbose/>", "").split())
