"""Experts with packed weights in plain torch."""

from __future__ import annotations

import torch

from octavo.kernels.expert_gate import SILU, ExpertGate
from octavo.kernels.packed_weight import PackedWeight
from octavo.kernels.reference.experts.down import experts_down
from octavo.kernels.reference.experts.gate_up import experts_gate_up
from octavo.kernels.reference.experts.route import ExpertRouting


def packed_experts_gate_up(
    x: torch.Tensor,
    weight: PackedWeight,
    routing: ExpertRouting,
    *,
    gate: ExpertGate = SILU,
    bias: torch.Tensor | None = None,
    input_order: torch.Tensor | None = None,
) -> torch.Tensor:
    """As `experts_gate_up`, of experts `[2 * width, hidden]`; computed in float32 (float64 of float64) and
    rounded once.

    Args:
        input_order: `[experts, hidden]` int32: the input that each column belongs to; None: its own.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    matrices = _matrices(weight, wide)
    if input_order is not None:
        places = input_order.long().argsort(1)[:, None].expand_as(matrices)
        matrices = matrices.gather(2, places)
    bias = None if bias is None else bias.to(wide)
    return experts_gate_up(x.to(wide), matrices, routing, gate=gate, bias=bias).to(x.dtype)


def packed_experts_down(
    inner: torch.Tensor,
    weight: PackedWeight,
    routing: ExpertRouting,
    *,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """As `experts_down`, of experts `[hidden, width]`; computed in float32 (float64 of float64) and rounded
    once."""
    wide = torch.promote_types(inner.dtype, torch.float32)
    bias = None if bias is None else bias.to(wide)
    matrices = _matrices(weight, wide)
    return experts_down(inner.to(wide), matrices, routing, bias=bias).to(inner.dtype)


def _matrices(weight: PackedWeight, dtype: torch.dtype) -> torch.Tensor:
    experts = range(weight.words.shape[0])
    return torch.stack([weight.of(one).unpack().dequantize().to(dtype) for one in experts])
