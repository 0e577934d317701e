"""Compiled products of a few rows give what the exact ones do, in the tiles that real shapes choose."""

from __future__ import annotations

import pytest
import torch

from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)

from octavo.kernels.gpu import device as gpu
from octavo.kernels.reference import device as reference
from tests.support.kernels.poison import poisoned_memory
from tests.support.kernels.rounding import assert_rounded

# Wide loads of a whole step, and rows that end within a program's only one.
WIDTHS = pytest.mark.parametrize("width", [2048, 200])
ROWS = pytest.mark.parametrize("rows", [1, 3])


def numbers(*shape: int, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return (torch.randn(shape, generator=generator) * scale).bfloat16()


@ROWS
@WIDTHS
def test_a_product_behind_a_norm(device: torch.device, rows: int, width: int) -> None:
    x, norm_weight, bias = numbers(rows, width, scale=3), numbers(width), numbers(22)
    weight = numbers(22, width, scale=width**-0.5)
    with poisoned_memory():
        got = gpu.norm_linear(x, norm_weight, 1e-5, weight, bias)
    exact = reference.norm_linear(
        x.double(), norm_weight.double(), 1e-5, weight.double(), bias.double()
    )
    assert_rounded(got, exact)


@ROWS
@WIDTHS
def test_gate_and_up_behind_a_norm(device: torch.device, rows: int, width: int) -> None:
    x, norm_weight = numbers(rows, width, scale=3), numbers(width)
    weight = numbers(2 * 13, width, scale=width**-0.5)
    with poisoned_memory():
        got = gpu.norm_gate_up(x, norm_weight, 1e-5, weight)
    exact = reference.norm_gate_up(x.double(), norm_weight.double(), 1e-5, weight.double())
    assert_rounded(got, exact)


@ROWS
@WIDTHS
def test_a_product_is_added_where_the_residual_lies(
    device: torch.device, rows: int, width: int
) -> None:
    x, residual = numbers(rows, width), numbers(rows, 22)
    weight = numbers(22, width, scale=width**-0.5)
    exact = residual.double()
    reference.linear_add(x.double(), weight.double(), exact)
    gpu.linear_add(x, weight, residual)
    assert_rounded(residual, exact)


def test_a_program_of_eight_outputs(device: torch.device) -> None:
    """What products with thousands of outputs take."""
    x, norm_weight = numbers(2, 512, scale=3), numbers(512)
    weight = numbers(4500, 512, scale=512**-0.5)
    got = gpu.norm_linear(x, norm_weight, 1e-5, weight)
    exact = reference.norm_linear(x.double(), norm_weight.double(), 1e-5, weight.double())
    assert_rounded(got, exact)
