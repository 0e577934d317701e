"""Grammar progress. How far one completion has come in its grammar, and what may follow."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from llguidance import LLMatcher

from octavo.engine.grammars.limits import with_limit
from octavo.sampling.state import MaskSource
from octavo.token_mask import Mask, mask_of, num_words

_FAULT = "panic"
_OF_ANOTHER = "PoisonError"
"""Stands in the fault of a matcher whose lexer a fault of another broke."""
_REPLAY_TOKENS = 64
_REPLAY_SECONDS = 0.2
"""Of a thread's time, while all others wait."""


@dataclass(frozen=True, slots=True)
class StartedMatcher:
    """A matcher at the beginning, and a number of the lexer that it shares with others."""

    matcher: LLMatcher
    lexer: int


class Renew(Protocol):
    """Told that a lexer broke; see `CompiledGrammar`."""

    def __call__(self, lexer: int, *, is_victim: bool) -> StartedMatcher | None: ...


class GrammarProgress:
    """Of one completion.

    Args:
        started: Its matcher.
        source: Of its masks.
        renew: Of where its lexer broke.

    Attributes:
        error: What went wrong, once the grammar could not be followed any further: only an end token is
            allowed from then on, and whoever takes it must tell the error instead.
    """

    def __init__(
        self,
        started: StartedMatcher,
        source: MaskSource,
        vocab_size: int,
        end_token_ids: Sequence[int],
        renew: Renew,
    ) -> None:
        self._started = started
        self.source = source
        self._vocab_size = vocab_size
        self._end_token_ids = end_token_ids
        self._renew = renew
        self._num_read = 0
        self.error: str | None = None
        # Of guesses, after which the grammar could not be followed: how many tokens came before, and why.
        self._failed_behind: tuple[int, str] | None = None
        # Behind the tokens that were read and more and more of the guesses.
        self._guesses: tuple[int, ...] = ()
        self._masks: list[Mask] = []

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
        if self._known(output_token_ids, guesses) is None:
            matchers = self.follow(output_token_ids, guesses)
            if matchers:
                self.take(output_token_ids, matchers, [_mask_of(one) for one in matchers])
        mask = self._known(output_token_ids, guesses)
        return self._end if mask is None else mask[: num_words(self._vocab_size)]

    @property
    def lexer(self) -> int:
        """Rows of the same one cannot be worked out at once."""
        return self._started.lexer

    def follow(self, output_token_ids: Sequence[int], guesses: Sequence[int]) -> list[LLMatcher]:
        """Matchers behind the output and behind more and more of the guesses, as far as the grammar lets them
        through, whose masks `take` wants. None where they are known, or the grammar cannot be followed."""
        if self.error is not None or self._known(output_token_ids, guesses) is not None:
            return []
        self._masks, self._guesses, self._failed_behind = [], tuple(guesses), None
        new = list(output_token_ids[self._num_read :])
        self._num_read += len(new)
        if new and not self._matcher.consume_tokens(new) and not self._goes_on(output_token_ids):
            return []
        return self._with_guesses()

    def take(
        self,
        output_token_ids: Sequence[int],
        matchers: Sequence[LLMatcher],
        masks: Sequence[Mask],
    ) -> None:
        """What the matchers of `follow` gave, each of which may have failed."""
        for mask, matcher in zip(masks, matchers, strict=True):
            if matcher.is_error():
                break
            self._masks.append(mask)
        if not self._masks and self._goes_on(output_token_ids):
            matchers = self._with_guesses()
            self.take(output_token_ids, matchers, [_mask_of(one) for one in matchers])
            return
        if 0 < len(self._masks) < len(matchers):
            why = on_one_line(matchers[len(self._masks)].get_error())
            self._failed_behind = (self._num_read + len(self._masks), why)
        # Behind guesses that cannot come true.
        self._masks += [self._end] * (1 + len(self._guesses) - len(self._masks))

    def _with_guesses(self) -> list[LLMatcher]:
        matchers = [self._matcher]
        for guess in self._guesses:
            # A matcher of its own: what goes wrong there is an error only if the guesses come true.
            ahead = matchers[-1].deep_copy()
            if ahead.try_consume_tokens([guess]) != 1:
                break
            matchers.append(ahead)
        return matchers

    def _goes_on(self, output_token_ids: Sequence[int]) -> bool:
        """Of a matcher that failed: with another lexer, where it was not this one's fault."""
        why = self._matcher.get_error()
        started = self._renew(self.lexer, is_victim=_OF_ANOTHER in why)
        if started is not None:
            self._started = started
            if self._replay(output_token_ids[: self._num_read]):
                return True
            why = self._matcher.get_error() or why
        self.error = on_one_line(why) or "no token may follow"
        return False

    def _replay(self, token_ids: Sequence[int]) -> bool:
        until = time.thread_time() + _REPLAY_SECONDS
        for first in range(0, len(token_ids), _REPLAY_TOKENS):
            if time.thread_time() > until:
                return False
            if not self._matcher.consume_tokens(list(token_ids[first : first + _REPLAY_TOKENS])):
                return False
        return True

    @property
    def _matcher(self) -> LLMatcher:
        return self._started.matcher

    @property
    def _end(self) -> Mask:
        return mask_of(self._end_token_ids, self._vocab_size)

    def _known(self, output_token_ids: Sequence[int], guesses: Sequence[int]) -> Mask | None:
        ahead = (*output_token_ids[self._num_read :], *guesses)
        if ahead != self._guesses[: len(ahead)] or len(ahead) >= len(self._masks):
            return None
        return self._masks[len(ahead)]


def _mask_of(matcher: LLMatcher) -> Mask:
    return np.frombuffer(matcher.compute_bitmask(), dtype=np.int32)


def on_one_line(theirs: str) -> str:
    """llguidance's words, with the limit that was reached, without the mark of what it was told to keep to
    itself. Of a fault of its own it tells a stack, which is nobody's business."""
    if theirs.startswith(_FAULT):
        return "the grammar's library failed on it"
    return with_limit(" ".join(theirs.replace("<non-verbose/>", "").split()))
