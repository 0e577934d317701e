"""Draws tokens from scores under temperature, top-k, top-p and min-p.

Filters apply in transformers' order: temperature, top-k, top-p of what top-k left, min-p. Ranking a
whole vocabulary costs more than a small model's forward pass, so the best candidates are selected
first, and a row is sorted in full only when its filters may reach beyond them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from octavo.worker.batch import SamplingState

# Candidates that are ranked before a full sort is considered. Constant, so that a row takes the same
# path, and draws the same token, whatever else is in the batch.
_CANDIDATES = 256


def draw(
    scores: torch.Tensor, states: Sequence[SamplingState], uniforms: Sequence[float]
) -> list[int]:
    """Draws from `scores` `[rows, vocab]` float32 under each row's temperature and filters."""
    temperatures = [max(state.params.temperature, 1e-5) for state in states]
    scaled = scores / _column(temperatures, scores.device)
    filtered = [i for i, state in enumerate(states) if _has_filter(state)]
    unfiltered = [i for i, state in enumerate(states) if not _has_filter(state)]
    tokens = [0] * len(states)
    for rows, choose in ((filtered, _draw_filtered), (unfiltered, _draw_unfiltered)):
        if rows:
            part = scaled if len(rows) == len(states) else scaled[rows]
            chosen = choose(part, [states[i] for i in rows], [uniforms[i] for i in rows])
            for i, token in zip(rows, chosen, strict=True):
                tokens[i] = token
    return tokens


def _has_filter(state: SamplingState) -> bool:
    params = state.params
    return params.top_k > 0 or params.top_p < 1.0 or params.min_p > 0.0


def _draw_unfiltered(
    scaled: torch.Tensor, states: Sequence[SamplingState], uniforms: Sequence[float]
) -> list[int]:
    del states
    return _invert(torch.softmax(scaled, dim=-1), uniforms).tolist()


@dataclass(frozen=True, slots=True)
class _Filters:
    """Per-row filters as columns `[rows, 1]`; `top_k` is the vocabulary's size where it is off."""

    top_k: torch.Tensor
    top_p: torch.Tensor
    min_p: torch.Tensor

    def select(self, rows: list[int]) -> _Filters:
        return _Filters(self.top_k[rows], self.top_p[rows], self.min_p[rows])


def _draw_filtered(
    scaled: torch.Tensor, states: Sequence[SamplingState], uniforms: Sequence[float]
) -> list[int]:
    vocab = scaled.shape[1]
    filters = _Filters(
        _column([s.params.top_k if s.params.top_k > 0 else vocab for s in states], scaled.device),
        _column([s.params.top_p for s in states], scaled.device, torch.float64),
        _column([s.params.min_p for s in states], scaled.device, torch.float64),
    )
    ranked, ids = torch.topk(scaled, min(_CANDIDATES, vocab), dim=-1)
    kept, is_complete = _keep(ranked, scaled, filters)
    places = _invert(kept, uniforms)
    tokens: list[int] = ids.gather(1, places[:, None])[:, 0].tolist()
    unsure = [i for i, complete in enumerate(is_complete.tolist()) if not complete]
    if unsure:
        ranked, ids = torch.sort(scaled[unsure], dim=-1, descending=True, stable=True)
        kept, _ = _keep(ranked, scaled[unsure], filters.select(unsure))
        places = _invert(kept, [uniforms[i] for i in unsure])
        for i, token in zip(unsure, ids.gather(1, places[:, None])[:, 0].tolist(), strict=True):
            tokens[i] = token
    return tokens


def _keep(
    ranked: torch.Tensor, scaled: torch.Tensor, filters: _Filters
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights of the ranked candidates after the filters, and whether any kept one may lie beyond them.

    Args:
        ranked: `[rows, candidates]`, best first.
        scaled: `[rows, vocab]`, of which `ranked` are the best.

    Returns weights `[rows, candidates]` float64, zero where filtered, and `[rows]` bool.
    """
    candidates, vocab = ranked.shape[1], scaled.shape[1]
    best = ranked[:, :1].double()
    in_top_k = torch.arange(candidates, device=ranked.device)[None, :] < filters.top_k
    weights = (ranked.double() - best).exp_().mul_(in_top_k)
    total = weights.sum(dim=-1, keepdim=True)
    if candidates < vocab and bool((filters.top_k >= vocab).any()):
        whole = (scaled - ranked[:, :1]).exp_().sum(dim=-1, keepdim=True, dtype=torch.float64)
        total = torch.where(filters.top_k < vocab, total, whole)
    mass_above = weights.cumsum(dim=-1) - weights
    kept = (mass_above < filters.top_p * total) & (weights >= filters.min_p) & in_top_k
    kept[:, 0] = True
    if candidates == vocab:
        return weights * kept, torch.ones_like(kept[:, 0])
    # Without top-k, a candidate that is dropped drops all below it. A top-k beyond the candidates
    # leaves `total` short of mass, so such a row is always ranked in full.
    has_end = torch.where(filters.top_k[:, 0] >= vocab, ~kept[:, -1], False)
    return weights * kept, has_end | (filters.top_k[:, 0] <= candidates)


def _invert(weights: torch.Tensor, uniforms: Sequence[float]) -> torch.Tensor:
    """Index in each row where the running sum of `weights` `[rows, n]` first exceeds `u * total`."""
    sums = weights.cumsum(dim=-1, dtype=torch.float64)
    targets = _column(uniforms, weights.device, torch.float64) * sums[:, -1:]
    return torch.searchsorted(sums, targets, right=True)[:, 0].clamp_(max=weights.shape[1] - 1)


def _column(
    values: Sequence[float], device: torch.device, dtype: torch.dtype | None = None
) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype).to(device).unsqueeze(1)
