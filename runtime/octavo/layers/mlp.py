"""Feed-forward block: the contract of all of them, the gated one (SwiGLU, Shazeer 2020) and the plain one."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.kernels.expert_gate import GELU_TANH, SILU, ExpertGate
from octavo.kernels.protocols.layers import Kernels
from octavo.kernels.reference.gated_activation import gated
from octavo.layers.linear import Linear
from octavo.layers.step import Step

Gate = Callable[[torch.Tensor], torch.Tensor]
"""Of gate and up, `[rows, 2 * width] -> [rows, width]`."""


class Activation(enum.Enum):
    """Of the gate, by the names of config.json."""

    SILU = "silu"
    GELU_TANH = "gelu_pytorch_tanh"

    def gate(self, kernels: Kernels) -> Gate:
        """`activation(gate) * up` of the two side by side: `[tokens, 2 * width] -> [tokens, width]`."""
        return gate_function(self.of_experts, kernels)

    @property
    def of_experts(self) -> ExpertGate:
        return GELU_TANH if self is Activation.GELU_TANH else SILU


def gate_function(gate: ExpertGate, kernels: Kernels) -> Gate:
    """The gate of what lies side by side; of other gates than activations, operator by operator."""
    if gate == SILU:
        return kernels.silu_and_mul
    return kernels.gelu_and_mul if gate == GELU_TANH else functools.partial(gated, gate=gate)


class PlainActivation(enum.Enum):
    """Between two products without a gate, by the names of config.json."""

    GELU = "gelu"
    GELU_TANH = "gelu_pytorch_tanh"
    RELU = "relu"
    SILU = "silu"

    @classmethod
    def _missing_(cls, value: object) -> PlainActivation | None:
        """Names of the same functions."""
        return _SAME.get(str(value))

    @property
    def function(self) -> Callable[[torch.Tensor], torch.Tensor]:
        return _FUNCTIONS[self]

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        """`activation(gate) * up` of the two side by side, for which no kernel is needed."""
        gate, up = gate_up.chunk(2, dim=-1)
        return self.function(gate).mul_(up)


_SAME: Mapping[str, PlainActivation] = {
    "gelu_python": PlainActivation.GELU,
    "gelu_accurate": PlainActivation.GELU_TANH,
    "gelu_fast": PlainActivation.GELU_TANH,
    "gelu_new": PlainActivation.GELU_TANH,
    "swish": PlainActivation.SILU,
}
_FUNCTIONS: Mapping[PlainActivation, Callable[[torch.Tensor], torch.Tensor]] = {
    PlainActivation.GELU: F.gelu,
    PlainActivation.GELU_TANH: functools.partial(F.gelu, approximate="tanh"),
    PlainActivation.RELU: F.relu,
    PlainActivation.SILU: F.silu,
}


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
        activation: None: `gate` is another function, and no kernel does more than it.
    """

    gate_up: Linear
    down: Linear
    gate: Gate
    activation: Activation | None = None

    def __call__(self, x: torch.Tensor, step: Step | None = None) -> torch.Tensor:
        """Padding rows cost nothing here and are computed like any other."""
        return self.down(self.gate(self.gate_up(x, step)), step)


@dataclass(frozen=True, slots=True)
class EncoderGatedMLP:
    """A gated block of any plain activation, as torch has it (GeGLU, Shazeer 2020).

    Args:
        gate_up, down: See `GatedMLP`.
    """

    gate_up: Linear
    down: Linear
    activation: PlainActivation

    def __call__(self, x: torch.Tensor, step: Step | None = None) -> torch.Tensor:
        return self.down(self.activation.gate(self.gate_up(x, step)), step)


@dataclass(frozen=True, slots=True)
class PlainMLP:
    """`down(activation(up(x)))`.

    Args:
        up: `[tokens, hidden] -> [tokens, width]`.
        down: `[tokens, width] -> [tokens, hidden]`.
    """

    up: Linear
    down: Linear
    activation: PlainActivation

    def __call__(self, x: torch.Tensor, step: Step | None = None) -> torch.Tensor:
        return self.down(self.activation.function(self.up(x, step)), step)
