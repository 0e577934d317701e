"""Norm and product. A product behind a norm, for a few rows."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)


def norm_linear(
    x: torch.Tensor,
    norm_weight: torch.Tensor,
    eps: float,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """`rms_norm(x) @ weight.T + bias`, computed in float32 at least and rounded once.

    Args:
        x: `[rows, width]`.
        norm_weight: `[width]`.
        weight: `[outputs, width]`; `bias` is `[outputs]`.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    normed = torch.rms_norm(x.to(wide), norm_weight.shape, norm_weight.to(wide), eps)
    added = None if bias is None else bias.to(wide)
    return F.linear(normed, weight.to(wide), added).to(x.dtype)
