"""Pooling: one vector of the hidden states of a sequence, as sentence-transformers computes it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from octavo.loading.pooling import PoolingMode


def pool(hidden: torch.Tensor, lengths: Sequence[int], mode: PoolingMode) -> torch.Tensor:
    """Vectors `[sequences, hidden]`, float32, of packed sequences.

    Args:
        hidden: `[tokens, hidden]`.
        lengths: Tokens of each sequence, in the order of the rows.
    """
    parts = torch.split(hidden.float(), list(lengths))
    match mode:
        case PoolingMode.CLS:
            rows = [part[0] for part in parts]
        case PoolingMode.LAST:
            rows = [part[-1] for part in parts]
        case PoolingMode.MEAN:
            rows = [part.mean(dim=0) for part in parts]
        case PoolingMode.MEAN_SQRT:
            rows = [part.sum(dim=0) / len(part) ** 0.5 for part in parts]
        case PoolingMode.WEIGHTED_MEAN:
            rows = [_weighted_mean(part) for part in parts]
        case PoolingMode.MAX:
            rows = [part.amax(dim=0) for part in parts]
    return torch.stack(rows)


def _weighted_mean(part: torch.Tensor) -> torch.Tensor:
    """Later tokens, which have seen more, count more (SGPT, Muennighoff, arXiv 2202.08904)."""
    weights = torch.arange(1, len(part) + 1, dtype=part.dtype, device=part.device)
    return weights @ part / weights.sum()
