"""Compiled products with packed weights give what the exact ones do."""

from __future__ import annotations

import pytest
import torch

from tests.support.kernels.packed_weights import assert_product, packed, quantized
from tests.support.kernels.poison import poisoned_memory
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)

from octavo.kernels.gpu import device as gpu
from octavo.kernels.packed_weight import stacked
from octavo.kernels.reference import device as oracle
from octavo.kernels.reference.weight_only import Code


@pytest.mark.parametrize(
    ("code", "rows", "width", "depth", "group", "dtype"),
    [
        (Code.INT4, 3, 72, 1024, 128, torch.bfloat16),  # in parts
        (Code.INT4, 66, 72, 192, 32, torch.float16),  # a last block of half the inputs
        (Code.INT8, 2, 70, 200, 200, torch.bfloat16),  # rows of words that do not begin aligned
        (Code.FLOAT8, 65, 64, 128, 64, torch.bfloat16),
        (Code.FLOAT8, 1, 64, 64, 64, torch.float16),
        (Code.MXFP4, 3, 72, 192, 32, torch.bfloat16),
    ],
)
def test_a_product_is_that_of_the_dequantised_weight(
    device: torch.device,
    code: Code,
    rows: int,
    width: int,
    depth: int,
    group: int,
    dtype: torch.dtype,
) -> None:
    weight = quantized(code, width, depth, group, has_zeros=code in (Code.INT4, Code.INT8))
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, depth, generator=generator).to(dtype)
    bias = torch.randn(width, generator=generator).to(dtype)

    with poisoned_memory():
        got = gpu.packed_linear(x, packed(weight, code, device), bias)

    assert_product(got, x, weight, bias)


@pytest.mark.parametrize("code", [Code.INT4, Code.FLOAT8, Code.MXFP4])
def test_experts_are_those_of_the_dequantised_weights(device: torch.device, code: Code) -> None:
    has_zeros, group = code is Code.INT4, 32 if code is Code.MXFP4 else 64
    tokens, depth, width = 6, 128, 40
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(tokens, 3, generator=generator)
    # A tile of few rows, and one whose products on an H100 are a warpgroup's.
    routing = oracle.route_to_experts(logits, 2, None, 16 if has_zeros else 64)
    x = torch.randn(tokens, depth, generator=generator).bfloat16()
    inner = torch.randn(tokens * 2, depth, generator=generator).bfloat16()
    gate_up, down = (
        stacked(
            [
                packed(
                    quantized(code, size, depth, group, has_zeros=has_zeros, seed=i), code, device
                )
                for i in range(3)
            ]
        )
        for size in (2 * width, width)
    )
    assert gate_up is not None
    assert down is not None

    with poisoned_memory():
        half = gpu.packed_experts_gate_up(x, gate_up, routing)
        parts = gpu.packed_experts_down(inner, down, routing)

    exact = oracle.packed_experts_gate_up(x.double(), gate_up, routing)
    torch.testing.assert_close(half.double(), exact, rtol=2.0**-7, atol=2e-5)
    exact = oracle.packed_experts_down(inner.double(), down, routing)
    torch.testing.assert_close(parts.double().sum(0), exact[0], rtol=2.0**-7, atol=2e-5)
