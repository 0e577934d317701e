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
        case PoolingMode.MAX:
            rows = [part.amax(dim=0) for part in parts]
    return torch.stack(rows)
