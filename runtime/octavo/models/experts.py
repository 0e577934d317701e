"""Experts of a mixture, loaded: in the form that the device's kernels read, by the model's scheme."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from octavo.errors import ModelUnsupportedError
from octavo.kernels.expert_gate import ExpertGate
from octavo.kernels.protocols.layers import ExpertKernels
from octavo.layers.mlp import Activation, FeedForward, Gate, GatedMLP, gate_function
from octavo.layers.moe import (
    ChosenExperts,
    ExpertBlocks,
    ExpertLoop,
    ExpertProduct,
    ExpertStacks,
    Router,
    StackedExperts,
    stack_experts,
)
from octavo.layers.projection import Projection
from octavo.loading import WeightSource
from octavo.quantization.stacked_experts import stacked_experts

if TYPE_CHECKING:
    from octavo.models.building import ModelBuilder

Experts = Sequence[tuple[Projection, Projection]]
"""Of each, gate and up, and down."""


def routed_experts(
    load: ModelBuilder,
    router: str,
    experts: Experts,
    activation: Activation,
    *,
    num_per_token: int,
    is_normalised: bool,
) -> FeedForward:
    """See `ModelBuilder.experts`."""
    weight = load.tensor(f"{router}.weight", len(experts), experts[0][0].in_features)
    if not isinstance(load.kernels, ExpertKernels):
        gate = activation.gate(load.kernels)
        blocks = [
            GatedMLP(load.linear(gate_up), load.linear(down), gate, activation)
            for gate_up, down in experts
        ]
        return ExpertLoop(Router(weight, num_per_token, is_normalised=is_normalised), blocks)
    gate_up, down = _stacks(load, router, experts, load.source)
    return StackedExperts(
        weight,
        gate_up,
        down,
        load.kernels,
        num_per_token=num_per_token,
        activation=activation,
        is_normalised=is_normalised,
    )


def chosen_experts(
    load: ModelBuilder,
    name: str,
    experts: Experts,
    source: WeightSource,
    *,
    known: ExpertGate | None,
    gate: Gate,
) -> ChosenExperts:
    """Experts whose router is elsewhere.

    Args:
        name: For errors.
        source: Of their weights.
        known: The gate, where kernels compute it; a GPU's have no other.
        gate: In any other case.
    """
    if not isinstance(load.kernels, ExpertKernels):
        own = gate if known is None else gate_function(known, load.kernels)
        # In the order in which stacks of them are stored.
        ups = [load.linear(gate_up, source) for gate_up, _ in experts]
        downs = [load.linear(down, source) for _, down in experts]
        return ExpertBlocks([GatedMLP(*both, own) for both in zip(ups, downs, strict=True)])
    if known is None:
        raise ValueError(f"{name}: a GPU's expert kernels have no such gate.")
    gate_up, down = _stacks(load, name, experts, source)
    return ExpertStacks(gate_up, down, load.kernels, known)


def _stacks(
    load: ModelBuilder, name: str, experts: Experts, source: WeightSource
) -> tuple[ExpertProduct, ExpertProduct]:
    if load.keeps_numbers:
        gate_up, down = (
            stack_experts(
                load.of_sums(products[0], source),
                [load.share(one) for one in products],
                load.placement,
            )
            for products in zip(*experts, strict=True)
        )
        return gate_up, down
    stacks = stacked_experts(
        (load.linear(gate_up, source) for gate_up, _ in experts),
        (load.linear(down, source) for _, down in experts),
    )
    if stacks is None:
        raise ModelUnsupportedError(
            f"{name}: its experts' weights are not all quantised in one way, or have inputs in an order of "
            "their own (desc_act) that an expert's gate and up do not share, or that ranks cut, which a "
            "GPU's expert kernels do not read. Use a checkpoint that is quantised otherwise, the model's "
            "16-bit checkpoint, --device cpu, or with desc_act --tensor-parallel-size 1."
        )
    return stacks
