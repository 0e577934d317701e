"""Feed-forward block: the contract of all of them, and the gated one (SwiGLU, Shazeer 2020)."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from octavo.kernels.protocols.layers import Kernels
from octavo.layers.linear import Linear
from octavo.layers.step import Step


class Activation(enum.Enum):
    """Of the gate, by the names of config.json."""

    SILU = "silu"
    GELU_TANH = "gelu_pytorch_tanh"

    def gate(self, kernels: Kernels) -> Callable[[torch.Tensor], torch.Tensor]:
        """`activation(gate) * up` of the two side by side: `[tokens, 2 * width] -> [tokens, width]`."""
        return kernels.gelu_and_mul if self is Activation.GELU_TANH else kernels.silu_and_mul


class FeedForward(Protocol):
    """`[tokens, hidden] -> [tokens, hidden]`; a partial sum where its last product is sharded."""

    def __call__(self, x: torch.Tensor, step: Step) -> torch.Tensor: ...


@dataclass(frozen=True, slots=True)
class GatedMLP:
    """`down(activation(gate(x)) * up(x))`, gate and up in one product.

    Args:
        gate_up: `[tokens, hidden] -> [tokens, 2 * width]`, the gate first.
        down: `[tokens, width] -> [tokens, hidden]`.
        gate: `activation`, by the device's kernels.
    """

    gate_up: Linear
    down: Linear
    activation: Activation
    gate: Callable[[torch.Tensor], torch.Tensor]

    def __call__(self, x: torch.Tensor, step: Step | None = None) -> torch.Tensor:
        """Padding rows cost nothing here and are computed like any other."""
        return self.down(self.gate(self.gate_up(x, step)), step)
