"""Exact distribution of what a sampler draws, by the definition of its filters, token by token in float64."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from octavo.sampling_params import SamplingParams


class TooCloseError(Exception):
    """Rounding may put a token on either side of a filter's limit."""


def exact_distribution(
    logits: npt.NDArray[np.float32], params: SamplingParams, *, margin: float = 0.0
) -> npt.NDArray[np.float64]:
    """Probabilities `[vocab]` of the kept tokens under the temperature; raises as `exactly_kept`."""
    kept = exactly_kept(logits, params, margin=margin)
    scores = np.where(kept, logits.astype(np.float64), -np.inf) / params.temperature
    weights = np.exp(scores - scores.max())
    probabilities: npt.NDArray[np.float64] = weights / weights.sum()
    return probabilities


def exactly_kept(
    logits: npt.NDArray[np.float32], params: SamplingParams, *, margin: float = 0.0
) -> npt.NDArray[np.bool_]:
    """Which tokens top-k, top-p and min-p keep, `[vocab]`. Equal logits stay or go together.

    Raises `TooCloseError` when a limit lies within `margin`, a share of the mass, of a token.
    """
    scores = [float(x) / params.temperature for x in logits]
    best = max(scores)
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    weights = {i: math.exp(scores[i] - best) for i in order}
    better, mass_above = _above(order, scores, weights)
    if params.top_k > 0:
        order = [i for i in order if better[i] < params.top_k]
    total = math.fsum(weights[i] for i in order)
    if params.top_p < 1.0:
        # The best stay whatever the limit is.
        if any(abs(mass_above[i] / total - params.top_p) < margin for i in order if better[i]):
            raise TooCloseError
        order = [i for i in order if not better[i] or mass_above[i] < params.top_p * total]
    if any(abs(weights[i] - params.min_p) < margin * params.min_p for i in order[1:]):
        raise TooCloseError
    kept = np.zeros(len(scores), dtype=bool)
    kept[[i for i in order if weights[i] >= params.min_p]] = True
    return kept


def _above(
    order: list[int], scores: list[float], weights: dict[int, float]
) -> tuple[dict[int, int], dict[int, float]]:
    """Of each token: how many have a larger score, and their mass."""
    better, mass_above = {}, {}
    mass, pending = 0.0, 0.0
    for place, i in enumerate(order):
        if place and scores[i] < scores[order[place - 1]]:
            mass, pending, first = mass + pending, 0.0, place
        elif place == 0:
            first = 0
        better[i], mass_above[i] = first, mass
        pending += weights[i]
    return better, mass_above
