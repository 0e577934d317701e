"""Race: the draw from a row's weights that the device makes, in the host's memory.

A token arrives after an exponential time divided by its weight, and the first one wins; its logarithm, with
the sign turned, is the Gumbel trick of `octavo.kernels.reference.sampling.sample`. The times are a function
of (seed, position, token), so host and device draw the same token from equal logits, and logits that differ
by rounding change it only where two tokens arrive at once. Inverting the cumulative distribution would carry
the rounding of every token before into the draw.

An exponential variable is never less than the uniform number that it is made of. So uniform numbers tell
which few tokens can win, and their logits and noise alone are taken in full, by the reference's formula.
"""

from __future__ import annotations

import numpy as np
import torch

from octavo.kernels.reference.sampling.sample import gumbel
from octavo.kernels.select import host_random_bits
from octavo.sampling.arrays import Floats, Ints

_UNIT = 2.0**-32
_MAX_UNIFORM = 1.0 - 2.0**-24
# What rounding may do to the logarithm of an arrival: in all, and as a share of the scores.
_SLACK = 1e-5
_SLACK_SHARE = 2.0**-21
_MAX_SLACK = 20.0


def race(
    scores: Floats,
    best: Floats,
    weights: Floats,
    inverse: Floats,
    seeds: Ints,
    positions: Ints,
    token_ids: Ints | None = None,
) -> Ints:
    """The place of each row's winner, `[rows]`.

    Args:
        scores: `[rows, n]`, no NaN and no +inf.
        best: `[rows]`, the largest score of each row; finite.
        weights: `[rows, n]`, `exp((score - best) * inverse)`; 0 leaves a token out, never the best.
            Overwritten.
        inverse: `[rows]`, of the temperatures.
        seeds, positions: `[rows]`, which place of which random stream.
        token_ids: `[n]`, of one row's columns, where they are not the whole vocabulary.
    """
    every_row = np.arange(len(scores))
    earliest = _divided_by_weights(weights, seeds, positions, token_ids)  # times 2**32
    first = earliest.argmin(axis=1)
    words = _words(every_row, first, seeds, positions, token_ids)
    limit = latest(earliest[every_row, first], words, best, inverse)
    # In order of the rows. Of two dimensions numpy's `nonzero` takes each element by itself.
    rows, places = np.divmod(np.flatnonzero(earliest <= limit[:, None]), earliest.shape[1])
    if len(rows) == len(scores):
        return places
    words = _words(rows, places, seeds, positions, token_ids)
    return winners(scores[rows, places], words, rows, places, inverse)


def latest(earliest: Floats, words: Ints, best: Floats, inverse: Floats) -> Floats:
    """When somebody has arrived for certain, `[rows]`, where `words` are those of the tokens whose uniform
    numbers give `earliest`, the least of each row. Whose `earliest` lies behind it cannot have won."""
    uniform = np.minimum((words + 0.5) * _UNIT, _MAX_UNIFORM)
    arrival = earliest * (-np.log1p(-uniform) / uniform)
    slack = _SLACK + _SLACK_SHARE * np.abs(best.astype(np.float64) * inverse)
    limit: Floats = (arrival * np.exp(np.minimum(slack, _MAX_SLACK))).astype(np.float32)
    return limit


def winners(scores: Floats, words: Ints, rows: Ints, places: Ints, inverse: Floats) -> Ints:
    """The place of each row's winner, `[rows]`, by the reference's formula.

    Args:
        scores, words: `[candidates]`, of the places of `rows` that can win; every row has one.
        rows: Ascending.
    """
    noise = gumbel(torch.from_numpy(words)).numpy()
    arrivals = scores * inverse[rows] + noise
    order = np.lexsort((places, -arrivals, rows))
    found: Ints = places[order[np.searchsorted(rows[order], np.arange(len(inverse)))]]
    return found


def _divided_by_weights(
    weights: Floats, seeds: Ints, positions: Ints, token_ids: Ints | None
) -> Floats:
    """In the place of the weights."""
    if token_ids is None:
        streams = torch.from_numpy(seeds), torch.from_numpy(positions)
        host_random_bits().divide_by_weights(*streams, torch.from_numpy(weights))
        return weights
    columns = np.arange(len(token_ids))
    words = _words(np.zeros_like(columns), columns, seeds, positions, token_ids)
    with np.errstate(divide="ignore", over="ignore"):  # to infinity: never
        np.divide(words.astype(np.float32) + np.float32(0.5), weights, out=weights)
    return weights


def _words(rows: Ints, places: Ints, seeds: Ints, positions: Ints, token_ids: Ints | None) -> Ints:
    """The random words of some places."""
    tokens = places if token_ids is None else token_ids[places]
    where = (seeds[rows], positions[rows], tokens)
    words = host_random_bits().random_bits_at(*map(torch.from_numpy, where))
    return words.numpy().astype(np.int64)
