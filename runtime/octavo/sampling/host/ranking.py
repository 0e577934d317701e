"""Ranking. The best scores of long rows without sorting them.

Ranking a vocabulary of 150,000 tokens costs more than everything else that a sampler does; what the
filters and the log-probabilities need of it is its top.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from octavo.sampling.arrays import Floats, Ints

# From this on a row is worked on alone, in groups; below it many rows at once cost less.
LONG_ROW = 16_384
_GROUP = 64


def best_values(scores: Floats, count: int) -> Floats:
    """The `count` largest values of each row (all, where a row has fewer), largest first.

    Args:
        scores: `[rows, vocab]` without NaN.
    """
    rows, vocab = scores.shape
    count = min(count, vocab)
    if vocab >= LONG_ROW and count <= vocab // _GROUP // 2:
        best = np.empty((rows, count), dtype=np.float32)
        for row in range(rows):
            best[row] = _top(_candidates(scores[row], count), count)
        best.sort(axis=-1)
        return best[:, ::-1]
    found: Floats = torch.topk(torch.from_numpy(scores), count, dim=-1).values.numpy()
    return found


def best_tokens(scores: Floats, counts: Sequence[int]) -> list[Ints]:
    """Of each row the ids of its `counts[row]` largest values, largest first, the lower id among equals.

    Args:
        scores: `[rows, vocab]` without NaN.
    """
    ranked = best_values(scores, max(1, *counts))
    return [
        _first_of(row, values[:count]) if count else np.empty(0, dtype=np.int64)
        for row, values, count in zip(scores, ranked, counts, strict=True)
    ]


def _first_of(row: Floats, ranked: Floats) -> Ints:
    ids = np.flatnonzero(row >= ranked[-1])
    return ids[np.argsort(-row[ids], kind="stable")[: len(ranked)]]


def _top(values: Floats, count: int) -> Floats:
    """The `count` largest values along the last axis, in any order."""
    size = values.shape[-1]
    if count == size:
        return values.copy()
    return np.partition(values, size - count, axis=-1)[..., size - count :]


def _candidates(row: Floats, count: int) -> Floats:
    """Few values of `row`, the `count` largest among them.

    The row is cut into groups; the `count`-th largest of the groups' maxima is a floor under the
    `count`-th largest value, and only groups that reach it are looked into. A group is every n-th value,
    so that the maxima are taken a vector at a time.
    """
    num_groups = row.size // _GROUP
    groups = row[: num_groups * _GROUP].reshape(_GROUP, num_groups)
    maxima = groups.max(axis=0)
    floor = _top(maxima, count).min()
    within = groups[:, np.flatnonzero(maxima >= floor)].ravel()
    beyond = row[num_groups * _GROUP :]
    return np.concatenate([within[within >= floor], beyond[beyond >= floor]])
