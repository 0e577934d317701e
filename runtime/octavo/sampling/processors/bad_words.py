"""Bad words: sequences of tokens that a request must not get (vLLM's `bad_words`).

The last token of each is not drawn where those before it are the output's end. Other tokens may spell the
same word.
"""

from __future__ import annotations

import msgspec
import numpy as np

from octavo.sampling.arrays import Floats
from octavo.sampling.processors.base import (
    DeviceProcessor,
    DeviceRoom,
    HostProcessor,
    LogitsProcessor,
)
from octavo.sampling.processors.token_masks import DeviceMasks
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from octavo.token_mask import Mask, mask_of


class BadWords(LogitsProcessor):
    """Looks at the output alone, as vLLM does: a word may begin in the prompt."""

    def is_wanted(self, params: SamplingParams) -> bool:
        return bool(params.bad_words_token_ids)

    def waits_for_token(self, params: SamplingParams) -> bool:
        """Whether a word is about to be completed shows in the last tokens; words of one token are never."""
        return any(len(word) > 1 for word in params.bad_words_token_ids or ())

    def examples(self, params: SamplingParams) -> tuple[SamplingParams, ...]:
        return (msgspec.structs.replace(params, bad_words_token_ids=[[0]]),)

    def on_host(self, state: SamplingState) -> HostProcessor:
        return HostWords(state)

    def on_device(self, room: DeviceRoom) -> DeviceProcessor:
        return DeviceMasks(lambda _: lambda now: _mask(now, room.vocab_size))


class HostWords(HostProcessor):
    def __init__(self, state: SamplingState) -> None:
        self._state = state

    def shape(self, scores: Floats) -> None:
        if forbidden := _forbidden(self._state):
            scores[np.array(forbidden, dtype=np.int64)] = -np.inf


def _forbidden(state: SamplingState) -> list[int]:
    """Each token that would complete a word."""
    words = state.params.bad_words_token_ids or ()
    longest = max(map(len, words), default=0)
    end = [*state.output_token_ids[-longest:], *state.guesses]
    found = []
    for *before, last in words:
        length = len(before)
        if not length or end[-length:] == before:
            found.append(last)
    return found


def _mask(state: SamplingState, vocab_size: int) -> Mask | None:
    forbidden = _forbidden(state)
    return ~mask_of(forbidden, vocab_size) if forbidden else None
