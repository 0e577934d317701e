"""Mask batch: what the grammars of all rows of a step let through, worked out together and without the
interpreter's lock.

Matchers that are copies of one share its lexer, which remembers what it has seen and is locked meanwhile:
they take turns on one thread. Those of several grammars are shared out among threads. Where a thread takes
longer to wake than they do, they stay on this one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from llguidance import LLExecutor, LLMatcher

from octavo.engine.grammars.progress import GrammarProgress
from octavo.sampling.state import SamplingState
from octavo.token_mask import WORTH_A_THREAD, num_words
from octavo.worker import machine


class MaskBatch:
    """See `MaskSource`. Of one engine.

    Args:
        vocab_size: Of the model.
    """

    def __init__(self, vocab_size: int) -> None:
        self._words = num_words(vocab_size)
        self._pools: dict[bool, LLExecutor] = {}

    def prepare(self, states: Sequence[SamplingState]) -> None:
        rows = dict[GrammarProgress, SamplingState]()
        for state in states:
            progress = state.grammar
            if isinstance(progress, GrammarProgress):
                known = rows.get(progress)
                if known is None or len(known.guesses) < len(state.guesses):
                    rows[progress] = state
        asked = [
            (progress, state.output_token_ids, matchers)
            for progress, state in rows.items()
            if (matchers := progress.follow(state.output_token_ids, state.guesses))
        ]
        asked.sort(key=lambda one: one[0].lexer)
        matchers = [matcher for *_, several in asked for matcher in several]
        if not matchers:
            return
        masks = np.empty((len(matchers), self._words), dtype=np.int32)
        self._fill(matchers, len({progress.lexer for progress, *_ in asked}), masks)
        first = 0
        for progress, output_token_ids, several in asked:
            progress.take(output_token_ids, several, list(masks[first : first + len(several)]))
            first += len(several)

    def _fill(self, matchers: list[LLMatcher], num_lexers: int, masks: np.ndarray) -> None:
        address, row_bytes = masks.ctypes.data, masks.strides[0]
        if len(matchers) * self._words * 32 < WORTH_A_THREAD:
            for row, matcher in enumerate(matchers):
                matcher.unsafe_compute_mask_ptr(address + row * row_bytes, row_bytes)
            return
        places = [(matcher, row) for row, matcher in enumerate(matchers)]
        pool = self._pool(is_alone=num_lexers == 1)
        pool.unsafe_compute_mask_ptr(places, address, row_bytes, len(matchers))

    def _pool(self, *, is_alone: bool) -> LLExecutor:
        pool = self._pools.get(is_alone)
        if pool is None:
            pool = self._pools[is_alone] = LLExecutor(1 if is_alone else machine.available_cpus())
        return pool
