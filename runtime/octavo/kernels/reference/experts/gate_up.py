"""Gate and up projection of experts. The first half of a mixture of experts: gate and up of the tokens that
each expert got, and the gating."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.kernels.reference.experts.route import ExpertRouting
from octavo.kernels.reference.gated_activation import gelu_and_mul, silu_and_mul


def experts_gate_up(
    x: torch.Tensor, weight: torch.Tensor, routing: ExpertRouting, *, is_gelu: bool = False
) -> torch.Tensor:
    """`activation(gate) * up` of each place's token by its expert, `[places, width]` in the dtype of `x`.

    Places that are in no tile are left unwritten.

    Args:
        x: `[tokens, hidden]`.
        weight: `[experts, 2 * width, hidden]`, the gate first.
        is_gelu: The tanh form of GELU in place of SiLU.
    """
    gate = gelu_and_mul if is_gelu else silu_and_mul
    tokens = routing.order.long() // routing.per_token
    out = x.new_empty(len(tokens), weight.shape[1] // 2)
    for expert, first, end in routing.tiles.tolist():
        if expert >= 0:
            out[first:end] = gate(F.linear(x[tokens[first:end]], weight[expert]))
    return out
