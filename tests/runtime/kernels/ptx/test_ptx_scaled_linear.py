"""Compiled products of float8 give what the exact ones do, on chips that multiply it."""

from __future__ import annotations

import pytest
import torch

from tests.support.kernels.packed_weights import quantized
from tests.support.kernels.poison import poisoned_memory
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)

from octavo.kernels.gpu.scaled.grouped import grouped_product
from octavo.kernels.gpu.scaled.round_inputs import round_groups, round_rows
from octavo.kernels.reference.scaled_linear import round_inputs, scaled_linear
from octavo.kernels.reference.weight_only import Code
from octavo.kernels.scaled_weight import GROUP, scaled_weight


@pytest.fixture(scope="module", params=[89, 90], ids=lambda capability: f"sm{capability}")
def capability(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def numbers(rows: int, depth: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, depth, generator=generator).bfloat16()
    x[:, 3], x[0, :GROUP] = 40.0, 0
    return x


@pytest.mark.parametrize("scale", [None, 0.03])
def test_rows_are_rounded_to_the_bit(device: torch.device, scale: float | None) -> None:
    """The last tile of a row is not full; 40 is more than a scale of 0.03 holds."""
    x = numbers(3, 4096 + 272)
    own = None if scale is None else torch.tensor([scale])
    with poisoned_memory():
        codes, scales = round_rows(x, own)
    expected, expected_scales = round_inputs(x, x.shape[1], own)
    assert torch.equal(scales, expected_scales)
    assert torch.equal(codes.view(torch.uint8), expected.view(torch.uint8))


@pytest.mark.parametrize(("rows", "width", "groups"), [(3, 80, 10), (66, 144, 3), (130, 64, 2)])
def test_a_product_in_groups_is_that_of_the_rounded_rows(
    device: torch.device, rows: int, width: int, groups: int
) -> None:
    x, depth = numbers(rows, GROUP * groups), GROUP * groups
    own = quantized(Code.FLOAT8, width, depth, GROUP, has_zeros=False)
    weight = scaled_weight(own, None)
    bias = torch.randn(width, generator=torch.Generator().manual_seed(2)).bfloat16()

    with poisoned_memory():
        codes, scales = round_groups(x)
        got = grouped_product(codes, scales, weight, bias, x.dtype)

    expected, expected_scales = round_inputs(x, GROUP)
    assert torch.equal(scales.T, expected_scales)
    assert torch.equal(codes.view(torch.uint8), expected.view(torch.uint8))
    exact = scaled_linear(x.double(), weight, bias.double())
    torch.testing.assert_close(
        got.double(), exact, rtol=2.0**-7, atol=2e-5 * exact.abs().max().item()
    )
