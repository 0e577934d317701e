"""Norm, gate and up. The first half of a feed-forward block, for a few rows: norm, gate and up, and the
gating."""

from __future__ import annotations

import torch

from octavo.kernels.reference.few_rows.norm_linear import norm_linear
from octavo.kernels.reference.gated_activation import gelu_and_mul, silu_and_mul


def norm_gate_up(
    x: torch.Tensor,
    norm_weight: torch.Tensor,
    eps: float,
    weight: torch.Tensor,
    *,
    is_gelu: bool = False,
) -> torch.Tensor:
    """`activation(gate) * up` of `rms_norm(x) @ weight.T`, computed in float32 at least and rounded once.

    Args:
        x: `[rows, hidden]`.
        norm_weight: `[hidden]`.
        weight: `[2 * width, hidden]`, the gate first.
        is_gelu: The tanh form of GELU in place of SiLU.

    Returns `[rows, width]`.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    gate_up = norm_linear(wide, norm_weight, eps, weight)
    return (gelu_and_mul if is_gelu else silu_and_mul)(gate_up).to(x.dtype)
