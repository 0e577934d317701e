"""Stacks of experts whose weights have their inputs in orders of their own."""

from __future__ import annotations

import pytest
import torch

from octavo.kernels.expert_gate import SILU
from octavo.kernels.packed_weight import pack
from octavo.kernels.reference import device as kernels
from octavo.kernels.reference.weight_only import Code
from octavo.layers.linear import Linear
from octavo.layers.mlp import GatedMLP, gate_function
from octavo.layers.moe import ExpertBlocks, ExpertStacks
from octavo.quantization.forms import PlainLinear
from octavo.quantization.input_order import of_scattered_inputs
from octavo.quantization.packed_forms import WordsLinear
from octavo.quantization.stacked_experts import stacked_experts
from octavo.quantization.stored import StoredWeight
from octavo.quantization.stored_scheme import Reordered
from tests.support.kernels.packed_weights import quantized

HIDDEN, WIDTH, GROUP = 64, 96, 32
EXPERTS = 3


def product(width: int, depth: int, seed: int, *, is_ordered: bool = True) -> Linear:
    generator = torch.Generator().manual_seed(seed)
    weight = quantized(Code.INT4, width, depth, GROUP, has_zeros=True, seed=seed)
    bias = torch.randn(width, generator=generator)
    linear = WordsLinear(pack(weight, Code.INT4), bias, kernels)
    return Reordered(linear, torch.randperm(depth, generator=generator)) if is_ordered else linear


@pytest.mark.parametrize("gate_up", ["ordered", "some ordered", "plain"])
def test_a_stack_says_what_its_experts_say(gate_up: str) -> None:
    generator = torch.Generator().manual_seed(7)
    downs = [product(HIDDEN, WIDTH, seed, is_ordered=seed != 1) for seed in range(EXPERTS)]
    ups = [
        PlainLinear(torch.randn(2 * WIDTH, HIDDEN, generator=generator) / 8, None)
        if gate_up == "plain"
        else product(2 * WIDTH, HIDDEN, seed, is_ordered=gate_up == "ordered" or seed == 1)
        for seed in range(EXPERTS)
    ]
    x = torch.randn(9, HIDDEN, generator=generator)
    chosen = torch.stack([torch.randperm(EXPERTS, generator=generator)[:2] for _ in x])
    shares = torch.rand(9, 2, generator=generator)
    gate = gate_function(SILU, kernels)
    blocks = [GatedMLP(*both, gate) for both in zip(ups, downs, strict=True)]

    stacks = stacked_experts(ups, downs)

    assert stacks is not None
    assert (stacks[0].input_order is None) == (gate_up == "plain")
    got = ExpertStacks(*stacks, kernels, SILU)(x, chosen, shares)
    torch.testing.assert_close(got, ExpertBlocks(blocks)(x, chosen, shares), rtol=1e-5, atol=1e-5)


def test_a_way_back_that_ranks_cut_is_no_stack() -> None:
    """Its experts have as many columns as chance will have it."""
    own = range(WIDTH // 2)
    downs: list[Linear] = []
    for seed in range(EXPERTS):
        weight = quantized(Code.INT4, HIDDEN, WIDTH, GROUP, has_zeros=True, seed=seed)
        order = torch.randperm(WIDTH, generator=torch.Generator().manual_seed(seed))
        part = of_scattered_inputs(StoredWeight(Code.INT4, weight), order, own)
        assert part.order is not None
        downs.append(
            Reordered(WordsLinear(pack(part.weight, Code.INT4), None, kernels), part.order)
        )
    ups = [product(2 * len(own), HIDDEN, seed) for seed in range(EXPERTS)]

    assert stacked_experts(ups, downs) is None
