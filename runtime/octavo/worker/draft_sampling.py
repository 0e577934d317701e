"""Sampling of guesses: drawn as the model will draw, so that the two agree as often as they can."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import ScheduledSequence

_GREEDY = SamplingParams(temperature=0.0)


def draft_sampling(state: SamplingState, place: int) -> SamplingState:
    """Of the guess at `place`, 0 for the first: by the model's random numbers for that position. Requests
    without a seed have none that could be known before: they are guessed greedily."""
    params = _GREEDY if state.seed is None else draft_params(state.params)
    position = range(len(state.output_token_ids) + place)  # its length alone is looked at
    return SamplingState(params, state.seed, (), position)


def draft_params(params: SamplingParams) -> SamplingParams:
    """Of guesses that are drawn by the model's random numbers: under the same filters. What else shapes the
    model's scores is left out."""
    if params.is_greedy:
        return _GREEDY
    return SamplingParams(
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
    )


def known_tokens(state: SamplingState, start: int, stop: int) -> list[int]:
    """Of the positions `[start, stop)` of a sequence."""
    num_prompt = len(state.prompt_token_ids)
    return [
        *state.prompt_token_ids[start:stop],
        *state.output_token_ids[max(start - num_prompt, 0) : max(stop - num_prompt, 0)],
    ]


def with_drafts(
    entries: Sequence[ScheduledSequence], drafts: dict[int, list[int]]
) -> list[ScheduledSequence]:
    """The entries with the drafts of each sequence in their places."""
    return [
        entry
        if not entry.num_drafts
        else msgspec.structs.replace(
            entry, token_ids=(entry.token_ids[0], *drafts[entry.sequence_id])
        )
        for entry in entries
    ]
