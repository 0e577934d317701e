"""What layers ask of a device's kernels beside attention.

`kernels.reference`, `kernels.gpu` and `kernels.cpu` are modules of this shape; `kernels.select` picks one.
"""

from __future__ import annotations

from typing import Protocol

import torch


class Kernels(Protocol):
    """Norms and activations over rows. Nothing here waits for the device."""

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """`x / sqrt(mean(x²) + eps) * weight` over the last axis; a new tensor."""
        ...

    def add_rms_norm(
        self, residual: torch.Tensor, delta: torch.Tensor, weight: torch.Tensor, eps: float
    ) -> torch.Tensor:
        """Adds `delta` to `residual` in place and returns the norm of the sum."""
        ...

    def silu_and_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        """`silu(gate) * up`: `[rows, 2 * width] -> [rows, width]`, the gate first."""
        ...

    def gelu_and_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        """`gelu(gate) * up` with the tanh form of GELU; shapes as in `silu_and_mul`."""
        ...
