"""Gate of a feed-forward block (Shazeer 2020): one half of a product activates the other."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.kernels.expert_gate import GELU_TANH, SILU, ExpertGate


def silu_and_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """`silu(gate) * up`: `[rows, 2 * width] -> [rows, width]`, the gate first."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate).mul_(up)


def gelu_and_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """`gelu(gate) * up` with the tanh form of GELU; shapes as in `silu_and_mul`."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.gelu(gate, approximate="tanh").mul_(up)


def gated(gate_up: torch.Tensor, gate: ExpertGate) -> torch.Tensor:
    """As `silu_and_mul`, by any gate of an expert."""
    if gate in (SILU, GELU_TANH):
        return (gelu_and_mul if gate.is_gelu else silu_and_mul)(gate_up)
    g, u = gate_up.chunk(2, dim=-1)
    if gate.limit is not None:
        g, u = g.clamp(max=gate.limit), u.clamp(-gate.limit, gate.limit)
    active = F.gelu(g, approximate="tanh") if gate.is_gelu else g * torch.sigmoid(g * gate.alpha)
    return (u + gate.shift) * active
