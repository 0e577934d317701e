"""Gate of a feed-forward block (Shazeer 2020): one half of a product activates the other."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)


def silu_and_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """`silu(gate) * up`: `[rows, 2 * width] -> [rows, width]`, the gate first."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate).mul_(up)


def gelu_and_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """`gelu(gate) * up` with the tanh form of GELU; shapes as in `silu_and_mul`."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.gelu(gate, approximate="tanh").mul_(up)
