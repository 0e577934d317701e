"""Penalties for tokens that a sequence holds already: presence, frequency and repetition."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from octavo.sampling_params import SamplingParams
from octavo.worker.batch import SamplingState


def needs_penalties(params: SamplingParams) -> bool:
    return (
        params.presence_penalty != 0.0
        or params.frequency_penalty != 0.0
        or params.repetition_penalty != 1.0
    )


def apply_penalties(scores: torch.Tensor, states: Sequence[SamplingState]) -> torch.Tensor:
    """Penalised copy of `scores` `[rows, vocab]` float32; rows without penalties are unchanged.

    Presence and frequency look at the output (OpenAI's definition), repetition at prompt and output
    (Keskar et al., 2019).
    """
    result = scores.clone()
    for row, state in enumerate(states):
        params = state.params
        if not needs_penalties(params):
            continue
        line = result[row]
        output = torch.tensor(state.output_token_ids, dtype=torch.int64, device=scores.device)
        if params.repetition_penalty != 1.0:
            prompt = torch.tensor(state.prompt_token_ids, dtype=torch.int64, device=scores.device)
            seen = torch.unique(torch.cat([prompt, output]))
            values = line[seen]
            penalty = params.repetition_penalty
            line[seen] = torch.where(values > 0, values / penalty, values * penalty)
        if output.numel():
            ids, counts = torch.unique(output, return_counts=True)
            line[ids] -= params.presence_penalty + params.frequency_penalty * counts
    return result
