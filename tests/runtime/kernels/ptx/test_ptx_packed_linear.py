"""Compiled products with packed weights give what the exact ones do."""

from __future__ import annotations

import pytest
import torch

from tests.support.kernels.packed_weights import assert_product, packed, quantized
from tests.support.kernels.poison import poisoned_memory
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)

from octavo.kernels.gpu import device as gpu
from octavo.kernels.reference.weight_only import Code


@pytest.mark.parametrize(
    ("code", "rows", "width", "depth", "group", "dtype"),
    [
        (Code.INT4, 3, 72, 1024, 128, torch.bfloat16),  # in parts
        (Code.INT4, 66, 72, 192, 32, torch.float16),  # a last block of half the inputs
        (Code.INT8, 2, 70, 200, 200, torch.bfloat16),  # rows of words that do not begin aligned
        (Code.FLOAT8, 65, 64, 128, 64, torch.bfloat16),
        (Code.FLOAT8, 1, 64, 64, 64, torch.float16),
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
    weight = quantized(code, width, depth, group, has_zeros=code is not Code.FLOAT8)
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, depth, generator=generator).to(dtype)
    bias = torch.randn(width, generator=generator).to(dtype)

    with poisoned_memory():
        got = gpu.packed_linear(x, packed(weight, code, device), bias)

    assert_product(got, x, weight, bias)
