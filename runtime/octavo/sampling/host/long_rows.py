"""Large vocabulary: draws from it, on all of the engine's threads.

The race of `race.py` with nothing as long as the vocabulary in between: kernels tell the earliest arrival of
each segment, and the segments that may hold a winner are looked into. For rows that have a temperature and
nothing else; the tokens are the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch

from octavo.kernels.protocols.long_rows import LongRows
from octavo.kernels.select import host_random_bits
from octavo.sampling.arrays import Floats, Ints
from octavo.sampling.host.race import latest, winners


def draw_long(
    kernels: LongRows,
    logits: torch.Tensor,
    temperatures: Sequence[float],
    seeds: Ints,
    positions: Ints,
) -> Ints | None:
    """A token for each row, `[rows]`; None where a logit is not finite.

    Args:
        logits: `[rows, vocab]`, float32 or bfloat16.
        temperatures: Above 0.
        seeds, positions: `[rows]`, which place of which random stream.
    """
    logits = logits.contiguous()
    maxima = kernels.segment_maxima(logits)
    best = maxima.amax(dim=1)
    if not np.isfinite(maxima.numpy()).all():
        return None
    inverse = torch.tensor([1.0 / temperature for temperature in temperatures])
    stream = torch.from_numpy(seeds), torch.from_numpy(positions)
    arrivals = functools.partial(kernels.arrivals, logits, best, inverse, *stream)
    every_row, minima = np.arange(len(seeds)), arrivals().numpy()
    num_segments = minima.shape[1]
    segment = minima.argmin(axis=1)
    within = arrivals(torch.from_numpy(every_row * num_segments + segment)).numpy()
    first = segment * kernels.SEGMENT + within.argmin(axis=1)
    earliest = minima[every_row, segment]
    limit = latest(earliest, _words(seeds, positions, first), best.numpy(), inverse.numpy())
    rows, tokens = _candidates(arrivals, minima, limit)
    if len(rows) == len(seeds):
        return tokens
    scores: Floats = logits[rows, tokens].float().numpy()
    words = _words(seeds[rows], positions[rows], tokens)
    return winners(scores, words, rows, tokens, inverse.numpy())


def _candidates(
    arrivals: Callable[[torch.Tensor], torch.Tensor], minima: Floats, limit: Floats
) -> tuple[Ints, Ints]:
    """Rows, ascending, and tokens whose arrival is not behind the row's limit."""
    num_segments = minima.shape[1]
    places = np.flatnonzero(minima <= limit[:, None])
    found = arrivals(torch.from_numpy(places)).numpy()
    listed, within = np.divmod(
        np.flatnonzero(found <= limit[places // num_segments, None]), found.shape[1]
    )
    rows, segments = np.divmod(places[listed], num_segments)
    return rows, segments * found.shape[1] + within


def _words(seeds: Ints, positions: Ints, tokens: Ints) -> Ints:
    """The random words of the tokens."""
    where = map(torch.from_numpy, (seeds, positions, tokens))
    return host_random_bits().random_bits_at(*where).numpy().astype(np.int64)
