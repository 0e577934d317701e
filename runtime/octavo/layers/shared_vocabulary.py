"""Vocabulary that ranks share: each has some of the tokens' rows, of the embedding and of the head."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.kernels.aligned_rows import aligned_rows
from octavo.layers.linear import Linear, Lookup
from octavo.layers.ranks import Ranks
from octavo.layers.step import Step


class SharedLookup:
    """Gives rows of the whole table: the rank that has one adds it to the others' zeros.

    Args:
        lookup: Of the rank's own rows.
        own: Tokens that they are of.
    """

    __slots__ = ("_lookup", "_own", "_ranks")

    def __init__(self, lookup: Lookup, own: range, ranks: Ranks) -> None:
        self._lookup = lookup
        self._own = own
        self._ranks = ranks

    def __call__(self, indices: torch.Tensor) -> torch.Tensor:
        is_own = (indices >= self._own.start) & (indices < self._own.stop)
        rows = self._lookup(torch.where(is_own, indices - self._own.start, 0))
        return self._ranks.all_reduce(rows.masked_fill_(~is_own[:, None], 0.0))


class GatheredHead:
    """Scores the whole vocabulary on the first rank; on the others what comes out is their own part.

    Samplers look at whole rows (penalties, grammars, top-p, the random numbers of each token), and the rows
    are few: one for each running sequence, a vocabulary wide. So the scores go to the rank that samples, and
    sampling is written once (`benchmarks.shared_sampling` has what winners of each part would cost).

    Args:
        head: Of the rank's own tokens.
        width: Tokens that a rank has at most.
        vocab: Of the whole vocabulary.
    """

    __slots__ = ("_head", "_ranks", "_vocab", "_width")

    plain: Final = None
    lookup: Final = None

    def __init__(self, head: Linear, width: int, vocab: int, ranks: Ranks) -> None:
        self._head = head
        self._width = width
        self._vocab = vocab
        self._ranks = ranks

    def __call__(self, x: torch.Tensor, step: Step | None = None) -> torch.Tensor:
        own = self._head(x, step)
        padded = F.pad(own, (0, self._width - own.shape[-1])).contiguous()
        parts = self._ranks.gather(padded)
        if parts is None:
            return own
        # Kernels that sample read rows of one alignment, as they come from a head that nobody shares.
        rows = aligned_rows(x.shape[0], self._vocab, dtype=own.dtype, device=own.device)
        for part, first in zip(parts, range(0, self._vocab, self._width), strict=True):
            last = min(first + self._width, self._vocab)
            rows[:, first:last].copy_(part[:, : last - first])
        return rows
