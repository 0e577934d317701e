"""Product and sum. A product that is added to the residual stream where it lies, for a few rows."""

from __future__ import annotations

import torch


def linear_add(x: torch.Tensor, weight: torch.Tensor, residual: torch.Tensor) -> None:
    """`residual += x @ weight.T`, computed in float32 at least and rounded once.

    Args:
        x: `[rows, width]`.
        weight: `[outputs, width]`.
        residual: `[rows, outputs]`.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    residual.copy_(torch.addmm(residual.to(wide), x.to(wide), weight.to(wide).T))
