"""Combination of experts. The end of a mixture of experts: what a token's experts say, weighted by their
shares."""

from __future__ import annotations

import torch


def combine_experts(parts: torch.Tensor, shares: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Sum over the parts of each choice, and over each token's choices by their shares.

    Args:
        parts: `[parts, tokens * per_token, hidden]`, as `experts_down` returns. What belongs to a share
            of 0 is not read: nobody wrote it in a padding row.
        shares: `[tokens, per_token]` float32.

    Returns `[tokens, hidden]` in `dtype`, zero in padding rows, summed in float32 and in one order: never by
    atomic additions, whose result would depend on who comes first.
    """
    whole = parts.float().sum(dim=0).view(*shares.shape, parts.shape[2])
    weights = shares.unsqueeze(-1)
    return torch.where(weights != 0, whole * weights, 0.0).sum(dim=1).to(dtype)
