"""Mixture of experts: each token runs through the few feed-forward blocks that a router picks for it.

Which tokens an expert gets is known on the device alone. A CPU looks and runs the experts that got any;
a GPU must not wait for the answer, and a CUDA graph can't, so there kernels find their work in lists that
the router's kernel wrote.

Short and long batches take the same kernels. torch's `grouped_mm` (bfloat16 on Hopper alone) does the same
arithmetic but moves more: it wants the rows copied in the experts' order and the gating apart, which for
8,192 tokens of Mixtral-8x7B is 1.1 GB written and read again in a layer, and memory that the KV cache lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.kernels.expert_gate import ExpertGate
from octavo.kernels.packed_weight import PackedWeight
from octavo.kernels.protocols.layers import ExpertKernels
from octavo.kernels.reference.experts.route import ExpertRouting
from octavo.layers.mlp import Activation, FeedForward, GatedMLP
from octavo.layers.projection import Projection
from octavo.layers.step import Step
from octavo.layers.stored_weight import fill, stored_bias
from octavo.loading import Placement, WeightSource

ExpertWeights = torch.Tensor | PackedWeight
"""Of all experts of a layer, `[experts, outputs, inputs]`."""


@dataclass(frozen=True, slots=True)
class ExpertProduct:
    """One product of all experts of a layer.

    Args:
        weight: Quantised or not.
        bias: `[experts, outputs]`; None: there are none.
        input_order: `[experts, inputs]` int32: the input that each column of a quantised weight belongs to;
            None: its own. Gate and up alone have one.
    """

    weight: ExpertWeights
    bias: torch.Tensor | None = None
    input_order: torch.Tensor | None = None


class Router:
    """Picks experts by the softmax of `x @ weight.T`.

    Args:
        weight: `[experts, hidden]`.
        num_per_token: Experts that each token gets.
        is_normalised: The picked ones' shares are scaled to a sum of 1.
    """

    __slots__ = ("_is_normalised", "_num_per_token", "_weight")

    def __init__(
        self, weight: torch.Tensor, num_per_token: int, *, is_normalised: bool = True
    ) -> None:
        self._weight = weight
        self._num_per_token = num_per_token
        self._is_normalised = is_normalised

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of `[tokens, hidden]`, shares (float32) and experts (int64), `[tokens, num_per_token]` each."""
        shares = torch.softmax(F.linear(x, self._weight).float(), dim=-1)
        best, experts = torch.topk(shares, self._num_per_token, dim=-1)
        if self._is_normalised:
            best /= best.sum(dim=-1, keepdim=True)
        return best, experts


class ChosenExperts(Protocol):
    """Runs experts that were chosen elsewhere."""

    def __call__(
        self,
        x: torch.Tensor,
        experts: torch.Tensor,
        shares: torch.Tensor,
        num_live: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The sum of each token's experts by their shares, of `[tokens, hidden]` alike.

        Args:
            experts: `[tokens, per_token]` int64. Who is none of the experts adds nothing.
            shares: `[tokens, per_token]`.
            num_live: `[1]` int32: rows from there on are padding; None: none is.
        """
        ...


@dataclass(frozen=True, slots=True)
class ExpertBlocks:
    """See `ChosenExperts`. Runs those that got tokens, one after another; reads the choice on the host. Steps
    that the host looks at have no padding rows, and an expert's rows are no step's."""

    blocks: Sequence[Callable[[torch.Tensor], torch.Tensor]]

    def __call__(
        self,
        x: torch.Tensor,
        experts: torch.Tensor,
        shares: torch.Tensor,
        num_live: torch.Tensor | None = None,
    ) -> torch.Tensor:
        chosen = experts.reshape(-1)
        order = torch.argsort(chosen, stable=True)
        tokens, weights = order // experts.shape[1], shares.reshape(-1)[order].unsqueeze(-1)
        counts = torch.bincount(chosen, minlength=len(self.blocks)).tolist()
        out = torch.zeros(x.shape, dtype=torch.promote_types(x.dtype, torch.float32))
        first = 0
        for block, count in zip(self.blocks, counts, strict=False):
            if count:
                rows = tokens[first : first + count]
                result = block(x[rows])
                out.index_add_(0, rows, (result * weights[first : first + count]).to(out.dtype))
            first += count
        return out.to(x.dtype)


class ExpertLoop:
    """A router and its experts, on a device whose host looks at the choice."""

    __slots__ = ("_blocks", "_router")

    def __init__(self, router: Router, experts: Sequence[GatedMLP]) -> None:
        self._router = router
        self._blocks = ExpertBlocks(experts)

    def __call__(self, x: torch.Tensor, step: Step | None = None) -> torch.Tensor:
        """Of `[tokens, hidden]`."""
        shares, experts = self._router(x)
        return self._blocks(x, experts, shares)


@dataclass(frozen=True, slots=True)
class ExpertStacks:
    """See `ChosenExperts`. The experts are three launches: gate and up with the gating, the way back, and the
    sum of each token's results. The products read the weights of chosen experts only, once for each tile of
    rows; padding rows choose none.

    Args:
        gate_up: `[experts, 2 * width, hidden]`, the gate first.
        down: `[experts, hidden, width]`.
    """

    gate_up: ExpertProduct
    down: ExpertProduct
    kernels: ExpertKernels
    gate: ExpertGate

    def __call__(
        self,
        x: torch.Tensor,
        experts: torch.Tensor,
        shares: torch.Tensor,
        num_live: torch.Tensor | None = None,
    ) -> torch.Tensor:
        down = self.down.weight
        count = len(down.words if isinstance(down, PackedWeight) else down)
        return self.run(x, self.kernels.group_by_expert(experts, shares, count, num_live))

    def run(self, x: torch.Tensor, routing: ExpertRouting) -> torch.Tensor:
        """As it is called, with the choice sorted."""
        kernels, down, bias = self.kernels, self.down.weight, self.down.bias
        inner = self._gate_and_up(x, routing)
        if isinstance(down, PackedWeight):
            parts = kernels.packed_experts_down(inner, down, routing, bias=bias)
        else:
            parts = kernels.experts_down(inner, down, routing, bias=bias)
        return kernels.combine_experts(parts, routing.shares, x.dtype)

    def _gate_and_up(self, x: torch.Tensor, routing: ExpertRouting) -> torch.Tensor:
        kernels, weight, bias = self.kernels, self.gate_up.weight, self.gate_up.bias
        if isinstance(weight, PackedWeight):
            order = self.gate_up.input_order
            return kernels.packed_experts_gate_up(
                x, weight, routing, gate=self.gate, bias=bias, input_order=order
            )
        return kernels.experts_gate_up(x, weight, routing, gate=self.gate, bias=bias)


class StackedExperts:
    """Never waits for the device, and its shapes follow from the number of tokens alone.

    After the router's product, routing is one launch (two for long prompts); see `ExpertStacks`.

    Args:
        router: `[experts, hidden]`.
        gate_up, down: See `ExpertStacks`.
        num_per_token: Experts that each token gets.
        is_normalised: Their shares are scaled to a sum of 1.
        activation: Of the gate.
    """

    __slots__ = ("_is_normalised", "_kernels", "_num_per_token", "_router", "_stacks")

    def __init__(
        self,
        router: torch.Tensor,
        gate_up: ExpertProduct,
        down: ExpertProduct,
        kernels: ExpertKernels,
        *,
        num_per_token: int,
        activation: Activation,
        is_normalised: bool = True,
    ) -> None:
        self._is_normalised = is_normalised
        self._router = router
        self._kernels = kernels
        self._num_per_token = num_per_token
        self._stacks = ExpertStacks(gate_up, down, kernels, activation.of_experts)

    def __call__(self, x: torch.Tensor, step: Step | None = None) -> torch.Tensor:
        """Of `[tokens, hidden]`: zero in the step's padding rows."""
        num_live = None if step is None else step.num_live
        logits = F.linear(x, self._router)
        routing = self._kernels.route_to_experts(
            logits, self._num_per_token, num_live, is_normalised=self._is_normalised
        )
        return self._stacks.run(x, routing)


@dataclass(frozen=True, slots=True)
class SharedExpert:
    """Adds a block that every token runs through to those that a router picks (Qwen1.5-MoE).

    Args:
        gate: `[1, hidden]`: a token gets the sigmoid of its product with it of the shared block.
    """

    routed: FeedForward
    shared: GatedMLP
    gate: torch.Tensor

    def __call__(self, x: torch.Tensor, step: Step) -> torch.Tensor:
        share = torch.sigmoid(F.linear(x, self.gate))
        return self.routed(x, step).addcmul_(self.shared(x, step), share)


def stack_experts(
    source: WeightSource, products: Sequence[Projection], placement: Placement
) -> ExpertProduct:
    """A product of `StackedExperts`, filled tensor by tensor: beside the stack one tensor at a time is in
    memory.

    Args:
        products: Of each expert.
    """
    first = products[0]
    stack = placement.empty(len(products), first.width, first.in_features)
    for rows, projection in zip(stack, products, strict=True):
        fill(rows, source, projection)
    biases = [stored_bias(projection, source, placement) for projection in products]
    return ExpertProduct(stack, stacked_biases(biases))


def stacked_biases(biases: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    """Of experts that all have one, or none of which has."""
    own = [bias for bias in biases if bias is not None]
    return torch.stack(own) if own else None
