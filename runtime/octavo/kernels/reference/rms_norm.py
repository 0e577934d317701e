"""Root-mean-square normalisation (Zhang and Sennrich, 2019), alone and fused with the residual's sum."""

from __future__ import annotations

import torch


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """`x / sqrt(mean(x²) + eps) * weight` over the last axis; a new tensor."""
    return torch.rms_norm(x, weight.shape, weight, eps)


def add_rms_norm(
    residual: torch.Tensor, delta: torch.Tensor, weight: torch.Tensor, eps: float
) -> torch.Tensor:
    """Adds `delta` to `residual` in place, rounded to its dtype, and returns the norm of the sum."""
    return torch.rms_norm(residual.add_(delta), weight.shape, weight, eps)
