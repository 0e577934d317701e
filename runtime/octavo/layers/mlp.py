"""The gated feed-forward block (SwiGLU, Shazeer 2020)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from octavo.layers.linear import Linear


class GatedMLP:
    """`down(activation(gate(x)) * up(x))`, gate and up in one product.

    Args:
        gate_up: `[tokens, hidden] -> [tokens, 2 * width]`, the gate first.
        down: `[tokens, width] -> [tokens, hidden]`.
        gate: `[tokens, 2 * width] -> [tokens, width]`, such as `Kernels.silu_and_mul`.
    """

    __slots__ = ("_gate", "down", "gate_up")

    def __init__(
        self, gate_up: Linear, down: Linear, gate: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        self.gate_up = gate_up
        self.down = down
        self._gate = gate

    def __call__(self, x: torch.Tensor, num_live: torch.Tensor | None = None) -> torch.Tensor:
        """Of `[tokens, hidden]`; padding rows cost nothing here and are computed like any other."""
        del num_live
        return self.down(self._gate(self.gate_up(x)))
