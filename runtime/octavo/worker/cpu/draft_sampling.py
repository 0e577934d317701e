"""Sampling of guesses: drawn as the model will draw, so that the two agree as often as they can."""

from __future__ import annotations

from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams

_GREEDY = SamplingParams(temperature=0.0)


def draft_sampling(state: SamplingState, place: int) -> SamplingState:
    """Of the guess at `place`, 0 for the first: by the model's random numbers for that position, under the
    same filters. Requests without a seed have none that could be known before: they are guessed greedily."""
    params = _GREEDY
    if state.seed is not None and not state.params.is_greedy:
        wanted = state.params
        params = SamplingParams(
            temperature=wanted.temperature,
            top_k=wanted.top_k,
            top_p=wanted.top_p,
            min_p=wanted.min_p,
        )
    position = range(len(state.output_token_ids) + place)  # its length alone is looked at
    return SamplingState(params, state.seed, (), position)


def known_tokens(state: SamplingState, start: int, stop: int) -> list[int]:
    """Of the positions `[start, stop)` of a sequence."""
    num_prompt = len(state.prompt_token_ids)
    return [
        *state.prompt_token_ids[start:stop],
        *state.output_token_ids[max(start - num_prompt, 0) : max(stop - num_prompt, 0)],
    ]
