"""Penalties for tokens that a sequence holds already: presence, frequency and repetition.

What a sequence holds is counted as it grows: counting a long prompt anew for every token would cost more
than the model's arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from octavo.sampling.ranking import Floats, Ints
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams


def needs_penalties(params: SamplingParams) -> bool:
    return (
        params.presence_penalty != 0.0
        or params.frequency_penalty != 0.0
        or params.repetition_penalty != 1.0
    )


class TokenCounts:
    """How often one sequence's output holds each token, and which tokens its prompt holds.

    Args:
        state: Of the sequence; its output may grow between two calls.
    """

    def __init__(self, state: SamplingState) -> None:
        self.state = state
        self._in_prompt = np.unique(np.array(state.prompt_token_ids, dtype=np.int64))
        self._places: dict[int, int] = {}
        self._ids = np.empty(64, dtype=np.int64)
        self._counts = np.zeros(64, dtype=np.int64)
        self._num_counted = 0

    def penalise(self, scores: Floats) -> None:
        """Changes `scores` `[vocab]` in place: first repetition, then presence and frequency.

        Presence and frequency look at the output (OpenAI's definition), repetition at prompt and output
        (Keskar et al., 2019).
        """
        ids, counts = self._count(self.state.output_token_ids)
        params = self.state.params
        penalty = params.repetition_penalty
        if penalty != 1.0:
            seen = np.concatenate([self._in_prompt, ids])
            values = scores[seen]
            scores[seen] = np.where(values > 0, values / penalty, values * penalty)
        if len(ids):
            scores[ids] -= params.presence_penalty + params.frequency_penalty * counts

    def _count(self, output: Sequence[int]) -> tuple[Ints, Ints]:
        """The distinct tokens of `output`, and how often each occurs."""
        for token in output[self._num_counted :]:
            place = self._places.setdefault(token, len(self._places))
            if place == len(self._ids):
                self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
                self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
            self._ids[place] = token
            self._counts[place] += 1
        self._num_counted = len(output)
        return self._ids[: len(self._places)], self._counts[: len(self._places)]
