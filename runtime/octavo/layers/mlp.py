"""The gated feed-forward block (SwiGLU, Shazeer 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.layers.linear import Linear


class GatedMLP:
    """`down(silu(gate(x)) * up(x))`, gate and up in one product.

    Args:
        gate_up: `[tokens, hidden] -> [tokens, 2 * width]`, the gate first.
        down: `[tokens, width] -> [tokens, hidden]`.
    """

    __slots__ = ("_down", "_gate_up", "_width")

    def __init__(self, gate_up: Linear, down: Linear, width: int) -> None:
        self._gate_up = gate_up
        self._down = down
        self._width = width

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        gate_up = self._gate_up(x)
        activated = F.silu(gate_up[:, : self._width]).mul_(gate_up[:, self._width :])
        return self._down(activated)
