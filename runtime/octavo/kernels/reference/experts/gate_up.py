"""Gate and up projection of experts. The first half of a mixture of experts: gate and up of the tokens that
each expert got, and the gating."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.kernels.expert_gate import SILU, ExpertGate
from octavo.kernels.reference.experts.route import ExpertRouting
from octavo.kernels.reference.gated_activation import gated


def experts_gate_up(
    x: torch.Tensor,
    weight: torch.Tensor,
    routing: ExpertRouting,
    *,
    gate: ExpertGate = SILU,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """Gate and up of each place's token by its expert, as one: `[places, width]` in the dtype of `x`.

    Places that are in no tile are left unwritten.

    Args:
        x: `[tokens, hidden]`.
        weight: `[experts, 2 * width, hidden]`, the gate first.
        bias: `[experts, 2 * width]`; None: there are none.
    """
    tokens = routing.order.long() // routing.per_token
    out = x.new_empty(len(tokens), weight.shape[1] // 2)
    for expert, first, end in routing.tiles.tolist():
        if expert >= 0:
            own = None if bias is None else bias[expert]
            out[first:end] = gated(F.linear(x[tokens[first:end]], weight[expert], own), gate)
    return out
