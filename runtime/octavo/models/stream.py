"""Residual stream: how a block reads from it and adds to it.

A sum is left to the next reader, because one pass over the rows can add and normalise: it is *pending*. What
a product that is shared between devices by its inputs gives is a *partial* sum: `whole` comes before anything
else is done with it.

With a few rows every product is a stream of weights, and each launch costs about as long as a small one of
them takes. `FusedSteps` therefore normalises, gates and adds in the products' own launches: six for a layer
instead of nine. It needs plain weights, whole sums, no bias after the first product, and rows without
adapters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from octavo.kernels.protocols.layers import FewRowKernels, Kernels
from octavo.layers.attention import Attention
from octavo.layers.linear import PlainWeight
from octavo.layers.mlp import Activation, FeedForward, GatedMLP
from octavo.layers.norm import Norm, RMSNorm
from octavo.layers.step import Step

Reduce = Callable[[torch.Tensor], torch.Tensor]
"""The sum of a tensor over all devices that share the model, on each of them."""


def unchanged(rows: torch.Tensor) -> torch.Tensor:
    """In place of a norm, for a family that has none there."""
    return rows


def whole(partial: torch.Tensor, reduce: Reduce | None) -> torch.Tensor:
    """What a block may add to the stream, of the output of a product that is sharded by its inputs.

    Args:
        reduce: None where one device has the whole model, so that the sum is whole already.
    """
    return partial if reduce is None else reduce(partial)


def summed(residual: torch.Tensor, pending: torch.Tensor | None) -> torch.Tensor:
    """The stream with what is pending, `[tokens, hidden]`, a new tensor."""
    return residual.clone() if pending is None else residual + pending


def normalised(norm: Norm, residual: torch.Tensor, pending: torch.Tensor | None) -> torch.Tensor:
    """Adds what is pending to `residual` in place and returns the norm of it, `[tokens, hidden]`."""
    return norm(residual) if pending is None else norm.add(residual, pending)


class Steps(Protocol):
    """What a pre-norm block does before, between and after attention. Sums that are returned are pending, or
    None when they are in `residual` already."""

    def into_attention(
        self, residual: torch.Tensor, pending: torch.Tensor | None, step: Step
    ) -> torch.Tensor:
        """Queries, keys and values of the normalised stream, side by side."""
        ...

    def out_of_attention(
        self, attended: torch.Tensor, residual: torch.Tensor, step: Step
    ) -> torch.Tensor | None: ...

    def feed_forward(
        self, residual: torch.Tensor, pending: torch.Tensor | None, step: Step
    ) -> torch.Tensor | None:
        """The second half: what the feed-forward block makes of the normalised stream."""
        ...


@dataclass(frozen=True, slots=True)
class PlainSteps:
    """One after another, for any products and any number of rows."""

    attention_norm: Norm
    attention: Attention
    mlp_norm: Norm
    mlp: FeedForward
    reduce: Reduce | None

    def into_attention(
        self, residual: torch.Tensor, pending: torch.Tensor | None, step: Step
    ) -> torch.Tensor:
        return self.attention.qkv(normalised(self.attention_norm, residual, pending), step)

    def out_of_attention(
        self, attended: torch.Tensor, residual: torch.Tensor, step: Step
    ) -> torch.Tensor:
        return whole(self.attention.output(attended, step), self.reduce)

    def feed_forward(
        self, residual: torch.Tensor, pending: torch.Tensor | None, step: Step
    ) -> torch.Tensor:
        return whole(self.mlp(normalised(self.mlp_norm, residual, pending), step), self.reduce)


@dataclass(frozen=True, slots=True)
class FusedSteps:
    """The same, with norms, gating and sums in the products' launches, up to `max_rows` rows."""

    attention_norm: RMSNorm
    qkv: PlainWeight
    output: torch.Tensor
    mlp_norm: RMSNorm
    gate_up: torch.Tensor
    down: torch.Tensor
    is_gelu: bool
    kernels: FewRowKernels
    max_rows: int

    @classmethod
    def of(cls, steps: PlainSteps, kernels: Kernels) -> FusedSteps | None:
        """None where the device, the block or the form of a weight does not allow it."""
        attention, mlp = steps.attention, steps.mlp
        if not isinstance(kernels, FewRowKernels) or not isinstance(mlp, GatedMLP):
            return None
        norms = (steps.attention_norm, steps.mlp_norm)
        qkv = attention.qkv.plain
        others = [
            _weight_alone(linear.plain) for linear in (attention.output, mlp.gate_up, mlp.down)
        ]
        output, gate_up, down = others
        if (
            steps.reduce is not None
            or not isinstance(norms[0], RMSNorm)
            or not isinstance(norms[1], RMSNorm)
            or mlp.activation is None
            or qkv is None
            or output is None
            or gate_up is None
            or down is None
        ):
            return None
        is_gelu = mlp.activation is Activation.GELU_TANH
        return cls(
            norms[0],
            qkv,
            output,
            norms[1],
            gate_up,
            down,
            is_gelu,
            kernels,
            kernels.max_fused_rows,
        )

    def into_attention(
        self, residual: torch.Tensor, pending: torch.Tensor | None, step: Step
    ) -> torch.Tensor:
        if pending is not None:
            residual.add_(pending)
        norm, qkv = self.attention_norm, self.qkv
        return self.kernels.norm_linear(residual, norm.weight, norm.eps, qkv.weight, qkv.bias)

    def out_of_attention(self, attended: torch.Tensor, residual: torch.Tensor, step: Step) -> None:
        self.kernels.linear_add(attended, self.output, residual)

    def feed_forward(
        self, residual: torch.Tensor, pending: torch.Tensor | None, step: Step
    ) -> None:
        norm = self.mlp_norm
        inner = self.kernels.norm_gate_up(
            residual, norm.weight, norm.eps, self.gate_up, is_gelu=self.is_gelu
        )
        self.kernels.linear_add(inner, self.down, residual)


def _weight_alone(plain: PlainWeight | None) -> torch.Tensor | None:
    return plain.weight if plain is not None and plain.bias is None else None
