"""Draw. Draws tokens from scores under temperature, top-k, top-p and min-p.

Filters apply in this order: temperature, top-k, top-p of what top-k left, min-p. Tokens are ranked by
their scores, and equal ones stay or go together: a token is kept by top-k when fewer than k are better,
by top-p when the better ones hold less than p of the mass. So each row has one threshold, which its best
scores give without a sort of the rest. The device's sampler keeps the same tokens.

Every number of a row comes from that row alone, in an order that does not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from octavo.sampling.arrays import Doubles, Floats, Ints
from octavo.sampling.host.race import race
from octavo.sampling.host.ranking import LONG_ROW, best_values
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams

MIN_TEMPERATURE = 1e-5
# Best scores that are ranked before a row's filters are taken to reach beyond them.
_RANKED = 256
_RANKED_OF_SHORT = 64
# Random numbers of one token cost as much as those of so many neighbours.
_LISTED = 32
# Bins of weights hold those within 3 % of each other: the exponent's 8 bits and 5 of the mantissa.
_BIN_SHIFT = 18


def draw(
    scores: Floats, best: Floats, states: Sequence[SamplingState], seeds: Ints, positions: Ints
) -> Ints:
    """Draws a token for each row, `[rows]`.

    Args:
        scores: `[rows, vocab]`, no NaN and no +inf.
        best: `[rows]`, the largest score of each row; finite.
        seeds, positions: `[rows]`, which place of which random stream.
    """
    filtered = [row for row, state in enumerate(states) if has_filter(state.params)]
    if not filtered:
        temperatures = _Temperatures.of(states, best)
        weights = temperatures.weights(scores)
        return race(scores, best, weights, temperatures.inverse[:, 0], seeds, positions)
    if len(filtered) == len(states):
        return _draw_filtered(scores, best, states, seeds, positions)
    tokens = np.empty(len(states), dtype=np.int64)
    plain = [row for row, state in enumerate(states) if not has_filter(state.params)]
    for rows in (filtered, plain):
        picked = [states[row] for row in rows]
        tokens[rows] = draw(scores[rows], best[rows], picked, seeds[rows], positions[rows])
    return tokens


def least_kept(scores: Floats, best: Floats, states: Sequence[SamplingState]) -> Floats:
    """The least score that each row's filters keep, `[rows]`; all that are not below it are kept.

    Args: as `draw`.
    """
    vocab = scores.shape[1]
    temperatures, filters = _Temperatures.of(states, best), _Filters.of(states, vocab)
    ranked = best_values(scores, _RANKED if vocab >= LONG_ROW else _RANKED_OF_SHORT)
    rows, num_ranked = ranked.shape
    every_row = np.arange(rows)
    has_top_p = filters.top_p < 1.0
    holds_top_k = filters.top_k <= num_ranked
    kth = ranked[every_row, np.minimum(filters.top_k, num_ranked) - 1]
    least = np.where(holds_top_k, kth, -np.inf)
    in_top_k = ranked >= least[:, None]
    weights = temperatures.weights(ranked).astype(np.float64) * in_top_k
    sums = weights.cumsum(axis=-1)
    total = sums[:, -1].copy()
    is_open = has_top_p & (filters.top_k == vocab)
    if num_ranked < vocab and is_open.any():
        open_rows = np.flatnonzero(is_open)
        total[open_rows] = temperatures.select(open_rows).weights(scores[open_rows]).sum(axis=-1)
    limit = np.where(has_top_p, filters.top_p * total, np.inf)
    kept = in_top_k & (weights >= filters.min_p[:, None])
    kept[:, 1:] &= sums[:, :-1] < limit[:, None]
    kept[:, 0] = True
    thresholds: Floats = ranked[every_row, kept.sum(axis=-1) - 1]
    if num_ranked == vocab:
        return thresholds
    # Ranked tokens decide when one of them is dropped and the mass was known: not when as many are
    # equal as were ranked, nor under a top-k beyond them.
    is_known = ~has_top_p | is_open | (least > ranked[:, -1])
    is_settled = (is_known & ~kept[:, -1]) | (~has_top_p & holds_top_k)
    for row in np.flatnonzero(~is_settled):
        one = slice(row, row + 1)
        one_filters = _Filters(filters.top_k[one], filters.top_p[one], filters.min_p[one])
        thresholds[row] = _threshold_of_all(scores[row], temperatures.select(one), one_filters)
    return thresholds


def has_filter(params: SamplingParams) -> bool:
    return params.top_k > 0 or params.top_p < 1.0 or params.min_p > 0.0


@dataclass(frozen=True, slots=True)
class _Temperatures:
    """Turn scores into weights: `best` and `inverse` are columns, `[rows, 1]`."""

    best: Floats
    inverse: Floats

    @staticmethod
    def of(states: Sequence[SamplingState], best: Floats) -> _Temperatures:
        inverse = [1.0 / max(state.params.temperature, MIN_TEMPERATURE) for state in states]
        return _Temperatures(best[:, None], np.array(inverse, dtype=np.float32)[:, None])

    def select(self, rows: Ints | slice) -> _Temperatures:
        return _Temperatures(self.best[rows], self.inverse[rows])

    def weights(self, scores: Floats) -> Floats:
        """Probabilities of `scores` `[rows, n]` relative to the best token's."""
        with np.errstate(over="ignore"):  # to -inf, whose weight is 0
            weights: Floats = scores - self.best
            weights *= self.inverse
        np.exp(weights, out=weights)
        return weights


@dataclass(frozen=True, slots=True)
class _Filters:
    """Of each row, `[rows]`. `top_k` is the vocabulary's size where it is off."""

    top_k: Ints
    top_p: Doubles
    min_p: Doubles

    @staticmethod
    def of(states: Sequence[SamplingState], vocab: int) -> _Filters:
        params = [state.params for state in states]
        return _Filters(
            top_k=np.array([p.top_k if 0 < p.top_k < vocab else vocab for p in params]),
            top_p=np.array([p.top_p for p in params]),
            min_p=np.array([p.min_p for p in params]),
        )


def _draw_filtered(
    scores: Floats, best: Floats, states: Sequence[SamplingState], seeds: Ints, positions: Ints
) -> Ints:
    temperatures = _Temperatures.of(states, best)
    kept = scores >= least_kept(scores, best, states)[:, None]
    rows, vocab = scores.shape
    inverse = temperatures.inverse[:, 0]
    if vocab < LONG_ROW:
        weights = temperatures.weights(scores) * kept
        return race(scores, best, weights, inverse, seeds, positions)
    tokens = np.empty(rows, dtype=np.int64)
    for row in range(rows):
        one = slice(row, row + 1)
        ids = np.flatnonzero(kept[row])
        stream = inverse[one], seeds[one], positions[one]
        if len(ids) < vocab // _LISTED:
            found = scores[row].take(ids)[None]
            weights = temperatures.select(one).weights(found)
            tokens[one] = ids[race(found, best[one], weights, *stream, ids)]
        else:
            weights = temperatures.select(one).weights(scores[one]) * kept[one]
            tokens[one] = race(scores[one], best[one], weights, *stream)
    return tokens


def _threshold_of_all(scores: Floats, temperature: _Temperatures, filters: _Filters) -> np.float32:
    """The least score that one row `[vocab]` keeps, whose filters may reach any token."""
    top_k, top_p, min_p = filters.top_k[0], filters.top_p[0], filters.min_p[0]
    if top_k < scores.size:
        place = scores.size - top_k
        scores = scores[scores >= np.partition(scores, place)[place]]
    weights = temperature.weights(scores[None])[0]
    least: np.float32 = scores[weights >= min_p].min()
    if top_p < 1.0:
        least = max(least, _top_p_threshold(scores, weights, top_p))
    return least


def _top_p_threshold(scores: Floats, weights: Floats, top_p: np.float64) -> np.float32:
    """The least of `scores` `[n]` above which lies less than `top_p` of the sum of `weights`.

    The weights are counted into bins by the order of magnitude, and only the bin in which the limit lies
    is sorted.
    """
    # The first bits of a positive float32 are its exponent and the start of its mantissa.
    bins = (weights.view(np.int32) >> _BIN_SHIFT).astype(np.int64)
    masses = np.bincount(bins, weights=weights)[::-1]
    sums = masses.cumsum()
    limit = top_p * sums[-1]
    edge = int(np.searchsorted(sums, limit))
    inside = bins == len(sums) - 1 - edge
    ordered = np.sort(scores[inside])[::-1]
    parts = np.sort(weights[inside])[::-1].astype(np.float64)
    above = sums[edge] - masses[edge] + np.concatenate([[0.0], parts[:-1].cumsum()])
    return np.float32(ordered[max(int((above < limit).sum()), 1) - 1])
